//! One trainable decoder, its families, and its files.
//!
//! A reader finds the main job's way here: [`Base`] opens a Hugging Face folder or a GGUF file and loads a
//! [`Decoder`]; [`Decoder::trunk`] runs frozen layers without a graph; [`Decoder::loss_backward`] gives the loss of a
//! packed row and adds its gradients; [`delta`] keeps what a job changed; [`export`] writes a Hugging Face folder.
//!
//! Left out: data and tokens' targets (`outcrop-data`), the loop (`outcrop-trainer`), the ops (`outcrop-kernels`).

mod attention;
pub mod base;
mod beginnings;
mod block;
mod cache;
mod decoder;
pub mod delta;
mod error;
pub mod export;
pub mod families;
mod files;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod generate;
pub mod hub;
pub mod init;
mod layers;
mod mlp;
mod rotary;
mod row;
mod sampling;
pub mod spec;
mod weights;

pub use base::Base;
pub use decoder::{Decoder, Recompute, group_size};
pub use error::ModelError;
pub use files::mapped_rows::MappedRows;
pub use rotary::{Rope, RopeScaling};
pub use row::Row;
pub use spec::Spec;
pub use weights::Weights;

/// What this crate's functions return.
pub type Result<T> = std::result::Result<T, ModelError>;
