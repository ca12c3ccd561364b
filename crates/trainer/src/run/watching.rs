//! What a run does between its steps: validation, looks at forgetting, sample answers, and at its end the choice of what is
//! kept. What they compute is in `monitor`; when they are due is in the loop.

use super::Run;
use crate::checkpoint::{self, State};
use crate::monitor::stopping::{Keep, Stopped};
use crate::monitor::validation;
use crate::{Result, TrainError};
use outcrop_job::event::{Event, Validation};

impl Run<'_> {
    /// Loss on every validation set: sum of the NLLs over the count of the targets, whatever the batches (R13).
    pub(super) fn validate(&mut self) -> Result<()> {
        let step = self.state.step;
        let epoch = step.saturating_sub(1) / self.job.plan.steps.per_epoch;
        for set in 0..self.job.data.validation.len() {
            let features = self.features.get(set + 1);
            let pass = validation::pass(self.job, features, set, self.recorder.observer)?;
            let loss = pass.sum / pass.count as f64;
            let (set, target_tokens) = (set as u64, pass.count);
            let event = Validation { step, epoch, set, loss, perplexity: loss.exp(), target_tokens };
            self.recorder.write(Event::Validation(event))?;
            if set == 0 {
                self.items = pass.items;
                if step > 0 {
                    let last = step == self.job.plan.steps.total;
                    self.state.watch.validated(&self.policy, step, loss, last);
                }
            }
        }
        Ok(())
    }

    /// How far the model is from its base on general text, where that is watched.
    pub(super) fn look(&mut self) -> Result<()> {
        let Some(monitor) = &self.monitor else { return Ok(()) };
        let step = self.state.step;
        let seen = monitor.look(self.job, step)?;
        let rise = seen.nll - seen.nll_base;
        self.recorder.write(Event::Monitor(seen))?;
        if step > 0 {
            self.state.watch.looked(&self.policy, step, rise, step == self.job.plan.steps.total);
        }
        Ok(())
    }

    /// What the model answers to the fixed prompts. That it can't is no reason to end a run.
    pub(super) fn answer(&mut self) -> Result<()> {
        let Some(generations) = &self.generations else { return Ok(()) };
        let (step, per_epoch) = (self.state.step, self.job.plan.steps.per_epoch);
        match generations.answer(self.job, step, step.saturating_sub(1) / per_epoch) {
            Ok(Some(samples)) => self.recorder.write(Event::Samples(samples)),
            Ok(None) => Ok(()),
            Err(error) => self.recorder.warn(format!("no sample answers after step {step}: {error}")),
        }
    }

    /// Says why the run ended where it is not its last step, and puts the model that is kept in place.
    /// Errors: its checkpoint is gone or damaged; no step may become the model.
    pub(super) fn keep(&mut self) -> Result<()> {
        let last_step = self.state.step;
        if let Some(Stopped { cause, message }) = self.state.watch.stopped.clone() {
            self.recorder.write(Event::StoppedEarly { step: last_step, cause, message })?;
        }
        let (step, validation_loss, message) = match self.state.watch.keep(&self.policy, last_step) {
            Keep::Last => return Ok(()),
            Keep::Nothing(message) => return Err(TrainError::Plan(message)),
            Keep::Step { step, validation_loss, message } => (step, validation_loss, message),
        };
        let Some((path, saved)) = self.checkpoints.of_step(step)? else {
            let message = format!(
                "the checkpoint of step {step}, whose model was to be kept, is gone or damaged; run the job again"
            );
            return Err(TrainError::Checkpoint { path: self.job.folder.checkpoints_dir(), message });
        };
        checkpoint::restore(&path, &saved, &self.job.weights, &mut self.optimizer)?;
        self.state = State { seconds: self.state.seconds, ..saved };
        self.recorder.write(Event::Kept { kept_step: step, last_step, validation_loss, message })
    }
}
