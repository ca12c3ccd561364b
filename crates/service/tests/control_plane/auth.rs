//! Who is answered: with credentials, and without them from a browser.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::Request;
use futures_util::{StreamExt, stream};
use hmac::{Hmac, KeyInit, Mac};
use outcrop_job::Home;
use outcrop_service::{AppState, Credentials, Settings, app};
use sha2::{Digest, Sha256};
use tower::ServiceExt;

/// A service with one access key and one bearer token, and with a bucket.
fn guarded() -> (tempfile::TempDir, AppState) {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::at(folder.path().join("home"));
    fs_err::create_dir_all(home.s3_dir().join("bucket")).unwrap();
    fs_err::write(home.s3_dir().join("bucket/x"), "content").unwrap();
    let file = tempfile::NamedTempFile::new().unwrap(); // which only its owner may read
    let text = "aws_access_key_id = AKID\naws_secret_access_key = secret\naws_bearer_token_bedrock = token\n";
    fs_err::write(file.path(), text).unwrap();
    let credentials = Some(Credentials::read(file.path()).unwrap());
    let state = AppState::open(home, Settings { credentials, ..Settings::default() }).unwrap();
    (folder, state)
}

async fn status(state: &AppState, method: &str, path: &str, headers: &[(&str, &str)]) -> (u16, String) {
    let request = Request::builder().method(method).uri(path).header("content-length", "0");
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let response = app(state.clone()).oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    let code = parts.headers.get("x-amzn-errortype").map(|code| code.to_str().unwrap().to_string());
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    (parts.status.as_u16(), code.unwrap_or_else(|| String::from_utf8(body.to_vec()).unwrap()))
}

#[tokio::test]
async fn with_credentials_every_plane_wants_them() {
    let (_folder, state) = guarded();
    let bedrock = "AWS4-HMAC-SHA256 Credential=AKID/20261122/us-east-1/bedrock/aws4_request, SignedHeaders=host;x-amz-date, Signature=0";
    let s3 = bedrock.replace("bedrock", "s3");
    let host = ("host", "127.0.0.1:8420");
    let refused = |headers: Vec<(&'static str, String)>, path: &'static str| {
        let state = state.clone();
        async move {
            let mut pairs = vec![host];
            pairs.extend(headers.iter().map(|(name, value)| (*name, value.as_str())));
            let (status, told) = status(&state, "GET", path, &pairs).await;
            assert!(!told.contains("content"), "{told}");
            (status, told)
        }
    };
    assert_eq!(refused(vec![], "/custom-models").await, (403, "MissingAuthenticationTokenException".into()));
    let wrong = vec![("authorization", "Bearer Token".to_string())];
    assert_eq!(refused(wrong, "/custom-models").await, (403, "UnrecognizedClientException".into()));
    let old = vec![("authorization", bedrock.to_string()), ("x-amz-date", "20261122T065254Z".into())];
    assert_eq!(refused(old, "/custom-models").await, (403, "InvalidSignatureException".into()));
    // A signature for S3, which says of itself what it is, is no way around Bedrock's, nor the other way round.
    for (headers, path) in [
        (vec![], "/bucket/x"),
        (vec![("host", "s3.localhost".to_string())], "/custom-models"),
        (vec![("authorization", s3.clone()), ("x-amz-date", "20261122T065254Z".into())], "/bucket/x"),
        (vec![("authorization", s3.clone())], "/custom-models"),
        (vec![("authorization", "Bearer token".to_string())], "/bucket/x"),
    ] {
        let (status, told) = refused(headers, path).await;
        assert!((400..500).contains(&status), "{path}: {status} {told}");
    }
    let (answered, _) = status(&state, "GET", "/custom-models", &[host, ("authorization", "Bearer token")]).await;
    assert_eq!(answered, 200);
}

#[tokio::test]
async fn without_credentials_no_page_of_another_site_gets_in() {
    let folder = tempfile::tempdir().unwrap();
    let state = AppState::open(Home::at(folder.path()), Settings::default()).unwrap();
    let own = ("host", "127.0.0.1:8420");
    let get = |host| {
        let state = state.clone();
        async move { status(&state, "GET", "/custom-models", &[("host", host)]).await.0 }
    };
    assert_eq!((get("127.0.0.1:8420").await, get("localhost:1").await), (200, 200));
    assert_eq!(get("rebound.example:8420").await, 403);
    let s3 = (
        "authorization",
        "AWS4-HMAC-SHA256 Credential=A/20261122/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0",
    );
    for (headers, expected) in [
        (vec![own, s3], 200),
        (vec![own, s3, ("origin", "http://127.0.0.1:8420")], 409), // it is there by now
        (vec![own, s3, ("origin", "https://evil.example")], 403),
        (vec![("host", "rebound.example"), s3], 403),
    ] {
        assert_eq!(status(&state, "PUT", "/new-bucket", &headers).await.0, expected, "{headers:?}");
    }
}

/// The headers of a request to S3 without a body, signed by the fourth version's rules.
fn signed_for_s3(method: &str, path: &str, secret: &str) -> Vec<(&'static str, String)> {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let hmac = |key: &[u8], text: &str| {
        let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
        mac.update(text.as_bytes());
        mac.finalize().into_bytes().to_vec()
    };
    let time = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
    let (day, hash) = (&time[..8], hex(&Sha256::digest(b"")));
    let names = "host;x-amz-content-sha256;x-amz-date";
    let headers = format!("host:127.0.0.1:8420\nx-amz-content-sha256:{hash}\nx-amz-date:{time}\n");
    let canonical = format!("{method}\n{path}\n\n{headers}\n{names}\n{hash}");
    let scope = format!("{day}/us-east-1/s3/aws4_request");
    let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", hex(&Sha256::digest(canonical)));
    let key = scope.split('/').fold(format!("AWS4{secret}").into_bytes(), |key, part| hmac(&key, part));
    let signature = hex(&hmac(&key, &text));
    let authorization =
        format!("AWS4-HMAC-SHA256 Credential=AKID/{scope}, SignedHeaders={names}, Signature={signature}");
    vec![
        ("host", "127.0.0.1:8420".into()),
        ("x-amz-content-sha256", hash),
        ("x-amz-date", time),
        ("authorization", authorization),
    ]
}

#[tokio::test]
async fn a_right_signature_opens_s3_and_a_wrong_one_does_not() {
    let (_folder, state) = guarded();
    let ask = |path: &'static str, signed: Vec<(&'static str, String)>| {
        let state = state.clone();
        async move {
            let pairs: Vec<(&str, &str)> = signed.iter().map(|(name, value)| (*name, value.as_str())).collect();
            status(&state, "GET", path, &pairs).await
        }
    };
    let path = "/bucket/x";
    assert_eq!(ask(path, signed_for_s3("GET", path, "secret")).await, (200, "content".into()));
    for wrong in [signed_for_s3("GET", path, "Secret"), signed_for_s3("GET", "/bucket/y", "secret")] {
        let (status, told) = ask(path, wrong).await;
        assert_eq!(status, 403, "{told}");
        assert!(told.contains("SignatureDoesNotMatch"), "{told}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_stops_coming_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let state = AppState::open(Home::at(folder.path()), Settings::default()).unwrap();
    let post = |body: Body| {
        let request = Request::builder().method("POST").uri("/listTagsForResource").body(body).unwrap();
        app(state.clone()).oneshot(request)
    };
    let begin = tokio::time::Instant::now();
    let answer = post(Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>())).await.unwrap();
    assert_eq!(answer.status(), 400);
    let body = axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap();
    assert!(String::from_utf8_lossy(&body).contains("The request body can't be read"), "{body:?}");
    // of the clock that this test has stopped
    assert_eq!(begin.elapsed().as_secs(), 30);
    // one that comes slowly and steadily is read to its end: its content is what is wrong with it
    let pieces = ["{\"resource", "ARN\": \"arn", "\"}"];
    let slow = stream::iter(pieces).then(|piece| async move {
        tokio::time::sleep(Duration::from_secs(25)).await;
        Ok::<_, std::io::Error>(Bytes::from(piece))
    });
    let answer = post(Body::from_stream(slow)).await.unwrap();
    let body = axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap();
    assert!(String::from_utf8_lossy(&body).contains("'resourceARN'"), "{body:?}");
    assert!(begin.elapsed().as_secs() >= 30 + 75);
}
