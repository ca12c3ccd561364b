//! One request as operations see it: the path's segments decoded after it was split, the query, the body, who calls;
//! and what they answer.

use axum::body::Bytes;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use percent_encoding::percent_decode_str;
use serde_json::Value;

use crate::{ApiError, Settings};

/// Who calls, as far as ARNs tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Region of the signature's scope, else the service's own.
    pub region: String,
    /// The one account.
    pub account: String,
}

impl Caller {
    /// Reads the region off `Authorization: ... Credential=KEY/DATE/REGION/SERVICE/aws4_request`. Nothing is verified here.
    pub fn of(headers: &HeaderMap, settings: &Settings) -> Self {
        let scope = credential_scope(headers);
        let region = scope.map(|scope| scope.0).filter(|region| is_region(region));
        let region = region.unwrap_or_else(|| settings.region.clone());
        Self { region, account: settings.account.clone() }
    }
}

/// Region and service of the signature's scope, where the request is signed.
pub fn credential_scope(headers: &HeaderMap) -> Option<(String, String)> {
    let authorization = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let credential = authorization.split_once("Credential=")?.1.split([',', ' ']).next()?;
    let mut parts = credential.split('/').skip(2);
    Some((parts.next()?.to_string(), parts.next()?.to_string()))
}

fn is_region(region: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=20).contains(&region.len()) && region.bytes().all(allowed)
}

/// A request to the control plane.
#[derive(Debug, Clone)]
pub struct Call {
    /// HTTP method.
    pub method: Method,
    /// The path's segments, decoded one by one; an ARN is one segment, however it was sent.
    pub segments: Vec<String>,
    /// The query's pairs in order, decoded.
    pub query: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
    /// Who calls.
    pub caller: Caller,
}

impl Call {
    /// Takes a request apart. Errors: a segment that isn't UTF-8.
    pub fn new(parts: &Parts, body: Bytes, settings: &Settings) -> Result<Self, ApiError> {
        let segments = segments(parts.uri.path())?;
        let query = form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
        let caller = Caller::of(&parts.headers, settings);
        Ok(Self { method: parts.method.clone(), segments, query, body, caller })
    }

    /// The last value of a query parameter.
    pub fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The body as a JSON object; an empty one is `{}`. Errors: anything else.
    pub fn json(&self) -> Result<Value, ApiError> {
        if self.body.is_empty() {
            return Ok(Value::Object(serde_json::Map::new()));
        }
        let value: Value = serde_json::from_slice(&self.body)
            .map_err(|error| ApiError::validation(format!("The request body is not JSON: {error}")))?;
        if value.is_object() { Ok(value) } else { Err(ApiError::validation("The request body is not a JSON object.")) }
    }

    /// The body as text. Errors: not UTF-8.
    pub fn text(&self) -> Result<&str, ApiError> {
        std::str::from_utf8(&self.body).map_err(|_| ApiError::validation("The request body is not UTF-8."))
    }
}

/// Splits the raw path at `/`, then decodes each segment: an encoded `%2F` stays inside its segment. An ARN that was
/// sent unencoded is put together again.
fn segments(path: &str) -> Result<Vec<String>, ApiError> {
    let decode = |segment: &str| {
        let decoded = percent_decode_str(segment).decode_utf8();
        decoded.map(|text| text.into_owned()).map_err(|_| ApiError::validation("The path is not UTF-8."))
    };
    let raw: Vec<String> = path.strip_prefix('/').unwrap_or(path).split('/').map(decode).collect::<Result<_, _>>()?;
    let mut joined: Vec<String> = Vec::new();
    let mut raw = raw.into_iter();
    while let Some(mut segment) = raw.next() {
        for _ in 0..missing_parts(&segment) {
            let Some(next) = raw.next() else { break };
            segment = format!("{segment}/{next}");
        }
        joined.push(segment);
    }
    Ok(joined)
}

/// How many further segments an ARN has whose first is `segment`.
fn missing_parts(segment: &str) -> usize {
    match segment.strip_prefix("arn:").and_then(|rest| rest.rsplit(':').next()) {
        Some("model-customization-job" | "custom-model") => 2,
        Some("foundation-model" | "custom-model-deployment" | "provisioned-model" | "evaluation-job") => 1,
        _ => 0,
    }
}

/// What an operation answers: a status and a JSON body.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    /// The operation's own success code.
    pub status: StatusCode,
    /// The body.
    pub body: Value,
    /// One further header.
    pub header: Option<(&'static str, String)>,
}

impl Reply {
    /// 200.
    pub fn ok(body: Value) -> Self {
        Self::with(StatusCode::OK, body)
    }

    /// Another success code.
    pub fn with(status: StatusCode, body: Value) -> Self {
        Self { status, body, header: None }
    }
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        let json = HeaderValue::from_static("application/json");
        let mut response = (self.status, [(header::CONTENT_TYPE, json)], self.body.to_string()).into_response();
        if let Some((name, value)) = self.header
            && let Ok(value) = HeaderValue::from_str(&value)
        {
            response.headers_mut().insert(HeaderName::from_static(name), value);
        }
        response
    }
}

/// A version 4 UUID. Where the system gives no random bytes it is the one of all zeros: an id for logs must not fail
/// the request.
pub(crate) fn request_id() -> String {
    let mut bytes = [0_u8; 16];
    if getrandom::fill(&mut bytes).is_err() {
        bytes = [0; 16];
    }
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arn_is_one_segment_encoded_or_not() {
        let arn = "arn:aws:bedrock:us-east-1:123456789012:model-customization-job/amazon.titan-text-express-v1:0:8k/abcdefghijk1";
        let encoded = arn.replace(':', "%3A").replace('/', "%2F");
        let expected = vec!["model-customization-jobs".to_string(), arn.to_string(), "stop".to_string()];
        for id in [encoded.as_str(), arn] {
            assert_eq!(segments(&format!("/model-customization-jobs/{id}/stop")).unwrap(), expected);
        }
        assert_eq!(segments("/custom-models/a%2Bb.c").unwrap(), ["custom-models", "a+b.c"]);
        assert_eq!(segments("/model-customization-jobs/").unwrap(), ["model-customization-jobs", ""]);
        assert!(segments("/custom-models/%ff").is_err());
    }

    #[test]
    fn the_region_is_the_signatures() {
        let settings = Settings::default();
        let mut headers = HeaderMap::new();
        assert_eq!(Caller::of(&headers, &settings).region, "us-east-1");
        let signed =
            "AWS4-HMAC-SHA256 Credential=AKID/20261122/eu-west-3/bedrock/aws4_request, SignedHeaders=host, Signature=0";
        headers.insert(header::AUTHORIZATION, HeaderValue::from_static(signed));
        assert_eq!(Caller::of(&headers, &settings).region, "eu-west-3");
        assert_eq!(credential_scope(&headers).unwrap().1, "bedrock");
        headers.insert(header::AUTHORIZATION, HeaderValue::from_static("x Credential=A/1/EU_<b>/bedrock/aws4_request"));
        assert_eq!(Caller::of(&headers, &settings).region, "us-east-1");
    }

    #[test]
    fn request_ids_are_version_4_uuids() {
        let (a, b) = (request_id(), request_id());
        assert_ne!(a, b);
        assert_eq!((a.len(), &a[14..15]), (36, "4"));
    }
}
