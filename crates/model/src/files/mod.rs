//! Weight files: safetensors (one or sharded) and GGUF.

pub(crate) mod chat_template;
pub(crate) mod gguf;
mod gguf_architecture;
mod gguf_sentencepiece;
pub(crate) mod gguf_tokenizer;
mod gguf_tokenizer_writer;
pub(crate) mod gguf_writer;
pub(crate) mod mapped_rows;
pub(crate) mod safetensors;
