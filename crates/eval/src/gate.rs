//! Whether a comparison passes a gate. A condition is held to the lower end of the 95 % interval of the gain in a
//! suite's first measure, the one that decides its verdict: a gain that could be chance passes nothing, and
//! `general>-0.01` asks what non-inferiority with a margin of 0.01 asks (R32).

use outcrop_job::gate::{Condition, Gate};

use crate::comparison::{Comparison, SuiteComparison};
use crate::error::EvalError;
use crate::statistics::Interval;
use crate::suite::Suite;

/// Errors: a gate that names no suite of these; said before anything is trained or scored.
pub fn check_gate(gate: &Gate, task: &[Suite], general: &[Suite]) -> Result<(), EvalError> {
    let names: Vec<&str> = task.iter().chain(general).map(|suite| suite.name.as_str()).collect();
    for condition in gate.conditions() {
        let (known, missing) = match condition.suites.as_str() {
            "task" => (!task.is_empty(), "there is no task suite".to_owned()),
            "general" => (!general.is_empty(), "there is no general suite".to_owned()),
            name => (names.contains(&name), format!("no suite is named `{name}`, only {}", listed(&names))),
        };
        if !known {
            return Err(EvalError::Gate(format!("`{condition}`: {missing}")));
        }
    }
    Ok(())
}

fn listed(names: &[&str]) -> String {
    if names.is_empty() {
        return "none".into();
    }
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// Why the gate fails: each condition that doesn't hold with the suites at fault; `None` where it passes.
#[must_use]
pub fn gate_failure(gate: &Gate, comparison: &Comparison) -> Option<String> {
    let failures: Vec<String> =
        gate.conditions().iter().filter_map(|condition| condition_failure(condition, comparison)).collect();
    (!failures.is_empty()).then(|| failures.join("; "))
}

fn condition_failure(condition: &Condition, comparison: &Comparison) -> Option<String> {
    let Comparison { task, general, .. } = comparison;
    let suites: Vec<&SuiteComparison> = match condition.suites.as_str() {
        "task" => task.iter().collect(),
        "general" => general.iter().collect(),
        name => task.iter().chain(general).filter(|suite| suite.name == name).collect(),
    };
    let silent = suites.iter().all(|suite| !suite.informative);
    if silent {
        let why = if suites.is_empty() {
            "no such suite was scored"
        } else {
            "the base is at chance, so nothing can be told"
        };
        return Some(format!("`{condition}`: {why}"));
    }
    let at_fault: Vec<String> = suites
        .into_iter()
        .filter(|suite| suite.informative)
        .filter_map(|suite| suite_failure(condition, suite))
        .collect();
    (!at_fault.is_empty()).then(|| format!("`{condition}`: {}", at_fault.join(", ")))
}

/// What a suite shows, where that isn't enough.
fn suite_failure(condition: &Condition, suite: &SuiteComparison) -> Option<String> {
    let name = &suite.name;
    if suite.identical {
        return (!condition.holds(0.0)).then(|| format!("{name}: both models give the same scores"));
    }
    let Some(gain) = gain(suite) else { return Some(format!("{name}: no interval can be given")) };
    let measure = suite.measures.first().map_or("gain", |measure| measure.kind.name());
    (!condition.holds(gain.low)).then(|| {
        format!(
            "{name}: gain in {measure} at least {:+.4} (95 % interval {:+.4} to {:+.4})",
            gain.low, gain.low, gain.high
        )
    })
}

/// The interval of the gain in the measure that decides, as the verdict takes it: that of the weighted value and that of
/// the mean over items joined.
fn gain(suite: &SuiteComparison) -> Option<Interval> {
    let measure = suite.measures.first()?;
    let mut interval = measure.difference.interval?;
    if let Some(per_item) = measure.per_item {
        interval = interval.join(per_item.interval?);
    }
    Some(if measure.kind.higher_is_better() { interval } else { interval.negated() })
}

#[cfg(test)]
#[path = "gate_tests.rs"]
mod tests;
