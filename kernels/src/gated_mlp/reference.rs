//! The definition of the gate.

use candle_core::{Result, Tensor};

/// `silu(gate) * up`. Shapes: (T, F) -> (T, F).
pub fn forward(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    gate.silu()? * up
}
