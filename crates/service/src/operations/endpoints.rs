//! Custom model deployments and provisioned throughput. A model on this machine is ready as soon as it is named, so both
//! are ready when they are made.

use axum::http::StatusCode;
use outcrop_job::aliases::{Aliases, Resolved};
use outcrop_job::home;
use serde_json::{Value, json};

use super::page::{CREATED, CREATION, Item, Listing};
use super::{models, object, read_tags, wire};
use crate::arn;
use crate::call::{Call, Reply};
use crate::store::EndpointKind::{Deployment, Provisioned};
use crate::store::{Endpoint, EndpointKind, EndpointStatus, ModelRow, now, tags, tokens};
use crate::validation::{DESCRIPTION, MODEL_ID, MODEL_NAME, Problems, TOKEN};
use crate::{ApiError, AppState};

/// What a caller names where a model is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A custom model, by its own name or ARN or by that of a deployment or of provisioned throughput.
    Custom(ModelRow),
    /// A base of this machine, by its id or ARN.
    Base(Resolved),
}

/// The model that `identifier` names: a deployment's, provisioned throughput's, custom or base model's name or ARN.
///
/// # Errors
/// There is none.
pub fn target(state: &AppState, identifier: &str) -> Result<Target, ApiError> {
    if let Some(base) = Aliases::read(state.home())?.resolve(identifier) {
        return Ok(Target::Base(base));
    }
    let id = arn::parse(identifier).map_or(identifier, |(_, id)| id);
    for kind in [Deployment, Provisioned] {
        if let Some(found) = state.store().read(|store| Endpoint::find(store, kind, id))? {
            return match Aliases::read(state.home())?.resolve(&found.model) {
                Some(base) => Ok(Target::Base(base)),
                None => Ok(Target::Custom(models::find(state, &found.model)?)),
            };
        }
    }
    Ok(Target::Custom(models::find(state, identifier)?))
}

/// ARN and base id of the model that a caller names.
fn model(state: &AppState, call: &Call, identifier: &str, bases_too: bool) -> Result<(String, String), ApiError> {
    if bases_too && let Some(base) = Aliases::read(state.home())?.resolve(identifier) {
        return Ok((arn::foundation(&call.caller.region, &base.id), base.id));
    }
    let model = models::find(state, identifier)?;
    Ok((models::model_arn(&model), model.base_id))
}

fn find(state: &AppState, kind: EndpointKind, identifier: &str) -> Result<Endpoint, ApiError> {
    let id = match arn::parse(identifier) {
        Some((found, id)) if found == kind.arn_kind() => id,
        _ => identifier,
    };
    let found = state.store().read(|store| Endpoint::find(store, kind, id))?;
    let what = kind.arn_kind().as_str();
    found.ok_or_else(|| ApiError::not_found(format!("Could not find {what} '{identifier}'.")))
}

/// The ARN of a deployment or of provisioned throughput.
pub(crate) fn endpoint_arn(endpoint: &Endpoint) -> String {
    arn::resource(endpoint.kind.arn_kind(), &endpoint.region, &endpoint.account, "", &endpoint.id)
}

struct Creation<'a> {
    kind: EndpointKind,
    operation: &'static str,
    name: &'a str,
    model: &'a str,
    units: i64,
    commitment: Option<&'a str>,
    description: Option<&'a str>,
    token: Option<&'a str>,
    tags: Vec<outcrop_job::request::Tag>,
}

/// Makes the row; gives its ARN, or that of the call that had the same token.
fn create(state: &AppState, call: &Call, new: Creation) -> Result<String, ApiError> {
    if let Some(token) = new.token
        && let Some(arn) = state.store().read(|store| tokens::find(store, &call.caller, new.operation, token))?
    {
        return Ok(arn);
    }
    let (model, base_id) = model(state, call, new.model, new.kind == Provisioned)?;
    let time = now();
    let endpoint = Endpoint {
        id: home::new_id()?,
        kind: new.kind,
        name: new.name.to_string(),
        region: call.caller.region.clone(),
        account: call.caller.account.clone(),
        model: model.clone(),
        desired_model: model,
        base_id,
        status: EndpointStatus::Ready,
        units: new.units,
        desired_units: new.units,
        commitment: new.commitment.map(str::to_string),
        description: new.description.map(str::to_string),
        created: time,
        modified: time,
        failure: None,
    };
    let arn = endpoint_arn(&endpoint);
    state.store().write(|store| {
        if let Some(token) = new.token
            && let Some(former) = tokens::find(store, &call.caller, new.operation, token)?
        {
            return Ok(former);
        }
        if Endpoint::find(store, new.kind, &endpoint.name)?.is_some() {
            let message = format!("The provided name '{}' is currently in use.", endpoint.name);
            return Err(ApiError::validation(message));
        }
        endpoint.save(store)?;
        tags::put(store, &endpoint.id, &new.tags, &arn)?;
        if let Some(token) = new.token {
            tokens::put(store, &call.caller, new.operation, token, &arn)?;
        }
        Ok(arn.clone())
    })
}

/// CreateCustomModelDeployment: 202.
pub(crate) fn create_deployment(state: &AppState, call: &Call) -> Result<Reply, ApiError> {
    let body = call.json()?;
    let mut problems = Problems::default();
    let new = Creation {
        kind: Deployment,
        operation: "CreateCustomModelDeployment",
        name: problems.required(&body, "modelDeploymentName", &MODEL_NAME),
        model: problems.required(&body, "modelArn", &MODEL_ID),
        units: 0,
        commitment: None,
        description: problems.optional(&body, "description", &DESCRIPTION),
        token: problems.optional(&body, "clientRequestToken", &TOKEN),
        tags: read_tags(&body, "tags", &mut problems),
    };
    problems.finish()?;
    let arn = create(state, call, new)?;
    Ok(Reply::with(StatusCode::ACCEPTED, json!({"customModelDeploymentArn": arn})))
}

/// CreateProvisionedModelThroughput: 201.
pub(crate) fn create_provisioned(state: &AppState, call: &Call) -> Result<Reply, ApiError> {
    let body = call.json()?;
    let mut problems = Problems::default();
    let units = body["modelUnits"].as_i64().filter(|units| *units >= 1);
    if units.is_none() {
        problems.add("modelUnits", None, "Member must have value greater than or equal to 1");
    }
    let new = Creation {
        kind: Provisioned,
        operation: "CreateProvisionedModelThroughput",
        name: problems.required(&body, "provisionedModelName", &MODEL_NAME),
        model: problems.required(&body, "modelId", &MODEL_ID),
        units: units.unwrap_or(1),
        commitment: problems.one_of(&body, "commitmentDuration", &["OneMonth", "SixMonths"]),
        description: None,
        token: problems.optional(&body, "clientRequestToken", &TOKEN),
        tags: read_tags(&body, "tags", &mut problems),
    };
    problems.finish()?;
    let arn = create(state, call, new)?;
    Ok(Reply::with(StatusCode::CREATED, json!({"provisionedModelArn": arn})))
}

fn deployment_status(endpoint: &Endpoint) -> &'static str {
    match endpoint.status {
        EndpointStatus::Ready => "Active",
        EndpointStatus::Failed => "Failed",
    }
}

fn provisioned_status(endpoint: &Endpoint) -> &'static str {
    match endpoint.status {
        EndpointStatus::Ready => "InService",
        EndpointStatus::Failed => "Failed",
    }
}

/// GetCustomModelDeployment.
pub(crate) fn get_deployment(state: &AppState, call: &Call) -> Result<Reply, ApiError> {
    let found = find(state, Deployment, &call.segments[2])?;
    Ok(Reply::ok(object(json!({
        "customModelDeploymentArn": endpoint_arn(&found),
        "modelDeploymentName": found.name,
        "modelArn": found.model,
        "createdAt": wire(found.created),
        "lastUpdatedAt": wire(found.modified),
        "status": deployment_status(&found),
        "description": found.description,
        "failureMessage": found.failure,
    }))))
}

/// GetProvisionedModelThroughput.
pub(crate) fn get_provisioned(state: &AppState, call: &Call) -> Result<Reply, ApiError> {
    Ok(Reply::ok(provisioned(&find(state, Provisioned, &call.segments[1])?)))
}

fn provisioned(found: &Endpoint) -> Value {
    object(json!({
        "modelUnits": found.units,
        "desiredModelUnits": found.desired_units,
        "provisionedModelName": found.name,
        "provisionedModelArn": endpoint_arn(found),
        "modelArn": found.model,
        "desiredModelArn": found.desired_model,
        "foundationModelArn": arn::foundation(&found.region, &found.base_id),
        "status": provisioned_status(found),
        "creationTime": wire(found.created),
        "lastModifiedTime": wire(found.modified),
        "failureMessage": found.failure,
        "commitmentDuration": found.commitment,
    }))
}

/// UpdateCustomModelDeployment: another model behind the same name; 202.
pub(crate) fn update_deployment(state: &AppState, call: &Call) -> Result<Reply, ApiError> {
    let body = call.json()?;
    let mut problems = Problems::default();
    let wanted = problems.required(&body, "modelArn", &MODEL_ID);
    problems.finish()?;
    let mut found = find(state, Deployment, &call.segments[2])?;
    (found.model, found.base_id) = model(state, call, wanted, false)?;
    found.desired_model = found.model.clone();
    found.modified = now();
    state.store().write(|store| found.save(store))?;
    Ok(Reply::with(StatusCode::ACCEPTED, json!({"customModelDeploymentArn": endpoint_arn(&found)})))
}

/// UpdateProvisionedModelThroughput: another name, another model.
pub(crate) fn update_provisioned(state: &AppState, call: &Call) -> Result<Reply, ApiError> {
    let body = call.json()?;
    let mut problems = Problems::default();
    let name = problems.optional(&body, "desiredProvisionedModelName", &MODEL_NAME);
    let wanted = problems.optional(&body, "desiredModelId", &MODEL_ID);
    problems.finish()?;
    let mut found = find(state, Provisioned, &call.segments[1])?;
    if let Some(wanted) = wanted {
        (found.model, found.base_id) = model(state, call, wanted, true)?;
        found.desired_model = found.model.clone();
    }
    state.store().write(|store| {
        if let Some(name) = name {
            if Endpoint::find(store, Provisioned, name)?.is_some_and(|other| other.id != found.id) {
                return Err(ApiError::validation(format!("The provided name '{name}' is currently in use.")));
            }
            found.name = name.to_string();
        }
        found.modified = now();
        found.save(store)
    })?;
    Ok(Reply::ok(json!({})))
}

/// DeleteCustomModelDeployment.
pub(crate) fn delete_deployment(state: &AppState, call: &Call) -> Result<Reply, ApiError> {
    delete(state, Deployment, &call.segments[2])
}

/// DeleteProvisionedModelThroughput.
pub(crate) fn delete_provisioned(state: &AppState, call: &Call) -> Result<Reply, ApiError> {
    delete(state, Provisioned, &call.segments[1])
}

fn delete(state: &AppState, kind: EndpointKind, identifier: &str) -> Result<Reply, ApiError> {
    let found = find(state, kind, identifier)?;
    state.store().write(|store| found.delete(store))?;
    Ok(Reply::ok(json!({})))
}

fn items(state: &AppState, kind: EndpointKind) -> Result<Vec<Item<Endpoint>>, ApiError> {
    let all = state.store().read(|store| Endpoint::all(store, kind))?;
    let item = |endpoint: Endpoint| Item {
        created: endpoint.created,
        id: endpoint.id.clone(),
        name: endpoint.name.clone(),
        value: endpoint,
    };
    Ok(all.into_iter().map(item).collect())
}

/// Whether a query parameter, where it is given, is this.
fn is(call: &Call, parameter: &str, value: &str) -> bool {
    call.query(parameter).is_none_or(|wanted| wanted == value)
}

/// ListCustomModelDeployments.
pub(crate) fn list_deployments(state: &AppState, call: &Call) -> Result<Reply, ApiError> {
    let listing = Listing::read(call, CREATED)?;
    let mut items = items(state, Deployment)?;
    items.retain(|item| {
        is(call, "statusEquals", deployment_status(&item.value)) && is(call, "modelArnEquals", &item.value.model)
    });
    let (page, token) = listing.page(items);
    let summaries = page.iter().map(|found| {
        object(json!({
            "customModelDeploymentArn": endpoint_arn(found),
            "customModelDeploymentName": found.name,
            "modelArn": found.model,
            "createdAt": wire(found.created),
            "lastUpdatedAt": wire(found.modified),
            "status": deployment_status(found),
            "failureMessage": found.failure,
        }))
    });
    let summaries: Vec<Value> = summaries.collect();
    Ok(Reply::ok(object(json!({"modelDeploymentSummaries": summaries, "nextToken": token}))))
}

/// ListProvisionedModelThroughputs.
pub(crate) fn list_provisioned(state: &AppState, call: &Call) -> Result<Reply, ApiError> {
    let listing = Listing::read(call, CREATION)?;
    let mut items = items(state, Provisioned)?;
    items.retain(|item| {
        is(call, "statusEquals", provisioned_status(&item.value)) && is(call, "modelArnEquals", &item.value.model)
    });
    let (page, token) = listing.page(items);
    let summaries = page.iter().map(|found| match provisioned(found) {
        Value::Object(mut members) => {
            members.remove("failureMessage");
            Value::Object(members)
        }
        other => other,
    });
    let summaries: Vec<Value> = summaries.collect();
    Ok(Reply::ok(object(json!({"provisionedModelSummaries": summaries, "nextToken": token}))))
}
