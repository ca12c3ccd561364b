//! The jobs' table.

use outcrop_job::{JobStatus, Request};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, named_params};

use super::{Store, now, words};
use crate::ApiError;

words! {
    /// Who began a job.
    Origin {
        /// This service: it starts the job's process.
        Service = "service",
        /// `outcrop train`: the service only tells of it.
        Command = "command",
    }
}

words! {
    /// What the supervisor does with a job.
    Phase {
        /// It waits for a slot.
        Waiting = "waiting",
        /// Its process was started and hasn't been seen to end.
        Running = "running",
        /// Nothing more.
        Ended = "ended",
    }
}

/// One job. Times are in milliseconds since 1970.
#[derive(Debug, Clone)]
pub struct JobRow {
    /// The id of its folder and its ARN.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Region of its ARN.
    pub region: String,
    /// Account of its ARN.
    pub account: String,
    /// Id of its base in ARNs.
    pub base_id: String,
    /// Name of the model it makes.
    pub model_name: String,
    /// The request.
    pub request: Request,
    /// Who began it.
    pub origin: Origin,
    /// What the supervisor does with it.
    pub phase: Phase,
    /// Bedrock's status.
    pub status: JobStatus,
    /// When it was made.
    pub created: i64,
    /// When its status last changed.
    pub modified: i64,
    /// When its process first began.
    pub started: Option<i64>,
    /// When its data were checked and its plan stood.
    pub planned: Option<i64>,
    /// When it ended.
    pub ended: Option<i64>,
    /// Why it failed.
    pub failure: Option<String>,
    /// The model it made.
    pub model_id: Option<String>,
    /// Loss of its last step.
    pub training_loss: Option<f64>,
    /// Last loss of each validation set.
    pub validation_losses: Vec<f64>,
    /// Its process.
    pub pid: Option<u32>,
    /// What the files looked like when the row was last read off them.
    pub seen: String,
}

const COLUMNS: &str = "id, name, region, account, base_id, model_name, request, origin, phase, status, created, modified, \
                       started, planned, ended, failure, model_id, training_loss, validation_losses, pid, seen";

/// JSON in a column.
fn json<T: serde::de::DeserializeOwned>(text: &str) -> rusqlite::Result<T> {
    let wrong = |error| rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error));
    serde_json::from_str(text).map_err(wrong)
}

fn row(row: &Row) -> rusqlite::Result<JobRow> {
    Ok(JobRow {
        id: row.get(0)?,
        name: row.get(1)?,
        region: row.get(2)?,
        account: row.get(3)?,
        base_id: row.get(4)?,
        model_name: row.get(5)?,
        request: json(&row.get::<_, String>(6)?)?,
        origin: row.get(7)?,
        phase: row.get(8)?,
        status: json(&format!("\"{}\"", row.get::<_, String>(9)?))?,
        created: row.get(10)?,
        modified: row.get(11)?,
        started: row.get(12)?,
        planned: row.get(13)?,
        ended: row.get(14)?,
        failure: row.get(15)?,
        model_id: row.get(16)?,
        training_loss: row.get(17)?,
        validation_losses: json(&row.get::<_, String>(18)?)?,
        pid: row.get(19)?,
        seen: row.get(20)?,
    })
}

/// What a listing and the look at the files need of a job.
#[derive(Debug, Clone)]
pub struct JobMark {
    /// The job.
    pub id: String,
    /// What the supervisor does with it.
    pub phase: Phase,
    /// Who began it.
    pub origin: Origin,
    /// Whether its status is final.
    pub is_final: bool,
    /// What its files looked like.
    pub seen: String,
}

impl JobRow {
    /// Writes the whole row, new or old.
    pub fn save(&self, transaction: &Transaction) -> Result<(), ApiError> {
        let mut statement = transaction.prepare_cached(&format!(
            "INSERT OR REPLACE INTO jobs ({COLUMNS}) VALUES (:id, :name, :region, :account, :base_id, :model_name, \
             :request, :origin, :phase, :status, :created, :modified, :started, :planned, :ended, :failure, :model_id, \
             :training_loss, :validation_losses, :pid, :seen)"
        ))?;
        // A loss that isn't finite has no number in JSON.
        let losses: Vec<f64> = self.validation_losses.iter().copied().filter(|loss| loss.is_finite()).collect();
        statement.execute(named_params! {
            ":id": self.id, ":name": self.name, ":region": self.region, ":account": self.account,
            ":base_id": self.base_id, ":model_name": self.model_name,
            ":request": serde_json::to_string(&self.request)?, ":origin": self.origin, ":phase": self.phase,
            ":status": self.status.as_str(), ":created": self.created, ":modified": self.modified,
            ":started": self.started, ":planned": self.planned, ":ended": self.ended, ":failure": self.failure,
            ":model_id": self.model_id, ":training_loss": self.training_loss,
            ":validation_losses": serde_json::to_string(&losses)?, ":pid": self.pid, ":seen": self.seen,
        })?;
        Ok(())
    }

    /// The job with this id.
    pub fn find(connection: &Connection, id: &str) -> Result<Option<Self>, ApiError> {
        let mut statement = connection.prepare_cached(&format!("SELECT {COLUMNS} FROM jobs WHERE id = ?1"))?;
        Ok(statement.query_row([id], row).optional()?)
    }

    /// The newest job with this name.
    pub fn named(connection: &Connection, name: &str) -> Result<Option<Self>, ApiError> {
        let sql = format!("SELECT {COLUMNS} FROM jobs WHERE name = ?1 ORDER BY created DESC, rowid DESC LIMIT 1");
        Ok(connection.prepare_cached(&sql)?.query_row([name], row).optional()?)
    }

    /// Every job, the oldest first.
    pub fn all(connection: &Connection) -> Result<Vec<Self>, ApiError> {
        let mut statement =
            connection.prepare_cached(&format!("SELECT {COLUMNS} FROM jobs ORDER BY created, rowid"))?;
        Ok(statement.query_map([], row)?.collect::<Result<_, _>>()?)
    }

    /// The jobs in a phase, the oldest first.
    pub fn in_phase(connection: &Connection, phase: Phase) -> Result<Vec<Self>, ApiError> {
        let sql = format!("SELECT {COLUMNS} FROM jobs WHERE phase = ?1 ORDER BY created, rowid");
        let mut statement = connection.prepare_cached(&sql)?;
        Ok(statement.query_map([phase], row)?.collect::<Result<_, _>>()?)
    }

    /// Whether a job that may still make a model wants to give it this name.
    pub fn is_model_name_wanted(connection: &Connection, name: &str) -> Result<bool, ApiError> {
        let sql = "SELECT 1 FROM jobs WHERE model_name = ?1 AND status IN ('InProgress', 'Stopping')";
        Ok(connection.prepare_cached(sql)?.exists([name])?)
    }

    /// Sets the status, and its times.
    pub fn turn(&mut self, status: JobStatus) {
        let time = now();
        self.status = status;
        self.modified = time;
        if status.is_final() {
            self.phase = Phase::Ended;
            self.ended = Some(time);
            self.pid = None;
        }
    }
}

impl Store {
    /// A mark of every job.
    pub fn job_marks(&self) -> Result<Vec<JobMark>, ApiError> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached("SELECT id, phase, origin, status, seen FROM jobs")?;
            let marks = statement.query_map([], |row| {
                let status: String = row.get(3)?;
                let is_final = ["Completed", "Failed", "Stopped"].contains(&status.as_str());
                Ok(JobMark { id: row.get(0)?, phase: row.get(1)?, origin: row.get(2)?, is_final, seen: row.get(4)? })
            })?;
            Ok(marks.collect::<Result<_, _>>()?)
        })
    }

    /// Takes a waiting job for this process to start; false where it was stopped or taken meanwhile.
    pub fn take_waiting(&self, id: &str) -> Result<bool, ApiError> {
        self.write(|transaction| {
            let sql = "UPDATE jobs SET phase = 'running', started = ?2 WHERE id = ?1 AND phase = 'waiting'";
            Ok(transaction.prepare_cached(sql)?.execute((id, now()))? == 1)
        })
    }

    /// Notes a job's process.
    pub fn set_pid(&self, id: &str, pid: u32) -> Result<(), ApiError> {
        self.write(|transaction| {
            transaction.prepare_cached("UPDATE jobs SET pid = ?2 WHERE id = ?1")?.execute((id, pid))?;
            Ok(())
        })
    }

    /// Changes a job in one transaction; gives it as it then is, None where there is no such job.
    pub fn change_job(&self, id: &str, change: impl FnOnce(&mut JobRow)) -> Result<Option<JobRow>, ApiError> {
        self.write(|transaction| {
            let Some(mut job) = JobRow::find(transaction, id)? else { return Ok(None) };
            change(&mut job);
            job.save(transaction)?;
            Ok(Some(job))
        })
    }

    /// Forgets a job whose folder is gone.
    pub fn forget_job(&self, id: &str) -> Result<(), ApiError> {
        self.write(|transaction| {
            transaction.execute("DELETE FROM jobs WHERE id = ?1", [id])?;
            Ok(())
        })
    }
}
