//! Runs of 13 words that training and evaluation data share.
//!
//! A run that stands in more than ten training records is a template or a common phrase and doesn't count (Brown et al. 2020,
//! appendix C). Memory: 18 bytes a run of the evaluation files; matches are sorted outside of memory.

use std::collections::{BTreeMap, HashMap};
use std::io;

use super::findings::{Findings, Hit, Place};
use super::rules;
use super::spill::Spill;

/// Training records with a run from which it is a common phrase.
const COMMON: usize = 10;
/// Runs of the evaluation files that are kept where nothing else is said: what a table of 2^24 places holds, 272 MiB and half as
/// much while it grows. That is 90 MB of text.
pub(crate) const MOST_GRAMS: usize = 14 << 20;

/// Runs of the evaluation files, each with the first records that have it.
#[derive(Debug, Default)]
pub(crate) struct EvalGrams {
    most: usize,
    first: HashMap<u64, u64, BuildIdentity>,
    /// Further records that have a run which another one had first.
    more: Vec<(u64, u64)>,
}

/// Hashes are random already.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct BuildIdentity;

#[derive(Debug, Default)]
pub(crate) struct Identity(u64);

impl std::hash::Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = (self.0 << 8) | u64::from(*byte));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

impl std::hash::BuildHasher for BuildIdentity {
    type Hasher = Identity;
    fn build_hasher(&self) -> Identity {
        Identity::default()
    }
}

impl EvalGrams {
    /// Keeps at most so many runs.
    pub(crate) fn new(most: usize) -> Self {
        Self { most, ..Self::default() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_empty()
    }

    pub(crate) fn contains(&self, gram: u64) -> bool {
        self.first.contains_key(&gram)
    }

    /// Adds the runs of an evaluation record. False where there is no room for more.
    pub(crate) fn add(&mut self, grams: &[u64], place: Place) -> bool {
        for gram in grams {
            if self.first.len() + self.more.len() >= self.most {
                return false;
            }
            match self.first.entry(*gram) {
                std::collections::hash_map::Entry::Vacant(entry) => {
                    entry.insert(place.pack());
                }
                std::collections::hash_map::Entry::Occupied(_) => self.more.push((*gram, place.pack())),
            }
        }
        true
    }

    /// Every evaluation record that has a run of some training record, with the first such record.
    pub(crate) fn leaks(mut self, matches: Spill) -> io::Result<BTreeMap<u64, u64>> {
        self.more.sort_unstable();
        let mut leaked: BTreeMap<u64, u64> = BTreeMap::new();
        matches.groups(COMMON + 1, |group, _| {
            if group.len() > COMMON {
                return Ok(());
            }
            let (gram, training) = (group[0][0], group[0][1]);
            let start = self.more.partition_point(|(other, _)| *other < gram);
            let more = self.more[start..].iter().take_while(|(other, _)| *other == gram).map(|(_, place)| *place);
            for place in self.first.get(&gram).copied().into_iter().chain(more) {
                let known = leaked.entry(place).or_insert(training);
                *known = training.min(*known);
            }
            Ok(())
        })?;
        Ok(leaked)
    }

    /// Tells of them.
    pub(crate) fn check(self, matches: Spill, names: &[String], findings: &mut Findings) -> io::Result<()> {
        for (place, training) in self.leaks(matches)? {
            let training = Place::unpack(training);
            let name = names.get(training.file as usize).map_or("", String::as_str);
            let message = format!("shared with {name}:{}", training.line);
            findings.add(Hit::new(&rules::LEAK_GRAM, Place::unpack(place), message, ""));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_runs_leak_and_common_phrases_do_not() {
        let place = |line| Place { file: 1, line };
        let mut grams = EvalGrams::new(usize::MAX);
        assert!(grams.add(&[10, 11], place(1)) && grams.add(&[11, 12], place(2)) && grams.add(&[13], place(3)));
        let mut matches = Spill::new();
        matches.push([11, Place { file: 0, line: 7 }.pack(), 0]).unwrap();
        (0..20).for_each(|line| matches.push([13, Place { file: 0, line }.pack(), 0]).unwrap());
        let mut findings = Findings::default();
        grams.check(matches, &["t".into(), "e".into()], &mut findings).unwrap();
        let found = findings.finish(&["t".into(), "e".into()], &Default::default());
        let rows: Vec<_> =
            found[0].rows.iter().map(|row| (row.file.as_str(), row.line, row.message.as_str())).collect();
        assert_eq!(rows, [("e", 1, "shared with t:7"), ("e", 2, "shared with t:7")]);
    }
}
