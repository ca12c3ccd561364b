//! Which models are in memory and who may ask them. Each has one process and answers one request at a time; the others
//! wait in the order they came. Where a further model is asked and there is no room, the one that was idle longest goes.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use outcrop_job::Home;
use tokio::sync::oneshot;

use super::process::{Program, Worker};
use super::protocol::{Order, Told};
use crate::ApiError;

/// How long a text that nobody waits for any more may take to end before its process is killed.
const PATIENCE: Duration = Duration::from_secs(10);

/// What inference may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Most models in memory.
    pub models: usize,
    /// Most requests that wait; further ones are throttled.
    pub queue: usize,
    /// How long a model stays in memory after its last answer.
    pub idle: Duration,
}

/// The models in memory. A clone is the same.
#[derive(Debug, Clone)]
pub(crate) struct Pool {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    program: Program,
    limits: Limits,
    home: Home,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    seats: Vec<Seat>,
    waiting: VecDeque<Waiter>,
}

/// A model in memory.
#[derive(Debug)]
struct Seat {
    model: String,
    /// Away while a request has it, and before it is started.
    worker: Option<Worker>,
    is_busy: bool,
    used: Instant,
}

#[derive(Debug)]
struct Waiter {
    model: String,
    grant: oneshot::Sender<Lease>,
}

/// A worker for one request; it goes back when this is dropped.
#[derive(Debug)]
pub(super) struct Lease {
    shared: Arc<Shared>,
    model: String,
    worker: Option<Worker>,
    /// An order was given and its end not yet told.
    is_unfinished: bool,
}

impl Pool {
    pub(crate) fn new(home: Home, program: Program, limits: Limits) -> Self {
        Self { shared: Arc::new(Shared { program, limits, home, state: Mutex::default() }) }
    }

    /// Waits for the worker of a model (its name for `outcrop generate`), started where it must be.
    ///
    /// # Errors
    /// `ThrottlingException` where too many wait already; the worker can't be started.
    pub(super) async fn worker(&self, model: &str) -> Result<Lease, ApiError> {
        let (grant, granted) = oneshot::channel();
        {
            let mut state = self.shared.lock();
            state.waiting.push_back(Waiter { model: model.to_string(), grant });
        }
        self.shared.dispatch();
        {
            let mut state = self.shared.lock();
            state.waiting.retain(|waiter| !waiter.grant.is_closed());
            // Whoever got a worker is no longer in the queue; the newest goes where it is too long.
            if state.waiting.len() > self.shared.limits.queue {
                state.waiting.pop_back();
            }
        }
        let Ok(mut lease) = granted.await else {
            let message = format!(
                "Too many requests: {} wait already for a model on this machine; try again later.",
                self.shared.limits.queue
            );
            return Err(ApiError::new(StatusCode::TOO_MANY_REQUESTS, "ThrottlingException", message));
        };
        if !lease.worker.as_mut().is_some_and(Worker::is_alive) {
            lease.worker = None;
            lease.worker = Some(Worker::start(&self.shared.program, &self.shared.home, model).await?);
        }
        Ok(lease)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives workers to those that wait, the first come first.
    fn dispatch(self: &Arc<Self>) {
        loop {
            let mut refused = Vec::new();
            let mut state = self.lock();
            let mut kept = VecDeque::new();
            while let Some(waiter) = state.waiting.pop_front() {
                if waiter.grant.is_closed() {
                    continue;
                }
                match state.seat(&waiter.model, self.limits.models) {
                    None => kept.push_back(waiter),
                    Some(worker) => {
                        let shared = self.clone();
                        let lease = Lease { shared, model: waiter.model, worker, is_unfinished: false };
                        refused.extend(waiter.grant.send(lease).err());
                    }
                }
            }
            state.waiting = kept;
            drop(state);
            if refused.is_empty() {
                return;
            }
            // They went away just now; each goes back, which asks for the lock.
            drop(refused);
        }
    }

    fn give_back(self: &Arc<Self>, model: &str, worker: Option<Worker>) {
        let mut state = self.lock();
        let place = state.seats.iter().position(|seat| seat.model == model && seat.is_busy);
        match (place, worker) {
            (Some(place), Some(worker)) => {
                let seat = &mut state.seats[place];
                (seat.worker, seat.is_busy, seat.used) = (Some(worker), false, Instant::now());
            }
            (Some(place), None) => drop(state.seats.swap_remove(place)),
            (None, _) => {}
        }
        drop(state);
        self.dispatch();
        let shared = self.clone();
        // Outside a runtime the service is at its end, and its processes with it.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                tokio::time::sleep(shared.limits.idle).await;
                let idle = shared.limits.idle;
                shared.lock().seats.retain(|seat| seat.is_busy || seat.used.elapsed() < idle);
            });
        }
    }
}

impl State {
    /// A place for a model: its worker, or None in it where one has to be started; None where it must wait.
    fn seat(&mut self, model: &str, most: usize) -> Option<Option<Worker>> {
        if let Some(seat) = self.seats.iter_mut().find(|seat| seat.model == model) {
            if seat.is_busy {
                return None;
            }
            seat.is_busy = true;
            return Some(seat.worker.take());
        }
        if self.seats.len() >= most {
            let idle = self.seats.iter().enumerate().filter(|(_, seat)| !seat.is_busy);
            let (oldest, _) = idle.min_by_key(|(_, seat)| seat.used)?;
            self.seats.swap_remove(oldest);
        }
        self.seats.push(Seat { model: model.to_string(), worker: None, is_busy: true, used: Instant::now() });
        Some(None)
    }
}

impl Lease {
    /// Gives an order.
    pub(super) async fn send(&mut self, order: &Order) -> Result<(), ApiError> {
        self.is_unfinished = true;
        let worker = self.worker.as_mut().ok_or_else(|| ApiError::internal("a worker is gone"))?;
        worker.send(order).await
    }

    /// The next thing that the worker tells of the order.
    pub(super) async fn next(&mut self) -> Result<Told, ApiError> {
        let worker = self.worker.as_mut().ok_or_else(|| ApiError::internal("a worker is gone"))?;
        let told = worker.next().await;
        if told.is_err() {
            (self.worker, self.is_unfinished) = (None, false);
        }
        let told = told?;
        if matches!(told, Told::Done { .. } | Told::Refused(_) | Told::Failed(_)) {
            self.is_unfinished = false;
        }
        Ok(told)
    }

    /// The order is done with what was told: a count.
    pub(super) fn finish(&mut self) {
        self.is_unfinished = false;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let (shared, model, worker) = (self.shared.clone(), std::mem::take(&mut self.model), self.worker.take());
        let runtime = tokio::runtime::Handle::try_current();
        match (worker, runtime) {
            (Some(worker), Ok(runtime)) if self.is_unfinished => {
                runtime.spawn(async move {
                    let worker = tokio::time::timeout(PATIENCE, ended(worker)).await.ok().flatten();
                    shared.give_back(&model, worker);
                });
            }
            (worker, _) => shared.give_back(&model, worker.filter(|_| !self.is_unfinished)),
        }
    }
}

/// A worker whose text was cancelled: its client is gone.
async fn ended(mut worker: Worker) -> Option<Worker> {
    worker.send(&Order::Cancel).await.ok()?;
    loop {
        if matches!(worker.next().await.ok()?, Told::Done { .. } | Told::Refused(_) | Told::Failed(_)) {
            return Some(worker);
        }
    }
}
