//! The MLP of a block, gated or plain, and the same backwards. Left out: the norm before, the sum behind (`block`).

use crate::Result;
use crate::layers::{Linear, Weight};
use crate::spec::{self, Activation, Form, Spec};
use crate::weights::Weights;
use candle_core::Tensor;
use outcrop_kernels::{Gradients, gated_mlp, gelu, residual};

/// The MLP of one block.
#[derive(Clone, Debug)]
pub(crate) struct Mlp {
    first: First,
    down: Linear,
}

/// The projections before the activation.
#[derive(Clone, Debug)]
enum First {
    Gated { gate: Box<Linear>, up: Linear, activation: Activation },
    Fused { gate_up: Linear, activation: Activation },
    Plain { up: Linear, form: Form },
}

/// Values of the forward pass that the backward pass reads; x comes from outside, the activation's product is computed
/// again.
pub(crate) struct Saved {
    gate: Option<Tensor>,
    up: Tensor,
}

impl Mlp {
    pub(crate) fn new(spec: &Spec, index: usize, weights: &Weights) -> Result<Self> {
        let linear =
            |name: &str| Linear::new(spec.block_tensor(index, name), spec.biases.mlp, spec.transposed, weights);
        let first = match spec.names.block.mlp {
            spec::Mlp::Gated { gate, up, activation } => {
                First::Gated { gate: Box::new(linear(gate)?), up: linear(up)?, activation }
            }
            spec::Mlp::Fused { gate_up, activation } => First::Fused { gate_up: linear(gate_up)?, activation },
            spec::Mlp::Plain { up, form } => First::Plain { up: linear(up)?, form },
        };
        Ok(Self { first, down: linear(spec.names.block.down)? })
    }

    /// The weights, in the order of the forward pass.
    pub(crate) fn weights(&self) -> Vec<&Weight> {
        let mut weights: Vec<&Weight> = match &self.first {
            First::Gated { gate, up, .. } => gate.weights().chain(up.weights()).collect(),
            First::Fused { gate_up, .. } => gate_up.weights().collect(),
            First::Plain { up, .. } => up.weights().collect(),
        };
        weights.extend(self.down.weights());
        weights
    }

    /// Shapes: x (T, C) -> (T, C), and what the backward pass needs.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<(Tensor, Saved)> {
        let saved = self.saved(x)?;
        Ok((self.down.forward(&self.product(&saved)?)?, saved))
    }

    /// What the backward pass needs, alone: a third of the work less. Shapes: x (T, C).
    pub(crate) fn saved(&self, x: &Tensor) -> Result<Saved> {
        let (gate, up) = match &self.first {
            First::Gated { gate, up, .. } => (Some(gate.forward(x)?), up.forward(x)?), // (T, F) each
            First::Fused { gate_up, .. } => {
                let both = gate_up.forward(x)?; // (T, 2F)
                let f = both.dim(1)? / 2;
                (Some(both.narrow(1, 0, f)?.contiguous()?), both.narrow(1, f, f)?.contiguous()?)
            }
            First::Plain { up, .. } => (None, up.forward(x)?),
        };
        Ok(Saved { gate, up })
    }

    /// What the last projection reads. Shapes: (T, F).
    fn product(&self, saved: &Saved) -> Result<Tensor> {
        Ok(match (&self.first, &saved.gate) {
            (First::Gated { activation, .. } | First::Fused { activation, .. }, Some(gate)) => {
                gated_mlp::forward(gate, &saved.up, *activation)?
            }
            (First::Plain { form, .. }, _) => gelu::forward(&saved.up, *form)?,
            (_, None) => return Err(crate::ModelError::Unsupported("mlp: a gated MLP kept no gate".into())),
        })
    }

    /// Adds the weights' gradients and returns dx. Shapes: dy, x (T, C) -> (T, C).
    pub(crate) fn backward(&self, dy: &Tensor, x: &Tensor, saved: &Saved, grads: &mut Gradients) -> Result<Tensor> {
        if self.down.weights().any(|weight| grads.get(&weight.name).is_some()) {
            self.down.backward_weights(dy, &self.product(saved)?, grads)?;
        }
        let d = self.down.backward_input(dy)?; // (T, F)
        let Saved { gate, up } = saved;
        match (&self.first, gate) {
            (First::Gated { gate: gate_linear, up: up_linear, activation }, Some(gate)) => {
                let (dgate, dup) = gated_mlp::backward(&d, gate, up, *activation)?;
                gate_linear.backward_weights(&dgate, x, grads)?;
                up_linear.backward_weights(&dup, x, grads)?;
                Ok(residual::add(&gate_linear.backward_input(&dgate)?, &up_linear.backward_input(&dup)?)?)
            }
            (First::Fused { gate_up, activation }, Some(gate)) => {
                let (dgate, dup) = gated_mlp::backward(&d, gate, up, *activation)?;
                let both = Tensor::cat(&[dgate, dup], 1)?; // (T, 2F)
                gate_up.backward_weights(&both, x, grads)?;
                gate_up.backward_input(&both)
            }
            (First::Plain { up: up_linear, form }, _) => {
                let dup = gelu::backward(&d, up, *form)?;
                up_linear.backward_weights(&dup, x, grads)?;
                up_linear.backward_input(&dup)
            }
            (_, None) => Err(crate::ModelError::Unsupported("mlp: a gated MLP kept no gate".into())),
        }
    }
}
