//! S3 on the port of the control plane: which of the two answers, and what a client sees of objects, errors and limits.
//! Real clients are in tests/interop/s3.py.

use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use outcrop_service::app;
use tower::ServiceExt;

use super::Bench;

const SIGNED: &str =
    "AWS4-HMAC-SHA256 Credential=AKID/20261122/eu-west-3/s3/aws4_request, SignedHeaders=host, Signature=0";

struct Seen {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Seen {
    fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }
}

impl Bench {
    async fn s3(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Seen {
        let request = Request::builder().method(method).uri(path).header("content-length", body.len());
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let request = request.body(Body::from(body.to_vec())).unwrap();
        let response = app(self.state.clone()).oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap().to_vec();
        Seen { status: parts.status, headers: parts.headers, body }
    }

    async fn signed(&self, method: &str, path: &str, body: &[u8]) -> Seen {
        self.s3(method, path, &[("authorization", SIGNED)], body).await
    }
}

#[tokio::test]
async fn the_scope_the_host_and_the_path_tell_s3_from_bedrock() {
    let bench = Bench::new();
    let xml = |seen: &Seen| seen.headers["content-type"] == "application/xml";
    // A bucket may have the name of a path of Bedrock's: the signature's scope decides.
    assert_eq!(bench.signed("PUT", "/custom-models", b"").await.status, StatusCode::OK);
    assert!(xml(&bench.signed("GET", "/custom-models?list-type=2", b"").await));
    let bedrock = SIGNED.replace("/s3/", "/bedrock/");
    for headers in [vec![("authorization", bedrock.as_str())], vec![("authorization", "Bearer x")], vec![]] {
        let seen = bench.s3("GET", "/custom-models", &headers, b"").await;
        assert!(seen.text().contains("modelSummaries"), "{}", seen.text());
    }
    assert!(xml(&bench.s3("GET", "/custom-models", &[("host", "s3.localhost:1")], b"").await));
    let presigned =
        "/custom-models/x?X-Amz-Credential=AKID%2F20261122%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Signature=0";
    assert_eq!(bench.s3("GET", presigned, &[], b"").await.status, StatusCode::NOT_FOUND);
    // Unsigned: only what is a bucket.
    assert_eq!(bench.s3("GET", "/bucket/train.jsonl", &[], b"").await.body[0], b'{');
    let unknown = bench.s3("GET", "/no-bucket/x", &[], b"").await;
    assert_eq!(unknown.headers["x-amzn-errortype"], "UnknownOperationException");
}

#[tokio::test]
async fn an_object_is_a_file_that_jobs_see_and_the_other_way_round() {
    let bench = Bench::new();
    let put = bench.signed("PUT", "/bucket/a%20b/c.json", b"0123456789").await;
    assert_eq!(put.status, StatusCode::OK, "{}", put.text());
    let path = bench.home.s3_dir().join("bucket/a b/c.json");
    assert_eq!(fs_err::read(&path).unwrap(), b"0123456789");
    let got = bench.signed("GET", "/bucket/a%20b/c.json", b"").await;
    assert_eq!((got.status, got.body.as_slice()), (StatusCode::OK, &b"0123456789"[..]));
    assert_eq!(
        (&got.headers["etag"], &got.headers["content-type"]),
        (&put.headers["etag"], &"application/json".parse().unwrap())
    );
    fs_err::write(&path, "changed by a job").unwrap();
    let head = bench.signed("HEAD", "/bucket/a%20b/c.json", b"").await;
    assert_eq!(
        (&head.headers["content-length"], head.headers["etag"] == put.headers["etag"]),
        (&"16".parse().unwrap(), false)
    );
    assert_eq!(bench.signed("DELETE", "/bucket/a%20b/c.json", b"").await.status, StatusCode::NO_CONTENT);
    assert!(!path.exists());
    assert_eq!(bench.signed("DELETE", "/bucket/a%20b/c.json", b"").await.status, StatusCode::NO_CONTENT);
    let gone = bench.signed("GET", "/bucket/a%20b/c.json", b"").await;
    assert_eq!(gone.status, StatusCode::NOT_FOUND);
    assert!(gone.text().contains("<Code>NoSuchKey</Code>"), "{}", gone.text());
}

#[tokio::test]
async fn presigned_urls_of_both_versions_are_answered() {
    let bench = Bench::new();
    bench.signed("PUT", "/bucket/x", b"0123456789").await;
    for query in [
        "X-Amz-Credential=AKID%2F20261122%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Signature=0",
        "AWSAccessKeyId=AKID&Signature=a%2Fb%3D&Expires=1795722610",
    ] {
        let got = bench.s3("GET", &format!("/bucket/x?{query}"), &[], b"").await;
        assert_eq!((got.status, got.body.as_slice()), (StatusCode::OK, &b"0123456789"[..]), "{query}: {}", got.text());
    }
}

#[tokio::test]
async fn ranges_are_cut_out() {
    let bench = Bench::new();
    bench.signed("PUT", "/bucket/x", b"0123456789").await;
    for (range, status, body, told) in [
        ("bytes=2-4", 206, "234", Some("bytes 2-4/10")),
        ("bytes=7-", 206, "789", Some("bytes 7-9/10")),
        ("bytes=-3", 206, "789", Some("bytes 7-9/10")),
        ("bytes=8-99", 206, "89", Some("bytes 8-9/10")),
        ("bytes=10-", 416, "", None),
    ] {
        let seen = bench.s3("GET", "/bucket/x", &[("authorization", SIGNED), ("range", range)], b"").await;
        assert_eq!(seen.status.as_u16(), status, "{range}");
        assert_eq!(seen.headers.get("content-range").map(|value| value.to_str().unwrap()), told, "{range}");
        if status == 206 {
            assert_eq!(seen.text(), body, "{range}");
        }
    }
}

#[tokio::test]
async fn a_body_that_breaks_its_promise_changes_nothing() {
    let bench = Bench::new();
    bench.signed("PUT", "/bucket/x", b"before").await;
    for (name, value, code) in [
        ("content-md5", "XrY7u+Ae7tCTyyK7j1rNww==", "BadDigest"),
        ("x-amz-checksum-crc32", "AAAAAA==", "BadDigest"),
        ("x-amz-checksum-sha256", "AAAA", "BadDigest"),
        ("x-amz-meta-a", "b", "NotImplemented"),
        ("if-none-match", "*", "PreconditionFailed"),
        ("if-match", "\"other\"", "PreconditionFailed"),
        ("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER", "NotImplemented"),
    ] {
        let seen = bench.s3("PUT", "/bucket/x", &[("authorization", SIGNED), (name, value)], b"after").await;
        assert!(seen.text().contains(&format!("<Code>{code}</Code>")), "{name}: {}", seen.text());
        assert_eq!(bench.signed("GET", "/bucket/x", b"").await.body, b"before", "{name}");
    }
    // CRC-32 of "after", as zlib gives it
    let right = [("authorization", SIGNED), ("x-amz-checksum-crc32", "iUROQQ==")];
    assert_eq!(bench.s3("PUT", "/bucket/x", &right, b"after").await.status, StatusCode::OK);
    assert_eq!(bench.signed("GET", "/bucket/x", b"").await.body, b"after");
    let staged = fs_err::read_dir(bench.home.s3_dir().join(".staging")).unwrap().count();
    assert_eq!(staged, 0, "temporary files are gone");
}

/// No request reaches a file outside `<home>/s3`.
#[tokio::test]
async fn no_path_leaves_the_s3_folder() {
    let bench = Bench::new();
    fs_err::write(bench.home.root().join("secret"), "secret").unwrap();
    for path in [
        "/bucket/../../secret",
        "/bucket/%2e%2e/%2e%2e/secret",
        "/bucket/..%2f..%2fsecret",
        "/bucket/..%5c..%5csecret",
        "/bucket/%2Fetc/passwd",
        "/../secret",
        "/%2e%2e/secret",
        "/.uploads/x",
        "/bucket/a%00b",
    ] {
        for method in ["GET", "PUT", "DELETE", "HEAD"] {
            let seen = bench.signed(method, path, b"").await;
            assert!(seen.status.is_client_error(), "{method} {path}: {} {}", seen.status, seen.text());
        }
    }
    assert_eq!(fs_err::read_to_string(bench.home.root().join("secret")).unwrap(), "secret");
}

#[tokio::test]
async fn buckets_are_made_listed_and_deleted() {
    let bench = Bench::new();
    assert_eq!(bench.signed("PUT", "/new-bucket", b"").await.status, StatusCode::OK);
    assert!(bench.signed("PUT", "/new-bucket", b"").await.text().contains("BucketAlreadyOwnedByYou"));
    let listed = bench.signed("GET", "/", b"").await.text();
    assert!(listed.contains("<Name>bucket</Name>") && listed.contains("<Name>new-bucket</Name>"), "{listed}");
    assert!(bench.signed("DELETE", "/bucket", b"").await.text().contains("BucketNotEmpty"));
    assert_eq!(bench.signed("DELETE", "/new-bucket", b"").await.status, StatusCode::NO_CONTENT);
    assert_eq!(bench.signed("HEAD", "/new-bucket", b"").await.status, StatusCode::NOT_FOUND);
    let examples = bench.home.examples_dir();
    fs_err::create_dir_all(examples.join("sentiment")).unwrap();
    fs_err::write(examples.join("sentiment/train.jsonl"), "{}").unwrap();
    fs_err::write(examples.join(".content"), "hash").unwrap();
    let listed = bench.signed("GET", "/outcrop-examples?list-type=2", b"").await.text();
    assert!(listed.contains("<Key>sentiment/train.jsonl</Key>") && !listed.contains(".content"), "{listed}");
    for (method, path) in [("PUT", "/outcrop-examples/x"), ("DELETE", "/outcrop-examples/sentiment/train.jsonl")] {
        assert_eq!(bench.signed(method, path, b"").await.status, StatusCode::FORBIDDEN);
    }
    assert!(examples.join("sentiment/train.jsonl").exists());
}
