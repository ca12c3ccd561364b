//! Sorted triples of numbers in bounded memory: beyond a bound, sorted runs go to unnamed temporary files and are merged at the end.
//!
//! This is how equal prompts and shared word runs are found among more records than fit in memory.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};

use rayon::prelude::*;

/// A key, where it was met, and a further number.
pub(crate) type Triple = [u64; 3];

const TRIPLE_BYTES: usize = 24;
/// Triples kept in memory: 96 MB.
const IN_MEMORY: usize = 4 << 20;
/// Bytes of a run that are read ahead when runs are merged.
const READ_AHEAD: usize = 1 << 16;

/// Triples being gathered.
#[derive(Debug)]
pub(crate) struct Spill {
    memory: Vec<Triple>,
    runs: Vec<File>,
    bound: usize,
}

impl Spill {
    pub(crate) fn new() -> Self {
        Self::with_bound(IN_MEMORY)
    }

    fn with_bound(bound: usize) -> Self {
        Self { memory: Vec::new(), runs: Vec::new(), bound }
    }

    pub(crate) fn push(&mut self, triple: Triple) -> io::Result<()> {
        self.memory.push(triple);
        if self.memory.len() < self.bound {
            return Ok(());
        }
        self.memory.par_sort_unstable();
        let mut out = BufWriter::with_capacity(1 << 20, tempfile::tempfile()?);
        for triple in self.memory.drain(..) {
            triple.iter().try_for_each(|number| out.write_all(&number.to_le_bytes()))?;
        }
        let mut file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.rewind()?;
        self.runs.push(file);
        Ok(())
    }

    /// Calls `each` with every group of triples that share their key, in rising order of keys, each group sorted.
    /// A group is held in memory up to `most` triples; what is beyond is only counted.
    pub(crate) fn groups(
        mut self,
        most: usize,
        mut each: impl FnMut(&[Triple], u64) -> io::Result<()>,
    ) -> io::Result<()> {
        self.memory.par_sort_unstable();
        let mut group: Vec<Triple> = Vec::new();
        let mut beyond = 0;
        let mut add = |triple: Triple| -> io::Result<()> {
            if group.first().is_some_and(|first| first[0] != triple[0]) {
                each(&group, beyond)?;
                group.clear();
                beyond = 0;
            }
            if group.len() < most {
                group.push(triple)
            } else {
                beyond += 1
            }
            Ok(())
        };
        if self.runs.is_empty() {
            self.memory.into_iter().try_for_each(&mut add)?;
        } else {
            let mut runs: Vec<_> =
                self.runs.into_iter().map(|file| BufReader::with_capacity(READ_AHEAD, file)).collect();
            let mut memory = self.memory.into_iter();
            let last = runs.len();
            let mut next = |run: usize| if run == last { Ok(memory.next()) } else { read(&mut runs[run]) };
            let mut heap = BinaryHeap::new();
            for run in 0..=last {
                heap.extend(next(run)?.map(|triple| Reverse((triple, run))));
            }
            while let Some(Reverse((triple, run))) = heap.pop() {
                add(triple)?;
                heap.extend(next(run)?.map(|triple| Reverse((triple, run))));
            }
        }
        if group.is_empty() { Ok(()) } else { each(&group, beyond) }
    }
}

fn read(run: &mut BufReader<File>) -> io::Result<Option<Triple>> {
    let mut bytes = [0; TRIPLE_BYTES];
    match run.read_exact(&mut bytes) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let number = |index: usize| u64::from_le_bytes(std::array::from_fn(|byte| bytes[index * 8 + byte]));
    Ok(Some([number(0), number(1), number(2)]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::words::mix;

    #[test]
    fn groups_are_the_same_in_memory_and_on_disk() {
        let triples: Vec<Triple> = (0..1000).map(|index| [mix(index % 300), index, index * 7]).collect();
        let groups = |bound| {
            let mut spill = Spill::with_bound(bound);
            triples.iter().for_each(|triple| spill.push(*triple).unwrap());
            let mut all = Vec::new();
            spill
                .groups(3, |group, beyond| {
                    all.push((group.to_vec(), beyond));
                    Ok(())
                })
                .unwrap();
            all
        };
        let (memory, disk) = (groups(1 << 20), groups(64));
        assert_eq!(memory, disk);
        assert_eq!(memory.len(), 300);
        assert_eq!(memory.iter().map(|(group, beyond)| group.len() as u64 + beyond).sum::<u64>(), 1000);
        assert!(memory.iter().all(|(group, beyond)| group.len() == 3 && *beyond <= 1));
    }
}
