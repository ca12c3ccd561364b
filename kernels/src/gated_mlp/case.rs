//! The gate's cases: SwiGLU, and GeGLU in both forms of GELU.

use super::{Activation, backward, forward, reference};
use crate::case::{Cost, OpCase, Set, boxed, random};
use crate::gelu::Form;
use crate::gradient::Gradient;
use candle_core::{Result, Tensor};

struct Case {
    rows: usize,
    channels: usize,
    activation: Activation,
}

impl OpCase for Case {
    fn op(&self) -> &'static str {
        "gated_mlp"
    }

    fn shape(&self) -> String {
        let activation = match self.activation {
            Activation::Silu => "silu",
            Activation::Gelu(Form::Erf) => "gelu erf",
            Activation::Gelu(Form::Tanh) => "gelu tanh",
        };
        format!("({}, {}) {activation}", self.rows, self.channels)
    }

    fn inputs(&self) -> Result<Vec<Tensor>> {
        let scaled = |seed| random(&[self.rows, self.channels], seed)? * 6.0;
        Ok(vec![scaled(1)?, scaled(2)?])
    }

    fn forward(&self, x: &[Tensor]) -> Result<Vec<Tensor>> {
        Ok(vec![forward(&x[0], &x[1], self.activation)?])
    }

    fn reference(&self, x: &[Tensor]) -> Result<Vec<Tensor>> {
        Ok(vec![reference::forward(&x[0], &x[1], self.activation)?])
    }

    fn backward(&self, x: &[Tensor], _: &[Tensor], dy: &Tensor, _: &mut [Gradient]) -> Result<Vec<Option<Tensor>>> {
        let (dgate, dup) = backward(dy, &x[0], &x[1], self.activation)?;
        Ok(vec![Some(dgate), Some(dup)])
    }

    fn cost(&self) -> [Cost; 2] {
        let values = self.rows * self.channels;
        [Cost::values(3 * values), Cost::values(5 * values)]
    }
}

pub(crate) fn cases(set: Set) -> Vec<Box<dyn OpCase>> {
    let shapes: &[(usize, usize)] = match set {
        Set::Small => &[(2, 5)],
        Set::Odd => &[(1, 1), (3, 17), (131, 257)],
        Set::Empty => &[(0, 8)],
        Set::Model => &[(512, 1536)],
    };
    let activations = [Activation::Silu, Activation::Gelu(Form::Tanh), Activation::Gelu(Form::Erf)];
    let case = |&(rows, channels): &(usize, usize)| {
        activations.iter().map(move |&activation| Case { rows, channels, activation })
    };
    boxed(shapes.iter().flat_map(case))
}
