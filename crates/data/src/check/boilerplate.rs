//! Lines that stand in many documents, counted in bounded memory: a count-min sketch says how often a line was met (never too
//! low), and the most frequent ones are kept by name. Source: Cormode & Muthukrishnan 2005.

use std::collections::HashMap;

use super::findings::{Findings, Hit, Place};
use super::rules;
use super::words::mix;

const ROWS: usize = 4;
const WIDTH_BITS: u32 = 20;
/// Lines kept by name.
const KEPT: usize = 4096;
/// Documents that a line stands in before it is kept.
const LEAST: u32 = 3;
/// Share of the documents from which a line is boilerplate.
const SHARE: f64 = 0.05;
const LEAST_DOCUMENTS: u64 = 10;

#[derive(Debug, Clone)]
struct Kept {
    count: u32,
    place: Place,
    excerpt: String,
}

/// The sketch: 16 MB from the first line on.
#[derive(Debug, Default)]
pub(crate) struct Boilerplate {
    counts: Vec<u32>,
    kept: HashMap<u64, Kept>,
    documents: u64,
}

impl Boilerplate {
    /// A document ended.
    pub(crate) fn end_document(&mut self) {
        self.documents += 1;
    }

    /// A line that the current document hasn't had before.
    pub(crate) fn add(&mut self, line: u64, place: Place, excerpt: String) {
        if self.counts.is_empty() {
            self.counts = vec![0; ROWS << WIDTH_BITS];
        }
        let mut least = u32::MAX;
        for row in 0..ROWS {
            let cell = (mix(line ^ (row as u64) << 56) >> (64 - WIDTH_BITS)) as usize;
            let count = &mut self.counts[row << WIDTH_BITS | cell];
            *count = count.saturating_add(1);
            least = least.min(*count);
        }
        if least < LEAST {
            return;
        }
        self.kept.entry(line).or_insert(Kept { count: least, place, excerpt }).count = least;
        if self.kept.len() > KEPT {
            // the rarer half goes; what is frequent comes back with its full count
            let mut counts: Vec<u32> = self.kept.values().map(|kept| kept.count).collect();
            counts.sort_unstable();
            let median = counts[counts.len() / 2];
            self.kept.retain(|_, kept| kept.count > median);
        }
    }

    pub(crate) fn check(self, findings: &mut Findings) {
        let least = u64::from(LEAST).max((self.documents as f64 * SHARE).ceil() as u64);
        if self.documents < LEAST_DOCUMENTS {
            return;
        }
        let mut lines: Vec<_> = self.kept.into_values().filter(|kept| u64::from(kept.count) >= least).collect();
        lines.sort_by(|one, other| other.count.cmp(&one.count).then_with(|| one.place.cmp(&other.place)));
        for line in lines {
            let message = format!("in {} of {} documents", u64::from(line.count).min(self.documents), self.documents);
            findings.add(Hit::new(&rules::BOILERPLATE, line.place, message, &line.excerpt));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frequent_lines_are_found_among_many() {
        let mut sketch = Boilerplate::default();
        for document in 0..2000u64 {
            let place = Place { file: 0, line: document + 1 };
            sketch.add(7, place, "all rights reserved".into());
            (0..20).for_each(|line| sketch.add(mix(1000 + document * 20 + line), place, "own".into()));
            sketch.end_document();
        }
        let mut findings = Findings::default();
        sketch.check(&mut findings);
        let found = findings.finish(&["a".into()], &Default::default());
        assert_eq!((found[0].count, found[0].rows[0].message.as_str()), (1, "in 2000 of 2000 documents"));
        assert_eq!((found[0].rows[0].line, found[0].rows[0].excerpt.as_str()), (3, "all rights reserved"));
    }
}
