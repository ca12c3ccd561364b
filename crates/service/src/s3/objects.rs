//! Reading and writing of one object: what is told of it, ranges, and bodies that become visible whole and only after
//! their checksums agree.

use std::io::SeekFrom;
use std::path::Path;
use std::time::UNIX_EPOCH;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use s3s::checksum::ChecksumHasher;
use s3s::crypto::{Checksum as _, Md5};
use s3s::dto::{Checksum, ETag, ETagCondition, Range, StreamingBlob, Timestamp};
use s3s::{S3Result, StdError, TrailingHeaders, s3_error};
use tempfile::NamedTempFile;
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};
use tokio_util::io::ReaderStream;

use super::paths::{Buckets, ObjectPath, from_io};

const CHUNK: usize = 1 << 16;

/// What is told of an object.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    pub(super) size: u64,
    pub(super) modified: Timestamp,
    pub(super) etag: ETag,
}

/// The facts of a file; a folder is no object.
pub(super) async fn facts(path: &Path) -> S3Result<Facts> {
    let metadata = tokio::fs::symlink_metadata(path).await.map_err(from_io)?;
    if !metadata.is_file() {
        return Err(s3_error!(NoSuchKey));
    }
    facts_of(&metadata)
}

/// The ETag is made of time and size, with a dash as those of uploads in parts have: no client takes it for an MD5, jobs
/// may write the file behind S3's back, and nothing has to be hashed or kept beside it.
pub(super) fn facts_of(metadata: &std::fs::Metadata) -> S3Result<Facts> {
    let modified = metadata.modified().map_err(from_io)?;
    let since = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
    let etag = ETag::Strong(format!("{:032x}-{}", since.as_nanos(), metadata.len()));
    Ok(Facts { size: metadata.len(), modified: modified.into(), etag })
}

/// `If-Match` and `If-None-Match` of a request, against what is there.
pub(super) fn check_conditions(
    there: Option<&ETag>,
    if_match: Option<&ETagCondition>,
    if_none_match: Option<&ETagCondition>,
    reads: bool,
) -> S3Result<()> {
    let holds = |condition: &ETagCondition| match (condition, there) {
        (ETagCondition::Any, there) => there.is_some(),
        (ETagCondition::ETag(wanted), Some(there)) => there.strong_cmp(wanted),
        (ETagCondition::ETag(_), None) => false,
    };
    if if_match.is_some_and(|condition| !holds(condition)) {
        return Err(s3_error!(PreconditionFailed, "The object isn't the one that If-Match names."));
    }
    match if_none_match.is_some_and(holds) {
        true if reads => Err(s3_error!(NotModified)),
        true => Err(s3_error!(PreconditionFailed, "The object is there already.")),
        false => Ok(()),
    }
}

/// A part of a file as a stream, and `Content-Range` where a range was asked for.
pub(super) struct Part {
    pub(super) body: StreamingBlob,
    pub(super) length: u64,
    pub(super) content_range: Option<String>,
}

/// Opens a file of `size` bytes at a range.
pub(super) async fn read(path: &Path, size: u64, range: Option<Range>) -> S3Result<Part> {
    let mut file = tokio::fs::File::open(path).await.map_err(from_io)?;
    let (start, end) = match range {
        None => (0, size),
        Some(range) => {
            let bytes = range.check(size)?;
            (bytes.start, bytes.end)
        }
    };
    file.seek(SeekFrom::Start(start)).await.map_err(from_io)?;
    let length = end - start;
    let body = StreamingBlob::wrap(ReaderStream::with_capacity(file.take(length), CHUNK));
    let content_range = range.map(|_| format!("bytes {start}-{}/{size}", end.saturating_sub(1)));
    Ok(Part { body, length, content_range })
}

/// What the sender says of a body: its length, its MD5, its checksums in the headers.
#[derive(Default)]
pub(super) struct Promise {
    pub(super) length: Option<i64>,
    pub(super) md5: Option<String>,
    pub(super) sums: Checksum,
    pub(super) trailers: Option<TrailingHeaders>,
}

/// Writes a body to a temporary file and checks it against what was promised.
pub(super) async fn receive<S>(buckets: &Buckets, mut body: S, promise: Promise) -> S3Result<NamedTempFile>
where
    S: Stream<Item = Result<Bytes, StdError>> + Unpin,
{
    let staged = stage(buckets)?;
    let mut file = tokio::fs::File::from_std(staged.as_file().try_clone().map_err(from_io)?);
    let (mut md5, mut hasher, mut length) = (promise.md5.is_some().then(Md5::new), promise.sums_to_compute(), 0_u64);
    while let Some(bytes) = body.next().await {
        let bytes = bytes.map_err(|error| s3_error!(IncompleteBody, "The body can't be read: {error}"))?;
        length += bytes.len() as u64;
        md5.iter_mut().for_each(|md5| md5.update(&bytes));
        hasher.update(&bytes);
        file.write_all(&bytes).await.map_err(from_io)?;
    }
    file.sync_all().await.map_err(from_io)?;
    if promise.length.is_some_and(|promised| u64::try_from(promised) != Ok(length)) {
        return Err(s3_error!(IncompleteBody, "The body has {length} bytes and not Content-Length's."));
    }
    let md5 = md5.map(|md5| base64_simd::STANDARD.encode_to_string(md5.finalize())).unwrap_or_default();
    if promise.md5.as_ref().is_some_and(|promised| *promised != md5) {
        return Err(s3_error!(BadDigest, "The body's MD5 is {md5} and not Content-MD5's."));
    }
    check_sums(&hasher.finalize(), &promise)?;
    Ok(staged)
}

impl Promise {
    /// The checksums that are promised in the headers; behind the body, where which one isn't known before, all.
    fn sums_to_compute(&self) -> ChecksumHasher {
        fn wanted<T: Default>(all: bool, promised: Option<&String>) -> Option<T> {
            (all || promised.is_some()).then(T::default)
        }
        let (all, sums) = (self.trailers.is_some(), &self.sums);
        ChecksumHasher {
            crc32: wanted(all, sums.checksum_crc32.as_ref()),
            crc32c: wanted(all, sums.checksum_crc32c.as_ref()),
            sha1: wanted(all, sums.checksum_sha1.as_ref()),
            sha256: wanted(all, sums.checksum_sha256.as_ref()),
            crc64nvme: wanted(all, sums.checksum_crc64nvme.as_ref()),
        }
    }
}

fn check_sums(found: &Checksum, promise: &Promise) -> S3Result<()> {
    let trailers = promise.trailers.as_ref().and_then(TrailingHeaders::take).unwrap_or_default();
    let sums = &promise.sums;
    for (name, promised, found) in [
        ("x-amz-checksum-crc32", &sums.checksum_crc32, &found.checksum_crc32),
        ("x-amz-checksum-crc32c", &sums.checksum_crc32c, &found.checksum_crc32c),
        ("x-amz-checksum-sha1", &sums.checksum_sha1, &found.checksum_sha1),
        ("x-amz-checksum-sha256", &sums.checksum_sha256, &found.checksum_sha256),
        ("x-amz-checksum-crc64nvme", &sums.checksum_crc64nvme, &found.checksum_crc64nvme),
    ] {
        let trailing = trailers.get(name).and_then(|value| value.to_str().ok());
        for promised in [promised.as_deref(), trailing].into_iter().flatten() {
            if Some(promised) != found.as_deref() {
                let found = found.as_deref().unwrap_or_default();
                return Err(s3_error!(BadDigest, "The body's {name} is {found} and not `{promised}`."));
            }
        }
    }
    Ok(())
}

/// A temporary file that can be renamed into a bucket.
pub(super) fn stage(buckets: &Buckets) -> S3Result<NamedTempFile> {
    let folder = buckets.staging();
    fs_err::create_dir_all(&folder).map_err(from_io)?;
    NamedTempFile::new_in(folder).map_err(from_io)
}

/// Makes a temporary file the object.
pub(super) fn publish(staged: NamedTempFile, path: &ObjectPath) -> S3Result<()> {
    if let Some(folder) = path.file.parent() {
        fs_err::create_dir_all(folder).map_err(|error| taken(error, path))?;
    }
    permit(staged.as_file())?;
    staged.persist(&path.file).map_err(|error| taken(error.error, path))?;
    Ok(())
}

/// Brings a temporary file that is written to the disk.
pub(super) fn sync(file: &std::fs::File) -> S3Result<()> {
    file.sync_all().map_err(from_io)
}

fn taken(error: std::io::Error, path: &ObjectPath) -> s3s::S3Error {
    use std::io::ErrorKind::{AlreadyExists, DirectoryNotEmpty, IsADirectory, NotADirectory};
    if matches!(error.kind(), AlreadyExists | DirectoryNotEmpty | IsADirectory | NotADirectory) {
        let name = path.file.strip_prefix(&path.bucket).unwrap_or(&path.file).display();
        let reason = "objects are files, and a file can't be a folder of other objects";
        return s3_error!(InvalidArgument, "`{name}` can't be stored beside what is there: {reason}.");
    }
    from_io(error)
}

/// Temporary files are for their owner only; objects are like any file of this user's.
#[cfg(unix)]
fn permit(file: &std::fs::File) -> S3Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(std::fs::Permissions::from_mode(0o644)).map_err(from_io)
}

#[cfg(not(unix))]
fn permit(_: &std::fs::File) -> S3Result<()> {
    Ok(())
}

/// The media type that a key's ending stands for: nothing is kept beside a file.
pub(super) fn content_type(key: &str) -> &'static str {
    match key.rsplit_once('.').map(|(_, ending)| ending) {
        Some("json") => "application/json",
        Some("jsonl") => "application/jsonl",
        Some("csv") => "text/csv",
        Some("txt" | "md" | "log") => "text/plain",
        Some("html") => "text/html",
        Some("svg") => "image/svg+xml",
        _ => "binary/octet-stream",
    }
}
