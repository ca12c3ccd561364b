//! The linear projection's cases.

use super::{add_bias, backward_bias, backward_input, backward_weight, forward, reference};
use crate::case::{Cost, OpCase, Set, boxed, random};
use crate::gradient::Gradient;
use candle_core::{Result, Tensor};

struct Case {
    rows: usize,
    inner: usize,
    out: usize,
    bias: bool,
}

impl OpCase for Case {
    fn op(&self) -> &'static str {
        "linear"
    }

    fn shape(&self) -> String {
        let bias = if self.bias { " with bias" } else { "" };
        format!("({}, {}) to {}{bias}", self.rows, self.inner, self.out)
    }

    fn inputs(&self) -> Result<Vec<Tensor>> {
        let mut inputs = vec![random(&[self.rows, self.inner], 1)?, random(&[self.out, self.inner], 2)?];
        if self.bias {
            inputs.push(random(&[self.out], 3)?);
        }
        Ok(inputs)
    }

    fn forward(&self, x: &[Tensor]) -> Result<Vec<Tensor>> {
        let y = forward(&x[0], &x[1])?;
        Ok(vec![if self.bias { add_bias(y, &x[2])? } else { y }])
    }

    fn reference(&self, x: &[Tensor]) -> Result<Vec<Tensor>> {
        let y = reference::forward(&x[0], &x[1])?;
        Ok(vec![if self.bias { reference::add_bias(&y, &x[2])? } else { y }])
    }

    fn backward(
        &self,
        x: &[Tensor],
        _: &[Tensor],
        dy: &Tensor,
        gradients: &mut [Gradient],
    ) -> Result<Vec<Option<Tensor>>> {
        backward_weight(dy, &x[0], &mut gradients[1])?;
        if self.bias {
            backward_bias(dy, &mut gradients[2])?;
        }
        let mut direct = vec![None; x.len()];
        direct[0] = Some(backward_input(dy, &x[1])?);
        Ok(direct)
    }

    fn cost(&self) -> [Cost; 2] {
        let (x, w, y) = (self.rows * self.inner, self.out * self.inner, self.rows * self.out);
        let bias = if self.bias { self.out } else { 0 };
        let flops = 2 * self.rows * self.inner * self.out;
        [Cost::values(x + w + y + bias).and_flops(flops), Cost::values(2 * x + 3 * w + y + bias).and_flops(2 * flops)]
    }
}

pub(crate) fn cases(set: Set) -> Vec<Box<dyn OpCase>> {
    let case = |(rows, inner, out, bias)| Case { rows, inner, out, bias };
    let shapes: &[(usize, usize, usize, bool)] = match set {
        Set::Small => &[(2, 3, 4, false), (2, 3, 4, true)],
        Set::Odd => {
            &[(1, 1, 1, false), (1, 577, 7, true), (37, 41, 131, false), (131, 64, 67, true), (2, 16, 151_936, false)]
        }
        Set::Empty => &[(0, 5, 4, false), (0, 5, 4, true)],
        Set::Model => {
            &[(512, 576, 576, false), (512, 576, 1536, false), (512, 1536, 576, false), (512, 576, 576, true)]
        }
    };
    boxed(shapes.iter().copied().map(case))
}
