//! The residual add's cases.

use super::add;
use crate::case::{Cost, OpCase, Set, boxed, random};
use candle_core::{Result, Tensor};

struct Case {
    rows: usize,
    channels: usize,
}

impl OpCase for Case {
    fn op(&self) -> &'static str {
        "residual"
    }

    fn shape(&self) -> String {
        format!("({}, {})", self.rows, self.channels)
    }

    fn inputs(&self) -> Result<Vec<Tensor>> {
        let matrix = [self.rows, self.channels];
        Ok(vec![random(&matrix, 1)?, random(&matrix, 2)?])
    }

    fn forward(&self, x: &[Tensor]) -> Result<Vec<Tensor>> {
        Ok(vec![add(&x[0], &x[1])?])
    }

    fn reference(&self, x: &[Tensor]) -> Result<Vec<Tensor>> {
        Ok(vec![(&x[0] + &x[1])?])
    }

    fn is_differentiable(&self) -> bool {
        false // its backward pass is the identity
    }

    fn cost(&self) -> [Cost; 2] {
        [Cost::values(3 * self.rows * self.channels), Cost::default()]
    }
}

pub(crate) fn cases(set: Set) -> Vec<Box<dyn OpCase>> {
    let case = |(rows, channels)| Case { rows, channels };
    let shapes: &[(usize, usize)] = match set {
        Set::Small => &[(2, 3)],
        Set::Odd => &[(1, 1), (1, 16_385), (131, 257)],
        Set::Empty => &[(0, 4)],
        Set::Model => &[(512, 576)],
    };
    boxed(shapes.iter().copied().map(case))
}
