//! GetEvaluationJob, ListEvaluationJobs, StopEvaluationJob, BatchDeleteEvaluationJob.

use axum::http::StatusCode;
use outcrop_job::JobStatus;
use serde_json::{Value, json};

use super::create_evaluation::{evaluation_arn, given_identifiers};
use super::page::{CREATION, Item, Listing};
use super::{object, wire};
use crate::arn::{self, Kind};
use crate::call::{Call, Reply};
use crate::evaluation;
use crate::store::{Evaluation, Phase};
use crate::validation::Problems;
use crate::{ApiError, AppState};

const STATUSES: [&str; 6] = ["InProgress", "Completed", "Failed", "Stopping", "Stopped", "Deleting"];
/// Bedrock's longest failure message.
const LONGEST_FAILURE: usize = 2048;

/// The job with this ARN; a name is none here. Errors: there is none.
fn find(state: &AppState, identifier: &str) -> Result<Evaluation, ApiError> {
    let Some((Kind::Evaluation, id)) = arn::parse(identifier) else {
        let mut problems = Problems::default();
        let pattern = "arn:aws(-[^:]+)?:bedrock:[a-z0-9-]{1,20}:[0-9]{12}:evaluation-job/[a-z0-9]{12}";
        let constraint = format!("Member must satisfy regular expression pattern: {pattern}");
        problems.add("jobIdentifier", Some(identifier), constraint);
        problems.finish()?;
        return Err(ApiError::not_found("Could not find the evaluation job."));
    };
    let found = state.store().read(|store| Evaluation::find(store, id))?;
    found.ok_or_else(|| ApiError::not_found(format!("Could not find evaluation job '{identifier}'.")))
}

/// Everything about one job.
pub(crate) fn get(state: &AppState, call: &Call) -> Result<Reply, ApiError> {
    let job = find(state, &call.segments[1])?;
    let failure = job.failure.as_deref().map(|text| text.chars().take(LONGEST_FAILURE).collect::<String>());
    let mut body = json!({
        "jobName": job.name,
        "jobArn": evaluation_arn(&job),
        "status": job.status.as_str(),
        "jobType": "Automated",
        "applicationType": "ModelEvaluation",
        "creationTime": wire(job.created),
        "lastModifiedTime": wire(job.modified),
        "failureMessages": failure.map(|message| vec![message]),
    });
    for member in [
        "roleArn",
        "jobDescription",
        "customerEncryptionKeyId",
        "evaluationConfig",
        "inferenceConfig",
        "outputDataConfig",
    ] {
        body[member] = job.request[member].clone();
    }
    Ok(Reply::ok(object(body)))
}

/// A page of jobs.
pub(crate) fn list(state: &AppState, call: &Call) -> Result<Reply, ApiError> {
    let listing = Listing::read(call, CREATION)?;
    let mut problems = Problems::default();
    let mut word = |name: &str, words: &[&str]| {
        if let Some(text) = call.query(name).filter(|text| !words.contains(text)) {
            problems.add(name, Some(text), format!("Member must satisfy enum value set: [{}]", words.join(", ")));
        }
    };
    word("statusEquals", &STATUSES);
    word("applicationTypeEquals", &["ModelEvaluation", "RagEvaluation"]);
    problems.finish()?;
    let status = call.query("statusEquals");
    let none = call.query("applicationTypeEquals") == Some("RagEvaluation");
    let jobs = state.store().read(Evaluation::all)?;
    let jobs = jobs.into_iter().filter(|job| !none && status.is_none_or(|status| job.status.as_str() == status));
    let items =
        jobs.map(|job| Item { created: job.created, id: job.id.clone(), name: job.name.clone(), value: job }).collect();
    let (page, token) = listing.page(items);
    let summaries: Vec<Value> = page.iter().map(summary).collect();
    Ok(Reply::ok(object(json!({"jobSummaries": summaries, "nextToken": token}))))
}

fn summary(job: &Evaluation) -> Value {
    let mut tasks: Vec<&str> = job.work.datasets.iter().map(|dataset| dataset.task.as_str()).collect();
    tasks.sort_unstable();
    tasks.dedup();
    let identifiers = given_identifiers(&job.work);
    json!({
        "jobArn": evaluation_arn(job),
        "jobName": job.name,
        "status": job.status.as_str(),
        "creationTime": wire(job.created),
        "jobType": "Automated",
        "applicationType": "ModelEvaluation",
        "evaluationTaskTypes": tasks,
        "modelIdentifiers": identifiers,
        "inferenceConfigSummary": {"modelConfigSummary": {"bedrockModelIdentifiers": identifiers}},
    })
}

/// Asks a job to stop. The status has changed before the answer is sent.
pub(crate) fn stop(state: &AppState, call: &Call) -> Result<Reply, ApiError> {
    let job = find(state, &call.segments[1])?;
    let stopped = state.store().change_evaluation(&job.id, |job| match (job.status, job.phase) {
        (JobStatus::InProgress, Phase::Waiting) => job.turn(JobStatus::Stopped),
        (JobStatus::InProgress, _) => job.turn(JobStatus::Stopping),
        _ => {}
    })?;
    match stopped {
        Some(now) if job.status.is_final() => {
            let message = format!("The evaluation job '{}' is {} and can't be stopped.", job.name, now.status);
            Err(ApiError::conflict(message))
        }
        Some(_) => {
            state.wake();
            Ok(Reply::ok(json!({})))
        }
        None => Err(ApiError::not_found(format!("Could not find evaluation job '{}'.", job.name))),
    }
}

/// Deletes jobs that have ended; their results stay in S3. Says of each other one why not: 202.
pub(crate) fn delete(state: &AppState, call: &Call) -> Result<Reply, ApiError> {
    let body = call.json()?;
    let identifiers = body["jobIdentifiers"].as_array().map(Vec::as_slice).unwrap_or_default();
    if !(1..=25).contains(&identifiers.len()) {
        let mut problems = Problems::default();
        problems.add("jobIdentifiers", None, "Member must have length between 1 and 25");
        problems.finish()?;
    }
    let (mut errors, mut deleted) = (Vec::new(), Vec::new());
    for identifier in identifiers.iter().map(|identifier| identifier.as_str().unwrap_or_default()) {
        let gone = find(state, identifier).and_then(|job| {
            if job.phase != Phase::Ended {
                let message = format!("The evaluation job '{}' is {}; stop it first.", job.name, job.status);
                return Err(ApiError::conflict(message));
            }
            state.store().write(|store| job.delete(store))?;
            let folder = evaluation::folder(state, &job.id);
            if folder.exists() {
                fs_err::remove_dir_all(&folder)?;
            }
            Ok(())
        });
        match gone {
            Ok(()) => deleted.push(json!({"jobIdentifier": identifier, "jobStatus": "Deleting"})),
            Err(error) => {
                errors.push(json!({"jobIdentifier": identifier, "code": error.code, "message": error.message}));
            }
        }
    }
    Ok(Reply::with(StatusCode::ACCEPTED, json!({"errors": errors, "evaluationJobs": deleted})))
}
