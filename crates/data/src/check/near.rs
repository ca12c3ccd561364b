//! Near-duplicates: records whose sets of normalised words have a Jaccard similarity of at least 0.8, found by MinHash and LSH.
//!
//! A record of at most [`SHORT_WORDS`] different words is kept as the set itself, and candidates are compared exactly; a longer one as
//! its MinHash signature, which estimates the similarity with a standard error of 0.04. Words that stand in more than half of 100
//! or more records (a template, an instruction) don't count, unless nothing else is left: or every pair of rows with the same
//! instruction would be alike.
//! Memory: 28 bytes a record and 4 a word of its set, at most 508 a record; 16 more a record while it searches. Records are taken until
//! a bound is reached, the rest is counted.
//! Source: Broder 1997; banding as in Leskovec, Rajaraman & Ullman, Mining of Massive Datasets, section 3.4.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

use rayon::prelude::*;

use super::words::{for_each_word, mix};

/// Similarity from which two records are near-duplicates.
pub(crate) const JACCARD: f64 = 0.8;
const BANDS: usize = 20;
/// Hashes of a band: pairs at 0.8 meet in some band with probability 0.998, pairs at 0.4 with 0.08.
const BAND_ROWS: usize = 6;
const HASHES: usize = BANDS * BAND_ROWS;
/// Different words up to which a record is kept as its set.
pub(crate) const SHORT_WORDS: usize = HASHES;
/// How many records in front of it in a bucket a record is compared with.
const COMPARED: usize = 32;
/// Candidates compared at once.
const BATCH: usize = 1 << 20;
/// Bits of the table that counts in how many records a word stands; two words in one cell only make the count too large.
const COUNT_BITS: u32 = 20;
/// Records from which a word can be part of a template.
const TEMPLATE_RECORDS: usize = 100;
const RECORD_BYTES: usize = 28;

/// The words of a record, as far as they are needed: a sorted set, or a signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Features {
    Set(Vec<u32>),
    Signature(Box<[u32; HASHES]>),
}

impl Default for Features {
    fn default() -> Self {
        Self::Set(Vec::new())
    }
}

impl Features {
    /// Takes in the words of a text. Texts may come in pieces.
    pub(crate) fn add(&mut self, text: &str) {
        for_each_word(text, |word| {
            let word = (word >> 32) as u32;
            match self {
                Self::Set(set) => {
                    if let Err(index) = set.binary_search(&word) {
                        set.insert(index, word);
                        self.shorten();
                    }
                }
                Self::Signature(signature) => update(signature, word),
            }
        });
    }

    /// Takes in what another piece of the same text has.
    pub(crate) fn merge(&mut self, other: Self) {
        match (&mut *self, other) {
            (Self::Set(set), Self::Set(more)) => {
                set.extend(more);
                set.sort_unstable();
                set.dedup();
                self.shorten();
            }
            (Self::Set(set), Self::Signature(mut signature)) => {
                set.iter().for_each(|word| update(&mut signature, *word));
                *self = Self::Signature(signature);
            }
            (Self::Signature(signature), Self::Set(set)) => set.iter().for_each(|word| update(signature, *word)),
            (Self::Signature(signature), Self::Signature(other)) => {
                signature.iter_mut().zip(other.iter()).for_each(|(one, other)| *one = (*one).min(*other));
            }
        }
    }

    fn shorten(&mut self) {
        if let Self::Set(set) = self
            && set.len() > SHORT_WORDS
        {
            *self = Self::Signature(Box::new(signature(set)));
        }
    }
}

/// The i-th hash of a word: multiply-shift with fixed odd factors.
fn hash_of(word: u32, (factor, shift): (u64, u64)) -> u32 {
    (u64::from(word).wrapping_mul(factor).wrapping_add(shift) >> 32) as u32
}

/// Factor and shift of every hash.
static FAMILY: LazyLock<[(u64, u64); HASHES]> =
    LazyLock::new(|| std::array::from_fn(|index| (mix(index as u64 + 1) | 1, mix(index as u64 + 1000))));

fn update(signature: &mut [u32; HASHES], word: u32) {
    for (least, constants) in signature.iter_mut().zip(FAMILY.iter()) {
        *least = (*least).min(hash_of(word, *constants));
    }
}

fn signature(words: &[u32]) -> [u32; HASHES] {
    let mut signature = [u32::MAX; HASHES];
    words.iter().for_each(|word| update(&mut signature, *word));
    signature
}

/// Marks a record that has no label, and one that stands for itself.
pub(crate) const NONE: u32 = u32::MAX;

/// What is known of a record beside its words.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RecordInfo {
    pub(crate) place: u64,
    /// Hash of what is compared: equal records aren't near-duplicates but duplicates.
    pub(crate) exact: u64,
    /// Number of its label, or [`NONE`].
    pub(crate) label: u32,
}

/// The records that near-duplicates are looked for among.
#[derive(Debug)]
pub(crate) struct Near {
    records: Vec<RecordInfo>,
    /// Where the words of each record begin; the top bit marks a signature.
    starts: Vec<u32>,
    words: Vec<u32>,
    bound_bytes: usize,
    /// Records that found no room.
    pub(crate) left_out: u64,
}

const SIGNATURE_BIT: u32 = 1 << 31;

impl Near {
    pub(crate) fn new(bound_bytes: usize) -> Self {
        // starts are 31-bit numbers of words
        Self {
            records: Vec::new(),
            starts: Vec::new(),
            words: Vec::new(),
            bound_bytes: bound_bytes.min((SIGNATURE_BIT as usize - 1) * 4),
            left_out: 0,
        }
    }

    /// Adds a record; returns its number, or `None` where the bound is reached. Records without a word are never alike.
    pub(crate) fn push(&mut self, features: &Features, info: RecordInfo) -> Option<u32> {
        let words: &[u32] = match features {
            Features::Set(set) => set,
            Features::Signature(signature) => &signature[..],
        };
        let bytes = (self.words.len() + words.len()) * 4 + (self.records.len() + 1) * RECORD_BYTES;
        if self.left_out > 0 || bytes > self.bound_bytes {
            self.left_out += 1;
            return None;
        }
        let mark = if matches!(features, Features::Signature(_)) { SIGNATURE_BIT } else { 0 };
        self.starts.push(self.words.len() as u32 | mark);
        self.words.extend_from_slice(words);
        self.records.push(info);
        Some((self.records.len() - 1) as u32)
    }

    fn words(&self, record: usize) -> (&[u32], bool) {
        let start = self.starts[record];
        let end = self.starts.get(record + 1).map_or(self.words.len(), |next| (next & !SIGNATURE_BIT) as usize);
        (&self.words[(start & !SIGNATURE_BIT) as usize..end], start & SIGNATURE_BIT != 0)
    }

    /// Finds the clusters. Time: about 120 multiplications a word, and a sort of 16 bytes a record for each of 20 bands.
    pub(crate) fn search(mut self) -> Clusters {
        self.drop_template();
        let mut sets = UnionFind::new(self.records.len());
        for band in 0..BANDS {
            let mut keys: Vec<(u64, u32)> = (0..self.records.len())
                .into_par_iter()
                .filter_map(|record| Some((self.band_key(record, band)?, record as u32)))
                .collect();
            keys.par_sort_unstable();
            // neighbours first: most of a bucket is one cluster after that
            self.join(&keys, 1..=1, &mut sets);
            self.join(&keys, 2..=COMPARED, &mut sets);
        }
        let heads = (0..self.records.len() as u32).map(|record| sets.find(record)).collect();
        Clusters { records: self.records, heads, left_out: self.left_out }
    }

    /// Compares each record with those at these distances in front of it in its bucket.
    fn join(&self, keys: &[(u64, u32)], distances: std::ops::RangeInclusive<usize>, sets: &mut UnionFind) {
        let mut candidates = Vec::new();
        let (first, last) = (*distances.start(), *distances.end());
        for index in 0..keys.len() {
            for distance in first..=last.min(index) {
                let other = keys[index - distance];
                if other.0 != keys[index].0 {
                    break;
                }
                if sets.find(other.1) != sets.find(keys[index].1) {
                    candidates.push((other.1, keys[index].1));
                }
            }
            if candidates.len() >= BATCH || index + 1 == keys.len() {
                let alike: Vec<_> = candidates
                    .par_drain(..)
                    .filter(|(one, other)| self.alike(*one as usize, *other as usize))
                    .collect();
                alike.into_iter().for_each(|(one, other)| sets.union(one, other));
            }
        }
    }

    fn band_key(&self, record: usize, band: usize) -> Option<u64> {
        let (words, is_signature) = self.words(record);
        if words.is_empty() {
            return None;
        }
        let mut key = 0u64;
        for index in band * BAND_ROWS..(band + 1) * BAND_ROWS {
            let least = if is_signature {
                words[index]
            } else {
                words.iter().map(|word| hash_of(*word, FAMILY[index])).min().unwrap_or(u32::MAX)
            };
            key = mix(key.rotate_left(7) ^ u64::from(least));
        }
        Some(key)
    }

    fn alike(&self, one: usize, other: usize) -> bool {
        similarity(self.words(one), self.words(other)) >= JACCARD
    }

    /// Takes words out of the sets that stand in more than half of the records.
    fn drop_template(&mut self) {
        let num_sets = self.starts.iter().filter(|start| *start & SIGNATURE_BIT == 0).count();
        if num_sets < TEMPLATE_RECORDS {
            return;
        }
        let counts: Vec<AtomicU32> = (0..1usize << COUNT_BITS).map(|_| AtomicU32::new(0)).collect();
        let cell = |word: u32| &counts[(word >> (32 - COUNT_BITS)) as usize];
        (0..self.records.len()).into_par_iter().for_each(|record| {
            let (words, is_signature) = self.words(record);
            if !is_signature {
                words.iter().for_each(|word| {
                    cell(*word).fetch_add(1, Ordering::Relaxed);
                });
            }
        });
        let most = (num_sets / 2) as u32;
        let is_template = |word: u32| cell(word).load(Ordering::Relaxed) > most;
        let (mut kept, mut read) = (0usize, 0usize);
        for record in 0..self.records.len() {
            let (len, is_signature) = {
                let (words, is) = self.words(record);
                (words.len(), is)
            };
            let range = read..read + len;
            let drop_any = !is_signature && self.words[range.clone()].iter().any(|word| !is_template(*word));
            let start = kept;
            for index in range {
                let word = self.words[index];
                if !(drop_any && is_template(word)) {
                    self.words[kept] = word;
                    kept += 1;
                }
            }
            // the start of the next record isn't overwritten yet, so its words are still found
            read += len;
            self.starts[record] = start as u32 | if is_signature { SIGNATURE_BIT } else { 0 };
        }
        self.words.truncate(kept);
    }
}

/// Jaccard similarity of two sets, or the estimate of it where one is a signature.
fn similarity((one, one_is): (&[u32], bool), (other, other_is): (&[u32], bool)) -> f64 {
    if !one_is && !other_is {
        let (mut left, mut right, mut both) = (0, 0, 0);
        while left < one.len() && right < other.len() {
            both += usize::from(one[left] == other[right]);
            let (step_left, step_right) = (one[left] <= other[right], other[right] <= one[left]);
            left += usize::from(step_left);
            right += usize::from(step_right);
        }
        return both as f64 / (one.len() + other.len() - both).max(1) as f64;
    }
    let signed = |words: &[u32], is: bool| if is { words.to_vec() } else { signature(words).to_vec() };
    let (one, other) = (signed(one, one_is), signed(other, other_is));
    one.iter().zip(&other).filter(|(one, other)| one == other).count() as f64 / HASHES as f64
}

/// Which records belong together; the head of a set is its first record.
struct UnionFind(Vec<u32>);

impl UnionFind {
    fn new(len: usize) -> Self {
        Self((0..len as u32).collect())
    }

    fn find(&mut self, mut record: u32) -> u32 {
        while self.0[record as usize] != record {
            let above = self.0[self.0[record as usize] as usize];
            self.0[record as usize] = above;
            record = above;
        }
        record
    }

    fn union(&mut self, one: u32, other: u32) {
        let (one, other) = (self.find(one), self.find(other));
        self.0[one.max(other) as usize] = one.min(other);
    }
}

/// The result of a search.
#[derive(Debug)]
pub(crate) struct Clusters {
    pub(crate) records: Vec<RecordInfo>,
    /// The first record of each record's cluster.
    pub(crate) heads: Vec<u32>,
    pub(crate) left_out: u64,
}

impl Clusters {
    /// The clusters of at least two records, each in rising order, by their heads.
    pub(crate) fn groups(&self) -> Vec<Vec<u32>> {
        let mut members: Vec<(u32, u32)> = Vec::new();
        let mut is_group = vec![false; self.heads.len()];
        for (record, head) in self.heads.iter().enumerate() {
            if *head != record as u32 {
                is_group[*head as usize] = true;
                members.push((*head, record as u32));
            }
        }
        members.extend((0..self.heads.len() as u32).filter(|head| is_group[*head as usize]).map(|head| (head, head)));
        members.sort_unstable();
        members.chunk_by(|one, other| one.0 == other.0).map(|group| group.iter().map(|pair| pair.1).collect()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn features(text: &str) -> Features {
        let mut features = Features::default();
        features.add(text);
        features
    }

    fn search(texts: &[String]) -> Clusters {
        let mut near = Near::new(1 << 30);
        for (index, text) in texts.iter().enumerate() {
            near.push(&features(text), RecordInfo { place: index as u64, exact: index as u64, label: NONE });
        }
        near.search()
    }

    /// Words `from..to` of an endless text without a repetition.
    fn text(from: usize, to: usize) -> String {
        (from..to).map(|index| format!("w{index}")).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn similarity_is_jaccard_exactly_for_sets_and_nearly_for_signatures() {
        let jaccard = |one: &str, other: &str| {
            let mut near = Near::new(1 << 20);
            for text in [one, other] {
                near.push(&features(text), RecordInfo { place: 0, exact: 0, label: NONE });
            }
            similarity(near.words(0), near.words(1))
        };
        assert_eq!(jaccard(&text(0, 9), &text(1, 10)), 0.8);
        assert_eq!(jaccard("The cat!", "the CAT"), 1.0);
        let (long, near, far) = (text(0, 4000), text(400, 4400), text(2000, 6000));
        assert!((jaccard(&long, &near) - 3600.0 / 4400.0).abs() < 0.12, "{}", jaccard(&long, &near));
        assert!((jaccard(&long, &far) - 2000.0 / 6000.0).abs() < 0.14, "{}", jaccard(&long, &far));
    }

    #[test]
    fn pieces_merge_into_the_whole() {
        let whole = text(0, 300);
        let words: Vec<_> = whole.split(' ').collect();
        for cut in [3, 100, 130, 290] {
            let mut merged = features(&words[..cut].join(" "));
            merged.merge(features(&words[cut..].join(" ")));
            assert_eq!(merged, features(&whole), "{cut}");
        }
    }

    #[test]
    fn nearly_equal_records_meet_and_others_do_not() {
        let mut texts: Vec<_> = (0..400).map(|index| text(index * 40, index * 40 + 20)).collect();
        for index in 0..50 {
            texts.push(text(index * 40 + 1, index * 40 + 21)); // 19 of 21
        }
        for index in 100..150 {
            texts.push(text(index * 40 + 6, index * 40 + 26)); // 14 of 26
        }
        let clusters = search(&texts);
        let groups = clusters.groups();
        assert_eq!(groups.len(), 50);
        assert!(groups.iter().all(|group| group.len() == 2 && group[1] == group[0] + 400));
    }

    #[test]
    fn a_template_around_different_words_makes_no_duplicates() {
        let row = |index: usize| {
            format!("Classify the sentiment of this text please {} {}", text(index, index + 1), index * 3)
        };
        assert_eq!(search(&(0..200).map(row).collect::<Vec<_>>()).groups().len(), 0);
        let same = vec![row(1); 200];
        assert_eq!(search(&same).groups()[0].len(), 200);
    }

    #[test]
    fn the_bound_is_kept_and_what_is_beyond_is_counted() {
        let mut near = Near::new(1000);
        let pushed = (0..100).filter(|_| {
            near.push(&features("one two three"), RecordInfo { place: 0, exact: 0, label: NONE }).is_some()
        });
        assert_eq!(pushed.count(), 25);
        assert_eq!(near.left_out, 75);
    }
}
