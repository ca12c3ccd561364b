//! The comparison in one line: what the task suites say, what the general suites say, and a loss first where there is
//! one (R32).

use crate::comparison::{GeneralOutcome, SuiteComparison, TaskOutcome, Verdict};
use crate::measures::Measure;
use crate::verdict::{GeneralVerdict, TaskVerdict};

/// Names of suites that a headline lists before it only counts them.
const MOST_NAMES: usize = 3;

/// The headline of a comparison. Forgetting stands in front of the task's verdict.
pub(crate) fn headline(
    task_outcome: Option<TaskOutcome>,
    task: &[SuiteComparison],
    general_outcome: Option<GeneralOutcome>,
    general: &[SuiteComparison],
) -> String {
    let task = task_part(task_outcome, task);
    let part = general_part(general_outcome, general);
    if general_outcome == Some(GeneralOutcome::Forgot) { format!("{part}; {task}") } else { format!("{task}; {part}") }
}

fn task_part(outcome: Option<TaskOutcome>, suites: &[SuiteComparison]) -> String {
    let Some(outcome) = outcome else {
        return "task: not measured, no held-out data".into();
    };
    if let [suite] = suites {
        let word = match outcome {
            TaskOutcome::Better => "better",
            TaskOutcome::Worse => "worse",
            TaskOutcome::Mixed | TaskOutcome::NoDifferenceShown => "no difference shown",
        };
        let detail = suite.measures.first().map_or(String::new(), |measure| format!(" ({})", detail(measure)));
        return format!("{word} on the task{detail}");
    }
    let parts = [
        ("worse", TaskVerdict::Worse),
        ("better", TaskVerdict::Better),
        ("no difference shown", TaskVerdict::NoDifferenceShown),
    ];
    let said: Vec<String> = parts
        .into_iter()
        .filter_map(|(word, verdict)| {
            let named = with_verdict(suites, Verdict::Task(verdict));
            (!named.is_empty()).then(|| format!("{word} on {}", names(&named, suites.len())))
        })
        .collect();
    format!("task: {}", said.join(", "))
}

fn general_part(outcome: Option<GeneralOutcome>, suites: &[SuiteComparison]) -> String {
    match outcome {
        None => "general: not measured, no general suites".into(),
        Some(GeneralOutcome::Forgot) => {
            let forgot = with_verdict(suites, Verdict::General(GeneralVerdict::Forgot));
            let detail = match forgot.as_slice() {
                [suite] => suite.measures.first().map(|measure| format!(" ({})", detail(measure))),
                _ => None,
            };
            format!("general: forgot on {}{}", names(&forgot, suites.len()), detail.unwrap_or_default())
        }
        Some(GeneralOutcome::NoForgettingShown) => {
            let silent = suites.iter().filter(|suite| !suite.informative).count();
            match silent {
                0 => "general: no forgetting shown".into(),
                _ => format!(
                    "general: no forgetting shown ({silent} of {} suites can't tell: base at chance)",
                    suites.len()
                ),
            }
        }
        Some(GeneralOutcome::CannotTell) => cannot_tell(suites),
    }
}

fn cannot_tell(suites: &[SuiteComparison]) -> String {
    let informative: Vec<&SuiteComparison> = suites.iter().filter(|suite| suite.informative).collect();
    if informative.is_empty() {
        return "general: cannot tell, the base is at chance".into();
    }
    let shown = with_verdict(suites, Verdict::General(GeneralVerdict::NoForgettingShown));
    let open: Vec<&SuiteComparison> = informative
        .into_iter()
        .filter(|suite| matches!(suite.verdict, Verdict::General(GeneralVerdict::CannotTell { .. })))
        .collect();
    let shown = match shown.len() {
        0 => String::new(),
        _ => format!("no forgetting shown on {}, ", names(&shown, suites.len())),
    };
    let needed = match open.as_slice() {
        [suite] => match suite.verdict {
            Verdict::General(GeneralVerdict::CannotTell { needed: Some(needed) }) => {
                format!(" (has {} {}, needs about {needed})", suite.items, suite.unit())
            }
            _ => String::new(),
        },
        _ => String::new(),
    };
    format!("general: {shown}cannot tell on {}{needed}", names(&open, suites.len()))
}

fn with_verdict(suites: &[SuiteComparison], verdict: Verdict) -> Vec<&SuiteComparison> {
    suites.iter().filter(|suite| suite.verdict == verdict).collect()
}

fn names(suites: &[&SuiteComparison], total: usize) -> String {
    if suites.len() > MOST_NAMES {
        return format!("{} of {total} suites", suites.len());
    }
    suites.iter().map(|suite| suite.name.as_str()).collect::<Vec<_>>().join(" and ")
}

/// `accuracy 0.41 -> 0.83, +0.42 [+0.33, +0.51], fixed 68, broke 5`
fn detail(measure: &Measure) -> String {
    let digits = if measure.kind.higher_is_better() { 2 } else { 3 };
    let Measure { base, tuned, difference, changes, .. } = measure;
    let name = measure.kind.name();
    let mut text = format!("{name} {base:.digits$} -> {tuned:.digits$}, {:+.digits$}", difference.value);
    if let Some(interval) = difference.interval {
        text += &format!(" [{:.digits$}, {:.digits$}]", interval.low, interval.high);
    }
    if let Some(changes) = changes {
        text += &format!(", fixed {}, broke {}", changes.fixed, changes.broke);
    }
    text
}
