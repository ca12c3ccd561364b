//! Writes a shard: columns are spooled to temporary files, then joined into one safetensors file that is synced and renamed.
//!
//! Memory stays bounded whatever the size of the input, a crash leaves no half shard, and two processes that write the same one
//! each rename a whole file. Columns in a folder of their own survive a kill: what they held at a mark can be written on.

use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::error::DataError;
use crate::example::Example;
use crate::shard::{FORMAT, HASH_KEY, KEY_KEY, KIND_KEY, SUMMARY_KEY};
use crate::source::SourceKind;
use crate::summary::Summary;

/// One tensor on its way to the shard.
struct Column {
    name: &'static str,
    dtype: &'static str,
    /// Shape of one row: none for a vector, 2 for pairs.
    width: Option<u64>,
    item_bytes: u64,
    bytes: u64,
    file: BufWriter<File>,
}

/// Where the columns of a shard being written lie.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Spool<'a> {
    /// In unnamed files of this folder, gone with the process.
    Unnamed(&'a Path),
    /// In this folder, begun anew.
    Kept(&'a Path),
    /// In this folder, going on behind a mark.
    Resumed(&'a Path, &'a Mark),
}

/// How much of the columns belongs to what was handed over before: what is behind it is cut off on resuming.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mark {
    columns: [u64; 7],
    num_tokens: u64,
    num_targets: u64,
    num_documents: u64,
}

impl Spool<'_> {
    fn file(self, name: &str, index: usize) -> io::Result<(File, u64)> {
        match self {
            Spool::Unnamed(folder) => Ok((tempfile::tempfile_in(folder)?, 0)),
            Spool::Kept(folder) => {
                let mut options = fs_err::OpenOptions::new();
                let options = options.read(true).write(true).create(true).truncate(true);
                Ok((options.open(folder.join(name))?.into_parts().0, 0))
            }
            Spool::Resumed(folder, mark) => {
                let bytes = mark.columns[index];
                let mut file = fs_err::OpenOptions::new().read(true).write(true).open(folder.join(name))?;
                if file.metadata()?.len() < bytes {
                    return Err(io::Error::other(format!("column `{name}` is shorter than its journal says")));
                }
                file.set_len(bytes)?;
                file.seek(SeekFrom::End(0))?;
                Ok((file.into_parts().0, bytes))
            }
        }
    }
}

impl Column {
    fn new(
        spool: Spool<'_>,
        index: usize,
        name: &'static str,
        dtype: &'static str,
        width: Option<u64>,
        item_bytes: u64,
    ) -> io::Result<Self> {
        let (file, bytes) = spool.file(name, index)?;
        Ok(Self { name, dtype, width, item_bytes, bytes, file: BufWriter::with_capacity(1 << 16, file) })
    }

    fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.bytes += bytes.len() as u64;
        self.file.write_all(bytes)
    }

    fn shape(&self) -> Vec<u64> {
        let items = self.bytes / self.item_bytes;
        self.width.map_or(vec![items], |width| vec![items / width, width])
    }
}

/// A shard being written.
pub(crate) struct ShardWriter {
    folder: PathBuf,
    // In the order of the file: wide items first, so that each tensor is aligned to its item.
    offsets: Column,
    target_offsets: Column,
    units: Column,
    lines: Column,
    files: Column,
    targets: Column,
    tokens: Column,
    wide: bool,
    num_tokens: u64,
    num_targets: u64,
    num_documents: u64,
}

impl ShardWriter {
    /// `wide` stores tokens as u32 instead of u16. The shard itself is made in `folder`.
    pub(crate) fn new(folder: &Path, spool: Spool<'_>, wide: bool) -> Result<Self, DataError> {
        let build = || -> io::Result<Self> {
            let (dtype, item_bytes) = if wide { ("U32", 4) } else { ("U16", 2) };
            let mut writer = Self {
                folder: folder.to_owned(),
                offsets: Column::new(spool, 0, "offsets", "U64", None, 8)?,
                target_offsets: Column::new(spool, 1, "target_offsets", "U64", None, 8)?,
                units: Column::new(spool, 2, "units", "U64", None, 8)?,
                lines: Column::new(spool, 3, "lines", "U64", None, 8)?,
                files: Column::new(spool, 4, "files", "U32", None, 4)?,
                targets: Column::new(spool, 5, "targets", "U32", Some(2), 4)?,
                tokens: Column::new(spool, 6, "tokens", dtype, None, item_bytes)?,
                wide,
                num_tokens: 0,
                num_targets: 0,
                num_documents: 0,
            };
            if let Spool::Resumed(_, mark) = spool {
                (writer.num_tokens, writer.num_targets) = (mark.num_tokens, mark.num_targets);
                writer.num_documents = mark.num_documents;
                return Ok(writer);
            }
            for column in [&mut writer.offsets, &mut writer.target_offsets, &mut writer.units] {
                column.push(&0u64.to_le_bytes())?;
            }
            Ok(writer)
        };
        build().map_err(|source| DataError::Cache { path: folder.to_owned(), source })
    }

    /// Brings everything so far to the disk, and says how much that is.
    pub(crate) fn mark(&mut self) -> Result<Mark, DataError> {
        let (num_tokens, num_targets, num_documents) = (self.num_tokens, self.num_targets, self.num_documents);
        let folder = self.folder.clone();
        let mut columns = [0; 7];
        for (column, bytes) in self.columns().into_iter().zip(&mut columns) {
            *bytes = column.bytes;
            let synced = column.file.flush().and_then(|()| column.file.get_ref().sync_data());
            synced.map_err(|source| DataError::Cache { path: folder.clone(), source })?;
        }
        Ok(Mark { columns, num_tokens, num_targets, num_documents })
    }

    fn columns(&mut self) -> [&mut Column; 7] {
        [
            &mut self.offsets,
            &mut self.target_offsets,
            &mut self.units,
            &mut self.lines,
            &mut self.files,
            &mut self.targets,
            &mut self.tokens,
        ]
    }

    pub(crate) fn num_documents(&self) -> u64 {
        self.num_documents
    }

    /// Appends a document that came from `line` of file number `file`.
    pub(crate) fn push(&mut self, document: &Example, file: u32, line: u64) -> Result<(), DataError> {
        self.write_document(document, file, line)
            .map_err(|source| DataError::Cache { path: self.folder.clone(), source })
    }

    fn write_document(&mut self, document: &Example, file: u32, line: u64) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(4 * document.tokens.len());
        for token in &document.tokens {
            match u16::try_from(*token) {
                Ok(narrow) if !self.wide => bytes.extend_from_slice(&narrow.to_le_bytes()),
                Err(_) if !self.wide => return Err(io::Error::other(format!("token {token} needs 32 bits"))),
                _ => bytes.extend_from_slice(&token.to_le_bytes()),
            }
        }
        self.tokens.push(&bytes)?;
        for (start, end) in &document.targets {
            self.targets.push(&start.to_le_bytes())?;
            self.targets.push(&end.to_le_bytes())?;
        }
        self.num_tokens += document.tokens.len() as u64;
        self.num_targets += document.targets.len() as u64;
        self.num_documents += 1;
        self.offsets.push(&self.num_tokens.to_le_bytes())?;
        self.target_offsets.push(&self.num_targets.to_le_bytes())?;
        self.lines.push(&line.to_le_bytes())?;
        self.files.push(&file.to_le_bytes())
    }

    /// Ends the current unit after the last document.
    pub(crate) fn end_unit(&mut self) -> Result<(), DataError> {
        let end = self.num_documents.to_le_bytes();
        self.units.push(&end).map_err(|source| DataError::Cache { path: self.folder.clone(), source })
    }

    /// Joins the columns and puts the file in place: temporary file, sync, rename.
    pub(crate) fn finish(
        self,
        key: &str,
        kind: SourceKind,
        summary: &Summary,
        destination: &Path,
    ) -> Result<(), DataError> {
        let folder = self.folder.clone();
        self.write_file(key, kind, summary, destination).map_err(|source| DataError::Cache { path: folder, source })
    }

    fn write_file(self, key: &str, kind: SourceKind, summary: &Summary, destination: &Path) -> io::Result<()> {
        let mut columns =
            [self.offsets, self.target_offsets, self.units, self.lines, self.files, self.targets, self.tokens];
        let mut file = tempfile::Builder::new().prefix("shard-").suffix(".tmp").tempfile_in(&self.folder)?;
        let blank = "0".repeat(2 * blake3::OUT_LEN);
        let placeholder = header(&columns, key, kind, summary, &blank)?;
        file.write_all(&placeholder)?;
        let mut hasher = blake3::Hasher::new();
        let mut buffer = vec![0; 1 << 20];
        for column in &mut columns {
            column.file.flush()?;
            let spool = column.file.get_mut();
            spool.seek(SeekFrom::Start(0))?;
            loop {
                let count = spool.read(&mut buffer)?;
                if count == 0 {
                    break;
                }
                hasher.update(&buffer[..count]);
                file.write_all(&buffer[..count])?;
            }
        }
        for text in [key, &serde_json::to_string(&kind)?, &serde_json::to_string(summary)?] {
            hasher.update(text.as_bytes());
        }
        let header = header(&columns, key, kind, summary, hasher.finalize().to_hex().as_str())?;
        assert_eq!(header.len(), placeholder.len(), "only the hash, of fixed length, differs");
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&header)?;
        file.as_file().sync_all()?;
        file.persist(destination).map_err(|error| error.error)?;
        if cfg!(unix) {
            // The rename itself is durable only once the folder is.
            fs_err::File::open(&self.folder)?.sync_all()?;
        }
        Ok(())
    }
}

/// The safetensors header: its length as u64, then JSON padded with spaces to eight bytes.
fn header(columns: &[Column], key: &str, kind: SourceKind, summary: &Summary, hash: &str) -> io::Result<Vec<u8>> {
    let mut json = Map::new();
    let metadata = json!({
        "format": FORMAT,
        KEY_KEY: key,
        KIND_KEY: serde_json::to_string(&kind)?,
        SUMMARY_KEY: serde_json::to_string(summary)?,
        HASH_KEY: hash,
    });
    json.insert("__metadata__".into(), metadata);
    let mut start = 0;
    for column in columns {
        let end = start + column.bytes;
        json.insert(
            column.name.into(),
            json!({"dtype": column.dtype, "shape": column.shape(), "data_offsets": [start, end]}),
        );
        start = end;
    }
    let mut text = serde_json::to_vec(&Value::Object(json))?;
    text.resize(text.len().next_multiple_of(8), b' ');
    Ok([&(text.len() as u64).to_le_bytes(), text.as_slice()].concat())
}
