//! Where buckets and objects lie: a bucket is a folder of `<home>/s3`, an object a file below it, and the files that jobs
//! read and write are the same ones. Every path that the S3 operations touch is made here. Links are refused, not
//! followed; someone on this machine who swaps a folder for a link between the check and its use isn't guarded against.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use outcrop_job::Home;
use outcrop_job::location::EXAMPLES_BUCKET;
use s3s::path::check_bucket_name;
use s3s::{S3Error, S3ErrorCode, S3Result, s3_error};

/// The longest name of a file that every file system takes, in bytes.
const NAME_LIMIT: usize = 255;
/// The longest key, as in S3, in bytes.
const KEY_LIMIT: usize = 1024;

/// The buckets of one home.
#[derive(Debug, Clone)]
pub(super) struct Buckets {
    root: PathBuf,
    examples: PathBuf,
}

/// A file that is or could be an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ObjectPath {
    /// The folder of its bucket.
    pub(super) bucket: PathBuf,
    /// The file.
    pub(super) file: PathBuf,
}

impl Buckets {
    pub(super) fn new(home: &Home) -> Self {
        Self { root: home.s3_dir(), examples: home.examples_dir() }
    }

    /// The folder of all buckets but the built-in one.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Temporary files, on the disk of the objects that they become. No bucket has such a name.
    pub(super) fn staging(&self) -> PathBuf {
        self.root.join(".staging")
    }

    /// Parts of uploads that aren't complete.
    pub(super) fn uploads(&self) -> PathBuf {
        self.root.join(".uploads")
    }

    /// The folder of a bucket, whether or not it is there.
    pub(super) fn bucket(&self, name: &str) -> S3Result<PathBuf> {
        if !check_bucket_name(name) {
            return Err(s3_error!(InvalidBucketName, "`{name}` is no name of a bucket."));
        }
        Ok(if name == EXAMPLES_BUCKET { self.examples.clone() } else { self.root.join(name) })
    }

    /// The folder of a bucket that is there.
    pub(super) fn existing(&self, name: &str) -> S3Result<PathBuf> {
        let path = self.bucket(name)?;
        match fs_err::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_dir() => Ok(path),
            Ok(metadata) if metadata.is_symlink() => Err(link(name)),
            Ok(_) => Err(s3_error!(NoSuchBucket, "There is no bucket `{name}`.")),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Err(s3_error!(NoSuchBucket, "There is no bucket `{name}`."))
            }
            Err(error) => Err(from_io(error)),
        }
    }

    /// The folder of a bucket that is there and may be changed.
    pub(super) fn writable(&self, name: &str) -> S3Result<PathBuf> {
        if name == EXAMPLES_BUCKET {
            return Err(s3_error!(AccessDenied, "The built-in bucket `{EXAMPLES_BUCKET}` is read only."));
        }
        self.existing(name)
    }

    /// An object that is read.
    pub(super) fn object(&self, bucket: &str, key: &str) -> S3Result<ObjectPath> {
        Self::below(self.existing(bucket)?, key)
    }

    /// An object that is written or deleted.
    pub(super) fn writable_object(&self, bucket: &str, key: &str) -> S3Result<ObjectPath> {
        Self::below(self.writable(bucket)?, key)
    }

    fn below(bucket: PathBuf, key: &str) -> S3Result<ObjectPath> {
        check_key(key)?;
        let mut file = bucket.clone();
        for segment in key.split('/') {
            file.push(segment);
            // What isn't there yet can't be a link, and an unreadable folder fails where it is used.
            if fs_err::symlink_metadata(&file).is_ok_and(|metadata| metadata.is_symlink()) {
                return Err(link(key));
            }
        }
        Ok(ObjectPath { bucket, file })
    }
}

/// Whether a key can be a file: no empty, `.` or `..` segment, no character that some system takes for a separator.
pub(super) fn check_key(key: &str) -> S3Result<()> {
    if key.len() > KEY_LIMIT || key.split('/').any(|segment| segment.len() > NAME_LIMIT) {
        return Err(s3_error!(
            KeyTooLongError,
            "A key has at most {KEY_LIMIT} bytes, {NAME_LIMIT} between two slashes."
        ));
    }
    let unsafe_segment = |segment: &str| matches!(segment, "" | "." | "..");
    let colon = cfg!(windows) && key.contains(':');
    if colon || key.contains(['\\', '\0']) || key.split('/').any(unsafe_segment) {
        let message = "objects are files, so a key has no empty, `.` or `..` segment and no backslash";
        return Err(s3_error!(InvalidArgument, "`{key}` can't be stored: {message}."));
    }
    Ok(())
}

fn link(name: &str) -> S3Error {
    s3_error!(AccessDenied, "`{name}` leads over a symbolic link, which isn't followed.")
}

/// An error of the disk in S3's words.
pub(super) fn from_io(error: std::io::Error) -> S3Error {
    let code = match error.kind() {
        ErrorKind::NotFound | ErrorKind::IsADirectory => S3ErrorCode::NoSuchKey,
        ErrorKind::NotADirectory | ErrorKind::DirectoryNotEmpty => S3ErrorCode::InvalidArgument,
        ErrorKind::PermissionDenied => S3ErrorCode::AccessDenied,
        _ => S3ErrorCode::InternalError,
    };
    let mut answer = S3Error::with_message(code, error.to_string());
    answer.set_source(Box::new(error));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buckets() -> (tempfile::TempDir, Buckets) {
        let home = tempfile::tempdir().unwrap();
        let buckets = Buckets::new(&Home::at(home.path()));
        fs_err::create_dir_all(buckets.root().join("bucket")).unwrap();
        (home, buckets)
    }

    #[test]
    fn no_key_leads_out_of_its_bucket() {
        let (_home, buckets) = buckets();
        for key in ["../x", "a/../../x", "./x", "a//x", "/etc/passwd", "a/", "a\\..\\x", "a\0b", "", ".."] {
            let error = buckets.object("bucket", key).unwrap_err();
            assert_eq!(*error.code(), S3ErrorCode::InvalidArgument, "{key:?}");
        }
        let inside = buckets.object("bucket", ".../a b/c+d.json").unwrap();
        assert!(inside.file.starts_with(buckets.root().join("bucket")));
        for bucket in ["..", ".", ".uploads", ".staging", "a/b", "A_b", "", "%2e%2e"] {
            assert_eq!(*buckets.object(bucket, "x").unwrap_err().code(), S3ErrorCode::InvalidBucketName, "{bucket:?}");
        }
    }

    #[test]
    fn long_keys_are_refused_before_the_disk_does() {
        let (_home, buckets) = buckets();
        let longest = ["a".repeat(255), "b".repeat(255), "c".repeat(255), "d".repeat(255)].join("/");
        assert!(buckets.object("bucket", &longest).is_ok());
        for key in [format!("{longest}/e/f"), "a".repeat(256)] {
            assert_eq!(*buckets.object("bucket", &key).unwrap_err().code(), S3ErrorCode::KeyTooLongError);
        }
    }

    #[cfg(unix)]
    #[test]
    fn links_are_not_followed() {
        let (home, buckets) = buckets();
        fs_err::write(home.path().join("secret"), "x").unwrap();
        let bucket = buckets.root().join("bucket");
        std::os::unix::fs::symlink(home.path(), bucket.join("folder")).unwrap();
        std::os::unix::fs::symlink(home.path().join("secret"), bucket.join("file")).unwrap();
        std::os::unix::fs::symlink(home.path(), buckets.root().join("linked")).unwrap();
        for (name, key) in [("bucket", "folder/secret"), ("bucket", "file"), ("linked", "secret")] {
            assert_eq!(*buckets.object(name, key).unwrap_err().code(), S3ErrorCode::AccessDenied, "{name}/{key}");
        }
    }

    #[test]
    fn the_examples_can_be_read_but_not_changed() {
        let (home, buckets) = buckets();
        assert_eq!(*buckets.object(EXAMPLES_BUCKET, "a").unwrap_err().code(), S3ErrorCode::NoSuchBucket);
        fs_err::create_dir_all(Home::at(home.path()).examples_dir()).unwrap();
        assert!(buckets.object(EXAMPLES_BUCKET, "a").is_ok());
        assert_eq!(*buckets.writable_object(EXAMPLES_BUCKET, "a").unwrap_err().code(), S3ErrorCode::AccessDenied);
    }
}
