//! The loop: validate, checkpoint, stop, step. Callers observe events; they don't hook in.

mod checkpointing;
mod watching;

use crate::checkpoint::{self, Checkpoints, State};
use crate::coverage::{self, Sample};
use crate::features::{Boundary, Features};
use crate::job::Job;
use crate::monitor::Monitor;
use crate::monitor::generations::Generations;
use crate::monitor::stopping::{Policy, Watch};
use crate::observer::Observer;
use crate::recorder::Recorder;
use crate::snapshot::Snapshot;
use crate::step::StepGradient;
use crate::{Optimizer, OptimizerSettings, Result, Schedule, TrainError, finish, memory, preflight, step};
use outcrop_eval::Comparison;
use outcrop_job::event::{Event, Planned, Step};
use outcrop_job::plan::TimePlan;
use outcrop_job::{ModelRecord, Plan, Request};
use outcrop_kernels::{Gradients, pool};
use std::path::PathBuf;
use std::time::Instant;

/// What a finished job leaves.
pub struct Outcome {
    /// The custom model.
    pub model: ModelRecord,
    /// The tuned model against its base.
    pub comparison: Comparison,
    /// Where the task suites came from, in words; empty where there are none.
    pub task_source: String,
    /// The job's folder.
    pub folder: PathBuf,
    /// Where metrics were written for the request's `outputDataConfig`.
    pub output: PathBuf,
    /// Seconds of training, the resumed parts together.
    pub seconds: f64,
    /// What the plan said of the seconds that this process trained, and what they were (R24).
    pub planned: Option<(TimePlan, f64)>,
}

/// Where a run's first step follows on.
pub(crate) enum Start {
    /// Nothing.
    Base,
    /// Its own newest checkpoint, or nothing where it has none.
    NewestCheckpoint,
    /// Another run with the same beginning.
    Snapshot(Box<Snapshot>),
}

/// Looks at the losses of the selecting set's items at an epoch's end; a reason ends the run there.
pub(crate) type Judge<'a> = dyn FnMut(u64, &[f64]) -> Option<String> + 'a;

/// What is particular about a run: [`Course::alone`] is a job's of its own, a sweep's trials have others.
pub(crate) struct Course<'a> {
    pub(crate) start: Start,
    /// The step after which a snapshot is taken for the run that goes on from there.
    pub(crate) fork: Option<u64>,
    /// Whether probes run first. They change nothing.
    pub(crate) probe: bool,
    /// Whether forgetting is watched and samples are answered. It changes nothing but where the run ends.
    pub(crate) watch: bool,
    /// Checkpoints are written only after so many seconds without one, and where the run is asked to stop.
    pub(crate) sparing: Option<f64>,
    pub(crate) judge: Option<Box<Judge<'a>>>,
}

impl Course<'_> {
    /// A job's of its own.
    fn alone(resume: bool) -> Self {
        let start = if resume { Start::NewestCheckpoint } else { Start::Base };
        Self { start, fork: None, probe: true, watch: true, sparing: None, judge: None }
    }
}

/// Everything that changes while a job runs.
struct Run<'a> {
    job: &'a mut Job,
    recorder: Recorder<'a>,
    optimizer: Optimizer,
    gradients: Gradients,
    /// Of the training data and of each validation set; empty where nothing is frozen.
    features: Vec<Features>,
    schedule: Schedule,
    checkpoints: Checkpoints,
    state: State,
    /// What ends the run early.
    policy: Policy,
    /// What watches forgetting.
    monitor: Option<Monitor>,
    /// What is answered at each epoch's end.
    generations: Option<Generations>,
    /// When this process began to train, and the seconds of former ones.
    begin: Instant,
    seconds_before: f64,
    fork: Option<u64>,
    snapshot: Option<Snapshot>,
    sparing: Option<f64>,
    last_checkpoint: Instant,
    judge: Option<Box<Judge<'a>>>,
    /// Losses of the items of the first validation set, of its last pass.
    items: Vec<f64>,
}

/// Trains an opened job to its end, from its newest checkpoint where `resume`, and finishes it.
/// Errors: what can end a run; [`TrainError::Interrupted`] where its user did. Checkpoints stay in every case.
pub fn run(
    mut job: Job,
    request: &Request,
    output: PathBuf,
    resume: bool,
    observer: &mut dyn Observer,
) -> Result<Outcome> {
    follow(&mut job, request, output, Course::alone(resume), observer).0
}

/// [`run()`] on a course; gives the snapshot at its fork too, where it came so far. A job that was run is used up until
/// it is renewed.
pub(crate) fn follow<'a>(
    job: &'a mut Job,
    request: &Request,
    output: PathBuf,
    course: Course<'a>,
    observer: &'a mut dyn Observer,
) -> (Result<Outcome>, Option<Snapshot>) {
    let mut run = match Run::begin(job, course, observer) {
        Ok(run) => run,
        Err(error) => return (Err(error), None),
    };
    let result = run.train().and_then(|()| finish::finish(&mut run.finish_parts(), request, &output));
    match result {
        Ok((model, comparison)) => {
            let outcome = Outcome {
                model,
                comparison,
                task_source: run.job.suites.task_source.clone(),
                folder: run.job.folder.root().into(),
                output,
                seconds: run.state.seconds,
                planned: run
                    .job
                    .plan
                    .time
                    .filter(|_| !run.ended_early())
                    .map(|time| (time, run.state.seconds - run.seconds_before)),
            };
            (Ok(outcome), run.snapshot)
        }
        Err(error) => {
            if !matches!(error, TrainError::Interrupted { .. } | TrainError::Behind { .. }) {
                // the first error is what matters, also where the disk takes no event any more
                let _ = run.recorder.write(Event::Failed { message: error.to_string() });
            }
            (Err(error), run.snapshot)
        }
    }
}

/// The first event of a run.
fn planned(plan: &Plan) -> Event {
    Event::Planned(Planned {
        steps: plan.steps.total,
        epochs: plan.hyperparameters.epoch_count,
        records: plan.data.training.records,
        tokens: plan.data.training.tokens,
        target_tokens: plan.data.training.target_tokens,
        trainable_parameters: plan.trainable.parameters,
        device: plan.device.clone(),
        config_hash: plan.config_hash(),
    })
}

impl<'a> Run<'a> {
    fn begin(job: &'a mut Job, course: Course<'a>, observer: &'a mut dyn Observer) -> Result<Self> {
        let resume = matches!(course.start, Start::NewestCheckpoint);
        let settings = &job.plan.hyperparameters;
        let schedule = Schedule::new(settings, job.plan.steps.total);
        let (settings, masters) = (OptimizerSettings::from(settings), std::mem::take(&mut job.masters));
        let mut optimizer = Optimizer::new(settings, job.named_weights(), &masters)?;
        let mut gradients = Gradients::for_weights(job.named_weights())?;
        let checkpoints = Checkpoints::new(job.folder.checkpoints_dir());
        checkpoints.clear_unfinished()?;
        let (found, damaged) = if resume { checkpoints.newest()? } else { (None, Vec::new()) };
        let done = found.as_ref().map_or(0, |(_, state)| state.step);
        if course.probe {
            preflight::probe(job, &mut gradients, &mut optimizer, done)?;
        }
        // while the weights are the base's
        let monitor = if course.watch { Monitor::open(job, resume)? } else { None };
        let generations = course.watch.then(|| Generations::new(job));
        let mut state = State {
            step: 0,
            config_hash: job.plan.config_hash(),
            training_loss: f64::NAN,
            seconds: 0.0,
            watch: Watch::default(),
        };
        if let Some((path, saved)) = &found {
            checkpoint::restore(path, saved, &job.weights, &mut optimizer)?;
            state = saved.clone();
        }
        let mut shared = Vec::new();
        if let Start::Snapshot(mut snapshot) = course.start {
            shared = std::mem::take(&mut snapshot.records);
            state = State { config_hash: state.config_hash, ..snapshot.put(&job.weights, &mut optimizer)? };
        }
        if !resume {
            job.folder.write_plan(&job.plan)?;
        }
        observer.planned(&job.plan);
        let mut resumed = found.map(|(_, state)| state.step);
        if resume && resumed.is_none() {
            Recorder::discard(&job.folder)?; // ended before its first checkpoint: everything begins again, its log too
        }
        if !shared.is_empty() {
            Recorder::begin_with(&job.folder, planned(&job.plan), shared)?;
            resumed = Some(state.step);
        }
        let recorder = Recorder::open(&job.folder, resumed, observer)?;
        let (seconds_before, policy) = (state.seconds, Policy::new(&job.plan.hyperparameters));
        let mut run = Self {
            job,
            recorder,
            optimizer,
            gradients,
            features: Vec::new(),
            schedule,
            checkpoints,
            state,
            policy,
            monitor,
            generations,
            begin: Instant::now(),
            seconds_before,
            fork: course.fork,
            snapshot: None,
            sparing: course.sparing,
            last_checkpoint: Instant::now(),
            judge: course.judge,
            items: Vec::new(),
        };
        run.announce(resumed.is_some(), damaged)?;
        run.open_features()?;
        run.last_checkpoint = Instant::now(); // features are on disk by themselves
        Ok(run)
    }

    /// The features of training and validation data, from the store where there is one.
    /// Errors: [`TrainError::Interrupted`] where the run is asked to stop meanwhile; what is computed stays.
    fn open_features(&mut self) -> Result<()> {
        let job = &self.job;
        let Some(boundary) = Boundary::new(&job.decoder, job.plan.hyperparameters.trainable) else { return Ok(()) };
        let validation = job.data.validation.iter().map(|set| &set.prepared);
        for prepared in std::iter::once(&job.data.training).chain(validation) {
            let (shard, decoder, base) = (&prepared.shard, &job.decoder, &job.plan.base.hash);
            self.features.push(match &job.feature_cache {
                Some(cache) => match Features::stored(boundary, shard, decoder, base, cache, &mut self.recorder) {
                    Err(TrainError::Interrupted { .. }) => {
                        let (step, job) = (self.state.step, job.plan.job_id.clone());
                        self.recorder.write(Event::Interrupted { step })?;
                        return Err(TrainError::Interrupted { step, job });
                    }
                    features => features?,
                },
                None => Features::computed(boundary),
            });
        }
        Ok(())
    }

    fn announce(&mut self, resumed: bool, damaged: Vec<String>) -> Result<()> {
        let plan = &self.job.plan;
        let (planned, version) = (planned(plan), plan.engine_version.clone());
        if !resumed {
            self.recorder.write(planned)?;
        }
        self.recorder.write(Event::Started { engine_version: version, pid: std::process::id() })?;
        if resumed {
            self.recorder.write(Event::Resumed { step: self.state.step })?;
        }
        for message in damaged.into_iter().chain(std::mem::take(&mut self.job.warnings)) {
            self.recorder.warn(message)?;
        }
        Ok(())
    }

    /// Steps from where the state is to the plan's end, or to where the watch ends it; then the model is what is kept.
    fn train(&mut self) -> Result<()> {
        if self.state.step == 0 {
            self.look()?;
            self.validate()?; // the untouched base, for comparison
        }
        self.fork()?;
        while !self.done() {
            self.step()?;
            let stop = self.recorder.observer.stop_requested() || self.job.folder.stop_requested();
            if self.monitor.as_ref().is_some_and(|monitor| monitor.is_due(self.state.step, self.job.plan.steps)) {
                self.look()?;
            }
            let validated = self.due_validation();
            if validated {
                self.validate()?;
                self.answer()?;
            }
            self.fork()?;
            if self.due_checkpoint(stop) {
                self.checkpoint()?;
            }
            if validated && !stop {
                self.judge()?;
            }
            if stop && !self.done() {
                self.recorder.write(Event::Interrupted { step: self.state.step })?;
                let job = self.job.plan.job_id.clone();
                return Err(TrainError::Interrupted { step: self.state.step, job });
            }
        }
        self.keep()
    }

    /// Whether no step follows.
    fn done(&self) -> bool {
        self.state.step == self.job.plan.steps.total || self.state.watch.stopped.is_some()
    }

    fn ended_early(&self) -> bool {
        self.recorder.records.iter().any(|record| matches!(record.event, Event::StoppedEarly { .. }))
    }

    fn step(&mut self) -> Result<()> {
        let begin = Instant::now();
        let (batches, epoch) = self.job.micro_batches(self.state.step)?;
        let number = self.state.step + 1;
        if batches.iter().all(|batch| batch.targets.is_empty()) {
            self.state.step = number;
            return self.recorder.warn(format!("step {number} has no targets and was skipped"));
        }
        let learning_rate = self.schedule.learning_rate(self.state.step);
        let sample = (self.state.step == 0).then(|| Sample::take(&self.optimizer.values(&self.job.weights)));
        let sample = sample.transpose()?;
        // ------------------------------------------------------------------------------------------------------------
        let documents = self.job.documents(number - 1);
        let features = self.features.first();
        let (result, factors) =
            step::run(self.job, features, &batches, &documents, &self.optimizer, &mut self.gradients)
                .map_err(|error| self.job.locate(error, number - 1))?;
        if sample.is_some() {
            coverage::check(&self.gradients, factors.is_some().then_some((&self.job.weights[0].0, result.grad_norm)))?;
        }
        let (weights, optimizer, gradients) = (&self.job.weights, &mut self.optimizer, &self.gradients);
        let named = weights.iter().map(|(name, tensor)| (name.as_str(), tensor));
        pool::run(|| match &factors {
            Some(factors) => optimizer.update_head(weights, factors, learning_rate, result.clip_factor),
            None => optimizer.update(named, gradients, learning_rate, result.clip_factor),
        })?;
        // ------------------------------------------------------------------------------------------------------------
        let StepGradient { loss, target_tokens, tokens, grad_norm, clip_factor } = result;
        self.state.step = number;
        self.state.training_loss = loss;
        self.state.seconds = self.seconds_before + self.begin.elapsed().as_secs_f64();
        if let Some(sample) = sample {
            let changed_fraction = sample.changed_fraction(&self.optimizer.values(&self.job.weights))?;
            self.recorder.write(Event::Coverage { tensors: self.job.weights.len() as u64, changed_fraction })?;
        }
        let seconds = begin.elapsed().as_secs_f64();
        self.recorder.write(Event::Step(Step {
            step: number,
            epoch,
            loss,
            tokens,
            target_tokens,
            grad_norm,
            clip_factor,
            learning_rate,
            tokens_per_second: tokens as f64 / seconds,
            seconds,
            memory_bytes: memory::in_use(),
        }))
    }

    fn due_validation(&self) -> bool {
        let (steps, done) = (self.job.plan.steps, self.state.step);
        done.is_multiple_of(steps.per_epoch) || done == steps.total
    }

    /// Keeps what another run goes on from, where this is its step.
    fn fork(&mut self) -> Result<()> {
        if self.fork == Some(self.state.step) {
            let (state, weights) = (&self.state, &self.job.weights);
            self.snapshot = Some(Snapshot::take(state, weights, &mut self.optimizer, &self.recorder.records)?);
        }
        Ok(())
    }

    /// Ends the run where its validation is behind another trial's.
    fn judge(&mut self) -> Result<()> {
        let step = self.state.step;
        let Some(reason) = self.judge.as_mut().and_then(|judge| judge(step, &self.items)) else { return Ok(()) };
        if step == self.job.plan.steps.total {
            return Ok(()); // it is done in any case
        }
        self.recorder.warn(&reason)?;
        self.recorder.write(Event::Interrupted { step })?;
        Err(TrainError::Behind { step, reason })
    }

    fn finish_parts(&mut self) -> finish::Parts<'_, 'a> {
        let values = self.optimizer.values(&self.job.weights);
        finish::Parts { job: self.job, recorder: &mut self.recorder, state: &self.state, values }
    }
}
