//! Measures as rows of a page: their numbers as text, and their difference drawn.

use crate::pages::bars::{Bar, Tone, end, interval_bar};
use outcrop_eval::SuiteComparison;
use outcrop_eval::comparison::Verdict;
use outcrop_eval::measures::Measure;
use outcrop_eval::report;
use outcrop_eval::statistics::Interval;
use outcrop_eval::verdict::{GeneralVerdict, TaskVerdict};
use serde::Serialize;

/// A measure as a row.
#[derive(Serialize)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) base: String,
    pub(super) tuned: String,
    pub(super) difference: String,
    pub(super) interval: String,
    bar: Option<String>,
    tone: &'static str,
}

/// The measures of a suite, each on a scale of its own.
pub(super) fn rows(suite: &SuiteComparison) -> Vec<Row> {
    (0..suite.measures.len()).map(|index| row(suite, index, reach(suite, index))).collect()
}

/// A measure of a suite, drawn on a scale that ends at `end`.
pub(super) fn row(suite: &SuiteComparison, index: usize, end: f64) -> Row {
    let measure = &suite.measures[index];
    let [name, base, tuned, difference, interval] = report::cells(measure);
    let (gain, gain_interval) = oriented(measure);
    // a general suite is judged by its margin, not by zero, and by its first measure alone
    let tone = match (suite.margin, index) {
        (None, _) => Tone::of(gain_interval),
        (Some(_), 0) => tone(suite),
        (Some(_), _) => Tone::Open,
    };
    let label = format!("{name}: {difference} {}", interval.trim_start_matches('-'));
    let margin = margin(suite, index);
    let bar = interval_bar(&Bar { gain, interval: gain_interval, margin, tone, end, name: label.trim_end() });
    Row { name, base, tuned, difference, interval, bar, tone: tone.class() }
}

/// The least end of a scale that a measure of a suite fits on.
pub(super) fn reach(suite: &SuiteComparison, index: usize) -> f64 {
    let (gain, interval) = oriented(&suite.measures[index]);
    end(gain, interval, margin(suite, index))
}

/// The margin belongs to the first measure.
fn margin(suite: &SuiteComparison, index: usize) -> Option<f64> {
    suite.margin.filter(|_| index == 0)
}

/// The difference as a gain, above zero where the tuned model is better.
fn oriented(measure: &Measure) -> (f64, Option<Interval>) {
    let difference = measure.difference;
    if measure.kind.higher_is_better() {
        return (difference.value, difference.interval);
    }
    (-difference.value, difference.interval.map(|interval| Interval { low: -interval.high, high: -interval.low }))
}

/// What a verdict means for its reader.
pub(super) fn tone(suite: &SuiteComparison) -> Tone {
    match suite.verdict {
        Verdict::Task(TaskVerdict::Better) | Verdict::General(GeneralVerdict::NoForgettingShown) => Tone::Good,
        Verdict::Task(TaskVerdict::Worse) | Verdict::General(GeneralVerdict::Forgot) => Tone::Bad,
        Verdict::Task(TaskVerdict::NoDifferenceShown) | Verdict::General(GeneralVerdict::CannotTell { .. }) => {
            Tone::Open
        }
    }
}
