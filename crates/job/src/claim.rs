//! Claims: a `lock` file held by one process until it gives it back or ends, however it ends. The file stays.

use std::fs::TryLockError;
use std::io::{self, Read, Seek, Write};
use std::path::Path;
use std::time::Duration;

/// How long [`Claim::take`] waits for those who only look: tries times pause.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(10);

/// A claim of this process, given back when dropped.
#[derive(Debug)]
pub struct Claim {
    file: fs_err::File,
}

impl Claim {
    /// Claims a lock file, made where it isn't there, and writes this process's id into it; None where another process
    /// has it.
    ///
    /// # Errors
    /// The disk.
    pub fn take(path: &Path) -> io::Result<Option<Self>> {
        let mut file = open(path)?;
        let mut tries = 0;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                // One who looks holds the lock for a moment.
                Err(TryLockError::WouldBlock) if tries < TRIES => std::thread::sleep(PAUSE),
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(error),
            }
            tries += 1;
        }
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(std::process::id().to_string().as_bytes())?;
        file.flush()?;
        Ok(Some(Self { file }))
    }

    /// Waits for a short turn, at a table that several processes change.
    ///
    /// # Errors
    /// The disk; `Unsupported` on one that knows no locks.
    pub fn wait(path: &Path) -> io::Result<Self> {
        let file = open(path)?;
        file.lock()?;
        Ok(Self { file })
    }

    /// Keeps others from taking a claim on a lock file that is there, beside any number who do the same: two who look
    /// don't take each other for a run. None where another process has taken it.
    ///
    /// # Errors
    /// There is no such file; the disk.
    pub fn share(path: &Path) -> io::Result<Option<Self>> {
        let file = fs_err::File::open(path)?;
        match file.try_lock_shared() {
            Ok(()) => Ok(Some(Self { file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Whether a process has taken the claim on a lock file; what has no file, none was ever at.
    ///
    /// # Errors
    /// The disk.
    pub fn is_taken(path: &Path) -> io::Result<bool> {
        match Self::share(path) {
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(false),
            shared => Ok(shared?.is_none()),
        }
    }

    /// The id of the process that has taken a claim; `unknown` where the file doesn't say, as on Windows, where others
    /// can't read it.
    pub fn holder(path: &Path) -> String {
        let mut text = String::new();
        let read = fs_err::File::open(path).and_then(|file| file.take(32).read_to_string(&mut text));
        let pid = text.trim();
        if read.is_err() || pid.is_empty() { "unknown".to_string() } else { pid.to_string() }
    }
}

/// A lock file, made where it isn't there.
fn open(path: &Path) -> io::Result<fs_err::File> {
    fs_err::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
}

impl Drop for Claim {
    /// Gives the claim back: closing the file alone leaves it to a child process that is being started at this moment
    /// and has the open file until it runs its program.
    fn drop(&mut self) {
        let _ = self.file.unlock(); // the file is closed next, whatever this said
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_takes_it_and_many_look() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        assert!(!Claim::is_taken(&path).unwrap());
        assert!(!path.exists(), "looking makes no file");
        assert!(Claim::share(&path).is_err());
        let claim = Claim::take(&path).unwrap().unwrap();
        assert!(Claim::is_taken(&path).unwrap());
        assert!(Claim::take(&path).unwrap().is_none());
        assert!(Claim::share(&path).unwrap().is_none());
        drop(claim);
        let looking = [(); 2].map(|()| Claim::share(&path).unwrap().unwrap());
        assert!(!Claim::is_taken(&path).unwrap());
        assert!(Claim::take(&path).unwrap().is_none());
        drop(looking);
        assert!(Claim::take(&path).unwrap().is_some());
        #[cfg(unix)]
        assert_eq!(Claim::holder(&path), std::process::id().to_string());
        assert_eq!(Claim::holder(&folder.path().join("none")), "unknown");
    }

    /// A child has a copy of every open file from `fork` until it runs its program: a claim that were only closed would
    /// be held for that moment.
    #[cfg(unix)]
    #[test]
    fn a_child_that_is_being_started_holds_no_claim() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let starting = std::thread::spawn(|| {
            for _ in 0..60 {
                assert!(std::process::Command::new("true").status().unwrap().success());
            }
        });
        while !starting.is_finished() {
            drop(Claim::take(&path).unwrap().unwrap());
            assert!(!Claim::is_taken(&path).unwrap());
        }
        starting.join().unwrap();
    }

    #[test]
    fn looking_keeps_none_from_taking() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let place = path.clone();
        let looking = std::thread::spawn(move || (0..2000).filter(|_| Claim::is_taken(&place).unwrap()).count());
        for _ in 0..50 {
            drop(Claim::take(&path).unwrap().unwrap());
        }
        looking.join().unwrap();
    }
}
