//! RMS normalisation's cases: of tokens, of each head's queries or keys, and with a weight that is stored less one.

use super::{backward, forward, offset, reference};
use crate::case::{Cost, OpCase, Set, boxed, random};
use crate::gradient::Gradient;
use candle_core::{Result, Tensor};

const EPS: f32 = 1e-5;

struct Case {
    rows: usize,
    channels: usize,
    /// Gemma: the factor is `1 + w`.
    offset: bool,
}

impl Case {
    fn weight(&self, weight: &Tensor) -> Result<Tensor> {
        if self.offset { offset(weight) } else { Ok(weight.clone()) }
    }
}

impl OpCase for Case {
    fn op(&self) -> &'static str {
        "rms_norm"
    }

    fn shape(&self) -> String {
        let variant = if self.offset { " by 1 + w" } else { "" };
        format!("({}, {}){variant}", self.rows, self.channels)
    }

    fn inputs(&self) -> Result<Vec<Tensor>> {
        Ok(vec![random(&[self.rows, self.channels], 1)?, random(&[self.channels], 2)?])
    }

    fn forward(&self, x: &[Tensor]) -> Result<Vec<Tensor>> {
        let (y, rstd) = forward(&x[0], &self.weight(&x[1])?, EPS)?;
        Ok(vec![y, rstd])
    }

    fn reference(&self, x: &[Tensor]) -> Result<Vec<Tensor>> {
        let weight = if self.offset { (&x[1] + 1.0)? } else { x[1].clone() };
        let (y, rstd) = reference::forward(&x[0], &weight, EPS)?;
        Ok(vec![y, rstd])
    }

    fn backward(
        &self,
        x: &[Tensor],
        outputs: &[Tensor],
        dy: &Tensor,
        gradients: &mut [Gradient],
    ) -> Result<Vec<Option<Tensor>>> {
        let weight = self.weight(&x[1])?;
        Ok(vec![Some(backward(dy, &x[0], &weight, &outputs[1], EPS, Some(&mut gradients[1]))?), None])
    }

    fn cost(&self) -> [Cost; 2] {
        let values = self.rows * self.channels;
        [Cost::values(2 * values), Cost::values(3 * values)]
    }
}

pub(crate) fn cases(set: Set) -> Vec<Box<dyn OpCase>> {
    let case = |(rows, channels, offset)| Case { rows, channels, offset };
    let shapes: &[(usize, usize, bool)] = match set {
        Set::Small => &[(3, 7, false), (2, 5, true)],
        // the last ones are (T * H, D): the rows of heads of 16 to 256 channels
        Set::Odd => &[(1, 17, false), (1, 577, true), (131, 33, false), (37 * 3, 16, false), (7 * 2, 256, true)],
        Set::Empty => &[(0, 4, false)],
        Set::Model => &[(512, 576, false)],
    };
    boxed(shapes.iter().copied().map(case))
}
