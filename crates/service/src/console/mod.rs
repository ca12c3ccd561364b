//! The console: pages for people, on the service's own port under `/console`. Made here and complete without a script;
//! the one script there is puts in what changes, as the service sends it. Nothing is asked of another address. Left out:
//! creating jobs, which Bedrock's clients do.

mod disk;
mod jobs;
mod live;
mod models;
mod run;
mod session;
mod sweeps;
mod templates;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::header::{
    ACCEPT, AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, LOCATION, REFERRER_POLICY,
    SET_COOKIE, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use minijinja::context;

use crate::{ApiError, AppState, auth};

pub(crate) use session::SessionKey;

/// Most bytes of a form.
const FORM_LIMIT: usize = 1 << 20;
/// What a page of the console may load: its own style and script, its own pictures, the page of a sweep in a frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      frame-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
/// What a report may: nothing but show itself.
const REPORT_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; \
                             form-action 'none'; frame-ancestors 'self'; sandbox allow-popups";

const SIGN_IN: &str = "/console/sign-in";

/// Whether a request is the console's. A signed one never is: a bucket may be called `console` too.
pub(crate) fn is_console(parts: &Parts) -> bool {
    let header = |name| parts.headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok()).unwrap_or_default();
    let query = parts.uri.query().unwrap_or_default();
    let signed =
        parts.headers.contains_key(AUTHORIZATION) || query.contains("X-Amz-") || query.contains("AWSAccessKeyId");
    if signed || header(HOST).starts_with("s3.") {
        return false;
    }
    let path = parts.uri.path();
    let is_browsers = parts.method == Method::GET && header(ACCEPT).contains("text/html");
    path == "/console" || path.starts_with("/console/") || (path == "/" && is_browsers)
}

/// What a page is answered with.
enum Answer {
    Page { section: &'static str, title: String, body: String, live: Option<String> },
    Report(String),
    Asset { kind: &'static str, text: String },
    Redirect { to: String, cookie: Option<String> },
    Stream(Response),
}

impl Answer {
    fn redirect(to: impl Into<String>) -> Self {
        Self::Redirect { to: to.into(), cookie: None }
    }
}

/// Answers one request.
pub(crate) async fn answer(state: AppState, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let signed_in = state.settings().credentials.is_some();
    let mut response = match respond(&state, &parts, body).await {
        Ok(answer) => answer.into_response(signed_in),
        Err(error) => problem(&error, signed_in),
    };
    let headers = response.headers_mut();
    let fixed: [(HeaderName, &str); 5] = [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "SAMEORIGIN"),  // for browsers that don't know frame-ancestors
        (REFERRER_POLICY, "same-origin"), // with `no-referrer` a form would have the origin `null`
        (CACHE_CONTROL, "no-store"),
    ];
    for (name, value) in fixed {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.entry(name).or_insert(value);
        }
    }
    response
}

async fn respond(state: &AppState, parts: &Parts, body: Body) -> Result<Answer, ApiError> {
    if state.settings().credentials.is_none() {
        auth::browser(&parts.method, &parts.headers)?;
    }
    session::own_page(&parts.method, &parts.headers)?;
    let segments: Vec<String> = parts.uri.path().split('/').skip(2).map(str::to_string).collect();
    let names: Vec<&str> = segments.iter().map(String::as_str).filter(|name| !name.is_empty()).collect();
    let is_open = matches!(names.as_slice(), ["style.css" | "script.js" | "sign-in"]);
    if !is_open && !may_see(state, &parts.headers) {
        return match parts.method {
            Method::GET if names.last() != Some(&"events") => Ok(Answer::redirect(SIGN_IN)),
            _ => Err(auth::denied("AccessDeniedException", "Sign in to the console first.")),
        };
    }
    match (parts.method.as_str(), names.as_slice()) {
        ("GET", ["events"]) => Ok(Answer::Stream(live::stream(state.clone(), jobs::Listing::default()))),
        ("GET", ["jobs", id, "events"]) => {
            Ok(Answer::Stream(live::stream(state.clone(), jobs::Watched::open(state, id)?)))
        }
        ("GET" | "POST", _) => {
            let body = axum::body::to_bytes(body, FORM_LIMIT).await;
            let body = body.map_err(|error| ApiError::validation(format!("The form can't be read: {error}")))?;
            let (state, method, headers) = (state.clone(), parts.method.clone(), parts.headers.clone());
            let path = parts.uri.path().to_string();
            let work = move || {
                let names: Vec<&str> = path.split('/').skip(2).filter(|name| !name.is_empty()).collect();
                route(&state, &method, &headers, (path.as_str(), &names), &body)
            };
            tokio::task::spawn_blocking(work).await.map_err(ApiError::internal)?
        }
        _ => Err(ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", "The console knows GET and POST.")),
    }
}

fn may_see(state: &AppState, headers: &HeaderMap) -> bool {
    state.settings().credentials.is_none() || state.session_key().admits(headers)
}

/// Everything but the streams. Reads and writes files, so it runs off the reactor.
fn route(
    state: &AppState,
    method: &Method,
    headers: &HeaderMap,
    (path, names): (&str, &[&str]),
    body: &Bytes,
) -> Result<Answer, ApiError> {
    if path == "/" {
        return Ok(Answer::redirect("/console"));
    }
    match (method.as_str(), names) {
        ("GET", [] | ["jobs"]) => jobs::list(state),
        ("GET", ["jobs", id]) => jobs::show(state, id),
        ("GET", ["jobs", id, "report"]) => jobs::report(state, id),
        ("POST", ["jobs", id, "stop"]) => jobs::stop(state, id, headers),
        ("GET", ["models"]) => models::list(state),
        ("POST", ["models", id, "delete"]) => models::delete(state, id, headers),
        ("GET", ["sweeps"]) => sweeps::list(state),
        ("GET", ["sweeps", id, "report"]) => sweeps::report(state, id),
        ("GET", ["disk"]) => disk::show(state),
        ("POST", ["disk", "prune"]) => disk::prune(state, &form(body)),
        ("GET", ["sign-in"]) => sign_in_page(state, None),
        ("POST", ["sign-in"]) => sign_in(state, &form(body)),
        ("POST", ["sign-out"]) => Ok(Answer::Redirect { to: SIGN_IN.to_string(), cookie: Some(session::no_cookie()) }),
        ("GET", ["style.css"]) => Ok(Answer::Asset { kind: "text/css; charset=utf-8", text: templates::style() }),
        ("GET", ["script.js"]) => {
            Ok(Answer::Asset { kind: "text/javascript; charset=utf-8", text: templates::SCRIPT.to_string() })
        }
        _ => Err(ApiError::not_found("The console has no such page.")),
    }
}

/// The pairs of a form.
fn form(body: &Bytes) -> Vec<(String, String)> {
    form_urlencoded::parse(body).into_owned().collect()
}

fn sign_in(state: &AppState, form: &[(String, String)]) -> Result<Answer, ApiError> {
    let token = form.iter().find(|(name, _)| name == "token").map_or("", |(_, token)| token.trim());
    match &state.settings().credentials {
        None => Ok(Answer::redirect("/console")),
        Some(credentials) if credentials.has_token(token) => {
            Ok(Answer::Redirect { to: "/console".to_string(), cookie: Some(state.session_key().cookie()?) })
        }
        Some(_) => sign_in_page(state, Some("That is not one of this service's bearer tokens.")),
    }
}

fn sign_in_page(state: &AppState, error: Option<&str>) -> Result<Answer, ApiError> {
    let has_tokens = state.settings().credentials.as_ref().is_none_or(|credentials| credentials.has_tokens());
    let body = templates::render("sign_in.html", context! { error, has_tokens })?;
    Ok(Answer::Page { section: "", title: "Sign in".to_string(), body, live: None })
}

/// An error as a page.
fn problem(error: &ApiError, signed_in: bool) -> Response {
    let Ok(body) = templates::render("problem.html", context! { message => &error.message }) else {
        return (error.status, error.message.clone()).into_response();
    };
    let page = Answer::Page { section: "", title: "That did not work".to_string(), body, live: None };
    let mut response = page.into_response(signed_in);
    *response.status_mut() = error.status;
    response
}

impl Answer {
    /// `signed_in`: whether there is something to sign out of.
    fn into_response(self, signed_in: bool) -> Response {
        let html = [(CONTENT_TYPE, "text/html; charset=utf-8")];
        match self {
            Self::Page { section, title, body, live } => {
                let values = context! { section, title, body, live, signed_in => signed_in && !section.is_empty() };
                match templates::render("layout.html", values) {
                    Ok(page) => (html, page).into_response(),
                    Err(error) => (error.status, error.message).into_response(),
                }
            }
            Self::Report(text) => (html, [(CONTENT_SECURITY_POLICY, REPORT_POLICY)], text).into_response(),
            Self::Asset { kind, text } => ([(CONTENT_TYPE, kind)], text).into_response(),
            Self::Redirect { to, cookie } => {
                let mut response = (StatusCode::SEE_OTHER, [(LOCATION, to)]).into_response();
                if let Some(cookie) = cookie.and_then(|cookie| HeaderValue::from_str(&cookie).ok()) {
                    response.headers_mut().insert(SET_COOKIE, cookie);
                }
                response
            }
            Self::Stream(response) => response,
        }
    }
}

/// A file of the home as text, where it lies in the home indeed: a link that leads out of it isn't followed.
fn file_of_home(state: &AppState, path: &std::path::Path, missing: &str) -> Result<String, ApiError> {
    let root = fs_err::canonicalize(state.home().root())?;
    match fs_err::canonicalize(path) {
        Ok(real) if real.starts_with(&root) && real.is_file() => Ok(fs_err::read_to_string(real)?),
        _ => Err(ApiError::not_found(missing)),
    }
}

/// A time as people read it: to the second, in UTC.
fn time(time: jiff::Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%S").to_string()
}
