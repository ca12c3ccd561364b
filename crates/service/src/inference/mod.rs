//! Bedrock's runtime: InvokeModel, Converse, their streams and CountTokens, on custom models, deployments, provisioned
//! throughput and bases. Nothing here computes: `outcrop generate-worker` processes hold the models (`pool`, `process`), and
//! speak `protocol`. Left out: images, documents, tools, guardrails.

mod bodies;
mod conversation;
mod converse;
mod event_stream;
mod members;
mod pool;
mod process;
pub mod protocol;
mod stream;

use std::time::Instant;

use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use outcrop_job::aliases::{EMBEDDED, EMBEDDED_LOCATION};
use serde_json::json;

pub use pool::Limits;
pub(crate) use pool::Pool;
pub use process::Program;

use crate::call::{Call, Reply};
use crate::operations::endpoints::{Target, target};
use crate::operations::models;
use crate::store::ModelStatus;
use crate::{ApiError, AppState};
use bodies::{Answer, Form};
use pool::Lease;
use protocol::{Ask, Finish, Order, Told};

/// Bedrock's most bytes of a body.
pub(crate) const BODY_LIMIT: usize = 25_000_000;

/// Whether a request is for the runtime.
pub(crate) fn is_runtime(address: &Uri) -> bool {
    address.path().starts_with("/model/")
}

/// The model that a request is for.
struct Asked {
    /// What `outcrop generate-worker --model` is given.
    model: String,
    /// The id of its base, as ARNs have it.
    base_id: String,
}

/// Answers one request.
pub(crate) async fn answer(state: AppState, parts: Parts, body: Body) -> Response {
    match perform(&state, &parts, body).await {
        Ok(response) => response,
        Err(error) => error.into_response(),
    }
}

async fn perform(state: &AppState, parts: &Parts, body: Body) -> Result<Response, ApiError> {
    let body = axum::body::to_bytes(body, BODY_LIMIT).await;
    let body = body.map_err(|error| ApiError::validation(format!("The request body can't be read: {error}")))?;
    let call = Call::new(parts, body, state.settings())?;
    let segments: Vec<&str> = call.segments.iter().map(String::as_str).collect();
    let ("POST", ["model", identifier, operation]) = (call.method.as_str(), segments.as_slice()) else {
        return Err(ApiError::unknown_operation(&call.method, parts.uri.path()));
    };
    let operation = *operation;
    if !["invoke", "invoke-with-response-stream", "converse", "converse-stream", "count-tokens"].contains(&operation) {
        return Err(ApiError::unknown_operation(&call.method, parts.uri.path()));
    }
    let asked = asked(state, identifier).await?;
    let form = Form::of(&asked.base_id);
    let body = call.json()?;
    let Some(pool) = state.pool() else {
        return Err(ApiError::validation("This process generates no text: `outcrop serve` does."));
    };
    match operation {
        "invoke" => {
            let form = form.of_body(&body);
            let (answer, milliseconds) = whole(pool, &asked, form.read(&body)?).await?;
            let reply = Reply::ok(bodies::answer(form, &asked.base_id, &answer)).into_response();
            Ok(with_figures(reply, &answer, milliseconds))
        }
        "converse" => {
            let (answer, milliseconds) = whole(pool, &asked, converse::read(&body, form)?).await?;
            Ok(Reply::ok(converse::answer(&answer, milliseconds)).into_response())
        }
        "invoke-with-response-stream" => {
            let form = form.of_body(&body);
            let ask = form.read(&body)?;
            stream::invoke(begin(pool, &asked, ask).await?, form, asked.base_id)
        }
        "converse-stream" => stream::converse(begin(pool, &asked, converse::read(&body, form)?).await?),
        _ => count(pool, &asked, converse::counted(&body, form)?).await,
    }
}

/// The model that `identifier` names, ready to be asked.
async fn asked(state: &AppState, identifier: &str) -> Result<Asked, ApiError> {
    let (state, identifier) = (state.clone(), identifier.to_string());
    let found = tokio::task::spawn_blocking(move || {
        let model = match target(&state, &identifier)? {
            // A custom model may have the built-in base's short name.
            Target::Base(base) if base.base == EMBEDDED => {
                return Ok(Asked { model: EMBEDDED_LOCATION.into(), base_id: base.id });
            }
            Target::Base(base) => return Ok(Asked { model: base.base, base_id: base.id }),
            Target::Custom(model) => model,
        };
        match model.status {
            ModelStatus::Active => {}
            ModelStatus::Creating => {
                let message = format!("The model '{}' is not ready yet.", model.name);
                return Err(ApiError::new(StatusCode::TOO_MANY_REQUESTS, "ModelNotReadyException", message));
            }
            ModelStatus::Failed => {
                let why = model.failure.unwrap_or_default();
                return Err(ApiError::validation(format!("The model '{}' can't be used: {why}", model.name)));
            }
        }
        let base_id = match model.customization.as_str() {
            // The ARN of an imported model doesn't tell its base.
            "IMPORTED" => state.base_id(&models::record(&state, &model)?.base.identifier)?,
            _ => model.base_id,
        };
        Ok(Asked { model: model.id, base_id })
    });
    found.await.map_err(ApiError::internal)?
}

/// A text that has begun: the model took the prompt.
struct Begun {
    lease: Lease,
    input_tokens: u64,
    since: Instant,
}

async fn begin(pool: &Pool, asked: &Asked, ask: Ask) -> Result<Begun, ApiError> {
    let since = Instant::now();
    let (lease, input_tokens) = ordered(pool, asked, &Order::Generate(ask)).await?;
    Ok(Begun { lease, input_tokens, since })
}

/// Gives an order and waits until it is understood.
async fn ordered(pool: &Pool, asked: &Asked, order: &Order) -> Result<(Lease, u64), ApiError> {
    let mut lease = pool.worker(&asked.model).await?;
    lease.send(order).await?;
    match lease.next().await? {
        Told::Begun { input_tokens } => Ok((lease, input_tokens)),
        Told::Refused(message) => Err(ApiError::validation(message)),
        Told::Failed(message) => Err(process::model_error(message)),
        other => Err(process::model_error(format!("its process says {other:?} to an order"))),
    }
}

/// Generates a whole text; gives how many milliseconds it took too.
async fn whole(pool: &Pool, asked: &Asked, ask: Ask) -> Result<(Answer, u64), ApiError> {
    let Begun { mut lease, input_tokens, since } = begin(pool, asked, ask).await?;
    let mut text = String::new();
    loop {
        match step(&mut lease).await? {
            Step::Text(more) => text.push_str(&more),
            Step::End { finish, output_tokens } => {
                return Ok((Answer { text, finish, input_tokens, output_tokens }, milliseconds(since)));
            }
        }
    }
}

/// What comes next of a text.
enum Step {
    Text(String),
    End { finish: Finish, output_tokens: u64 },
}

async fn step(lease: &mut Lease) -> Result<Step, ApiError> {
    match lease.next().await? {
        Told::Text(text) => Ok(Step::Text(text)),
        Told::Done { finish, output_tokens } => Ok(Step::End { finish, output_tokens }),
        Told::Refused(message) | Told::Failed(message) => Err(process::model_error(message)),
        other => Err(process::model_error(format!("its process says {other:?} in a text"))),
    }
}

async fn count(pool: &Pool, asked: &Asked, prompt: protocol::Prompt) -> Result<Response, ApiError> {
    let (mut lease, input_tokens) = ordered(pool, asked, &Order::Count(prompt)).await?;
    lease.finish();
    Ok(Reply::ok(json!({"inputTokens": input_tokens})).into_response())
}

fn milliseconds(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// Bedrock's headers with the figures of a call.
fn with_figures(mut response: Response, answer: &Answer, milliseconds: u64) -> Response {
    for (name, number) in [
        ("x-amzn-bedrock-input-token-count", answer.input_tokens),
        ("x-amzn-bedrock-output-token-count", answer.output_tokens),
        ("x-amzn-bedrock-invocation-latency", milliseconds),
    ] {
        response.headers_mut().insert(name, HeaderValue::from(number));
    }
    response
}
