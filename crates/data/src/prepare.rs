//! Checks and tokenises a whole input into a shard before anything trains (R20), or finds the shard that was made of it before (R22).
//!
//! This is the cache: keys, reuse, and what a caller gets. The work itself is the business of `builder`.

use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::builder::Builder;
use crate::chat_template::ChatTemplate;
use crate::error::DataError;
use crate::journal::Journal;
use crate::options::PrepareOptions;
use crate::shard::Shard;
use crate::source::{SourceFile, Sources};
use crate::tokenizer::TextTokenizer;

/// Version of the code that shapes tokens and of the shard's layout; part of every key (R22). Raise it with either.
pub const CODE_VERSION: u32 = 2;

/// Bytes of input between two states that a killed preparation goes on from.
const SAVE_BYTES: u64 = 64 << 20;

/// An input that is ready to train on.
#[derive(Debug)]
pub struct Prepared {
    /// The shard; it has the key and the summary.
    pub shard: Shard,
    /// True where the shard was found in the cache.
    pub reused: bool,
    /// What should be said aloud about the way here, such as a damaged shard that was built again.
    pub notes: Vec<String>,
    /// The files, by the numbers in the shard.
    pub files: Vec<PathBuf>,
}

impl Prepared {
    /// Where a document came from, as `file:line`. Panics where there is no such document.
    pub fn origin(&self, document: usize) -> String {
        let file = self.shard.file(document);
        let path = self.files.get(file).map_or_else(|| format!("file {file}"), |path| path.display().to_string());
        format!("{path}:{}", self.shard.line(document))
    }
}

/// Checks and tokenises `sources` into `cache_dir/<key>/shard.safetensors`, or reuses that file where it is whole.
/// `progress` is told bytes done and bytes in all.
///
/// A preparation that was killed is gone on with where its journal stands.
///
/// Errors: any record that can't be used, the first twenty listed with their places; nothing left to train on; I/O; a cache folder
/// that can't be written to. After an error no shard is left behind.
pub fn prepare(
    sources: &Sources,
    tokenizer: &TextTokenizer,
    options: &PrepareOptions,
    cache_dir: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Prepared, DataError> {
    prepare_saving(sources, tokenizer, options, cache_dir, SAVE_BYTES, progress)
}

fn prepare_saving(
    sources: &Sources,
    tokenizer: &TextTokenizer,
    options: &PrepareOptions,
    cache_dir: &Path,
    save_bytes: u64,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Prepared, DataError> {
    if options.max_length < 2 {
        return Err(DataError::Option(format!(
            "a maximum length of {} leaves nothing to predict; use 2 or more",
            options.max_length
        )));
    }
    if options.limit == Some(0) {
        return Err(DataError::Option("a limit of 0 records leaves nothing to train on; use 1 or more".into()));
    }
    let hashes = content_hashes(sources)?;
    let key = key_of(sources, &hashes, tokenizer, options)?;
    let folder = cache_dir.join(&key);
    let path = folder.join("shard.safetensors");
    let files = sources.files().iter().map(|file| file.path.clone()).collect();
    let mut notes = Vec::new();
    match open_cached(&path, &key) {
        Ok(Some(shard)) => {
            progress(sources.bytes(), sources.bytes());
            return Ok(Prepared { shard, reused: true, notes, files });
        }
        Ok(None) => {}
        Err(DataError::Shard { path, reason }) => {
            notes.push(format!("shard `{}` was damaged ({reason}) and has been built again", path.display()));
        }
        Err(other) => return Err(other),
    }
    fs_err::create_dir_all(&folder)?;
    let journal = Journal::claim(&folder)?;
    let builder = match Builder::new(sources, tokenizer, options, &folder, journal.as_ref()) {
        Err(error) if journal.is_some() => {
            notes.push(format!("the work of an interrupted preparation can't be used ({error}) and is done again"));
            begin_again(journal.as_ref())?;
            Builder::new(sources, tokenizer, options, &folder, journal.as_ref())?
        }
        other => other?,
    };
    let built = builder.build(&hashes, journal.as_ref(), save_bytes, progress);
    let finished = built.and_then(|built| {
        built.writer.finish(&key, sources.kind(), &built.summary, &path)?;
        Ok(built.resumed_bytes)
    });
    if let Some(journal) = journal {
        journal.end()?;
    }
    let resumed_bytes = finished.inspect_err(|_| {
        // Fails, as it should, where another process has its shard or its work there.
        let _ = fs_err::remove_file(folder.join("lock")).and_then(|()| fs_err::remove_dir(&folder));
    })?;
    if resumed_bytes > 0 {
        let (done, total) = (resumed_bytes as f64 / 1e6, sources.bytes() as f64 / 1e6);
        notes.push(format!("an interrupted preparation was gone on with after {done:.1} of {total:.1} MB"));
    }
    Ok(Prepared { shard: Shard::open(&path)?, reused: false, notes, files })
}

/// Empties the folder of a journal that can't be used.
fn begin_again(journal: Option<&Journal>) -> Result<(), DataError> {
    if let Some(journal) = journal {
        fs_err::remove_dir_all(journal.folder())?;
        fs_err::create_dir_all(journal.folder())?;
    }
    Ok(())
}

/// The key of everything that shapes a shard, in hex: kind, compression and content of the files in their order (not their names), tokenizer,
/// special tokens, options, code version (R22).
pub fn cache_key(sources: &Sources, tokenizer: &TextTokenizer, options: &PrepareOptions) -> Result<String, DataError> {
    key_of(sources, &content_hashes(sources)?, tokenizer, options)
}

fn content_hashes(sources: &Sources) -> Result<Vec<blake3::Hash>, DataError> {
    let hash = |file: &SourceFile| {
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(fs_err::File::open(&file.path)?)?;
        Ok(hasher.finalize())
    };
    sources.files().par_iter().map(hash).collect()
}

fn key_of(
    sources: &Sources,
    hashes: &[blake3::Hash],
    tokenizer: &TextTokenizer,
    options: &PrepareOptions,
) -> Result<String, DataError> {
    let parts = serde_json::json!({
        "code": CODE_VERSION,
        "kind": sources.kind(),
        "files": hashes.iter().map(|hash| hash.to_hex().to_string()).collect::<Vec<_>>(),
        // By its name a file is decompressed or taken as it is.
        "compression": sources.files().iter().map(|file| file.compression).collect::<Vec<_>>(),
        "tokenizer": tokenizer.hash(),
        "chat_template": tokenizer.chat_template().map(ChatTemplate::identity),
        "bos": tokenizer.bos(),
        "eos": tokenizer.eos(),
        "vocabulary_rows": tokenizer.vocabulary_rows(),
        "options": options,
    });
    let text = serde_json::to_vec(&parts).map_err(std::io::Error::from)?;
    Ok(blake3::hash(&text).to_hex().to_string())
}

fn open_cached(path: &Path, key: &str) -> Result<Option<Shard>, DataError> {
    match fs_err::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let shard = Shard::open(path)?;
    shard.verify()?;
    if shard.key() != key {
        return Err(DataError::Shard { path: path.to_owned(), reason: "it has another key than its folder".into() });
    }
    Ok(Some(shard))
}

#[cfg(test)]
mod accounting;
#[cfg(test)]
mod bad_input;
#[cfg(test)]
mod large;
#[cfg(test)]
mod tests;
