//! Runs a sweep: plans it, hands its runs to threads that share one pool, keeps each result as it comes, then chooses
//! the winner and has it judged. What a former process finished stays.

use super::plan::{self, Trial};
use super::race::Race;
use super::trial::{Bench, Context, Relay, attempt};
use super::{SweepObserver, SweepOutcome, page, report, select, verdict};
use crate::checkpoint::Checkpoints;
use crate::snapshot::Snapshot;
use crate::trunk_cache::TrunkCache;
use crate::{OptimizerSettings, Result, TrainError, memory};
use outcrop_job::hyperparameters::Trainable;
use outcrop_job::sweep::{RunPlan, SweepFolder, SweepPlan, SweepRequest, TrialPlan, TrialResult, TrialStatus};
use outcrop_job::{Home, JobFolder, Locations, ModelStore, home, names, timestamp};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What a sweep begins with.
pub struct SweepInputs<'a> {
    /// Where models, caches, jobs and sweeps are.
    pub home: &'a Home,
    /// How the request's locations map to paths.
    pub locations: &'a Locations,
    /// What relative paths begin at.
    pub start: &'a Path,
    /// The sweep's request.
    pub request: &'a SweepRequest,
    /// Its trials, from [`super::resolve`].
    pub trials: &'a [Trial],
    /// The sweep's folder.
    pub folder: &'a SweepFolder,
    /// Its id.
    pub id: &'a str,
    /// Its name.
    pub name: &'a str,
    /// `cpu`, `cuda:0` or `metal`.
    pub device: &'a str,
    /// Whether the output of a frozen trunk may be kept on disk.
    pub feature_cache: bool,
    /// Largest p value at which a trial that is behind ends early.
    pub stop_losers: Option<f64>,
    /// Runs at a time; None: as many as memory and cores allow.
    pub at_a_time: Option<usize>,
    /// The plan of the sweep to go on with.
    pub former: Option<SweepPlan>,
}

/// What the threads of a sweep write to.
struct Ledger<'a> {
    folder: &'a SweepFolder,
    plan: &'a SweepPlan,
    results: Mutex<Vec<TrialResult>>,
    race: Option<Mutex<Race>>,
    error: Mutex<Option<TrainError>>,
    next: AtomicUsize,
}

/// Runs a sweep to its end. Errors: what ends it; [`TrainError::SweepInterrupted`] where its user did. Finished trials
/// stay in every case.
pub fn conduct(inputs: &SweepInputs, observer: &mut dyn SweepObserver) -> Result<SweepOutcome> {
    let begin = Instant::now();
    let _lock = inputs.folder.lock()?;
    let shared = Mutex::new(observer);
    let context = Context {
        home: inputs.home,
        locations: inputs.locations,
        start: inputs.start,
        device: inputs.device,
        feature_cache: inputs.feature_cache,
        trunk: TrunkCache::default(),
        trials: inputs.trials,
        observer: &shared,
        abort: AtomicBool::new(false),
    };
    let ids = match &inputs.former {
        Some(former) => former.trials.iter().map(|trial| trial.job_id.clone()).collect(),
        None => (0..inputs.trials.len()).map(|_| home::new_id()).collect::<std::result::Result<Vec<_>, _>>()?,
    };
    let names = trial_names(inputs.name, inputs.trials.len(), 1);
    let mut bench = Bench::open(&context, &ids[0], (&names.0, &names.1))?;
    let at_a_time = at_a_time(inputs, &bench);
    let plan = sweep_plan(inputs, &bench, &ids, at_a_time)?;
    match &inputs.former {
        Some(former) => same_sweep(former, &plan)?,
        None => inputs.folder.write_plan(&plan)?,
    }
    let plan = inputs.former.clone().unwrap_or(plan);
    let at_a_time = at_a_time.min(plan.runs.len());
    lock(&shared).planned(&plan, &bench.job.plan, at_a_time);

    let done = inputs.folder.read_results()?;
    let mut race = plan.stop_losers.map(Race::new);
    if let Some(race) = &mut race {
        for result in &done {
            let index = result.trial - 1;
            race.enter(&inputs.trials[index], plan.trials[index].steps, result);
        }
    }
    let ledger = Ledger {
        folder: inputs.folder,
        plan: &plan,
        results: Mutex::new(done),
        race: race.map(Mutex::new),
        error: Mutex::new(None),
        next: AtomicUsize::new(0),
    };
    std::thread::scope(|scope| {
        for _ in 1..at_a_time {
            scope.spawn(|| work(&context, &ledger, None));
        }
        work(&context, &ledger, Some(&mut bench));
    });
    let mut results = ledger.results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_by_key(|result| result.trial);
    match ledger.error.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(TrainError::Interrupted { .. }) => {
            let (done, trials, sweep) = (results.len(), plan.trials.len(), plan.sweep_id.clone());
            return Err(TrainError::SweepInterrupted { done, trials, sweep });
        }
        Some(error) => return Err(error),
        None => {}
    }
    conclude(inputs, &context, &mut bench, plan, results, begin)
}

/// Chooses, judges, reports.
fn conclude(
    inputs: &SweepInputs,
    context: &Context,
    bench: &mut Bench,
    plan: SweepPlan,
    results: Vec<TrialResult>,
    begin: Instant,
) -> Result<SweepOutcome> {
    let selection = select::select(&plan, &results);
    let winner = selection.as_ref().and_then(|selection| results.iter().find(|r| r.trial == selection.winner));
    let comparison = match winner {
        Some(winner) if !plan.test.is_empty() => {
            let models = ModelStore::new(inputs.home.models_dir());
            let judged = verdict::judge(bench, context, &models, &plan, winner)?;
            verdict::write(inputs.folder, &judged, winner)?;
            Some(judged.comparison)
        }
        _ => None,
    };
    let outcome = SweepOutcome {
        report: inputs.folder.report_dir(),
        plan,
        results,
        selection,
        verdict: comparison,
        seconds: begin.elapsed().as_secs_f64(),
    };
    report::write(&outcome)?;
    page::write(&outcome)?;
    Ok(outcome)
}

/// A thread's work: one run after the other until there is none, its user stops it, or something ends the sweep.
fn work(context: &Context, ledger: &Ledger, bench: Option<&mut Bench>) {
    let mut own = None;
    let worked = (|| {
        let bench = match bench {
            Some(bench) => bench,
            None if ledger.next.load(Ordering::SeqCst) >= ledger.plan.runs.len() => return Ok(()),
            None => {
                let first = &ledger.plan.trials[0];
                own.insert(Bench::open(context, &first.job_id, (&first.job_name, &first.model_name))?)
            }
        };
        while !context.abort.load(Ordering::SeqCst) {
            let Some(run) = ledger.plan.runs.get(ledger.next.fetch_add(1, Ordering::SeqCst)) else { break };
            pass(context, ledger, bench, run)?;
        }
        Ok(())
    })();
    if let Err(error) = worked {
        context.abort.store(true, Ordering::SeqCst);
        lock(&ledger.error).get_or_insert(error);
    }
}

/// Trains the trials of a run, each from where the one before it hands on.
fn pass(context: &Context, ledger: &Ledger, bench: &mut Bench, run: &RunPlan) -> Result<()> {
    let plan = ledger.plan;
    let mut snapshot: Option<Snapshot> = None;
    let mut line: BTreeMap<u64, Vec<f64>> = BTreeMap::new(); // losses of items on the shared part
    let mut dead: Option<TrialResult> = None;
    for (position, &number) in run.trials.iter().enumerate() {
        let fork = run.forks.get(position).copied();
        let (planned, trial) = (&plan.trials[number - 1], &context.trials[number - 1]);
        let known = lock(&ledger.results).iter().find(|result| result.trial == number).cloned();
        if let Some(known) = known {
            if known.status != TrialStatus::Completed && fork.is_some_and(|fork| known.steps < fork) {
                dead = Some(known);
            } else if let Some(fork) = fork {
                let looks = known.validation.iter().filter(|loss| loss.step > 0).zip(&known.items);
                line = looks
                    .filter(|(loss, _)| loss.step <= fork)
                    .map(|(loss, items)| (loss.step, items.clone()))
                    .collect();
                snapshot = left_snapshot(context, bench, planned, fork)?;
            }
            continue;
        }
        let at_fork =
            snapshot.as_ref().and_then(|snapshot| Some((snapshot.state.step, line.get(&snapshot.state.step)?)));
        let behind = at_fork.and_then(|(step, items)| judge(context, ledger, number, step, items));
        if let Some(reason) = behind {
            dead = Some(TrialResult {
                reason: Some(reason),
                status: TrialStatus::Stopped,
                ..unbegun(number, position, run)
            });
        }
        if let Some(dead) = &dead {
            let reason = dead.reason.clone();
            record(context, ledger, TrialResult { reason, status: dead.status, ..unbegun(number, position, run) })?;
            continue;
        }
        let seen = RefCell::new(std::mem::take(&mut line));
        let judge = |step: u64, items: &[f64]| {
            seen.borrow_mut().insert(step, items.to_vec());
            judge(context, ledger, number, step, items)
        };
        let judge = ledger.race.is_some().then(|| Box::new(judge) as Box<crate::run::Judge>);
        let (mut result, next) = attempt(context, bench, plan, number, snapshot.take(), fork, judge)?;
        let seen = seen.into_inner();
        let steps = result.validation.iter().map(|loss| loss.step).filter(|step| *step > 0);
        result.items = steps.filter_map(|step| seen.get(&step).cloned()).collect();
        line = seen.into_iter().filter(|(step, _)| fork.is_some_and(|fork| *step <= fork)).collect();
        if let Some(race) = &ledger.race {
            lock(race).enter(trial, planned.steps, &result);
        }
        if result.status != TrialStatus::Completed && next.is_none() {
            dead = Some(result.clone());
        }
        snapshot = next;
        tidy(context, plan, run, position)?;
        record(context, ledger, result)?;
    }
    Ok(())
}

/// A trial that didn't begin, since the one that it goes on from ended early.
fn unbegun(number: usize, position: usize, run: &RunPlan) -> TrialResult {
    TrialResult {
        trial: number,
        status: TrialStatus::Diverged,
        reason: None,
        steps: position.checked_sub(1).map_or(0, |before| run.forks[before]),
        job: None,
        model: None,
        delta_hash: None,
        training_loss: f64::NAN,
        validation: Vec::new(),
        items: Vec::new(),
        task: Vec::new(),
        general: Vec::new(),
        headline: String::new(),
        seconds: 0.0,
    }
}

fn judge(context: &Context, ledger: &Ledger, number: usize, step: u64, items: &[f64]) -> Option<String> {
    let planned = &ledger.plan.trials[number - 1];
    let looks = (planned.epochs.ceil() as u64).saturating_sub(1);
    lock(ledger.race.as_ref()?).judge(&context.trials[number - 1], planned.steps, step, items, looks)
}

/// The state that a trial of a former process left for the one behind it, where it was worth a checkpoint.
fn left_snapshot(context: &Context, bench: &Bench, trial: &TrialPlan, fork: u64) -> Result<Option<Snapshot>> {
    let Ok(folder) = JobFolder::open(&context.home.job_dir(&trial.job_id)?) else { return Ok(None) };
    let Some((path, state)) = Checkpoints::new(folder.checkpoints_dir()).of_step(fork)? else { return Ok(None) };
    let device = bench.job.decoder.device();
    Ok(Some(Snapshot::read(&path, state, device, &folder.read_events()?)?))
}

/// Takes away checkpoints that nothing goes on from: a trial keeps the one that the next begins at, until that has ended.
fn tidy(context: &Context, plan: &SweepPlan, run: &RunPlan, position: usize) -> Result<()> {
    let keep = |position: usize, step: Option<u64>| {
        let root = context.home.job_dir(&plan.trials[run.trials[position] - 1].job_id)?;
        Checkpoints::new(root.join("checkpoints")).keep_only(step)
    };
    keep(position, run.forks.get(position).copied())?;
    if let Some(before) = position.checked_sub(1) {
        keep(before, None)?;
    }
    Ok(())
}

/// Keeps a result; a full disk pauses the sweep until there is room or its user stops it.
fn record(context: &Context, ledger: &Ledger, result: TrialResult) -> Result<()> {
    let mut results = lock(&ledger.results);
    loop {
        match ledger.folder.append(&result).map_err(TrainError::from) {
            Err(error) if error.is_disk_full() => {
                if lock(context.observer).stop_requested() {
                    return Err(error);
                }
                std::thread::sleep(Duration::from_secs(1));
            }
            appended => break appended?,
        }
    }
    lock(context.observer).ended(&ledger.plan.trials[result.trial - 1], &result);
    results.push(result);
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // what is guarded stays whole: each holder makes one change
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Names of a trial's job and model.
fn trial_names(sweep: &str, trials: usize, number: usize) -> (String, String) {
    let digits = trials.to_string().len().max(2);
    let kept: String = sweep.chars().take(63 - digits - 2).collect();
    let job = format!("{}-t{number:0digits$}", kept.trim_end_matches(['-', '_', '.', '+']));
    let model = names::default_model_name(&job);
    (job, model)
}

/// How many runs go side by side. Where losers stop early, and on a device, one.
fn at_a_time(inputs: &SweepInputs, bench: &Bench) -> usize {
    if inputs.stop_losers.is_some() || inputs.device != "cpu" {
        return 1;
    }
    let memory = bench.job.plan.memory.total_bytes.max(1);
    let fits = memory::available().map_or(1, |free| (free as f64 * 0.7) as u64 / memory).max(1) as usize;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    inputs.at_a_time.unwrap_or(cores).min(fits).max(1)
}

fn sweep_plan(inputs: &SweepInputs, bench: &Bench, ids: &[String], at_a_time: usize) -> Result<SweepPlan> {
    let (job, trials) = (&bench.job, inputs.trials);
    let models = ModelStore::new(inputs.home.models_dir());
    let mut planned = Vec::new();
    for (index, trial) in trials.iter().enumerate() {
        let settings = &trial.hyperparameters;
        let steps = job.data.steps.reordered(settings.batch_size as usize, settings.seed, settings.shuffle)?;
        let per_epoch = steps.steps_per_epoch() as u64;
        let total = settings.max_steps.unwrap_or(u64::MAX).min(per_epoch * settings.epoch_count);
        let (job_name, model_name) = trial_names(inputs.name, trials.len(), index + 1);
        if inputs.former.is_none() {
            models.check_name(&model_name)?;
        }
        planned.push(TrialPlan {
            number: index + 1,
            settings: trial.settings.clone(),
            job_id: ids[index].clone(),
            job_name,
            model_name,
            epochs: total as f64 / per_epoch as f64,
            steps: total,
        });
    }
    let steps: Vec<u64> = planned.iter().map(|trial| trial.steps).collect();
    let runs = plan::runs(trials, &steps);
    let per_epoch = |number: usize| planned[number - 1].steps as f64 / planned[number - 1].epochs;
    let trained_epochs =
        runs.iter().map(|run| plan::trained_steps(run, &steps) as f64 / per_epoch(run.trials[0])).sum();
    let test = inputs.request.evaluation_data();
    let paths =
        test.iter().map(|location| inputs.locations.input(location)).collect::<std::result::Result<Vec<_>, _>>()?;
    let seen: Vec<_> = std::iter::once(&job.plan.data.training).chain(&job.plan.data.validation).cloned().collect();
    plan::check_test_set(&paths, &seen)?;
    let model_bytes = job.plan.trainable.parameters * 4;
    let state = |trial: &Trial| {
        let optimizer = OptimizerSettings::from(&trial.hyperparameters);
        job.weights.iter().map(|(_, tensor)| optimizer.state_bytes(tensor.elem_count() as u64)).sum::<u64>()
    };
    let state_bytes = trials.iter().map(state).max().unwrap_or(0);
    let plan = SweepPlan {
        engine_version: env!("CARGO_PKG_VERSION").into(),
        sweep_id: inputs.id.into(),
        name: inputs.name.into(),
        created: timestamp::now(),
        device: inputs.device.into(),
        varied: inputs.request.varied.clone(),
        trial_epochs: planned.iter().map(|trial| trial.epochs).sum(),
        trained_epochs,
        trunk_once: trunk_once(trials, bench),
        base_hash: job.plan.base.hash.clone(),
        config_hash: job.plan.config_hash(),
        selection: job.data.validation.first().map(|set| set.location.clone()).unwrap_or_default(),
        test,
        stop_losers: inputs.stop_losers,
        models_bytes: model_bytes * trials.len() as u64,
        checkpoint_bytes: (model_bytes + state_bytes) * 3 * at_a_time.min(runs.len()) as u64,
        trials: planned,
        runs,
    };
    let needed = plan.models_bytes + plan.checkpoint_bytes;
    match memory::disk_available(inputs.folder.root()) {
        Some(free) if free < needed && inputs.former.is_none() => Err(TrainError::Plan(format!(
            "`{}` has {} MB free, {} models and their checkpoints take up to {} MB; free some or try fewer values",
            inputs.home.root().display(),
            free / 1_000_000,
            plan.trials.len(),
            needed / 1_000_000
        ))),
        _ => Ok(plan),
    }
}

/// Whether the frozen trunk runs once for all epochs and trials.
fn trunk_once(trials: &[Trial], bench: &Bench) -> bool {
    trials.iter().all(|trial| trial.hyperparameters.trainable != Trainable::All) && bench.job.has_features()
}

/// R27: a sweep goes on only as it began.
fn same_sweep(former: &SweepPlan, plan: &SweepPlan) -> Result<()> {
    let changed =
        |what: &str| Err(TrainError::Plan(format!("the sweep can't go on with another {what} than it began with")));
    if former.base_hash != plan.base_hash {
        return changed("base");
    }
    if former.engine_version != plan.engine_version {
        return changed("version of the engine");
    }
    let trials =
        |plan: &SweepPlan| plan.trials.iter().map(|trial| (trial.settings.clone(), trial.steps)).collect::<Vec<_>>();
    if former.config_hash != plan.config_hash || trials(former) != trials(plan) {
        return changed("plan: data, settings or device");
    }
    Ok(())
}

impl Relay<'_, '_> {
    /// One for work that is no trial's.
    pub(crate) fn of<'r, 'o>(context: &'r Context<'_, 'o>) -> Relay<'r, 'o> {
        Relay { trial: None, observer: context.observer, abort: Some(&context.abort) }
    }
}
