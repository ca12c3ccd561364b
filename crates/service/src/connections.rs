//! Sockets: how many, how long a client may take to say what it wants, how much it may say before its body.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::HeaderValue;
use axum::http::header::{CONNECTION, EXPECT};
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// Open connections; further ones wait in the system's queue.
const MOST_CONNECTIONS: usize = 1024;
/// From a connection's begin, or the last answer on it, to the end of a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Most bytes of a request's head; what arrives together with the last of them may be over it.
const HEAD_LIMIT: usize = 64 << 10;
/// Most headers of a request.
const HEADER_LIMIT: usize = 100;
/// How long answers on their way are waited for at the end.
const PATIENCE: Duration = Duration::from_secs(30);

/// Answers what comes in until `end`, then finishes the answers on their way.
pub(crate) async fn answer(listener: TcpListener, app: Router, end: impl Future<Output = ()>) {
    let app = app.layer(from_fn(end_unread));
    let connections = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let shutdown = GracefulShutdown::new();
    tokio::pin!(end);
    loop {
        let next = async {
            // The semaphore is never closed.
            let permit = connections.clone().acquire_owned().await.ok();
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            next = next => next,
            () = &mut end => break,
        };
        let Ok((stream, _)) = accepted else {
            // Out of file handles, say: trying again at once would only turn in circles.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let connection = shutdown.watch(serve(stream, app.clone()));
        tokio::spawn(async move {
            // What ends a connection early is the client's doing.
            let _ = connection.await;
            drop(permit);
        });
    }
    let _ = tokio::time::timeout(PATIENCE, shutdown.shutdown()).await;
}

fn serve(stream: TcpStream, app: Router) -> http1::Connection<TokioIo<TcpStream>, TowerToHyperService<Router>> {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_LIMIT)
        .max_headers(HEADER_LIMIT);
    builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(app))
}

/// A refusal ends the connection of a client that waited for leave to send its body (`Expect: 100-continue`): without leave it
/// sends none, and the beginning of its next request would be read as that body.
async fn end_unread(request: Request, next: Next) -> Response {
    let waits = request.headers().contains_key(EXPECT);
    let mut response = next.run(request).await;
    if waits && !response.status().is_success() {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

#[cfg(test)]
mod tests {
    use axum::http::{StatusCode, Uri};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// What a service on a free port answers to these bytes, and how long it took.
    async fn answered(sent: &str) -> (String, Duration) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = Router::new().fallback(|uri: Uri| async move {
            let refused = uri.path() == "/refused";
            (if refused { StatusCode::BAD_REQUEST } else { StatusCode::OK }, "hello")
        });
        let service = tokio::spawn(answer(listener, app, std::future::pending()));
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(sent.as_bytes()).await.unwrap();
        let begin = tokio::time::Instant::now();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        service.abort();
        (String::from_utf8(answer).unwrap(), begin.elapsed())
    }

    #[tokio::test]
    async fn a_head_has_its_limits() {
        let (answer, _) = answered("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("hello"), "{answer}");
        let large = format!("GET / HTTP/1.1\r\nHost: x\r\nA: {}\r\n\r\n", "a".repeat(4 * HEAD_LIMIT));
        // What was sent beyond the limit resets the connection, which can take the 431 with it.
        let (answer, took) = answered(&large).await;
        assert!(!answer.contains("200") && took < HEAD_TIMEOUT, "{answer:?} after {took:?}");
        let many: String = (0..=HEADER_LIMIT).map(|index| format!("A{index}: b\r\n")).collect();
        assert!(answered(&format!("GET / HTTP/1.1\r\n{many}\r\n")).await.0.starts_with("HTTP/1.1 431"));
    }

    #[tokio::test]
    async fn what_follows_a_refusal_is_not_read_as_the_body_that_was_not_sent() {
        let refused = "PUT /refused HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n";
        for next in ["", "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"] {
            let (answer, took) = answered(&format!("{refused}{next}")).await;
            assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("connection: close"), "{answer}");
            assert!(answer.matches("HTTP/1.1").count() == 1 && took < HEAD_TIMEOUT, "{answer:?} after {took:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_head_is_not_waited_for() {
        let (answer, took) = answered("GET / HTTP/1.1\r\nHost: x\r\n").await;
        assert!(!answer.contains("200"), "{answer}");
        assert!((HEAD_TIMEOUT..HEAD_TIMEOUT * 2).contains(&took), "{took:?}");
    }

    #[tokio::test]
    async fn an_answer_on_its_way_is_finished_at_the_end() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = Router::new().fallback(|| async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            "late"
        });
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        let service = tokio::spawn(super::answer(listener, app, async move {
            let _ = ended.await;
        }));
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        end.send(()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("late"), "{answer}");
        service.await.unwrap();
    }
}
