//! Errors as Bedrock's clients read them: the status, `x-amzn-ErrorType`, and a body with `message`.

use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use outcrop_job::folder::FolderError;
use outcrop_job::home::HomeError;
use outcrop_job::model_store::ModelError;
use serde_json::json;

const ERROR_TYPE: HeaderName = HeaderName::from_static("x-amzn-errortype");

/// An error of one operation, in Bedrock's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct ApiError {
    /// HTTP status.
    pub status: StatusCode,
    /// Bedrock's name of the error, such as `ValidationException`.
    pub code: &'static str,
    /// What the caller reads.
    pub message: String,
    /// `resourceName` of a `TooManyTagsException`.
    pub resource: Option<String>,
}

impl ApiError {
    /// An error with any code.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), resource: None }
    }

    /// 400: the request breaks a constraint.
    pub fn validation(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "ValidationException", message)
    }

    /// 404: no such job, model or other resource.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "ResourceNotFoundException", message)
    }

    /// 400 (not 409): the resource's state doesn't allow it.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "ConflictException", message)
    }

    /// 400: more than fifty tags on one resource.
    pub fn too_many_tags(resource: &str, count: usize) -> Self {
        let message = format!("The resource would have {count} tags; at most 50 are allowed.");
        Self {
            resource: Some(resource.to_string()),
            ..Self::new(StatusCode::BAD_REQUEST, "TooManyTagsException", message)
        }
    }

    /// 500, with the cause: whoever reads it is on this machine.
    pub fn internal(cause: impl std::fmt::Display) -> Self {
        let message =
            format!("Encountered an unexpected error when processing the request, please try again ({cause})");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalServerException", message)
    }

    /// 404: no operation has this method and path.
    pub fn unknown_operation(method: &Method, path: &str) -> Self {
        let message = format!("No operation is at {method} {path}.");
        Self::new(StatusCode::NOT_FOUND, "UnknownOperationException", message)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut body = json!({"message": self.message});
        if let Some(resource) = self.resource {
            body["resourceName"] = json!(resource);
        }
        let json = HeaderValue::from_static("application/json");
        let headers = [(header::CONTENT_TYPE, json), (ERROR_TYPE, HeaderValue::from_static(self.code))];
        (self.status, headers, body.to_string()).into_response()
    }
}

macro_rules! internal {
    ($($error:ty),*) => {$(
        impl From<$error> for ApiError {
            fn from(error: $error) -> Self {
                Self::internal(error)
            }
        }
    )*};
}

internal!(std::io::Error, FolderError, HomeError, ModelError, rusqlite::Error, serde_json::Error);
