//! CreateCustomModel: a model from the `model_artifacts` of a job, read while the caller polls.

use axum::http::StatusCode;
use outcrop_job::{artifacts, home};
use serde_json::json;

use super::{models, read_tags};
use crate::call::{Call, Reply};
use crate::store::{JobRow, ModelRow, ModelStatus, now, tags, tokens};
use crate::validation::{MODEL_NAME, Problems, S3_URI, TOKEN};
use crate::{ApiError, AppState};

const OPERATION: &str = "CreateCustomModel";
/// What takes a base's place in the ARN of an imported model.
const IMPORTED: &str = "imported";

/// Answers at once; the model is `Creating` until its files are read.
pub(crate) fn create(state: &AppState, call: &Call) -> Result<Reply, ApiError> {
    let body = call.json()?;
    let mut problems = Problems::default();
    let name = problems.required(&body, "modelName", &MODEL_NAME);
    let token = problems.optional(&body, "clientRequestToken", &TOKEN);
    let source = &body["modelSourceConfig"]["s3DataSource"];
    let uri = problems.required(source, "s3Uri", &S3_URI);
    let model_tags = read_tags(&body, "modelTags", &mut problems);
    problems.finish()?;
    let reply = |arn: &str| Reply::with(StatusCode::ACCEPTED, json!({"modelArn": arn}));
    if let Some(token) = token
        && let Some(arn) = state.store().read(|store| tokens::find(store, &call.caller, OPERATION, token))?
    {
        return Ok(reply(&arn));
    }
    // the copy of a remote store's objects, which the thread below reads
    let copies = tempfile::tempdir()?;
    let folder = state.locations(copies.path()).input(uri);
    let folder = folder.map_err(|error| ApiError::validation(error.to_string()))?;
    state.sync()?;
    let model = ModelRow {
        id: home::new_id()?,
        name: name.to_string(),
        region: call.caller.region.clone(),
        account: call.caller.account.clone(),
        base_id: IMPORTED.into(),
        base_name: String::new(),
        job_id: String::new(),
        customization: "IMPORTED".into(),
        created: now(),
        status: ModelStatus::Creating,
        failure: None,
        seen: String::new(),
    };
    let arn = models::model_arn(&model);
    state.store().write(|store| {
        if ModelRow::named(store, name)?.is_some() || JobRow::is_model_name_wanted(store, name)? {
            return Err(ApiError::validation("The provided model name is currently in use."));
        }
        model.save(store)?;
        tags::put(store, &model.id, &model_tags, &arn)?;
        if let Some(token) = token {
            tokens::put(store, &call.caller, OPERATION, token, &arn)?;
        }
        Ok(())
    })?;
    let state = state.clone();
    std::thread::spawn(move || {
        let _copies = copies;
        if let Err(error) = artifacts::read(state.models(), &folder, &model.id, Some(&model.name)) {
            let failed = ModelRow { status: ModelStatus::Failed, failure: Some(error.to_string()), ..model };
            // A store that can't be written to leaves it `Creating`; the next start calls it failed.
            let _ = state.store().write(|store| failed.save(store));
        }
    });
    Ok(reply(&arn))
}

/// Calls failed what an earlier service was reading when it ended.
pub(crate) fn fail_unfinished(state: &AppState) -> Result<(), ApiError> {
    state.store().write(|store| {
        for model in ModelRow::all(store)?.into_iter().filter(|model| model.status == ModelStatus::Creating) {
            let failure = Some("the service ended while it read the model's files; create it again".to_string());
            ModelRow { status: ModelStatus::Failed, failure, ..model }.save(store)?;
        }
        Ok(())
    })
}
