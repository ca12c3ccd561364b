//! The hash of a file's content, by which data, deltas and checkpoints are known. What a base's hash covers is the
//! model crate's.

use std::io;
use std::path::Path;

/// BLAKE3 of a file's content, in hexadecimal. Reads the file once, a piece at a time.
///
/// # Errors
/// The file can't be read; the error names it.
pub fn of_file(path: &Path) -> io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(fs_err::File::open(path)?)?;
    Ok(hasher.finalize().to_hex().to_string())
}

/// BLAKE3 of some texts, their lengths before them so that no two lists give the same bytes.
pub fn of_texts(texts: &[&str]) -> String {
    let mut hasher = blake3::Hasher::new();
    for text in texts {
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_the_hash_of_its_bytes_and_a_missing_one_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs_err::write(&path, b"abc").unwrap();
        assert_eq!(of_file(&path).unwrap(), blake3::hash(b"abc").to_hex().to_string());
        let missing = folder.path().join("missing");
        assert!(of_file(&missing).unwrap_err().to_string().contains(missing.to_str().unwrap()));
    }
}
