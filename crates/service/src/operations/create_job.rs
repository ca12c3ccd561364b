//! CreateModelCustomizationJob: everything that can be known before a process is started is checked here; data and
//! training are the job's.

use axum::http::StatusCode;
use outcrop_job::location::{LocationError, try_folder};
use outcrop_job::request::{Constraint, CustomizationType, Origin as From, RequestError};
use outcrop_job::{Hyperparameters, JobFolder, JobStatus, Locations, Request, aliases::Aliases, home, names};
use serde_json::{Value, json};

use crate::arn::{self, Kind};
use crate::call::{Call, Reply};
use crate::store::{JobRow, ModelRow, Origin, Phase, now, tags, tokens};
use crate::validation::{Problems, detected};
use crate::{ApiError, AppState};

const OPERATION: &str = "CreateModelCustomizationJob";
/// Airflow compares this with its own, to the full stop.
const NAME_IN_USE: &str = "The provided job name is currently in use.";
const TYPES: [&str; 5] =
    ["FINE_TUNING", "CONTINUED_PRE_TRAINING", "DISTILLATION", "REINFORCEMENT_FINE_TUNING", "IMPORTED"];

/// Makes a job; its process is the supervisor's to start.
pub(crate) fn create(state: &AppState, call: &Call) -> Result<Reply, ApiError> {
    let request = read(call)?;
    let token = request.client_request_token.clone();
    if let Some(token) = &token
        && let Some(arn) = state.store().read(|store| tokens::find(store, &call.caller, OPERATION, token))?
    {
        return Ok(reply(&arn));
    }
    let base_id = base(state, &request)?;
    settings(&request)?;
    locations(state, &request)?;
    // Present after `read`; the names are what clients look for.
    let name = request.job_name.clone().unwrap_or_default();
    let model_name = request.custom_model_name.clone().unwrap_or_default();
    state.sync()?;
    let id = home::new_id()?;
    let (region, account) = (call.caller.region.clone(), call.caller.account.clone());
    let arn = arn::resource(Kind::Job, &region, &account, &base_id, &id);
    let time = now();
    let job = JobRow {
        id: id.clone(),
        name,
        region,
        account,
        base_id,
        model_name,
        request,
        origin: Origin::Service,
        phase: Phase::Waiting,
        status: JobStatus::InProgress,
        created: time,
        modified: time,
        started: None,
        planned: None,
        ended: None,
        failure: None,
        model_id: None,
        training_loss: None,
        validation_losses: Vec::new(),
        pid: None,
        seen: String::new(),
    };
    let stored = state.store().write(|store| {
        // Two at once with one token: the second gets the first's answer.
        if let Some(token) = &token
            && let Some(arn) = tokens::find(store, &call.caller, OPERATION, token)?
        {
            return Ok(Some(arn));
        }
        if JobRow::named(store, &job.name)?.is_some() {
            return Err(ApiError::validation(NAME_IN_USE));
        }
        let wanted = JobRow::is_model_name_wanted(store, &job.model_name)?;
        if wanted || ModelRow::named(store, &job.model_name)?.is_some() {
            return Err(ApiError::validation("The provided model name is currently in use."));
        }
        job.save(store)?;
        tags::put(store, &id, &job.request.job_tags, &arn)?;
        if let Some(token) = &token {
            tokens::put(store, &call.caller, OPERATION, token, &arn)?;
        }
        // Before the row can be seen: the supervisor finds the folder of every job that it sees.
        JobFolder::create(&state.home().job_dir(&id)?, &job.request)?;
        Ok(None)
    })?;
    if let Some(former) = stored {
        return Ok(reply(&former));
    }
    state.wake();
    Ok(reply(&arn))
}

fn reply(arn: &str) -> Reply {
    Reply::with(StatusCode::CREATED, json!({"jobArn": arn}))
}

/// The body as a request that keeps Bedrock's constraints.
fn read(call: &Call) -> Result<Request, ApiError> {
    let body = call.json()?;
    let mut problems = Problems::default();
    problems.one_of(&body, "customizationType", &TYPES);
    problems.finish()?;
    let mut request = Request::from_json_body(call.text()?).map_err(|error| shape(&error))?;
    if request.custom_model_name.is_none()
        && let Some(name) = &request.job_name
    {
        request.custom_model_name = Some(names::default_model_name(name));
    }
    let Err(violations) = request.validate(From::Network) else { return Ok(request) };
    let mut problems = Problems::default();
    for violation in &violations {
        match violation.constraint {
            Constraint::Items { max: 50, found, .. } if found <= 200 && is_tags(&violation.member) => {
                return Err(ApiError::too_many_tags(request.job_name.as_deref().unwrap_or_default(), found));
            }
            _ => problems.add_violation(violation),
        }
    }
    problems.finish()?;
    Ok(request)
}

fn is_tags(member: &str) -> bool {
    ["jobTags", "customModelTags"].contains(&member)
}

/// Members of a wrong shape, without the place in a text that the caller didn't write.
fn shape(error: &RequestError) -> ApiError {
    detected(&error.problems.iter().map(|problem| problem.message.as_str()).collect::<Vec<_>>())
}

/// The id that ARNs have of the base. Errors: nothing here has this name.
fn base(state: &AppState, request: &Request) -> Result<String, ApiError> {
    let identifier = request.base_model_identifier.as_str();
    if let Some(found) = Aliases::read(state.home())?.resolve(identifier) {
        return Ok(found.id);
    }
    let model = super::models::find(state, identifier);
    if let Ok(model) = model {
        let name = model.name;
        return Err(ApiError::validation(format!(
            "The provided model identifier is invalid. `{name}` is a custom model; `outcrop models export {name} FOLDER` and `outcrop models alias ID FOLDER` make a base of it."
        )));
    }
    Err(ApiError::validation("The provided model identifier is invalid."))
}

/// Errors: unknown hyperparameters and values out of range, all of them.
fn settings(request: &Request) -> Result<(), ApiError> {
    let resolved = Hyperparameters::resolve(&request.hyper_parameters, request.customization_type);
    let Err(errors) = resolved else { return Ok(()) };
    Err(detected(&errors.iter().map(ToString::to_string).collect::<Vec<_>>()))
}

/// Errors: data that aren't there, an output that can't be written to.
fn locations(state: &AppState, request: &Request) -> Result<(), ApiError> {
    let locations = state.locations(&state.home().jobs_dir()); // nothing is copied here
    input(&locations, &request.training_data_config.s3_uri, request.customization_type, "training")?;
    for validator in request.validators() {
        input(&locations, &validator.s3_uri, request.customization_type, "validation")?;
    }
    match &request.output_data_config {
        Some(output) => writable(&locations, &output.s3_uri),
        None => Ok(()),
    }
}

/// Errors: an output that can't be written to.
pub(super) fn writable(locations: &Locations, uri: &str) -> Result<(), ApiError> {
    let (bucket, key) = parts(uri);
    let key = if key.is_empty() { String::new() } else { format!("{key}/") };
    let refused = || {
        ApiError::validation(format!(
            "Amazon S3 perms missing (PutObject): Could not validate PutObject permissions to access S3 bucket: {bucket} at key {key}.write_access_check_file.tmp"
        ))
    };
    let folder = locations.output(uri).map_err(|_| refused())?;
    match locations.try_output(uri) {
        Err(error) => return Err(ApiError::validation(error.to_string())),
        Ok(()) if locations.is_remote(uri) => return Ok(()),
        Ok(()) => {}
    }
    try_folder(&folder).map_err(|_| refused())
}

/// One file of records. Errors: it isn't there, or is a folder.
pub(super) fn file_input(locations: &Locations, uri: &str) -> Result<(), ApiError> {
    input(locations, uri, CustomizationType::FineTuning, "evaluation")
}

/// A folder can only be raw text: Bedrock takes one file, and so do prompts with completions.
fn input(locations: &Locations, uri: &str, kind: CustomizationType, what: &str) -> Result<(), ApiError> {
    let (bucket, key) = parts(uri);
    let missing = || {
        ApiError::validation(format!(
            "Could not validate GetObject permissions to access Amazon S3 bucket: {bucket} at key {key}"
        ))
    };
    let no_file = || {
        ApiError::validation(format!(
            "Invalid {what} input data configuration. Check the input data S3 Uris (Uri should be a file, not a directory) and retry request"
        ))
    };
    let takes_folder = kind == CustomizationType::ContinuedPreTraining && !key.is_empty();
    match locations.look(uri).map_err(|error| ApiError::validation(error.to_string()))? {
        Some((true, _)) if !uri.ends_with('/') => return Ok(()),
        Some((_, true)) => return if takes_folder { Ok(()) } else { Err(no_file()) },
        Some(_) => return Err(missing()),
        None => {}
    }
    let path = match locations.input(uri) {
        Ok(path) => path,
        Err(LocationError::Missing { .. }) => return Err(missing()),
        Err(error) => return Err(ApiError::validation(error.to_string())),
    };
    if (path.is_dir() && !takes_folder) || (uri.ends_with('/') && !path.is_dir()) {
        return Err(no_file());
    }
    Ok(())
}

/// Bucket and key of an S3 URI.
fn parts(uri: &str) -> (&str, &str) {
    let rest = uri.strip_prefix("s3://").unwrap_or(uri);
    let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
    (bucket, key.trim_end_matches('/'))
}

/// The members of a request that Get echoes, as they were sent.
pub(super) fn echo(request: &Request) -> Value {
    let value = serde_json::to_value(request).unwrap_or_default();
    let mut echoed = serde_json::Map::new();
    for member in ["roleArn", "clientRequestToken", "customizationType", "trainingDataConfig", "validationDataConfig"] {
        echoed.insert(member.into(), value[member].clone());
    }
    for member in ["outputDataConfig", "hyperParameters", "vpcConfig"] {
        echoed.insert(member.into(), value[member].clone());
    }
    Value::Object(echoed)
}
