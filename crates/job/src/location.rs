//! From the locations of a request to paths on disk: `s3://outcrop-examples/key` is an unpacked example,
//! `s3://bucket/key` lies in the home's S3 folder, anything else is a path relative to the request file's folder.
//! Nothing is read here, and `~` has no meaning.

use std::path::{Path, PathBuf};

use crate::Home;
use crate::request::{Origin, S3_URI_PATTERN, is_s3_uri};
use crate::wording::quote;

/// The built-in, read-only bucket.
pub const EXAMPLES_BUCKET: &str = "outcrop-examples";

/// Turns locations into paths for one request.
#[derive(Debug, Clone)]
pub struct Locations {
    home: Home,
    folder: PathBuf,
    origin: Origin,
}

/// Why a location has no path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LocationError {
    /// Nothing given.
    #[error("a location is empty; give `s3://bucket/key` or a path")]
    Empty,
    /// `s3://` and something that Bedrock refuses.
    #[error("{} is no S3 URI that Bedrock accepts; it must match `{S3_URI_PATTERN}`", quote(.0))]
    Pattern(String),
    /// `.` or `..` in a key.
    #[error("{} has a `.` or `..` segment, which could lead out of its bucket; name the key itself", quote(.0))]
    Escape(String),
    /// `http://` and the like.
    #[error("{} has a scheme that isn't read; use `s3://bucket/key` or a path on disk", quote(.0))]
    Scheme(String),
    /// A path in a request from the network.
    #[error("{} is a path on disk; a request over the network may only name `s3://bucket/key`", quote(.0))]
    Path(String),
    /// An output into the built-in bucket.
    #[error("{} is in the built-in bucket `{EXAMPLES_BUCKET}`, which is read only; choose another bucket", quote(.0))]
    ReadOnly(String),
    /// Nothing at the path.
    #[error("{} doesn't exist (looked for it at `{}`)", quote(location), path.display())]
    Missing {
        /// As given.
        location: String,
        /// What it maps to.
        path: PathBuf,
    },
}

impl Locations {
    /// For a request file in `folder`.
    pub fn for_file(home: Home, folder: impl Into<PathBuf>) -> Self {
        Self { home, folder: folder.into(), origin: Origin::File }
    }

    /// For a request from the network, which may name no paths.
    pub fn for_network(home: Home) -> Self {
        Self { home, folder: PathBuf::new(), origin: Origin::Network }
    }

    /// The home that `s3://` is in.
    pub fn home(&self) -> &Home {
        &self.home
    }

    /// The path of `location`, whether or not something is there.
    ///
    /// # Errors
    /// An S3 URI that Bedrock refuses or that could lead out of its bucket; another scheme; a path from the network.
    pub fn path(&self, location: &str) -> Result<PathBuf, LocationError> {
        let given = || location.to_string();
        if location.is_empty() {
            return Err(LocationError::Empty);
        }
        if let Some(rest) = location.strip_prefix("s3://") {
            return self.s3_path(location, rest);
        }
        if location.contains("://") {
            return Err(LocationError::Scheme(given()));
        }
        if self.origin == Origin::Network {
            return Err(LocationError::Path(given()));
        }
        Ok(self.folder.join(location))
    }

    fn s3_path(&self, location: &str, rest: &str) -> Result<PathBuf, LocationError> {
        if !is_s3_uri(location) {
            return Err(LocationError::Pattern(location.to_string()));
        }
        let mut segments = rest.split('/').filter(|segment| !segment.is_empty());
        let mut path = match segments.next() {
            Some(EXAMPLES_BUCKET) => self.home.examples_dir(),
            Some(bucket) => self.home.s3_dir().join(bucket),
            None => return Err(LocationError::Pattern(location.to_string())),
        };
        for segment in segments {
            if matches!(segment, "." | "..") {
                return Err(LocationError::Escape(location.to_string()));
            }
            path.push(segment);
        }
        Ok(path)
    }

    /// The path of a location that is read.
    ///
    /// # Errors
    /// As for `path`, and where nothing is there.
    pub fn input(&self, location: &str) -> Result<PathBuf, LocationError> {
        let path = self.path(location)?;
        match path.try_exists() {
            Ok(false) => Err(LocationError::Missing { location: location.to_string(), path }),
            // A path that can't be looked at is left to the reader, whose error says why.
            _ => Ok(path),
        }
    }

    /// The path of a folder that is written to; it may not exist yet.
    ///
    /// # Errors
    /// As for `path`, and for the built-in bucket.
    pub fn output(&self, location: &str) -> Result<PathBuf, LocationError> {
        let path = self.path(location)?;
        if is_example(location) { Err(LocationError::ReadOnly(location.to_string())) } else { Ok(path) }
    }
}

/// Whether a location is in the built-in bucket, whose files may have to be unpacked first.
pub fn is_example(location: &str) -> bool {
    location
        .strip_prefix("s3://")
        .and_then(|rest| rest.strip_prefix(EXAMPLES_BUCKET))
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The folder that paths of a request file are relative to.
pub fn folder_of(request_file: &Path) -> PathBuf {
    match request_file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn locations() -> Locations {
        Locations::for_file(Home::at("/h"), "/requests")
    }

    #[test]
    fn the_three_kinds_of_location() {
        let path = |location| locations().path(location).unwrap();
        assert_eq!(path("s3://outcrop-examples/general/prose.txt"), Path::new("/h/cache/examples/general/prose.txt"));
        assert_eq!(path("s3://bucket/a/b.jsonl"), Path::new("/h/s3/bucket/a/b.jsonl"));
        assert_eq!(path("s3://bucket/out/"), Path::new("/h/s3/bucket/out"));
        assert_eq!(path("s3://bucket"), Path::new("/h/s3/bucket"));
        assert_eq!(path("data/train.jsonl"), Path::new("/requests/data/train.jsonl"));
        assert_eq!(path("../train.jsonl"), Path::new("/requests/../train.jsonl"), "paths are the user's own");
        assert_eq!(path("~/train.jsonl"), Path::new("/requests/~/train.jsonl"));
        #[cfg(unix)]
        assert_eq!(path("/elsewhere/train.jsonl"), Path::new("/elsewhere/train.jsonl"));
    }

    #[test]
    fn no_uri_leads_out_of_its_bucket() {
        for uri in ["s3://bucket/../jobs/x", "s3://bucket/a/../../x", "s3://bucket/./x", "s3://bucket/.."] {
            let error = locations().path(uri).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("`{uri}` has a `.` or `..` segment, which could lead out of its bucket; name the key itself")
            );
        }
        for uri in [
            "s3://../x",
            "s3://...",
            "s3:///etc/passwd",
            "s3://bucket//etc",
            "s3://bucket/a\\..\\b",
            "s3://",
            "s3://a%2f/x",
        ] {
            let error = locations().path(uri).unwrap_err();
            assert!(matches!(error, LocationError::Pattern(_)), "{error}");
        }
        let message = locations().path("s3://My_Bucket/x").unwrap_err().to_string();
        assert!(
            message.starts_with("`s3://My_Bucket/x` is no S3 URI that Bedrock accepts; it must match `s3://["),
            "{message}"
        );
        // Three dots are an ordinary name.
        assert!(locations().path("s3://bucket/.../x").is_ok());
    }

    #[test]
    fn other_schemes_and_empty_locations_are_refused() {
        let message = |location| locations().path(location).unwrap_err().to_string();
        assert_eq!(
            message("file:///x"),
            "`file:///x` has a scheme that isn't read; use `s3://bucket/key` or a path on disk"
        );
        assert_eq!(message(""), "a location is empty; give `s3://bucket/key` or a path");
    }

    #[test]
    fn the_network_may_name_no_path() {
        let network = Locations::for_network(Home::at("/h"));
        assert_eq!(network.path("s3://bucket/x").unwrap(), Path::new("/h/s3/bucket/x"));
        assert_eq!(
            network.path("/etc/passwd").unwrap_err().to_string(),
            "`/etc/passwd` is a path on disk; a request over the network may only name `s3://bucket/key`"
        );
    }

    #[test]
    fn a_missing_input_is_named_with_the_path_it_maps_to() {
        let home = tempfile::tempdir().unwrap();
        let locations = Locations::for_file(Home::at(home.path()), home.path());
        let path = home.path().join("s3").join("bucket").join("train.jsonl");
        let error = locations.input("s3://bucket/train.jsonl").unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("`s3://bucket/train.jsonl` doesn't exist (looked for it at `{}`)", path.display())
        );
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::write(&path, "x").unwrap();
        assert_eq!(locations.input("s3://bucket/train.jsonl").unwrap(), path);
    }

    #[test]
    fn the_examples_are_read_only() {
        assert_eq!(
            locations().output("s3://outcrop-examples/out").unwrap_err().to_string(),
            "`s3://outcrop-examples/out` is in the built-in bucket `outcrop-examples`, which is read only; choose another bucket"
        );
        assert!(locations().output("s3://outcrop-examples-2/out").is_ok());
        assert!(is_example("s3://outcrop-examples") && !is_example("outcrop-examples/x"));
    }

    #[test]
    fn a_request_file_without_a_folder_lies_in_the_current_one() {
        assert_eq!(folder_of(Path::new("job.json")), Path::new("."));
        assert_eq!(folder_of(Path::new("configs/job.json")), Path::new("configs"));
    }
}
