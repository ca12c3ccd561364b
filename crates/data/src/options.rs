//! What a caller may choose about the preparation of data. Every option shapes the tokens and so is part of the cache key.

use serde::Serialize;

/// What happens to a pair that is longer than the maximum. Texts are cut into rows, never truncated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LongRecords {
    /// An error that lists them (R11).
    #[default]
    Error,
    /// They are left out and counted.
    Drop,
    /// Their prompt loses its beginning (not its BOS), so that all targets stay; too long a completion is an error.
    Truncate,
}

/// Everything that shapes the tokens besides the input and the tokenizer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct PrepareOptions {
    /// Longest document, in tokens; also what rows of text are filled up to.
    pub max_length: usize,
    /// Policy for longer pairs.
    pub long_records: LongRecords,
    /// How many records may have an empty completion; more are an error (R7).
    pub allow_empty_completions: u64,
    /// Read only so many records (text files) of the input; the rest isn't checked either.
    pub limit: Option<u64>,
}

impl PrepareOptions {
    /// The strict defaults: long records and empty completions are errors, the input is read whole.
    pub fn new(max_length: usize) -> Self {
        Self { max_length, long_records: LongRecords::Error, allow_empty_completions: 0, limit: None }
    }
}
