//! What survives a kill: the columns of a shard being written and, beside them, how far they are known to be whole.
//!
//! A shard's folder has a file `lock`, held by the one process whose work is kept, and while it works a folder `partial`. Another
//! process that prepares the same at the same time works without a journal. What a journal holds is the business of `builder`.

use std::fs::TryLockError;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The kept work of one preparation.
pub(crate) struct Journal {
    folder: PathBuf,
    lock: fs_err::File,
}

impl Journal {
    /// Claims the work on the shard in `folder`; `None` where another process has it.
    pub(crate) fn claim(folder: &Path) -> io::Result<Option<Self>> {
        let mut options = fs_err::OpenOptions::new();
        let lock = options.read(true).write(true).create(true).truncate(false).open(folder.join("lock"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let journal = Self { folder: folder.join("partial"), lock };
        fs_err::create_dir_all(&journal.folder)?;
        Ok(Some(journal))
    }

    /// Where the columns lie.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    fn state_path(&self) -> PathBuf {
        self.folder.join("state.json")
    }

    /// The state that was saved last, by a process that didn't end its work. Errors: it can't be read.
    pub(crate) fn load<T: DeserializeOwned>(&self) -> io::Result<Option<T>> {
        match fs_err::read(self.state_path()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            other => Ok(Some(serde_json::from_slice(&other?)?)),
        }
    }

    /// Saves a state for good: temporary file, sync, rename.
    pub(crate) fn save<T: Serialize>(&self, state: &T) -> io::Result<()> {
        let mut file = tempfile::Builder::new().prefix("state-").suffix(".tmp").tempfile_in(&self.folder)?;
        file.write_all(&serde_json::to_vec(state)?)?;
        file.as_file().sync_all()?;
        file.persist(self.state_path()).map_err(|error| error.error)?;
        Ok(())
    }

    /// Forgets the work; the lock is released.
    pub(crate) fn end(self) -> io::Result<()> {
        fs_err::remove_dir_all(&self.folder)
    }
}

impl Drop for Journal {
    /// Closing the file alone would leave the lock to a child process that is being started at this moment.
    fn drop(&mut self) {
        let _ = self.lock.unlock(); // the file is closed next, whatever this said
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_claims_the_work_and_finds_what_was_saved() {
        let root = tempfile::tempdir().unwrap();
        let journal = Journal::claim(root.path()).unwrap().unwrap();
        assert!(Journal::claim(root.path()).unwrap().is_none());
        assert_eq!(journal.load::<u64>().unwrap(), None);
        journal.save(&7u64).unwrap();
        journal.save(&8u64).unwrap();
        drop(journal); // as a kill does
        let journal = Journal::claim(root.path()).unwrap().unwrap();
        assert_eq!(journal.load::<u64>().unwrap(), Some(8));
        assert!(journal.load::<String>().is_err());
        journal.end().unwrap();
        assert_eq!(Journal::claim(root.path()).unwrap().unwrap().load::<u64>().unwrap(), None);
    }
}
