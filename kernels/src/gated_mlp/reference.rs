//! The definition of the gate.

use super::Activation;
use crate::autograd::widened;
use crate::gelu;
use candle_core::{Result, Tensor};

/// `activation(gate) * up`, computed in f32 at least. Shapes: (T, F) -> (T, F).
pub fn forward(gate: &Tensor, up: &Tensor, activation: Activation) -> Result<Tensor> {
    let wide = widened(gate)?;
    let activated = match activation {
        Activation::Silu => wide.silu()?,
        Activation::Gelu(form) => gelu::reference::forward(&wide, form)?,
    };
    (activated * widened(up)?)?.to_dtype(gate.dtype())
}
