//! A comparison as text for the terminal, as Markdown and as JSON. Every form begins with the headline (R32). No
//! colours: the command line adds them.

use crate::comparison::{Comparison, SuiteComparison, Verdict};
use crate::error::EvalError;
use crate::measures::{Measure, MeasureKind};
use crate::statistics::Interval;
use crate::verdict::{GeneralVerdict, TaskVerdict};

/// Columns of the text for the terminal.
pub const TEXT_WIDTH: usize = 80;

/// The comparison for a terminal: at most [`TEXT_WIDTH`] columns, numbers aligned. The headline comes first, wrapped
/// where it is longer.
#[must_use]
pub fn text(comparison: &Comparison) -> String {
    let mut out = wrapped(&comparison.headline, "");
    for (title, suites) in [("task", &comparison.task), ("general", &comparison.general)] {
        for suite in suites {
            out.push('\n');
            out += &wrapped(&format!("{title}: {} ({})", suite.name, size(suite)), "");
            out += &text_table(&suite.measures);
            for line in facts(suite) {
                out += &wrapped(&line, "  ");
            }
        }
    }
    out.push('\n');
    for line in method(comparison) {
        out += &wrapped(&line, "");
    }
    out
}

/// The comparison as the content of a Markdown file. The first line is the headline.
#[must_use]
pub fn markdown(comparison: &Comparison) -> String {
    let mut out = format!("{}\n", escaped(&comparison.headline));
    for (title, suites) in [("Task", &comparison.task), ("General", &comparison.general)] {
        for suite in suites {
            out += &format!("\n## {title}: {}\n\n{}, hash `{}`\n\n", escaped(&suite.name), size(suite), suite.hash);
            out += "| measure | base | tuned | difference | 95 % interval |\n| --- | ---: | ---: | ---: | ---: |\n";
            for measure in &suite.measures {
                let [name, base, tuned, difference, interval] = cells(measure);
                out += &format!("| {name} | {base} | {tuned} | {difference} | {interval} |\n");
            }
            out.push('\n');
            for line in facts(suite) {
                out += &format!("- {}\n", escaped(&line));
            }
        }
    }
    out += "\n## Method\n\n";
    for line in method(comparison) {
        out += &format!("- {line}\n");
    }
    out
}

/// The comparison as JSON, `headline` first. Errors: none that data can cause.
pub fn json(comparison: &Comparison) -> Result<String, EvalError> {
    Ok(serde_json::to_string_pretty(comparison)? + "\n")
}

/// Kind and size: `classification, 150 items in 30 clusters`.
#[must_use]
pub fn size(suite: &SuiteComparison) -> String {
    let kind = suite.kind.name();
    let SuiteComparison { items, clusters, .. } = suite;
    let clustered = if clusters < items { format!(" in {clusters} clusters") } else { String::new() };
    format!("{kind}, {items} {}{clustered}", suite.unit())
}

/// Verdict, changes and warnings of a suite, one line each.
#[must_use]
pub fn facts(suite: &SuiteComparison) -> Vec<String> {
    let mut lines = vec![format!("verdict: {}", verdict(suite))];
    for measure in &suite.measures {
        if let Some(changes) = measure.changes {
            let name = measure.kind.name();
            lines.push(format!("{name}: fixed {}, broke {} of {} items", changes.fixed, changes.broke, changes.items));
        }
        if let Some(per_item) = measure.per_item {
            let interval = per_item.interval.map_or(String::new(), |interval| format!(" {}", bounds(interval, 4)));
            let what = match measure.kind {
                MeasureKind::NllPerToken => "the NLL's",
                kind => &format!("the {}'s", kind.name()),
            };
            lines.push(format!("mean over items of {what} difference: {:+.4}{interval}", per_item.value));
        }
        if let Some(ratio) = measure.ratio {
            let interval = ratio
                .interval
                .map_or(String::new(), |interval| format!(" [{:.4}, {:.4}]", interval.low, interval.high));
            lines.push(format!("NLL, tuned over base: {:.4}{interval}", ratio.value));
        }
    }
    lines.extend(suite.chance.map(|chance| format!("chance: {chance:.4}")));
    lines.extend(suite.warnings.iter().map(|warning| format!("note: {warning}")));
    lines
}

/// The verdict on a suite with its p value and margin.
#[must_use]
pub fn verdict(suite: &SuiteComparison) -> String {
    let words = match suite.verdict {
        Verdict::Task(TaskVerdict::Better) => "better".to_owned(),
        Verdict::Task(TaskVerdict::Worse) => "worse".to_owned(),
        Verdict::Task(TaskVerdict::NoDifferenceShown) => "no difference shown".to_owned(),
        Verdict::General(GeneralVerdict::NoForgettingShown) => "no forgetting shown".to_owned(),
        Verdict::General(GeneralVerdict::Forgot) => "forgot".to_owned(),
        Verdict::General(GeneralVerdict::CannotTell { needed: Some(needed) }) => {
            format!("cannot tell, needs about {needed} {}", suite.unit())
        }
        Verdict::General(GeneralVerdict::CannotTell { needed: None }) => "cannot tell".to_owned(),
    };
    // a margin in bits per byte has no end of digits
    let margin = suite.margin.map_or(String::new(), |margin| format!(", margin {}", (margin * 1e4).round() / 1e4));
    match suite.adjusted_p_value {
        Some(p_value) => format!("{words} (adjusted p {}{margin})", p_text(p_value)),
        None => format!("{words} (no p value{margin})"),
    }
}

fn p_text(p_value: f64) -> String {
    if p_value < 0.0001 { "< 0.0001".into() } else { format!("= {p_value:.4}") }
}

/// How the models were compared, in sentences.
#[must_use]
pub fn method(comparison: &Comparison) -> Vec<String> {
    let options = &comparison.options;
    vec![
        format!(
            "Paired by item, 95 % intervals. Accuracy and other shares of items: t interval, cluster-robust where there are \
             groups, joined with Bonett and Price's; exact McNemar. Means over items: t interval. NLL, F1 and chrF: \
             paired bootstrap of items, or of groups, {} resamples, seed {}.",
            options.resamples, options.seed
        ),
        "Holm's correction over the task suites, and over the general suites. The first measure of a suite decides."
            .into(),
    ]
}

/// Name, base, tuned, difference, interval of a measure; `-` where there is no interval.
#[must_use]
pub fn cells(measure: &Measure) -> [String; 5] {
    let digits = if measure.kind == MeasureKind::Perplexity { 2 } else { 4 };
    [
        measure.kind.name().to_owned(),
        number(measure.base, digits),
        number(measure.tuned, digits),
        signed(measure.difference.value, digits),
        measure.difference.interval.map_or("-".to_owned(), |interval| bounds(interval, digits)),
    ]
}

fn bounds(interval: Interval, digits: usize) -> String {
    format!("[{}, {}]", signed(interval.low, digits), signed(interval.high, digits))
}

/// From a million on in powers of ten: the perplexity of a model that diverged has no end.
fn number(value: f64, digits: usize) -> String {
    if value.abs() < 1e6 { format!("{value:.digits$}") } else { format!("{value:.2e}") }
}

fn signed(value: f64, digits: usize) -> String {
    if value.abs() < 1e6 { format!("{value:+.digits$}") } else { format!("{value:+.2e}") }
}

fn text_table(measures: &[Measure]) -> String {
    let header = ["measure", "base", "tuned", "difference", "95 % interval"].map(str::to_owned);
    let rows: Vec<[String; 5]> = std::iter::once(header).chain(measures.iter().map(cells)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 5] = std::array::from_fn(width);
    let mut out = String::new();
    for row in &rows {
        let mut line = format!("  {:<1$}", row[0], widths[0]);
        for (cell, width) in row.iter().zip(widths).skip(1) {
            line += &format!("  {cell:>width$}");
        }
        out += line.trim_end();
        out.push('\n');
    }
    out
}

/// Words filled into lines of at most [`TEXT_WIDTH`] columns; further lines are indented by two more. A longer word is
/// cut.
fn wrapped(text: &str, indent: &str) -> String {
    let mut out = String::new();
    let mut line = indent.to_owned();
    let mut empty = true;
    let further = format!("{indent}  ");
    for word in text.split_whitespace().flat_map(|word| pieces(word, TEXT_WIDTH - further.len())) {
        if !empty && line.chars().count() + 1 + word.chars().count() > TEXT_WIDTH {
            out += &line;
            out.push('\n');
            line.clone_from(&further);
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        line += &word;
        empty = false;
    }
    out + &line + "\n"
}

fn pieces(word: &str, length: usize) -> Vec<String> {
    let letters: Vec<char> = word.chars().collect();
    letters.chunks(length).map(|piece| piece.iter().collect()).collect()
}

/// Text in which Markdown sees no markup: names come from files.
#[must_use]
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        if matches!(letter, '\\' | '`' | '*' | '_' | '<' | '>' | '#' | '|') && !text_is_arrow(&out, letter) {
            out.push('\\');
        }
        out.push(letter);
    }
    out
}

/// The `>` of `->` needs no escape in the middle of a line.
fn text_is_arrow(before: &str, letter: char) -> bool {
    letter == '>' && before.ends_with('-')
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
