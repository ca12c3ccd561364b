//! The definition of layer normalisation.

use crate::autograd::widened;
use candle_core::{D, Result, Tensor};

/// `y = (x - mean) / sqrt(var + eps) * w + b` with the variance over C (not C - 1), in f32 at least, rounded once.
/// Shapes: x (T, C), weight and bias (C) -> y (T, C), mean (T), rstd (T).
pub fn forward(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, eps: f32) -> Result<(Tensor, Tensor, Tensor)> {
    let wide = widened(x)?;
    let mean = wide.mean_keepdim(D::Minus1)?;
    let centred = wide.broadcast_sub(&mean)?;
    let rstd = (centred.sqr()?.mean_keepdim(D::Minus1)? + f64::from(eps))?.sqrt()?.recip()?;
    let scaled = centred.broadcast_mul(&rstd)?.broadcast_mul(&widened(weight)?)?;
    let y = match bias {
        Some(bias) => scaled.broadcast_add(&widened(bias)?)?,
        None => scaled,
    };
    Ok((y.to_dtype(x.dtype())?, mean.squeeze(D::Minus1)?, rstd.squeeze(D::Minus1)?))
}
