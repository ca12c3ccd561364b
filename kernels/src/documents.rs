//! Where the documents of a packed row begin and end. Attention stays inside one; positions restart in each.

use candle_core::{Result, bail};

/// Offsets of the documents in a row of T tokens: `0 = o[0] < o[1] < ... < o[n] = T`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Documents {
    offsets: Vec<usize>,
}

impl Documents {
    /// Takes the offsets, one more than there are documents.
    /// Errors: not ascending from 0, or an empty document.
    pub fn new(offsets: Vec<usize>) -> Result<Self> {
        if offsets.first() != Some(&0) || offsets.windows(2).any(|pair| pair[0] >= pair[1]) {
            bail!("documents: offsets must ascend from 0 without an empty document, got {offsets:?}")
        }
        Ok(Self { offsets })
    }

    /// A row that is one document of `len` tokens.
    pub fn single(len: usize) -> Result<Self> {
        Self::new(vec![0, len])
    }

    /// Tokens in the row.
    pub fn num_tokens(&self) -> usize {
        self.offsets.last().copied().unwrap_or(0)
    }

    /// Tokens of the longest document.
    pub fn longest(&self) -> usize {
        self.ranges().map(|range| range.len()).max().unwrap_or(0)
    }

    /// The token range of each document.
    pub fn ranges(&self) -> impl Iterator<Item = std::ops::Range<usize>> + '_ {
        self.offsets.windows(2).map(|pair| pair[0]..pair[1])
    }

    /// The position of each token in its document, counted from 0.
    pub fn positions(&self) -> Vec<u32> {
        self.ranges().flat_map(|range| 0..range.len() as u32).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_restart_in_each_document() {
        let documents = Documents::new(vec![0, 3, 4, 6]).unwrap();
        assert_eq!(documents.positions(), [0, 1, 2, 0, 0, 1]);
        assert_eq!((documents.num_tokens(), documents.longest()), (6, 3));
    }

    #[test]
    fn offsets_that_do_not_ascend_are_refused() {
        for offsets in [vec![], vec![1, 2], vec![0, 2, 2], vec![0, 3, 1]] {
            assert!(Documents::new(offsets).is_err());
        }
    }
}
