//! A store of objects that speaks S3, in place of the home's S3 folder: named by `OUTCROP_S3_ENDPOINT`, with the usual
//! `AWS_` variables for keys and region. Nothing here is called where that isn't set. Calls wait for their answer, on a
//! thread of their own, so that they can be made from anywhere.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::buffered::BufWriter;
use object_store::path::Path as Key;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutPayload, RetryConfig};
use outcrop_job::location::Objects;
use tokio::io::AsyncWriteExt;

/// The environment variable that names the store, `http://host:port` or `https://...`.
pub const ENDPOINT_VARIABLE: &str = "OUTCROP_S3_ENDPOINT";
/// Object that is written to see whether writing is allowed, as Bedrock names its own.
const TRIAL: &str = ".write_access_check_file.tmp";

/// A store of objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    endpoint: String,
}

/// Why there is no store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RemoteError {
    /// Not an address.
    #[error(
        "{ENDPOINT_VARIABLE} is `{0}`; set it to the store's address, `http://host:port` or `https://host`, or unset it"
    )]
    Endpoint(String),
    /// No keys: the usual places of keys would be asked over the network.
    #[error(
        "{ENDPOINT_VARIABLE} is set and {0} isn't; set it, or unset {ENDPOINT_VARIABLE} to use the home's own buckets"
    )]
    Keys(&'static str),
}

impl Remote {
    /// The store that the environment names; None where it names none.
    ///
    /// # Errors
    /// The address is none, or keys are missing.
    pub fn from_environment() -> Result<Option<Self>, RemoteError> {
        Self::of(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    fn of(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, RemoteError> {
        let Some(endpoint) = variable(ENDPOINT_VARIABLE) else { return Ok(None) };
        let endpoint = endpoint.trim_end_matches('/').to_string();
        let host = endpoint.strip_prefix("http://").or_else(|| endpoint.strip_prefix("https://"));
        if host.is_none_or(|host| host.is_empty() || host.contains(['/', ' '])) {
            return Err(RemoteError::Endpoint(endpoint));
        }
        for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"] {
            if variable(name).is_none() {
                return Err(RemoteError::Keys(name));
            }
        }
        Ok(Some(Self { endpoint }))
    }

    fn bucket(&self, name: &str) -> Result<Arc<AmazonS3>, Error> {
        // `install` fails where a provider is there already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let retry = RetryConfig { max_retries: 3, retry_timeout: Duration::from_secs(30), ..RetryConfig::default() };
        let builder = AmazonS3Builder::from_env().with_endpoint(&self.endpoint).with_bucket_name(name);
        let builder = builder.with_allow_http(self.endpoint.starts_with("http://")).with_retry(retry);
        Ok(Arc::new(builder.with_virtual_hosted_style_request(false).build()?))
    }

    /// One sentence about what went wrong with a location.
    fn problem(&self, doing: &str, bucket: &str, key: &str, error: &Error) -> String {
        let place = if key.is_empty() { format!("s3://{bucket}") } else { format!("s3://{bucket}/{key}") };
        let advice = match error {
            Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
                "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and what they may do"
            }
            Error::NotFound { .. } => "check the bucket's name",
            _ => "check that the store runs and that OUTCROP_S3_ENDPOINT is its address",
        };
        format!("`{place}` can't be {doing} at {}: {}; {advice}", self.endpoint, one_line(error))
    }
}

/// The innermost cause of an error, which is what a person can use, on one line.
fn one_line(error: &Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Runs to the end on a thread and a reactor of its own: the caller may be on another one.
fn wait<T: Send>(work: impl Future<Output = Result<T, Error>> + Send) -> Result<T, Error> {
    let generic = |error: String| Error::Generic { store: "S3", source: error.into() };
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.map_err(|error| generic(error.to_string()))?.block_on(work)
        });
        worker.join().unwrap_or_else(|_| Err(generic("the transfer broke off".into())))
    })
}

impl Objects for Remote {
    fn fetch(&self, bucket: &str, key: &str, path: &Path) -> Result<bool, String> {
        let fetched = self.bucket(bucket).and_then(|store| wait(fetch(store, key, path)));
        fetched.map_err(|error| self.problem("read", bucket, key, &error))
    }

    fn send(&self, folder: &Path, bucket: &str, key: &str) -> Result<(), String> {
        let sent = self.bucket(bucket).and_then(|store| wait(send(store, folder, key)));
        sent.map_err(|error| self.problem("written", bucket, key, &error))
    }

    fn look(&self, bucket: &str, key: &str) -> Result<(bool, bool), String> {
        let looked = self.bucket(bucket).and_then(|store| {
            wait(async move {
                let is_object = !key.is_empty() && is_object(&store, key).await?;
                let below = store.list(Some(&parse(key)?)).try_next().await?;
                Ok((is_object, below.is_some()))
            })
        });
        looked.map_err(|error| self.problem("read", bucket, key, &error))
    }

    fn try_writing(&self, bucket: &str, key: &str) -> Result<(), String> {
        let tried = self.bucket(bucket).and_then(|store| {
            wait(async move {
                let trial = below(key, TRIAL)?;
                store.put(&trial, PutPayload::new()).await?;
                store.delete(&trial).await
            })
        });
        tried.map_err(|error| self.problem("written", bucket, key, &error))
    }

    fn address(&self) -> &str {
        &self.endpoint
    }
}

/// A key as it is; what may be in one was checked by the location's pattern.
fn parse(key: &str) -> Result<Key, Error> {
    Key::parse(key).map_err(|source| Error::InvalidPath { source })
}

fn below(key: &str, name: &str) -> Result<Key, Error> {
    parse(&if key.is_empty() { name.to_string() } else { format!("{key}/{name}") })
}

async fn is_object(store: &AmazonS3, key: &str) -> Result<bool, Error> {
    match store.head(&parse(key)?).await {
        Ok(_) => Ok(true),
        Err(Error::NotFound { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

async fn fetch(store: Arc<AmazonS3>, key: &str, path: &Path) -> Result<bool, Error> {
    let temporary = temporary(path);
    remove(&temporary)?;
    let found = match !key.is_empty() && is_object(&store, key).await? {
        true => {
            fetch_one(&store, &parse(key)?, &temporary).await?;
            true
        }
        false => fetch_all(&store, key, &temporary).await?,
    };
    if found {
        fs_err::rename(&temporary, path).map_err(disk)?;
    }
    Ok(found)
}

async fn fetch_all(store: &AmazonS3, key: &str, folder: &Path) -> Result<bool, Error> {
    let prefix = parse(key)?;
    let objects: Vec<_> = store.list(Some(&prefix)).try_collect().await?;
    for object in &objects {
        let Some(parts) = object.location.prefix_match(&prefix) else { continue };
        let mut path = folder.to_path_buf();
        for part in parts {
            path.push(part.as_ref());
        }
        fetch_one(store, &object.location, &path).await?;
    }
    Ok(!objects.is_empty())
}

/// Streams one object into a file.
async fn fetch_one(store: &AmazonS3, key: &Key, path: &Path) -> Result<(), Error> {
    if let Some(folder) = path.parent() {
        fs_err::create_dir_all(folder).map_err(disk)?;
    }
    let mut pieces = store.get(key).await?.into_stream();
    let mut file = tokio::fs::File::create(path).await.map_err(disk)?;
    while let Some(piece) = pieces.try_next().await? {
        file.write_all(&piece).await.map_err(disk)?;
    }
    file.sync_all().await.map_err(disk)
}

async fn send(store: Arc<AmazonS3>, folder: &Path, key: &str) -> Result<(), Error> {
    for (path, name) in files(folder).map_err(disk)? {
        let mut file = tokio::fs::File::open(&path).await.map_err(disk)?;
        // parts where the file is large
        let mut object = BufWriter::new(store.clone(), below(key, &name)?);
        tokio::io::copy(&mut file, &mut object).await.map_err(disk)?;
        object.shutdown().await.map_err(disk)?;
    }
    Ok(())
}

/// The files in a folder, with their names in keys.
fn files(folder: &Path) -> std::io::Result<Vec<(PathBuf, String)>> {
    let (mut found, mut open) = (Vec::new(), vec![(folder.to_path_buf(), String::new())]);
    while let Some((folder, prefix)) = open.pop() {
        for entry in fs_err::read_dir(&folder)? {
            let entry = entry?;
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            match entry.file_type()?.is_dir() {
                true => open.push((entry.path(), format!("{name}/"))),
                false => found.push((entry.path(), name)),
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Where a copy is made before it gets its name.
fn temporary(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.tmp"))
}

fn remove(path: &Path) -> Result<(), Error> {
    match std::fs::symlink_metadata(path) {
        Err(_) => Ok(()),
        Ok(metadata) if metadata.is_dir() => fs_err::remove_dir_all(path).map_err(disk),
        Ok(_) => fs_err::remove_file(path).map_err(disk),
    }
}

fn disk(error: std::io::Error) -> Error {
    Error::Generic { store: "S3", source: Box::new(error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Result<Option<Remote>, String> {
        let find = |name: &str| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_string());
        Remote::of(find).map_err(|error| error.to_string())
    }

    const KEYS: [(&str, &str); 2] = [("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b")];

    #[test]
    fn r36_without_the_variable_there_is_no_store() {
        assert_eq!(of(&KEYS), Ok(None));
        let set = |endpoint| of(&[&[(ENDPOINT_VARIABLE, endpoint)], &KEYS[..]].concat());
        assert_eq!(set("http://127.0.0.1:9000/"), Ok(Some(Remote { endpoint: "http://127.0.0.1:9000".into() })));
        for wrong in ["127.0.0.1:9000", "s3://x", "http://", "http://x/bucket"] {
            assert!(set(wrong).unwrap_err().contains("set it to the store's address"), "{wrong}");
        }
        let no_keys = of(&[(ENDPOINT_VARIABLE, "http://x")]).unwrap_err();
        assert!(no_keys.starts_with("OUTCROP_S3_ENDPOINT is set and AWS_ACCESS_KEY_ID isn't"), "{no_keys}");
    }
}
