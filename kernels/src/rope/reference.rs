//! The definition of the rotation.

use crate::autograd::widened;
use candle_core::{Result, Tensor};

/// `(a, b) -> (a cos - b sin, b cos + a sin)` for the two halves of the rotated channels; the rest passes. In f32 at
/// least, rounded once. Shapes: x (T, heads * D), cos and sin (T, half) -> (T, heads * D).
pub fn rotate(x: &Tensor, num_heads: usize, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    let (t, width) = x.dims2()?;
    let (dim, half) = (width / num_heads, cos.dim(1)?);
    let wide = widened(x)?.reshape((t, num_heads, dim))?;
    let (a, b) = (wide.narrow(2, 0, half)?, wide.narrow(2, half, half)?);
    let table = |x: &Tensor| x.to_dtype(wide.dtype())?.unsqueeze(1);
    let (cos, sin) = (table(cos)?, table(sin)?);
    let first = (a.broadcast_mul(&cos)? - b.broadcast_mul(&sin)?)?;
    let second = (b.broadcast_mul(&cos)? + a.broadcast_mul(&sin)?)?;
    let mut parts = vec![first, second];
    if dim > 2 * half {
        parts.push(wide.narrow(2, 2 * half, dim - 2 * half)?); // nothing is copied where nothing passes: CUDA refuses
    }
    Tensor::cat(&parts, 2)?.reshape((t, width))?.to_dtype(x.dtype())
}
