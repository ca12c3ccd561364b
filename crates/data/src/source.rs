//! Which files an input consists of and what kind of records they hold.
//!
//! A path is a file or a folder of files. What is in the files is the business of `reader` and `record`.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::DataError;

/// What one file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceKind {
    /// JSONL, one `{"prompt", "completion"}` a line.
    Pairs,
    /// JSONL, one `{"input"}` a line.
    Inputs,
    /// Plain text, one document a file.
    Text,
}

/// What the job is for; it says which kinds fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FormatHint {
    /// `FINE_TUNING`: pairs only.
    FineTuning,
    /// `CONTINUED_PRE_TRAINING`: inputs or text.
    ContinuedPreTraining,
}

/// How a file is compressed, by the end of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// `.gz`
    Gzip,
    /// `.zst`
    Zstd,
}

/// A file of the input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// Its path, as found.
    pub path: PathBuf,
    /// Its size in bytes when it was found, compressed where it is; never zero.
    pub bytes: u64,
    /// How it is compressed.
    pub compression: Option<Compression>,
}

impl SourceFile {
    fn new(path: &Path, bytes: u64) -> Self {
        Self { path: path.to_owned(), bytes, compression: compression(path) }
    }
}

/// The files of an input, all of one kind, in the order of their records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sources {
    kind: SourceKind,
    files: Vec<SourceFile>,
}

impl Sources {
    /// Finds the files of `paths`: the paths in their order, a folder's files (of its folders too) sorted by path,
    /// hidden ones skipped. `.jsonl` files hold records, all others are text; `.gz` and `.zst` behind either are undone.
    ///
    /// Errors: a path is missing or neither file nor folder; a folder has no files; a file is empty; JSONL and text are mixed;
    /// text is given for `FINE_TUNING`.
    pub fn discover(paths: &[PathBuf], hint: FormatHint) -> Result<Self, DataError> {
        let mut found = Vec::new();
        for path in paths {
            discover_path(path, &mut found)?;
        }
        let Some(first) = found.first() else {
            return Err(DataError::Source("no data is given; name a file or a folder".into()));
        };
        if let Some(other) = found.iter().find(|file| is_jsonl(&file.path) != is_jsonl(&first.path)) {
            let (jsonl, text) = if is_jsonl(&first.path) { (first, other) } else { (other, first) };
            return Err(DataError::Source(format!(
                "the data mixes JSONL records (`{}`) and text (`{}`); give one kind",
                jsonl.path.display(),
                text.path.display()
            )));
        }
        let kind = match (is_jsonl(&first.path), hint) {
            (true, FormatHint::FineTuning) => SourceKind::Pairs,
            (true, FormatHint::ContinuedPreTraining) => SourceKind::Inputs,
            (false, FormatHint::ContinuedPreTraining) => SourceKind::Text,
            (false, FormatHint::FineTuning) => {
                return Err(DataError::Source(format!(
                    "`{}` is text, but FINE_TUNING needs a .jsonl file of `prompt` and `completion`; text is for CONTINUED_PRE_TRAINING",
                    first.path.display()
                )));
            }
        };
        if let Some(empty) = found.iter().find(|file| file.bytes == 0) {
            return Err(DataError::Source(format!("`{}` is empty; fill it or take it out", empty.path.display())));
        }
        Ok(Self { kind, files: found })
    }

    /// What every file holds.
    pub fn kind(&self) -> SourceKind {
        self.kind
    }

    /// The files, in the order of their records.
    pub fn files(&self) -> &[SourceFile] {
        &self.files
    }

    /// Size of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }
}

fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|found| found.eq_ignore_ascii_case(extension))
}

fn compression(path: &Path) -> Option<Compression> {
    let is = |extension| has_extension(path, extension);
    is("gz").then_some(Compression::Gzip).or(is("zst").then_some(Compression::Zstd))
}

/// `.jsonl`, also in front of `.gz` or `.zst`.
pub(crate) fn is_jsonl(path: &Path) -> bool {
    match compression(path) {
        None => has_extension(path, "jsonl"),
        Some(_) => path.file_stem().is_some_and(|stem| has_extension(Path::new(stem), "jsonl")),
    }
}

fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}

pub(crate) fn discover_path(path: &Path, found: &mut Vec<SourceFile>) -> Result<(), DataError> {
    let metadata = match fs_err::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(DataError::Source(format!("`{}` doesn't exist; check the path", path.display())));
        }
        other => other?,
    };
    if !metadata.is_dir() {
        return push_file(path, &metadata, found);
    }
    let mut in_folder = Vec::new();
    walk(path, &mut Vec::new(), &mut in_folder)?;
    if in_folder.is_empty() {
        return Err(DataError::Source(format!(
            "folder `{}` has no files (hidden ones don't count); fill it or name another",
            path.display()
        )));
    }
    in_folder.sort_by(|one, other| one.path.cmp(&other.path));
    found.extend(in_folder);
    Ok(())
}

/// `above` holds the real paths of the folders that lead here, so that a link back up is seen.
fn walk(folder: &Path, above: &mut Vec<PathBuf>, found: &mut Vec<SourceFile>) -> Result<(), DataError> {
    let real = fs_err::canonicalize(folder)?;
    if above.contains(&real) {
        return Err(DataError::Source(format!(
            "`{}` links back to a folder that holds it; remove the link",
            folder.display()
        )));
    }
    above.push(real);
    for entry in fs_err::read_dir(folder)? {
        let entry = entry?;
        if is_hidden(&entry.file_name()) {
            continue;
        }
        let path = entry.path();
        let metadata = fs_err::metadata(&path)?;
        if metadata.is_dir() {
            walk(&path, above, found)?;
        } else {
            push_file(&path, &metadata, found)?;
        }
    }
    above.pop();
    Ok(())
}

fn push_file(path: &Path, metadata: &std::fs::Metadata, found: &mut Vec<SourceFile>) -> Result<(), DataError> {
    if !metadata.is_file() {
        return Err(DataError::Source(format!(
            "`{}` is neither a file nor a folder; name one of these",
            path.display()
        )));
    }
    found.push(SourceFile::new(path, metadata.len()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::write;

    fn names(sources: &Sources, root: &Path) -> Vec<String> {
        let relative = |file: &SourceFile| file.path.strip_prefix(root).unwrap().to_string_lossy().replace('\\', "/");
        sources.files().iter().map(relative).collect()
    }

    #[test]
    fn a_folder_is_read_whole_sorted_and_without_hidden_files() {
        let root = tempfile::tempdir().unwrap();
        for name in ["b.txt", "a/z.md", "a/b/c.txt", ".hidden.txt", ".git/x.txt", "a.txt"] {
            write(root.path(), name, "text");
        }
        let sources = Sources::discover(&[root.path().to_owned()], FormatHint::ContinuedPreTraining).unwrap();
        assert_eq!(names(&sources, root.path()), ["a/b/c.txt", "a/z.md", "a.txt", "b.txt"]);
        assert_eq!((sources.kind(), sources.bytes()), (SourceKind::Text, 16));
    }

    #[test]
    fn paths_keep_their_order_and_a_hidden_file_may_be_named() {
        let root = tempfile::tempdir().unwrap();
        let paths = [write(root.path(), ".b.JSONL", "{}"), write(root.path(), "a.jsonl", "{}")];
        let sources = Sources::discover(&paths, FormatHint::FineTuning).unwrap();
        assert_eq!(names(&sources, root.path()), [".b.JSONL", "a.jsonl"]);
        assert_eq!(sources.kind(), SourceKind::Pairs);
        assert_eq!(Sources::discover(&paths, FormatHint::ContinuedPreTraining).unwrap().kind(), SourceKind::Inputs);
    }

    #[test]
    fn compressed_files_are_known_by_their_names() {
        let root = tempfile::tempdir().unwrap();
        let cases = [
            ("a.jsonl.gz", true, Some(Compression::Gzip)),
            ("b.JSONL.ZST", true, Some(Compression::Zstd)),
            ("c.txt.gz", false, Some(Compression::Gzip)),
            ("gz", false, None),
            ("jsonl.gz", false, Some(Compression::Gzip)),
        ];
        for (name, is_records, compression) in cases {
            let path = write(root.path(), name, "x");
            assert_eq!(is_jsonl(&path), is_records, "{name}");
            assert_eq!(SourceFile::new(&path, 1).compression, compression, "{name}");
        }
    }

    #[test]
    fn what_cant_be_used_is_named() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().display().to_string();
        let discover = |name: &str, hint| Sources::discover(&[root.path().join(name)], hint).unwrap_err().to_string();
        let text = FormatHint::ContinuedPreTraining;
        assert_eq!(discover("none", text), format!("`{folder}/none` doesn't exist; check the path"));
        write(root.path(), "empty/.hidden", "x");
        assert_eq!(
            discover("empty", text),
            format!("folder `{folder}/empty` has no files (hidden ones don't count); fill it or name another")
        );
        write(root.path(), "mixed/a.txt", "x");
        write(root.path(), "mixed/b.jsonl", "x");
        assert_eq!(
            discover("mixed", text),
            format!(
                "the data mixes JSONL records (`{folder}/mixed/b.jsonl`) and text (`{folder}/mixed/a.txt`); give one kind"
            )
        );
        assert_eq!(
            discover("mixed/a.txt", FormatHint::FineTuning),
            format!(
                "`{folder}/mixed/a.txt` is text, but FINE_TUNING needs a .jsonl file of `prompt` and `completion`; \
                 text is for CONTINUED_PRE_TRAINING"
            )
        );
        write(root.path(), "hollow.txt", "");
        assert_eq!(discover("hollow.txt", text), format!("`{folder}/hollow.txt` is empty; fill it or take it out"));
        assert_eq!(Sources::discover(&[], text).unwrap_err().to_string(), "no data is given; name a file or a folder");
    }

    #[cfg(unix)]
    #[test]
    fn a_link_that_leads_back_up_is_an_error_and_other_links_are_followed() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "a/x.txt", "x");
        std::os::unix::fs::symlink(root.path().join("a"), root.path().join("b")).unwrap();
        let sources = Sources::discover(&[root.path().to_owned()], FormatHint::ContinuedPreTraining).unwrap();
        assert_eq!(names(&sources, root.path()), ["a/x.txt", "b/x.txt"]);
        std::os::unix::fs::symlink(root.path(), root.path().join("a/up")).unwrap();
        let error =
            Sources::discover(&[root.path().to_owned()], FormatHint::ContinuedPreTraining).unwrap_err().to_string();
        assert!(error.ends_with("links back to a folder that holds it; remove the link"), "{error}");
    }
}
