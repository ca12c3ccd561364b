//! Layer normalisation's cases: with and without a bias, and with the residual sum that it normalises.

use super::{Norm, Statistics, backward, forward, forward_residual, reference};
use crate::case::{Cost, OpCase, Set, boxed, random};
use crate::gradient::Gradient;
use candle_core::{Result, Tensor};

const EPS: f32 = 1e-5;

/// Inputs: x, weight, then the bias and the residual where there are such.
struct Case {
    rows: usize,
    channels: usize,
    bias: bool,
    residual: bool,
}

impl Case {
    fn norm<'a>(&self, x: &'a [Tensor]) -> Norm<'a> {
        Norm { weight: &x[1], bias: self.bias.then(|| &x[2]), eps: EPS }
    }

    fn residual<'a>(&self, x: &'a [Tensor]) -> Option<&'a Tensor> {
        if self.residual { x.last() } else { None }
    }
}

impl OpCase for Case {
    fn op(&self) -> &'static str {
        "layer_norm"
    }

    fn shape(&self) -> String {
        let bias = if self.bias { "" } else { ", no bias" };
        let residual = if self.residual { ", sum" } else { "" };
        format!("({}, {}){bias}{residual}", self.rows, self.channels)
    }

    fn inputs(&self) -> Result<Vec<Tensor>> {
        let matrix = [self.rows, self.channels];
        let mut inputs = vec![random(&matrix, 1)?, random(&[self.channels], 2)?];
        if self.bias {
            inputs.push(random(&[self.channels], 3)?);
        }
        if self.residual {
            inputs.push(random(&matrix, 4)?);
        }
        Ok(inputs)
    }

    /// Where there is a residual sum, what is differentiated is the sum and its norm added up: both reach the rest of a
    /// model.
    fn forward(&self, x: &[Tensor]) -> Result<Vec<Tensor>> {
        let Some(residual) = self.residual(x) else {
            let normed = forward(&x[0], self.norm(x))?;
            return Ok(vec![normed.y, normed.statistics.mean, normed.statistics.rstd]);
        };
        let (sum, normed) = forward_residual(&x[0], residual, self.norm(x))?;
        let both = crate::residual::add(&normed.y, &sum)?;
        Ok(vec![both, normed.statistics.mean, normed.statistics.rstd, sum])
    }

    fn reference(&self, x: &[Tensor]) -> Result<Vec<Tensor>> {
        let norm = self.norm(x);
        let sum = self.residual(x).map(|residual| &x[0] + residual).transpose()?;
        let (y, mean, rstd) = reference::forward(sum.as_ref().unwrap_or(&x[0]), norm.weight, norm.bias, EPS)?;
        Ok(match sum {
            None => vec![y, mean, rstd],
            Some(sum) => vec![(y + &sum)?, mean, rstd, sum],
        })
    }

    fn backward(
        &self,
        x: &[Tensor],
        outputs: &[Tensor],
        dy: &Tensor,
        gradients: &mut [Gradient],
    ) -> Result<Vec<Option<Tensor>>> {
        let statistics = Statistics { mean: outputs[1].clone(), rstd: outputs[2].clone() };
        let (input, past) = if self.residual { (&outputs[3], Some(dy)) } else { (&x[0], None) };
        let (weight, bias) = gradients[1..].split_at_mut(1);
        let bias = if self.bias { bias.first_mut() } else { None };
        let dx = backward(dy, input, self.norm(x), &statistics, past, weight.first_mut(), bias)?;
        let mut all = vec![Some(dx.clone()), None];
        if self.bias {
            all.push(None);
        }
        if self.residual {
            all.push(Some(dx));
        }
        Ok(all)
    }

    fn cost(&self) -> [Cost; 2] {
        let values = self.rows * self.channels;
        match self.residual {
            true => [Cost::values(4 * values), Cost::values(4 * values)],
            false => [Cost::values(2 * values), Cost::values(3 * values)],
        }
    }

    fn timed<'a>(&'a self, x: &'a [Tensor]) -> Result<Box<dyn FnMut() -> Result<()> + 'a>> {
        Ok(Box::new(move || match self.residual(x) {
            Some(residual) => forward_residual(&x[0], residual, self.norm(x)).map(drop),
            None => forward(&x[0], self.norm(x)).map(drop),
        }))
    }
}

pub(crate) fn cases(set: Set) -> Vec<Box<dyn OpCase>> {
    let case = |(rows, channels, bias, residual)| Case { rows, channels, bias, residual };
    let shapes: &[(usize, usize, bool, bool)] = match set {
        Set::Small => &[(3, 7, true, false), (2, 5, false, false), (2, 5, true, true)],
        Set::Odd => &[
            (1, 17, true, false),
            (1, 577, false, true),
            (131, 33, true, true),
            (67, 256, true, false),
            (97, 16, false, false),
        ],
        Set::Empty => &[(0, 4, true, false), (0, 4, false, true)],
        Set::Model => &[(512, 576, true, false), (512, 576, true, true)],
    };
    boxed(shapes.iter().copied().map(case))
}
