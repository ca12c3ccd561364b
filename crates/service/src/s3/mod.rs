//! An S3 subset over the files of a home, path-style, on the port of the other planes: buckets, objects, ranges, copies,
//! listings, uploads in parts. `s3s` speaks the protocol. Left out: versions, user metadata, access lists, encryption,
//! and virtual-host addresses.

mod listing;
mod multipart;
mod objects;
mod operations;
mod paths;

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use axum::http::request::Parts;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use outcrop_job::Home;
use outcrop_job::location::EXAMPLES_BUCKET;
use s3s::S3Result;
use s3s::auth::SimpleAuth;
use s3s::dto::{Bucket, Timestamp};
use s3s::path::check_bucket_name;
use s3s::service::{S3Service, S3ServiceBuilder};

use crate::auth::Credentials;
use crate::call::credential_scope;
use operations::Files;
use paths::{Buckets, from_io};

/// The file in the examples' folder that says of which version they are.
const EXAMPLES_MARK: &str = ".content";

/// First segments of the paths of Bedrock's operations.
const BEDROCK_PATHS: [&str; 17] = [
    "custom-models",
    "evaluation-job",
    "evaluation-jobs",
    "foundation-models",
    "listTagsForResource",
    "logging",
    "model",
    "model-customization",
    "model-customization-jobs",
    "model-import-jobs",
    "model-invocation-job",
    "model-invocation-jobs",
    "imported-models",
    "provisioned-model-throughput",
    "provisioned-model-throughputs",
    "tagResource",
    "untagResource",
];

/// S3 over a home; with credentials it checks signatures itself, by S3's rules, and refuses what isn't signed. Temporary
/// files that a killed service left are removed.
///
/// # Errors
/// The disk.
pub(crate) fn service(home: &Home, credentials: Option<&Credentials>) -> std::io::Result<S3Service> {
    let buckets = Buckets::new(home);
    if buckets.staging().exists() {
        fs_err::remove_dir_all(buckets.staging())?;
    }
    let mut builder = S3ServiceBuilder::new(Files { buckets });
    if let Some(credentials) = credentials {
        let mut keys = SimpleAuth::new();
        for (id, secret) in credentials.keys() {
            keys.register(id.to_string(), secret.into());
        }
        builder.set_auth(keys);
    }
    Ok(builder.build())
}

/// Whether a request is S3's: by the service in its signature's scope, else by a host that begins with `s3.`, else by a
/// path that no operation of Bedrock has and that begins with a bucket that is there.
pub(crate) fn is_s3(parts: &Parts, home: &Home) -> bool {
    if let Some(service) = signed_service(parts) {
        return service == "s3";
    }
    if parts.headers.contains_key(AUTHORIZATION) {
        return false; // a bearer token, which only Bedrock has
    }
    let host = parts.headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if host.starts_with("s3.") {
        return true;
    }
    let first = parts.uri.path().trim_start_matches('/').split('/').next().unwrap_or_default();
    !BEDROCK_PATHS.contains(&first) && check_bucket_name(first) && Buckets::new(home).existing(first).is_ok()
}

/// Answers one request. `verified` is whether `service` has credentials; if not, no signature reaches it, since `s3s`
/// refuses those that it can't check.
pub(crate) async fn answer(service: &S3Service, request: Request, verified: bool) -> Response {
    let (mut parts, body) = request.into_parts();
    if !verified {
        parts = match unsigned(parts) {
            Ok(parts) => parts,
            Err(refused) => return *refused,
        };
    }
    match service.call(Request::from_parts(parts, s3s::Body::http_body_unsync(body))).await {
        Ok(response) => response.map(Body::new),
        Err(error) => refusal(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", &format!("{error:?}")),
    }
}

/// A request without its signature.
fn unsigned(mut parts: Parts) -> Result<Parts, Box<Response>> {
    let hash = parts.headers.get("x-amz-content-sha256").and_then(|hash| hash.to_str().ok());
    if hash.is_some_and(|hash| hash.starts_with("STREAMING-")) {
        let message = "Bodies in chunks (aws-chunked) are read only by a service with --credentials.";
        return Err(Box::new(refusal(StatusCode::NOT_IMPLEMENTED, "NotImplemented", message)));
    }
    parts.headers.remove(AUTHORIZATION);
    let uri = without_signature(&parts.uri);
    parts.uri = uri.map_err(|error| refusal(StatusCode::BAD_REQUEST, "InvalidURI", &error.to_string()))?;
    Ok(parts)
}

/// The address without the query parameters of a presigned URL, of either version: boto3 still makes the second by default.
fn without_signature(uri: &Uri) -> Result<Uri, axum::http::Error> {
    let signs =
        |pair: &&str| ["X-Amz-", "AWSAccessKeyId=", "Signature=", "Expires="].iter().any(|name| pair.starts_with(name));
    let Some(query) = uri.query().filter(|query| query.split('&').any(|pair| signs(&pair))) else {
        return Ok(uri.clone());
    };
    let kept: Vec<&str> = query.split('&').filter(|pair| !signs(pair)).collect();
    Uri::builder().path_and_query(format!("{}?{}", uri.path(), kept.join("&"))).build()
}

/// An error in S3's XML. The message has no character that XML would take for its own.
fn refusal(status: StatusCode, code: &str, message: &str) -> Response {
    let message = message.replace(['<', '>', '&'], "?");
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
    );
    (status, [(CONTENT_TYPE, "application/xml")], body).into_response()
}

/// The service of a signature's scope, in the header or in the query of a presigned URL.
fn signed_service(parts: &Parts) -> Option<String> {
    if let Some((_, service)) = credential_scope(&parts.headers) {
        return Some(service);
    }
    let query = form_urlencoded::parse(parts.uri.query()?.as_bytes());
    let credential = query.into_iter().find(|(name, _)| name == "X-Amz-Credential")?.1;
    credential.split('/').nth(3).map(str::to_string)
}

/// The buckets whose names begin with `prefix`, by name.
fn names(buckets: &Buckets, prefix: &str) -> S3Result<Vec<Bucket>> {
    let mut found = Vec::new();
    let mut add = |name: String, metadata: &std::fs::Metadata| {
        let date = metadata.created().or_else(|_| metadata.modified()).ok().map(Timestamp::from);
        found.push(Bucket { name: Some(name), creation_date: date, ..Bucket::default() });
    };
    if buckets.root().exists() {
        for entry in fs_err::read_dir(buckets.root()).map_err(from_io)? {
            let entry = entry.map_err(from_io)?;
            let Ok(metadata) = fs_err::symlink_metadata(entry.path()) else { continue };
            match entry.file_name().into_string() {
                Ok(name) if metadata.is_dir() && check_bucket_name(&name) && name != EXAMPLES_BUCKET => {
                    add(name, &metadata);
                }
                _ => {}
            }
        }
    }
    if let Ok(metadata) = fs_err::metadata(buckets.bucket(EXAMPLES_BUCKET)?) {
        add(EXAMPLES_BUCKET.to_string(), &metadata);
    }
    found.retain(|bucket| bucket.name.as_deref().is_some_and(|name| name.starts_with(prefix)));
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}
