//! Equal beginnings of a row's documents: what a frozen trunk gives for them is the same, so they run through it once.
//!
//! A token's hidden state depends on its document up to it and on nothing else (R10), so tokens with the same document
//! up to them are one. Products and norms take the distinct tokens; attention alone reads each document whole. Same bits
//! in f32 on the CPU. Left out: training, whose backward pass wants every token.

use crate::Result;
use crate::row::Row;
use candle_core::Tensor;
use outcrop_kernels::attention::{self, Heads};
use outcrop_kernels::rows;
use std::collections::HashMap;

/// The distinct tokens of a row: U of its T tokens.
pub(crate) struct Beginnings {
    /// Tokens and positions of the distinct ones, in the order of the row; the documents are the whole row's.
    pub(crate) row: Row,
    /// The first of the equal tokens, for each distinct one: U places in the row.
    first: Vec<u32>,
    /// The distinct token of each token: T places among the distinct ones.
    place: Vec<u32>,
}

impl Beginnings {
    /// Those of a row; None where less than a tenth of its tokens is spared: the copies around attention cost about a
    /// twentieth of a block's products. Cost: a look into a map for each token.
    pub(crate) fn of(row: &Row) -> Option<Self> {
        let (mut first, mut place) = (Vec::new(), Vec::with_capacity(row.len()));
        let mut distinct = HashMap::new(); // by the distinct token before, and the token
        for range in row.documents.ranges() {
            let mut before = None;
            for at in range {
                let token = *distinct.entry((before, row.tokens[at])).or_insert_with(|| {
                    first.push(at as u32);
                    first.len() as u32 - 1
                });
                place.push(token);
                before = Some(token);
            }
        }
        if first.len() * 10 > row.len() * 9 {
            return None;
        }
        let of = |values: &[u32]| first.iter().map(|&at| values[at as usize]).collect();
        let row = Row { tokens: of(&row.tokens), positions: of(&row.positions), documents: row.documents.clone() };
        Some(Self { row, first, place })
    }

    /// Places among the distinct tokens. Errors: a position beyond the row.
    pub(crate) fn places(&self, positions: &[u32]) -> Result<Vec<u32>> {
        let place = |&position: &u32| {
            self.place.get(position as usize).copied().ok_or_else(|| {
                crate::ModelError::Unsupported(format!("row: position {position} of {} tokens", self.place.len()))
            })
        };
        positions.iter().map(place).collect()
    }

    /// A row's values from those of its distinct tokens. Shapes: x (U, C) -> (T, C).
    pub(crate) fn spread(&self, x: &Tensor) -> Result<Tensor> {
        Ok(rows::gather(x, &self.place)?)
    }

    /// Attention of the whole row. Shapes: q (U, H*D), k and v (U, K*D) -> (U, H*D), (H, T).
    pub(crate) fn attend(&self, q: &Tensor, k: &Tensor, v: &Tensor, heads: Heads) -> Result<(Tensor, Tensor)> {
        let [q, k, v] = [self.spread(q)?, self.spread(k)?, self.spread(v)?];
        let (o, lse) = attention::forward(&q, &k, &v, heads, &self.row.documents)?;
        Ok((rows::gather(&o, &self.first)?, lse))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_with_the_same_document_up_to_them_are_one() {
        // 7 8 9 | 7 8 1 2 | 8 9 | 7 8 9 9
        let row = Row::new(vec![7, 8, 9, 7, 8, 1, 2, 8, 9, 7, 8, 9, 9], &[0, 3, 7, 9, 13]).unwrap();
        let found = Beginnings::of(&row).unwrap();
        assert_eq!(found.row.tokens, [7, 8, 9, 1, 2, 8, 9, 9]);
        assert_eq!(found.row.positions, [0, 1, 2, 2, 3, 0, 1, 3]);
        assert_eq!(found.place, [0, 1, 2, 0, 1, 3, 4, 5, 6, 0, 1, 2, 7]);
        assert_eq!(found.places(&[12, 4, 0]).unwrap(), [7, 1, 0]);
        let message = found.places(&[13]).unwrap_err().to_string();
        assert_eq!(message, "row: position 13 of 13 tokens");
    }

    #[test]
    fn a_row_that_spares_little_runs_as_it_is() {
        let tokens: Vec<u32> = (0..30).collect();
        assert!(Beginnings::of(&Row::single(tokens.clone()).unwrap()).is_none());
        let twice = |equal: usize| {
            let second = (0..30).map(|i| if i < equal { i as u32 } else { 100 + i as u32 });
            Row::new(tokens.iter().copied().chain(second).collect(), &[0, 30, 60]).unwrap()
        };
        assert!(Beginnings::of(&twice(5)).is_none());
        assert_eq!(Beginnings::of(&twice(6)).unwrap().row.len(), 54);
    }
}
