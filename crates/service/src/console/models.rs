//! The page of custom models: verdict, lineage, size on disk, who uses them, and how to delete one.

use axum::http::{HeaderMap, Method};
use minijinja::{Value, context};
use outcrop_job::describe::bytes;
use outcrop_job::prune::bytes_of;
use outcrop_job::{ModelRecord, timestamp};

use super::{Answer, jobs, templates, time};
use crate::operations::models;
use crate::store::{Endpoint, JobRow, ModelRow};
use crate::{ApiError, AppState};

/// Characters of a hash that are shown.
const HASH: usize = 12;

pub(super) fn list(state: &AppState) -> Result<Answer, ApiError> {
    state.sync()?;
    let mut models = state.models().list()?;
    models.reverse();
    let rows = models.iter().map(|model| row(state, model)).collect::<Result<Vec<Value>, ApiError>>()?;
    let body = templates::render("models.html", context! { rows })?;
    Ok(Answer::Page { section: "models", title: "Models".to_string(), body, live: None })
}

fn row(state: &AppState, model: &ModelRecord) -> Result<Value, ApiError> {
    let found = state.store().read(|store| ModelRow::find(store, &model.id))?;
    let arn = found.as_ref().map(models::model_arn);
    let user = match &arn {
        Some(arn) => state.store().read(|store| Endpoint::using(store, arn))?,
        None => None,
    };
    let has_job = state.store().read(|store| JobRow::find(store, &model.job_id))?.is_some();
    let headline = model.comparison.as_ref().and_then(|comparison| comparison.get("headline")?.as_str());
    let short = |hash: &str| hash.chars().take(HASH).collect::<String>();
    let data = model.training_data.iter().map(|file| {
        let name = file.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        format!("{name} ({})", short(&file.hash))
    });
    Ok(context! {
        id => &model.id, name => &model.name, headline, gate => &model.gate, arn,
        created => time(model.created),
        size => bytes(bytes_of(&state.models().dir(&model.id)?)?),
        base => format!("{} ({})", model.base.identifier, short(&model.base.hash)),
        base_name => found.map(|found| found.base_name),
        kind => model.customization_type.as_str(), job_id => &model.job_id, job_name => &model.job_name, has_job,
        data => data.collect::<Vec<_>>(), delta => short(&model.delta_hash), engine => &model.engine_version,
        user => user.map(|user| user.name),
        iso => timestamp::to_text(model.created),
    })
}

/// Deletes a model, as Bedrock's operation does.
pub(super) fn delete(state: &AppState, id: &str, headers: &HeaderMap) -> Result<Answer, ApiError> {
    state.sync()?;
    let found = state.store().read(|store| ModelRow::find(store, id))?;
    let model = found.ok_or_else(|| ApiError::not_found("There is no such model."))?;
    let segments = vec!["custom-models".to_string(), models::model_arn(&model)];
    models::delete(state, &jobs::call(state, Method::DELETE, segments, headers))?;
    Ok(Answer::redirect("/console/models"))
}
