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

/// The step that becomes the model though the run went on behind it, and why.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Keep {
    pub(crate) step: u64,
    pub(crate) validation_loss: Option<f64>,
    pub(crate) message: String,
}

impl Policy {
    pub(crate) fn new(settings: &Hyperparameters) -> Self {
        Self { early_stopping: settings.early_stopping() }
    }

    /// Whether the checkpoint of a best step must be there at the end.
    pub(crate) fn keeps_best(&self) -> bool {
        self.early_stopping.is_some()
    }
}

impl Watch {
    /// Takes the loss on the first validation set after step `step`; the run may end here where that isn't its last.
    pub(crate) fn validated(&mut self, policy: &Policy, step: u64, loss: f64, last: bool) {
        // not a number is better than nothing else, and nothing is worse than it
        if loss.is_finite() && self.best.is_none_or(|best| loss < best.validation_loss) {
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

    /// Which step becomes the model where it isn't the last one, `last`.
    pub(crate) fn keep(&self, policy: &Policy, last: u64) -> Option<Keep> {
        let best = self.best.filter(|best| policy.keeps_best() && best.step != last)?;
        let Best { step, validation_loss } = best;
        let message =
            format!("the model is that of step {step}, which has the lowest validation loss, {validation_loss:.4}");
        Some(Keep { step, validation_loss: Some(validation_loss), message })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(threshold: f64, patience: u64) -> Policy {
        Policy { early_stopping: Some((threshold, patience)) }
    }

    /// The step after which these losses, one a step, end a run, and the step that is kept.
    fn ends(policy: &Policy, losses: &[f64]) -> (Option<u64>, Option<u64>) {
        let (mut watch, total) = (Watch::default(), losses.len() as u64);
        for (step, loss) in (1..).zip(losses) {
            watch.validated(policy, step, *loss, step == total);
            if watch.stopped.is_some() {
                return (Some(step), watch.keep(policy, step).map(|keep| keep.step));
            }
        }
        (None, watch.keep(policy, total).map(|keep| keep.step))
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
        assert_eq!(ends(&Policy { early_stopping: None }, &[1.0, 2.0, 3.0]), (None, None));
    }
}
