//! The embedding's cases.

use super::{backward, forward, reference};
use crate::case::{Cost, OpCase, Set, boxed, random};
use crate::gradient::Gradient;
use candle_core::{Device, Result, Tensor};

struct Case {
    tokens: usize,
    vocabulary: usize,
    channels: usize,
}

impl Case {
    /// Token 0 first; some come twice.
    fn ids(&self) -> Vec<u32> {
        (0..self.tokens).map(|i| (i * 7919 % self.vocabulary.min(self.tokens * 2 / 3 + 1)) as u32).collect()
    }
}

impl OpCase for Case {
    fn op(&self) -> &'static str {
        "embedding"
    }

    fn shape(&self) -> String {
        format!("{} of ({}, {})", self.tokens, self.vocabulary, self.channels)
    }

    fn inputs(&self) -> Result<Vec<Tensor>> {
        Ok(vec![random(&[self.vocabulary, self.channels], 1)?])
    }

    fn forward(&self, x: &[Tensor]) -> Result<Vec<Tensor>> {
        Ok(vec![forward(&self.ids(), &x[0])?])
    }

    fn reference(&self, x: &[Tensor]) -> Result<Vec<Tensor>> {
        let ids = Tensor::from_vec(self.ids(), self.tokens, x[0].device())?;
        Ok(vec![reference::forward(&ids, &x[0])?])
    }

    fn backward(
        &self,
        _: &[Tensor],
        _: &[Tensor],
        dy: &Tensor,
        gradients: &mut [Gradient],
    ) -> Result<Vec<Option<Tensor>>> {
        backward(dy, &self.ids(), &mut gradients[0])?;
        Ok(vec![None])
    }

    fn cost(&self) -> [Cost; 2] {
        let values = self.tokens * self.channels;
        [Cost::values(2 * values), Cost::values(3 * values)] // backward: dy read, rows read and written
    }

    fn is_fused(&self, _: &Device) -> bool {
        false // candle's gather is a copy of rows
    }
}

pub(crate) fn cases(set: Set) -> Vec<Box<dyn OpCase>> {
    let case = |(tokens, vocabulary, channels)| Case { tokens, vocabulary, channels };
    let shapes: &[(usize, usize, usize)] = match set {
        Set::Small => &[(5, 4, 3)],
        Set::Odd => &[(1, 1, 1), (1, 131, 17), (67, 151_936, 16), (300, 31, 33)],
        Set::Empty => &[(0, 5, 4)],
        Set::Model => &[(512, 49_152, 576)],
    };
    boxed(shapes.iter().copied().map(case))
}
