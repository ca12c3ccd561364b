//! Tests of `gate`: suites with scores made by hand, conditions on either side of their intervals.

use super::*;
use crate::comparison::{CompareOptions, Scored, compare};
use crate::score::{Answer, ItemScore, Scores};
use std::path::Path;

fn scores(suite: &Suite, items: Vec<ItemScore>) -> Scores {
    let (suite_hash, packing) = (suite.hash.clone(), Default::default());
    Scores { suite_hash, tokenizer_hash: "t".into(), context: 64, items, lost_targets: 0, packing }
}

/// 200 questions of four choices, of which the models answer so many.
fn questions(path: &str, base: usize, tuned: usize) -> Scored {
    let line = |i: usize| format!(r#"{{"query": "q{i}", "choices": ["a", "b", "c", "d"], "gold": 0}}"#);
    let content: Vec<String> = (0..200).map(line).collect();
    let suite = Suite::from_bytes(Path::new(path), content.join("\n").as_bytes()).unwrap();
    let answers = |right: usize| {
        let item = |item| {
            let right = item < right;
            let answer = Answer {
                candidates: vec![1.0; 4],
                choice: usize::from(!right),
                right,
                right_per_character: Some(right),
                right_per_byte: None,
            };
            ItemScore { item, nll: 1.0, targets: 1, bytes: 2.0, answer: Some(answer), ..ItemScore::default() }
        };
        scores(&suite, (0..200).map(item).collect())
    };
    Scored { base: answers(base), tuned: answers(tuned), suite }
}

/// A text suite whose NLL per token rises by `rise`, with a spread of 0.02 between its 100 documents.
fn texts(path: &str, rise: f64) -> Scored {
    let content: Vec<String> = (0..100).map(|i| format!(r#"{{"input": "text {i}"}}"#)).collect();
    let suite = Suite::from_bytes(Path::new(path), content.join("\n").as_bytes()).unwrap();
    let nlls = |nll: &dyn Fn(usize) -> f64| {
        let item = |item| ItemScore {
            item,
            nll: 10.0 * nll(item),
            targets: 10,
            bytes: 20.0,
            answer: None,
            ..ItemScore::default()
        };
        scores(&suite, (0..100).map(item).collect())
    };
    let spread = |i: usize| if i.is_multiple_of(2) { 0.02 } else { -0.02 };
    Scored { base: nlls(&|_| 3.0), tuned: nlls(&|i| 3.0 + rise + spread(i)), suite }
}

fn failure(gate: &str, task: &[Scored], general: &[Scored]) -> Option<String> {
    let comparison = compare(task, general, &CompareOptions::default()).unwrap();
    gate_failure(&gate.parse().unwrap(), &comparison)
}

#[test]
fn r32_a_gate_is_held_to_the_lower_end_of_the_interval() {
    let task = [questions("task/test.jsonl", 80, 120)]; // gain 0.20, about 0.14 to 0.26
    assert_eq!(failure("task>0", &task, &[]), None);
    assert_eq!(failure("task>0.1,task/test>=0.1", &task, &[]), None);
    let reason = failure("task>0.19", &task, &[]).unwrap();
    assert!(reason.starts_with("`task>0.19`: task/test: gain in accuracy at least +0.1"), "{reason}");
    // two items more: a gain, and no gain shown
    assert!(failure("task>0", &[questions("task/test.jsonl", 100, 102)], &[]).is_some());
}

#[test]
fn r32_a_rise_of_the_nll_is_a_loss() {
    let general = [texts("general/prose.jsonl", 0.001)]; // gain -0.001, give or take 0.004
    assert_eq!(failure("general>-0.01", &[], &general), None);
    assert!(failure("general>-0.002", &[], &general).is_some());
    let reason = failure("general>-0.01", &[], &[texts("general/prose.jsonl", 0.1)]).unwrap();
    assert!(reason.contains("general/prose: gain in NLL per token at least -0.10"), "{reason}");
    assert_eq!(failure("general>0", &[], &[texts("general/prose.jsonl", -0.1)]), None);
}

#[test]
fn every_suite_of_a_list_has_to_pass_and_those_at_fault_are_named() {
    let task = [questions("task/one.jsonl", 80, 120), questions("task/two.jsonl", 120, 80)];
    let reason = failure("task>0,general>-1", &task, &[texts("general/prose.jsonl", 0.0)]).unwrap();
    assert!(reason.contains("task/two") && !reason.contains("task/one") && !reason.contains("general"), "{reason}");
    assert_eq!(failure("task/one>0", &task, &[]), None);
}

#[test]
fn scores_that_stay_pass_zero_and_a_base_at_chance_passes_nothing() {
    let same = [questions("general/items.jsonl", 100, 100)];
    assert_eq!(failure("general>-0.001,general>=0", &[], &same), None, "no item changed, however few there are");
    assert!(failure("general>0", &[], &same).unwrap().contains("both models give the same scores"));
    let guessing = questions("general/items.jsonl", 50, 52);
    assert!(failure("general>-1", &[], std::slice::from_ref(&guessing)).unwrap().contains("at chance"));
    assert_eq!(failure("general>-1", &[], &[guessing, texts("general/prose.jsonl", 0.0)]), None);
}

#[test]
fn a_gate_on_a_suite_that_is_not_there_is_refused() {
    let (task, general) = ([questions("task/one.jsonl", 1, 1).suite], [texts("general/prose.jsonl", 0.0).suite]);
    let check = |gate: &str, task: &[Suite], general: &[Suite]| {
        check_gate(&gate.parse().unwrap(), task, general).map_err(|error| error.to_string())
    };
    assert_eq!(check("task>0,general>0,task/one>0,general/prose>0", &task, &general), Ok(()));
    let unknown = "gate `two>0`: no suite is named `two`, only `task/one`, `general/prose`";
    assert_eq!(check("two>0", &task, &general), Err(unknown.into()));
    assert_eq!(check("task>0", &[], &general), Err("gate `task>0`: there is no task suite".into()));
    assert_eq!(check("general>0", &task, &[]), Err("gate `general>0`: there is no general suite".into()));
}
