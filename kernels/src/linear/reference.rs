//! The definition of the linear projection.

use candle_core::{Result, Tensor};

/// `y = x W^T`. Shapes: x (T, I), weight (O, I) -> (T, O).
pub fn forward(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    // contiguous, or transposed as a whole: CUDA's product takes no other strides
    x.to_dtype(weight.dtype())?.contiguous()?.matmul(&weight.contiguous()?.t()?)?.to_dtype(x.dtype())
}

/// `y + bias`. Shapes: y (T, O), bias (O) -> (T, O).
pub fn add_bias(y: &Tensor, bias: &Tensor) -> Result<Tensor> {
    y.broadcast_add(&bias.to_dtype(y.dtype())?)
}
