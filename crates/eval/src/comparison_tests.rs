//! Tests of `comparison` and `headline`: verdicts and headlines of suites with scores made by hand.

use super::*;
use crate::score::{Answer, ItemScore};
use std::path::Path;

/// A multiple-choice suite of four choices; `group` gives the group of an item.
fn questions(path: &str, items: usize, group: impl Fn(usize) -> Option<usize>) -> Suite {
    let line = |i: usize| {
        let group = group(i).map_or(String::new(), |group| format!(r#", "group": "g{group}""#));
        format!(r#"{{"query": "q{i}", "choices": ["a", "b", "c", "d"], "gold": 0{group}}}"#)
    };
    let content: Vec<String> = (0..items).map(line).collect();
    Suite::from_bytes(Path::new(path), content.join("\n").as_bytes()).unwrap()
}

fn texts(path: &str, documents: usize) -> Suite {
    let content: Vec<String> = (0..documents).map(|i| format!(r#"{{"input": "text {i}"}}"#)).collect();
    Suite::from_bytes(Path::new(path), content.join("\n").as_bytes()).unwrap()
}

fn scores(suite: &Suite, items: Vec<ItemScore>) -> Scores {
    let (suite_hash, packing) = (suite.hash.clone(), Default::default());
    Scores { suite_hash, tokenizer_hash: "t".into(), context: 64, items, lost_targets: 0, packing }
}

/// Scores of one target an item, right where `right` says so.
fn answers(suite: &Suite, right: impl Fn(usize) -> bool) -> Scores {
    let item = |item| {
        let right = right(item);
        let candidates = if right { vec![1.0, 2.0, 2.0, 2.0] } else { vec![2.0, 1.0, 2.0, 2.0] };
        let answer = Answer {
            candidates,
            choice: usize::from(!right),
            right,
            right_per_character: Some(right),
            right_per_byte: Some(right),
        };
        ItemScore {
            item,
            nll: if right { 1.0 } else { 2.0 },
            targets: 1,
            bytes: 2.0,
            answer: Some(answer),
            ..ItemScore::default()
        }
    };
    scores(suite, (0..suite.len()).map(item).collect())
}

/// One row a document of 10 targets, with an NLL per token.
fn nlls(suite: &Suite, nll: impl Fn(usize) -> f64) -> Scores {
    let item = |item| ItemScore {
        item,
        nll: 10.0 * nll(item),
        targets: 10,
        bytes: 20.0,
        answer: None,
        ..ItemScore::default()
    };
    scores(suite, (0..suite.len()).map(item).collect())
}

fn choice_suite(name: &str, items: usize, base: impl Fn(usize) -> bool, tuned: impl Fn(usize) -> bool) -> Scored {
    let suite = questions(name, items, |_| None);
    Scored { base: answers(&suite, base), tuned: answers(&suite, tuned), suite }
}

/// A text suite whose NLL per token rises by `rise`, with a spread of 0.02 between documents.
fn text_suite(name: &str, documents: usize, rise: f64) -> Scored {
    let suite = texts(name, documents);
    let spread = |i: usize| if i.is_multiple_of(2) { 0.02 } else { -0.02 };
    Scored { base: nlls(&suite, |_| 3.0), tuned: nlls(&suite, |i| 3.0 + rise + spread(i)), suite }
}

fn run(task: &[Scored], general: &[Scored]) -> Comparison {
    compare(task, general, &CompareOptions::default()).unwrap()
}

fn refusal(scored: Scored) -> String {
    compare(&[scored], &[], &CompareOptions::default()).unwrap_err().to_string()
}

#[test]
fn r32_the_headline_says_better_and_by_how_much() {
    let task = choice_suite("task/test.jsonl", 150, |i| i < 62, |i| (5..130).contains(&i));
    let comparison = run(&[task], &[text_suite("general/prose.jsonl", 100, 0.001)]);
    assert_eq!(
        comparison.headline,
        "better on the task (accuracy 0.41 -> 0.83, +0.42 [0.32, 0.51], fixed 68, broke 5); \
         general: no forgetting shown"
    );
    assert_eq!(comparison.task_outcome, Some(TaskOutcome::Better));
    assert_eq!(comparison.general_outcome, Some(GeneralOutcome::NoForgettingShown));
}

#[test]
fn r32_no_improvement_and_a_loss_are_said_first() {
    let none = choice_suite("task/test.jsonl", 150, |i| i < 62, |i| (5..68).contains(&i));
    let comparison = run(&[none], &[]);
    assert!(
        comparison.headline.starts_with("no difference shown on the task (accuracy 0.41 -> 0.42, +0.01 ["),
        "{}",
        comparison.headline
    );
    assert!(comparison.headline.ends_with("; general: not measured, no general suites"));

    let worse = choice_suite("task/test.jsonl", 150, |i| i < 130, |i| i < 62);
    let forgot = text_suite("general/prose.jsonl", 100, 0.1);
    let comparison = run(&[worse], &[forgot]);
    assert!(
        comparison.headline.starts_with(
            "general: forgot on general/prose (NLL per token 3.000 -> 3.100, +0.100 [0.096, 0.104]); worse on the task"
        ),
        "{}",
        comparison.headline
    );
    assert_eq!(comparison.general_outcome, Some(GeneralOutcome::Forgot));
    assert_eq!(comparison.task_outcome, Some(TaskOutcome::Worse));
}

#[test]
fn without_task_suites_the_headline_says_so() {
    let comparison = run(&[], &[text_suite("general/prose.jsonl", 100, 0.0)]);
    assert_eq!(comparison.headline, "task: not measured, no held-out data; general: no forgetting shown");
    assert_eq!(comparison.task_outcome, None);
}

#[test]
fn several_task_suites_are_named_by_their_verdicts() {
    let better = || choice_suite("a/x.jsonl", 150, |i| i < 40, |i| i < 120);
    let worse = || choice_suite("b/y.jsonl", 150, |i| i < 120, |i| i < 40);
    let comparison = run(&[better(), worse()], &[]);
    assert!(comparison.headline.starts_with("task: worse on b/y, better on a/x; "), "{}", comparison.headline);
    assert_eq!(comparison.task_outcome, Some(TaskOutcome::Mixed));
    let comparison = run(&[better(), better(), better(), better()], &[]);
    assert!(comparison.headline.starts_with("task: better on 4 of 4 suites; "), "{}", comparison.headline);
}

#[test]
fn r32_holm_keeps_many_suites_from_finding_a_difference_by_luck() {
    // 1 against 9 changed: exact p 0.0215, a difference alone but not among ten suites.
    let one = || choice_suite("a/x.jsonl", 100, |i| i < 50, |i| (1..59).contains(&i));
    let none = || choice_suite("b/y.jsonl", 100, |i| i < 50, |i| i < 50);
    let alone = run(&[one()], &[]);
    assert!((alone.task[0].p_value.unwrap() - 0.021484375).abs() < 1e-9);
    assert_eq!(alone.task_outcome, Some(TaskOutcome::Better));
    let mut many = vec![one()];
    many.extend((0..9).map(|_| none()));
    let among = run(&many, &[]);
    assert!((among.task[0].adjusted_p_value.unwrap() - 0.21484375).abs() < 1e-9);
    assert_eq!(among.task_outcome, Some(TaskOutcome::NoDifferenceShown));
}

#[test]
fn r32_a_small_suite_cannot_tell_and_says_how_many_items_would() {
    // 200 items, 2 fixed and 2 broken: no net change, but an interval wider than one point.
    let scored = choice_suite("general/items.jsonl", 200, |i| i < 120, |i| (2..122).contains(&i));
    let comparison = run(&[], &[scored]);
    let Verdict::General(GeneralVerdict::CannotTell { needed: Some(needed) }) = comparison.general[0].verdict else {
        panic!("{:?}", comparison.general[0].verdict)
    };
    // Bonett and Price: sqrt(6 / 202 / 202) = 0.01213; ((1.96 + 0.8416) * 0.01213 / 0.01)^2 * 200
    assert_eq!(needed, 2309);
    assert_eq!(
        comparison.headline,
        "task: not measured, no held-out data; general: cannot tell on general/items (has 200 items, needs about 2309)"
    );
    assert_eq!(comparison.general[0].margin, Some(0.01));
}

#[test]
fn one_open_suite_is_enough_not_to_claim_that_nothing_was_forgotten() {
    let open = choice_suite("general/items.jsonl", 200, |i| i < 120, |i| (2..122).contains(&i));
    let comparison = run(&[], &[text_suite("general/prose.jsonl", 100, 0.0), open]);
    assert_eq!(comparison.general_outcome, Some(GeneralOutcome::CannotTell));
    assert!(
        comparison.headline.ends_with(
            "general: no forgetting shown on general/prose, cannot tell on general/items (has 200 items, needs about 2309)"
        ),
        "{}",
        comparison.headline
    );
}

#[test]
fn a_base_at_chance_has_nothing_to_forget() {
    let guessing = || choice_suite("general/items.jsonl", 4000, |i| i % 4 == 0, |i| i % 4 == 0 && i != 8);
    let comparison = run(&[], &[guessing()]);
    let suite = &comparison.general[0];
    assert_eq!(suite.verdict, Verdict::General(GeneralVerdict::CannotTell { needed: None }));
    assert!(!suite.informative);
    assert!(suite.warnings[0].contains("the base answers no better than chance (0.250)"), "{:?}", suite.warnings);
    assert!(comparison.headline.ends_with("general: cannot tell, the base is at chance"));

    let comparison = run(&[], &[guessing(), text_suite("general/prose.jsonl", 100, 0.0)]);
    assert!(
        comparison.headline.ends_with("general: no forgetting shown (1 of 2 suites can't tell: base at chance)"),
        "{}",
        comparison.headline
    );
}

#[test]
fn equal_scores_are_no_forgetting_however_few() {
    let comparison = run(&[], &[choice_suite("general/items.jsonl", 20, |i| i < 15, |i| i < 15)]);
    assert_eq!(comparison.general_outcome, Some(GeneralOutcome::NoForgettingShown));
    assert!(comparison.general[0].identical);
    assert_eq!(comparison.general[0].warnings, ["both models give exactly the same scores"]);
    // The same answers by other likelihoods are no proof.
    let mut changed = choice_suite("general/items.jsonl", 20, |i| i < 15, |i| i < 15);
    changed.tuned.items[0].nll += 0.5;
    assert_eq!(run(&[], &[changed]).general_outcome, Some(GeneralOutcome::CannotTell));
}

#[test]
fn floor_and_ceiling_of_a_task_are_warned_of() {
    let comparison = run(&[choice_suite("a/x.jsonl", 100, |i| i < 20, |i| i < 25)], &[]);
    assert_eq!(comparison.task[0].warnings, ["the tuned model answers no better than chance (0.250)"]);
    let comparison = run(&[choice_suite("a/x.jsonl", 100, |i| i < 99, |_| true)], &[]);
    assert_eq!(comparison.task[0].warnings, ["the base already has 0.990 right: hardly room for a gain"]);
}

#[test]
fn r32_groups_widen_the_interval_and_can_undo_a_verdict() {
    // The tuned model is right on two of ten topics more, and on nothing else.
    let by_topic = |grouped: bool| {
        let suite = questions("a/x.jsonl", 100, |i| grouped.then_some(i / 10));
        let (base, tuned) = (answers(&suite, |i| i < 50), answers(&suite, |i| i < 70));
        run(&[Scored { suite, base, tuned }], &[])
    };
    let (apart, grouped) = (by_topic(false), by_topic(true));
    assert_eq!((apart.task[0].clusters, grouped.task[0].clusters), (100, 10));
    assert_eq!(apart.task_outcome, Some(TaskOutcome::Better));
    assert_eq!(grouped.task_outcome, Some(TaskOutcome::NoDifferenceShown));
}

#[test]
fn one_group_gives_no_verdict() {
    let suite = questions("a/x.jsonl", 100, |_| Some(0));
    let scored = Scored { base: answers(&suite, |i| i < 40), tuned: answers(&suite, |_| true), suite };
    let comparison = run(std::slice::from_ref(&scored), std::slice::from_ref(&scored));
    assert_eq!(comparison.task_outcome, Some(TaskOutcome::NoDifferenceShown));
    assert_eq!(comparison.general_outcome, Some(GeneralOutcome::CannotTell));
    assert_eq!((comparison.task[0].p_value, comparison.task[0].adjusted_p_value), (None, None));
    let warning = "all items are in one group or there is only one: no interval can be given";
    assert_eq!(comparison.task[0].warnings, [warning]);
    assert!(comparison.headline.contains("accuracy 0.40 -> 1.00, +0.60, fixed 60"), "{}", comparison.headline);
}

#[test]
fn rows_of_a_document_are_one_cluster_unless_there_is_only_one_document() {
    let rows = |suite: &Suite, documents: usize, shift: f64| {
        let item = |row: usize| ItemScore {
            item: row % documents,
            nll: 30.0 + shift + row as f64 / 100.0,
            targets: 10,
            bytes: 20.0,
            answer: None,
            ..ItemScore::default()
        };
        scores(suite, (0..12).map(item).collect())
    };
    let several = texts("general/prose.jsonl", 3);
    let (base, tuned) = (rows(&several, 3, 0.0), rows(&several, 3, 0.1));
    let comparison = run(&[], &[Scored { suite: several, base, tuned }]);
    assert_eq!((comparison.general[0].clusters, comparison.general[0].items), (3, 12));
    assert!(comparison.general[0].warnings.is_empty());

    let single = texts("general/prose.jsonl", 1);
    let (base, tuned) = (rows(&single, 1, 0.0), rows(&single, 1, 0.1));
    let comparison = run(&[], &[Scored { suite: single, base, tuned }]);
    assert_eq!(comparison.general[0].clusters, 12);
    assert!(comparison.general[0].warnings[0].starts_with("one document: its rows are taken as independent"));
}

#[test]
fn a_text_has_nll_perplexity_and_bits_per_byte() {
    let comparison = run(&[text_suite("a/x.jsonl", 50, -0.5)], &[]);
    let kinds: Vec<MeasureKind> = comparison.task[0].measures.iter().map(|measure| measure.kind).collect();
    assert_eq!(kinds, [MeasureKind::NllPerToken, MeasureKind::Perplexity, MeasureKind::BitsPerByte]);
    assert!((comparison.task[0].measures[2].base - 1.5 / std::f64::consts::LN_2).abs() < 1e-12);
    assert_eq!(comparison.task_outcome, Some(TaskOutcome::Better));
    let kinds = |suite: &SuiteComparison| suite.measures.iter().map(|measure| measure.kind).collect::<Vec<_>>();
    let choices = run(&[choice_suite("a/x.jsonl", 10, |_| true, |_| true)], &[]);
    assert_eq!(
        kinds(&choices.task[0]),
        [
            MeasureKind::Accuracy,
            MeasureKind::AccuracyPerCharacter,
            MeasureKind::AccuracyPerByte,
            MeasureKind::NllPerToken
        ]
    );
}

#[test]
fn scores_that_do_not_belong_together_are_refused() {
    type Change = fn(&mut Scored);
    let good = || choice_suite("a/x.jsonl", 10, |_| true, |_| true);
    let spoil = |change: Change| {
        let mut scored = good();
        change(&mut scored);
        refusal(scored)
    };
    let cases: [(Change, &str); 4] = [
        (|s| s.tuned.suite_hash = "other".into(), "are not both of its present content"),
        (|s| s.base.context = 32, "are by contexts of 32 and 64 tokens"),
        (|s| s.tuned.items.truncate(9), "are not of the same items"),
        (|s| (s.base.items[0].item, s.tuned.items[0].item) = (99, 99), "are not of the same items"),
    ];
    for (change, expected) in cases {
        let message = spoil(change);
        assert_eq!(
            message,
            format!("cannot compare: base and tuned scores of suite `a/x` {expected}; score both again")
        );
    }
}

#[test]
fn options_that_make_no_sense_are_refused() {
    let refuse = |options: CompareOptions| compare(&[], &[], &options).unwrap_err().to_string();
    let options = CompareOptions { nll_margin: -0.1, ..CompareOptions::default() };
    assert_eq!(refuse(options), "cannot compare: a margin is -0.1; give one above 0");
    let options = CompareOptions { resamples: 10, ..CompareOptions::default() };
    assert_eq!(refuse(options), "cannot compare: 10 resamples are too few for an interval; use 100 or more");
}

#[test]
fn margins_and_seed_change_the_result() {
    let compare_with = |options| compare(&[], &[text_suite("general/prose.jsonl", 100, 0.03)], &options).unwrap();
    let usual = CompareOptions::default();
    assert_eq!(compare_with(usual).general_outcome, Some(GeneralOutcome::Forgot));
    let wide = CompareOptions { nll_margin: 0.1, ..usual };
    assert_eq!(compare_with(wide).general_outcome, Some(GeneralOutcome::NoForgettingShown));
    let other_seed = CompareOptions { seed: 1, ..usual };
    let mut uneven = text_suite("general/prose.jsonl", 100, 0.03);
    (0_u32..).zip(&mut uneven.tuned.items).for_each(|(i, item)| item.nll += f64::from(i * i) * 1e-5);
    let measured =
        |options| compare(&[], std::slice::from_ref(&uneven), &options).unwrap().general[0].measures[0].clone();
    assert_ne!(measured(other_seed), measured(usual));
    assert_eq!(measured(usual), measured(usual));
    let more = CompareOptions { resamples: 20_000, ..usual };
    assert_ne!(measured(more), measured(usual));
    let loose = CompareOptions { accuracy_margin: 0.2, ..usual };
    let choices = || choice_suite("general/items.jsonl", 200, |i| i < 120, |i| (2..122).contains(&i));
    let comparison = compare(&[], &[choices()], &loose).unwrap();
    assert_eq!(comparison.general_outcome, Some(GeneralOutcome::NoForgettingShown));
}
