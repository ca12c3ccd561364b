//! Who may call. Without credentials every program of this machine may, and what a web page in its browser could send is
//! refused (`browser`); with a credentials file every request is signed (`signature`) or has a bearer token.

mod browser;
mod credentials;
mod signature;

use axum::extract::Request;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode};
use jiff::Timestamp;
use sha2::{Digest, Sha256};

pub use credentials::{Credentials, CredentialsError};

use crate::ApiError;

/// Whether a request may go on; gives it back, its body read where the signature is over it. `limit` is the most bytes
/// of such a body.
pub(crate) async fn admit(
    credentials: Option<&Credentials>,
    request: Request,
    limit: usize,
) -> Result<Request, ApiError> {
    let (parts, body) = request.into_parts();
    let Some(credentials) = credentials else {
        browser::check(&parts.method, &parts.headers)?;
        return Ok(Request::from_parts(parts, body));
    };
    if let Some(token) = bearer(&parts) {
        return match credentials.has_token(token) {
            true => Ok(Request::from_parts(parts, body)),
            false => Err(denied("UnrecognizedClientException", "The bearer token is not one of this service's.")),
        };
    }
    let signed = signature::Signed::read(&parts)?;
    let bytes = axum::body::to_bytes(body, limit).await;
    let bytes = bytes.map_err(|error| ApiError::validation(format!("The request body can't be read: {error}")))?;
    let hash = hex(&Sha256::digest(&bytes));
    // Some clients name the hash in a header too; what is signed is then the header's value.
    if parts.headers.get("x-amz-content-sha256").is_some_and(|named| *named != hash) {
        return Err(denied("InvalidSignatureException", "The body isn't the one that x-amz-content-sha256 names."));
    }
    signed.verify(&parts, &hash, credentials, Timestamp::now())?;
    Ok(Request::from_parts(parts, bytes.into()))
}

/// Whether what a browser sends may be answered by a service without credentials.
pub(crate) fn browser(method: &Method, headers: &HeaderMap) -> Result<(), ApiError> {
    browser::check(method, headers)
}

fn bearer(parts: &Parts) -> Option<&str> {
    let value = parts.headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// 403 in the words of AWS's front door.
pub(crate) fn denied(code: &'static str, message: impl Into<String>) -> ApiError {
    ApiError::new(StatusCode::FORBIDDEN, code, message)
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
