//! `<home>/outcrop.db`: what the files of jobs and models don't hold (queue, names in ARNs, tags, request tokens,
//! deployments), and an index of what they do, so that a listing reads one table. Where the two differ, the files are
//! right and `crate::sync` mends the index. Several processes may have it open.

mod endpoints;
mod evaluations;
mod jobs;
mod models;
pub mod tags;
pub mod tokens;

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, Transaction, TransactionBehavior};

use crate::ApiError;

pub use endpoints::{Endpoint, EndpointKind, EndpointStatus};
pub use evaluations::Evaluation;
pub use jobs::{JobMark, JobRow, Origin, Phase};
pub use models::{ModelRow, ModelStatus};

/// How long a writer waits for another process's transaction.
const BUSY: Duration = Duration::from_secs(10);

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, region TEXT NOT NULL, account TEXT NOT NULL, base_id TEXT NOT NULL,
    model_name TEXT NOT NULL, request TEXT NOT NULL, origin TEXT NOT NULL, phase TEXT NOT NULL, status TEXT NOT NULL,
    created INTEGER NOT NULL, modified INTEGER NOT NULL, started INTEGER, planned INTEGER, ended INTEGER,
    failure TEXT, model_id TEXT, training_loss REAL, validation_losses TEXT NOT NULL DEFAULT '[]',
    pid INTEGER, seen TEXT NOT NULL DEFAULT '');
CREATE INDEX IF NOT EXISTS jobs_by_name ON jobs (name);
CREATE INDEX IF NOT EXISTS jobs_by_phase ON jobs (phase);
CREATE TABLE IF NOT EXISTS models (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, region TEXT NOT NULL, account TEXT NOT NULL, base_id TEXT NOT NULL,
    base_name TEXT NOT NULL, job_id TEXT NOT NULL, customization TEXT NOT NULL, created INTEGER NOT NULL, status TEXT NOT NULL, failure TEXT,
    seen TEXT NOT NULL DEFAULT '');
CREATE TABLE IF NOT EXISTS tags (
    resource TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (resource, key));
CREATE TABLE IF NOT EXISTS tokens (
    account TEXT NOT NULL, region TEXT NOT NULL, operation TEXT NOT NULL, token TEXT NOT NULL,
    resource TEXT NOT NULL, created INTEGER NOT NULL, PRIMARY KEY (account, region, operation, token));
CREATE TABLE IF NOT EXISTS endpoints (
    id TEXT PRIMARY KEY, kind TEXT NOT NULL, name TEXT NOT NULL, region TEXT NOT NULL, account TEXT NOT NULL,
    model TEXT NOT NULL, desired_model TEXT NOT NULL, base_id TEXT NOT NULL, status TEXT NOT NULL,
    units INTEGER NOT NULL DEFAULT 0, desired_units INTEGER NOT NULL DEFAULT 0, commitment TEXT, description TEXT,
    created INTEGER NOT NULL, modified INTEGER NOT NULL, failure TEXT);
CREATE TABLE IF NOT EXISTS evaluations (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, region TEXT NOT NULL, account TEXT NOT NULL, request TEXT NOT NULL,
    work TEXT NOT NULL, phase TEXT NOT NULL, status TEXT NOT NULL, created INTEGER NOT NULL,
    modified INTEGER NOT NULL, failure TEXT, pid INTEGER);
";

/// The database.
#[derive(Debug)]
pub struct Store {
    connection: Mutex<Connection>,
}

impl Store {
    /// Opens or makes the database.
    ///
    /// # Errors
    /// The file can't be made, or is no database.
    pub fn open(path: &Path) -> Result<Self, ApiError> {
        if let Some(folder) = path.parent() {
            fs_err::create_dir_all(folder)?;
        }
        let connection = Connection::open(path)?;
        connection.busy_timeout(BUSY)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        // A power cut may cost the last transaction otherwise, and with it a job that was answered for.
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.execute_batch(SCHEMA)?;
        Ok(Self { connection: Mutex::new(connection) })
    }

    /// Reads.
    pub fn read<T>(&self, action: impl FnOnce(&Connection) -> Result<T, ApiError>) -> Result<T, ApiError> {
        action(&self.connection.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads and writes in one transaction, which an error takes back.
    pub fn write<T>(&self, action: impl FnOnce(&Transaction) -> Result<T, ApiError>) -> Result<T, ApiError> {
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let done = action(&transaction)?;
        transaction.commit()?;
        Ok(done)
    }
}

/// Times are kept in milliseconds since 1970.
pub(crate) fn time(milliseconds: i64) -> Timestamp {
    // The numbers are written by `milliseconds`; another hand's become the beginning of time.
    Timestamp::from_millisecond(milliseconds).unwrap_or_default()
}

/// The present in milliseconds.
pub(crate) fn now() -> i64 {
    Timestamp::now().as_millisecond()
}

/// An enum that is kept as a word.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $($(#[$variant_meta])* $variant),+ }

        impl $name {
            /// The word for it.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            pub(crate) fn from_word(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)+ _ => None }
            }
        }

        impl rusqlite::types::FromSql for $name {
            fn column_result(value: rusqlite::types::ValueRef<'_>) -> rusqlite::types::FromSqlResult<Self> {
                Self::from_word(value.as_str()?).ok_or(rusqlite::types::FromSqlError::InvalidType)
            }
        }

        impl rusqlite::ToSql for $name {
            fn to_sql(&self) -> rusqlite::Result<rusqlite::types::ToSqlOutput<'_>> {
                Ok(self.as_str().into())
            }
        }
    };
}
pub(crate) use words;
