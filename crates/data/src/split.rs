//! Holding out a part of the data for evaluation, and finding what leaks into it.
//!
//! Only exact repetition is looked for here: equal prompts (of pairs) or equal documents, by their tokens.

use std::collections::HashSet;

use crate::error::DataError;
use crate::order::Order;
use crate::shard::{Document, Shard};
use crate::source::SourceKind;

/// Keeps the split apart from the order of training under the same seed.
const SPLIT_EPOCH: u64 = u64::MAX;

/// Splits `0..len` into training and held-out ids, each in rising order: a pure function of its arguments.
/// Exactly `len * percentage / 100` ids, rounded to the nearest, are held out.
///
/// Errors: the percentage isn't between 0 and 100; a percentage above 0 holds out nothing, or leaves nothing to train on.
pub fn held_out(len: usize, percentage: f64, seed: u64) -> Result<(Vec<usize>, Vec<usize>), DataError> {
    if !(0.0..=100.0).contains(&percentage) {
        return Err(DataError::Option(format!(
            "the share to hold out is {percentage} percent; use a number from 0 to 100"
        )));
    }
    let count = (len as f64 * percentage / 100.0).round() as usize;
    if (count == 0 && percentage > 0.0) || count >= len {
        return Err(DataError::Option(format!(
            "holding out {percentage} percent of {len} records leaves {count} to evaluate and {} to train on; \
             change the percentage or give validation data",
            len.saturating_sub(count)
        )));
    }
    let order = Order::new(len, seed, true);
    let mut is_held = vec![false; len];
    (0..count).for_each(|position| is_held[order.index(SPLIT_EPOCH, position)] = true);
    let (held, train) = (0..len).partition(|id| is_held[*id]);
    Ok((train, held))
}

/// The held-out units of which a prompt (of pairs with one) or a whole document occurs in training units too, in their order.
///
/// `train` and `held` are a shard and its units, and may be of one shard or of two.
pub fn exact_overlap(train: (&Shard, &[usize]), held: (&Shard, &[usize])) -> Vec<usize> {
    let hashes = |shard: &Shard, unit: usize| {
        let kind = shard.kind();
        shard.unit(unit).map(|document| content_hash(kind, &shard.document(document))).collect::<Vec<_>>()
    };
    let seen: HashSet<blake3::Hash> = train.1.iter().flat_map(|unit| hashes(train.0, *unit)).collect();
    held.1.iter().copied().filter(|unit| hashes(held.0, *unit).iter().any(|hash| seen.contains(hash))).collect()
}

/// Hash of a pair's prompt, or of all tokens where there is no prompt to compare (a text, or a pair whose first tokens are targets).
fn content_hash(kind: SourceKind, document: &Document<'_>) -> blake3::Hash {
    let prompt = match (kind, document.targets().next()) {
        (SourceKind::Pairs, Some((start, _))) if start > 1 => start as usize,
        _ => usize::MAX,
    };
    let mut hasher = blake3::Hasher::new();
    for token in document.tokens().take(prompt) {
        hasher.update(&token.to_le_bytes());
    }
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example::Example;
    use crate::summary::Summary;
    use crate::writer::{ShardWriter, Spool};
    use proptest::prelude::*;

    fn shard(kind: SourceKind, documents: &[(&[u32], usize)]) -> Shard {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = ShardWriter::new(folder.path(), Spool::Unnamed(folder.path()), false).unwrap();
        for (tokens, start) in documents {
            writer.push(&Example::with_targets_from(tokens.to_vec(), *start), 0, 1).unwrap();
            writer.end_unit().unwrap();
        }
        let path = folder.path().join("shard");
        writer.finish("key", kind, &Summary::default(), &path).unwrap();
        Shard::open(&path).unwrap()
    }

    #[test]
    fn r34_percentage_and_seed_choose_the_held_out_part() {
        let (train, held) = held_out(40, 20.0, 1).unwrap();
        assert_eq!((train.len(), held.len()), (32, 8));
        assert_eq!(held_out(40, 20.0, 1).unwrap().1, held);
        assert_ne!(held_out(40, 20.0, 2).unwrap().1, held);
        assert_eq!(held_out(40, 25.0, 1).unwrap().1.len(), 10);
        assert_eq!(held_out(3, 0.0, 1).unwrap(), (vec![0, 1, 2], vec![]));
    }

    #[test]
    fn a_split_with_an_empty_side_is_an_error() {
        let error = |len, percentage| held_out(len, percentage, 1).unwrap_err().to_string();
        assert_eq!(
            error(2, 20.0),
            "holding out 20 percent of 2 records leaves 0 to evaluate and 2 to train on; change the percentage or give validation data"
        );
        assert!(error(2, 100.0).contains("leaves 2 to evaluate and 0 to train on"));
        assert_eq!(error(2, f64::NAN), "the share to hold out is NaN percent; use a number from 0 to 100");
        assert!(held_out(0, 0.0, 1).is_err());
    }

    #[test]
    fn pairs_overlap_by_prompt_and_texts_by_document() {
        let pairs =
            shard(SourceKind::Pairs, &[(&[1, 2, 3], 2), (&[1, 2, 9], 2), (&[1, 5, 3], 2), (&[7, 8], 1), (&[7, 9], 1)]);
        assert_eq!(exact_overlap((&pairs, &[0, 3]), (&pairs, &[1, 2, 4])), [1]);
        let texts = shard(SourceKind::Text, &[(&[1, 2, 3], 1), (&[1, 2, 9], 1), (&[1, 2, 3], 1)]);
        assert_eq!(exact_overlap((&texts, &[0]), (&texts, &[1, 2])), [2]);
        assert_eq!(exact_overlap((&texts, &[]), (&texts, &[1, 2])), Vec::<usize>::new());
    }

    proptest! {
        #[test]
        fn a_split_holds_every_id_once(len in 2usize..500, percentage in 1u32..=99, seed: u64) {
            if let Ok((train, held)) = held_out(len, f64::from(percentage), seed) {
                let mut all = [train, held].concat();
                all.sort_unstable();
                prop_assert_eq!(all, (0..len).collect::<Vec<_>>());
            }
        }
    }
}
