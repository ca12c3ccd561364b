//! The learning rate of a step: a pure function of its number; what is logged is what is used (R14).

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
}

impl Schedule {
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
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(kind: ScheduleKind, warmup_steps: u64) -> Vec<f64> {
        let schedule = Schedule { peak: 1.0, warmup_steps, total_steps: 6, kind };
        (0..6).map(|step| schedule.learning_rate(step)).collect()
    }

    #[test]
    fn r14_no_step_is_wasted_on_a_rate_of_zero() {
        for kind in [ScheduleKind::Constant, ScheduleKind::Linear, ScheduleKind::Cosine] {
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
    }
}
