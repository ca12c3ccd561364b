//! The credentials that a service accepts, from a file like `~/.aws/credentials`: sections with `aws_access_key_id` and
//! `aws_secret_access_key`, and with `aws_bearer_token_bedrock`. Nothing else of such files has a meaning here.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use subtle::ConstantTimeEq;

/// Keys and tokens. Its debug form has none of them.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    keys: HashMap<String, String>,
    tokens: Vec<String>,
}

/// Why a credentials file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// The disk.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// Others on this machine could read it.
    #[error("`{}` can be read by others; make it yours alone: chmod 600 {}", .0.display(), .0.display())]
    Public(PathBuf),
    /// A line of another shape.
    #[error("{}:{line}: {problem}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// What is wrong, and what is expected.
        problem: &'static str,
    },
    /// Nothing in it.
    #[error("`{}` has no credentials; give aws_access_key_id and aws_secret_access_key, or aws_bearer_token_bedrock", .0.display())]
    Empty(PathBuf),
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credentials({} keys, {} tokens)", self.keys.len(), self.tokens.len())
    }
}

impl Credentials {
    /// Reads a file that only its owner may read.
    ///
    /// # Errors
    /// The disk, a file that others can read, a line that isn't understood, a file without credentials.
    pub fn read(path: &Path) -> Result<Self, CredentialsError> {
        let file = fs_err::File::open(path)?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            if file.metadata()?.permissions().mode() & 0o077 != 0 {
                return Err(CredentialsError::Public(path.to_path_buf()));
            }
        }
        Self::parse(path, &std::io::read_to_string(file)?)
    }

    fn parse(path: &Path, text: &str) -> Result<Self, CredentialsError> {
        let wrong = |line, problem| CredentialsError::Line { path: path.to_path_buf(), line, problem };
        let mut found = Self::default();
        let mut id: Option<(usize, String)> = None;
        for (line, content) in (1..).zip(text.lines().map(str::trim)) {
            if content.is_empty() || content.starts_with(['#', ';']) || content.starts_with('[') {
                if let Some((line, _)) = id.take_if(|_| content.starts_with('[')) {
                    return Err(wrong(line, "an access key without aws_secret_access_key after it"));
                }
                continue;
            }
            let pair = content.split_once('=').map(|(name, value)| (name.trim(), value.trim()));
            let (name, value) = pair.ok_or_else(|| wrong(line, "expected NAME = VALUE or [SECTION]"))?;
            if value.is_empty() {
                return Err(wrong(line, "the value is empty"));
            }
            match name {
                "aws_access_key_id" if id.is_none() => id = Some((line, value.to_string())),
                "aws_secret_access_key" => {
                    let (_, id) =
                        id.take().ok_or_else(|| wrong(line, "a secret without aws_access_key_id before it"))?;
                    if found.keys.insert(id, value.to_string()).is_some() {
                        return Err(wrong(line, "this access key is given twice"));
                    }
                }
                "aws_bearer_token_bedrock" => found.tokens.push(value.to_string()),
                _ => {
                    let expected = "expected aws_access_key_id, aws_secret_access_key or aws_bearer_token_bedrock";
                    return Err(wrong(line, expected));
                }
            }
        }
        match id {
            Some((line, _)) => Err(wrong(line, "an access key without aws_secret_access_key after it")),
            None if found.keys.is_empty() && found.tokens.is_empty() => {
                Err(CredentialsError::Empty(path.to_path_buf()))
            }
            None => Ok(found),
        }
    }

    /// Every access key with its secret.
    pub(crate) fn keys(&self) -> impl Iterator<Item = (&str, &str)> {
        self.keys.iter().map(|(id, secret)| (id.as_str(), secret.as_str()))
    }

    pub(super) fn secret(&self, id: &str) -> Option<&str> {
        self.keys.get(id).map(String::as_str)
    }

    /// Whether there is any bearer token.
    pub(crate) fn has_tokens(&self) -> bool {
        !self.tokens.is_empty()
    }

    /// Looks at every token, so that the time doesn't tell which one came close.
    pub(crate) fn has_token(&self, token: &str) -> bool {
        let matches = self.tokens.iter().map(|own| own.as_bytes().ct_eq(token.as_bytes()));
        bool::from(matches.fold(subtle::Choice::from(0), |any, one| any | one))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Credentials, String> {
        Credentials::parse(Path::new("file"), text).map_err(|error| error.to_string())
    }

    #[test]
    fn a_file_like_awss_is_read() {
        let text = "# mine\n[default]\naws_access_key_id = AKID\naws_secret_access_key=s/e+c=\n\n[b]\naws_bearer_token_bedrock = t\n";
        let found = parse(text).unwrap();
        assert_eq!((found.secret("AKID"), found.secret("other")), (Some("s/e+c="), None));
        assert!(found.has_token("t") && !found.has_token("T") && !found.has_token(""));
        assert_eq!(format!("{found:?}"), "Credentials(1 keys, 1 tokens)");
    }

    #[test]
    fn errors_name_the_line() {
        for (text, part) in [
            ("", "has no credentials"),
            ("[default]\n", "has no credentials"),
            ("aws_access_key_id = A\n[b]\naws_secret_access_key = s", "file:1: an access key without"),
            ("aws_access_key_id = A", "file:1: an access key without"),
            ("aws_secret_access_key = s", "file:1: a secret without"),
            ("\naws_acess_key_id = A", "file:2: expected aws_access_key_id"),
            ("what", "file:1: expected NAME = VALUE"),
            ("aws_bearer_token_bedrock =", "file:1: the value is empty"),
        ] {
            assert!(parse(text).unwrap_err().contains(part), "{text:?}: {}", parse(text).unwrap_err());
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_others_can_read_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let file = tempfile::NamedTempFile::new().unwrap();
        fs_err::write(file.path(), "aws_bearer_token_bedrock = t").unwrap();
        for (mode, accepted) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false)] {
            fs_err::set_permissions(file.path(), std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(Credentials::read(file.path()).is_ok(), accepted, "{mode:o}");
        }
    }
}
