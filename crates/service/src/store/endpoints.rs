//! Deployments and provisioned throughput: names under which a model can be asked. On one machine both are a row.

use rusqlite::{Connection, OptionalExtension, Row, Transaction, named_params};

use super::words;
use crate::ApiError;
use crate::arn::Kind;

words! {
    /// Which of the two.
    EndpointKind {
        /// A custom model deployment.
        Deployment = "deployment",
        /// Provisioned throughput.
        Provisioned = "provisioned",
    }
}

words! {
    /// The status; it is worded by kind.
    EndpointStatus {
        /// `Active` or `InService`.
        Ready = "ready",
        /// `Failed`.
        Failed = "failed",
    }
}

impl EndpointKind {
    /// The kind of its ARN.
    pub fn arn_kind(self) -> Kind {
        match self {
            Self::Deployment => Kind::Deployment,
            Self::Provisioned => Kind::Provisioned,
        }
    }
}

/// One deployment or provisioned throughput. Times are in milliseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The id in its ARN.
    pub id: String,
    /// Which kind.
    pub kind: EndpointKind,
    /// Its name.
    pub name: String,
    /// Region of its ARN.
    pub region: String,
    /// Account of its ARN.
    pub account: String,
    /// ARN of the model.
    pub model: String,
    /// ARN of the model it was last set to.
    pub desired_model: String,
    /// Id of the model's base in ARNs.
    pub base_id: String,
    /// Its status.
    pub status: EndpointStatus,
    /// Model units; 0 for a deployment.
    pub units: i64,
    /// Model units it was last set to.
    pub desired_units: i64,
    /// `OneMonth` or `SixMonths`, kept and echoed.
    pub commitment: Option<String>,
    /// The user's words.
    pub description: Option<String>,
    /// When it was made.
    pub created: i64,
    /// When it was last changed.
    pub modified: i64,
    /// Why it failed.
    pub failure: Option<String>,
}

const COLUMNS: &str = "id, kind, name, region, account, model, desired_model, base_id, status, units, desired_units, \
                       commitment, description, created, modified, failure";

fn row(row: &Row) -> rusqlite::Result<Endpoint> {
    Ok(Endpoint {
        id: row.get(0)?,
        kind: row.get(1)?,
        name: row.get(2)?,
        region: row.get(3)?,
        account: row.get(4)?,
        model: row.get(5)?,
        desired_model: row.get(6)?,
        base_id: row.get(7)?,
        status: row.get(8)?,
        units: row.get(9)?,
        desired_units: row.get(10)?,
        commitment: row.get(11)?,
        description: row.get(12)?,
        created: row.get(13)?,
        modified: row.get(14)?,
        failure: row.get(15)?,
    })
}

impl Endpoint {
    /// Writes the whole row, new or old.
    pub fn save(&self, transaction: &Transaction) -> Result<(), ApiError> {
        let mut statement = transaction.prepare_cached(&format!(
            "INSERT OR REPLACE INTO endpoints ({COLUMNS}) VALUES (:id, :kind, :name, :region, :account, :model, \
             :desired_model, :base_id, :status, :units, :desired_units, :commitment, :description, :created, \
             :modified, :failure)"
        ))?;
        statement.execute(named_params! {
            ":id": self.id, ":kind": self.kind, ":name": self.name, ":region": self.region, ":account": self.account,
            ":model": self.model, ":desired_model": self.desired_model, ":base_id": self.base_id,
            ":status": self.status, ":units": self.units, ":desired_units": self.desired_units,
            ":commitment": self.commitment, ":description": self.description, ":created": self.created,
            ":modified": self.modified, ":failure": self.failure,
        })?;
        Ok(())
    }

    /// The one of this kind with this id or name.
    pub fn find(connection: &Connection, kind: EndpointKind, id_or_name: &str) -> Result<Option<Self>, ApiError> {
        let sql =
            format!("SELECT {COLUMNS} FROM endpoints WHERE kind = ?1 AND (id = ?2 OR name = ?2) ORDER BY id = ?2 DESC");
        Ok(connection.prepare_cached(&sql)?.query_row((kind, id_or_name), row).optional()?)
    }

    /// All of a kind, the oldest first.
    pub fn all(connection: &Connection, kind: EndpointKind) -> Result<Vec<Self>, ApiError> {
        let sql = format!("SELECT {COLUMNS} FROM endpoints WHERE kind = ?1 ORDER BY created, rowid");
        let mut statement = connection.prepare_cached(&sql)?;
        Ok(statement.query_map([kind], row)?.collect::<Result<_, _>>()?)
    }

    /// The first that uses a model's ARN, if one does.
    pub fn using(connection: &Connection, model_arn: &str) -> Result<Option<Self>, ApiError> {
        let sql = format!("SELECT {COLUMNS} FROM endpoints WHERE model = ?1 OR desired_model = ?1 LIMIT 1");
        Ok(connection.prepare_cached(&sql)?.query_row([model_arn], row).optional()?)
    }

    /// Takes it away, with its tags.
    pub fn delete(&self, transaction: &Transaction) -> Result<(), ApiError> {
        transaction.execute("DELETE FROM endpoints WHERE id = ?1", [&self.id])?;
        super::tags::clear(transaction, &self.id)
    }
}
