//! Uploads in parts. An upload is a folder with the name of its id: `target.json` says what it becomes, `part-N` are its
//! parts. Uploads outlive the service; nothing ends them but the client.

use std::path::PathBuf;

use s3s::dto::{ETag, PartNumber};
use s3s::{S3Result, s3_error};
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use super::objects::{Facts, facts_of, stage, sync};
use super::paths::{Buckets, from_io};

const MOST_PARTS: PartNumber = 10_000;
/// The smallest part but the last, in bytes, as in S3.
const SMALLEST: u64 = 5 << 20;

/// What an upload becomes.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Target {
    bucket: String,
    key: String,
}

/// An upload that isn't complete.
#[derive(Debug)]
pub(super) struct Upload {
    folder: PathBuf,
}

impl Upload {
    /// Begins one; gives its id.
    pub(super) fn begin(buckets: &Buckets, bucket: &str, key: &str) -> S3Result<String> {
        let id = crate::call::request_id();
        let folder = buckets.uploads().join(&id);
        fs_err::create_dir_all(buckets.uploads()).map_err(from_io)?;
        fs_err::create_dir(&folder).map_err(from_io)?;
        let target = serde_json::to_vec(&Target { bucket: bucket.into(), key: key.into() });
        let target = target.map_err(|error| s3_error!(error, InternalError))?;
        fs_err::write(folder.join("target.json"), target).map_err(from_io)?;
        Ok(id)
    }

    /// The upload of that id, if it becomes this object.
    pub(super) fn open(buckets: &Buckets, id: &str, bucket: &str, key: &str) -> S3Result<Self> {
        let unknown = || s3_error!(NoSuchUpload, "There is no upload `{id}` of `{bucket}/{key}`.");
        let is_id = id.len() == 36 && id.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
        if !is_id {
            return Err(unknown());
        }
        let folder = buckets.uploads().join(id);
        let target = fs_err::read(folder.join("target.json")).map_err(|_| unknown())?;
        let target: Target = serde_json::from_slice(&target).map_err(|_| unknown())?;
        if target.bucket != bucket || target.key != key {
            return Err(unknown());
        }
        Ok(Self { folder })
    }

    /// Keeps a part, in place of an earlier one of that number.
    pub(super) fn keep(&self, number: PartNumber, staged: NamedTempFile) -> S3Result<ETag> {
        if !(1..=MOST_PARTS).contains(&number) {
            return Err(s3_error!(InvalidArgument, "A part's number is from 1 to {MOST_PARTS}."));
        }
        let file = staged.persist(self.path(number)).map_err(|error| from_io(error.error))?;
        Ok(facts_of(&file.metadata().map_err(from_io)?)?.etag)
    }

    /// The parts that are there, by number.
    pub(super) fn parts(&self) -> S3Result<Vec<(PartNumber, Facts)>> {
        let mut parts = Vec::new();
        for entry in fs_err::read_dir(&self.folder).map_err(from_io)? {
            let entry = entry.map_err(from_io)?;
            let name = entry.file_name();
            let number = name.to_str().and_then(|name| name.strip_prefix("part-")?.parse().ok());
            let Some(number) = number else { continue };
            parts.push((number, facts_of(&entry.metadata().map_err(from_io)?)?));
        }
        parts.sort_by_key(|(number, _)| *number);
        Ok(parts)
    }

    /// Joins the parts that a client lists into one temporary file.
    pub(super) fn join(&self, buckets: &Buckets, listed: &[(PartNumber, ETag)]) -> S3Result<NamedTempFile> {
        if listed.is_empty() {
            return Err(s3_error!(MalformedXML, "An upload has at least one part."));
        }
        if listed.windows(2).any(|pair| pair[0].0 >= pair[1].0) {
            return Err(s3_error!(InvalidPartOrder, "Parts are listed by their numbers, each once."));
        }
        let there = self.parts()?;
        let mut staged = stage(buckets)?;
        for (index, (number, etag)) in listed.iter().enumerate() {
            let part = there.iter().find(|(found, facts)| found == number && facts.etag.strong_cmp(etag));
            let Some((_, facts)) = part else {
                return Err(s3_error!(InvalidPart, "Part {number} isn't there with that ETag."));
            };
            if facts.size < SMALLEST && index + 1 < listed.len() {
                return Err(s3_error!(EntityTooSmall, "Part {number} has {} bytes, below {SMALLEST}.", facts.size));
            }
            let mut part = fs_err::File::open(self.path(*number)).map_err(from_io)?;
            std::io::copy(&mut part, staged.as_file_mut()).map_err(from_io)?;
        }
        sync(staged.as_file())?;
        Ok(staged)
    }

    /// Ends the upload, its parts included.
    pub(super) fn remove(self) -> S3Result<()> {
        fs_err::remove_dir_all(&self.folder).map_err(from_io)
    }

    fn path(&self, number: PartNumber) -> PathBuf {
        self.folder.join(format!("part-{number}"))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use outcrop_job::Home;
    use s3s::S3ErrorCode;

    use super::*;

    fn part(buckets: &Buckets, upload: &Upload, number: PartNumber, content: &[u8]) -> ETag {
        let mut staged = stage(buckets).unwrap();
        staged.write_all(content).unwrap();
        upload.keep(number, staged).unwrap()
    }

    #[test]
    fn parts_become_one_file_in_the_order_of_their_numbers() {
        let home = tempfile::tempdir().unwrap();
        let buckets = Buckets::new(&Home::at(home.path()));
        let id = Upload::begin(&buckets, "bucket", "key").unwrap();
        let open = |id: &str, key: &str| Upload::open(&buckets, id, "bucket", key);
        let upload = open(&id, "key").unwrap();
        for (id, key) in [(id.as_str(), "other"), ("../uploads", "key"), (&"0".repeat(36), "key")] {
            assert_eq!(*open(id, key).unwrap_err().code(), S3ErrorCode::NoSuchUpload);
        }
        let last = part(&buckets, &upload, 7, b"end");
        let replaced = part(&buckets, &upload, 2, b"x");
        let first = part(&buckets, &upload, 2, &vec![b'a'; SMALLEST as usize]);
        let join = |listed: &[(PartNumber, ETag)]| upload.join(&buckets, listed);
        let code = |listed: &[(PartNumber, ETag)]| join(listed).unwrap_err().code().clone();
        assert_eq!(code(&[]), S3ErrorCode::MalformedXML);
        assert_eq!(code(&[(7, last.clone()), (2, first.clone())]), S3ErrorCode::InvalidPartOrder);
        assert_eq!(code(&[(2, replaced), (7, last.clone())]), S3ErrorCode::InvalidPart);
        assert_eq!(code(&[(3, first.clone())]), S3ErrorCode::InvalidPart);
        let joined = join(&[(2, first.clone()), (7, last)]).unwrap();
        let content = fs_err::read(joined.path()).unwrap();
        assert_eq!((content.len() as u64, &content[content.len() - 4..]), (SMALLEST + 3, &b"aend"[..]));
        let small = part(&buckets, &upload, 1, b"small");
        assert_eq!(code(&[(1, small), (2, first)]), S3ErrorCode::EntityTooSmall);
        let none = stage(&buckets).unwrap();
        assert_eq!(*upload.keep(0, none).unwrap_err().code(), S3ErrorCode::InvalidArgument);
        upload.remove().unwrap();
        assert!(open(&id, "key").is_err());
    }
}
