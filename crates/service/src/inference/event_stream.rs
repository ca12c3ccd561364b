//! Answers that come in pieces: `application/vnd.amazon.eventstream`, framed by AWS's own crate.

use aws_smithy_eventstream::frame::write_message_to;
use aws_smithy_types::event_stream::{Header, HeaderValue, Message};
use axum::body::Bytes;
use serde_json::{Value, json};

use crate::ApiError;

/// The type of such an answer.
pub(super) const CONTENT_TYPE: &str = "application/vnd.amazon.eventstream";

/// One event.
pub(super) fn event(kind: &str, payload: &Value) -> Result<Bytes, ApiError> {
    frame(&[(":message-type", "event"), (":event-type", kind), (":content-type", "application/json")], payload)
}

/// One chunk of InvokeModelWithResponseStream.
pub(super) fn chunk(payload: &Value) -> Result<Bytes, ApiError> {
    let encoded = base64_simd::STANDARD.encode_to_string(payload.to_string());
    event("chunk", &json!({"bytes": encoded}))
}

/// What went wrong after the answer had begun; the last message.
pub(super) fn exception(error: &ApiError) -> Result<Bytes, ApiError> {
    let (kind, code) = match error.code {
        "ValidationException" => ("validationException", error.status.as_u16()),
        "InternalServerException" => ("internalServerException", error.status.as_u16()),
        _ => ("modelStreamErrorException", 424),
    };
    let payload = json!({"message": error.message, "originalMessage": error.message, "originalStatusCode": code});
    let headers = [(":message-type", "exception"), (":exception-type", kind), (":content-type", "application/json")];
    frame(&headers, &payload)
}

fn frame(headers: &[(&'static str, &str)], payload: &Value) -> Result<Bytes, ApiError> {
    let header =
        |(name, value): &(&'static str, &str)| Header::new(*name, HeaderValue::String((*value).to_string().into()));
    let message = Message::new_from_parts(headers.iter().map(header).collect(), payload.to_string());
    let mut bytes = Vec::new();
    write_message_to(&message, &mut bytes).map_err(ApiError::internal)?;
    Ok(bytes.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_smithy_eventstream::frame::read_message_from;

    #[test]
    fn frames_are_as_aws_clients_read_them() {
        let bytes = chunk(&json!({"a": 1})).unwrap();
        assert_eq!(u32::from_be_bytes(bytes[..4].try_into().unwrap()) as usize, bytes.len());
        let message = read_message_from(bytes.clone()).unwrap();
        let headers: Vec<(&str, &str)> = message
            .headers()
            .iter()
            .map(|header| (header.name().as_str(), header.value().as_string().unwrap().as_str()))
            .collect();
        let expected = [(":message-type", "event"), (":event-type", "chunk"), (":content-type", "application/json")];
        assert_eq!(headers, expected);
        assert_eq!(message.payload().as_ref(), br#"{"bytes":"eyJhIjoxfQ=="}"#);
        let mut broken = bytes.to_vec();
        broken[20] ^= 1;
        assert!(read_message_from(Bytes::from(broken)).is_err(), "a checksum is over all of it");
    }

    #[test]
    fn an_error_in_the_middle_is_an_exception() {
        let error = super::super::process::model_error("it was killed");
        let message = read_message_from(exception(&error).unwrap()).unwrap();
        let kinds: Vec<&str> =
            message.headers().iter().map(|header| header.value().as_string().unwrap().as_str()).collect();
        assert_eq!(kinds, ["exception", "modelStreamErrorException", "application/json"]);
        assert!(String::from_utf8_lossy(message.payload()).contains("it was killed"));
    }
}
