//! From the user's files to packed batches: formats, checks, tokens and targets, shards, order, steps.
//!
//! record -> checks -> (tokens, targets) -> shard -> order -> batch. Everything here is plain vectors and mapped files;
//! tensors, devices and the loss live in other crates. What reads next: [`Sources`] finds the files, [`prepare()`] checks and
//! tokenises all of them into a [`Shard`], [`Steps`] says which units an optimizer step holds, [`micro_batches`] lays them out.

mod batch;
mod builder;
mod chat;
mod chat_template;
pub mod check;
mod conversation;
mod cuts;
mod encode;
mod error;
mod example;
mod input;
mod journal;
mod json_place;
mod options;
mod order;
mod packing;
mod prepare;
mod reader;
mod record;
mod shard;
mod source;
mod split;
mod steps;
mod summary;
mod tokenizer;
mod words;
mod writer;

#[cfg(any(test, fuzzing))]
mod fixtures;
#[cfg(any(test, fuzzing))]
pub mod fuzz;

pub use batch::Batch;
pub use chat::{ChatError, conversation_text, encode_chat_prompt, encode_conversation, end_of_turn};
pub use chat_template::{ChatTemplate, ChatTemplateError};
pub use conversation::{BEDROCK_SCHEMA, Conversation, ConversationForm, Role, Turn};
pub use error::{DataError, MAX_LISTED, Problem, Problems};
pub use example::{
    Cut, Example, Pair, PairError, completion_text, cut, encode_document, encode_pair, encode_prompt, prompt_text,
};
pub use options::{LongRecords, PrepareOptions};
pub use order::Order;
pub use packing::{Fullness, RowPacker};
pub use prepare::{CODE_VERSION, Prepared, cache_key, prepare};
pub use shard::{Document, Shard};
pub use source::{Compression, FormatHint, SourceFile, SourceKind, Sources};
pub use split::{exact_overlap, held_out};
pub use steps::{StepBatches, Steps, micro_batches, step_targets};
pub use summary::{LengthPercentiles, Summary};
pub use tokenizer::{SpecialTokens, TextTokenizer, TokenizerError};
