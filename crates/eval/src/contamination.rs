//! Contamination: items of a suite that the training data hold too, and the measures without them (13 words in a row, as Brown et
//! al. 2020 and lm-evaluation-harness count). Which items these are is found by `outcrop_data::check::contaminated`.

use serde::{Deserialize, Serialize};

use crate::comparison::{CompareOptions, Scored, SuiteComparison, compare};
use crate::error::EvalError;
use crate::measures::Measure;
use crate::report;
use crate::score::Scores;
use crate::suite::{Items, Suite};

/// An item that the training data hold too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedItem {
    /// Index in the suite, from 0.
    pub item: usize,
    /// Where it stands: `file:line`.
    pub place: String,
    /// The first training record with the same 13 words in a row: `file:line`.
    pub training: String,
}

/// What a suite shares with the training data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Contamination {
    /// Name of the suite.
    pub suite: String,
    /// Hash of its content.
    pub hash: String,
    /// Items in all.
    pub items: usize,
    /// Those that are shared, in order.
    pub shared: Vec<SharedItem>,
    /// The measures on all items.
    pub all: Vec<Measure>,
    /// The comparison on the items that aren't shared, by itself (no correction over suites); `None` where none is shared, or all
    /// are.
    pub clean: Option<SuiteComparison>,
}

/// The texts of each item in their order: what is asked and the right answer.
#[must_use]
pub fn item_texts(suite: &Suite) -> Vec<Vec<&str>> {
    match &suite.items {
        Items::Pairs { items, .. } | Items::Generated { items, .. } | Items::Cloze(items) => {
            items.iter().map(|item| vec![item.prompt.as_str(), item.completion.as_str()]).collect()
        }
        Items::MultipleChoice { items, .. } => {
            items.iter().map(|item| vec![item.query.as_str(), item.choices[item.gold].as_str()]).collect()
        }
        Items::Text(items) => items.iter().map(|item| vec![item.text.as_str()]).collect(),
    }
}

/// The contamination of a suite that was compared as `compared`. `training` has the place of a training record for each item that
/// is shared. Errors: as [`compare`].
pub fn contamination(
    scored: &Scored,
    compared: &SuiteComparison,
    training: &[Option<String>],
    options: &CompareOptions,
) -> Result<Contamination, EvalError> {
    let Scored { suite, base, tuned } = scored;
    let is_clean = |item: usize| training.get(item).is_none_or(Option::is_none);
    let shared: Vec<SharedItem> = (0..suite.len())
        .filter_map(|item| {
            let training = training.get(item)?.clone()?;
            Some(SharedItem { item, place: suite.place(item), training })
        })
        .collect();
    let rest = |scores: &Scores| {
        let items = scores.items.iter().filter(|score| is_clean(score.item)).cloned().collect();
        Scores { items, ..scores.clone() }
    };
    let clean = Scored { suite: suite.clone(), base: rest(base), tuned: rest(tuned) };
    let clean = match shared.is_empty() || clean.base.items.is_empty() {
        true => None,
        false => compare(&[clean], &[], options)?.task.pop(),
    };
    let (name, hash) = (suite.name.clone(), suite.hash.clone());
    Ok(Contamination { suite: name, hash, items: suite.len(), shared, all: compared.measures.clone(), clean })
}

impl Contamination {
    /// What a reader should know of it, in one line; `None` where nothing is shared.
    #[must_use]
    pub fn line(&self) -> Option<String> {
        let Self { suite, items, shared, .. } = self;
        let first = shared.first()?;
        let clean = match self.clean.as_ref().and_then(|clean| clean.measures.first()) {
            Some(measure) => {
                let [name, base, tuned, difference, interval] = report::cells(measure);
                format!("on the other {}: {name} {base} -> {tuned}, {difference} {interval}", items - shared.len())
            }
            None => "no item is left without them".to_owned(),
        };
        Some(format!(
            "{} of {items} items of {suite} share 13 words in a row with the training data, first {} with {}; {clean}",
            shared.len(),
            first.place,
            first.training
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::score::ItemScore;
    use std::path::Path;

    fn scored(base: &[f64], tuned: &[f64]) -> Scored {
        let content: Vec<String> =
            (0..base.len()).map(|i| format!(r#"{{"prompt": "p{i}", "completion": "c{i}"}}"#)).collect();
        let suite = Suite::from_bytes(Path::new("task/test.jsonl"), content.join("\n").as_bytes()).unwrap();
        let scores = |nlls: &[f64]| {
            let item =
                |(item, &nll)| ItemScore { item, nll, targets: 1, bytes: 2.0, answer: None, ..ItemScore::default() };
            let (suite_hash, packing) = (suite.hash.clone(), Default::default());
            let items = nlls.iter().enumerate().map(item).collect();
            Scores { suite_hash, tokenizer_hash: "t".into(), context: 64, items, lost_targets: 0, packing }
        };
        Scored { base: scores(base), tuned: scores(tuned), suite }
    }

    fn of(scored: &Scored, shared: &[usize]) -> Contamination {
        let options = CompareOptions::default();
        let compared = compare(std::slice::from_ref(scored), &[], &options).unwrap().task.remove(0);
        let training: Vec<Option<String>> =
            (0..scored.suite.len()).map(|item| shared.contains(&item).then(|| format!("train.jsonl:{item}"))).collect();
        contamination(scored, &compared, &training, &options).unwrap()
    }

    #[test]
    fn measures_are_given_with_and_without_the_shared_items() {
        let scored = scored(&[3.0, 2.0, 4.0, 2.0], &[0.0, 2.0, 0.0, 1.0]);
        let found = of(&scored, &[0, 2]);
        assert_eq!((found.all[0].base, found.all[0].tuned), (2.75, 0.75));
        let clean = found.clean.as_ref().unwrap();
        assert_eq!((clean.measures[0].base, clean.measures[0].tuned, clean.items), (2.0, 1.5, 2));
        assert_eq!(found.shared[1].place, "task/test.jsonl:3");
        assert!(
            found.line().unwrap().starts_with(
                "2 of 4 items of task/test share 13 words in a row with the training data, first task/test.jsonl:1 with \
                 train.jsonl:0; on the other 2: NLL per token 2.0000 -> 1.5000, -0.5000 ["
            ),
            "{found:?}"
        );
    }

    #[test]
    fn nothing_shared_says_nothing_and_all_shared_leaves_nothing() {
        let scored = scored(&[3.0, 2.0], &[1.0, 2.0]);
        let none = of(&scored, &[]);
        assert_eq!((none.line(), none.clean, none.shared.len()), (None, None, 0));
        let all = of(&scored, &[0, 1]);
        assert!(all.clean.is_none() && all.line().unwrap().ends_with("; no item is left without them"));
    }

    #[test]
    fn an_item_is_what_is_asked_and_the_right_answer() {
        let suite = |line: &str| Suite::from_bytes(Path::new("a/b.jsonl"), line.as_bytes()).unwrap();
        assert_eq!(item_texts(&suite(r#"{"prompt": "p", "completion": "c"}"#)), [["p", "c"]]);
        assert_eq!(item_texts(&suite(r#"{"query": "q", "choices": ["x", "y"], "gold": 1}"#)), [["q", "y"]]);
        assert_eq!(item_texts(&suite(r#"{"input": "t"}"#)), [["t"]]);
    }
}
