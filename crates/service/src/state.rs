//! What every request shares.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use outcrop_job::{Home, ModelStore};
use s3s::service::S3Service;

use crate::auth::Credentials;
use crate::store::Store;
use crate::{ApiError, s3};

/// How the service was started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Region of ARNs where the request is unsigned.
    pub region: String,
    /// Account of ARNs, twelve digits.
    pub account: String,
    /// Most bytes of a body of the control plane.
    pub body_limit: usize,
    /// Whose requests are accepted; without any, those of every program of this machine.
    pub credentials: Option<Credentials>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { region: "us-east-1".into(), account: "123456789012".into(), body_limit: 4 << 20, credentials: None }
    }
}

/// The service's state; a clone is the same state.
#[derive(Debug, Clone)]
pub struct AppState {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    home: Home,
    models: ModelStore,
    settings: Settings,
    store: Store,
    s3: S3Service,
    last_sync: Mutex<Option<Instant>>,
    wake: Sender<()>,
    woken: Mutex<Option<Receiver<()>>>,
}

impl AppState {
    /// The state of a service over `home`, its database opened.
    ///
    /// # Errors
    /// The database can't be opened.
    pub fn open(home: Home, settings: Settings) -> Result<Self, ApiError> {
        let models = ModelStore::new(home.models_dir());
        let store = Store::open(&database(&home))?;
        let s3 = s3::service(&home, settings.credentials.as_ref())?;
        let (wake, woken) = channel();
        let (last_sync, woken) = (Mutex::new(None), Mutex::new(Some(woken)));
        Ok(Self { inner: Arc::new(Inner { home, models, settings, store, s3, last_sync, wake, woken }) })
    }

    /// Outcrop's folder.
    pub fn home(&self) -> &Home {
        &self.inner.home
    }

    /// The custom models on disk.
    pub fn models(&self) -> &ModelStore {
        &self.inner.models
    }

    /// How the service was started.
    pub fn settings(&self) -> &Settings {
        &self.inner.settings
    }

    /// The database.
    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    /// S3 over the home's files.
    pub(crate) fn s3(&self) -> &S3Service {
        &self.inner.s3
    }

    /// When the index was last brought up to date; held while that is done.
    pub(crate) fn last_sync(&self) -> MutexGuard<'_, Option<Instant>> {
        self.inner.last_sync.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the supervisor to look at the queue now.
    pub(crate) fn wake(&self) {
        // Without a supervisor nobody listens; the next one looks by itself.
        let _ = self.inner.wake.send(());
    }

    /// What [`AppState::wake`] sends, for the one supervisor; None for a second.
    pub(crate) fn woken(&self) -> Option<Receiver<()>> {
        self.inner.woken.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// `<home>/outcrop.db`.
fn database(home: &Home) -> PathBuf {
    home.root().join("outcrop.db")
}
