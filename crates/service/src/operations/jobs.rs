//! GetModelCustomizationJob, ListModelCustomizationJobs, StopModelCustomizationJob.

use outcrop_job::JobStatus;
use serde_json::{Value, json};

use super::page::{CREATION, Item, Listing};
use super::{create_job, object, wire};
use crate::arn::{self, Kind};
use crate::call::{Call, Reply};
use crate::store::{JobRow, Origin, Phase};
use crate::validation::Problems;
use crate::{ApiError, AppState};

const STATUSES: [&str; 5] = ["InProgress", "Completed", "Failed", "Stopping", "Stopped"];
/// Bedrock's longest `failureMessage`.
const LONGEST_FAILURE: usize = 2048;

/// The job that a caller names, by name or ARN. Errors: there is none.
pub(crate) fn find(state: &AppState, identifier: &str) -> Result<JobRow, ApiError> {
    if identifier.is_empty() {
        let mut problems = Problems::default();
        problems.add("jobIdentifier", Some(""), "Member must have length greater than or equal to 1");
        problems.finish()?;
    }
    let found = state.store().read(|store| match arn::parse(identifier) {
        Some((Kind::Job, id)) => JobRow::find(store, id),
        Some(_) => Ok(None),
        None => JobRow::named(store, identifier),
    })?;
    found.ok_or_else(|| ApiError::not_found(format!("Could not find job '{identifier}'.")))
}

/// The job's ARN.
pub(crate) fn job_arn(job: &JobRow) -> String {
    arn::resource(Kind::Job, &job.region, &job.account, &job.base_id, &job.id)
}

/// The ARN of the job's model, once there is one.
fn model_arn(job: &JobRow) -> Option<String> {
    let id = job.model_id.as_deref().filter(|_| job.status == JobStatus::Completed)?;
    Some(arn::resource(Kind::Model, &job.region, &job.account, &job.base_id, id))
}

/// Everything about one job.
pub(crate) fn get(state: &AppState, call: &Call) -> Result<Reply, ApiError> {
    state.sync()?;
    let job = find(state, &call.segments[1])?;
    let mut body = json!({
        "jobArn": job_arn(&job),
        "jobName": job.name,
        "outputModelName": job.model_name,
        "outputModelArn": model_arn(&job),
        "status": job.status.as_str(),
        "statusDetails": details(&job),
        "failureMessage": job.failure.as_deref().map(|text| text.chars().take(LONGEST_FAILURE).collect::<String>()),
        "creationTime": wire(job.created),
        "lastModifiedTime": wire(job.modified),
        "endTime": job.ended.map(wire),
        "baseModelArn": arn::foundation(&job.region, &job.base_id),
        "outputModelKmsKeyArn": job.request.custom_model_kms_key_id.as_deref().map(|key| kms_arn(&job, key)),
        "validationMetrics": [],
    });
    if job.status == JobStatus::Completed {
        body["trainingMetrics"] = json!({"trainingLoss": job.training_loss});
        let losses = job.validation_losses.iter().map(|loss| json!({"validationLoss": loss}));
        body["validationMetrics"] = losses.collect();
    }
    if let (Value::Object(body), Value::Object(echoed)) = (&mut body, create_job::echo(&job.request)) {
        body.extend(echoed);
    }
    Ok(Reply::ok(object(body)))
}

/// A key's ARN, whatever form it was given in.
fn kms_arn(job: &JobRow, key: &str) -> String {
    if key.starts_with("arn:") {
        return key.to_string();
    }
    let path = if key.starts_with("alias/") { key.to_string() } else { format!("key/{key}") };
    format!("arn:aws:kms:{}:{}:{path}", job.region, job.account)
}

/// Bedrock's three phases of a job. Its request is checked before it is answered, so validation is done from the start;
/// data are processed until the plan stands; training is the rest.
fn details(job: &JobRow) -> Value {
    let entry = |status: &str, began: i64, changed: i64| json!({"status": status, "creationTime": wire(began), "lastModifiedTime": wire(changed)});
    // What a phase that isn't over is in: the job's own status where that is an end.
    let word = match job.status {
        JobStatus::Completed => "Completed",
        JobStatus::Failed => "Failed",
        JobStatus::Stopping => "Stopping",
        JobStatus::Stopped => "Stopped",
        JobStatus::InProgress => "InProgress",
    };
    let not_started = || entry("NotStarted", job.created, job.created);
    let (data, training) = match (job.started, job.planned) {
        (None, _) if job.status == JobStatus::InProgress => (not_started(), not_started()),
        (None, _) => (entry(word, job.created, job.modified), not_started()),
        (Some(started), None) => (entry(word, started, job.modified.max(started)), not_started()),
        (Some(started), Some(planned)) => {
            (entry("Completed", started, planned), entry(word, planned, job.modified.max(planned)))
        }
    };
    json!({
        "validationDetails": entry("Completed", job.created, job.created),
        "dataProcessingDetails": data,
        "trainingDetails": training,
    })
}

/// A page of jobs.
pub(crate) fn list(state: &AppState, call: &Call) -> Result<Reply, ApiError> {
    let listing = Listing::read(call, CREATION)?;
    let status = call.query("statusEquals");
    if let Some(status) = status.filter(|status| !STATUSES.contains(status)) {
        let mut problems = Problems::default();
        let set = format!("Member must satisfy enum value set: [{}]", STATUSES.join(", "));
        problems.add("statusEquals", Some(status), set);
        problems.finish()?;
    }
    state.sync()?;
    let jobs = state.store().read(JobRow::all)?;
    let jobs = jobs.into_iter().filter(|job| status.is_none_or(|status| job.status.as_str() == status));
    let items =
        jobs.map(|job| Item { created: job.created, id: job.id.clone(), name: job.name.clone(), value: job }).collect();
    let (page, token) = listing.page(items);
    let summaries: Vec<Value> = page.iter().map(summary).collect();
    Ok(Reply::ok(object(json!({"modelCustomizationJobSummaries": summaries, "nextToken": token}))))
}

fn summary(job: &JobRow) -> Value {
    object(json!({
        "jobArn": job_arn(job),
        "baseModelArn": arn::foundation(&job.region, &job.base_id),
        "jobName": job.name,
        "status": job.status.as_str(),
        "statusDetails": details(job),
        "creationTime": wire(job.created),
        "lastModifiedTime": wire(job.modified),
        "endTime": job.ended.map(wire),
        "customModelArn": model_arn(job),
        "customModelName": job.model_name,
        "customizationType": job.request.customization_type.as_str(),
    }))
}

/// Asks a job to stop. The status has changed before the answer is sent.
pub(crate) fn stop(state: &AppState, call: &Call) -> Result<Reply, ApiError> {
    state.sync()?;
    let job = find(state, &call.segments[1])?;
    let stopped = state.store().change_job(&job.id, |job| match (job.status, job.phase) {
        (JobStatus::InProgress, Phase::Waiting) => job.turn(JobStatus::Stopped),
        (JobStatus::InProgress, _) => job.turn(JobStatus::Stopping),
        _ => {}
    })?;
    match stopped {
        Some(now) if job.status.is_final() || (now.status.is_final() && now.status != JobStatus::Stopped) => {
            let message = format!("The job '{}' is {} and can't be stopped.", job.name, now.status);
            return Err(ApiError::conflict(message));
        }
        Some(now) if now.origin == Origin::Command || now.status == JobStatus::Stopping => {
            state.home().job(&job.id)?.request_stop()?;
        }
        Some(now) => state.note_stopped(&now)?,
        None => return Err(ApiError::not_found(format!("Could not find job '{}'.", job.name))),
    }
    state.wake();
    Ok(Reply::ok(json!({})))
}
