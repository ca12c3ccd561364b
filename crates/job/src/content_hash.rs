//! The hash of a file's content, by which data, deltas and checkpoints are known. What a base's hash covers is the
//! model crate's.

use std::io::{self, Read};
use std::path::Path;

/// Bytes that are read before all cores hash them: enough for each, little memory.
const PIECE: usize = 4 << 20;

/// BLAKE3 of a file's content, in hexadecimal. Reads the file once, a piece at a time, and hashes a piece on all cores.
///
/// # Errors
/// The file can't be read; the error names it.
pub fn of_file(path: &Path) -> io::Result<String> {
    let mut file = fs_err::File::open(path)?;
    let mut hasher = blake3::Hasher::new();
    let length = file.metadata()?.len().min(PIECE as u64) as usize;
    let mut piece = Vec::with_capacity(length);
    while file.by_ref().take(PIECE as u64).read_to_end(&mut piece)? > 0 {
        hasher.update_rayon(&piece);
        piece.clear();
    }
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
        for length in [0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE + 12_345] {
            let bytes: Vec<u8> = (0..length).map(|i| ((i * i) >> 7) as u8).collect();
            fs_err::write(&path, &bytes).unwrap();
            assert_eq!(of_file(&path).unwrap(), blake3::hash(&bytes).to_hex().to_string(), "{length} bytes");
        }
        let missing = folder.path().join("missing");
        assert!(of_file(&missing).unwrap_err().to_string().contains(missing.to_str().unwrap()));
    }
}
