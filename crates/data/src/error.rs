//! What can go wrong between a file and a batch, each in one line that says where and what to do.
//!
//! Problems of single records are gathered ([`Problems`]) so that the first twenty are seen at once; everything else stops at once.

use std::fmt;
use std::path::PathBuf;

use crate::tokenizer::TokenizerError;

/// How many problems of records an error lists before it only counts them (R20).
pub const MAX_LISTED: usize = 20;

/// One record (or text file) that can't be used. Displays as `file:line:column: message`, leaving out what isn't known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file it stands in.
    pub path: PathBuf,
    /// Line in the file, from 1.
    pub line: Option<u64>,
    /// Column in the line, in characters, from 1.
    pub column: Option<u64>,
    /// What is wrong and what to do about it.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.path.display())?;
        if let Some(line) = self.line {
            write!(out, ":{line}")?;
        }
        if let Some(column) = self.column {
            write!(out, ":{column}")?;
        }
        write!(out, ": {}", self.message)
    }
}

/// The problems of an input: how many there are, and the first [`MAX_LISTED`] in the order of the input.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problems {
    /// All problems, listed or not.
    pub total: u64,
    /// The first of them.
    pub listed: Vec<Problem>,
}

impl fmt::Display for Problems {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let listed = self.listed.len();
        match (self.total, listed) {
            (1, 1) => {}
            (total, listed) if total == listed as u64 => writeln!(out, "{total} problems in the data:")?,
            (total, listed) => writeln!(out, "{total} problems in the data, of which the first {listed}:")?,
        }
        for (index, problem) in self.listed.iter().enumerate() {
            if index > 0 {
                writeln!(out)?;
            }
            write!(out, "{problem}")?;
        }
        Ok(())
    }
}

/// Everything that stops the preparation or the reading of data.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The input as a whole can't be used: a path, a folder, a mixture of kinds.
    #[error("{0}")]
    Source(String),
    /// Records can't be used; the first ones are listed with their places (R7, R11, R20).
    #[error("{0}")]
    Records(Problems),
    /// An option makes no sense.
    #[error("{0}")]
    Option(String),
    /// A file couldn't be read or written; the message names it.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A cache folder couldn't be written to.
    #[error("can't write to the cache folder `{path}`: {source}")]
    Cache {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file on disk is no whole shard.
    #[error("shard `{path}` is damaged: {reason}; delete it and it will be built again")]
    Shard {
        /// The shard file.
        path: PathBuf,
        /// What doesn't fit.
        reason: String,
    },
    /// The tokenizer refused a text.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
}
