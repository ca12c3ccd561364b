//! Tests of `items`: answers by their text, changes by right and wrong, rows of texts, confusion by hand.

use super::*;
use crate::score::Scores;
use std::path::Path;

/// The scores of items whose candidates have these NLLs; the right one is found by `gold`.
fn scores(suite: &Suite, candidates: &[Vec<f64>], gold: impl Fn(usize) -> usize) -> Scores {
    let smallest = |nll: &[f64]| (0..nll.len()).min_by(|a, b| nll[*a].total_cmp(&nll[*b])).unwrap();
    let item = |(item, nll): (usize, &Vec<f64>)| {
        let choice = smallest(nll);
        let answer = Answer {
            candidates: nll.clone(),
            choice,
            right: choice == gold(item),
            right_per_character: None,
            right_per_byte: None,
        };
        ItemScore { item, nll: nll[gold(item)], targets: 2, bytes: 4.0, answer: Some(answer), ..ItemScore::default() }
    };
    Scores {
        suite_hash: suite.hash.clone(),
        tokenizer_hash: "t".into(),
        context: 64,
        items: candidates.iter().enumerate().map(item).collect(),
        lost_targets: 0,
        packing: outcrop_data::Fullness::default(),
    }
}

fn questions() -> Scored {
    let line = r#"{"query": "One and one?", "choices": ["two", "three"], "gold": 0, "group": "sums"}"#;
    let suite = Suite::from_bytes(Path::new("set/items.jsonl"), [line; 4].join("\n").as_bytes()).unwrap();
    let (right, wrong) = (vec![1.0, 2.0], vec![2.0, 1.5]);
    let base = scores(&suite, &[wrong.clone(), right.clone(), right.clone(), wrong.clone()], |_| 0);
    let tuned = scores(&suite, &[right.clone(), wrong.clone(), right, wrong], |_| 0);
    Scored { suite, base, tuned }
}

#[test]
fn answers_stand_side_by_side_and_say_what_changed() {
    let results = item_results(&questions()).unwrap();
    let changes: Vec<Change> = results.iter().filter_map(|result| result.change).collect();
    assert_eq!(changes, [Change::Fixed, Change::Broke, Change::BothRight, Change::BothWrong]);
    let fixed = &results[0];
    assert_eq!((fixed.place.as_str(), fixed.group.as_deref()), ("set/items.jsonl:1", Some("sums")));
    assert_eq!((fixed.prompt.as_deref(), fixed.expected.as_deref()), (Some("One and one?"), Some("two")));
    assert_eq!((fixed.base.answer.as_deref(), fixed.tuned.answer.as_deref()), (Some("three"), Some("two")));
    assert_eq!((fixed.base.right, fixed.tuned.right), (Some(false), Some(true)));
    assert_eq!(fixed.base.candidates.as_deref(), Some([2.0, 1.5].as_slice()));
    assert!((fixed.gain() - 0.5).abs() < 1e-12, "(2 - 1) nats over two targets: {}", fixed.gain());
    assert_eq!(confusion(&questions()), None);
}

#[test]
fn confusion_counts_right_by_answered() {
    let line = |label: &str| format!("{{\"prompt\": \"Say\", \"completion\": \"{label}\"}}\n");
    let text: String = ["good", "bad", "good", "bad", "bad", "bad"].map(line).concat();
    let suite = Suite::from_bytes(Path::new("labels.jsonl"), text.as_bytes()).unwrap();
    let gold = |item: usize| usize::from(item == 0 || item == 2); // the labels are sorted: bad, good
    let (bad, good) = (vec![1.0, 2.0], vec![2.0, 1.0]);
    let base = scores(&suite, &vec![good.clone(); 6], gold);
    let tuned = scores(&suite, &[good.clone(), bad.clone(), bad.clone(), bad.clone(), good, bad], gold);
    let found = confusion(&Scored { suite, base, tuned }).unwrap();
    assert_eq!(found.labels, ["bad", "good"]);
    assert_eq!(found.base, [[0, 4], [0, 2]]);
    assert_eq!(found.tuned, [[3, 1], [1, 1]]);
}

#[test]
fn rows_of_a_text_have_no_answer() {
    let suite = Suite::from_bytes(Path::new("book.txt"), b"Once upon a time").unwrap();
    let row = |nll: f64| ItemScore { item: 0, nll, targets: 4, bytes: 8.0, answer: None, ..ItemScore::default() };
    let of = |rows: Vec<ItemScore>| Scores { items: rows, ..scores(&suite, &[], |_| 0) };
    let (base, tuned) = (of(vec![row(4.0), row(8.0)]), of(vec![row(8.0), row(8.0)]));
    let results = item_results(&Scored { suite, base, tuned }).unwrap();
    assert_eq!(results.len(), 2);
    assert_eq!((results[0].place.as_str(), results[1].item), ("book.txt", 0));
    assert_eq!((&results[0].prompt, &results[0].change, &results[0].base.answer), (&None, &None, &None));
    assert!((results[0].gain() + 1.0).abs() < 1e-12);
}
