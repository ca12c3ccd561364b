//! The definition of the head's step: the gradient written down, its norm, AdamW's reference.

use crate::adamw::{self, Update};
use crate::head_loss::Options;
use candle_core::{Result, Tensor};

/// Losses and gradient of `scale * sum(nll + z_loss * lse^2)` by the references. Shapes: h (k, C), weight (V, C) -> k, (V, C).
pub fn gradient(
    h: &Tensor,
    weight: &Tensor,
    targets: &[u32],
    scale: f32,
    options: Options,
) -> Result<(Vec<f32>, Tensor)> {
    let logits = crate::linear::reference::forward(h, weight)?;
    let (nll, dlogits) = crate::head_loss::reference::forward_backward(&logits, targets, scale, options)?;
    Ok((nll, dlogits.t()?.matmul(h)?))
}

/// One update with that gradient; see [`super::step`].
pub fn step(
    weight: &Tensor,
    first: &mut Tensor,
    second: &mut Tensor,
    gradient: &Tensor,
    update: &Update,
) -> Result<()> {
    adamw::reference::step(weight, first, second, gradient, update)
}
