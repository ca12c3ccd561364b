//! The learning rate of a step: a pure function of its number; what is logged is what is used (R14).

use outcrop_job::Hyperparameters;
use outcrop_job::hyperparameters::Schedule as ScheduleKind;

/// Warm-up, then a shape. Steps count from 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// The rate that warm-up ends at.
    pub peak: f64,
    /// Steps of the linear ramp; its first step already has `peak / warmup_steps`.
    pub warmup_steps: u64,
    /// Steps of the whole run.
    pub total_steps: u64,
    /// What follows the ramp.
    pub kind: ScheduleKind,
    /// Share of the run's steps, above 0 up to 1, over which `wsd` falls; the others don't read it.
    pub decay_fraction: f64,
}

impl Schedule {
    /// The schedule of a run of `total_steps`.
    pub fn new(settings: &Hyperparameters, total_steps: u64) -> Self {
        Self {
            peak: settings.learning_rate,
            warmup_steps: settings.learning_rate_warmup_steps,
            total_steps,
            kind: settings.schedule,
            decay_fraction: settings.decay_fraction,
        }
    }

    /// The rate of step `step` (from 0). The step behind the ramp has the peak; zero is never reached within the run.
    pub fn learning_rate(&self, step: u64) -> f64 {
        if step < self.warmup_steps {
            return self.peak * (step + 1) as f64 / self.warmup_steps as f64;
        }
        let span = self.total_steps.saturating_sub(self.warmup_steps).max(1) as f64;
        let progress = (step - self.warmup_steps) as f64 / span;
        match self.kind {
            ScheduleKind::Constant => self.peak,
            ScheduleKind::Linear => self.peak * (1.0 - progress).max(0.0),
            ScheduleKind::Cosine => self.peak * 0.5 * (1.0 + (std::f64::consts::PI * progress.min(1.0)).cos()),
            ScheduleKind::Wsd if step < self.decay_start() => self.peak,
            // as the line of `linear`: the first step of the decay still has the peak
            ScheduleKind::Wsd => {
                let (left, span) = (self.total_steps.saturating_sub(step), self.total_steps - self.decay_start());
                self.peak * left as f64 / span.max(1) as f64
            }
        }
    }

    /// Steps at the beginning whose rates are the same in a longer run of the same settings: a run of them is a prefix
    /// of that longer one. 0 where every rate depends on the run's length.
    pub fn shared_steps(&self) -> u64 {
        match self.kind {
            ScheduleKind::Constant => self.total_steps,
            ScheduleKind::Wsd => self.decay_start(),
            ScheduleKind::Linear | ScheduleKind::Cosine => 0,
        }
    }

    /// The first step (from 0) of `wsd`'s decay, which never begins within the warm-up.
    /// Source: Hu et al. 2024 (MiniCPM), arXiv:2404.06395; Hägele et al. 2024, arXiv:2405.18392.
    fn decay_start(&self) -> u64 {
        let decay = (self.total_steps as f64 * self.decay_fraction).ceil() as u64;
        self.total_steps.saturating_sub(decay.max(1)).max(self.warmup_steps).min(self.total_steps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [ScheduleKind; 4] =
        [ScheduleKind::Constant, ScheduleKind::Linear, ScheduleKind::Cosine, ScheduleKind::Wsd];

    fn schedule(kind: ScheduleKind, warmup_steps: u64, total_steps: u64) -> Schedule {
        Schedule { peak: 1.0, warmup_steps, total_steps, kind, decay_fraction: 0.5 }
    }

    fn rates(kind: ScheduleKind, warmup_steps: u64) -> Vec<f64> {
        (0..6).map(|step| schedule(kind, warmup_steps, 6).learning_rate(step)).collect()
    }

    #[test]
    fn r14_no_step_is_wasted_on_a_rate_of_zero() {
        for kind in KINDS {
            for warmup in [0, 1, 3, 6, 250] {
                assert!(rates(kind, warmup).iter().all(|rate| *rate > 0.0), "{kind:?} {warmup}");
            }
        }
    }

    #[test]
    fn each_shape_has_its_values() {
        assert_eq!(rates(ScheduleKind::Constant, 2), [0.5, 1.0, 1.0, 1.0, 1.0, 1.0]);
        assert_eq!(rates(ScheduleKind::Linear, 2), [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]);
        let cosine = rates(ScheduleKind::Cosine, 2);
        assert_eq!(cosine[2], 1.0);
        assert!((cosine[4] - 0.5).abs() < 1e-12);
        assert_eq!(rates(ScheduleKind::Wsd, 2), [0.5, 1.0, 1.0, 1.0, 2.0 / 3.0, 1.0 / 3.0]);
        assert_eq!(rates(ScheduleKind::Wsd, 5), [0.2, 0.4, 0.6, 0.8, 1.0, 1.0], "the decay waits for the warm-up");
        let whole = Schedule { decay_fraction: 1.0, ..schedule(ScheduleKind::Wsd, 0, 4) };
        assert_eq!([0, 1, 2, 3].map(|step| whole.learning_rate(step)), [1.0, 0.75, 0.5, 0.25]);
    }

    #[test]
    fn a_longer_run_begins_with_the_shared_steps_and_no_more() {
        for kind in KINDS {
            for (warmup, short, long) in [(0, 4, 9), (3, 4, 9), (2, 10, 11), (5, 5, 7), (9, 3, 30)] {
                let (one, other) = (schedule(kind, warmup, short), schedule(kind, warmup, long));
                let shared = one.shared_steps();
                assert!(shared <= short && shared <= other.shared_steps(), "{kind:?} {warmup} {short} {long}");
                for step in 0..shared {
                    assert_eq!(
                        one.learning_rate(step).to_bits(),
                        other.learning_rate(step).to_bits(),
                        "{kind:?} {step}"
                    );
                }
            }
        }
        assert_eq!(schedule(ScheduleKind::Constant, 2, 6).shared_steps(), 6);
        assert_eq!(schedule(ScheduleKind::Wsd, 2, 6).shared_steps(), 3);
        assert_eq!(schedule(ScheduleKind::Linear, 2, 6).shared_steps(), 0);
    }
}
