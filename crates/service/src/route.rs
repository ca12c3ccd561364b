//! From method and path to an operation. Paths are matched by their segments as they were sent; an ARN is one.

use axum::http::Method;

use crate::call::{Call, Reply};
use crate::{ApiError, AppState};

/// An operation.
pub(crate) type Handler = fn(&AppState, &Call) -> Result<Reply, ApiError>;

/// The operation of a call; none where Bedrock has none, or this service doesn't.
pub(crate) fn handler(call: &Call) -> Option<Handler> {
    let segments: Vec<&str> = call.segments.iter().map(String::as_str).collect();
    let _ = (&call.method, Method::GET, segments);
    None
}
