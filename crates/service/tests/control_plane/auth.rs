//! Who is answered: with credentials, and without them from a browser.

use axum::body::Body;
use axum::http::Request;
use outcrop_job::Home;
use outcrop_service::{AppState, Credentials, Settings, app};
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
