//! Weight files: safetensors (one or sharded) and GGUF.

mod caught;
pub(crate) mod chat_template;
mod finite;
pub(crate) mod gguf;
mod gguf_architecture;
mod gguf_header;
mod gguf_keys;
pub(crate) mod gguf_rope;
mod gguf_sentencepiece;
pub(crate) mod gguf_tokenizer;
mod gguf_tokenizer_writer;
pub(crate) mod gguf_writer;
pub(crate) mod inside;
pub(crate) mod mapped_rows;
pub(crate) mod safetensors;
pub(crate) mod tokenizer_json;
