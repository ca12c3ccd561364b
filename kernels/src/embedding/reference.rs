//! The definition of the embedding.

use candle_core::{Result, Tensor};

/// Rows of `table` by id. Shapes: ids (T) u32, table (V, C) -> (T, C).
pub fn forward(ids: &Tensor, table: &Tensor) -> Result<Tensor> {
    table.contiguous()?.index_select(ids, 0) // on CUDA a strided table is refused
}
