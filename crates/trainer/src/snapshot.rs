//! A run at one of its steps, in memory: what another run with the same beginning goes on from, bit for bit. What a
//! checkpoint is on disk.

use crate::Result;
use crate::checkpoint::{self, State};
use crate::job::copies;
use crate::optimizer::Optimizer;
use candle_core::Tensor;
use outcrop_job::{Event, Record};
use std::path::Path;

/// A run at one of its steps.
pub(crate) struct Snapshot {
    pub(crate) state: State,
    tensors: checkpoint::Tensors,
    /// What happened so far; warnings and the ends of former processes left out.
    pub(crate) records: Vec<Record>,
}

impl Snapshot {
    /// Copies it all. Memory: weights that train and their moments.
    pub(crate) fn take(
        state: &State,
        weights: &[(String, Tensor)],
        optimizer: &mut Optimizer,
        records: &[Record],
    ) -> Result<Self> {
        let moments: Vec<(String, Tensor)> = optimizer.state().map(|(name, tensor)| (name, tensor.clone())).collect();
        let tensors = checkpoint::Tensors {
            values: copies(&optimizer.values(weights))?.into_iter().collect(),
            moments: copies(&moments)?.into_iter().collect(),
        };
        Ok(Self { state: state.clone(), tensors, records: shared(records, state.step) })
    }

    /// Reads a checkpoint that another run left. Errors: it is damaged, or of another kind of optimizer.
    pub(crate) fn read(path: &Path, state: State, device: &candle_core::Device, records: &[Record]) -> Result<Self> {
        let records = shared(records, state.step);
        Ok(Self { tensors: checkpoint::Tensors::read(path, device)?, state, records })
    }

    /// Puts weights, moments and step in place. The tensors become the optimizer's own.
    pub(crate) fn put(self, weights: &[(String, Tensor)], optimizer: &mut Optimizer) -> Result<State> {
        self.tensors.put(Path::new("snapshot"), self.state.step, weights, optimizer)?;
        Ok(self.state)
    }
}

/// The measures up to a step: what a run with the same beginning has in its log too.
fn shared(records: &[Record], step: u64) -> Vec<Record> {
    let measure = |record: &&Record| match &record.event {
        Event::Step(_) | Event::Validation(_) => record.event.step().is_some_and(|at| at <= step),
        Event::Coverage { .. } => true,
        _ => false,
    };
    records.iter().filter(measure).cloned().collect()
}
