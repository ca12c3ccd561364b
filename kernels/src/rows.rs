//! Gathering and scattering token rows: targets leave the row before the head and come back behind it.

use candle_core::{Result, Tensor};

/// Rows `indices` of `x`. Shapes: x (T, C) -> (N, C).
pub fn gather(x: &Tensor, indices: &[u32]) -> Result<Tensor> {
    let indices = Tensor::from_slice(indices, indices.len(), x.device())?;
    x.contiguous()?.index_select(&indices, 0)
}

/// The backward pass of [`gather`]: rows of `dy` at `indices`, zeros elsewhere. Indices are distinct.
/// Shapes: dy (N, C) -> (T, C).
pub fn scatter(dy: &Tensor, indices: &[u32], num_rows: usize) -> Result<Tensor> {
    let channels = dy.dim(1)?;
    let indices = Tensor::from_slice(indices, indices.len(), dy.device())?;
    Tensor::zeros((num_rows, channels), dy.dtype(), dy.device())?.index_add(&indices, &dy.contiguous()?, 0)
}
