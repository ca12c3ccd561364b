//! The files of a model's folder: none of them may lead out of it, and none is read beyond a limit.
//!
//! A downloaded folder can hold links to any file of this machine, and an export copies tokenizer files byte for byte into what is
//! passed on. The hub's cache is made of links: from `snapshots/REVISION` to `blobs` beside `snapshots`, which is therefore a
//! part of the folder. Left out: hard links, which look like files.

use crate::{ModelError, Result};
use serde_json::Value;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Longest text of JSON, and longest tokenizer: ten times the largest there are.
const MOST_JSON: u64 = 64 << 20;
pub(super) const MOST_TOKENIZER: u64 = 512 << 20;

/// Errors: one of these files is a link whose end is outside the folder.
pub(crate) fn check(folder: &Path, files: &[PathBuf]) -> Result<()> {
    let real = fs_err::canonicalize(folder)?;
    let blobs = blobs(&real);
    for file in files {
        let target = fs_err::canonicalize(file)?;
        if !target.starts_with(&real) && !blobs.as_ref().is_some_and(|blobs| target.starts_with(blobs)) {
            let message = format!(
                "is a link to `{}`, outside of the model's folder; put the file itself there, or use the folder that it is in",
                target.display()
            );
            return Err(ModelError::invalid(file, message));
        }
    }
    Ok(())
}

/// The files behind a snapshot of the hub's cache: `models--owner--name/{blobs,snapshots/REVISION}`.
fn blobs(folder: &Path) -> Option<PathBuf> {
    let snapshots = folder.parent().filter(|parent| parent.ends_with("snapshots"))?;
    let repository = snapshots.parent()?;
    let name = repository.file_name()?.to_str()?;
    name.starts_with("models--").then(|| repository.join("blobs"))
}

/// A file's JSON. Errors: not JSON, or too long to be any model's.
pub(crate) fn json(path: &Path) -> Result<Value> {
    let bytes = bytes(path, MOST_JSON)?;
    serde_json::from_slice(&bytes).map_err(|e| ModelError::invalid(path, format!("is not valid JSON: {e}")))
}

/// A file's text. Errors: not UTF-8, or too long to be any model's.
pub(super) fn text(path: &Path) -> Result<String> {
    String::from_utf8(bytes(path, MOST_JSON)?).map_err(|_| ModelError::invalid(path, "is not UTF-8"))
}

/// A file's content, of at most this many bytes.
pub(super) fn bytes(path: &Path, most: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs_err::File::open(path)?.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        let message = format!("has more than {} MiB, which no such file of a model has", most >> 20);
        return Err(ModelError::invalid(path, message));
    }
    Ok(bytes)
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_link_out_of_the_folder_is_refused_and_the_hubs_cache_is_not() {
        let place = tempfile::tempdir().unwrap();
        let at = |path: &str| place.path().join(path);
        for folder in ["model/sub", "other", "models--a--b/blobs", "models--a--b/snapshots/1", "models--a--c/blobs"] {
            fs_err::create_dir_all(at(folder)).unwrap();
        }
        for file in ["model/sub/x", "model/y", "other/x", "models--a--b/blobs/x", "models--a--c/blobs/x"] {
            fs_err::write(at(file), "{}").unwrap();
        }
        let refused = |folder: &str, target: &str| {
            let link = at(folder).join("tokenizer.json");
            symlink(target, &link).unwrap();
            let result = check(&at(folder), std::slice::from_ref(&link));
            fs_err::remove_file(&link).unwrap();
            result.err().map(|error| error.to_string())
        };
        assert_eq!(refused("model", "y"), None);
        assert_eq!(refused("model", "sub/x"), None);
        let message = refused("model", "../other/x").unwrap();
        assert!(
            message.contains("tokenizer.json: is a link to `") && message.contains("other/x`, outside"),
            "{message}"
        );
        assert!(refused("model", &at("other/x").display().to_string()).is_some(), "an absolute one");
        assert_eq!(refused("models--a--b/snapshots/1", "../../blobs/x"), None);
        assert!(refused("models--a--b/snapshots/1", "../../../other/x").is_some());
        assert!(
            refused("models--a--b/snapshots/1", "../../../models--a--c/blobs/x").is_some(),
            "another model's blobs"
        );
        // a link to the whole folder is that folder, and one with another name is none of the cache
        symlink(at("model"), at("link")).unwrap();
        check(&at("link"), &[at("link/y")]).unwrap();
        fs_err::create_dir_all(at("plain/snapshots/1")).unwrap();
        fs_err::create_dir_all(at("plain/blobs")).unwrap();
        fs_err::write(at("plain/blobs/x"), "{}").unwrap();
        assert!(refused("plain/snapshots/1", "../../blobs/x").is_some());
    }

    #[test]
    fn a_file_longer_than_the_limit_is_refused_whatever_its_length_says() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        fs_err::write(&path, "0123456789").unwrap();
        assert_eq!(bytes(&path, 10).unwrap().len(), 10);
        assert!(bytes(&path, 9).unwrap_err().to_string().contains("has more than"));
        // a device without an end
        assert!(bytes(Path::new("/dev/zero"), 1 << 20).unwrap_err().to_string().contains("has more than 1 MiB"));
    }
}
