//! The custom models' table: an index of `<home>/models`, with what ARNs need.

use rusqlite::{Connection, OptionalExtension, Row, Transaction, named_params};

use super::{Store, words};
use crate::ApiError;

words! {
    /// Bedrock's status of a custom model.
    ModelStatus {
        /// It can be used.
        Active = "Active",
        /// It is being read.
        Creating = "Creating",
        /// It couldn't be read.
        Failed = "Failed",
    }
}

/// One custom model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelRow {
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
    /// The base in words: what stood in for it, where it is an alias.
    pub base_name: String,
    /// The job that made it; empty for one that was read from S3.
    pub job_id: String,
    /// Bedrock's customization type.
    pub customization: String,
    /// When it was made, in milliseconds since 1970.
    pub created: i64,
    /// Its status.
    pub status: ModelStatus,
    /// Why it couldn't be read.
    pub failure: Option<String>,
    /// What `model.json` looked like.
    pub seen: String,
}

const COLUMNS: &str =
    "id, name, region, account, base_id, base_name, job_id, customization, created, status, failure, seen";

fn row(row: &Row) -> rusqlite::Result<ModelRow> {
    Ok(ModelRow {
        id: row.get(0)?,
        name: row.get(1)?,
        region: row.get(2)?,
        account: row.get(3)?,
        base_id: row.get(4)?,
        base_name: row.get(5)?,
        job_id: row.get(6)?,
        customization: row.get(7)?,
        created: row.get(8)?,
        status: row.get(9)?,
        failure: row.get(10)?,
        seen: row.get(11)?,
    })
}

impl ModelRow {
    /// Writes the whole row, new or old.
    pub fn save(&self, transaction: &Transaction) -> Result<(), ApiError> {
        let mut statement = transaction.prepare_cached(&format!(
            "INSERT OR REPLACE INTO models ({COLUMNS}) VALUES (:id, :name, :region, :account, :base_id, :base_name, :job_id, \
             :customization, :created, :status, :failure, :seen)"
        ))?;
        statement.execute(named_params! {
            ":id": self.id, ":name": self.name, ":region": self.region, ":account": self.account,
            ":base_id": self.base_id, ":base_name": self.base_name, ":job_id": self.job_id, ":customization": self.customization,
            ":created": self.created, ":status": self.status, ":failure": self.failure, ":seen": self.seen,
        })?;
        Ok(())
    }

    /// The model with this id.
    pub fn find(connection: &Connection, id: &str) -> Result<Option<Self>, ApiError> {
        let mut statement = connection.prepare_cached(&format!("SELECT {COLUMNS} FROM models WHERE id = ?1"))?;
        Ok(statement.query_row([id], row).optional()?)
    }

    /// The model with this name.
    pub fn named(connection: &Connection, name: &str) -> Result<Option<Self>, ApiError> {
        let sql = format!("SELECT {COLUMNS} FROM models WHERE name = ?1 ORDER BY created DESC LIMIT 1");
        Ok(connection.prepare_cached(&sql)?.query_row([name], row).optional()?)
    }

    /// The model that this job made.
    pub fn of_job(connection: &Connection, job_id: &str) -> Result<Option<Self>, ApiError> {
        let sql = format!("SELECT {COLUMNS} FROM models WHERE job_id = ?1 LIMIT 1");
        Ok(connection.prepare_cached(&sql)?.query_row([job_id], row).optional()?)
    }

    /// Every model, the oldest first.
    pub fn all(connection: &Connection) -> Result<Vec<Self>, ApiError> {
        let mut statement = connection.prepare_cached(&format!("SELECT {COLUMNS} FROM models ORDER BY created, id"))?;
        Ok(statement.query_map([], row)?.collect::<Result<_, _>>()?)
    }
}

impl Store {
    /// Forgets a model and its tags.
    pub fn forget_model(&self, id: &str) -> Result<(), ApiError> {
        self.write(|transaction| {
            transaction.execute("DELETE FROM models WHERE id = ?1", [id])?;
            super::tags::clear(transaction, id)
        })
    }
}
