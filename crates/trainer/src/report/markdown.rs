//! `report.md`: the comparison's own Markdown, then items whose answers changed, then the job.

use super::suites::SuiteItems;
use super::{Context, facts, page, warnings};
use outcrop_eval::items::{Change, ItemResult, ModelResult};
use outcrop_eval::kinds::extraction::TypeScore;
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
        types(&mut out, suite);
        if suite.compared.kind == SuiteKind::Generate {
            nearer(&mut out, suite);
        }
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

/// A row for each type of spans that is right somewhere.
fn types(out: &mut String, suite: &SuiteItems) {
    let Some(types) = &suite.types else { return };
    let _ = write!(out, "\n## {}: by type\n\n", escaped(suite.name));
    out.push_str("| type | spans | F1, base | F1, tuned | given, base | given, tuned |\n");
    out.push_str("| --- | ---: | ---: | ---: | ---: | ---: |\n");
    for TypeScore { kind, spans, base, tuned } in types.iter().filter(|found| found.spans > 0) {
        let (kind, f1) = (one_line(kind), [base.f1, tuned.f1]);
        let _ = writeln!(out, "| {kind} | {spans} | {:.4} | {:.4} | {} | {} |", f1[0], f1[1], base.given, tuned.given);
    }
}

/// The items whose answers came nearest to the right ones or went furthest from them.
fn nearer(out: &mut String, suite: &SuiteItems) {
    let mut sorted: Vec<&ItemResult> = suite.items.iter().filter(|item| item.gain() != 0.0).collect();
    sorted.sort_by(|one, other| other.gain().total_cmp(&one.gain()));
    let further: Vec<&ItemResult> = sorted.iter().rev().copied().take_while(|item| item.gain() < 0.0).collect();
    sorted.retain(|item| item.gain() > 0.0);
    table(out, suite, "nearer to the right answer", &sorted);
    table(out, suite, "further from the right answer", &further);
}

/// A table of the first items that changed so.
fn changed(out: &mut String, suite: &SuiteItems, title: &str, change: Change) {
    let items: Vec<&ItemResult> = suite.items.iter().filter(|item| item.change == Some(change)).collect();
    table(out, suite, title, &items);
}

/// A table of the first of these items.
fn table(out: &mut String, suite: &SuiteItems, title: &str, items: &[&ItemResult]) {
    if items.is_empty() {
        return;
    }
    let shown = items.len().min(ITEMS);
    let _ = write!(out, "\n## {}: {title}, {shown} of {}\n\n", escaped(suite.name), items.len());
    out.push_str("| item | prompt | right answer | base | tuned |\n| --- | --- | --- | --- | --- |\n");
    for item in items.iter().take(ITEMS) {
        let cell = |text: Option<&String>| text.map_or(String::new(), |text| one_line(text));
        let answer = |result: &ModelResult| match (&result.answer, result.rank) {
            (None, Some(rank)) => format!("rank {rank}"),
            (answer, _) => cell(answer.as_ref()),
        };
        let (prompt, expected) = (cell(item.prompt.as_ref()), cell(item.expected.as_ref()));
        let (base, tuned) = (answer(&item.base), answer(&item.tuned));
        let _ = writeln!(out, "| {} | {prompt} | {expected} | {base} | {tuned} |", one_line(&item.place));
    }
}

/// A text as a cell of a table.
fn one_line(text: &str) -> String {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    escaped(&page::clipped(&words, LENGTH))
}
