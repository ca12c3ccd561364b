//! The winner against the base on the test set, which no trial was scored on and selection never saw.

use super::trial::{Bench, Context, Relay};
use crate::comparison::{self, Suites};
use crate::observer::Stage;
use crate::{Result, TrainError};
use outcrop_eval::{Comparison, Suite, report};
use outcrop_job::sweep::{SweepFolder, SweepPlan, TrialResult};
use outcrop_job::{ModelStore, atomic};
use outcrop_model::delta;

/// Scores base and winner on the test set and on the general suites, and compares them.
pub(crate) fn judge(
    bench: &mut Bench,
    context: &Context,
    models: &ModelStore,
    plan: &SweepPlan,
    winner: &TrialResult,
) -> Result<Comparison> {
    let name = winner.model.as_deref().unwrap_or_default();
    let record = models.find(name)?;
    let mut relay = Relay::of(context);
    let each = |locations: &[String]| {
        locations
            .iter()
            .map(|location| Ok(Suite::load(&context.locations.input(location)?)?))
            .collect::<Result<Vec<_>>>()
    };
    let (task, general) = (each(&plan.test)?, each(&record.hyperparameters.general_data)?);
    bench.job.suites = Suites { task, general, task_source: "evaluationData".into() };
    bench.job.put(&bench.untrained)?;
    let base_hash = plan.base_hash.clone();
    let base = bench.job.score(&base_hash, Stage::ScoringBase, &mut relay)?;
    let device = bench.job.decoder.device().clone();
    let mut tensors = delta::read_exact(&models.dir(&record.id)?.join(&record.delta_file), &device)?;
    tensors.sort_by_key(|(name, _)| bench.job.named_weights().position(|(known, _)| known == name));
    if tensors.len() != bench.untrained.len() {
        return Err(TrainError::Plan(format!("model `{name}` has other tensors than the sweep trains")));
    }
    bench.job.put(&tensors)?;
    let tuned = bench.job.score(&format!("{base_hash}+{}", record.delta_hash), Stage::ScoringTuned, &mut relay)?;
    let suites = std::mem::take(&mut bench.job.suites);
    Ok(comparison::judge(suites, base, tuned, record.hyperparameters.seed)?.0)
}

/// Writes it beside the sweep's other reports.
pub(crate) fn write(folder: &SweepFolder, comparison: &Comparison) -> Result<()> {
    let report = folder.report_dir();
    fs_err::create_dir_all(&report)?;
    atomic::write_atomic(&report.join("verdict.md"), report::markdown(comparison).as_bytes())?;
    Ok(atomic::write_atomic(&report.join("verdict.json"), report::json(comparison)?.as_bytes())?)
}
