//! When a run writes a checkpoint, and its writing.

use super::Run;
use crate::Result;
use outcrop_job::Event;
use std::time::{Duration, Instant};

/// Epochs that end sooner after a checkpoint write none, unless the request says where checkpoints are: what a kill
/// costs is at most this and an epoch, and a head's file of hundreds of megabytes takes longer than its short epoch.
const APART: Duration = Duration::from_secs(10);

/// What decides whether a step ends with a checkpoint.
struct Moment {
    /// Steps done.
    step: u64,
    per_epoch: u64,
    /// The request's `checkpointSteps`.
    asked: Option<u64>,
    /// Since the last checkpoint, or since the process began to train.
    since: Duration,
    /// Whether the run is asked to stop.
    stop: bool,
    /// Whether no step follows.
    last: bool,
    /// Whether another run goes on from here.
    fork: bool,
    /// Of a sweep's trial, see [`super::Course::sparing`].
    sparing: Option<Duration>,
}

impl Moment {
    fn is_due(&self) -> bool {
        let regular = self.step.is_multiple_of(self.asked.unwrap_or(self.per_epoch));
        match self.sparing {
            // a finished trial needs none, but the trial that goes on from it does
            Some(apart) => {
                (self.stop && !self.last)
                    || ((regular || self.fork) && self.since >= apart && (!self.last || self.fork))
            }
            None => self.stop || self.last || (regular && (self.asked.is_some() || self.since >= APART)),
        }
    }
}

impl Run<'_> {
    pub(super) fn due_checkpoint(&self, stop: bool) -> bool {
        let moment = Moment {
            step: self.state.step,
            per_epoch: self.job.plan.steps.per_epoch,
            asked: self.job.plan.hyperparameters.checkpoint_steps,
            since: self.last_checkpoint.elapsed(),
            stop,
            last: self.done(),
            fork: self.fork == Some(self.state.step),
            sparing: self.sparing.map(Duration::from_secs_f64),
        };
        self.state.watch.may_keep(&self.policy, self.state.step) || moment.is_due()
    }

    pub(super) fn checkpoint(&mut self) -> Result<()> {
        let (checkpoints, base) = (self.checkpoints.clone(), self.job.plan.base.hash.clone());
        let (state, weights, optimizer) = (&self.state, &self.job.weights, &mut self.optimizer);
        let (name, bytes) = self.recorder.retry_when_full(|_| checkpoints.write(state, weights, optimizer, &base))?;
        self.last_checkpoint = Instant::now();
        let path = format!("checkpoints/{name}");
        self.recorder.write(Event::Checkpoint { step: self.state.step, path, bytes })?;
        let pinned = self.state.watch.pinned();
        self.checkpoints.prune(self.job.plan.hyperparameters.keep_checkpoints as usize, &pinned)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The steps of 9 that end with a checkpoint, at a second a step.
    fn steps(settings: impl Fn(&mut Moment), seconds: u64) -> Vec<u64> {
        let mut last = 0;
        let due = (1..=9).filter(|&step| {
            let since = Duration::from_secs(seconds * (step - last));
            let mut moment = Moment {
                step,
                per_epoch: 3,
                asked: None,
                since,
                stop: false,
                last: step == 9,
                fork: false,
                sparing: None,
            };
            settings(&mut moment);
            if moment.is_due() {
                last = step;
            }
            moment.is_due()
        });
        due.collect()
    }

    #[test]
    fn r18_epochs_end_with_a_checkpoint_where_it_is_worth_its_time() {
        assert_eq!(steps(|_| {}, 4), [3, 6, 9]);
        assert_eq!(steps(|_| {}, 2), [6, 9]);
        assert_eq!(steps(|_| {}, 0), [9], "there is one at the end in any case");
    }

    #[test]
    fn r18_a_checkpoint_that_is_asked_for_is_written() {
        assert_eq!(steps(|moment| moment.asked = Some(4), 0), [4, 8, 9]);
        assert_eq!(steps(|moment| moment.stop = moment.step == 2, 0), [2, 9]);
    }

    #[test]
    fn a_trial_spares_them_unless_it_is_stopped_or_gone_on_from() {
        let spare = |moment: &mut Moment| moment.sparing = Some(Duration::from_secs(60));
        assert!(steps(spare, 6).is_empty());
        assert_eq!(steps(spare, 20), [3, 6]);
        let stopped = |moment: &mut Moment| {
            spare(moment);
            moment.stop = moment.step == 5;
        };
        assert_eq!(steps(stopped, 0), [5]);
        let gone_on_from = |moment: &mut Moment| {
            spare(moment);
            moment.fork = moment.step == 9;
        };
        assert_eq!(steps(gone_on_from, 20), [3, 6, 9]);
        assert!(steps(gone_on_from, 0).is_empty());
    }
}
