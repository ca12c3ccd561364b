//! The process of the service: one for a home, a socket, the supervisor, an end on Ctrl-C that leaves jobs running.

use std::net::SocketAddr;
use std::path::PathBuf;

use outcrop_job::Home;
use outcrop_job::claim::Claim;

use crate::connections;
use crate::operations::create_model;
use crate::supervisor::Supervisor;
use crate::{ApiError, AppState, Launch, Settings, app};

/// What `outcrop serve` is given.
pub struct Options {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Region and account of ARNs, limits.
    pub settings: Settings,
    /// How jobs are run.
    pub launch: Launch,
    /// Gets the address once connections are accepted.
    pub ready: Box<dyn FnOnce(SocketAddr) + Send>,
}

/// Why there is no service.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The socket, the disk.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The address is taken or isn't this machine's.
    #[error("can't listen on {address}: {source}; choose another with --listen")]
    Listen {
        /// As asked for.
        address: SocketAddr,
        /// The system's reason.
        source: std::io::Error,
    },
    /// Other machines would be let in.
    #[error(
        "--listen {0} would let other machines in, and callers aren't checked; give --credentials FILE, or use a loopback address such as 127.0.0.1"
    )]
    Open(SocketAddr),
    /// Another service has this home.
    #[error("another service runs on `{}`; stop it or set OUTCROP_HOME to another folder", .0.display())]
    Running(PathBuf),
    /// The database.
    #[error("{0}")]
    State(#[from] ApiError),
}

/// Serves until Ctrl-C or SIGTERM. Jobs run on without the service, and the next one finds them.
///
/// # Errors
/// An open address without credentials, another service has the home, the address can't be had, the database can't be opened.
pub fn serve(home: Home, options: Options) -> Result<(), ServeError> {
    if !options.listen.ip().is_loopback() && options.settings.credentials.is_none() {
        return Err(ServeError::Open(options.listen));
    }
    let _claim = claim(&home)?;
    let state = AppState::open(home, options.settings)?;
    state.sync()?;
    create_model::fail_unfinished(&state)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let address = options.listen;
        let listener = tokio::net::TcpListener::bind(address);
        let listener = listener.await.map_err(|source| ServeError::Listen { address, source })?;
        let address = listener.local_addr()?;
        (options.ready)(address);
        Supervisor::start(state.clone(), options.launch);
        let end = async {
            stopped().await;
            state.end();
        };
        connections::answer(listener, app(state.clone()), end).await;
        Ok(())
    })
}

/// The claim on a home, until it is dropped or the process ends.
fn claim(home: &Home) -> Result<Claim, ServeError> {
    fs_err::create_dir_all(home.root())?;
    Claim::take(&lock_path(home))?.ok_or_else(|| ServeError::Running(home.root().to_path_buf()))
}

fn lock_path(home: &Home) -> PathBuf {
    home.root().join("serve.lock")
}

/// Whether a service runs on this home.
///
/// # Errors
/// The disk.
pub fn is_running(home: &Home) -> Result<bool, ServeError> {
    Ok(Claim::is_taken(&lock_path(home))?)
}

/// Runs the jobs that wait, on this thread, until the job `id` has ended: what `serve` does for a home, for one that has
/// no service. `each` is called some ten times a second.
///
/// # Errors
/// A service has the home; the database or the disk fails; what `each` says.
pub fn run_to_end(
    state: &AppState,
    launch: Launch,
    id: &str,
    each: &mut dyn FnMut() -> Result<(), ApiError>,
) -> Result<(), ServeError> {
    let _claim = claim(state.home())?;
    Ok(Supervisor::run_until(state.clone(), launch, id, each)?)
}

async fn stopped() {
    #[cfg(unix)]
    let terminate = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => {
                signal.recv().await;
            }
            Err(_) => std::future::pending().await,
        }
    };
    #[cfg(not(unix))]
    let terminate = std::future::pending::<()>();
    tokio::select! {
        // Without a handler the signal ends the process by itself.
        Ok(()) = tokio::signal::ctrl_c() => {}
        () = terminate => {}
    }
}
