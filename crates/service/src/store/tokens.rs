//! Client request tokens: a repeated token gets the first answer again, across restarts too.

use rusqlite::{Connection, OptionalExtension, Transaction};

use super::now;
use crate::{ApiError, Caller};

/// The resource that this token made.
pub fn find(
    connection: &Connection,
    caller: &Caller,
    operation: &str,
    token: &str,
) -> Result<Option<String>, ApiError> {
    let sql = "SELECT resource FROM tokens WHERE account = ?1 AND region = ?2 AND operation = ?3 AND token = ?4";
    let mut statement = connection.prepare_cached(sql)?;
    let key = (&caller.account, &caller.region, operation, token);
    Ok(statement.query_row(key, |row| row.get(0)).optional()?)
}

/// Notes what a token made.
pub fn put(
    transaction: &Transaction,
    caller: &Caller,
    operation: &str,
    token: &str,
    resource: &str,
) -> Result<(), ApiError> {
    let mut statement = transaction.prepare_cached("INSERT INTO tokens VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?;
    statement.execute((&caller.account, &caller.region, operation, token, resource, now()))?;
    Ok(())
}
