//! What the numbers of a suite allow one to say: better, worse or no difference shown on a task; no forgetting shown,
//! forgot or cannot tell on a general suite. Gains are oriented: above zero means that the tuned model is better,
//! whatever the measure.

use serde::{Deserialize, Serialize};

use crate::statistics::{Interval, normal_quantile};

/// Two-sided level of every verdict; a one-sided claim uses half of it.
pub const LEVEL: f64 = 0.05;
/// Chance that a suite of the size named by [`items_needed`] tells a model without change from one that lost the
/// margin.
const POWER: f64 = 0.8;

/// Verdict on a task suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskVerdict {
    /// The tuned model is better than its base.
    Better,
    /// The tuned model is worse than its base.
    Worse,
    /// Neither can be claimed; that is no proof of equality.
    NoDifferenceShown,
}

/// Verdict on a general suite, by non-inferiority with a margin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GeneralVerdict {
    /// A loss as large as the margin is ruled out.
    NoForgettingShown,
    /// The loss is larger than the margin.
    Forgot,
    /// The interval holds the margin, or the suite has nothing to say about forgetting.
    CannotTell {
        /// About how many items of this kind would tell; `None` where no number of them would, or where no spread could
        /// be estimated.
        needed: Option<usize>,
    },
}

/// Better or worse only where the whole interval lies on one side of zero and `p_value` (two-sided, after Holm's
/// correction over the task suites) is below [`LEVEL`].
#[must_use]
pub fn task_verdict(gain: Option<Interval>, p_value: Option<f64>) -> TaskVerdict {
    let significant = p_value.is_some_and(|p_value| p_value < LEVEL);
    match gain {
        Some(gain) if significant && gain.low > 0.0 => TaskVerdict::Better,
        Some(gain) if significant && gain.high < 0.0 => TaskVerdict::Worse,
        _ => TaskVerdict::NoDifferenceShown,
    }
}

/// No forgetting where the whole interval lies above `-margin`; forgot where it lies below and `p_value` (one-sided
/// against `-margin`, after Holm's correction over the general suites) is below half of [`LEVEL`]; else cannot tell,
/// passing `needed` on.
#[must_use]
pub fn general_verdict(
    gain: Option<Interval>,
    p_value: Option<f64>,
    margin: f64,
    needed: Option<usize>,
) -> GeneralVerdict {
    let significant = p_value.is_some_and(|p_value| p_value < LEVEL / 2.0);
    match gain {
        Some(gain) if gain.low > -margin => GeneralVerdict::NoForgettingShown,
        Some(gain) if significant && gain.high < -margin => GeneralVerdict::Forgot,
        _ => GeneralVerdict::CannotTell { needed },
    }
}

/// About how many items would decide, given the interval that `items` gave: enough to tell a true gain of zero from a
/// loss of `margin` with 80 % power; where there are that many already, enough for the interval around the observed
/// gain to clear the margin. `None` where no number would: an interval without width, or one with the margin right at
/// its middle.
#[must_use]
pub fn items_needed(items: usize, gain: Interval, margin: f64) -> Option<usize> {
    let quantile = normal_quantile(1.0 - LEVEL / 2.0);
    let (half, middle) = ((gain.high - gain.low) / 2.0, (gain.high + gain.low) / 2.0);
    let scaled = |distance: f64, factor: f64| (items as f64 * (factor * half / distance).powi(2)).ceil();
    let by_power = scaled(margin, (quantile + normal_quantile(POWER)) / quantile);
    let needed = if by_power > items as f64 { by_power } else { scaled(middle + margin, 1.0).max(items as f64 + 1.0) };
    // Beyond a thousand million nobody will write the items: the gain is at the margin.
    (half > 0.0 && needed <= 1e9).then_some(needed as usize)
}

/// The base answers no better than by chance: its accuracy lies within two standard errors of `chance` or below it, so
/// that the suite says nothing about what it may have forgotten.
#[must_use]
pub fn at_chance(base_accuracy: f64, chance: f64, items: usize) -> bool {
    let standard_error = (chance * (1.0 - chance) / items.max(1) as f64).sqrt();
    base_accuracy <= chance + 2.0 * standard_error
}

/// The base already answers nearly all items: its accuracy lies within two standard errors of 1, so that the suite has
/// hardly room to show a gain. The standard error is Agresti and Coull's, which doesn't vanish at 1.
#[must_use]
pub fn at_ceiling(base_accuracy: f64, items: usize) -> bool {
    let total = items as f64 + 4.0;
    let share = (base_accuracy * items as f64 + 2.0) / total;
    1.0 - base_accuracy <= 2.0 * (share * (1.0 - share) / total).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval(low: f64, high: f64) -> Option<Interval> {
        Some(Interval { low, high })
    }

    #[test]
    fn r32_a_task_verdict_needs_both_the_interval_and_the_p_value() {
        assert_eq!(task_verdict(interval(0.1, 0.3), Some(0.01)), TaskVerdict::Better);
        assert_eq!(task_verdict(interval(-0.3, -0.1), Some(0.01)), TaskVerdict::Worse);
        for (gain, p_value) in [
            (interval(0.1, 0.3), Some(0.06)),
            (interval(-0.3, -0.1), Some(0.05)),
            (interval(-0.1, 0.3), Some(0.01)),
            (interval(0.0, 0.0), Some(1.0)),
            (None, Some(0.0)),
            (interval(0.1, 0.3), None),
        ] {
            assert_eq!(task_verdict(gain, p_value), TaskVerdict::NoDifferenceShown);
        }
    }

    #[test]
    fn r32_forgetting_is_judged_against_the_margin_not_against_zero() {
        let verdict = |gain, p_value| general_verdict(gain, p_value, 0.01, Some(900));
        assert_eq!(verdict(interval(-0.009, -0.001), Some(0.9)), GeneralVerdict::NoForgettingShown);
        assert_eq!(verdict(interval(-0.05, -0.02), Some(0.001)), GeneralVerdict::Forgot);
        let open = GeneralVerdict::CannotTell { needed: Some(900) };
        assert_eq!(verdict(interval(-0.05, -0.02), Some(0.03)), open);
        assert_eq!(verdict(interval(-0.05, 0.02), Some(0.3)), open);
        assert_eq!(verdict(interval(-0.01, 0.02), Some(0.3)), open);
        assert_eq!(verdict(None, None), open);
    }

    #[test]
    fn items_needed_is_the_usual_sample_size_of_a_non_inferiority_trial() {
        let around = |middle: f64, standard_error: f64| {
            let half = 1.959963984540054 * standard_error;
            Interval { low: middle - half, high: middle + half }
        };
        // ((1.959964 + 0.841621) * 0.02 / 0.01)^2 * 100 = 3139.55
        assert_eq!(items_needed(100, around(0.0, 0.02), 0.01), Some(3140));
        // Enough by power (7.8 < 100), gain near the margin: (1.959964 * 0.001 / 0.0005)^2 * 100 = 1536.6
        assert_eq!(items_needed(100, around(-0.0095, 0.001), 0.01), Some(1537));
        assert_eq!(items_needed(100, around(-0.01, 0.001), 0.01), None);
        assert_eq!(items_needed(100, around(-0.01, 0.0), 0.01), None);
    }

    #[test]
    fn floor_and_ceiling_are_two_standard_errors_wide() {
        // chance 0.25, 168 items: 2 SE = 0.0668
        assert!(at_chance(0.31, 0.25, 168));
        assert!(!at_chance(0.32, 0.25, 168));
        assert!(at_chance(0.1, 0.25, 168));
        assert!(at_ceiling(1.0, 168));
        assert!(!at_ceiling(0.96, 168));
    }
}
