//! The definition of the rotation.

use candle_core::{Result, Tensor};

/// `(a, b) -> (a cos - b sin, b cos + a sin)` for the two halves of the rotated channels; the rest passes.
/// Shapes: x (T, heads * D), cos and sin (T, half) -> (T, heads * D).
pub fn rotate(x: &Tensor, num_heads: usize, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    let (t, width) = x.dims2()?;
    let (dim, half) = (width / num_heads, cos.dim(1)?);
    let x = x.reshape((t, num_heads, dim))?;
    let (a, b) = (x.narrow(2, 0, half)?, x.narrow(2, half, half)?);
    let (cos, sin) = (cos.unsqueeze(1)?, sin.unsqueeze(1)?);
    let first = (a.broadcast_mul(&cos)? - b.broadcast_mul(&sin)?)?;
    let second = (b.broadcast_mul(&cos)? + a.broadcast_mul(&sin)?)?;
    let rest = x.narrow(2, 2 * half, dim - 2 * half)?;
    Tensor::cat(&[&first, &second, &rest], 2)?.reshape((t, width))
}
