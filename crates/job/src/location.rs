//! From the locations of a request to paths on disk: `s3://outcrop-examples/key` is an unpacked example,
//! `s3://bucket/key` lies in the home's S3 folder or in a store of objects elsewhere, of which a copy is made, anything
//! else is a path relative to the request file's folder. Nothing is read here, and `~` has no meaning.

use std::path::{Path, PathBuf};
use std::sync::Arc;

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
    /// The store that buckets are in, and where copies of its objects lie; without one they are in the home.
    remote: Option<(Arc<dyn Objects>, PathBuf)>,
}

/// A store of objects in place of the home's S3 folder. Errors are in words for the user: what failed, and what to do.
pub trait Objects: std::fmt::Debug + Send + Sync {
    /// Copies the object `key`, or all objects below `key/`, to `path`. False where there is neither.
    ///
    /// # Errors
    /// The store can't be asked; the disk.
    fn fetch(&self, bucket: &str, key: &str, path: &Path) -> Result<bool, String>;

    /// Copies the files of a folder to objects below `key/`.
    ///
    /// # Errors
    /// As for `fetch`.
    fn send(&self, folder: &Path, bucket: &str, key: &str) -> Result<(), String>;

    /// Whether there is an object `key`, and whether there are any below `key/`.
    ///
    /// # Errors
    /// As for `fetch`.
    fn look(&self, bucket: &str, key: &str) -> Result<(bool, bool), String>;

    /// Tries to write below `key/`; nothing stays.
    ///
    /// # Errors
    /// As for `fetch`; writing isn't allowed.
    fn try_writing(&self, bucket: &str, key: &str) -> Result<(), String>;

    /// Where it is, for messages.
    fn address(&self) -> &str;
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
    /// A store of objects doesn't do what it is asked for.
    #[error("{0}")]
    Remote(String),
}

impl Locations {
    /// For a request file in `folder`.
    pub fn for_file(home: Home, folder: impl Into<PathBuf>) -> Self {
        Self { home, folder: folder.into(), origin: Origin::File, remote: None }
    }

    /// For a request from the network, which may name no paths.
    pub fn for_network(home: Home) -> Self {
        Self { home, folder: PathBuf::new(), origin: Origin::Network, remote: None }
    }

    /// The same with buckets in `objects`, whose copies lie in `place`.
    #[must_use]
    pub fn with_objects(self, objects: Arc<dyn Objects>, place: impl Into<PathBuf>) -> Self {
        Self { remote: Some((objects, place.into())), ..self }
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
            return self.s3_path(location, rest, "inputs");
        }
        if location.contains("://") {
            return Err(LocationError::Scheme(given()));
        }
        if self.origin == Origin::Network {
            return Err(LocationError::Path(given()));
        }
        Ok(self.folder.join(location))
    }

    /// Copies of a remote store's objects lie in `kind`: what is read and what is written don't mix.
    fn s3_path(&self, location: &str, rest: &str, kind: &str) -> Result<PathBuf, LocationError> {
        if !is_s3_uri(location) {
            return Err(LocationError::Pattern(location.to_string()));
        }
        let mut segments = rest.split('/').filter(|segment| !segment.is_empty());
        let mut path = match segments.next() {
            Some(EXAMPLES_BUCKET) => self.home.examples_dir(),
            Some(bucket) => match &self.remote {
                Some((_, place)) => place.join(kind).join(bucket),
                None => self.home.s3_dir().join(bucket),
            },
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
    /// As for `path`, and where nothing is there; a store of objects that gives no copy.
    pub fn input(&self, location: &str) -> Result<PathBuf, LocationError> {
        let path = self.path(location)?;
        if let Some((objects, bucket, key)) = self.remote_of(location) {
            // a copy is made whole or not at all, and a job that goes on reads the one that it began with
            if !path.exists() && !objects.fetch(bucket, key, &path).map_err(LocationError::Remote)? {
                let path = PathBuf::from(format!("{}/{bucket}/{key}", objects.address()));
                return Err(LocationError::Missing { location: location.to_string(), path });
            }
            return Ok(path);
        }
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
        let path = match location.strip_prefix("s3://") {
            Some(rest) => self.s3_path(location, rest, "outputs")?,
            None => self.path(location)?,
        };
        if is_example(location) { Err(LocationError::ReadOnly(location.to_string())) } else { Ok(path) }
    }

    /// Tries to write to an output in a store of objects; for others the folder tells.
    ///
    /// # Errors
    /// The store refuses.
    pub fn try_output(&self, location: &str) -> Result<(), LocationError> {
        match self.remote_of(location) {
            Some((objects, bucket, key)) => objects.try_writing(bucket, key).map_err(LocationError::Remote),
            None => Ok(()),
        }
    }

    /// Copies the folder `part` of an output to the store of objects that it is in; elsewhere it is there already.
    ///
    /// # Errors
    /// The store refuses, or the disk.
    pub fn publish(&self, location: &str, part: &str) -> Result<(), LocationError> {
        let Some((objects, bucket, key)) = self.remote_of(location) else { return Ok(()) };
        let folder = self.output(location)?.join(part);
        let key = if key.is_empty() { part.to_string() } else { format!("{key}/{part}") };
        objects.send(&folder, bucket, &key).map_err(LocationError::Remote)
    }

    /// Whether an input is a file or a folder in a store of objects; None for locations that aren't in one.
    ///
    /// # Errors
    /// As for `path`; the store can't be asked.
    pub fn look(&self, location: &str) -> Result<Option<(bool, bool)>, LocationError> {
        self.path(location)?;
        let Some((objects, bucket, key)) = self.remote_of(location) else { return Ok(None) };
        objects.look(bucket, key).map(Some).map_err(LocationError::Remote)
    }

    /// Whether a location is in a store of objects.
    pub fn is_remote(&self, location: &str) -> bool {
        self.remote_of(location).is_some()
    }

    /// Store, bucket and key of a location that is in a store of objects.
    fn remote_of<'l>(&self, location: &'l str) -> Option<(&dyn Objects, &'l str, &'l str)> {
        let (objects, _) = self.remote.as_ref().filter(|_| !is_example(location))?;
        let rest = location.strip_prefix("s3://")?;
        let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
        Some((objects.as_ref(), bucket, key.trim_end_matches('/')))
    }
}

/// Whether a location is in the built-in bucket, whose files may have to be unpacked first.
pub fn is_example(location: &str) -> bool {
    location
        .strip_prefix("s3://")
        .and_then(|rest| rest.strip_prefix(EXAMPLES_BUCKET))
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Makes an output folder and tries to write in it, as Bedrock does in a bucket; nothing but the folder stays. The file has
/// a name of its own: two jobs may try the same folder at once.
///
/// # Errors
/// Nothing can be written there.
pub fn try_folder(folder: &Path) -> std::io::Result<()> {
    fs_err::create_dir_all(folder)?;
    let trial = tempfile::Builder::new().prefix(".write_access_check_file.").suffix(".tmp").tempfile_in(folder)?;
    match trial.close() {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
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
    fn two_jobs_may_try_one_output_at_once() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("a/b");
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..200).for_each(|_| try_folder(&folder).unwrap()));
            }
        });
        assert_eq!(fs_err::read_dir(&folder).unwrap().count(), 0, "nothing stays");
        fs_err::write(folder.join("file"), "").unwrap();
        assert!(try_folder(&folder.join("file/out")).is_err());
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

    /// One object `a/b.jsonl` and one folder `f`; sends are noted.
    #[derive(Debug, Default)]
    struct Fake(std::sync::Mutex<Vec<String>>);

    impl Objects for Fake {
        fn fetch(&self, bucket: &str, key: &str, path: &Path) -> Result<bool, String> {
            self.0.lock().unwrap().push(format!("fetch {bucket}/{key}"));
            match key {
                "a/b.jsonl" => {
                    fs_err::create_dir_all(path.parent().unwrap()).unwrap();
                    fs_err::write(path, "x").unwrap();
                    Ok(true)
                }
                "denied" => Err("the store says no".into()),
                _ => Ok(false),
            }
        }

        fn send(&self, folder: &Path, bucket: &str, key: &str) -> Result<(), String> {
            self.0.lock().unwrap().push(format!("send {} {bucket}/{key}", folder.display()));
            Ok(())
        }

        fn look(&self, _: &str, key: &str) -> Result<(bool, bool), String> {
            Ok((key == "a/b.jsonl", key == "f"))
        }

        fn try_writing(&self, _: &str, _: &str) -> Result<(), String> {
            Err("no writing".into())
        }

        fn address(&self) -> &str {
            "http://store"
        }
    }

    #[test]
    fn a_store_of_objects_takes_the_place_of_the_homes_buckets() {
        let place = tempfile::tempdir().unwrap();
        let fake = Arc::new(Fake::default());
        let locations = Locations::for_network(Home::at("/h")).with_objects(fake.clone(), place.path());
        let path = locations.input("s3://bucket/a/b.jsonl").unwrap();
        assert_eq!(path, place.path().join("inputs/bucket/a/b.jsonl"));
        locations.input("s3://bucket/a/b.jsonl").unwrap();
        assert_eq!(*fake.0.lock().unwrap(), ["fetch bucket/a/b.jsonl"], "one copy");
        assert_eq!(
            locations.input("s3://bucket/none").unwrap_err().to_string(),
            "`s3://bucket/none` doesn't exist (looked for it at `http://store/bucket/none`)"
        );
        assert_eq!(locations.input("s3://bucket/denied").unwrap_err().to_string(), "the store says no");
        assert!(matches!(locations.input("s3://bucket/../x"), Err(LocationError::Escape(_))));
        let examples = locations.path("s3://outcrop-examples/x").unwrap();
        assert_eq!(examples, Path::new("/h/cache/examples/x"), "the built-in bucket stays");
        assert_eq!(locations.look("s3://bucket/f/").unwrap(), Some((false, true)));
        let output = locations.output("s3://bucket/out/").unwrap();
        assert_eq!(output, place.path().join("outputs/bucket/out"));
        assert_eq!(locations.try_output("s3://bucket/out").unwrap_err().to_string(), "no writing");
        locations.publish("s3://bucket/out/", "job").unwrap();
        locations.publish("s3://bucket", "job").unwrap();
        let sent = fake.0.lock().unwrap().iter().filter(|line| line.starts_with("send")).cloned().collect::<Vec<_>>();
        let from = |folder: &str| place.path().join("outputs/bucket").join(folder).display().to_string();
        assert_eq!(
            sent,
            [format!("send {} bucket/out/job", from("out/job")), format!("send {} bucket/job", from("job"))]
        );
        // without one, there is nothing to try or to send
        let home = Locations::for_network(Home::at("/h"));
        assert_eq!(home.look("s3://bucket/x").unwrap(), None);
        home.try_output("s3://bucket/out").and_then(|()| home.publish("s3://bucket/out", "job")).unwrap();
    }
}
