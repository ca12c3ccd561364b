//! The evaluation jobs' table.

use outcrop_job::JobStatus;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, named_params};
use serde_json::Value;

use super::{Phase, Store, now};
use crate::ApiError;
use crate::evaluation::Work;

/// One evaluation job. Times are in milliseconds since 1970.
#[derive(Debug, Clone)]
pub struct Evaluation {
    /// The id of its folder and its ARN.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Region of its ARN.
    pub region: String,
    /// Account of its ARN.
    pub account: String,
    /// The request's body, of which Get gives most back.
    pub request: Value,
    /// What is to be done.
    pub work: Work,
    /// What the supervisor does with it.
    pub phase: Phase,
    /// Bedrock's status.
    pub status: JobStatus,
    /// When it was made.
    pub created: i64,
    /// When its status last changed.
    pub modified: i64,
    /// Why it failed.
    pub failure: Option<String>,
    /// Its process.
    pub pid: Option<u32>,
}

const COLUMNS: &str = "id, name, region, account, request, work, phase, status, created, modified, failure, pid";

fn json<T: serde::de::DeserializeOwned>(text: &str) -> rusqlite::Result<T> {
    let wrong = |error| rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error));
    serde_json::from_str(text).map_err(wrong)
}

fn row(row: &Row) -> rusqlite::Result<Evaluation> {
    Ok(Evaluation {
        id: row.get(0)?,
        name: row.get(1)?,
        region: row.get(2)?,
        account: row.get(3)?,
        request: json(&row.get::<_, String>(4)?)?,
        work: json(&row.get::<_, String>(5)?)?,
        phase: row.get(6)?,
        status: json(&format!("\"{}\"", row.get::<_, String>(7)?))?,
        created: row.get(8)?,
        modified: row.get(9)?,
        failure: row.get(10)?,
        pid: row.get(11)?,
    })
}

impl Evaluation {
    /// Writes the whole row, new or old.
    pub fn save(&self, transaction: &Transaction) -> Result<(), ApiError> {
        let mut statement = transaction.prepare_cached(&format!(
            "INSERT OR REPLACE INTO evaluations ({COLUMNS}) VALUES (:id, :name, :region, :account, :request, :work, \
             :phase, :status, :created, :modified, :failure, :pid)"
        ))?;
        statement.execute(named_params! {
            ":id": self.id, ":name": self.name, ":region": self.region, ":account": self.account,
            ":request": self.request.to_string(), ":work": serde_json::to_string(&self.work)?,
            ":phase": self.phase, ":status": self.status.as_str(), ":created": self.created,
            ":modified": self.modified, ":failure": self.failure, ":pid": self.pid,
        })?;
        Ok(())
    }

    /// The one with this id.
    pub fn find(connection: &Connection, id: &str) -> Result<Option<Self>, ApiError> {
        let mut statement = connection.prepare_cached(&format!("SELECT {COLUMNS} FROM evaluations WHERE id = ?1"))?;
        Ok(statement.query_row([id], row).optional()?)
    }

    /// Whether one has this name.
    pub fn is_named(connection: &Connection, name: &str) -> Result<bool, ApiError> {
        Ok(connection.prepare_cached("SELECT 1 FROM evaluations WHERE name = ?1")?.exists([name])?)
    }

    /// All of them, the oldest first.
    pub fn all(connection: &Connection) -> Result<Vec<Self>, ApiError> {
        let sql = format!("SELECT {COLUMNS} FROM evaluations ORDER BY created, rowid");
        Ok(connection.prepare_cached(&sql)?.query_map([], row)?.collect::<Result<_, _>>()?)
    }

    /// Those that haven't ended, the oldest first.
    pub fn unfinished(connection: &Connection) -> Result<Vec<Self>, ApiError> {
        let sql = format!("SELECT {COLUMNS} FROM evaluations WHERE phase <> 'ended' ORDER BY created, rowid");
        Ok(connection.prepare_cached(&sql)?.query_map([], row)?.collect::<Result<_, _>>()?)
    }

    /// Sets the status, and its time.
    pub fn turn(&mut self, status: JobStatus) {
        (self.status, self.modified) = (status, now());
        if status.is_final() {
            (self.phase, self.pid) = (Phase::Ended, None);
        }
    }

    /// Takes it away, with its tags.
    pub fn delete(&self, transaction: &Transaction) -> Result<(), ApiError> {
        transaction.execute("DELETE FROM evaluations WHERE id = ?1", [&self.id])?;
        super::tags::clear(transaction, &self.id)
    }
}

impl Store {
    /// Changes an evaluation job in one transaction; gives it as it then is, None where there is no such job.
    pub fn change_evaluation(
        &self,
        id: &str,
        change: impl FnOnce(&mut Evaluation),
    ) -> Result<Option<Evaluation>, ApiError> {
        self.write(|transaction| {
            let Some(mut found) = Evaluation::find(transaction, id)? else { return Ok(None) };
            change(&mut found);
            found.save(transaction)?;
            Ok(Some(found))
        })
    }
}
