//! How often verdicts are wrong, by simulation: many pairs of models whose true difference is known. Bounds are the
//! promised rate plus three standard errors of the simulation.

use std::path::Path;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::comparison::{CompareOptions, Comparison, GeneralOutcome, Scored, TaskOutcome, compare};
use crate::score::{Answer, ItemScore, Scores};
use crate::suite::Suite;

const PAIRS: usize = 400;

fn normal(random: &mut ChaCha8Rng) -> f64 {
    let (radius, angle): (f64, f64) = (random.random(), random.random());
    (-2.0 * (1.0 - radius).ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
}

fn scored(suite: &Suite, base: Vec<ItemScore>, tuned: Vec<ItemScore>) -> Scored {
    let scores = |items| Scores {
        suite_hash: suite.hash.clone(),
        tokenizer_hash: String::new(),
        context: 64,
        items,
        lost_targets: 0,
        packing: Default::default(),
    };
    Scored { suite: suite.clone(), base: scores(base), tuned: scores(tuned) }
}

/// Documents of ragged length whose NLL per token rises by `rise` on average.
fn texts(random: &mut ChaCha8Rng, documents: usize, rise: f64) -> Scored {
    let content: Vec<String> = (0..documents).map(|i| format!(r#"{{"input": "{i}"}}"#)).collect();
    let suite = Suite::from_bytes(Path::new("a.jsonl"), content.join("\n").as_bytes()).unwrap();
    let (mut base, mut tuned) = (Vec::new(), Vec::new());
    for item in 0..documents {
        let targets = random.random_range(5_u32..40) as usize;
        let level = 3.0 + normal(random);
        let change = rise + 0.1 * normal(random);
        let score = |nll: f64| ItemScore {
            item,
            nll: nll * targets as f64,
            targets,
            bytes: 1.0,
            answer: None,
            ..ItemScore::default()
        };
        base.push(score(level));
        tuned.push(score(level + change));
    }
    scored(&suite, base, tuned)
}

/// Questions of two choices: the share of items that break and that get fixed.
fn questions(random: &mut ChaCha8Rng, items: usize, breaks: f64, fixes: f64) -> Scored {
    let content: Vec<String> =
        (0..items).map(|i| format!(r#"{{"query": "{i}", "choices": ["a", "b"], "gold": 0}}"#)).collect();
    let suite = Suite::from_bytes(Path::new("a.jsonl"), content.join("\n").as_bytes()).unwrap();
    let (mut base, mut tuned) = (Vec::new(), Vec::new());
    for item in 0..items {
        let draw: f64 = random.random();
        let right = random.random::<f64>() < 0.8;
        let (before, after) = match draw {
            draw if draw < breaks => (true, false),
            draw if draw < breaks + fixes => (false, true),
            _ => (right, right),
        };
        let score = |right| {
            let answer =
                Answer { candidates: vec![], choice: 0, right, right_per_character: Some(right), right_per_byte: None };
            ItemScore { item, nll: 1.0, targets: 1, bytes: 1.0, answer: Some(answer), ..ItemScore::default() }
        };
        base.push(score(before));
        tuned.push(score(after));
    }
    scored(&suite, base, tuned)
}

fn share(
    make: impl Fn(&mut ChaCha8Rng) -> Scored,
    run: impl Fn(&Scored, &CompareOptions) -> Comparison,
    counts: impl Fn(&Comparison) -> bool,
) -> f64 {
    let mut random = ChaCha8Rng::seed_from_u64(20);
    let options = CompareOptions { resamples: 400, ..CompareOptions::default() };
    let hits = (0..PAIRS).filter(|_| counts(&run(&make(&mut random), &options))).count();
    hits as f64 / PAIRS as f64
}

fn as_task(scored: &Scored, options: &CompareOptions) -> Comparison {
    compare(std::slice::from_ref(scored), &[], options).unwrap()
}

fn as_general(scored: &Scored, options: &CompareOptions) -> Comparison {
    compare(&[], std::slice::from_ref(scored), options).unwrap()
}

/// Promised rate plus three standard errors.
fn bound(rate: f64) -> f64 {
    rate + 3.0 * (rate * (1.0 - rate) / PAIRS as f64).sqrt()
}

fn differs(comparison: &Comparison) -> bool {
    comparison.task_outcome != Some(TaskOutcome::NoDifferenceShown)
}

#[test]
fn r32_a_difference_that_is_not_there_is_claimed_in_at_most_one_case_of_twenty() {
    let wrong = share(|random| texts(random, 40, 0.0), as_task, differs);
    assert!(wrong <= bound(0.05), "texts: {wrong}");
    let wrong = share(|random| questions(random, 60, 0.1, 0.1), as_task, differs);
    assert!(wrong <= bound(0.05), "questions: {wrong}");
}

#[test]
fn r32_a_difference_that_is_there_is_found() {
    let found = share(|random| texts(random, 40, -0.1), as_task, |c| c.task_outcome == Some(TaskOutcome::Better));
    assert!(found > 0.95, "texts: {found}");
    let found =
        share(|random| questions(random, 150, 0.3, 0.02), as_task, |c| c.task_outcome == Some(TaskOutcome::Worse));
    assert!(found > 0.95, "questions: {found}");
}

#[test]
fn r32_a_loss_of_the_whole_margin_is_rarely_called_no_forgetting_or_forgotten() {
    // A loss of exactly the margin: each of the two claims may err in 2.5 % of the cases.
    let outcome = |wanted| move |comparison: &Comparison| comparison.general_outcome == Some(wanted);
    for wanted in [GeneralOutcome::NoForgettingShown, GeneralOutcome::Forgot] {
        let wrong = share(|random| texts(random, 40, 0.02), as_general, outcome(wanted));
        assert!(wrong <= bound(0.025), "texts, {wanted:?}: {wrong}");
        let wrong = share(|random| questions(random, 200, 0.02, 0.01), as_general, outcome(wanted));
        assert!(wrong <= bound(0.025), "questions, {wanted:?}: {wrong}");
    }
}

#[test]
fn r32_no_forgetting_and_forgetting_are_found_where_there_are_items_enough() {
    let shown = |c: &Comparison| c.general_outcome == Some(GeneralOutcome::NoForgettingShown);
    let found = share(|random| texts(random, 400, 0.0), as_general, shown);
    assert!(found > 0.9, "no forgetting: {found}");
    let forgot = |c: &Comparison| c.general_outcome == Some(GeneralOutcome::Forgot);
    let found = share(|random| texts(random, 40, 0.15), as_general, forgot);
    assert!(found > 0.95, "forgetting: {found}");
}
