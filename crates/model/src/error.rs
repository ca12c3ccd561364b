//! What can go wrong with a model: its files, its config, its tensors.

use std::path::PathBuf;

/// One line each: what, where, what to do.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A file that can't be read or written; fs_err names the path.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A tensor op that failed: a shape or dtype that the caller got wrong, or the device.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
    /// A file or folder whose content can't be used.
    #[error("{}: {message}", path.display())]
    Invalid {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong and what to do.
        message: String,
    },
    /// A config that this engine can't represent exactly.
    #[error("{0}")]
    Unsupported(String),
}

impl ModelError {
    /// Content of `path` that can't be used.
    pub(crate) fn invalid(path: impl Into<PathBuf>, message: impl Into<String>) -> Self {
        Self::Invalid { path: path.into(), message: message.into() }
    }
}
