//! GetCustomModel, ListCustomModels, DeleteCustomModel.

use outcrop_job::{JobStatus, ModelRecord};
use serde_json::{Value, json};

use super::page::{CREATION, Item, Listing};
use super::{create_job, jobs, object, wire};
use crate::arn::{self, Kind};
use crate::call::{Call, Reply};
use crate::store::{Endpoint, JobRow, ModelRow, ModelStatus};
use crate::validation::Problems;
use crate::{ApiError, AppState};

const STATUSES: [&str; 3] = ["Active", "Creating", "Failed"];

/// The custom model that a caller names, by name or ARN. Errors: there is none.
pub(crate) fn find(state: &AppState, identifier: &str) -> Result<ModelRow, ApiError> {
    if identifier.is_empty() {
        let mut problems = Problems::default();
        problems.add("modelIdentifier", Some(""), "Member must have length greater than or equal to 1");
        problems.finish()?;
    }
    state.sync()?;
    let found = state.store().read(|store| match arn::parse(identifier) {
        Some((Kind::Model, id)) => ModelRow::find(store, id),
        Some(_) => Ok(None),
        None => ModelRow::named(store, identifier),
    })?;
    found.ok_or_else(|| ApiError::not_found(format!("Could not find custom model '{identifier}'.")))
}

/// The model's ARN.
pub(crate) fn model_arn(model: &ModelRow) -> String {
    arn::resource(Kind::Model, &model.region, &model.account, &model.base_id, &model.id)
}

/// The ARN of the model's base. That of an imported model is known by its files alone, and Bedrock has no form for it.
fn base_arn(model: &ModelRow) -> String {
    let id = if model.customization == "IMPORTED" { "local.imported" } else { &model.base_id };
    arn::foundation(&model.region, id)
}

/// Everything about one model.
pub(crate) fn get(state: &AppState, call: &Call) -> Result<Reply, ApiError> {
    let model = find(state, &call.segments[1])?;
    let mut body = json!({
        "modelArn": model_arn(&model),
        "modelName": model.name,
        "baseModelArn": base_arn(&model),
        "customizationType": model.customization,
        "creationTime": wire(model.created),
        "modelStatus": model.status.as_str(),
        "failureMessage": model.failure,
        "validationMetrics": [],
    });
    if model.status == ModelStatus::Active {
        let record = record(state, &model)?;
        let losses = record.metrics.validation.iter().map(|metric| metric.validation_loss);
        let losses = losses.filter(|loss| loss.is_finite()).map(|loss| json!({"validationLoss": loss}));
        body["validationMetrics"] = losses.collect();
        if record.metrics.training_loss.is_finite() {
            body["trainingMetrics"] = json!({"trainingLoss": record.metrics.training_loss});
        }
    }
    let job = state.store().read(|store| JobRow::find(store, &model.job_id))?;
    if let (Some(job), Value::Object(body)) = (job, &mut body) {
        body.insert("jobArn".into(), json!(jobs::job_arn(&job)));
        body.insert("jobName".into(), json!(job.name));
        if let Value::Object(echoed) = create_job::echo(&job.request) {
            let members = ["trainingDataConfig", "validationDataConfig", "outputDataConfig", "hyperParameters"];
            body.extend(echoed.into_iter().filter(|(member, _)| members.contains(&member.as_str())));
        }
    }
    Ok(Reply::ok(object(body)))
}

pub(crate) fn record(state: &AppState, model: &ModelRow) -> Result<ModelRecord, ApiError> {
    let path = state.models().dir(&model.id)?.join("model.json");
    Ok(serde_json::from_slice(&fs_err::read(path)?)?)
}

/// A page of models.
pub(crate) fn list(state: &AppState, call: &Call) -> Result<Reply, ApiError> {
    let listing = Listing::read(call, CREATION)?;
    let status = call.query("modelStatus");
    let mut problems = Problems::default();
    if let Some(status) = status.filter(|status| !STATUSES.contains(status)) {
        let set = format!("Member must satisfy enum value set: [{}]", STATUSES.join(", "));
        problems.add("modelStatus", Some(status), set);
    }
    let is_owned = call.query("isOwned");
    if let Some(text) = is_owned.filter(|text| !["true", "false"].contains(text)) {
        problems.add("isOwned", Some(text), "Member must be true or false");
    }
    problems.finish()?;
    state.sync()?;
    let bases = [call.query("baseModelArnEquals"), call.query("foundationModelArnEquals")];
    let models = state.store().read(ModelRow::all)?.into_iter().filter(|model| {
        let base = base_arn(model);
        // Every model here is the caller's own.
        is_owned != Some("false")
            && status.is_none_or(|status| model.status.as_str() == status)
            && bases.iter().flatten().all(|wanted| **wanted == base)
    });
    let items = models.map(|model| Item {
        created: model.created,
        id: model.id.clone(),
        name: model.name.clone(),
        value: model,
    });
    let (page, token) = listing.page(items.collect());
    let summaries: Vec<Value> = page.iter().map(summary).collect();
    Ok(Reply::ok(object(json!({"modelSummaries": summaries, "nextToken": token}))))
}

fn summary(model: &ModelRow) -> Value {
    json!({
        "modelArn": model_arn(model),
        "modelName": model.name,
        "creationTime": wire(model.created),
        "baseModelArn": base_arn(model),
        "baseModelName": model.base_name,
        "customizationType": model.customization,
        "ownerAccountId": model.account,
        "modelStatus": model.status.as_str(),
    })
}

/// Deletes a model: its folder, its row, its tags. Its job stays and keeps its `outputModelArn`.
pub(crate) fn delete(state: &AppState, call: &Call) -> Result<Reply, ApiError> {
    let model = find(state, &call.segments[1])?;
    let arn = model_arn(&model);
    if let Some(user) = state.store().read(|store| Endpoint::using(store, &arn))? {
        let message = format!("The model '{}' is used by '{}'; delete that first.", model.name, user.name);
        return Err(ApiError::conflict(message));
    }
    let job = state.store().read(|store| JobRow::find(store, &model.job_id))?;
    if let Some(job) = job.filter(|job| !job.status.is_final() && job.status != JobStatus::Completed) {
        let message = format!("The model '{}' is being made by the job '{}'.", model.name, job.name);
        return Err(ApiError::conflict(message));
    }
    match state.models().delete(&model.id) {
        Err(outcrop_job::model_store::ModelError::Unknown { .. }) => {}
        deleted => {
            deleted?;
        }
    }
    state.store().forget_model(&model.id)?;
    Ok(Reply::ok(json!({})))
}
