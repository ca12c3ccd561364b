//! The loss's cases: over one chunk of logits and over several, with a soft-cap, and with a vocabulary of 151,936.

use super::{Options, forward_backward, nll, reference};
use crate::case::{Cost, OpCase, Set, boxed, random};
use crate::gradient::Gradient;
use crate::linear;
use candle_core::{DType, Device, Result, Tensor};

struct Case {
    rows: usize,
    channels: usize,
    vocabulary: usize,
    softcap: Option<f32>,
}

impl Case {
    fn options(&self) -> Options {
        Options { softcap: self.softcap, z_loss: 0.0 }
    }

    fn targets(&self) -> Vec<u32> {
        (0..self.rows).map(|row| ((row * 7919 + 3) % self.vocabulary) as u32).collect()
    }
}

impl OpCase for Case {
    fn op(&self) -> &'static str {
        "head_loss"
    }

    fn shape(&self) -> String {
        let softcap = self.softcap.map_or_else(String::new, |cap| format!(", cap {cap}"));
        format!("({}, {}) to {}{softcap}", self.rows, self.channels, self.vocabulary)
    }

    fn inputs(&self) -> Result<Vec<Tensor>> {
        Ok(vec![(random(&[self.rows, self.channels], 1)? * 3.0)?, random(&[self.vocabulary, self.channels], 2)?])
    }

    fn forward(&self, x: &[Tensor]) -> Result<Vec<Tensor>> {
        let nll = nll(&x[0], &x[1], &self.targets(), self.options())?;
        Ok(vec![Tensor::from_vec(nll, self.rows, &Device::Cpu)?])
    }

    fn reference(&self, x: &[Tensor]) -> Result<Vec<Tensor>> {
        let logits = linear::reference::forward(&x[0], &x[1])?;
        Ok(vec![reference::nll(&logits, &self.targets(), self.options())?])
    }

    fn backward(
        &self,
        x: &[Tensor],
        _: &[Tensor],
        _: &Tensor,
        gradients: &mut [Gradient],
    ) -> Result<Vec<Option<Tensor>>> {
        let output =
            forward_backward(&x[0], &x[1], &self.targets(), 1.0, self.options(), true, Some(&mut gradients[1]))?;
        Ok(vec![output.dh, None])
    }

    /// The sum over the targets is what the op differentiates.
    fn dy(&self, shape: &[usize]) -> Result<Tensor> {
        Tensor::ones(shape, DType::F32, &Device::Cpu)
    }

    /// The op's backward pass makes the logits again: it is the whole step of the head.
    fn cost(&self) -> [Cost; 2] {
        let (h, w) = (self.rows * self.channels, self.vocabulary * self.channels);
        let product = 2 * self.rows * w;
        [Cost::values(h + w).and_flops(product), Cost::values(2 * h + 3 * w).and_flops(3 * product)]
    }
}

pub(crate) fn cases(set: Set) -> Vec<Box<dyn OpCase>> {
    let case = |(rows, channels, vocabulary, softcap)| Case { rows, channels, vocabulary, softcap };
    let shapes: &[(usize, usize, usize, Option<f32>)] = match set {
        Set::Small => &[(3, 4, 5, None), (3, 4, 5, Some(1.5))],
        Set::Odd => &[(1, 8, 3, None), (5, 16, 131, Some(3.0)), (300, 12, 67, None), (113, 4, 151_936, None)],
        Set::Empty => &[(0, 4, 5, None)],
        Set::Model => &[(128, 576, 49_152, None)],
    };
    boxed(shapes.iter().copied().map(case))
}
