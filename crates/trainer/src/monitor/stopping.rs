//! When a run ends before its last step, and which of its steps becomes the model. Its state is part of every checkpoint,
//! so that a resumed run decides as one that never stopped (R26).

use crate::checkpoint::Best;
use outcrop_job::Hyperparameters;
use outcrop_job::event::StopCause;
use serde::{Deserialize, Serialize};

/// What ends a run early, by its settings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Policy {
    /// Threshold in nats and patience in validations.
    early_stopping: Option<(f64, u64)>,
    /// Nats per token by which the NLL on general text may rise.
    max_forgetting: Option<f64>,
}

/// Where the watch over a run stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Watch {
    /// Step of the lowest validation loss so far, and that loss.
    pub best: Option<Best>,
    /// The validation loss that the next one is compared with: the last that counted as better.
    reference: Option<f64>,
    /// Validations since then.
    stale: u64,
    /// The last look that was within the limit on forgetting, where there is one.
    pub within: Option<u64>,
    /// What the look that wasn't saw, in words.
    exceeded: Option<String>,
    /// Why the run ends before its last step, where it does.
    pub stopped: Option<Stopped>,
}

/// The end of a run before its last step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stopped {
    /// Which setting.
    pub cause: StopCause,
    /// One line.
    pub message: String,
}

/// What becomes the model at the end of a run.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Keep {
    /// The weights as they are.
    Last,
    /// Those of an earlier step, and why.
    Step { step: u64, validation_loss: Option<f64>, message: String },
    /// Nothing that the settings allow: why.
    Nothing(String),
}

impl Policy {
    pub(crate) fn new(settings: &Hyperparameters) -> Self {
        Self { early_stopping: settings.early_stopping(), max_forgetting: settings.max_forgetting }
    }
}

impl Watch {
    /// Takes the loss on the first validation set after step `step`; the run may end here where that isn't its last.
    pub(crate) fn validated(&mut self, policy: &Policy, step: u64, loss: f64, last: bool) {
        // not a number is better than nothing else, and nothing is worse than it
        if loss.is_finite() && self.exceeded.is_none() && self.best.is_none_or(|best| loss < best.validation_loss) {
            self.best = Some(Best { step, validation_loss: loss });
        }
        let Some((threshold, patience)) = policy.early_stopping else { return };
        match self.reference {
            Some(reference) if loss < reference - threshold => (self.reference, self.stale) = (Some(loss), 0),
            None if loss.is_finite() => (self.reference, self.stale) = (Some(loss), 0),
            _ => self.stale += 1,
        }
        if self.stale >= patience && !last && self.stopped.is_none() {
            let below = match self.reference {
                Some(reference) => format!("{threshold} nats below {reference:.4}"),
                None => "finite".to_string(),
            };
            let validations = if patience == 1 { "validation".to_string() } else { format!("{patience} validations") };
            let message = format!("early stopping after step {step}: {validations} without a loss that is {below}");
            self.stopped = Some(Stopped { cause: StopCause::EarlyStopping, message });
        }
    }

    /// Takes the rise of the NLL on general text, nats per token, after step `step`, before that step is validated. A
    /// rise that is no number is beyond every limit.
    pub(crate) fn looked(&mut self, policy: &Policy, step: u64, rise: f64, last: bool) {
        let Some(limit) = policy.max_forgetting else { return };
        if rise <= limit {
            self.within = Some(step);
            return;
        }
        let message =
            format!("after step {step} general text costs {rise:+.4} nats per token, maxForgetting is {limit}");
        self.exceeded = Some(message.clone());
        if !last && self.stopped.is_none() {
            self.stopped = Some(Stopped { cause: StopCause::MaxForgetting, message });
        }
    }

    /// Whether the model may be that of this step at the end, so that its checkpoint must be there.
    pub(crate) fn may_keep(&self, policy: &Policy, step: u64) -> bool {
        let watched = policy.early_stopping.is_some() || policy.max_forgetting.is_some();
        watched && (self.within == Some(step) || self.best.is_some_and(|best| best.step == step))
    }

    /// Steps whose checkpoints aren't deleted.
    pub(crate) fn pinned(&self) -> Vec<u64> {
        self.best.iter().map(|best| best.step).chain(self.within).collect()
    }

    /// What becomes the model of a run whose last step is `last`: where it forgot too much, the lowest validation loss
    /// within the limit, or without validation the last look within it; with early stopping the lowest validation loss.
    pub(crate) fn keep(&self, policy: &Policy, last: u64) -> Keep {
        let limited = if self.exceeded.is_some() { " of those within maxForgetting" } else { "" };
        match (self.best, &self.exceeded) {
            (Some(best), exceeded) if exceeded.is_some() || policy.early_stopping.is_some() => {
                let Best { step, validation_loss } = best;
                if step == last {
                    return Keep::Last;
                }
                let message = format!(
                    "the model is that of step {step}, which has the lowest validation loss{limited}, {validation_loss:.4}"
                );
                Keep::Step { step, validation_loss: Some(validation_loss), message }
            }
            (None, Some(exceeded)) => match self.within {
                Some(step) => {
                    let message = format!("the model is that of step {step}, the last within maxForgetting");
                    Keep::Step { step, validation_loss: None, message }
                }
                None => Keep::Nothing(format!(
                    "{exceeded}, and no earlier look was within it; lower learningRate, or look earlier with forgettingEvery"
                )),
            },
            _ => Keep::Last,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(threshold: f64, patience: u64) -> Policy {
        Policy { early_stopping: Some((threshold, patience)), max_forgetting: None }
    }

    fn step_of(keep: Keep) -> Option<u64> {
        match keep {
            Keep::Step { step, .. } => Some(step),
            Keep::Last => None,
            Keep::Nothing(message) => panic!("{message}"),
        }
    }

    /// The step after which these losses, one a step, end a run, and the step that is kept.
    fn ends(policy: &Policy, losses: &[f64]) -> (Option<u64>, Option<u64>) {
        let (mut watch, total) = (Watch::default(), losses.len() as u64);
        for (step, loss) in (1..).zip(losses) {
            watch.validated(policy, step, *loss, step == total);
            if watch.stopped.is_some() {
                return (Some(step), step_of(watch.keep(policy, step)));
            }
        }
        (None, step_of(watch.keep(policy, total)))
    }

    #[test]
    fn r34_the_run_ends_when_patience_does_and_the_lowest_loss_is_kept() {
        assert_eq!(ends(&policy(0.0, 2), &[3.0, 2.0, 2.1, 2.2, 1.0]), (Some(4), Some(2)));
        assert_eq!(ends(&policy(0.0, 3), &[3.0, 2.0, 2.1, 2.2, 1.0]), (None, None), "the last is the best");
        assert_eq!(ends(&policy(0.0, 1), &[3.0, 2.0, 2.0, 1.0]), (Some(3), Some(2)), "equal isn't better");
        assert_eq!(ends(&policy(0.0, 1), &[2.0, 3.0]), (None, Some(1)), "its last step is no early end");
    }

    #[test]
    fn r34_the_threshold_is_what_counts_as_better_and_small_steps_add_up() {
        let falling = [3.0, 2.99, 2.98, 2.97, 2.96, 2.95];
        assert_eq!(ends(&policy(0.001, 2), &falling), (None, None));
        assert_eq!(ends(&policy(0.1, 2), &falling), (Some(3), None), "kept is the lowest, which is the last");
        assert_eq!(ends(&policy(0.015, 2), &falling), (None, None), "two steps are one improvement");
        assert_eq!(ends(&policy(0.1, 3), &[3.0, 2.95, 2.96, 2.97]), (None, Some(2)), "too little to count, yet lowest");
    }

    #[test]
    fn r12_a_loss_that_is_no_number_is_never_best_and_never_better() {
        let nan = f64::NAN;
        assert_eq!(ends(&policy(0.0, 2), &[nan, nan, 1.0]), (Some(2), None));
        assert_eq!(
            ends(&policy(0.0, 2), &[nan, 2.0, nan, 2.5, 2.4]),
            (Some(4), Some(2)),
            "a first number counts as better"
        );
        assert_eq!(ends(&policy(0.0, 2), &[2.0, nan, 1.0, nan, 3.0]), (None, Some(3)));
    }

    #[test]
    fn without_the_setting_nothing_ends_and_the_last_is_kept() {
        let policy = Policy { early_stopping: None, max_forgetting: None };
        assert_eq!(ends(&policy, &[1.0, 2.0, 3.0]), (None, None));
        let mut watch = Watch::default();
        watch.looked(&policy, 1, 9.0, false);
        assert_eq!(watch, Watch::default());
    }

    /// A run of rises, one a step, with validation losses where there are some; its end and what is kept.
    fn forgets(
        rises: &[f64],
        losses: &[(u64, f64)],
        early_stopping: Option<(f64, u64)>,
    ) -> (u64, Option<StopCause>, Keep) {
        let policy = Policy { early_stopping, max_forgetting: Some(0.1) };
        let (mut watch, total) = (Watch::default(), rises.len() as u64);
        let mut last = 0;
        for (step, rise) in (1..).zip(rises) {
            last = step;
            watch.looked(&policy, step, *rise, step == total);
            if let Some((_, loss)) = losses.iter().find(|(at, _)| *at == step) {
                watch.validated(&policy, step, *loss, step == total);
            }
            assert_eq!(watch.may_keep(&policy, step), *rise <= 0.1 || watch.best.is_some_and(|best| best.step == step));
            if watch.stopped.is_some() {
                break;
            }
        }
        (last, watch.stopped.clone().map(|stopped| stopped.cause), watch.keep(&policy, last))
    }

    #[test]
    fn r32_r19_the_limit_on_forgetting_ends_the_run_and_what_is_kept_is_within_it() {
        let kept = |rises: &[f64], losses: &[(u64, f64)]| {
            let (last, cause, keep) = forgets(rises, losses, None);
            (last, cause, step_of(keep))
        };
        let stopped = Some(StopCause::MaxForgetting);
        assert_eq!(kept(&[0.0, 0.05, 0.2, 0.0], &[]), (3, stopped, Some(2)), "the last within the limit");
        assert_eq!(kept(&[0.0, 0.1, 0.1, 0.0], &[]), (4, None, None), "the limit itself is within");
        assert_eq!(
            kept(&[0.0, 0.05, 0.2], &[]),
            (3, None, Some(2)),
            "at its last step the run is over, the model not kept"
        );
        assert_eq!(kept(&[0.0, f64::NAN, 0.0], &[]), (2, stopped, Some(1)), "what is no number is beyond (R12)");
        let losses = [(1, 2.0), (2, 3.0), (3, 1.0)];
        assert_eq!(
            kept(&[0.0, 0.05, 0.2, 0.0], &losses),
            (3, stopped, Some(1)),
            "the best within, not the best of all"
        );
        assert_eq!(kept(&[0.0, 0.05, 0.09, 0.0], &losses), (4, None, None), "within to the end: the last is the model");
        assert_eq!(kept(&[0.0, 0.2], &[(2, 1.0)]), (2, None, Some(1)), "no validation within: the last look within");
    }

    #[test]
    fn r32_where_nothing_is_within_the_limit_the_run_says_so() {
        let (last, cause, keep) = forgets(&[0.2, 0.0], &[(1, 1.0)], None);
        assert_eq!((last, cause), (1, Some(StopCause::MaxForgetting)));
        let Keep::Nothing(message) = keep else { panic!("{keep:?}") };
        let expected = "after step 1 general text costs +0.2000 nats per token, maxForgetting is 0.1, and no earlier look was within it";
        assert!(message.starts_with(expected), "{message}");
    }

    #[test]
    fn early_stopping_and_the_limit_work_together() {
        let losses = [(1, 2.0), (2, 2.1), (3, 1.0)];
        let (last, cause, keep) = forgets(&[0.0; 3], &losses, Some((0.0, 1)));
        assert_eq!((last, cause, step_of(keep)), (2, Some(StopCause::EarlyStopping), Some(1)));
        let (last, cause, keep) = forgets(&[0.0, 0.2, 0.0], &losses, Some((0.0, 1)));
        assert_eq!((last, cause, step_of(keep)), (2, Some(StopCause::MaxForgetting), Some(1)));
    }
}
