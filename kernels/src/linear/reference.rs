//! The definition of the linear projection.

use candle_core::{Result, Tensor};

/// `y = x W^T`. Shapes: x (T, I), weight (O, I) -> (T, O).
pub fn forward(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    x.to_dtype(weight.dtype())?.matmul(&weight.t()?)?.to_dtype(x.dtype())
}
