//! The errors of evaluation. Each is one line: what, where, and what to do.

use std::path::PathBuf;

/// Why a suite could not be loaded, scored, stored or compared.
#[derive(Debug, thiserror::Error)]
pub enum EvalError {
    /// A file could not be read or written; the message names the path.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A line of a suite's file is not as it must be. Lines and columns count from 1.
    #[error("{}:{line}:{column}: {message}", path.display())]
    Line {
        /// The suite's file.
        path: PathBuf,
        /// Line of the fault.
        line: usize,
        /// Column of the fault, in characters.
        column: usize,
        /// What is wrong and what to do.
        message: String,
    },
    /// A suite as a whole cannot be used.
    #[error("suite `{}`: {message}", path.display())]
    Suite {
        /// The suite's file or folder.
        path: PathBuf,
        /// What is wrong and what to do.
        message: String,
    },
    /// An item cannot be scored.
    #[error("{place}: {message}")]
    Item {
        /// `file:line`, or the file alone for a text.
        place: String,
        /// What is wrong and what to do.
        message: String,
    },
    /// Rows could not be packed.
    #[error(transparent)]
    Data(#[from] outcrop_data::DataError),
    /// The model failed while scoring.
    #[error("the model failed while scoring: {0}")]
    Scorer(Box<dyn std::error::Error + Send + Sync>),
    /// Scores that don't belong together.
    #[error("cannot compare: {0}")]
    Comparison(String),
    /// A gate that can't be held to these suites.
    #[error("gate {0}")]
    Gate(String),
    /// A report could not be written as JSON.
    #[error("cannot write the report as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

impl EvalError {
    /// Wraps the error of a model, for implementers of `Scorer`.
    pub fn scorer(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Scorer(error.into())
    }
}
