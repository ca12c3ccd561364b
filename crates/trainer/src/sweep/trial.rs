//! One trial: an ordinary job in its own folder, on a base that is open already, from where another trial hands on.

use super::SweepObserver;
use super::plan::Trial;
use crate::checkpoint::Checkpoints;
use crate::job::{Inputs, Job};
use crate::observer::{Observer, Stage};
use crate::run::{Course, Judge, Outcome, Start, follow};
use crate::snapshot::Snapshot;
use crate::trunk_cache::TrunkCache;
use crate::{Result, TrainError};
use candle_core::Tensor;
use outcrop_eval::measures::MeasureKind;
use outcrop_eval::{Comparison, EvalError, SuiteComparison};
use outcrop_job::sweep::{Change, EpochLoss, SweepFolder, SweepPlan, TrialPlan, TrialResult, TrialStatus};
use outcrop_job::{Event, Home, JobFolder, Locations, Plan, Record, atomic};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// A trial writes no checkpoint before it has trained so long without one: what is lost by a kill is at most that and
/// an epoch, and a hundred short trials write none.
const SPARING_SECONDS: f64 = 60.0;

/// An open base on which one trial after the other is trained.
pub(crate) struct Bench {
    pub(crate) job: Job,
    /// The weights that train as the base has them.
    pub(crate) untrained: Vec<(String, Tensor)>,
    /// The largest batch that a probe has run.
    probed: u64,
}

/// What every trial of a sweep reads. Shared by the threads that run them.
pub(crate) struct Context<'c, 'o> {
    pub(crate) home: &'c Home,
    pub(crate) locations: &'c Locations,
    /// What relative paths begin at.
    pub(crate) start: &'c Path,
    pub(crate) device: &'c str,
    pub(crate) feature_cache: bool,
    /// Suites run through the frozen trunk once for all trials and threads.
    pub(crate) trunk: TrunkCache,
    pub(crate) trials: &'c [Trial],
    pub(crate) observer: &'c Mutex<&'o mut dyn SweepObserver>,
    /// Set where a trial ended the sweep.
    pub(crate) abort: AtomicBool,
}

/// Passes on what a trial's job tells.
pub(crate) struct Relay<'r, 'o> {
    pub(crate) trial: Option<&'r TrialPlan>,
    pub(crate) observer: &'r Mutex<&'o mut dyn SweepObserver>,
    pub(crate) abort: Option<&'r AtomicBool>,
}

impl Relay<'_, '_> {
    fn tell<T>(&self, tell: impl FnOnce(&mut dyn SweepObserver) -> T) -> T {
        // a panic elsewhere leaves the observer usable
        tell(&mut **self.observer.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

impl Observer for Relay<'_, '_> {
    fn stage(&mut self, stage: Stage, done: u64, total: u64) {
        self.tell(|observer| observer.stage(stage, done, total));
    }

    fn event(&mut self, record: &Record) {
        if let Some(trial) = self.trial {
            self.tell(|observer| observer.event(trial, record));
        }
    }

    fn stop_requested(&mut self) -> bool {
        let aborted = self.abort.is_some_and(|abort| abort.load(Ordering::SeqCst));
        aborted || self.tell(|observer| observer.stop_requested())
    }
}

impl Bench {
    /// Opens the base and all data with the first trial's settings, in a folder that nobody keeps. `names` are its own.
    pub(crate) fn open(context: &Context, job_id: &str, names: (&str, &str)) -> Result<Self> {
        let trial = &context.trials[0];
        fs_err::create_dir_all(context.home.root())?;
        let temporary = tempfile::Builder::new().prefix(".sweep-").tempdir_in(context.home.root())?;
        let folder = JobFolder::create(&temporary.path().join("job"), &trial.request)?;
        let inputs = inputs(context, trial, &folder, job_id, names, None);
        let mut relay = Relay { trial: None, observer: context.observer, abort: Some(&context.abort) };
        let job = Job::open_with(inputs, Some(context.trunk.clone()), &mut relay)?;
        Ok(Self { untrained: job.untrained()?, job, probed: 0 })
    }
}

fn inputs<'a>(
    context: &'a Context,
    trial: &'a Trial,
    folder: &'a JobFolder,
    job_id: &'a str,
    (job_name, model_name): (&'a str, &'a str),
    resumed: Option<&'a Plan>,
) -> Inputs<'a> {
    Inputs {
        home: context.home,
        locations: context.locations,
        request: &trial.request,
        hyperparameters: trial.hyperparameters.clone(),
        folder,
        job_id,
        job_name,
        model_name,
        device: context.device,
        feature_cache: context.feature_cache,
        resumed,
    }
}

/// Runs a trial from `start`, or from its own checkpoint where a former process left one. Gives its result, and the
/// snapshot at `fork` where it came so far.
/// Errors: what ends the sweep. A trial that diverges or ends early is a result.
pub(crate) fn attempt<'a>(
    context: &'a Context,
    bench: &'a mut Bench,
    plan: &'a SweepPlan,
    number: usize,
    snapshot: Option<Snapshot>,
    fork: Option<u64>,
    judge: Option<Box<Judge<'a>>>,
) -> Result<(TrialResult, Option<Snapshot>)> {
    let (planned, trial) = (&plan.trials[number - 1], &context.trials[number - 1]);
    let root = context.home.job_dir(&planned.job_id)?;
    let checkpoint = Checkpoints::new(root.join("checkpoints")).newest()?.0.is_some();
    let former = if checkpoint { Some(JobFolder::open(&root)?) } else { None };
    let folder = match &former {
        Some(folder) => folder.clone(),
        None => fresh(&root, trial, context.start, &plan.sweep_id)?,
    };
    let _lock = folder.lock()?;
    folder.clear_stop()?;
    let former = former.map(|folder| folder.read_plan()).transpose()?;
    let output = match &trial.request.output_data_config {
        Some(config) => context.locations.output(&config.s3_uri)?,
        None => folder.root().join("output"),
    };
    let names = (planned.job_name.as_str(), planned.model_name.as_str());
    let inputs = inputs(context, trial, &folder, &planned.job_id, names, former.as_ref());
    let mut relay = Relay { trial: Some(planned), observer: context.observer, abort: Some(&context.abort) };
    bench.job.renew(&inputs, &bench.untrained, &mut relay)?;
    let batch_size = trial.hyperparameters.batch_size;
    let probe = batch_size > bench.probed;
    bench.probed = bench.probed.max(batch_size);
    let begin = snapshot.as_ref().map_or(0, |snapshot| snapshot.state.step);
    let start = match (former, snapshot) {
        (Some(_), _) => Start::NewestCheckpoint,
        (None, Some(snapshot)) => Start::Snapshot(Box::new(snapshot)),
        (None, None) => Start::Base,
    };
    let course = Course { start, fork, probe, watch: false, sparing: Some(SPARING_SECONDS), judge };
    let (outcome, snapshot) = follow(&mut bench.job, &trial.request, output, course, &mut relay);
    let records = folder.read_events()?;
    let result = result(number, outcome, &records, begin, folder.root())?;
    if result.status == TrialStatus::Diverged {
        // its job has no end; nothing goes on from it
        Checkpoints::new(folder.checkpoints_dir()).keep_only(None)?;
    }
    Ok((result, snapshot))
}

/// The folder of a trial that begins; what a killed process left of it is taken away.
fn fresh(root: &Path, trial: &Trial, start: &Path, sweep: &str) -> Result<JobFolder> {
    if root.exists() {
        fs_err::remove_dir_all(root)?;
    }
    let folder = JobFolder::create(root, &trial.request)?;
    atomic::write_atomic(&folder.root().join("start"), start.to_string_lossy().as_bytes())?;
    SweepFolder::mark(&folder, sweep)?;
    Ok(folder)
}

/// What became of a trial. Errors: those that are no trial's own.
fn result(number: usize, outcome: Result<Outcome>, records: &[Record], begin: u64, job: &Path) -> Result<TrialResult> {
    let validation = validation_losses(records);
    let finite = validation.iter().all(|loss| loss.loss.is_finite());
    let steps =
        || records.iter().filter_map(|record| if let Event::Step(step) = &record.event { Some(step) } else { None });
    let mut result = TrialResult {
        trial: number,
        status: TrialStatus::Completed,
        reason: None,
        steps: steps().next_back().map_or(0, |step| step.step),
        job: Some(PathBuf::from(job)),
        model: None,
        delta_hash: None,
        training_loss: steps().next_back().map_or(f64::NAN, |step| step.loss),
        validation,
        items: Vec::new(),
        task: Vec::new(),
        general: Vec::new(),
        headline: String::new(),
        seconds: steps().filter(|step| step.step > begin).map(|step| step.seconds).sum::<f64>() + 0.0, // an empty sum is -0
    };
    match outcome {
        Ok(outcome) => {
            let Comparison { headline, task, general, .. } = &outcome.comparison;
            result.headline.clone_from(headline);
            result.task = task.iter().map(change).collect();
            result.general = general.iter().map(change).collect();
            result.model = Some(outcome.model.name);
            result.delta_hash = Some(outcome.model.delta_hash);
            if !finite {
                result.status = TrialStatus::Diverged;
                result.reason = Some("the validation loss isn't finite".into());
            }
        }
        Err(error @ (TrainError::Diverged(_) | TrainError::NotFinite { .. })) => {
            (result.status, result.reason) = (TrialStatus::Diverged, Some(error.to_string()));
        }
        // a model that gives no finite NLL can't be scored
        Err(TrainError::Eval(error @ EvalError::Item { .. })) if !finite || error.to_string().contains("the NLL") => {
            (result.status, result.reason) = (TrialStatus::Diverged, Some(error.to_string()));
        }
        Err(TrainError::Behind { reason, .. }) => {
            (result.status, result.reason) = (TrialStatus::Stopped, Some(reason));
        }
        Err(error) => return Err(error),
    }
    Ok(result)
}

/// Losses of the set that selects, one a step.
fn validation_losses(records: &[Record]) -> Vec<EpochLoss> {
    let losses = records.iter().filter_map(|record| match &record.event {
        Event::Validation(loss) if loss.set == 0 => Some(EpochLoss { step: loss.step, loss: loss.loss }),
        _ => None,
    });
    losses.collect()
}

/// A suite in the few numbers that a sweep shows.
fn change(suite: &SuiteComparison) -> Change {
    let first = &suite.measures[0];
    let nll = suite.measures.iter().find(|measure| measure.kind == MeasureKind::NllPerToken);
    Change {
        suite: suite.name.clone(),
        measure: first.kind.name().into(),
        base: first.base,
        tuned: first.tuned,
        nll_rise: nll.map_or(f64::NAN, |measure| measure.difference.value),
    }
}
