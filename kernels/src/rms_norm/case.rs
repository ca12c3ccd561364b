//! RMS normalisation's cases: of tokens, of each head's queries or keys, with a weight that is stored less one, and with
//! the residual sum that it normalises.

use super::{backward, forward, forward_residual, offset, reference};
use crate::case::{Cost, OpCase, Set, boxed, random};
use crate::gradient::Gradient;
use candle_core::{Result, Tensor};

const EPS: f32 = 1e-5;

/// Inputs: x, weight, then the residual where there is one.
struct Case {
    rows: usize,
    channels: usize,
    variant: Variant,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Variant {
    Plain,
    /// Gemma: the factor is `1 + w`.
    Offset,
    /// With the residual sum.
    Sum,
}

impl Case {
    fn weight(&self, weight: &Tensor) -> Result<Tensor> {
        if self.variant == Variant::Offset { offset(weight) } else { Ok(weight.clone()) }
    }
}

impl OpCase for Case {
    fn op(&self) -> &'static str {
        "rms_norm"
    }

    fn shape(&self) -> String {
        let variant = match self.variant {
            Variant::Plain => "",
            Variant::Offset => " by 1 + w",
            Variant::Sum => ", sum",
        };
        format!("({}, {}){variant}", self.rows, self.channels)
    }

    fn inputs(&self) -> Result<Vec<Tensor>> {
        let matrix = [self.rows, self.channels];
        let mut inputs = vec![random(&matrix, 1)?, random(&[self.channels], 2)?];
        if self.variant == Variant::Sum {
            inputs.push(random(&matrix, 3)?);
        }
        Ok(inputs)
    }

    /// Where there is a residual sum, what is differentiated is the sum and its norm added up: both reach the rest of a
    /// model.
    fn forward(&self, x: &[Tensor]) -> Result<Vec<Tensor>> {
        if self.variant == Variant::Sum {
            let (sum, y, rstd) = forward_residual(&x[0], &x[2], &x[1], EPS)?;
            return Ok(vec![crate::residual::add(&y, &sum)?, rstd, sum]);
        }
        let (y, rstd) = forward(&x[0], &self.weight(&x[1])?, EPS)?;
        Ok(vec![y, rstd])
    }

    fn reference(&self, x: &[Tensor]) -> Result<Vec<Tensor>> {
        if self.variant == Variant::Sum {
            let sum = (&x[0] + &x[2])?;
            let (y, rstd) = reference::forward(&sum, &x[1], EPS)?;
            return Ok(vec![(y + &sum)?, rstd, sum]);
        }
        let weight = if self.variant == Variant::Offset { (&x[1] + 1.0)? } else { x[1].clone() };
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
        let gradient = Some(&mut gradients[1]);
        if self.variant == Variant::Sum {
            let dx = backward(dy, &outputs[2], &weight, &outputs[1], EPS, Some(dy), gradient)?;
            return Ok(vec![Some(dx.clone()), None, Some(dx)]);
        }
        Ok(vec![Some(backward(dy, &x[0], &weight, &outputs[1], EPS, None, gradient)?), None])
    }

    fn cost(&self) -> [Cost; 2] {
        let values = self.rows * self.channels;
        match self.variant {
            Variant::Sum => [Cost::values(4 * values), Cost::values(4 * values)],
            _ => [Cost::values(2 * values), Cost::values(3 * values)],
        }
    }

    fn timed<'a>(&'a self, x: &'a [Tensor]) -> Result<Box<dyn FnMut() -> Result<()> + 'a>> {
        Ok(Box::new(move || match self.variant {
            Variant::Sum => forward_residual(&x[0], &x[2], &x[1], EPS).map(drop),
            _ => self.forward(x).map(drop),
        }))
    }
}

pub(crate) fn cases(set: Set) -> Vec<Box<dyn OpCase>> {
    use Variant::{Offset, Plain, Sum};
    let case = |(rows, channels, variant)| Case { rows, channels, variant };
    let shapes: &[(usize, usize, Variant)] = match set {
        Set::Small => &[(3, 7, Plain), (2, 5, Offset), (2, 5, Sum)],
        // the last ones are (T * H, D): the rows of heads of 16 to 256 channels
        Set::Odd => &[
            (1, 17, Plain),
            (1, 577, Offset),
            (131, 33, Plain),
            (37 * 3, 16, Plain),
            (7 * 2, 256, Offset),
            (131, 33, Sum),
            (1, 257, Sum),
        ],
        Set::Empty => &[(0, 4, Plain), (0, 4, Sum)],
        Set::Model => &[(512, 576, Plain), (512, 576, Sum)],
    };
    boxed(shapes.iter().copied().map(case))
}
