//! The cases of gathering rows and of scattering them back.

use super::{gather, scatter};
use crate::case::{Cost, OpCase, Set, boxed, random};
use crate::gradient::Gradient;
use candle_core::{Device, Result, Tensor};

struct Case {
    rows: usize,
    channels: usize,
    /// Every how many rows one is taken; 0 for none.
    every: usize,
}

impl Case {
    fn indices(&self) -> Vec<u32> {
        (0..self.rows as u32).step_by(self.every.max(1)).take(if self.every == 0 { 0 } else { self.rows }).collect()
    }
}

impl OpCase for Case {
    fn op(&self) -> &'static str {
        "rows"
    }

    fn shape(&self) -> String {
        format!("{} of ({}, {})", self.indices().len(), self.rows, self.channels)
    }

    fn inputs(&self) -> Result<Vec<Tensor>> {
        Ok(vec![random(&[self.rows, self.channels], 1)?])
    }

    fn forward(&self, x: &[Tensor]) -> Result<Vec<Tensor>> {
        Ok(vec![gather(&x[0], &self.indices())?])
    }

    fn reference(&self, x: &[Tensor]) -> Result<Vec<Tensor>> {
        let indices = self.indices();
        let indices = Tensor::from_slice(&indices, indices.len(), x[0].device())?;
        Ok(vec![x[0].contiguous()?.index_select(&indices, 0)?])
    }

    fn backward(&self, _: &[Tensor], _: &[Tensor], dy: &Tensor, _: &mut [Gradient]) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(scatter(dy, &self.indices(), self.rows)?)])
    }

    fn cost(&self) -> [Cost; 2] {
        let taken = self.indices().len() * self.channels;
        [Cost::values(2 * taken), Cost::values(taken + self.rows * self.channels)]
    }

    fn is_fused(&self, _: &Device) -> bool {
        false // candle's gather is a copy of rows
    }
}

pub(crate) fn cases(set: Set) -> Vec<Box<dyn OpCase>> {
    let case = |(rows, channels, every)| Case { rows, channels, every };
    let shapes: &[(usize, usize, usize)] = match set {
        Set::Small => &[(5, 3, 2)],
        Set::Odd => &[(1, 1, 1), (131, 17, 3), (64, 33, 1)],
        Set::Empty => &[(4, 3, 0)],
        Set::Model => &[(512, 576, 2)],
    };
    boxed(shapes.iter().copied().map(case))
}
