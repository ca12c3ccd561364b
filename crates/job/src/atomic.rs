//! Files that are whole or not there: written beside their place, synced, renamed, and the folder synced. Every JSON
//! file of a job goes through here.

use std::io::{self, Write};
use std::path::Path;

/// Writes `bytes` to `path` so that a reader, or the disk after a power cut, has the old file or the new one, never a
/// part. A leftover of a killed process is a file `.<name>.*.tmp` beside it.
///
/// # Errors
/// Any I/O error, naming the path; the old file is then untouched and the temporary one removed. A full disk is
/// recognisable with `is_disk_full`.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write(path, bytes).map_err(|error| {
        // The kind stays, so that a full disk stays recognisable.
        io::Error::new(error.kind(), format!("failed to write `{}`: {error}", path.display()))
    })
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let prefix = format!(".{name}.");
    let mut builder = tempfile::Builder::new();
    builder.prefix(&prefix).suffix(".tmp");
    // Temporary files are private by default; this one becomes an ordinary file, cut by the umask like any other.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    sync_folder(folder)
}

/// Makes a rename in `folder` durable. Windows has no such call and needs none.
///
/// # Errors
/// The folder can't be opened or synced.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    #[cfg(unix)]
    fs_err::File::open(folder)?.sync_all()?;
    #[cfg(not(unix))]
    let _ = folder;
    Ok(())
}

/// Whether an error means that the disk, or the user's share of it, is full (R18).
pub fn is_disk_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_the_file_and_leaves_nothing_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plan.json");
        write_atomic(&path, b"one").unwrap();
        write_atomic(&path, b"two").unwrap();
        assert_eq!(fs_err::read(&path).unwrap(), b"two");
        assert_eq!(fs_err::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_failed_write_keeps_the_old_file_and_names_the_path() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("no").join("plan.json");
        let error = write_atomic(&missing, b"x").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(error.to_string().starts_with(&format!("failed to write `{}`: ", missing.display())), "{error}");

        // A folder can't be replaced by a file, and nothing is left of the attempt.
        let taken = folder.path().join("taken");
        fs_err::create_dir_all(taken.join("inside")).unwrap();
        assert!(write_atomic(&taken, b"x").is_err());
        assert!(taken.join("inside").is_dir());
        assert_eq!(fs_err::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn the_file_is_as_readable_as_any_other() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let (ours, plain) = (folder.path().join("a"), folder.path().join("b"));
        write_atomic(&ours, b"x").unwrap();
        fs_err::write(&plain, b"x").unwrap();
        let mode = |path: &Path| fs_err::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&ours), mode(&plain));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn r18_a_full_disk_is_recognised() {
        // The device that is always full.
        let mut full = fs_err::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let error = full.write_all(b"x").unwrap_err();
        assert!(is_disk_full(&error), "{error}");
        assert!(!is_disk_full(&io::Error::from(io::ErrorKind::NotFound)));
    }
}
