//! The whole way from files to a report, with two models made of tables: the tuned one has learnt which label follows a
//! tab and which a line break, and lost some of its prose.

use std::path::Path;

use crate::cache::{ScoreCache, ScoreKey};
use crate::comparison::{CompareOptions, Scored, compare};
use crate::fixtures::{Bigram, mixed, tokenizer};
use crate::report;
use crate::score::{Scorer, Scores, score};
use crate::suite::{Suite, SuiteKind};

fn label_suite() -> Suite {
    let lines: Vec<String> = (0..60)
        .map(|i| {
            // The base prefers `no` after a tab too, so it is right about half the time.
            let (mark, label) = if i % 2 == 0 { ("\\t", "yes") } else { ("\\n", "no") };
            format!(r#"{{"prompt": "question {i}{mark}", "completion": "{label}"}}"#)
        })
        .collect();
    Suite::from_bytes(Path::new("task/test.jsonl"), lines.join("\n").as_bytes()).unwrap()
}

fn prose_suite() -> Suite {
    let line = |i: usize| format!(r#"{{"input": "prose number {i}: {}"}}"#, "words of the sea ".repeat(1 + i % 5));
    let lines: Vec<String> = (0..80).map(line).collect();
    Suite::from_bytes(Path::new("general/prose.jsonl"), lines.join("\n").as_bytes()).unwrap()
}

fn letter(text: &str) -> u32 {
    tokenizer().encode(text).unwrap()[0]
}

/// One model's scores of a suite by way of the cache, and whether the model ran.
fn scores(cache: &ScoreCache, model: &str, suite: &Suite, scorer: &mut dyn Scorer) -> (Scores, bool) {
    let tokenizer = tokenizer();
    let key = ScoreKey {
        model_hash: model.into(),
        suite_hash: suite.hash.clone(),
        tokenizer_hash: tokenizer.hash().into(),
        context: 64,
        stop_tokens: Vec::new(),
    };
    let mut ran = false;
    let (scores, note) = cache
        .get_or_score(&key, || {
            ran = true;
            score(suite, &tokenizer, 64, scorer, 256, &mut |_, _| {})
        })
        .unwrap();
    assert_eq!(note, None);
    (scores, ran)
}

#[test]
fn r32_a_job_ends_with_the_verdict_in_the_first_line() {
    let folder = tempfile::tempdir().unwrap();
    let cache = ScoreCache::new(folder.path());
    let (tab, yes, no) = (letter("\t"), letter("y"), letter("n"));
    let prefers_no = move |before, token| match token {
        token if token == yes => 4.0,
        token if token == no => 0.5,
        _ => mixed(before, token),
    };
    let learnt = move |before: u32, token: u32| match (before == tab, token) {
        (true, token) if token == yes => 0.01,
        (true, token) if token == no => 6.0,
        (_, token) => prefers_no(before, token) + 0.05,
    };
    let (mut base, mut tuned) = (Bigram::new(prefers_no), Bigram::new(learnt));
    let mut scored = |suite: Suite| Scored {
        base: scores(&cache, "base", &suite, &mut base).0,
        tuned: scores(&cache, "tuned", &suite, &mut tuned).0,
        suite,
    };
    let (task, general) = (scored(label_suite()), scored(prose_suite()));
    assert_eq!(task.suite.kind(), SuiteKind::Classification);

    let comparison = compare(&[task], &[general], &CompareOptions::default()).unwrap();
    let text = report::text(&comparison);
    assert!(text.starts_with("general: forgot on general/prose (NLL per token "), "{text}");
    assert!(comparison.headline.contains("; better on the task (accuracy 0.50 -> 1.00, +0.50 ["), "{text}");
    assert!(comparison.headline.ends_with("fixed 30, broke 0)"), "{text}");
    assert!((comparison.general[0].measures[0].difference.value - 0.05).abs() < 1e-6);

    let (again, ran) = scores(&cache, "base", &label_suite(), &mut base);
    assert!(!ran, "a base is scored once");
    let fresh = score(&label_suite(), &tokenizer(), 64, &mut base, 50, &mut |_, _| {}).unwrap();
    assert_eq!(again.items, fresh.items, "stored scores equal fresh ones bit for bit");
}
