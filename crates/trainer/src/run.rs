//! The loop: validate, checkpoint, stop, step. Callers observe events; they don't hook in.

use crate::checkpoint::{self, Best, Checkpoints, State};
use crate::coverage::{self, Sample};
use crate::job::Job;
use crate::observer::{Observer, Stage};
use crate::recorder::Recorder;
use crate::step::StepGradient;
use crate::{Optimizer, OptimizerSettings, Result, Schedule, TrainError, finish, memory, preflight, step};
use outcrop_data::micro_batches;
use outcrop_eval::Comparison;
use outcrop_job::event::{Event, Planned, Step, Validation};
use outcrop_job::plan::TimePlan;
use outcrop_job::{ModelRecord, Request};
use outcrop_kernels::Gradients;
use outcrop_model::Row;
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

/// Everything that changes while a job runs.
struct Run<'a> {
    job: Job,
    recorder: Recorder<'a>,
    optimizer: Optimizer,
    gradients: Gradients,
    schedule: Schedule,
    checkpoints: Checkpoints,
    state: State,
    /// When this process began to train, and the seconds of former ones.
    begin: Instant,
    seconds_before: f64,
}

/// Trains an opened job to its end, from its newest checkpoint where `resume`, and finishes it.
/// Errors: what can end a run; [`TrainError::Interrupted`] where its user did. Checkpoints stay in every case.
pub fn run(job: Job, request: &Request, output: PathBuf, resume: bool, observer: &mut dyn Observer) -> Result<Outcome> {
    let mut run = Run::begin(job, resume, observer)?;
    let result = run.train().and_then(|()| finish::finish(&mut run.finish_parts(), request, &output));
    match result {
        Ok((model, comparison)) => Ok(Outcome {
            model,
            comparison,
            task_source: run.job.suites.task_source.clone(),
            folder: run.job.folder.root().into(),
            output,
            seconds: run.state.seconds,
            planned: run.job.plan.time.map(|time| (time, run.state.seconds - run.seconds_before)),
        }),
        Err(error) => {
            if !matches!(error, TrainError::Interrupted { .. }) {
                // the first error is what matters, also where the disk takes no event any more
                let _ = run.recorder.write(Event::Failed { message: error.to_string() });
            }
            Err(error)
        }
    }
}

impl<'a> Run<'a> {
    fn begin(mut job: Job, resume: bool, observer: &'a mut dyn Observer) -> Result<Self> {
        let settings = &job.plan.hyperparameters;
        let schedule = Schedule {
            peak: settings.learning_rate,
            warmup_steps: settings.learning_rate_warmup_steps,
            total_steps: job.plan.steps.total,
            kind: settings.schedule,
        };
        let (settings, masters) = (OptimizerSettings::from(settings), std::mem::take(&mut job.masters));
        let mut optimizer = Optimizer::new(settings, job.named_weights(), &masters)?;
        let mut gradients = Gradients::for_weights(job.named_weights())?;
        let checkpoints = Checkpoints::new(job.folder.checkpoints_dir());
        checkpoints.clear_unfinished()?;
        let (found, damaged) = if resume { checkpoints.newest()? } else { (None, Vec::new()) };
        let done = found.as_ref().map_or(0, |(_, state)| state.step);
        preflight::probe(&mut job, &mut gradients, &mut optimizer, done)?;
        let mut state =
            State { step: 0, config_hash: job.plan.config_hash(), training_loss: f64::NAN, seconds: 0.0, best: None };
        if let Some((path, saved)) = &found {
            checkpoint::restore(path, saved, &job.weights, &mut optimizer)?;
            state = saved.clone();
        }
        if !resume {
            job.folder.write_plan(&job.plan)?;
        }
        observer.planned(&job.plan);
        let resumed = found.map(|(_, state)| state.step);
        if resume && resumed.is_none() {
            Recorder::discard(&job.folder)?; // ended before its first checkpoint: everything begins again, its log too
        }
        let recorder = Recorder::open(&job.folder, resumed, observer)?;
        let seconds_before = state.seconds;
        let mut run = Self {
            job,
            recorder,
            optimizer,
            gradients,
            schedule,
            checkpoints,
            state,
            begin: Instant::now(),
            seconds_before,
        };
        run.announce(resumed.is_some(), damaged)?;
        Ok(run)
    }

    fn announce(&mut self, resumed: bool, damaged: Vec<String>) -> Result<()> {
        let plan = &self.job.plan;
        let planned = Planned {
            steps: plan.steps.total,
            epochs: plan.hyperparameters.epoch_count,
            records: plan.data.training.records,
            tokens: plan.data.training.tokens,
            target_tokens: plan.data.training.target_tokens,
            trainable_parameters: plan.trainable.parameters,
            device: plan.device.clone(),
            config_hash: plan.config_hash(),
        };
        let version = plan.engine_version.clone();
        if !resumed {
            self.recorder.write(Event::Planned(planned))?;
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

    /// Steps from where the state is to the plan's end.
    fn train(&mut self) -> Result<()> {
        let total = self.job.plan.steps.total;
        if self.state.step == 0 {
            self.validate()?; // the untouched base, for comparison
        }
        while self.state.step < total {
            self.step()?;
            let stop = self.recorder.observer.stop_requested() || self.job.folder.stop_requested();
            if self.due_validation() {
                self.validate()?;
            }
            if self.due_checkpoint() || stop || self.state.step == total {
                self.checkpoint()?;
            }
            if stop && self.state.step < total {
                self.recorder.write(Event::Interrupted { step: self.state.step })?;
                let job = self.job.plan.job_id.clone();
                return Err(TrainError::Interrupted { step: self.state.step, job });
            }
        }
        Ok(())
    }

    fn step(&mut self) -> Result<()> {
        let begin = Instant::now();
        let (batches, epoch) = self.job.micro_batches(self.state.step)?;
        let number = self.state.step + 1;
        if batches.iter().all(|batch| batch.targets.is_empty()) {
            self.state.step = number;
            return self.recorder.warn(format!("step {number} has no targets and was skipped"));
        }
        let settings = &self.job.plan.hyperparameters;
        let learning_rate = self.schedule.learning_rate(self.state.step);
        let sample = (self.state.step == 0).then(|| Sample::take(&self.optimizer.values(&self.job.weights)));
        let sample = sample.transpose()?;
        // ------------------------------------------------------------------------------------------------------------
        let result =
            step::gradient(&self.job.decoder, &batches, settings.clip_norm, self.job.recompute, &mut self.gradients)
                .map_err(|error| self.job.locate(error, number - 1))?;
        if sample.is_some() {
            coverage::check(&self.gradients)?;
        }
        self.optimizer.update(self.job.named_weights(), &self.gradients, learning_rate, result.clip_factor)?;
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

    fn due_checkpoint(&self) -> bool {
        let every = self.job.plan.hyperparameters.checkpoint_steps.unwrap_or(self.job.plan.steps.per_epoch);
        self.state.step.is_multiple_of(every)
    }

    /// Loss on every validation set: sum of the NLLs over the count of the targets, whatever the batches (R13).
    fn validate(&mut self) -> Result<()> {
        let step = self.state.step;
        let epoch = step.saturating_sub(1) / self.job.plan.steps.per_epoch;
        for set in 0..self.job.data.validation.len() {
            let (sum, count) = self.validation_loss(set)?;
            let loss = sum / count as f64;
            let event = Validation { step, epoch, set: set as u64, loss, perplexity: loss.exp(), target_tokens: count };
            self.recorder.write(Event::Validation(event))?;
            let better = self.state.best.is_none_or(|best| loss < best.validation_loss);
            if set == 0 && step > 0 && better {
                self.state.best = Some(Best { step, validation_loss: loss });
            }
        }
        Ok(())
    }

    fn validation_loss(&mut self, set: usize) -> Result<(f64, u64)> {
        let set = &self.job.data.validation[set];
        let total = outcrop_data::step_targets(&set.prepared.shard, &set.units);
        let laid_out = micro_batches(&set.prepared.shard, &set.units, self.job.plan.micro_batch_tokens as usize)?;
        let (mut sum, mut count) = (0f64, 0u64);
        for batch in &laid_out.batches {
            let nll = self.job.decoder.nll(&Row::new(batch.tokens.clone(), &batch.offsets)?, &batch.targets)?;
            sum += nll.iter().map(|&value| f64::from(value)).sum::<f64>();
            count += nll.len() as u64;
            self.recorder.observer.stage(Stage::Validating, count, total);
        }
        Ok((sum, count))
    }

    fn checkpoint(&mut self) -> Result<()> {
        let (checkpoints, base) = (self.checkpoints.clone(), self.job.plan.base.hash.clone());
        let (state, weights, optimizer) = (&self.state, &self.job.weights, &mut self.optimizer);
        let (name, bytes) = self.recorder.retry_when_full(|_| checkpoints.write(state, weights, optimizer, &base))?;
        let path = format!("checkpoints/{name}");
        self.recorder.write(Event::Checkpoint { step: self.state.step, path, bytes })?;
        let pinned: Vec<u64> = self.state.best.iter().map(|best| best.step).collect();
        self.checkpoints.prune(self.job.plan.hyperparameters.keep_checkpoints as usize, &pinned)?;
        Ok(())
    }

    fn finish_parts(&mut self) -> finish::Parts<'_, 'a> {
        let values = self.optimizer.values(&self.job.weights);
        finish::Parts { job: &mut self.job, recorder: &mut self.recorder, state: &self.state, values }
    }
}
