//! The linear projection's cases.

use super::{backward_input, backward_weight, forward, reference};
use crate::case::{Cost, OpCase, Set, boxed, random};
use crate::gradient::Gradient;
use candle_core::{Result, Tensor};

struct Case {
    rows: usize,
    inner: usize,
    out: usize,
}

impl OpCase for Case {
    fn op(&self) -> &'static str {
        "linear"
    }

    fn shape(&self) -> String {
        format!("({}, {}) to {}", self.rows, self.inner, self.out)
    }

    fn inputs(&self) -> Result<Vec<Tensor>> {
        Ok(vec![random(&[self.rows, self.inner], 1)?, random(&[self.out, self.inner], 2)?])
    }

    fn forward(&self, x: &[Tensor]) -> Result<Vec<Tensor>> {
        Ok(vec![forward(&x[0], &x[1])?])
    }

    fn reference(&self, x: &[Tensor]) -> Result<Vec<Tensor>> {
        Ok(vec![reference::forward(&x[0], &x[1])?])
    }

    fn backward(
        &self,
        x: &[Tensor],
        _: &[Tensor],
        dy: &Tensor,
        gradients: &mut [Gradient],
    ) -> Result<Vec<Option<Tensor>>> {
        backward_weight(dy, &x[0], &mut gradients[1])?;
        Ok(vec![Some(backward_input(dy, &x[1])?), None])
    }

    fn cost(&self) -> [Cost; 2] {
        let (x, w, y) = (self.rows * self.inner, self.out * self.inner, self.rows * self.out);
        let flops = 2 * self.rows * self.inner * self.out;
        [Cost::values(x + w + y).and_flops(flops), Cost::values(2 * x + 3 * w + y).and_flops(2 * flops)]
    }
}

pub(crate) fn cases(set: Set) -> Vec<Box<dyn OpCase>> {
    let case = |(rows, inner, out)| Case { rows, inner, out };
    let shapes: &[(usize, usize, usize)] = match set {
        Set::Small => &[(2, 3, 4)],
        Set::Odd => &[(1, 1, 1), (1, 577, 7), (37, 41, 131), (131, 64, 67), (2, 16, 151_936)],
        Set::Empty => &[(0, 5, 4)],
        Set::Model => &[(512, 576, 576), (512, 576, 1536), (512, 1536, 576)],
    };
    boxed(shapes.iter().copied().map(case))
}
