//! The winner against the base on the test set, which no trial was scored on and selection never saw: its comparison and
//! the full report.

use super::trial::{Bench, Context, Relay};
use crate::comparison::{self, Suites, Trained};
use crate::observer::Stage;
use crate::report::{self as full_report, JobPart, write_report};
use crate::{Result, TrainError};
use outcrop_eval::{Comparison, Contamination, Scored, Suite, report};
use outcrop_job::sweep::{SweepFolder, SweepPlan, TrialResult};
use outcrop_job::{JobFolder, ModelRecord, ModelStore, atomic};
use outcrop_model::delta;

/// The winner, judged.
pub(crate) struct Judged {
    pub(crate) comparison: Comparison,
    model: ModelRecord,
    scored: Vec<Scored>,
    contamination: Vec<Contamination>,
}

/// Scores base and winner on the test set and on the general suites, and compares them.
pub(crate) fn judge(
    bench: &mut Bench,
    context: &Context,
    models: &ModelStore,
    plan: &SweepPlan,
    winner: &TrialResult,
) -> Result<Judged> {
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
    let (comparison, scored) = comparison::judge(suites, base, tuned, record.hyperparameters.seed)?;
    let contamination = comparison::contamination(&Trained::of(&bench.job.data), &comparison, &scored)?;
    Ok(Judged { comparison, model: record, scored, contamination })
}

/// Writes it beside the sweep's other reports; the report of its job, but on the test set, in `winner/`.
pub(crate) fn write(folder: &SweepFolder, judged: &Judged, winner: &TrialResult) -> Result<()> {
    let (report, comparison) = (folder.report_dir(), &judged.comparison);
    fs_err::create_dir_all(&report)?;
    atomic::write_atomic(&report.join("verdict.md"), report::markdown(comparison).as_bytes())?;
    atomic::write_atomic(&report.join("verdict.json"), report::json(comparison)?.as_bytes())?;
    let Some(job) = &winner.job else { return Ok(()) };
    let job = JobFolder::open(job)?;
    let (plan, records) = (job.read_plan()?, job.read_events()?);
    let about = JobPart { plan: &plan, records: &records, model: &judged.model };
    let source = "evaluationData, which selection never saw";
    let context =
        full_report::Context { contamination: &judged.contamination, ..full_report::Context::of_job(about, source) };
    write_report(&report.join("winner"), comparison, &judged.scored, &context)
}
