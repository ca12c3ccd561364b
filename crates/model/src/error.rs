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
    #[error("{}: {}", path.display(), one_line(message))]
    Invalid {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong and what to do.
        message: String,
    },
    /// A config that this engine can't represent exactly.
    #[error("{}", one_line(.0))]
    Unsupported(String),
}

impl ModelError {
    /// Content of `path` that can't be used.
    pub(crate) fn invalid(path: impl Into<PathBuf>, message: impl Into<String>) -> Self {
        Self::Invalid { path: path.into(), message: message.into() }
    }
}

/// A message may quote what a file holds: control characters, line ends among them, are written as escapes.
fn one_line(message: &str) -> String {
    let mut line = String::with_capacity(message.len());
    for character in message.chars() {
        match character.is_control() {
            true => line.extend(character.escape_default()),
            false => line.push(character),
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::ModelError;

    #[test]
    fn a_name_with_a_line_end_in_it_stays_on_the_line() {
        let error = ModelError::invalid("m", "`a\nb\u{7}` is missing, não");
        assert_eq!(error.to_string(), "m: `a\\nb\\u{7}` is missing, não");
        assert_eq!(ModelError::Unsupported("a\tb".into()).to_string(), "a\\tb");
    }
}
