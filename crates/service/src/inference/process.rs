//! One `outcrop generate-worker`: a child process with a model in memory. It is killed when it is let go of, and ends by
//! itself when the service is gone, since its input ends then.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};

use axum::http::StatusCode;
use outcrop_job::Home;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::protocol::{Order, Told};
use crate::ApiError;

/// How workers are started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// The `outcrop` binary.
    pub path: PathBuf,
    /// Passed on as `--device`.
    pub device: Option<String>,
}

/// A running worker.
#[derive(Debug)]
pub(super) struct Worker {
    child: Child,
    orders: ChildStdin,
    told: Lines<BufReader<ChildStdout>>,
    /// The last line that it printed as an error.
    complaint: Arc<Mutex<String>>,
}

impl Worker {
    /// Starts a worker and waits until its model is in memory. Errors: the process can't be started, or it can't load.
    pub(super) async fn start(program: &Program, home: &Home, model: &str) -> Result<Self, ApiError> {
        let mut command = Command::new(&program.path);
        command.args(["generate-worker", "--model", model]);
        if let Some(device) = &program.device {
            command.args(["--device", device]);
        }
        command.env(outcrop_job::home::HOME_VARIABLE, home.root());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        #[cfg(unix)]
        command.arg0("outcrop").process_group(0);
        let no_process = |error: std::io::Error| model_error(format!("its process can't be started: {error}"));
        let mut child = command.spawn().map_err(no_process)?;
        let (Some(orders), Some(told), Some(errors)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(model_error("its process has no pipes"));
        };
        let complaint = Arc::new(Mutex::new(String::new()));
        let heard = complaint.clone();
        tokio::spawn(async move {
            let mut lines = BufReader::new(errors).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                *heard.lock().unwrap_or_else(PoisonError::into_inner) = line;
            }
        });
        let mut worker = Self { child, orders, told: BufReader::new(told).lines(), complaint };
        match worker.next().await? {
            Told::Loaded => Ok(worker),
            Told::Failed(message) => Err(model_error(message)),
            other => Err(model_error(format!("its process says {other:?} before it is loaded"))),
        }
    }

    /// Whether the process is still there.
    pub(super) fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Gives an order. Errors: the process is gone.
    pub(super) async fn send(&mut self, order: &Order) -> Result<(), ApiError> {
        let line = format!("{}\n", serde_json::to_string(order)?);
        let sent = self.orders.write_all(line.as_bytes()).await;
        match sent.and(self.orders.flush().await) {
            Ok(()) => Ok(()),
            Err(_) => Err(self.gone().await),
        }
    }

    /// The next thing that it tells. Errors: the process is gone, or doesn't speak as it should.
    pub(super) async fn next(&mut self) -> Result<Told, ApiError> {
        match self.told.next_line().await {
            Ok(Some(line)) => serde_json::from_str(&line)
                .map_err(|error| model_error(format!("its process said what isn't understood: {error}"))),
            _ => Err(self.gone().await),
        }
    }

    /// Why nothing more comes.
    async fn gone(&mut self) -> ApiError {
        let _ = self.child.start_kill(); // it may have closed its output alone
        let ended = self.child.wait().await.map_or_else(|error| error.to_string(), |status| status.to_string());
        tokio::task::yield_now().await; // its last line may be on its way
        let complaint = self.complaint.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let said = complaint.strip_prefix("error: ").unwrap_or(&complaint);
        let said = if said.is_empty() { String::new() } else { format!(": {said}") };
        model_error(format!("its process ended ({ended}){said}; the next request starts another"))
    }
}

/// 424: the model's process fails, not the request.
pub(super) fn model_error(message: impl std::fmt::Display) -> ApiError {
    ApiError::new(StatusCode::FAILED_DEPENDENCY, "ModelErrorException", format!("The model can't answer: {message}"))
}
