//! What every request shares.

use std::sync::Arc;

use outcrop_job::{Home, ModelStore};

/// How the service was started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Region of ARNs where the request is unsigned.
    pub region: String,
    /// Account of ARNs, twelve digits.
    pub account: String,
    /// Most bytes of a body of the control plane.
    pub body_limit: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { region: "us-east-1".into(), account: "123456789012".into(), body_limit: 4 << 20 }
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
}

impl AppState {
    /// The state of a service over `home`.
    pub fn new(home: Home, settings: Settings) -> Self {
        let models = ModelStore::new(home.models_dir());
        Self { inner: Arc::new(Inner { home, models, settings }) }
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
}
