//! A shard: tokens and targets of a prepared input in one safetensors file, memory-mapped.
//!
//! | tensor | dtype, shape | holds |
//! |---|---|---|
//! | `tokens` | u16 where the vocabulary has at most 65536 rows, else u32; (tokens) | all documents, one after the other |
//! | `offsets` | u64, (documents + 1) | document `i` is `tokens[offsets[i]..offsets[i + 1]]` |
//! | `targets` | u32, (spans, 2) | start and end of each counted span, inside its document |
//! | `target_offsets` | u64, (documents + 1) | spans of document `i` are `targets[target_offsets[i]..target_offsets[i + 1]]` |
//! | `units` | u64, (units + 1) | unit `i`, what an optimizer step counts, is the documents `units[i]..units[i + 1]` |
//! | `lines`, `files` | u64, u32; (documents) | where a document came from: line (from 1) and number of the file (from 0) |
//!
//! Python reads it with `safetensors.numpy.load_file(path)`. The metadata hold the cache key, the kind of the input, the summary
//! as JSON, and a blake3 hash of the tensors' bytes followed by those three strings. Writing is the business of `writer`.

use std::io::{Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use safetensors::tensor::{Dtype, Metadata, SafeTensors};

use crate::error::DataError;
use crate::example::Example;
use crate::source::SourceKind;
use crate::summary::Summary;

/// Value of the metadata's `format`.
pub(crate) const FORMAT: &str = "outcrop-shard";
/// Metadata: the cache key.
pub(crate) const KEY_KEY: &str = "key";
/// Metadata: the [`SourceKind`], as JSON.
pub(crate) const KIND_KEY: &str = "kind";
/// Metadata: the [`Summary`], as JSON.
pub(crate) const SUMMARY_KEY: &str = "summary";
/// Metadata: the hash of everything else.
pub(crate) const HASH_KEY: &str = "hash";

/// An open shard. Its structure is checked when it is opened, so that reading it can't fail.
#[derive(Debug)]
pub struct Shard {
    path: PathBuf,
    map: Mmap,
    columns: Columns,
    hash: String,
    key: String,
    kind: SourceKind,
    summary: Summary,
}

/// Where each tensor lies in the file.
#[derive(Debug, Clone)]
struct Columns {
    data: Range<usize>,
    tokens: Range<usize>,
    wide: bool,
    offsets: Range<usize>,
    targets: Range<usize>,
    target_offsets: Range<usize>,
    units: Range<usize>,
    lines: Range<usize>,
    files: Range<usize>,
}

/// A document of a shard.
#[derive(Debug, Clone, Copy)]
pub struct Document<'a> {
    tokens: &'a [u8],
    wide: bool,
    targets: &'a [u8],
}

impl<'a> Document<'a> {
    /// How many tokens it has.
    pub fn num_tokens(&self) -> usize {
        self.tokens.len() / if self.wide { 4 } else { 2 }
    }

    /// Its token ids.
    pub fn tokens(&self) -> impl Iterator<Item = u32> + use<'a> {
        let (narrow, wide) = if self.wide { (&[][..], self.tokens) } else { (self.tokens, &[][..]) };
        let narrow = narrow.as_chunks::<2>().0.iter().map(|bytes| u32::from(u16::from_le_bytes(*bytes)));
        narrow.chain(wide.as_chunks::<4>().0.iter().map(|bytes| u32::from_le_bytes(*bytes)))
    }

    /// Spans `[start, end)` of its tokens that are counted as targets; see [`Example::targets`].
    pub fn targets(&self) -> impl Iterator<Item = (u32, u32)> + use<'a> {
        self.targets.as_chunks::<8>().0.iter().map(|[a, b, c, d, e, f, g, h]| {
            (u32::from_le_bytes([*a, *b, *c, *d]), u32::from_le_bytes([*e, *f, *g, *h]))
        })
    }

    /// How many predictions count.
    pub fn target_tokens(&self) -> u64 {
        self.targets().map(|(start, end)| u64::from(end - start)).sum()
    }

    /// A copy in memory.
    pub fn to_example(&self) -> Example {
        Example { tokens: self.tokens().collect(), targets: self.targets().collect() }
    }
}

impl Shard {
    /// Maps a shard and checks its structure: dtypes, lengths, offsets that never fall, targets inside their documents.
    ///
    /// Errors: the file is missing, no safetensors file, or doesn't hold what it should. It doesn't read the tokens:
    /// [`Self::verify`] does.
    pub fn open(path: &Path) -> Result<Self, DataError> {
        let map = map_file(path)?;
        let damaged = |reason: String| DataError::Shard { path: path.to_owned(), reason };
        let (header_len, header) = SafeTensors::read_metadata(&map).map_err(|error| damaged(error.to_string()))?;
        let columns = Columns::find(&header, 8 + header_len, map.len()).map_err(damaged)?;
        let text = |key: &str| {
            let value = header.metadata().as_ref().and_then(|metadata| metadata.get(key));
            value.cloned().ok_or_else(|| damaged(format!("its metadata have no `{key}`")))
        };
        if text("format")? != FORMAT {
            return Err(damaged("its metadata name another format".into()));
        }
        let json = |error: serde_json::Error| damaged(format!("its metadata can't be read: {error}"));
        let kind = serde_json::from_str(&text(KIND_KEY)?).map_err(json)?;
        let summary = serde_json::from_str(&text(SUMMARY_KEY)?).map_err(json)?;
        let (hash, key) = (text(HASH_KEY)?, text(KEY_KEY)?);
        let shard = Self { path: path.to_owned(), map, columns, hash, key, kind, summary };
        shard.check_structure().map_err(|reason| DataError::Shard { path: path.to_owned(), reason })?;
        Ok(shard)
    }

    /// Reads the whole file and compares it with the hash it carries (R22).
    pub fn verify(&self) -> Result<(), DataError> {
        // Through a buffer, not the map: reading a large shard whole must not make all its pages resident.
        let mut hasher = blake3::Hasher::new();
        let mut file = fs_err::File::open(&self.path)?;
        file.seek(SeekFrom::Start(self.columns.data.start as u64))?;
        hasher.update_reader(file)?;
        let header = SafeTensors::read_metadata(&self.map)
            .ok()
            .and_then(|(_, header)| header.metadata().clone())
            .unwrap_or_default();
        for key in [KEY_KEY, KIND_KEY, SUMMARY_KEY] {
            hasher.update(header.get(key).map_or(&[], |text| text.as_bytes()));
        }
        if hasher.finalize().to_hex().as_str() != self.hash {
            return Err(DataError::Shard {
                path: self.path.clone(),
                reason: "its content doesn't have the hash it was written with".into(),
            });
        }
        Ok(())
    }

    /// Where the file lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Hash of everything that shaped the shard, in hex (R22).
    pub fn key(&self) -> &str {
        &self.key
    }

    /// What the input held.
    pub fn kind(&self) -> SourceKind {
        self.kind
    }

    /// Counts over the input.
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// How many documents it holds.
    pub fn len(&self) -> usize {
        self.columns.files.len() / 4
    }

    /// True where there are no documents.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many units (what an optimizer step counts) it holds.
    pub fn num_units(&self) -> usize {
        self.columns.units.len() / 8 - 1
    }

    /// Documents of a unit: one pair, or the pieces of text that fill a row. Panics where there is no such unit.
    pub fn unit(&self, unit: usize) -> Range<usize> {
        assert!(unit < self.num_units(), "unit {unit} is outside a shard of {}", self.num_units());
        self.u64(&self.columns.units, unit) as usize..self.u64(&self.columns.units, unit + 1) as usize
    }

    /// A document. Panics where there is no such document.
    pub fn document(&self, document: usize) -> Document<'_> {
        assert!(document < self.len(), "document {document} is outside a shard of {}", self.len());
        let size = if self.columns.wide { 4 } else { 2 };
        let part = |column: &Range<usize>, offsets: &Range<usize>, size: usize| {
            let start = column.start + self.u64(offsets, document) as usize * size;
            start..column.start + self.u64(offsets, document + 1) as usize * size
        };
        Document {
            tokens: &self.map[part(&self.columns.tokens, &self.columns.offsets, size)],
            wide: self.columns.wide,
            targets: &self.map[part(&self.columns.targets, &self.columns.target_offsets, 8)],
        }
    }

    /// Line (from 1) on which a document's record stands in its file. Panics where there is no such document.
    pub fn line(&self, document: usize) -> u64 {
        assert!(document < self.len(), "document {document} is outside a shard of {}", self.len());
        self.u64(&self.columns.lines, document)
    }

    /// Number (from 0) of the file a document came from. Panics where there is no such document.
    pub fn file(&self, document: usize) -> usize {
        assert!(document < self.len(), "document {document} is outside a shard of {}", self.len());
        let start = self.columns.files.start + 4 * document;
        let bytes = self.map[start..start + 4].try_into().expect("four bytes were sliced");
        u32::from_le_bytes(bytes) as usize
    }

    fn u64(&self, column: &Range<usize>, index: usize) -> u64 {
        let start = column.start + 8 * index;
        let bytes = self.map[start..start + 8].try_into().expect("eight bytes were sliced");
        u64::from_le_bytes(bytes)
    }

    fn check_structure(&self) -> Result<(), String> {
        let columns = &self.columns;
        let documents = self.len();
        let num_tokens = columns.tokens.len() / if columns.wide { 4 } else { 2 };
        for (name, column, end) in [
            ("offsets", &columns.offsets, num_tokens),
            ("target_offsets", &columns.target_offsets, columns.targets.len() / 8),
        ] {
            if column.len() != 8 * (documents + 1) {
                return Err(format!("`{name}` doesn't have one item per document and one more"));
            }
            self.check_rising(name, column, end as u64)?;
        }
        if columns.lines.len() != 8 * documents {
            return Err("`lines` doesn't have one item per document".into());
        }
        if columns.units.is_empty() {
            return Err("`units` has no items".into());
        }
        self.check_rising("units", &columns.units, documents as u64)?;
        for index in 0..documents {
            let document = self.document(index);
            let mut before = 1;
            for (start, end) in document.targets() {
                if start < before || start >= end || end as usize > document.num_tokens() {
                    return Err(format!("document {index} has targets outside its tokens"));
                }
                before = end;
            }
        }
        Ok(())
    }

    /// Offsets begin at zero, never fall, and end at `end`: then every slice they give lies inside the tensor.
    fn check_rising(&self, name: &str, column: &Range<usize>, end: u64) -> Result<(), String> {
        let mut before = 0;
        for index in 0..column.len() / 8 {
            let offset = self.u64(column, index);
            if offset < before || (index == 0 && offset != 0) {
                return Err(format!("`{name}` falls at item {index}"));
            }
            before = offset;
        }
        if before != end { Err(format!("`{name}` ends at {before} instead of {end}")) } else { Ok(()) }
    }
}

impl Columns {
    fn find(header: &Metadata, data_start: usize, file_len: usize) -> Result<Self, String> {
        let column = |name: &str, dtypes: &[Dtype], pairs: bool| {
            let info = header.info(name).ok_or_else(|| format!("it has no tensor `{name}`"))?;
            if !dtypes.contains(&info.dtype) {
                return Err(format!("`{name}` has dtype {:?}", info.dtype));
            }
            match (info.shape.as_slice(), pairs) {
                ([_], false) | ([_, 2], true) => {}
                (shape, _) => return Err(format!("`{name}` has shape {shape:?}")),
            }
            let (start, end) = info.data_offsets;
            Ok((data_start + start..data_start + end, info.dtype))
        };
        let (tokens, dtype) = column("tokens", &[Dtype::U16, Dtype::U32], false)?;
        Ok(Self {
            data: data_start..file_len,
            tokens,
            wide: dtype == Dtype::U32,
            offsets: column("offsets", &[Dtype::U64], false)?.0,
            targets: column("targets", &[Dtype::U32], true)?.0,
            target_offsets: column("target_offsets", &[Dtype::U64], false)?.0,
            units: column("units", &[Dtype::U64], false)?.0,
            lines: column("lines", &[Dtype::U64], false)?.0,
            files: column("files", &[Dtype::U32], false)?.0,
        })
    }
}

/// Maps a file for reading.
#[allow(unsafe_code)]
fn map_file(path: &Path) -> Result<Mmap, DataError> {
    let file = fs_err::File::open(path)?;
    // SAFETY: the map is read-only and owned by the one `Shard` that hands out slices no longer lived than itself. Shards are
    // written under a temporary name and renamed when whole, and this crate never writes to or shortens one afterwards, so the
    // mapped bytes don't change. Another process that truncates a cache file under us would end this one with SIGBUS, which is no
    // use of wrong memory.
    let map = unsafe { Mmap::map(file.file()) };
    map.map_err(|error| {
        std::io::Error::new(error.kind(), format!("failed to map file `{}`: {error}", path.display())).into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::writer::{ShardWriter, Spool};

    fn examples() -> Vec<Example> {
        vec![
            Example { tokens: vec![5, 6, 7], targets: vec![(1, 3)] },
            Example { tokens: vec![8], targets: vec![] },
            Example { tokens: vec![9, 65535, 1, 2], targets: vec![(1, 2), (3, 4)] },
        ]
    }

    fn written(folder: &Path, wide: bool) -> PathBuf {
        let mut writer = ShardWriter::new(folder, Spool::Unnamed(folder), wide).unwrap();
        for (index, example) in examples().iter().enumerate() {
            writer.push(example, index as u32, 10 + index as u64).unwrap();
            if index != 1 {
                writer.end_unit().unwrap();
            }
        }
        let path = folder.join("shard.safetensors");
        writer.finish("key", SourceKind::Text, &Summary { records: 3, ..Summary::default() }, &path).unwrap();
        path
    }

    #[test]
    fn a_shard_gives_back_what_was_written_in_both_widths() {
        for wide in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let path = written(folder.path(), wide);
            let shard = Shard::open(&path).unwrap();
            shard.verify().unwrap();
            assert_eq!((shard.len(), shard.num_units(), shard.is_empty()), (3, 2, false));
            assert_eq!((0..3).map(|index| shard.document(index).to_example()).collect::<Vec<_>>(), examples());
            assert_eq!([shard.unit(0), shard.unit(1)], [0..1, 1..3]);
            assert_eq!((shard.line(2), shard.file(2)), (12, 2));
            assert_eq!((shard.key(), shard.kind(), shard.summary().records), ("key", SourceKind::Text, 3));
            let names: Vec<_> =
                fs_err::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            assert_eq!(names, ["shard.safetensors"], "no temporary file stays");
        }
    }

    #[test]
    fn any_safetensors_reader_understands_it() {
        let folder = tempfile::tempdir().unwrap();
        let bytes = fs_err::read(written(folder.path(), false)).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let tokens = tensors.tensor("tokens").unwrap();
        assert_eq!((tokens.dtype(), tokens.shape()), (Dtype::U16, &[8][..]));
        let targets = tensors.tensor("targets").unwrap();
        assert_eq!((targets.dtype(), targets.shape()), (Dtype::U32, &[3, 2][..]));
        for (name, tensor) in tensors.tensors() {
            let start = tensor.data().as_ptr() as usize - bytes.as_ptr() as usize;
            assert_eq!(start % (tensor.dtype().bitsize() / 8), 0, "{name} is aligned in the file");
        }
    }

    #[test]
    fn the_same_content_is_written_to_the_same_bytes() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        assert_eq!(
            fs_err::read(written(one.path(), false)).unwrap(),
            fs_err::read(written(two.path(), false)).unwrap()
        );
    }

    #[test]
    fn a_token_too_wide_for_the_shard_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = ShardWriter::new(folder.path(), Spool::Unnamed(folder.path()), false).unwrap();
        let error = writer.push(&Example { tokens: vec![65536], targets: vec![] }, 0, 1).unwrap_err().to_string();
        assert!(error.ends_with("token 65536 needs 32 bits"), "{error}");
    }

    /// Every single damaged byte is noticed: opening or verifying fails, and nothing panics.
    #[test]
    fn r22_damage_anywhere_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = written(folder.path(), false);
        let whole = fs_err::read(&path).unwrap();
        let intact = |bytes: &[u8]| {
            fs_err::write(&path, bytes).unwrap();
            let shard = Shard::open(&path)?;
            shard.verify()
        };
        intact(&whole).unwrap();
        for index in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[index] ^= 0x10;
            assert!(intact(&bytes).is_err(), "byte {index} of {}", whole.len());
        }
        for length in [0, 7, 8, 100, whole.len() - 1] {
            let error = intact(&whole[..length]).unwrap_err().to_string();
            assert!(error.contains("shard.safetensors"), "{error}");
        }
        fs_err::write(&path, [&whole[..whole.len() - 1], &[whole[whole.len() - 1] ^ 1]].concat()).unwrap();
        let error = Shard::open(&path).unwrap().verify().unwrap_err().to_string();
        assert_eq!(
            error,
            format!(
                "shard `{}` is damaged: its content doesn't have the hash it was written with; delete it and it will be built again",
                path.display()
            )
        );
    }

    #[test]
    fn a_file_that_is_missing_is_named() {
        let error = Shard::open(Path::new("/nowhere/shard.safetensors")).unwrap_err().to_string();
        assert!(error.contains("/nowhere/shard.safetensors"), "{error}");
    }
}
