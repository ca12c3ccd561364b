//! Which scores of two models belong together. One tokenizer: row by row, and both must have the same rows. Two
//! tokenizers: item by item, since each has rows of its own, and only what doesn't count tokens can be compared.

use std::collections::BTreeMap;

use crate::comparison::Scored;
use crate::error::EvalError;
use crate::score::{ItemScore, Scores};
use crate::suite::{Items, Suite};

/// The scores of both models, one beside the other.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Pairs {
    pub(crate) base: Scores,
    pub(crate) tuned: Scores,
    /// Whether each model made its tokens by a tokenizer of its own.
    pub(crate) tokenizers_differ: bool,
    /// What a reader should know of the pairing.
    pub(crate) notes: Vec<String>,
}

/// Pairs the scores. Errors: scores of another content of the suite, of two context lengths, of other items.
pub(crate) fn pairs(scored: &Scored) -> Result<Pairs, EvalError> {
    let Scored { suite, base, tuned } = scored;
    let refuse = |what: &str| {
        let name = &suite.name;
        Err(EvalError::Comparison(format!("base and tuned scores of suite `{name}` {what}; score both again")))
    };
    if base.suite_hash != suite.hash || tuned.suite_hash != suite.hash {
        return refuse("are not both of its present content");
    }
    if base.context != tuned.context {
        return refuse(&format!("are by contexts of {} and {} tokens", base.context, tuned.context));
    }
    let inside = |scores: &Scores| scores.items.iter().all(|item| item.item < suite.len() && item.targets > 0);
    if !inside(base) || !inside(tuned) || base.items.is_empty() || tuned.items.is_empty() {
        return refuse("are not of the same items");
    }
    if tokenizers_differ(scored) {
        let pairs = by_item(suite, base, tuned);
        return if pairs.base.items.is_empty() { refuse("have no item in common") } else { Ok(pairs) };
    }
    let shape = |scores: &Scores| -> Vec<(usize, usize)> {
        scores.items.iter().map(|item| (item.item, item.targets)).collect()
    };
    if shape(base) != shape(tuned) {
        return refuse("are not of the same items");
    }
    Ok(Pairs { base: base.clone(), tuned: tuned.clone(), tokenizers_differ: false, notes: Vec::new() })
}

/// Whether the models made their tokens by different tokenizers.
pub(crate) fn tokenizers_differ(scored: &Scored) -> bool {
    scored.base.tokenizer_hash != scored.tuned.tokenizer_hash
}

fn by_item(suite: &Suite, base: &Scores, tuned: &Scores) -> Pairs {
    let (base_items, tuned_items) = (whole(base), whole(tuned));
    let all = base_items.keys().chain(tuned_items.keys().filter(|item| !base_items.contains_key(*item))).count();
    let both = base_items.into_iter().filter_map(|(item, base)| Some((base, tuned_items.get(&item)?.clone())));
    let (base_items, tuned_items): (Vec<ItemScore>, Vec<ItemScore>) = both.unzip();
    let mut notes = vec![
        "the models have different tokenizers: NLL per token and perplexity are left out, since a token of one is no token of the other; bits per byte and what is right or wrong don't depend on tokens"
            .to_owned(),
    ];
    if matches!(suite.items, Items::Text(_)) && suite.len() == 1 {
        notes.push("rows of different tokenizers aren't the same text and the suite is one document: no interval can be given; give the text as several documents".into());
    }
    let left_out = all - base_items.len();
    if left_out > 0 {
        notes.push(format!("{left_out} documents too short for a prediction by one of the tokenizers are left out"));
    }
    let of = |scores: &Scores, items| Scores { items, ..scores.clone() };
    Pairs { base: of(base, base_items), tuned: of(tuned, tuned_items), tokenizers_differ: true, notes }
}

/// The rows of each item as one.
fn whole(scores: &Scores) -> BTreeMap<usize, ItemScore> {
    let mut items: BTreeMap<usize, ItemScore> = BTreeMap::new();
    for row in &scores.items {
        match items.get_mut(&row.item) {
            None => {
                items.insert(row.item, row.clone());
            }
            Some(item) => {
                item.nll += row.nll;
                item.targets += row.targets;
                item.bytes += row.bytes;
            }
        }
    }
    items
}
