//! The definition of RMS normalisation.

use crate::autograd::widened;
use candle_core::{D, Result, Tensor};

/// `y = x * w / sqrt(mean(x^2) + eps)` and the reciprocal root, in f32 at least, rounded once.
/// Shapes: x (T, C), weight (C) -> y (T, C), rstd (T).
pub fn forward(x: &Tensor, weight: &Tensor, eps: f32) -> Result<(Tensor, Tensor)> {
    let wide = widened(x)?;
    let rstd = (wide.sqr()?.mean_keepdim(D::Minus1)? + f64::from(eps))?.sqrt()?.recip()?;
    let y = wide.broadcast_mul(&rstd)?.broadcast_mul(&widened(weight)?)?.to_dtype(x.dtype())?;
    Ok((y, rstd.squeeze(D::Minus1)?))
}
