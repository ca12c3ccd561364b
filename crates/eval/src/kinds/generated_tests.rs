//! Tests of generated answers: where they end, what they are compared with, and that nothing depends on the batch.

use super::*;
use crate::comparison::{CompareOptions, Scored, SuiteComparison, Verdict, compare};
use crate::fixtures::{Bigram, Script, mixed, script, tokenizer};
use crate::items::{Change, item_results};
use crate::score::score;
use crate::suite::Items;
use crate::verdict::GeneralVerdict;
use std::path::Path;

fn suite(header: &str, lines: &[&str]) -> Suite {
    let content = [&[header], lines].concat().join("\n");
    Suite::from_bytes(Path::new("set/answers.jsonl"), content.as_bytes()).unwrap()
}

const ITEMS: [&str; 4] = [
    r#"{"prompt": "one", "completion": "The answer"}"#,
    r#"{"prompt": "two", "completion": "two", "alternatives": ["2", "II"]}"#,
    r#"{"prompt": "three", "completion": "three"}"#,
    r#"{"prompt": "four", "completion": "four"}"#,
];
const EXACT: &str = r#"{"suite": "s", "kind": "exact", "max_tokens": 12}"#;

fn scores(suite: &Suite, scorer: &mut Script<'_>) -> Scores {
    score(suite, &tokenizer(), 64, scorer, 1000, &mut |_, _| {}).unwrap()
}

fn said(suite: &Suite, lines: &[(&str, &str)]) -> Vec<(String, ReplyEnd, usize)> {
    let scores = scores(suite, &mut script(lines));
    let reply = |item: ItemScore| item.reply.map(|reply| (reply.text, reply.end, reply.tokens)).unwrap();
    scores.items.into_iter().map(reply).collect()
}

const LINES: [(&str, &str); 4] =
    [("one", " answer"), ("two", " II"), ("three", ""), ("four", " four and five and six")];

/// A suite's comparison where the base says `base` and the tuned model `tuned`.
fn compared(suite: &Suite, base: &[(&str, &str)], tuned: &[(&str, &str)]) -> (SuiteComparison, Scored) {
    let of = |lines| scores(suite, &mut script(lines));
    let scored = Scored { base: of(base), tuned: of(tuned), suite: suite.clone() };
    let comparison = compare(std::slice::from_ref(&scored), &[], &CompareOptions::default()).unwrap();
    (comparison.task[0].clone(), scored)
}

fn value(suite: &SuiteComparison, kind: MeasureKind) -> (f64, f64) {
    let measure = suite.measures.iter().find(|measure| measure.kind == kind).unwrap();
    (measure.base, measure.tuned)
}

#[test]
fn r34_an_answer_ends_at_the_end_token_at_a_stop_text_or_at_the_most_tokens() {
    let at = |text: &str, end, tokens| (text.to_owned(), end, tokens);
    let plain = said(&suite(EXACT, &ITEMS), &LINES);
    assert_eq!(
        plain,
        [
            at(" answer", ReplyEnd::Stop, 7),
            at(" II", ReplyEnd::Stop, 3),
            at("", ReplyEnd::Stop, 0),
            at(" four and fi", ReplyEnd::Length, 12)
        ]
    );
    let stopped = suite(r#"{"suite": "s", "kind": "exact", "max_tokens": 12, "stop": ["nd", " a"]}"#, &ITEMS);
    let stopped = said(&stopped, &LINES);
    assert_eq!((&stopped[3], &stopped[0]), (&at(" four", ReplyEnd::Stop, 7), &at("", ReplyEnd::Stop, 2)));
    let long = suite(r#"{"suite": "s", "kind": "exact"}"#, &ITEMS);
    assert_eq!(said(&long, &LINES)[3], at(" four and five and six", ReplyEnd::Stop, 22));
    let Items::Generated { limits, .. } = &long.items else { panic!("not generated") };
    assert_eq!(limits.max_tokens, MAX_TOKENS);
}

#[test]
fn an_answer_ends_where_the_context_is_full_and_the_report_says_so() {
    let suite = suite(r#"{"suite": "s", "kind": "exact", "max_tokens": 60}"#, &ITEMS[3..]);
    let lines = [("four", " four and five and six and seven")];
    let short = |scorer: &mut Script<'_>| score(&suite, &tokenizer(), 16, scorer, 1000, &mut |_, _| {}).unwrap();
    let scores = short(&mut script(&lines));
    let reply = scores.items[0].reply.clone().unwrap();
    assert_eq!((reply.end, reply.tokens), (ReplyEnd::Context, 12));
    let scored = Scored { base: scores.clone(), tuned: scores, suite: suite.clone() };
    let comparison = compare(&[scored], &[], &CompareOptions::default()).unwrap();
    let note = "the context was full before the answer ended in 1 items by the base, 1 by the tuned model";
    assert!(comparison.task[0].warnings.iter().any(|warning| warning == note), "{:?}", comparison.task[0].warnings);
    let error = score(&suite, &tokenizer(), 6, &mut script(&lines), 1000, &mut |_, _| {}).unwrap_err().to_string();
    assert!(error.starts_with("set/answers.jsonl:2: the item is 10 tokens long, the context holds 6"), "{error}");
}

#[test]
fn exact_answers_are_right_whole_and_any_alternative_will_do() {
    let suite = suite(EXACT, &ITEMS);
    let tuned = [("one", " the answer"), ("two", "two "), ("three", "\nthree\n"), ("four", "for")];
    let (compared, scored) = compared(&suite, &LINES, &tuned);
    assert_eq!(compared.measures[0].kind, MeasureKind::ExactMatch);
    assert_eq!(value(&compared, MeasureKind::ExactMatch), (0.25, 0.5), "II; two and three");
    assert_eq!(value(&compared, MeasureKind::NormalisedMatch), (0.5, 0.75), "articles and case don't count");
    assert_eq!(value(&compared, MeasureKind::StopRate), (0.75, 1.0));
    assert_eq!(value(&compared, MeasureKind::EmptyRate), (0.25, 0.0));
    let kinds: Vec<&str> = compared.measures.iter().map(|measure| measure.kind.name()).collect();
    let expected = ["exact match", "normalised match", "chrF", "ROUGE-L", "stop rate", "empty rate", "NLL per token"];
    assert_eq!(kinds, expected);
    assert_eq!(compared.chance, Some(0.0));
    let items = item_results(&scored).unwrap();
    let changes: Vec<Option<Change>> = items.iter().map(|item| item.change).collect();
    let [wrong, right, fixed] = [Change::BothWrong, Change::BothRight, Change::Fixed].map(Some);
    assert_eq!(changes, [wrong, right, fixed, wrong]);
    assert_eq!((items[1].expected.as_deref(), items[1].base.answer.as_deref()), (Some("two\n2\nII"), Some(" II")));
    assert_eq!(items[3].base.end, Some(ReplyEnd::Length));
}

#[test]
fn texts_are_decided_by_the_chrf_of_all_and_the_items_stand_by_their_own() {
    let suite = suite(r#"{"suite": "s", "kind": "generate"}"#, &ITEMS);
    let tuned = [("one", " The answer"), ("two", " II"), ("three", " three"), ("four", " flour")];
    let (compared, scored) = compared(&suite, &LINES, &tuned);
    let first = &compared.measures[0];
    assert_eq!((first.kind, compared.measures[1].kind), (MeasureKind::ChrF, MeasureKind::ExactMatch));
    assert!(first.tuned > first.base && first.difference.interval.is_some(), "{first:?}");
    assert_eq!(value(&compared, MeasureKind::ExactMatch), (0.25, 0.75));
    let (_, rouge) = value(&compared, MeasureKind::RougeL);
    assert!((rouge - 0.75).abs() < 1e-12, "{rouge}");
    let items = item_results(&scored).unwrap();
    assert!(items.iter().all(|item| item.change.is_none() && item.base.score.is_some()));
    assert!(items[2].gain() == 1.0 && items[1].gain() == 0.0, "{}", items[2].gain());
    let mean = items.iter().map(|item| item.gain()).sum::<f64>() / 4.0;
    assert!((first.per_item.unwrap().value - mean).abs() < 1e-12);
}

#[test]
fn r13_answers_do_not_depend_on_the_batch() {
    let lines: Vec<String> = (0..9)
        .map(|i| format!(r#"{{"prompt": "{}", "completion": "c{i}"}}"#, "p".repeat(1 + (i * 5) % 7) + &i.to_string()))
        .collect();
    let suite = suite(EXACT, &lines.iter().map(String::as_str).collect::<Vec<_>>());
    let run = |most: usize| {
        let (mut model, mut heard) = (Bigram::new(mixed), Vec::new());
        let scores = score(&suite, &tokenizer(), 64, &mut model, most, &mut |done, _| heard.push(done)).unwrap();
        assert_eq!(heard, (1..=9).collect::<Vec<_>>(), "each item is heard of once");
        let generated = model.seen.iter().filter(|(_, documents)| *documents > 0).count();
        (scores.items, generated)
    };
    let (together, few) = run(10_000);
    assert!(together.iter().filter(|item| item.reply.as_ref().is_some_and(|reply| reply.tokens > 2)).count() > 4);
    for most in [0, 17, 40, 100] {
        let (items, more) = run(most);
        assert_eq!(items, together, "bound {most}");
        assert!(more > few, "{more} batches for {few}");
    }
}

#[test]
fn r32_a_base_that_gets_nothing_right_has_nothing_to_forget() {
    let wrong = [("one", "x"), ("two", "x"), ("three", "x"), ("four", "x")];
    for (kind, why) in [("exact", "the base's exact match is 0"), ("generate", "the base's chrF is 0")] {
        let suite = suite(&format!(r#"{{"suite": "s", "kind": "{kind}"}}"#), &ITEMS);
        let scored = compared(&suite, &wrong, &LINES).1;
        let comparison = compare(&[], &[scored], &CompareOptions::default()).unwrap();
        let suite = &comparison.general[0];
        assert!(!suite.informative && suite.verdict == Verdict::General(GeneralVerdict::CannotTell { needed: None }));
        assert!(suite.warnings.iter().any(|warning| warning.starts_with(why)), "{:?}", suite.warnings);
    }
}

#[test]
fn faulty_answers_are_refused_by_file_and_line() {
    for (line, expected) in [
        (r#"{"prompt": " ", "completion": "b"}"#, "set/a.jsonl:3:1: `prompt` is blank; an answer"),
        (r#"{"prompt": "a", "completion": "\n"}"#, "set/a.jsonl:3:1: `completion` is blank; give the right answer"),
        (r#"{"prompt": "a", "completion": ""}"#, "set/a.jsonl:3:1: `completion` is empty"),
        (r#"{"prompt": "a", "completion": "b", "id": 7}"#, "set/a.jsonl:3:1: `id` is 7, which line 2 has already"),
        (r#"{"prompt": "a", "completion": "b", "alternatives": ["c", " "]}"#, "set/a.jsonl:3:1: one of `alternatives`"),
        (r#"{"prompt": "a", "completion": "b", "alternatives": "c"}"#, "set/a.jsonl:3:"),
        (r#"{"query": "a", "choices": ["b", "c"], "gold": 0}"#, "set/a.jsonl:3:"),
    ] {
        let content = [EXACT, r#"{"prompt": "a", "completion": "b", "id": 7}"#, line].join("\n");
        let error = Suite::from_bytes(Path::new("set/a.jsonl"), content.as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with(expected) && !error.contains('\n'), "`{error}` lacks `{expected}`");
    }
}
