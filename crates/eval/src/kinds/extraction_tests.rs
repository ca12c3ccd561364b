//! Tests of typed spans: how answers are read, what is counted, and what becomes of answers that can't be read.

use super::*;
use crate::comparison::{CompareOptions, SuiteComparison, compare};
use crate::fixtures::{script, tokenizer};
use crate::items::{Change, item_results};
use crate::kinds::generated::ReplyEnd;
use crate::score::score;
use crate::suite::Suite;
use std::path::Path;

fn read(answer: &str) -> Vec<(String, String)> {
    spans(answer).unwrap_or_else(|reason| panic!("{answer}: {reason}"))
}

#[test]
fn spans_are_json_or_lines() {
    let own = |spans: &[(&str, &str)]| -> Vec<Span> {
        spans.iter().map(|(kind, value)| ((*kind).to_owned(), (*value).to_owned())).collect()
    };
    let expected = own(&[("person", "Ada Byron"), ("person", "Bo"), ("place", "Turin")]);
    for answer in [
        r#"{"place": "Turin", "person": ["Bo", "Ada  Byron"]}"#,
        r#"[{"type": "person", "value": "Bo"}, {"type": "person", "value": "Ada Byron", "start": 3}, {"type": "place", "value": "Turin"}]"#,
        "person: Ada Byron\nplace:Turin\n\n  person : Bo \n",
    ] {
        assert_eq!(read(answer), expected, "{answer}");
    }
    assert_eq!(
        read(r#"{"sum": [12.5, 3], "paid": true, "date": null}"#),
        own(&[("paid", "true"), ("sum", "12.5"), ("sum", "3")])
    );
    assert_eq!(read("time: 10:30"), own(&[("time", "10:30")]), "the first colon divides");
    for nothing in ["none", " none\n", "[]", "{}", r#"{"person": []}"#] {
        assert_eq!(read(nothing), own(&[]), "{nothing}");
    }
    for (malformed, why) in [
        ("", "empty"),
        ("Ada lives in Turin", "a line without `type: value`: `Ada lives in Turin`"),
        ("person: Ada\nnone", "a line without"),
        ("person:", "a span without type or value"),
        (r#"{"person": ["Ada""#, "not JSON"),
        (r#"{"person": {"name": "Ada"}}"#, "neither text nor number"),
        (r#"["Ada"]"#, "an element without `type` and `value`"),
        (r#"[{"type": 3, "value": "Ada"}]"#, "an element without"),
        (r#"{"": "Ada"}"#, "a span without type"),
    ] {
        let reason = spans(malformed).unwrap_err();
        assert!(reason.contains(why), "{malformed}: {reason}");
    }
}

fn found(right: &str, given: &str) -> SpanMatch {
    let item =
        PairItem { line: 1, prompt: "p".into(), completion: right.into(), alternatives: Vec::new(), group: None };
    SpanMatch::of(&item, &Reply { text: given.into(), end: ReplyEnd::Stop, tokens: 1 })
}

#[test]
fn a_span_is_right_once_for_each_time_it_is_there() {
    let twice = found("person: Ada\nperson: Ada\nplace: Rome", "person: Ada\nperson: Ada\nperson: Ada\nplace: Turin");
    assert_eq!(twice.counts["person"], [2.0, 3.0, 2.0]);
    assert_eq!(twice.counts["place"], [0.0, 1.0, 1.0]);
    assert!((twice.f1() - 2.0 * 2.0 / 7.0).abs() < 1e-12 && !twice.whole());
    let type_matters = found("person: Paris", "place: Paris");
    assert_eq!((type_matters.f1(), type_matters.counts["place"]), (0.0, [0.0, 1.0, 0.0]));
    assert!(found("none", "[]").whole() && found("none", "{}").f1() == 1.0);
    let malformed = found("person: Ada", "Ada");
    assert_eq!((malformed.f1(), malformed.well_formed, malformed.whole()), (0.0, false, false));
    assert!(!found("none", "no names here").whole(), "silence isn't the same as an answer that can't be read");
}

const ITEMS: [&str; 4] = [
    r#"{"prompt": "a", "completion": "person: Ada\nplace: Rome"}"#,
    r#"{"prompt": "b", "completion": "{\"person\": [\"Bo\", \"Cy\"]}", "group": "g"}"#,
    r#"{"prompt": "c", "completion": "none", "group": "g"}"#,
    r#"{"prompt": "d", "completion": "place: Oslo"}"#,
];
const BASE: [(&str, &str); 4] = [("a", " person: Ada"), ("b", " I see Bo"), ("c", " none"), ("d", " city: Oslo")];
const TUNED: [(&str, &str); 4] =
    [("a", " person: Ada\nplace: Rome"), ("b", " person: Bo"), ("c", "\nnone"), ("d", " {\"place\": \"Oslo\"}")];

fn compared() -> (SuiteComparison, Scored) {
    let content = [&[r#"{"suite": "names", "kind": "extraction"}"#], &ITEMS[..]].concat().join("\n");
    let suite = Suite::from_bytes(Path::new("set/names.jsonl"), content.as_bytes()).unwrap();
    let of = |lines| score(&suite, &tokenizer(), 128, &mut script(lines), 1000, &mut |_, _| {}).unwrap();
    let scored = Scored { base: of(&BASE), tuned: of(&TUNED), suite: suite.clone() };
    let comparison = compare(std::slice::from_ref(&scored), &[], &CompareOptions::default()).unwrap();
    (comparison.task[0].clone(), scored)
}

#[test]
fn r32_micro_f1_decides_and_malformed_answers_are_counted_and_said() {
    let (compared, scored) = compared();
    let value = |kind| {
        let measure = compared.measures.iter().find(|measure| measure.kind == kind).unwrap();
        (measure.base, measure.tuned)
    };
    assert_eq!(compared.measures[0].kind, MeasureKind::MicroF1);
    assert!(compared.measures[0].difference.interval.is_some() && compared.clusters == 3, "groups are drawn whole");
    // base: 1 right of 2 given and 5 there; tuned: 4 of 4 and 5
    assert_eq!(value(MeasureKind::MicroF1), (2.0 / 7.0, 8.0 / 9.0));
    // base: person 2/4, place 0, city 0; tuned: person 4/5, place 1; a type that a model never gives isn't there for it
    assert_eq!(value(MeasureKind::MacroF1), ((0.5 + 0.0 + 0.0) / 3.0, 0.9));
    assert_eq!(value(MeasureKind::AllSpans), (0.25, 0.75));
    assert_eq!(value(MeasureKind::MalformedRate), (0.25, 0.0));
    let note = "malformed answers, which count as no span: 1 of 4 by the base, 0 of 4 by the tuned model";
    assert!(compared.warnings.iter().any(|warning| warning == note), "{:?}", compared.warnings);
    let changes: Vec<Change> = item_results(&scored).unwrap().iter().filter_map(|item| item.change).collect();
    assert_eq!(changes, [Change::Fixed, Change::BothWrong, Change::BothRight, Change::Fixed]);
}

#[test]
fn every_type_has_its_counts_under_both_models() {
    let types = type_scores(&compared().1).unwrap();
    let named: Vec<(&str, usize)> = types.iter().map(|found| (found.kind.as_str(), found.spans)).collect();
    assert_eq!(named, [("city", 0), ("person", 3), ("place", 2)]);
    assert_eq!(types[1].base, TypeSide { given: 1, right: 1, f1: 0.5 });
    assert_eq!(types[1].tuned, TypeSide { given: 2, right: 2, f1: 0.8 });
    assert_eq!((types[0].base.given, types[0].tuned.given), (1, 0));
}

#[test]
fn a_right_answer_without_typed_spans_is_refused_by_file_and_line() {
    let content = "{\"suite\": \"names\", \"kind\": \"extraction\"}\n{\"prompt\": \"a\", \"completion\": \"Ada\"}";
    let error = Suite::from_bytes(Path::new("set/names.jsonl"), content.as_bytes()).unwrap_err().to_string();
    assert_eq!(
        error,
        "set/names.jsonl:2:1: `completion` has no typed spans: a line without `type: value`: `Ada`; write `type: value` \
         lines, or JSON such as {\"type\": [\"value\"]}"
    );
}
