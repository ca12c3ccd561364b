//! How much the forgetting monitor looks: positions and interval by what a look was measured to cost, so that all looks
//! together take less than 3 % of the steps' time. A limit on forgetting decides what the result is, so with one the
//! sample and the interval follow from the request alone.

use outcrop_job::Hyperparameters;
use outcrop_job::plan::StepPlan;

/// Share of the steps' time that is planned for; the rest up to 3 % is for what a measurement is off by.
const SHARE: f64 = 0.02;
/// Fewest positions of a sample.
const FEWEST: u64 = 16;
/// Most looks beside those at the ends of the epochs, where the request doesn't say.
const MOST_BETWEEN: u64 = 24;

/// What was measured: seconds of a look over n positions are `fixed + each * n`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Cost {
    pub(crate) fixed: f64,
    pub(crate) each: f64,
    /// Seconds of all steps.
    pub(crate) steps: f64,
}

/// What is chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Choice {
    pub(crate) positions: u64,
    /// Steps between looks; there is always one at an epoch's end.
    pub(crate) every: u64,
    /// Looks of the run, the base's own included.
    pub(crate) looks: u64,
    /// Seconds of all looks over those of all steps.
    pub(crate) share: f64,
}

impl Cost {
    /// From two looks, over few and over many positions.
    pub(crate) fn measured((few, few_seconds): (u64, f64), (many, many_seconds): (u64, f64), steps: f64) -> Self {
        let each = ((many_seconds - few_seconds) / (many - few).max(1) as f64).max(0.0);
        Self { fixed: (few_seconds - each * few as f64).max(0.0), each, steps }
    }

    pub(crate) fn look(&self, positions: u64) -> f64 {
        self.fixed + self.each * positions as f64
    }
}

/// Chooses what the request leaves open, at most `most` positions.
pub(crate) fn choose(settings: &Hyperparameters, cost: &Cost, steps: StepPlan, most: u64) -> Choice {
    let looks = |every: u64| (1..=steps.total).filter(|step| is_due(*step, every, steps)).count() as u64 + 1;
    let (given, budget) = (settings.forgetting_every, SHARE * cost.steps);
    let by_epoch = given.unwrap_or(steps.per_epoch);
    let positions = match settings.forgetting_positions {
        Some(positions) => positions.min(most),
        None if settings.max_forgetting.is_some() => most,
        None => {
            let affordable = (budget / looks(by_epoch) as f64 - cost.fixed) / cost.each.max(1e-12);
            (affordable.clamp(0.0, most as f64) as u64 / FEWEST * FEWEST).max(FEWEST.min(most))
        }
    };
    let seconds = cost.look(positions).max(1e-9);
    let every = match given {
        Some(every) => every,
        None if settings.max_forgetting.is_some() => steps.per_epoch,
        None => {
            let between = ((budget / seconds) as u64).saturating_sub(looks(by_epoch)).min(MOST_BETWEEN);
            if between == 0 { steps.per_epoch } else { steps.total.div_ceil(between + 1).min(steps.per_epoch) }
        }
    };
    let looks = looks(every);
    Choice { positions, every, looks, share: looks as f64 * seconds / cost.steps.max(1e-9) }
}

/// Whether the monitor looks after step `step`.
pub(crate) fn is_due(step: u64, every: u64, steps: StepPlan) -> bool {
    step.is_multiple_of(every) || step.is_multiple_of(steps.per_epoch) || step == steps.total
}

#[cfg(test)]
mod tests {
    use super::*;
    use outcrop_job::CustomizationType;

    fn settings(change: impl FnOnce(&mut Hyperparameters)) -> Hyperparameters {
        let mut settings = Hyperparameters::defaults(CustomizationType::FineTuning);
        change(&mut settings);
        settings
    }

    const STEPS: StepPlan = StepPlan { per_epoch: 100, total: 500 };

    #[test]
    fn r32_all_looks_together_stay_under_three_percent_whatever_they_cost() {
        for steps in [10.0, 100.0, 10_000.0] {
            for (fixed, each) in [(0.0, 1e-4), (0.001, 1e-5), (0.0, 0.0), (0.01, 1e-3)] {
                let cost = Cost { fixed, each, steps };
                let choice = choose(&settings(|_| {}), &cost, STEPS, 256);
                assert!((FEWEST..=256).contains(&choice.positions) && choice.every <= 100, "{choice:?}");
                // but for the fewest positions at the epochs' ends alone, which is the least there is
                let least = 6.0 * cost.look(FEWEST) / steps;
                assert!(choice.share <= 0.03f64.max(least), "{cost:?} {choice:?}");
            }
        }
    }

    #[test]
    fn r32_what_is_cheap_is_looked_at_often_and_with_many_positions() {
        let choice = |each| choose(&settings(|_| {}), &Cost { fixed: 0.0, each, steps: 100.0 }, STEPS, 256);
        assert_eq!((choice(1e-6).positions, choice(1e-6).every), (256, 20));
        assert_eq!(
            (choice(1e-3).positions, choice(1e-3).every),
            (256, 100),
            "a larger sample before a shorter interval"
        );
        assert_eq!((choice(3e-3).positions, choice(3e-3).every), (96, 100));
        assert_eq!(choice(1.0).positions, FEWEST);
    }

    #[test]
    fn r34_r25_what_is_given_stays_and_with_a_limit_nothing_is_measured() {
        let cost = Cost { fixed: 0.0, each: 1.0, steps: 10.0 };
        let given = settings(|s| (s.forgetting_every, s.forgetting_positions) = (Some(7), Some(200)));
        let choice = choose(&given, &cost, STEPS, 256);
        assert_eq!((choice.positions, choice.every), (200, 7));
        assert_eq!(choice.looks, 1 + 500 / 7 + 5, "no step is both");
        let limited = settings(|s| s.max_forgetting = Some(0.1));
        for each in [1e-9, 1.0] {
            let choice = choose(&limited, &Cost { each, ..cost }, STEPS, 110);
            assert_eq!((choice.positions, choice.every), (110, 100));
        }
    }

    #[test]
    fn two_looks_give_the_cost_of_any() {
        let cost = Cost::measured((16, 0.3), (64, 0.9), 10.0);
        assert!((cost.look(16) - 0.3).abs() < 1e-12 && (cost.look(64) - 0.9).abs() < 1e-12);
        let noisy = Cost::measured((16, 0.3), (64, 0.2), 10.0);
        assert_eq!((noisy.fixed, noisy.each), (0.3, 0.0));
    }
}
