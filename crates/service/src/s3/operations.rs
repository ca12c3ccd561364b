//! The operations of S3 that are there. Any other one, and what a file can't keep (user metadata), is NotImplemented.

use futures_util::StreamExt;
use outcrop_job::location::EXAMPLES_BUCKET;
use s3s::dto::*;
use s3s::{S3, S3Request, S3Response, S3Result, s3_error};
use tokio::task::spawn_blocking;

use super::listing::{self, Page, Query};
use super::multipart::Upload;
use super::objects::{Facts, Promise, check_conditions, content_type, facts, publish, read, receive};
use super::paths::{Buckets, ObjectPath, from_io};

/// S3 over the folders of a home.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) buckets: Buckets,
}

type Answer<T> = S3Result<S3Response<T>>;

fn answer<T>(output: T) -> Answer<T> {
    Ok(S3Response::new(output))
}

fn signed(number: u64) -> S3Result<i64> {
    i64::try_from(number).map_err(|error| s3_error!(error, InternalError))
}

/// Runs what blocks off the reactor.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> S3Result<T> + Send + 'static) -> S3Result<T> {
    spawn_blocking(work).await.map_err(|error| s3_error!(error, InternalError))?
}

fn refuse_metadata(metadata: Option<&Metadata>) -> S3Result<()> {
    match metadata.filter(|metadata| !metadata.is_empty()) {
        Some(_) => Err(s3_error!(NotImplemented, "Objects are files, and nothing keeps their user metadata.")),
        None => Ok(()),
    }
}

/// What the sender says of a body, in an input that has one.
macro_rules! promise {
    ($input:ident, $trailers:expr) => {
        Promise {
            length: $input.content_length,
            md5: $input.content_md5,
            sums: Checksum {
                checksum_crc32: $input.checksum_crc32,
                checksum_crc32c: $input.checksum_crc32c,
                checksum_crc64nvme: $input.checksum_crc64nvme,
                checksum_sha1: $input.checksum_sha1,
                checksum_sha256: $input.checksum_sha256,
                ..Checksum::default()
            },
            trailers: $trailers,
        }
    };
}

impl Files {
    async fn source(&self, source: CopySource) -> S3Result<(ObjectPath, Facts)> {
        let CopySource::Bucket { bucket, key, version_id: None } = source else {
            return Err(s3_error!(NotImplemented, "A copy's source is BUCKET/KEY, without a version."));
        };
        let path = self.buckets.object(&bucket, &key)?;
        let facts = facts(&path.file).await?;
        Ok((path, facts))
    }

    async fn list(&self, bucket: &str, query: Query) -> S3Result<(Page, Query)> {
        let folder = self.buckets.existing(bucket)?;
        let hidden = bucket == EXAMPLES_BUCKET;
        blocking(move || {
            let mut page = listing::list(&folder, &query)?;
            if hidden {
                page.objects.retain(|object| object.key.as_deref() != Some(super::EXAMPLES_MARK));
            }
            Ok((page, query))
        })
        .await
    }
}

#[async_trait::async_trait]
impl S3 for Files {
    async fn list_buckets(&self, request: S3Request<ListBucketsInput>) -> Answer<ListBucketsOutput> {
        let buckets = self.buckets.clone();
        let prefix = request.input.prefix;
        let wanted = prefix.clone().unwrap_or_default();
        let buckets = blocking(move || super::names(&buckets, &wanted)).await?;
        answer(ListBucketsOutput { buckets: Some(buckets), prefix, ..ListBucketsOutput::default() })
    }

    async fn create_bucket(&self, request: S3Request<CreateBucketInput>) -> Answer<CreateBucketOutput> {
        let name = request.input.bucket;
        let path = self.buckets.bucket(&name)?;
        if name == EXAMPLES_BUCKET {
            return Err(s3_error!(BucketAlreadyExists, "`{name}` is the built-in bucket."));
        }
        fs_err::create_dir_all(self.buckets.root()).map_err(from_io)?;
        match fs_err::create_dir(path) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Err(s3_error!(BucketAlreadyOwnedByYou)),
            made => made.map_err(from_io),
        }?;
        answer(CreateBucketOutput { location: Some(format!("/{name}")) })
    }

    async fn head_bucket(&self, request: S3Request<HeadBucketInput>) -> Answer<HeadBucketOutput> {
        self.buckets.existing(&request.input.bucket)?;
        answer(HeadBucketOutput::default())
    }

    async fn get_bucket_location(&self, request: S3Request<GetBucketLocationInput>) -> Answer<GetBucketLocationOutput> {
        self.buckets.existing(&request.input.bucket)?;
        answer(GetBucketLocationOutput::default())
    }

    async fn delete_bucket(&self, request: S3Request<DeleteBucketInput>) -> Answer<DeleteBucketOutput> {
        let folder = self.buckets.writable(&request.input.bucket)?;
        blocking(move || {
            if listing::holds_files(&folder)? {
                return Err(s3_error!(BucketNotEmpty, "The bucket holds files."));
            }
            fs_err::remove_dir_all(folder).map_err(from_io)
        })
        .await?;
        answer(DeleteBucketOutput {})
    }

    async fn put_object(&self, request: S3Request<PutObjectInput>) -> Answer<PutObjectOutput> {
        let input = request.input;
        refuse_metadata(input.metadata.as_ref())?;
        let path = self.buckets.writable_object(&input.bucket, &input.key)?;
        let there = facts(&path.file).await.ok().map(|facts| facts.etag);
        check_conditions(there.as_ref(), input.if_match.as_ref(), input.if_none_match.as_ref(), false)?;
        let promise = promise!(input, request.trailing_headers);
        let body = input.body.ok_or_else(|| s3_error!(IncompleteBody))?;
        let staged = receive(&self.buckets, body, promise).await?;
        publish(staged, &path)?;
        let e_tag = Some(facts(&path.file).await?.etag);
        answer(PutObjectOutput { e_tag, ..PutObjectOutput::default() })
    }

    async fn get_object(&self, request: S3Request<GetObjectInput>) -> Answer<GetObjectOutput> {
        let input = request.input;
        let path = self.buckets.object(&input.bucket, &input.key)?;
        let facts = facts(&path.file).await?;
        check_conditions(Some(&facts.etag), input.if_match.as_ref(), input.if_none_match.as_ref(), true)?;
        let part = read(&path.file, facts.size, input.range).await?;
        answer(GetObjectOutput {
            body: Some(part.body),
            content_length: Some(signed(part.length)?),
            content_range: part.content_range,
            content_type: Some(content_type(&input.key).to_string()),
            accept_ranges: Some("bytes".to_string()),
            last_modified: Some(facts.modified),
            e_tag: Some(facts.etag),
            ..GetObjectOutput::default()
        })
    }

    async fn head_object(&self, request: S3Request<HeadObjectInput>) -> Answer<HeadObjectOutput> {
        let input = request.input;
        let path = self.buckets.object(&input.bucket, &input.key)?;
        let facts = facts(&path.file).await?;
        check_conditions(Some(&facts.etag), input.if_match.as_ref(), input.if_none_match.as_ref(), true)?;
        answer(HeadObjectOutput {
            content_length: Some(signed(facts.size)?),
            content_type: Some(content_type(&input.key).to_string()),
            accept_ranges: Some("bytes".to_string()),
            last_modified: Some(facts.modified),
            e_tag: Some(facts.etag),
            ..HeadObjectOutput::default()
        })
    }

    async fn delete_object(&self, request: S3Request<DeleteObjectInput>) -> Answer<DeleteObjectOutput> {
        let path = self.buckets.writable_object(&request.input.bucket, &request.input.key)?;
        delete(&path)?;
        answer(DeleteObjectOutput::default())
    }

    async fn delete_objects(&self, request: S3Request<DeleteObjectsInput>) -> Answer<DeleteObjectsOutput> {
        let input = request.input;
        self.buckets.writable(&input.bucket)?;
        let (mut deleted, mut errors) = (Vec::new(), Vec::new());
        for object in input.delete.objects {
            let key = Some(object.key.clone());
            match self.buckets.writable_object(&input.bucket, &object.key).and_then(|path| delete(&path)) {
                Ok(()) => deleted.push(DeletedObject { key, ..DeletedObject::default() }),
                Err(error) => errors.push(Error {
                    key,
                    code: Some(error.code().as_str().to_string()),
                    message: error.message().map(str::to_string),
                    ..Error::default()
                }),
            }
        }
        let deleted = (!input.delete.quiet.unwrap_or(false)).then_some(deleted);
        answer(DeleteObjectsOutput { deleted, errors: Some(errors), ..DeleteObjectsOutput::default() })
    }

    async fn copy_object(&self, request: S3Request<CopyObjectInput>) -> Answer<CopyObjectOutput> {
        let input = request.input;
        refuse_metadata(input.metadata.as_ref())?;
        let (source, found) = self.source(input.copy_source).await?;
        let conditions = (input.copy_source_if_match.as_ref(), input.copy_source_if_none_match.as_ref());
        check_conditions(Some(&found.etag), conditions.0, conditions.1, false)?;
        let path = self.buckets.writable_object(&input.bucket, &input.key)?;
        let part = read(&source.file, found.size, None).await?;
        let promise = Promise { length: Some(signed(found.size)?), ..Promise::default() };
        publish(receive(&self.buckets, part.body, promise).await?, &path)?;
        let made = facts(&path.file).await?;
        let (e_tag, last_modified) = (Some(made.etag), Some(made.modified));
        let copy_object_result = Some(CopyObjectResult { e_tag, last_modified, ..CopyObjectResult::default() });
        answer(CopyObjectOutput { copy_object_result, ..CopyObjectOutput::default() })
    }

    async fn list_objects_v2(&self, request: S3Request<ListObjectsV2Input>) -> Answer<ListObjectsV2Output> {
        let input = request.input;
        let after = input.continuation_token.clone().or_else(|| input.start_after.clone()).unwrap_or_default();
        let query = Query {
            prefix: input.prefix.unwrap_or_default(),
            delimiter: input.delimiter,
            after,
            max_keys: input.max_keys,
            url: input.encoding_type.is_some(),
        };
        let (page, query) = self.list(&input.bucket, query).await?;
        answer(ListObjectsV2Output {
            name: Some(input.bucket),
            prefix: Some(query.encode(&query.prefix)),
            delimiter: query.delimiter.as_deref().map(|delimiter| query.encode(delimiter)),
            start_after: input.start_after.map(|start| query.encode(&start)),
            encoding_type: input.encoding_type,
            max_keys: Some(query.max_keys.unwrap_or(1000)),
            key_count: i32::try_from(page.objects.len() + page.prefixes.len()).ok(),
            continuation_token: input.continuation_token,
            is_truncated: Some(page.next.is_some()),
            next_continuation_token: page.next,
            contents: Some(page.objects),
            common_prefixes: Some(page.prefixes),
            ..ListObjectsV2Output::default()
        })
    }

    async fn list_objects(&self, request: S3Request<ListObjectsInput>) -> Answer<ListObjectsOutput> {
        let input = request.input;
        let query = Query {
            prefix: input.prefix.unwrap_or_default(),
            delimiter: input.delimiter,
            after: input.marker.clone().unwrap_or_default(),
            max_keys: input.max_keys,
            url: input.encoding_type.is_some(),
        };
        let (page, query) = self.list(&input.bucket, query).await?;
        answer(ListObjectsOutput {
            name: Some(input.bucket),
            prefix: Some(query.encode(&query.prefix)),
            delimiter: query.delimiter.as_deref().map(|delimiter| query.encode(delimiter)),
            marker: Some(query.encode(&input.marker.unwrap_or_default())),
            encoding_type: input.encoding_type,
            max_keys: Some(query.max_keys.unwrap_or(1000)),
            is_truncated: Some(page.next.is_some()),
            next_marker: page.next.map(|next| query.encode(&next)),
            contents: Some(page.objects),
            common_prefixes: Some(page.prefixes),
            ..ListObjectsOutput::default()
        })
    }

    async fn create_multipart_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> Answer<CreateMultipartUploadOutput> {
        let input = request.input;
        refuse_metadata(input.metadata.as_ref())?;
        self.buckets.writable_object(&input.bucket, &input.key)?;
        let upload_id = Some(Upload::begin(&self.buckets, &input.bucket, &input.key)?);
        let (bucket, key) = (Some(input.bucket), Some(input.key));
        answer(CreateMultipartUploadOutput { upload_id, bucket, key, ..CreateMultipartUploadOutput::default() })
    }

    async fn upload_part(&self, request: S3Request<UploadPartInput>) -> Answer<UploadPartOutput> {
        let input = request.input;
        let upload = Upload::open(&self.buckets, &input.upload_id, &input.bucket, &input.key)?;
        let promise = promise!(input, request.trailing_headers);
        let body = input.body.ok_or_else(|| s3_error!(IncompleteBody))?;
        let staged = receive(&self.buckets, body, promise).await?;
        let e_tag = Some(upload.keep(input.part_number, staged)?);
        answer(UploadPartOutput { e_tag, ..UploadPartOutput::default() })
    }

    async fn upload_part_copy(&self, request: S3Request<UploadPartCopyInput>) -> Answer<UploadPartCopyOutput> {
        let input = request.input;
        let upload = Upload::open(&self.buckets, &input.upload_id, &input.bucket, &input.key)?;
        let (source, found) = self.source(input.copy_source).await?;
        let conditions = (input.copy_source_if_match.as_ref(), input.copy_source_if_none_match.as_ref());
        check_conditions(Some(&found.etag), conditions.0, conditions.1, false)?;
        let range = input.copy_source_range.as_deref().map(Range::parse).transpose();
        let range = range.map_err(|error| s3_error!(error, InvalidArgument, "The range of the copy can't be read."))?;
        let part = read(&source.file, found.size, range).await?;
        let promise = Promise { length: Some(signed(part.length)?), ..Promise::default() };
        let staged = receive(&self.buckets, part.body.boxed(), promise).await?;
        let e_tag = Some(upload.keep(input.part_number, staged)?);
        let copy_part_result = Some(CopyPartResult { e_tag, ..CopyPartResult::default() });
        answer(UploadPartCopyOutput { copy_part_result, ..UploadPartCopyOutput::default() })
    }

    async fn list_parts(&self, request: S3Request<ListPartsInput>) -> Answer<ListPartsOutput> {
        let input = request.input;
        let upload = Upload::open(&self.buckets, &input.upload_id, &input.bucket, &input.key)?;
        let part = |(number, facts): (PartNumber, Facts)| {
            Ok(Part {
                part_number: Some(number),
                size: Some(signed(facts.size)?),
                e_tag: Some(facts.etag),
                last_modified: Some(facts.modified),
                ..Part::default()
            })
        };
        let parts = upload.parts()?.into_iter().map(part).collect::<S3Result<Vec<_>>>()?;
        let (bucket, key, upload_id) = (Some(input.bucket), Some(input.key), Some(input.upload_id));
        answer(ListPartsOutput { parts: Some(parts), bucket, key, upload_id, ..ListPartsOutput::default() })
    }

    async fn complete_multipart_upload(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> Answer<CompleteMultipartUploadOutput> {
        let input = request.input;
        let path = self.buckets.writable_object(&input.bucket, &input.key)?;
        let upload = Upload::open(&self.buckets, &input.upload_id, &input.bucket, &input.key)?;
        let there = facts(&path.file).await.ok().map(|facts| facts.etag);
        check_conditions(there.as_ref(), input.if_match.as_ref(), input.if_none_match.as_ref(), false)?;
        let mut listed = Vec::new();
        for part in input.multipart_upload.and_then(|upload| upload.parts).unwrap_or_default() {
            let (Some(number), Some(etag)) = (part.part_number, part.e_tag) else {
                return Err(s3_error!(MalformedXML, "A part has a number and an ETag."));
            };
            listed.push((number, etag));
        }
        let (buckets, target) = (self.buckets.clone(), path.clone());
        blocking(move || {
            publish(upload.join(&buckets, &listed)?, &target)?;
            upload.remove()
        })
        .await?;
        let e_tag = Some(facts(&path.file).await?.etag);
        let (bucket, key) = (Some(input.bucket), Some(input.key));
        answer(CompleteMultipartUploadOutput { e_tag, bucket, key, ..CompleteMultipartUploadOutput::default() })
    }

    async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> Answer<AbortMultipartUploadOutput> {
        let input = request.input;
        let upload = Upload::open(&self.buckets, &input.upload_id, &input.bucket, &input.key)?;
        blocking(move || upload.remove()).await?;
        answer(AbortMultipartUploadOutput::default())
    }
}

/// Deletes an object; one that isn't there is deleted already. Folders stay: a job may be about to write into them.
fn delete(path: &ObjectPath) -> S3Result<()> {
    use std::io::ErrorKind::{IsADirectory, NotADirectory, NotFound};
    let is_dir = fs_err::symlink_metadata(&path.file).is_ok_and(|metadata| metadata.is_dir());
    match fs_err::remove_file(&path.file) {
        Err(error) if is_dir || matches!(error.kind(), NotFound | NotADirectory | IsADirectory) => Ok(()),
        done => done.map_err(from_io),
    }
}
