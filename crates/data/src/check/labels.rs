//! Labels: completions, where few different ones stand for many records, as in classification.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use super::findings::{Findings, Hit, Place};
use super::near::NONE;
use super::rules;

/// Longest label, in characters.
const LABEL_CHARS: usize = 64;
/// Different completions beyond which they aren't labels.
const MOST_LABELS: usize = 100;
/// Different completions that are counted before it is given up.
const MOST_COUNTED: usize = 1000;
/// Records from which completions can be labels, and records a label has on average.
const LEAST_RECORDS: u64 = 12;
const LEAST_MEAN: u64 = 4;
/// Records below which a label is rare, and the share below which it is.
const RARE_RECORDS: u64 = 5;
const RARE_SHARE: f64 = 0.005;
/// How many times as many records as the smallest label the largest may have.
const MOST_IMBALANCE: f64 = 10.0;

/// A label and how many records have it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LabelCount {
    /// The completion.
    pub label: String,
    /// Records that have it.
    pub records: u64,
}

/// Completions being counted.
#[derive(Debug, Default)]
pub(crate) struct Labels {
    ids: HashMap<String, u32>,
    /// By id: count and first place.
    counts: Vec<(u64, Place)>,
    given_up: bool,
    records: u64,
}

/// What can be a label: short and on one line.
pub(crate) fn candidate(completion: &str) -> Option<String> {
    let fits = completion.chars().take(LABEL_CHARS + 1).count() <= LABEL_CHARS && !completion.trim().contains('\n');
    (fits && !completion.trim().is_empty()).then(|| completion.to_owned())
}

impl Labels {
    /// Counts a completion; its number, or [`NONE`].
    pub(crate) fn add(&mut self, label: Option<String>, place: Place) -> u32 {
        self.records += 1;
        let Some(label) = label.filter(|_| !self.given_up) else {
            self.given_up = true;
            return NONE;
        };
        let next = self.counts.len() as u32;
        let id = *self.ids.entry(label).or_insert(next);
        if id == next {
            self.counts.push((0, place));
            self.given_up = self.counts.len() > MOST_COUNTED;
        }
        self.counts[id as usize].0 += 1;
        id
    }

    /// Whether the completions are labels.
    pub(crate) fn are_labels(&self) -> bool {
        let different = self.counts.len();
        !self.given_up
            && (2..=MOST_LABELS).contains(&different)
            && self.records >= LEAST_RECORDS
            && different as u64 * LEAST_MEAN <= self.records
    }

    /// The labels by falling count; empty where completions are no labels.
    pub(crate) fn table(&self) -> Vec<LabelCount> {
        if !self.are_labels() {
            return Vec::new();
        }
        let count =
            |(label, id): (&String, &u32)| LabelCount { label: label.clone(), records: self.counts[*id as usize].0 };
        let mut table: Vec<_> = self.ids.iter().map(count).collect();
        table.sort_by(|one, other| other.records.cmp(&one.records).then_with(|| one.label.cmp(&other.label)));
        table
    }

    /// The label's text.
    pub(crate) fn name(&self, id: u32) -> &str {
        self.ids.iter().find(|(_, found)| **found == id).map_or("", |(label, _)| label)
    }

    fn place(&self, label: &str) -> Place {
        self.ids.get(label).map_or(Place { file: 0, line: 0 }, |id| self.counts[*id as usize].1)
    }

    /// Balance, rare labels, look-alikes.
    pub(crate) fn check(&self, findings: &mut Findings) {
        let table = self.table();
        let (Some(largest), Some(smallest)) = (table.first(), table.last()) else { return };
        let alike = self.look_alikes(&table, findings);
        let times = largest.records as f64 / smallest.records as f64;
        if times >= MOST_IMBALANCE {
            let message = format!(
                "`{}` has {} records, `{}` {}: {times:.0} times as many",
                shown(&largest.label),
                largest.records,
                shown(&smallest.label),
                smallest.records
            );
            findings.add(Hit::new(&rules::LABEL_BALANCE, self.place(&smallest.label), message, ""));
        }
        let least = RARE_RECORDS.max((self.records as f64 * RARE_SHARE).ceil() as u64);
        // a misspelt label is said to be that
        for rare in table.iter().filter(|label| label.records < least && !alike.contains(&label.label)) {
            let message = format!("`{}` has {} of {} records", shown(&rare.label), rare.records, self.records);
            findings.add(Hit::new(&rules::LABEL_RARE, self.place(&rare.label), message, ""));
        }
    }

    /// Tells of labels that read the same as a more frequent one; returns them.
    fn look_alikes(&self, table: &[LabelCount], findings: &mut Findings) -> Vec<String> {
        let mut by_key: BTreeMap<String, &LabelCount> = BTreeMap::new();
        let mut alike = Vec::new();
        for label in table {
            let key: String =
                label.label.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
            // signs alone, such as `+` and `-`, are labels of their own
            let key = if key.is_empty() { label.label.trim().to_owned() } else { key };
            if let Some(first) = by_key.get(&key) {
                let (one, other) = (label.label.escape_debug(), first.label.escape_debug());
                let message = format!("`{one}` ({} records) and `{other}` ({})", label.records, first.records);
                findings.add(Hit::new(&rules::LABEL_LOOK_ALIKE, self.place(&label.label), message, ""));
                alike.push(label.label.clone());
            } else {
                by_key.insert(key, label);
            }
        }
        alike
    }
}

fn shown(label: &str) -> String {
    super::findings::excerpt_of(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(counts: &[(&str, u64)]) -> (Labels, Findings) {
        let (mut labels, mut findings, mut line) = (Labels::default(), Findings::default(), 0);
        for (label, count) in counts {
            for _ in 0..*count {
                line += 1;
                labels.add(candidate(label), Place { file: 0, line });
            }
        }
        labels.check(&mut findings);
        (labels, findings)
    }

    fn counts(counts: &[(&str, u64)]) -> [u64; 3] {
        let (_, findings) = labels(counts);
        [&rules::LABEL_BALANCE, &rules::LABEL_RARE, &rules::LABEL_LOOK_ALIKE].map(|rule| findings.count(rule))
    }

    #[test]
    fn few_different_completions_are_labels() {
        assert!(labels(&[("yes", 20), ("no", 20)]).0.are_labels());
        assert!(!labels(&[("yes", 20)]).0.are_labels());
        let many: Vec<_> = (0..30).map(|index| (["a", "b", "c"][index % 3].repeat(index + 1), 1)).collect();
        assert!(
            !labels(&many.iter().map(|(label, count)| (label.as_str(), *count)).collect::<Vec<_>>()).0.are_labels()
        );
        assert!(!labels(&[("yes", 20), (&"a long answer ".repeat(9), 20)]).0.are_labels());
    }

    #[test]
    fn balance_rarity_and_look_alikes() {
        assert_eq!(counts(&[("yes", 200), ("no", 100)]), [0, 0, 0]);
        assert_eq!(counts(&[("yes", 200), ("no", 15)]), [1, 0, 0]);
        assert_eq!(counts(&[("yes", 40), ("no", 20), ("maybe", 4)]), [1, 1, 0]);
        assert_eq!(counts(&[("Positive", 40), ("Negative", 40), ("positive ", 20)]), [0, 0, 1]);
        assert_eq!(counts(&[("+", 40), ("-", 40)]), [0, 0, 0]);
    }
}
