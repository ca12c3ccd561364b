//! Answers that are sent while they are made, a piece of text as soon as its characters are whole. A client that goes away
//! drops the stream, and with it the worker's lease, which cancels the text.

use std::collections::VecDeque;

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, header};
use axum::response::Response;
use futures_util::stream;
use serde_json::Value;

use super::bodies::{Answer, Chunks, Form};
use super::{Begun, Step, converse, event_stream, milliseconds, step};
use crate::ApiError;

/// How one operation says what happens.
trait Wording: Send + 'static {
    fn begin(&self) -> Result<Vec<Bytes>, ApiError>;
    fn text(&self, text: &str) -> Result<Bytes, ApiError>;
    fn end(&self, answer: &Answer, milliseconds: u64) -> Result<Vec<Bytes>, ApiError>;
}

struct Invoke(Chunks);

impl Wording for Invoke {
    fn begin(&self) -> Result<Vec<Bytes>, ApiError> {
        self.0.begin().iter().map(event_stream::chunk).collect()
    }

    fn text(&self, text: &str) -> Result<Bytes, ApiError> {
        event_stream::chunk(&self.0.text(text))
    }

    fn end(&self, answer: &Answer, milliseconds: u64) -> Result<Vec<Bytes>, ApiError> {
        self.0.end(answer, milliseconds).iter().map(event_stream::chunk).collect()
    }
}

struct Converse;

fn events(events: Vec<(&'static str, Value)>) -> Result<Vec<Bytes>, ApiError> {
    events.iter().map(|(kind, payload)| event_stream::event(kind, payload)).collect()
}

impl Wording for Converse {
    fn begin(&self) -> Result<Vec<Bytes>, ApiError> {
        events(converse::begin())
    }

    fn text(&self, text: &str) -> Result<Bytes, ApiError> {
        let (kind, payload) = converse::text(text);
        event_stream::event(kind, &payload)
    }

    fn end(&self, answer: &Answer, milliseconds: u64) -> Result<Vec<Bytes>, ApiError> {
        events(converse::end(answer, milliseconds))
    }
}

/// InvokeModelWithResponseStream's answer.
pub(super) fn invoke(begun: Begun, form: Form, model: String) -> Result<Response, ApiError> {
    let chunks = Chunks { form, model, input_tokens: begun.input_tokens };
    let mut response = response(begun, Invoke(chunks))?;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert("x-amzn-bedrock-content-type", json);
    Ok(response)
}

/// ConverseStream's answer.
pub(super) fn converse(begun: Begun) -> Result<Response, ApiError> {
    response(begun, Converse)
}

/// A text on its way.
struct Sending<W> {
    /// None once the text has ended.
    begun: Option<Begun>,
    ready: VecDeque<Bytes>,
    wording: W,
}

fn response(begun: Begun, wording: impl Wording) -> Result<Response, ApiError> {
    let ready = wording.begin()?.into();
    let sending = Sending { begun: Some(begun), ready, wording };
    let pieces = stream::unfold(sending, |mut sending| async move {
        let piece = sending.next().await?;
        Some((Ok::<Bytes, std::convert::Infallible>(piece), sending))
    });
    let mut response = Response::new(Body::from_stream(pieces));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(event_stream::CONTENT_TYPE));
    Ok(response)
}

impl<W: Wording> Sending<W> {
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(piece) = self.ready.pop_front() {
            return Some(piece);
        }
        let begun = self.begun.as_mut()?;
        let pieces = match step(&mut begun.lease).await {
            Ok(Step::Text(text)) => self.wording.text(&text).map(|piece| vec![piece]),
            Ok(Step::End { finish, output_tokens }) => {
                let (input_tokens, since) = (begun.input_tokens, begun.since);
                self.begun = None;
                let answer = Answer { text: String::new(), finish, input_tokens, output_tokens };
                self.wording.end(&answer, milliseconds(since))
            }
            Err(error) => Err(error),
        };
        match pieces {
            Ok(pieces) => self.ready.extend(pieces),
            Err(error) => {
                self.begun = None;
                // An exception that can't be framed ends the stream without one: cut off, which clients notice too.
                self.ready.extend(event_stream::exception(&error).ok());
            }
        }
        self.ready.pop_front()
    }
}
