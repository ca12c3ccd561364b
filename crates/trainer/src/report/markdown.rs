//! `report.md`: the comparison's own Markdown, then items whose answers changed, then the job.

use super::suites::SuiteItems;
use super::{Context, facts, page, warnings};
use outcrop_eval::items::{Change, ItemResult};
use outcrop_eval::report::{cells, escaped, markdown};
use outcrop_eval::{Comparison, SuiteKind};
use std::fmt::Write;

/// Items shown of each change of a suite.
const ITEMS: usize = 10;
/// Characters of a text.
const LENGTH: usize = 200;

pub(super) fn render(comparison: &Comparison, suites: &[SuiteItems], context: &Context) -> String {
    let mut out = markdown(comparison);
    if let (Some(gate), Some(line)) = (context.gate, out.find('\n')) {
        out.insert_str(line + 1, &format!("\n{}\n", escaped(gate)));
    }
    for suite in suites.iter().filter(|suite| suite.compared.kind != SuiteKind::Text) {
        for (title, change) in [("fixed", Change::Fixed), ("broke", Change::Broke), ("both wrong", Change::BothWrong)] {
            changed(&mut out, suite, title, change);
        }
    }
    contaminated(&mut out, context);
    if let Some(job) = &context.job {
        let _ = write!(out, "\n## Job\n\n");
        for (name, value) in facts::facts(job) {
            let _ = writeln!(out, "- {name}: {}", escaped(&value));
        }
    }
    if !context.task_source.is_empty() {
        let _ = write!(out, "\nTask measured on {}.\n", escaped(context.task_source));
    }
    let warnings = warnings(context);
    if !warnings.is_empty() {
        let _ = write!(out, "\n## Warnings\n\n");
        for warning in warnings {
            let _ = writeln!(out, "- {}", escaped(&warning));
        }
    }
    out
}

/// What the task suites share with the training data, with the measures on all items and on the clean ones.
fn contaminated(out: &mut String, context: &Context) {
    if context.contamination.is_empty() {
        return;
    }
    let _ = write!(out, "\n## Items in the training data\n\n");
    for suite in context.contamination {
        let name = escaped(&suite.suite);
        let _ = writeln!(out, "- {name}: {} of {} share 13 words in a row", suite.shared.len(), suite.items);
        for item in suite.shared.iter().take(ITEMS) {
            let _ = writeln!(out, "  - {} with {}", one_line(&item.place), one_line(&item.training));
        }
    }
    for (suite, clean) in context.contamination.iter().filter_map(|suite| Some((suite, suite.clean.as_ref()?))) {
        let _ = write!(out, "\n| {} | base | tuned | difference | 95 % interval |\n", escaped(&suite.suite));
        out.push_str("| --- | ---: | ---: | ---: | ---: |\n");
        for (which, measures) in [("all items", &suite.all), ("clean items", &clean.measures)] {
            for measure in measures {
                let [measure, base, tuned, difference, interval] = cells(measure);
                let _ = writeln!(out, "| {measure}, {which} | {base} | {tuned} | {difference} | {interval} |");
            }
        }
    }
}

/// A table of the first items that changed so.
fn changed(out: &mut String, suite: &SuiteItems, title: &str, change: Change) {
    let items: Vec<&ItemResult> = suite.items.iter().filter(|item| item.change == Some(change)).collect();
    if items.is_empty() {
        return;
    }
    let shown = items.len().min(ITEMS);
    let _ = write!(out, "\n## {}: {title}, {shown} of {}\n\n", escaped(suite.name), items.len());
    out.push_str("| item | prompt | right answer | base | tuned |\n| --- | --- | --- | --- | --- |\n");
    for item in items.into_iter().take(ITEMS) {
        let cell = |text: Option<&String>| text.map_or(String::new(), |text| one_line(text));
        let (prompt, expected) = (cell(item.prompt.as_ref()), cell(item.expected.as_ref()));
        let (base, tuned) = (cell(item.base.answer.as_ref()), cell(item.tuned.answer.as_ref()));
        let _ = writeln!(out, "| {} | {prompt} | {expected} | {base} | {tuned} |", one_line(&item.place));
    }
}

/// A text as a cell of a table.
fn one_line(text: &str) -> String {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    escaped(&page::clipped(&words, LENGTH))
}
