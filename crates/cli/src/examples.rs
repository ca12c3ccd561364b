//! The read-only bucket `outcrop-examples`: `datasets/` compiled into the binary, so that every file of `configs/` works
//! from any folder and without a network. It is unpacked once into the cache, under the hash of its content.

use anyhow::Context;
use include_dir::{Dir, File, include_dir};
use outcrop_job::claim::Claim;
use outcrop_job::{Home, atomic};
use std::path::Path;

static DATASETS: Dir = include_dir!("$CARGO_MANIFEST_DIR/../../datasets");
const MARK: &str = ".content";
/// Beside the folder.
const LOCK: &str = "examples.lock";

/// Makes `<cache>/examples` hold what is compiled in. Cost when it does already: one small read.
pub(crate) fn unpack(home: &Home) -> anyhow::Result<()> {
    let (folder, hash) = (home.examples_dir(), content_hash());
    let is_there = || fs_err::read_to_string(folder.join(MARK)).is_ok_and(|found| found == hash);
    if is_there() {
        return Ok(());
    }
    let parent = folder.parent().unwrap_or(Path::new("."));
    fs_err::create_dir_all(parent)?;
    let _turn = turn(&parent.join(LOCK))?;
    if is_there() {
        return Ok(()); // another process has unpacked it meanwhile
    }
    let temporary = tempfile::Builder::new().prefix(".examples-").tempdir_in(parent)?;
    write(&DATASETS, temporary.path())?;
    atomic::write_atomic(&temporary.path().join(MARK), hash.as_bytes())?;
    if folder.exists() {
        fs_err::remove_dir_all(&folder)?; // of another version, or damaged
    }
    fs_err::rename(temporary.path(), &folder).context("the built-in examples can't be unpacked")?;
    let _ = temporary.keep(); // it has its name
    Ok(())
}

/// Waits until no other process unpacks; on a disk that knows no locks nobody waits.
fn turn(path: &Path) -> std::io::Result<Option<Claim>> {
    match Claim::wait(path) {
        Err(error) if error.kind() == std::io::ErrorKind::Unsupported => Ok(None),
        claim => claim.map(Some),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_that_begin_at_once_replace_an_older_version_once() {
        let place = tempfile::tempdir().unwrap();
        let home = Home::at(place.path());
        let folder = home.examples_dir();
        fs_err::create_dir_all(&folder).unwrap();
        fs_err::write(folder.join(MARK), "an older version's").unwrap();
        fs_err::write(folder.join("older.txt"), "").unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| unpack(&home).unwrap());
            }
        });
        assert_eq!(fs_err::read_to_string(folder.join(MARK)).unwrap(), content_hash());
        assert!(!folder.join("older.txt").exists() && folder.join("sentiment/train.jsonl").is_file());
        let mut beside: Vec<_> =
            fs_err::read_dir(home.cache_dir()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        beside.sort();
        assert_eq!(beside, ["examples", LOCK], "nothing is left over");
    }
}
