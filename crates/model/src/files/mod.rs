//! Weight files: safetensors (one or sharded) and GGUF.

pub(crate) mod gguf;
pub(crate) mod gguf_tokenizer;
pub(crate) mod mapped_rows;
pub(crate) mod safetensors;
