//! Signature Version 4 of Bedrock's requests, in the header or in the query of a presigned URL. The canonical request is
//! made from what arrived: the sent path encoded once more, the query sorted, exactly the headers that are listed. S3's
//! signatures, with other rules for paths and bodies, are checked by `s3s`.

use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use hmac::{Hmac, KeyInit, Mac};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::credentials::Credentials;
use super::{denied, hex};
use crate::ApiError;

/// How far a client's clock may be from ours.
const SKEW: SignedDuration = SignedDuration::from_mins(5);
/// The longest life of a presigned URL, seven days in seconds.
const LONGEST_LIFE: i64 = 604_800;
const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
const PATH: &AsciiSet = &UNRESERVED.remove(b'/');

/// A signature as it was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Signed {
    key: String,
    /// `DATE/REGION/SERVICE/aws4_request`.
    scope: Vec<String>,
    headers: Vec<String>,
    signature: String,
    /// `YYYYMMDDTHHMMSSZ`.
    date: String,
    /// Seconds, of a presigned URL.
    expires: Option<i64>,
}

fn incomplete(what: &str) -> ApiError {
    denied("IncompleteSignatureException", format!("The request's signature is incomplete: {what}."))
}

fn invalid(what: impl std::fmt::Display) -> ApiError {
    denied("InvalidSignatureException", what.to_string())
}

impl Signed {
    /// Reads the signature of a request. Errors: there is none, or parts of it are missing.
    pub(super) fn read(parts: &Parts) -> Result<Self, ApiError> {
        if let Some(value) = parts.headers.get(AUTHORIZATION) {
            let value = value.to_str().map_err(|_| incomplete("Authorization is not text"))?;
            return Self::from_header(parts, value);
        }
        let query = parts.uri.query().unwrap_or_default();
        if query.split('&').any(|pair| pair.starts_with("X-Amz-Signature=")) {
            return Self::from_query(query);
        }
        let message = "The request is not signed: this service was started with credentials.";
        Err(denied("MissingAuthenticationTokenException", message))
    }

    fn from_header(parts: &Parts, value: &str) -> Result<Self, ApiError> {
        let rest = value.strip_prefix(ALGORITHM).ok_or_else(|| incomplete("only AWS4-HMAC-SHA256 is known"))?;
        let member = |name: &str| {
            let found = rest.split(',').find_map(|part| part.trim().strip_prefix(name)?.strip_prefix('='));
            found.ok_or_else(|| incomplete(&format!("Authorization has no {name}")))
        };
        let date = parts.headers.get("x-amz-date").and_then(|date| date.to_str().ok());
        let date = date.ok_or_else(|| incomplete("there is no X-Amz-Date"))?;
        let signed = Self::new(member("Credential")?, member("SignedHeaders")?, member("Signature")?, date, None)?;
        if !signed.headers.iter().any(|name| name == "x-amz-date") {
            return Err(incomplete("X-Amz-Date must be signed"));
        }
        Ok(signed)
    }

    fn from_query(query: &str) -> Result<Self, ApiError> {
        let pairs: Vec<_> = form_urlencoded::parse(query.as_bytes()).collect();
        let member = |name: &str| {
            let mut found = pairs.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_ref());
            match (found.next(), found.next()) {
                (Some(value), None) => Ok(value),
                _ => Err(incomplete(&format!("the query needs {name}, once"))),
            }
        };
        if member("X-Amz-Algorithm")? != ALGORITHM {
            return Err(incomplete("only AWS4-HMAC-SHA256 is known"));
        }
        let expires = member("X-Amz-Expires")?.parse().ok().filter(|seconds| (1..=LONGEST_LIFE).contains(seconds));
        let expires = expires.ok_or_else(|| incomplete("X-Amz-Expires is from 1 to 604800 seconds"))?;
        let (credential, headers) = (member("X-Amz-Credential")?, member("X-Amz-SignedHeaders")?);
        Self::new(credential, headers, member("X-Amz-Signature")?, member("X-Amz-Date")?, Some(expires))
    }

    fn new(
        credential: &str,
        headers: &str,
        signature: &str,
        date: &str,
        expires: Option<i64>,
    ) -> Result<Self, ApiError> {
        let mut scope: Vec<String> = credential.split('/').map(str::to_string).collect();
        if scope.len() != 5 || scope[4] != "aws4_request" || scope[3] != "bedrock" {
            return Err(incomplete("the credential is KEY/DATE/REGION/bedrock/aws4_request"));
        }
        let key = scope.remove(0);
        let mut headers: Vec<String> = headers.split(';').map(str::to_ascii_lowercase).collect();
        headers.sort();
        if !headers.iter().any(|name| name == "host") {
            return Err(incomplete("Host must be signed"));
        }
        Ok(Self { key, scope, headers, signature: signature.to_string(), date: date.to_string(), expires })
    }

    /// Whether the signature is that of a known key, over this request and a body of that SHA-256 (hexadecimal), now.
    pub(super) fn verify(
        &self,
        parts: &Parts,
        body_hash: &str,
        credentials: &Credentials,
        now: Timestamp,
    ) -> Result<(), ApiError> {
        self.check_time(now)?;
        let secret = credentials.secret(&self.key);
        let secret =
            secret.ok_or_else(|| denied("UnrecognizedClientException", "The access key is not known here."))?;
        let canonical = self.canonical(parts, body_hash)?;
        let scope = self.scope.join("/");
        let to_sign = format!("{ALGORITHM}\n{}\n{scope}\n{}", self.date, hex(&Sha256::digest(canonical)));
        let mut key = format!("AWS4{secret}").into_bytes();
        for part in &self.scope {
            key = hmac(&key, part)?;
        }
        let expected = hex(&hmac(&key, &to_sign)?);
        if bool::from(expected.as_bytes().ct_eq(self.signature.as_bytes())) {
            return Ok(());
        }
        let advice = "Check the secret access key, and that nothing between changes the request.";
        Err(invalid(format!("The signature doesn't match the one that this service calculates. {advice}")))
    }

    fn check_time(&self, now: Timestamp) -> Result<(), ApiError> {
        let date = DateTime::strptime("%Y%m%dT%H%M%SZ", &self.date).and_then(|date| date.to_zoned(TimeZone::UTC));
        let date = date.map_err(|_| incomplete("X-Amz-Date is YYYYMMDDTHHMMSSZ"))?.timestamp();
        if !self.date.starts_with(&self.scope[0]) || self.scope[0].len() != 8 {
            return Err(invalid("The date of the credential's scope isn't X-Amz-Date's."));
        }
        let age = now.duration_since(date);
        let oldest = self.expires.map_or(SKEW, SignedDuration::from_secs);
        if age > oldest || age < -SKEW {
            return Err(invalid(format!("Signature expired: {} is too far from {now}.", self.date)));
        }
        Ok(())
    }

    fn canonical(&self, parts: &Parts, body_hash: &str) -> Result<String, ApiError> {
        let path = utf8_percent_encode(parts.uri.path(), PATH);
        let mut canonical = format!("{}\n{path}\n{}\n", parts.method, canonical_query(parts.uri.query()));
        for name in &self.headers {
            let mut values = Vec::new();
            for value in parts.headers.get_all(name.as_str()) {
                let value = value.to_str().map_err(|_| incomplete("a signed header is not text"))?;
                values.push(value.split_ascii_whitespace().collect::<Vec<_>>().join(" "));
            }
            if values.is_empty() {
                return Err(incomplete(&format!("the signed header {name} isn't there")));
            }
            canonical.push_str(&format!("{name}:{}\n", values.join(",")));
        }
        canonical.push_str(&format!("\n{}\n{body_hash}", self.headers.join(";")));
        Ok(canonical)
    }
}

/// The query's pairs, decoded and encoded in the one way, sorted, without the signature itself.
fn canonical_query(query: Option<&str>) -> String {
    let encode = |text: &str| {
        let decoded: Vec<u8> = percent_decode_str(text).collect();
        percent_encoding::percent_encode(&decoded, UNRESERVED).to_string()
    };
    let pairs = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let mut pairs: Vec<(String, String)> = pairs.map(|(name, value)| (encode(name), encode(value))).collect();
    pairs.retain(|(name, _)| name != "X-Amz-Signature");
    pairs.sort();
    pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

fn hmac(key: &[u8], text: &str) -> Result<Vec<u8>, ApiError> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).map_err(ApiError::internal)?;
    mac.update(text.as_bytes());
    Ok(mac.finalize().into_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    const FILE: &str =
        "aws_access_key_id = AKIDEXAMPLE\naws_secret_access_key = wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY\n";
    const NOW: &str = "2026-11-22T06:53:00Z";
    const JOB: &str = "/model-customization-jobs/arn%3Aaws%3Abedrock%3Aus-east-1%3A123456789012%3Amodel-customization-job%2Famazon.titan-text-express-v1%3A0%3A8k%2Fabcdefghijk1";
    const LIST: &str = "/custom-models?nameContains=a%20b&maxResults=5&creationTimeAfter=2026-01-01T00%3A00%3A00Z";
    const PRESIGNED: &str = "/custom-models?nameContains=a%20b&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIDEXAMPLE%2F20261122%2Fus-east-1%2Fbedrock%2Faws4_request&X-Amz-Date=20261122T065254Z&X-Amz-Expires=600&X-Amz-SignedHeaders=host&X-Amz-Signature=e2ea03d823b1c4d031df1137df119d4b201e45782803d0f35dd948ea54c21b5b";

    /// A request as botocore 1.43.11 signed it.
    fn signed(method: &str, path: &str, headers: &str, signature: &str) -> Parts {
        let credential = "AKIDEXAMPLE/20261122/us-east-1/bedrock/aws4_request";
        let value = format!("{ALGORITHM} Credential={credential}, SignedHeaders={headers}, Signature={signature}");
        let request = Request::builder().method(method).uri(path).header("host", "127.0.0.1:8080");
        let request = request.header("x-amz-date", "20261122T065254Z").header("content-type", "application/json");
        request.header("authorization", value).body(()).unwrap().into_parts().0
    }

    fn verify(parts: &Parts, body: &str, now: &str) -> Result<(), &'static str> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs_err::write(file.path(), FILE).unwrap();
        let credentials = Credentials::read(file.path()).unwrap();
        let signed = Signed::read(parts).map_err(|error| error.code)?;
        let hash = hex(&Sha256::digest(body));
        signed.verify(parts, &hash, &credentials, now.parse().unwrap()).map_err(|error| error.code)
    }

    fn job() -> Parts {
        signed("GET", JOB, "host;x-amz-date", "4f55311c74e531977b43a427c94e52fb5739e09ab897c3f4f0053dbcf5bb24fd")
    }

    fn presigned(path: &str) -> Parts {
        Request::builder().uri(path).header("host", "127.0.0.1:8080").body(()).unwrap().into_parts().0
    }

    #[test]
    fn botocores_signatures_are_right() {
        assert_eq!(verify(&job(), "", NOW), Ok(()));
        let list = "be2f30b9968a90412500ecb93fe2c472c9d6b17047774d8736cf08560fc143e0";
        assert_eq!(verify(&signed("GET", LIST, "host;x-amz-date", list), "", NOW), Ok(()));
        let post = "d16a7054528b78ecb0e06bde9a31ef1325ffd059f44a4ef309d2df29c354d0c8";
        let post = signed("POST", "/model-customization-jobs", "content-type;host;x-amz-date", post);
        assert_eq!(verify(&post, "{\"jobName\": \"j\"}", NOW), Ok(()));
        assert_eq!(verify(&post, "{\"jobName\": \"k\"}", NOW), Err("InvalidSignatureException"));
        assert_eq!(verify(&presigned(PRESIGNED), "", NOW), Ok(()));
    }

    #[test]
    fn whatever_is_changed_is_noticed() {
        let change = |change: &dyn Fn(&mut Parts)| {
            let mut parts = job();
            change(&mut parts);
            verify(&parts, "", NOW)
        };
        let invalid = Err("InvalidSignatureException");
        assert_eq!(change(&|parts| parts.method = axum::http::Method::DELETE), invalid);
        assert_eq!(change(&|parts| parts.uri = format!("{JOB}2").parse().unwrap()), invalid);
        assert_eq!(change(&|parts| parts.uri = format!("{JOB}?a=b").parse().unwrap()), invalid);
        let set = |name: &'static str, value: &str| {
            change(&|parts| {
                parts.headers.insert(name, value.parse().unwrap());
            })
        };
        assert_eq!(set("host", "127.0.0.1:8081"), invalid);
        assert_eq!(set("x-amz-date", "20261122T065255Z"), invalid);
        let edit = |from: &str, to: &str| {
            let value = job().headers["authorization"].to_str().unwrap().replace(from, to);
            set("authorization", &value)
        };
        assert_eq!(edit("4f55", "4f56"), invalid);
        assert_eq!(edit("us-east-1", "us-east-2"), invalid);
        assert_eq!(edit("AKIDEXAMPLE", "AKID"), Err("UnrecognizedClientException"));
        assert_eq!(edit("/20261122/", "/20261123/"), invalid);
        let incomplete = Err("IncompleteSignatureException");
        assert_eq!(edit("bedrock", "s3"), incomplete);
        assert_eq!(edit("host;x-amz-date", "x-amz-date"), incomplete, "Host must be signed");
        assert_eq!(edit("host;x-amz-date", "host"), incomplete, "the date must be signed");
        assert_eq!(edit("host;", "host;x-absent;"), incomplete);
        assert_eq!(edit("Signature=", "Sig="), incomplete);
        assert_eq!(verify(&presigned(&PRESIGNED.replace("=600", "=601")), "", NOW), invalid);
        assert_eq!(verify(&presigned(&format!("{PRESIGNED}&X-Amz-Expires=9")), "", NOW), incomplete);
        assert_eq!(verify(&presigned("/custom-models"), "", NOW), Err("MissingAuthenticationTokenException"));
    }

    #[test]
    fn signatures_have_their_time() {
        for (now, accepted) in [
            ("2026-11-22T06:47:54Z", true),
            ("2026-11-22T06:47:53Z", false),
            ("2026-11-22T06:57:54Z", true),
            ("2026-11-22T06:57:55Z", false),
        ] {
            assert_eq!(verify(&job(), "", now).is_ok(), accepted, "{now}");
        }
        for (now, accepted) in [("2026-11-22T07:02:54Z", true), ("2026-11-22T07:02:55Z", false)] {
            assert_eq!(verify(&presigned(PRESIGNED), "", now).is_ok(), accepted, "{now}");
        }
    }
}
