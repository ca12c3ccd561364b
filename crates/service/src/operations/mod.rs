//! The operations of the control plane, one file a kind of resource.

mod create_evaluation;
mod create_job;
pub(crate) mod create_model;
pub(crate) mod endpoints;
pub(crate) mod evaluations;
pub(crate) mod foundation_models;
pub(crate) mod jobs;
pub(crate) mod models;
mod page;
pub(crate) mod tags;

pub(crate) use create_evaluation::create as create_evaluation;
pub(crate) use create_job::create as create_job;

use outcrop_job::request::Tag;
use outcrop_job::timestamp;
use serde_json::{Value, json};

use crate::store::time;
use crate::validation::{Problems, TAG_KEY, TAG_VALUE};

/// A time on the wire.
fn wire(milliseconds: i64) -> Value {
    json!(timestamp::to_text(time(milliseconds)))
}

/// An object without the members that are null.
fn object(value: Value) -> Value {
    match value {
        Value::Object(members) => members.into_iter().filter(|(_, value)| !value.is_null()).collect(),
        other => other,
    }
}

/// A list of tags in a body: shape, patterns, number. More than 50 are refused where they are stored.
fn read_tags(body: &Value, member: &str, problems: &mut Problems) -> Vec<Tag> {
    let Some(value) = body.get(member).filter(|value| !value.is_null()) else { return Vec::new() };
    let Ok(tags) = serde_json::from_value::<Vec<Tag>>(value.clone()) else {
        problems.add(member, None, "Member must be a list of tags, each with a key and a value");
        return Vec::new();
    };
    if tags.len() > 200 {
        problems.add(member, None, "Member must have length less than or equal to 200");
    }
    for (index, tag) in tags.iter().enumerate() {
        problems.text(&format!("{member}.{}.member.key", index + 1), &tag.key, &TAG_KEY);
        problems.text(&format!("{member}.{}.member.value", index + 1), &tag.value, &TAG_VALUE);
        if tags[..index].iter().any(|other| other.key == tag.key) {
            problems.add(member, Some(&tag.key), "Member must have unique keys");
        }
    }
    tags
}
