//! Bedrock's HTTP API over this machine's jobs and models, and an S3 subset over its files: routes, errors, the job
//! store, the supervisor of worker processes, inference. Nothing here computes: jobs and models run in child processes of
//! the `outcrop` binary.

pub mod arn;
mod auth;
pub mod call;
mod connections;
mod console;
pub mod error;
mod evaluation;
pub mod inference;
mod operations;
mod remote;
mod route;
mod s3;
mod serve;
mod state;
pub mod store;
mod supervisor;
mod sync;
mod validation;

use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::HeaderValue;
use axum::http::request::Parts;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use tower_http::timeout::TimeoutBody;

pub use auth::{Credentials, CredentialsError};
pub use axum::http::Method;
pub use call::{Call, Caller, Reply};
pub use error::ApiError;
pub use operations::endpoints::{Target, target};
pub use remote::{ENDPOINT_VARIABLE, Remote, RemoteError};
pub use serve::{Options, ServeError, is_running, run_to_end, serve};
pub use state::{AppState, Settings};
pub use supervisor::Launch;

/// The longest pause in a body that is being sent.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// Everything that the service answers: the console, S3, the runtime, or the control plane, which routes on the raw path.
pub fn app(state: AppState) -> Router {
    Router::new().fallback(planes).layer(middleware::from_fn(identify)).with_state(state)
}

/// The console, S3 and the planes of Bedrock share a port; their paths and those of S3 can be the same.
async fn planes(State(state): State<AppState>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = Body::new(TimeoutBody::new(BODY_TIMEOUT, body));
    if console::is_console(&parts) {
        return console::answer(state, Request::from_parts(parts, body)).await;
    }
    let credentials = state.settings().credentials.as_ref();
    let for_s3 = s3::is_s3(&parts, state.home());
    let request = Request::from_parts(parts, body);
    if let (true, Some(_)) = (for_s3, credentials) {
        return s3::answer(state.s3(), request, true).await;
    }
    let for_runtime = inference::is_runtime(request.uri());
    let limit = if for_runtime { inference::BODY_LIMIT } else { state.settings().body_limit };
    match auth::admit(credentials, request, limit).await {
        Err(refused) => refused.into_response(),
        Ok(request) if for_s3 => s3::answer(state.s3(), request, false).await,
        Ok(request) => {
            let (parts, body) = request.into_parts();
            match for_runtime {
                true => inference::answer(state, parts, body).await,
                false => control_plane(state, parts, body).await,
            }
        }
    }
}

/// One operation of Bedrock's control plane. Operations read and write files and SQLite, so they run off the reactor.
async fn control_plane(state: AppState, parts: Parts, body: Body) -> Response {
    let body = match axum::body::to_bytes(body, state.settings().body_limit).await {
        Ok(body) => body,
        Err(error) => return ApiError::validation(format!("The request body can't be read: {error}")).into_response(),
    };
    let answer = tokio::task::spawn_blocking(move || answer(&state, &parts, body)).await;
    answer
        .unwrap_or_else(|error| Err(ApiError::internal(error)))
        .map_or_else(IntoResponse::into_response, Reply::into_response)
}

fn answer(state: &AppState, parts: &Parts, body: Bytes) -> Result<Reply, ApiError> {
    perform(state, &Call::new(parts, body, state.settings())?)
}

/// Performs one operation, whether or not it came over HTTP.
///
/// # Errors
/// The operation's own; `UnknownOperationException` where there is none at this method and path.
pub fn perform(state: &AppState, call: &Call) -> Result<Reply, ApiError> {
    let unknown = || ApiError::unknown_operation(&call.method, &format!("/{}", call.segments.join("/")));
    route::handler(call).ok_or_else(unknown)?(state, call)
}

/// Gives every answer a request id, as clients log it.
async fn identify(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    if let Ok(id) = HeaderValue::from_str(&call::request_id()) {
        response.headers_mut().entry("x-amzn-requestid").or_insert(id);
    }
    response
}
