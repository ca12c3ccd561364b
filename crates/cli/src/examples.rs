//! The read-only bucket `outcrop-examples`: `datasets/` compiled into the binary, so that every file of `configs/` works
//! from any folder and without a network. It is unpacked once into the cache, under the hash of its content.

use anyhow::Context;
use include_dir::{Dir, File, include_dir};
use outcrop_job::{Home, atomic};
use std::path::Path;

static DATASETS: Dir = include_dir!("$CARGO_MANIFEST_DIR/../../datasets");
const MARK: &str = ".content";

/// Makes `<cache>/examples` hold what is compiled in. Cost when it does already: one small read.
pub(crate) fn unpack(home: &Home) -> anyhow::Result<()> {
    let folder = home.examples_dir();
    let hash = content_hash();
    if fs_err::read_to_string(folder.join(MARK)).is_ok_and(|found| found == hash) {
        return Ok(());
    }
    let parent = folder.parent().unwrap_or(Path::new("."));
    fs_err::create_dir_all(parent)?;
    let temporary = tempfile::Builder::new().prefix(".examples-").tempdir_in(parent)?;
    write(&DATASETS, temporary.path())?;
    atomic::write_atomic(&temporary.path().join(MARK), hash.as_bytes())?;
    if folder.exists() {
        fs_err::remove_dir_all(&folder)?; // of another version, or damaged
    }
    match fs_err::rename(temporary.keep(), &folder) {
        // another process may have unpacked the same content meanwhile
        Err(_) if folder.join(MARK).exists() => Ok(()),
        renamed => renamed.context("the built-in examples can't be unpacked"),
    }
}

fn write(dir: &'static Dir, folder: &Path) -> anyhow::Result<()> {
    for file in files(dir) {
        let path = folder.join(file.path());
        fs_err::create_dir_all(path.parent().unwrap_or(folder))?;
        fs_err::write(&path, file.contents())?;
    }
    Ok(())
}

fn content_hash() -> String {
    let mut hasher = blake3::Hasher::new();
    for file in files(&DATASETS) {
        let path = file.path().to_string_lossy();
        hasher.update(&(path.len() as u64).to_le_bytes()).update(path.as_bytes());
        hasher.update(&(file.contents().len() as u64).to_le_bytes()).update(file.contents());
    }
    hasher.finalize().to_hex().to_string()
}

/// Every file below, in the order of the folders.
fn files(dir: &'static Dir) -> Vec<&'static File<'static>> {
    let mut found: Vec<&File> = dir.files().collect();
    for dir in dir.dirs() {
        found.extend(files(dir));
    }
    found
}
