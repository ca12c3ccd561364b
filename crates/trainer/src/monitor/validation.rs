//! One pass over a validation set: the loss of the weights as they stand, from features where the base is frozen.

use crate::Result;
use crate::features::{Boundary, Features};
use crate::job::Job;
use crate::observer::{Observer, Stage};
use outcrop_data::micro_batches;
use outcrop_model::Row;

/// What a pass over a set gives.
pub(crate) struct Pass {
    /// Sum of the targets' NLL, nats.
    pub(crate) sum: f64,
    /// Targets.
    pub(crate) count: u64,
    /// Losses of the set's records, summed over their targets, in the set's order.
    pub(crate) items: Vec<f64>,
}

/// Scores validation set `set`, whatever the batches (R13). Nothing is kept of the logits (R17).
pub(crate) fn pass(job: &Job, features: Option<&Features>, set: usize, observer: &mut dyn Observer) -> Result<Pass> {
    let (set, decoder) = (&job.data.validation[set], &job.decoder);
    let shard = &set.prepared.shard;
    let total = outcrop_data::step_targets(shard, &set.units);
    let laid_out = micro_batches(shard, &set.units, job.plan.micro_batch_tokens as usize)?;
    let mut documents = set.units.iter().flat_map(|&unit| shard.unit(unit));
    let mut pass = Pass { sum: 0.0, count: 0, items: Vec::new() };
    for batch in &laid_out.batches {
        let row = Row::new(batch.tokens.clone(), &batch.offsets)?;
        let of_batch: Vec<usize> = documents.by_ref().take(batch.num_documents()).collect();
        let nll = match features.map(|features| (features, features.boundary)) {
            None => decoder.nll(&row, &batch.targets)?,
            Some((features, boundary)) => {
                let x = features.of(decoder, batch, &of_batch)?;
                match boundary {
                    Boundary::Head => decoder.head_nll(&x, &row.next_tokens(&batch.targets))?,
                    Boundary::Block(block) => decoder.nll_above(x, block, &row, &batch.targets)?,
                }
            }
        };
        pass.sum += nll.iter().map(|&value| f64::from(value)).sum::<f64>();
        pass.count += nll.len() as u64;
        pass.items.extend(batch.sums(&nll));
        observer.stage(Stage::Validating, pass.count, total);
    }
    Ok(pass)
}
