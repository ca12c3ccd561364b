//! Tests of `report`: the headline first, the width kept, the same numbers in every form.

use super::*;
use crate::comparison::{CompareOptions, GeneralOutcome, TaskOutcome};
use crate::measures::{Changes, WithInterval};
use crate::suite::SuiteKind;

fn measure(kind: MeasureKind, base: f64, tuned: f64) -> Measure {
    let value = tuned - base;
    let interval = Some(Interval { low: value - 0.09, high: value + 0.09 });
    Measure {
        kind,
        base,
        tuned,
        difference: WithInterval { value, interval },
        per_item: None,
        ratio: None,
        changes: None,
    }
}

fn comparison() -> Comparison {
    let mut accuracy = measure(MeasureKind::Accuracy, 0.41, 0.83);
    accuracy.changes = Some(Changes { fixed: 68, broke: 5, items: 150 });
    let mut nll = measure(MeasureKind::NllPerToken, 12.25, 9.5);
    nll.per_item = Some(WithInterval { value: -2.5, interval: Some(Interval { low: -2.75, high: -2.25 }) });
    nll.ratio = Some(WithInterval { value: 0.775, interval: None });
    let task = SuiteComparison {
        name: "sentiment/test".into(),
        path: "datasets/sentiment/test.jsonl".into(),
        hash: "abcd".into(),
        kind: SuiteKind::Classification,
        verdict: Verdict::Task(TaskVerdict::Better),
        informative: true,
        measures: vec![accuracy, nll],
        p_value: Some(3e-15),
        adjusted_p_value: Some(3e-15),
        margin: None,
        items: 150,
        clusters: 150,
        chance: Some(0.5),
        identical: false,
        tokenizers_differ: false,
        warnings: vec!["a note that is longer than the terminal is wide, so that it has to be continued below".into()],
    };
    let perplexity = Measure {
        difference: WithInterval { value: 1.5, interval: None },
        ..measure(MeasureKind::Perplexity, 20.0, 21.5)
    };
    let general = SuiteComparison {
        name: "general/prose".into(),
        kind: SuiteKind::Text,
        verdict: Verdict::General(GeneralVerdict::CannotTell { needed: Some(912) }),
        measures: vec![measure(MeasureKind::NllPerToken, 3.0, 3.125), perplexity],
        adjusted_p_value: Some(0.25),
        margin: Some(0.02),
        items: 24,
        clusters: 3,
        chance: None,
        warnings: vec![],
        ..task.clone()
    };
    Comparison {
        headline:
            "better on the task (accuracy 0.41 -> 0.83, +0.42 [0.33, 0.51], fixed 68, broke 5); general: cannot tell"
                .into(),
        task_outcome: Some(TaskOutcome::Better),
        general_outcome: Some(GeneralOutcome::CannotTell),
        task: vec![task],
        general: vec![general],
        options: CompareOptions::default(),
    }
}

#[test]
fn r32_the_text_begins_with_the_verdict_and_is_aligned() {
    let text = text(&comparison());
    let expected = "\
better on the task (accuracy 0.41 -> 0.83, +0.42 [0.33, 0.51], fixed 68, broke
  5); general: cannot tell

task: sentiment/test (classification, 150 items)
  measure           base   tuned  difference       95 % interval
  accuracy        0.4100  0.8300     +0.4200  [+0.3300, +0.5100]
  NLL per token  12.2500  9.5000     -2.7500  [-2.8400, -2.6600]
  verdict: better (adjusted p < 0.0001)
  accuracy: fixed 68, broke 5 of 150 items
  mean over items of the NLL's difference: -2.5000 [-2.7500, -2.2500]
  NLL, tuned over base: 0.7750
  chance: 0.5000
  note: a note that is longer than the terminal is wide, so that it has to be
    continued below

general: general/prose (text, 24 rows in 3 clusters)
  measure          base   tuned  difference       95 % interval
  NLL per token  3.0000  3.1250     +0.1250  [+0.0350, +0.2150]
  perplexity      20.00   21.50       +1.50                   -
  verdict: cannot tell, needs about 912 rows (adjusted p = 0.2500, margin 0.02)

Paired by item, 95 % intervals.";
    assert!(text.starts_with(expected), "{text}");
}

#[test]
fn numbers_without_end_stay_short() {
    let mut huge = measure(MeasureKind::Perplexity, 90.5, 169_387_147.25);
    huge.difference.interval = Some(Interval { low: 2e6, high: f64::INFINITY });
    assert_eq!(cells(&huge), ["perplexity", "90.50", "1.69e8", "+1.69e8", "[+2.00e6, +inf]"]);
}

#[test]
fn the_text_keeps_its_width_whatever_the_names() {
    let mut comparison = comparison();
    comparison.task[0].name = "a".repeat(300);
    comparison.headline = format!("better on {} and {}", "b".repeat(100), "é".repeat(90));
    comparison.task[0].measures[0].base = 123_456_789.0;
    for line in text(&comparison).lines() {
        assert!(line.chars().count() <= TEXT_WIDTH, "{line}");
        assert_eq!(line, line.trim_end());
    }
}

#[test]
fn r32_markdown_begins_with_the_verdict_and_escapes_names() {
    let mut comparison = comparison();
    comparison.general[0].name = "odd|*name*".into();
    let markdown = markdown(&comparison);
    assert_eq!(markdown.lines().next().unwrap(), comparison.headline);
    assert!(markdown.contains("## Task: sentiment/test\n\nclassification, 150 items, hash `abcd`\n"));
    assert!(markdown.contains("| accuracy | 0.4100 | 0.8300 | +0.4200 | [+0.3300, +0.5100] |"), "{markdown}");
    assert!(markdown.contains("## General: odd\\|\\*name\\*\n"), "{markdown}");
    assert!(markdown.contains("- verdict: better (adjusted p \\< 0.0001)"), "{markdown}");
}

#[test]
fn r32_json_begins_with_the_verdict_and_reads_back() {
    let comparison = comparison();
    let json = json(&comparison).unwrap();
    assert!(json.starts_with("{\n  \"headline\": \"better on the task"), "{json}");
    assert!(
        json.contains(
            r#""verdict": {
        "general": {
          "cannot_tell": {
            "needed": 912"#
        ),
        "{json}"
    );
    let back: Comparison = serde_json::from_str(&json).unwrap();
    assert_eq!(back.task[0].verdict, comparison.task[0].verdict);
    assert_eq!(back.options, comparison.options);
}
