//! What changes on a page while it is looked at, as server-sent events: each has the parts of the page that are new, by
//! the id of the element that they fill. A stream ends with its subject, or with the service.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;

use crate::{ApiError, AppState};

/// How often a subject is looked at.
const PAUSE: Duration = Duration::from_millis(500);
/// How often a stream says that it is alive.
const ALIVE: Duration = Duration::from_secs(15);

/// Parts of a page by the id of their element.
pub(super) type Parts = Vec<(&'static str, String)>;

/// What a stream tells of.
pub(super) trait Subject: Send + 'static {
    /// The parts as they are now, and whether nothing more will change. Reads files: called off the reactor.
    fn look(&mut self, state: &AppState) -> Result<(Parts, bool), ApiError>;
}

struct Watch<S> {
    state: AppState,
    subject: Option<S>,
    sent: BTreeMap<&'static str, String>,
    first: bool,
    over: bool,
}

/// A stream over a subject.
pub(super) fn stream<S: Subject>(state: AppState, subject: S) -> Response {
    let watch = Watch { state, subject: Some(subject), sent: BTreeMap::new(), first: true, over: false };
    let events = stream::unfold(watch, |mut watch| async move {
        let event = watch.next().await?;
        Some((Ok::<_, Infallible>(event), watch))
    });
    Sse::new(events).keep_alive(KeepAlive::new().interval(ALIVE)).into_response()
}

impl<S: Subject> Watch<S> {
    /// The next event; None at the end. An error ends the stream: the browser comes again.
    async fn next(&mut self) -> Option<Event> {
        loop {
            let mut subject = self.subject.take()?;
            if self.over {
                return Some(Event::default().event("over").data(""));
            }
            if !std::mem::take(&mut self.first) {
                tokio::select! {
                    () = tokio::time::sleep(PAUSE) => {}
                    () = self.state.ended() => return None,
                }
            }
            let state = self.state.clone();
            let work = move || {
                let seen = subject.look(&state);
                (seen, subject)
            };
            let (seen, subject) = tokio::task::spawn_blocking(work).await.ok()?;
            let (parts, over) = seen.ok()?;
            (self.subject, self.over) = (Some(subject), over);
            let fresh: BTreeMap<&'static str, String> =
                parts.into_iter().filter(|(id, html)| self.sent.get(id) != Some(html)).collect();
            if !fresh.is_empty() {
                let event = Event::default().json_data(&fresh).ok()?;
                self.sent.extend(fresh);
                return Some(event);
            }
        }
    }
}
