//! The global norm's cases: over two tensors.

use super::sum_of_squares;
use crate::case::{Cost, OpCase, Set, boxed, random};
use candle_core::{Device, Result, Tensor};

struct Case {
    values: usize,
}

impl OpCase for Case {
    fn op(&self) -> &'static str {
        "global_norm"
    }

    fn shape(&self) -> String {
        format!("({0}) and ({0})", self.values)
    }

    fn inputs(&self) -> Result<Vec<Tensor>> {
        Ok(vec![random(&[self.values], 1)?, random(&[self.values], 2)?])
    }

    fn forward(&self, x: &[Tensor]) -> Result<Vec<Tensor>> {
        let sum = sum_of_squares(&x[0])? + sum_of_squares(&x[1])?;
        Ok(vec![Tensor::new(sum.sqrt(), &Device::Cpu)?])
    }

    fn reference(&self, x: &[Tensor]) -> Result<Vec<Tensor>> {
        Ok(vec![(x[0].sqr()?.sum_all()? + x[1].sqr()?.sum_all()?)?.sqrt()?])
    }

    fn is_differentiable(&self) -> bool {
        false
    }

    fn is_narrowed(&self, _: usize) -> bool {
        false // gradients are f32
    }

    fn cost(&self) -> [Cost; 2] {
        [Cost::values(2 * self.values), Cost::default()]
    }
}

pub(crate) fn cases(set: Set) -> Vec<Box<dyn OpCase>> {
    let values: &[usize] = match set {
        Set::Small => &[5],
        Set::Odd => &[1, 65_537, 300_007],
        Set::Empty => &[0],
        Set::Model => &[1 << 22],
    };
    boxed(values.iter().map(|&values| Case { values }))
}
