//! One file being read: decompressed on the way where its name says so, and hashed as it lies on disk.
//!
//! Memory is bounded whatever the file holds: decompression streams, and a zstd window may take 128 MB at most (zstd's own limit).

use std::cell::RefCell;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::rc::Rc;

use flate2::read::MultiGzDecoder;

use crate::source::Compression;

const BUFFER_BYTES: usize = 256 << 10;

/// A file, open for reading its content.
pub(crate) struct Input {
    content: BufReader<Box<dyn Read>>,
    raw: Rc<RefCell<Raw>>,
    compression: Option<Compression>,
}

/// What is known of the bytes on disk that were read.
#[derive(Default)]
struct Raw {
    hasher: blake3::Hasher,
    bytes: u64,
    /// Whether reading itself failed, not the decompression of what was read.
    failed: bool,
}

struct RawFile {
    file: fs_err::File,
    raw: Rc<RefCell<Raw>>,
}

impl Read for RawFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let result = self.file.read(buffer);
        let mut raw = self.raw.borrow_mut();
        match &result {
            Ok(count) => {
                raw.hasher.update(&buffer[..*count]);
                raw.bytes += *count as u64;
            }
            Err(error) => raw.failed |= error.kind() != io::ErrorKind::Interrupted,
        }
        result
    }
}

impl Input {
    pub(crate) fn open(path: &Path, compression: Option<Compression>) -> io::Result<Self> {
        let raw = Rc::new(RefCell::new(Raw::default()));
        let file = RawFile { file: fs_err::File::open(path)?, raw: raw.clone() };
        let content: Box<dyn Read> = match compression {
            None => Box::new(file),
            Some(Compression::Gzip) => Box::new(MultiGzDecoder::new(BufReader::with_capacity(BUFFER_BYTES, file))),
            Some(Compression::Zstd) => Box::new(zstd::stream::read::Decoder::new(file)?),
        };
        Ok(Self { content: BufReader::with_capacity(BUFFER_BYTES, content), raw, compression })
    }

    /// Bytes read from the disk.
    pub(crate) fn raw_bytes(&self) -> u64 {
        self.raw.borrow().bytes
    }

    /// Hash of what was read from the disk: of the file, once its content has been read to the end.
    pub(crate) fn hash(&self) -> blake3::Hash {
        self.raw.borrow().hasher.finalize()
    }

    /// What is wrong with the compressed data, where it is they that an error is about.
    pub(crate) fn damage(&self, error: &io::Error) -> Option<String> {
        let name = match self.compression? {
            Compression::Gzip => "gzip",
            Compression::Zstd => "zstd",
        };
        let what = if error.kind() == io::ErrorKind::UnexpectedEof { "end early" } else { "are damaged" };
        (!self.raw.borrow().failed).then(|| format!("the {name} data {what} ({error}); make the file again"))
    }

    /// Passes over `count` bytes of content. Errors: there are fewer, as well as all errors of reading.
    pub(crate) fn skip(&mut self, count: u64) -> io::Result<()> {
        let skipped = io::copy(&mut self.content.by_ref().take(count), &mut io::sink())?;
        if skipped < count { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }

    /// Reads until `end` or `limit` bytes.
    pub(crate) fn read_until(&mut self, end: u8, limit: u64, buffer: &mut Vec<u8>) -> io::Result<u64> {
        self.content.by_ref().take(limit).read_until(end, buffer).map(|count| count as u64)
    }

    /// Reads `limit` bytes or to the end.
    pub(crate) fn read_up_to(&mut self, limit: u64, buffer: &mut Vec<u8>) -> io::Result<u64> {
        self.content.by_ref().take(limit).read_to_end(buffer).map(|count| count as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{gzip, write, zstd};

    fn content(path: &Path, compression: Option<Compression>) -> Result<Vec<u8>, String> {
        let mut input = Input::open(path, compression).unwrap();
        let mut all = Vec::new();
        let result = input.read_up_to(u64::MAX, &mut all);
        match result {
            Ok(_) => {
                assert_eq!(input.hash(), blake3::hash(&fs_err::read(path).unwrap()));
                assert_eq!(input.raw_bytes(), fs_err::metadata(path).unwrap().len());
                Ok(all)
            }
            Err(error) => Err(input.damage(&error).unwrap()),
        }
    }

    #[test]
    fn compressed_files_of_several_members_are_read_whole_and_hashed_as_they_lie_on_disk() {
        let root = tempfile::tempdir().unwrap();
        let (one, two) = (b"the wall ".repeat(50_000), b"leans".to_vec());
        let expected = [one.clone(), two.clone()].concat();
        let plain = write(root.path(), "a", &expected);
        assert!(content(&plain, None).unwrap() == expected);
        let gz = write(root.path(), "a.gz", [gzip(&one), gzip(&two)].concat());
        assert!(content(&gz, Some(Compression::Gzip)).unwrap() == expected);
        let zst = write(root.path(), "a.zst", [zstd(&one), zstd(&two)].concat());
        assert!(content(&zst, Some(Compression::Zstd)).unwrap() == expected);
    }

    #[test]
    fn damaged_and_truncated_data_are_told() {
        let root = tempfile::tempdir().unwrap();
        let text: Vec<u8> = (0..100_000u32).flat_map(|number| number.to_string().into_bytes()).collect();
        for (bytes, compression, name) in
            [(gzip(&text), Compression::Gzip, "gzip"), (zstd(&text), Compression::Zstd, "zstd")]
        {
            let path = write(root.path(), "short", &bytes[..bytes.len() / 2]);
            let error = content(&path, Some(compression)).unwrap_err();
            assert!(error.starts_with(&format!("the {name} data end early (")), "{error}");
            let path = write(root.path(), "none", "plain text, not compressed at all");
            let error = content(&path, Some(compression)).unwrap_err();
            assert!(error.starts_with(&format!("the {name} data are damaged (")), "{error}");
        }
    }

    #[test]
    fn skipping_goes_on_where_it_says() {
        let root = tempfile::tempdir().unwrap();
        let path = write(root.path(), "a.gz", gzip(b"0123456789"));
        let mut input = Input::open(&path, Some(Compression::Gzip)).unwrap();
        input.skip(4).unwrap();
        let mut rest = Vec::new();
        input.read_up_to(3, &mut rest).unwrap();
        assert_eq!(rest, b"456");
        assert!(input.skip(4).is_err());
    }
}
