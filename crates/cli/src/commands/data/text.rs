//! The report of a check for the terminal: verdict first, then findings, then figures.

use outcrop_data::check::{Finding, Level, Report};
use std::fmt::Write;
use std::io::IsTerminal;

/// Rows of a finding that the terminal shows; the others are in the JSON and on the page.
const ROWS: usize = 3;
/// Bars of the histogram.
const BAR: usize = 40;

/// Whether colours are wanted: a terminal, and no `NO_COLOR` (no-color.org).
pub(super) fn colours() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

fn paint(text: &str, code: &str) -> String {
    if colours() { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
}

/// The whole report.
pub(super) fn report(report: &Report) -> String {
    let code = match (report.errors, report.warnings) {
        (0, 0) => "1;32",
        (0, _) => "1;33",
        _ => "1;31",
    };
    let mut out = format!("{}\n", paint(&report.verdict(), code));
    for found in &report.findings {
        finding(&mut out, found);
    }
    figures(&mut out, report);
    out
}

fn finding(out: &mut String, found: &Finding) {
    let (name, code) = match found.level {
        Level::Error => ("error  ", "31"),
        Level::Warning => ("warning", "33"),
        Level::Note => ("note   ", "36"),
    };
    let rule = if found.rule == found.id { found.id.to_owned() } else { format!("{} {}", found.rule, found.id) };
    let _ = writeln!(out, "\n{} {}: {} ({rule})", paint(name, code), found.title, found.count);
    for row in found.rows.iter().take(ROWS) {
        let column = row.column.map_or_else(String::new, |column| format!(":{column}"));
        let place = match (row.file.as_str(), row.line) {
            (_, 0) => String::new(),
            (file, line) => format!("{file}:{line}{column}"),
        };
        let parts: Vec<_> = [place.as_str(), &row.message].into_iter().filter(|part| !part.is_empty()).collect();
        let _ = writeln!(out, "    {}", parts.join(": "));
        if !row.excerpt.is_empty() {
            let _ = writeln!(out, "      {}", paint(&row.excerpt, "2"));
        }
    }
    if found.count > found.rows.len().min(ROWS) as u64 {
        let _ = writeln!(out, "    and {} more", found.count - found.rows.len().min(ROWS) as u64);
    }
    let _ = writeln!(out, "    -> {}", found.advice);
}

fn figures(out: &mut String, report: &Report) {
    let _ = writeln!(
        out,
        "\nrecords  {} to train on, {} to evaluate; {} words, {} characters",
        report.records, report.evaluation_records, report.words, report.characters
    );
    if let Some(tokens) = &report.tokens {
        let share = 100.0 * tokens.target_tokens as f64 / tokens.tokens.max(1) as f64;
        let _ =
            writeln!(out, "tokens   {}, of which {} ({share:.1} %) are targets", tokens.tokens, tokens.target_tokens);
        let lengths = tokens.lengths;
        let _ = writeln!(
            out,
            "lengths  median {}, 90 % up to {}, 99 % up to {}, longest {}; maximum {}",
            lengths.p50, lengths.p90, lengths.p99, tokens.longest, tokens.max_length
        );
        let _ = writeln!(
            out,
            "stop     {:.1} % of the records end with a trained stop token, {} `{}`",
            100.0 * tokens.stop_share,
            tokens.stop_id,
            tokens.stop_token
        );
        let most = tokens.histogram.iter().map(|bin| bin.records).max().unwrap_or(1).max(1);
        for bin in &tokens.histogram {
            let bar = "█".repeat((bin.records as usize * BAR).div_ceil(most as usize));
            let _ = writeln!(out, "  {:>8} {bar} {}", bin.from, bin.records);
        }
    }
    let repetition = &report.repetition;
    let _ = writeln!(
        out,
        "repeats  {} exact, {} near, of {} compared",
        repetition.exact, repetition.near, repetition.searched
    );
    let list = |pairs: Vec<(String, u64)>| {
        pairs.into_iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ")
    };
    if !report.labels.is_empty() {
        let labels =
            report.labels.iter().map(|label| (format!("`{}`", label.label.escape_debug()), label.records)).collect();
        let _ = writeln!(out, "labels   {}", list(labels));
    }
    if !report.languages.is_empty() {
        let languages = report.languages.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
        let _ = writeln!(out, "language {}", list(languages));
    }
}
