//! A bounded map from a pre-tokenised word to its ids: a table of one-line slots, each with room for one short word.
//!
//! Words of a language repeat: the merge loop of BPE need not. A word takes the place of the one whose slot it hashes to; longer
//! words, and words of many ids, are never kept. So memory is fixed and nothing is allocated after the start.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;

/// Slots of a table, 64 bytes each: 4 MB.
const SLOTS: usize = 1 << 16;
/// Longest word that is kept, in bytes.
const MAX_BYTES: usize = 30;
/// Most ids that are kept.
const MAX_IDS: usize = 8;

#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
struct Slot {
    /// Zero where the slot is free.
    num_bytes: u8,
    num_ids: u8,
    bytes: [u8; MAX_BYTES],
    ids: [u32; MAX_IDS],
}

/// Words and their ids under one tokenizer, for one thread at a time.
#[derive(Debug)]
pub(super) struct WordCache {
    slots: Box<[Slot]>,
    hasher: FixedState,
}

impl WordCache {
    pub(super) fn new() -> Self {
        let free = Slot { num_bytes: 0, num_ids: 0, bytes: [0; MAX_BYTES], ids: [0; MAX_IDS] };
        Self { slots: vec![free; SLOTS].into_boxed_slice(), hasher: FixedState::with_seed(0) }
    }

    /// Appends the ids of `word`, which come from `encode` where the table doesn't have them.
    #[inline]
    pub(super) fn extend<E>(
        &mut self,
        word: &str,
        ids: &mut Vec<u32>,
        encode: impl FnOnce(&str) -> Result<Vec<u32>, E>,
    ) -> Result<(), E> {
        if word.len() > MAX_BYTES {
            ids.extend(encode(word)?);
            return Ok(());
        }
        let slot = &mut self.slots[self.hasher.hash_one(word.as_bytes()) as usize % SLOTS];
        if usize::from(slot.num_bytes) == word.len() && slot.bytes[..word.len()] == *word.as_bytes() {
            ids.extend_from_slice(&slot.ids[..usize::from(slot.num_ids)]);
            return Ok(());
        }
        let found = encode(word)?;
        if found.len() <= MAX_IDS {
            slot.bytes[..word.len()].copy_from_slice(word.as_bytes());
            slot.ids[..found.len()].copy_from_slice(&found);
            (slot.num_bytes, slot.num_ids) = (word.len() as u8, found.len() as u8);
        }
        ids.extend(found);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_encoded_once_and_long_ones_each_time() {
        let mut cache = WordCache::new();
        let mut calls = 0;
        let (long, many) = ("x".repeat(MAX_BYTES + 1), "many");
        let mut ids = Vec::new();
        for word in ["wall", "wall", &long, &long, many, many] {
            let encode = |word: &str| {
                calls += 1;
                Ok::<_, ()>(if word == many { vec![7; MAX_IDS + 1] } else { vec![word.len() as u32, 9] })
            };
            cache.extend(word, &mut ids, encode).unwrap();
        }
        assert_eq!(calls, 5);
        let expected = [vec![4, 9, 4, 9], vec![31, 9, 31, 9], vec![7; 2 * (MAX_IDS + 1)]].concat();
        assert_eq!(ids, expected);
        assert_eq!(size_of::<Slot>(), 64);
    }

    #[test]
    fn words_that_share_a_slot_are_told_apart_and_errors_arent_kept() {
        let mut cache = WordCache::new();
        for round in 0..2 {
            for number in 0..3 * SLOTS {
                let mut ids = Vec::new();
                cache.extend(&number.to_string(), &mut ids, |_| Ok::<_, ()>(vec![number as u32])).unwrap();
                assert_eq!(ids, [number as u32], "round {round}");
            }
        }
        let mut ids = Vec::new();
        assert_eq!(cache.extend("new", &mut ids, |_| Err("refused")), Err("refused"));
        assert_eq!(cache.extend("new", &mut ids, |_| Err("refused")), Err("refused"));
        assert!(ids.is_empty());
    }
}
