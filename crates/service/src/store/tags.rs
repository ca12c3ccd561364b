//! Tags by the id of what they are on: ids are unique over all kinds of resources.

use outcrop_job::request::Tag;
use rusqlite::{Connection, Transaction};

use crate::ApiError;

/// Bedrock's most tags on one resource.
const MOST: usize = 50;

/// The tags of a resource, by key.
pub fn list(connection: &Connection, id: &str) -> Result<Vec<Tag>, ApiError> {
    let mut statement = connection.prepare_cached("SELECT key, value FROM tags WHERE resource = ?1 ORDER BY key")?;
    let tags = statement.query_map([id], |row| Ok(Tag { key: row.get(0)?, value: row.get(1)? }))?;
    Ok(tags.collect::<Result<_, _>>()?)
}

/// Adds tags or changes their values; `name` is the resource's in an error. Errors: more than fifty then.
pub fn put(transaction: &Transaction, id: &str, tags: &[Tag], name: &str) -> Result<(), ApiError> {
    let mut statement = transaction.prepare_cached("INSERT OR REPLACE INTO tags VALUES (?1, ?2, ?3)")?;
    for tag in tags {
        statement.execute((id, &tag.key, &tag.value))?;
    }
    let count = list(transaction, id)?.len();
    if count > MOST { Err(ApiError::too_many_tags(name, count)) } else { Ok(()) }
}

/// Takes tags away; keys that aren't there are passed over.
pub fn remove(transaction: &Transaction, id: &str, keys: &[String]) -> Result<(), ApiError> {
    let mut statement = transaction.prepare_cached("DELETE FROM tags WHERE resource = ?1 AND key = ?2")?;
    for key in keys {
        statement.execute((id, key))?;
    }
    Ok(())
}

/// Takes all tags of a resource away.
pub fn clear(transaction: &Transaction, id: &str) -> Result<(), ApiError> {
    transaction.execute("DELETE FROM tags WHERE resource = ?1", [id])?;
    Ok(())
}
