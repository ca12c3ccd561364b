//! Every op of the decoder with its backward pass, one folder per op.
//!
//! `mod.rs` of an op is what callers read: `forward` and `backward`, shapes checked, dispatch by device.
//! `reference.rs` is its definition in plain differentiable tensor code. `cpu.rs` is parallel and vectorised
//! with run-time dispatch. A device without a fused kernel runs the reference, its backward by candle's
//! autograd for that op alone ([`autograd`]).
//!
//! Left out: layers, weights and names (crate `outcrop-model`), the loop (crate `outcrop-trainer`).
//!
//! Shapes, everywhere: T tokens of a packed row, C channels, H query heads, K key/value heads, D head
//! dimension, V vocabulary, N rows that are targets. A row holds several documents; nothing is padded.

pub mod adamw;
pub mod adamw_8bit;
pub mod allocator;
mod arguments;
pub mod attention;
pub mod autograd;
pub mod case;
pub mod device;
pub mod documents;
pub mod embedding;
mod fresh;
pub mod gated_mlp;
pub mod gelu;
pub mod global_norm;
pub mod gradient;
pub mod head_loss;
pub mod head_step;
pub mod layer_norm;
pub mod linear;
pub mod lion;
mod matmul;
pub mod parameter;
pub mod pool;
pub mod residual;
pub mod rms_norm;
pub mod rope;
pub mod rows;
pub mod sgd;
mod simd;
mod storage;
#[cfg(test)]
mod testing;

pub use documents::Documents;
pub use gradient::{Gradient, Gradients};
pub use parameter::Parameter;
pub use storage::{fused, update, view};
