//! TagResource, UntagResource, ListTagsForResource.

use serde_json::{Value, json};

use super::read_tags;
use crate::arn::{self, Kind};
use crate::call::{Call, Reply};
use crate::store::{Endpoint, EndpointKind, Evaluation, JobRow, ModelRow, tags};
use crate::validation::{Problems, RESOURCE_ARN, TAG_KEY};
use crate::{ApiError, AppState};

/// The id of the resource with this ARN. Errors: there is none.
fn resource(state: &AppState, arn: &str) -> Result<String, ApiError> {
    let unknown = || ApiError::not_found(format!("Could not find the resource '{arn}'."));
    let (kind, id) = arn::parse(arn).ok_or_else(unknown)?;
    state.sync()?;
    let known = state.store().read(|store| {
        Ok(match kind {
            Kind::Job => JobRow::find(store, id)?.is_some(),
            Kind::Model => ModelRow::find(store, id)?.is_some(),
            Kind::Deployment => Endpoint::find(store, EndpointKind::Deployment, id)?.is_some(),
            Kind::Provisioned => Endpoint::find(store, EndpointKind::Provisioned, id)?.is_some(),
            Kind::Evaluation => Evaluation::find(store, id)?.is_some(),
        })
    })?;
    if known { Ok(id.to_string()) } else { Err(unknown()) }
}

/// Adds tags.
pub(crate) fn tag(state: &AppState, call: &Call) -> Result<Reply, ApiError> {
    let body = call.json()?;
    let mut problems = Problems::default();
    let arn = problems.required(&body, "resourceARN", &RESOURCE_ARN);
    if !body["tags"].is_array() {
        problems.add("tags", None, "Member must not be null");
    }
    let added = read_tags(&body, "tags", &mut problems);
    problems.finish()?;
    let id = resource(state, arn)?;
    state.store().write(|store| tags::put(store, &id, &added, arn))?;
    Ok(Reply::ok(json!({})))
}

/// Takes tags away.
pub(crate) fn untag(state: &AppState, call: &Call) -> Result<Reply, ApiError> {
    let body = call.json()?;
    let mut problems = Problems::default();
    let arn = problems.required(&body, "resourceARN", &RESOURCE_ARN);
    let mut keys = Vec::new();
    match &body["tagKeys"] {
        Value::Array(given) => {
            for key in given {
                let key = key.as_str().unwrap_or_default();
                problems.text("tagKeys", key, &TAG_KEY);
                keys.push(key.to_string());
            }
        }
        _ => problems.add("tagKeys", None, "Member must not be null"),
    }
    problems.finish()?;
    let id = resource(state, arn)?;
    state.store().write(|store| tags::remove(store, &id, &keys))?;
    Ok(Reply::ok(json!({})))
}

/// The tags of a resource.
pub(crate) fn list(state: &AppState, call: &Call) -> Result<Reply, ApiError> {
    let body = call.json()?;
    let mut problems = Problems::default();
    let arn = problems.required(&body, "resourceARN", &RESOURCE_ARN);
    problems.finish()?;
    let id = resource(state, arn)?;
    let tags = state.store().read(|store| tags::list(store, &id))?;
    Ok(Reply::ok(json!({"tags": tags})))
}
