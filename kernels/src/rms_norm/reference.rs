//! The definition of RMS normalisation.

use candle_core::{D, DType, Result, Tensor};

/// `y = x * w / sqrt(mean(x^2) + eps)` and the reciprocal root. Shapes: x (T, C), weight (C) -> y (T, C), rstd (T).
pub fn forward(x: &Tensor, weight: &Tensor, eps: f32) -> Result<(Tensor, Tensor)> {
    let wide = x.to_dtype(DType::F32)?;
    let rstd = (wide.sqr()?.mean_keepdim(D::Minus1)? + f64::from(eps))?.sqrt()?.recip()?;
    let y = wide.broadcast_mul(&rstd)?.to_dtype(x.dtype())?.broadcast_mul(&weight.to_dtype(x.dtype())?)?;
    Ok((y, rstd.squeeze(D::Minus1)?))
}
