//! Sizes and times of whole folders. Links are counted as themselves and not followed.

use std::io;
use std::path::Path;
use std::time::SystemTime;

/// Bytes of a file, or of everything in a folder; 0 where there is nothing. What goes away meanwhile counts as gone.
///
/// # Errors
/// The disk.
pub fn bytes_of(path: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    walk(path, &mut |metadata| {
        if !metadata.is_dir() {
            bytes += metadata.len();
        }
    })?;
    Ok(bytes)
}

/// When anything in a folder, or itself, last changed.
pub(super) fn newest_change(path: &Path) -> io::Result<SystemTime> {
    let mut newest = SystemTime::UNIX_EPOCH;
    walk(path, &mut |metadata| {
        if let Ok(modified) = metadata.modified() {
            newest = newest.max(modified);
        }
    })?;
    Ok(newest)
}

fn walk(path: &Path, visit: &mut dyn FnMut(&std::fs::Metadata)) -> io::Result<()> {
    let gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    let metadata = match fs_err::symlink_metadata(path) {
        Err(error) if gone(&error) => return Ok(()),
        metadata => metadata?,
    };
    visit(&metadata);
    if metadata.is_dir() {
        let entries = match fs_err::read_dir(path) {
            Err(error) if gone(&error) => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            walk(&entry?.path(), visit)?;
        }
    }
    Ok(())
}
