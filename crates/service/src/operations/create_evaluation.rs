//! CreateEvaluationJob: what can be known before a process is started is checked here.

use axum::http::StatusCode;
use outcrop_job::aliases::{EMBEDDED, EMBEDDED_LOCATION};
use outcrop_job::{JobStatus, ModelRecord, home};
use serde_json::{Value, json};

use super::endpoints::{Target, target};
use super::{create_job, models, read_tags};
use crate::arn::{self, Kind};
use crate::call::{Call, Reply};
use crate::evaluation::{ACCURACY, Dataset, Model, NLL, Work};
use crate::store::{Evaluation, Phase, now, tags, tokens};
use crate::validation::{EVALUATION_NAME, LABEL, MODEL_ID, Problems, ROLE_ARN, S3_URI, TOKEN};
use crate::{ApiError, AppState};

const OPERATION: &str = "CreateEvaluationJob";
const TASKS: [&str; 5] = ["Summarization", "Classification", "QuestionAndAnswer", "Generation", "Custom"];

/// Makes an evaluation job: 202. Its process is the supervisor's to start.
pub(crate) fn create(state: &AppState, call: &Call) -> Result<Reply, ApiError> {
    let body = call.json()?;
    let mut problems = Problems::default();
    let name = problems.required(&body, "jobName", &EVALUATION_NAME);
    problems.required(&body, "roleArn", &ROLE_ARN);
    let token = problems.optional(&body, "clientRequestToken", &TOKEN);
    problems.one_of(&body, "applicationType", &["ModelEvaluation"]);
    let output = problems.required(&body["outputDataConfig"], "s3Uri", &S3_URI);
    let job_tags = read_tags(&body, "jobTags", &mut problems);
    let datasets = datasets(&body["evaluationConfig"], &mut problems);
    let identifiers = identifiers(&body["inferenceConfig"], &mut problems);
    problems.finish()?;
    let reply = |arn: &str| Reply::with(StatusCode::ACCEPTED, json!({"jobArn": arn}));
    if let Some(token) = token
        && let Some(arn) = state.store().read(|store| tokens::find(store, &call.caller, OPERATION, token))?
    {
        return Ok(reply(&arn));
    }
    let (base, models) = models(state, &identifiers)?;
    let locations = state.locations(&state.home().evaluations_dir());
    for dataset in &datasets {
        create_job::file_input(&locations, &dataset.location)?;
    }
    create_job::writable(&locations, output)?;
    let time = now();
    let job = Evaluation {
        id: home::new_id()?,
        name: name.to_string(),
        region: call.caller.region.clone(),
        account: call.caller.account.clone(),
        work: Work { base, models, datasets, output: output.to_string() },
        request: body.clone(),
        phase: Phase::Waiting,
        status: JobStatus::InProgress,
        created: time,
        modified: time,
        failure: None,
        pid: None,
    };
    let arn = evaluation_arn(&job);
    let arn = state.store().write(|store| {
        if let Some(token) = token
            && let Some(former) = tokens::find(store, &call.caller, OPERATION, token)?
        {
            return Ok(former);
        }
        if Evaluation::is_named(store, name)? {
            return Err(ApiError::validation("The provided job name is currently in use."));
        }
        job.save(store)?;
        tags::put(store, &job.id, &job_tags, &arn)?;
        if let Some(token) = token {
            tokens::put(store, &call.caller, OPERATION, token, &arn)?;
        }
        Ok(arn.clone())
    })?;
    state.wake();
    Ok(reply(&arn))
}

/// An evaluation job's ARN.
pub(super) fn evaluation_arn(job: &Evaluation) -> String {
    arn::resource(Kind::Evaluation, &job.region, &job.account, "", &job.id)
}

/// The datasets of an automated evaluation.
fn datasets(config: &Value, problems: &mut Problems) -> Vec<Dataset> {
    const PLACE: &str = "evaluationConfig.automated.datasetMetricConfigs";
    if !config["human"].is_null() {
        problems.add("evaluationConfig.human", None, "Member is not supported: no workers are on this machine");
        return Vec::new();
    }
    let automated = &config["automated"];
    for judge in ["evaluatorModelConfig", "customMetricConfig"] {
        if !automated[judge].is_null() {
            let constraint = "Member is not supported: models on this machine are scored by likelihood, not by a judge";
            problems.add(&format!("evaluationConfig.automated.{judge}"), None, constraint);
        }
    }
    let configs = automated["datasetMetricConfigs"].as_array().map(Vec::as_slice).unwrap_or_default();
    if !(1..=5).contains(&configs.len()) {
        problems.add(PLACE, None, "Member must have length between 1 and 5");
    }
    let datasets: Vec<Dataset> = configs.iter().map(|config| dataset(config, problems)).collect();
    for (index, dataset) in datasets.iter().enumerate() {
        let same = |other: &&Dataset| (&other.name, &other.task) == (&dataset.name, &dataset.task);
        if datasets[..index].iter().any(|other| same(&other)) {
            problems.add(PLACE, Some(&dataset.name), "Member must have unique names of one task");
        }
    }
    datasets
}

fn dataset(config: &Value, problems: &mut Problems) -> Dataset {
    let task = problems.one_of(config, "taskType", &TASKS);
    if config["taskType"].is_null() {
        problems.add("taskType", None, "Member must not be null");
    }
    let name = problems.required(&config["dataset"], "name", &LABEL);
    let location = &config["dataset"]["datasetLocation"];
    let location = match location["s3Uri"].is_null() {
        false => problems.required(location, "s3Uri", &S3_URI),
        true => {
            let constraint = "Member must have a datasetLocation: Bedrock's built-in datasets are not on this machine";
            problems.add("dataset", Some(name), constraint);
            ""
        }
    };
    let mut metrics: Vec<String> = Vec::new();
    for metric in config["metricNames"].as_array().map(Vec::as_slice).unwrap_or_default() {
        let metric = metric.as_str().unwrap_or_default();
        if ![ACCURACY, NLL].contains(&metric) {
            let constraint = format!("Member must satisfy enum value set: [{ACCURACY}, {NLL}]");
            problems.add("metricNames", Some(metric), constraint);
        }
        metrics.push(metric.to_string());
    }
    if metrics.is_empty() {
        problems.add("metricNames", None, "Member must have length greater than or equal to 1");
    }
    let task = task.unwrap_or_default().to_string();
    Dataset { name: name.to_string(), task, metrics, location: location.to_string() }
}

/// What names the models.
fn identifiers(config: &Value, problems: &mut Problems) -> Vec<String> {
    if !config["ragConfigs"].is_null() {
        problems.add(
            "inferenceConfig.ragConfigs",
            None,
            "Member is not supported: no knowledge base is on this machine",
        );
    }
    let given = config["models"].as_array().map(Vec::as_slice).unwrap_or_default();
    if !(1..=2).contains(&given.len()) {
        problems.add("inferenceConfig.models", None, "Member must have length between 1 and 2");
    }
    let mut found = Vec::new();
    for model in given {
        if !model["precomputedInferenceSource"].is_null() {
            let constraint = "Member is not supported: responses are scored by the models that are asked";
            problems.add("inferenceConfig.models.precomputedInferenceSource", None, constraint);
            continue;
        }
        found.push(problems.required(&model["bedrockModel"], "modelIdentifier", &MODEL_ID).to_string());
    }
    found
}

/// The models, and the base that all are compared with: that of the custom models, else the first one.
fn models(state: &AppState, identifiers: &[String]) -> Result<(String, Vec<Model>), ApiError> {
    let mut found: Vec<Model> = Vec::new();
    let mut trained: Option<ModelRecord> = None;
    for identifier in identifiers {
        let name = match target(state, identifier)? {
            Target::Base(base) if base.base == EMBEDDED => EMBEDDED_LOCATION.to_string(),
            Target::Base(base) => base.base,
            Target::Custom(row) => {
                let record = models::record(state, &row).map_err(|_| {
                    ApiError::validation(format!(
                        "The model '{}' is {} and can't be evaluated.",
                        row.name,
                        row.status.as_str()
                    ))
                })?;
                if trained.as_ref().is_some_and(|other| other.base.hash != record.base.hash) {
                    let message = "The models have different bases; evaluate each in a job of its own.";
                    return Err(ApiError::validation(message));
                }
                trained = Some(record);
                row.id
            }
        };
        if found.iter().any(|model| model.name == name) {
            return Err(ApiError::validation(format!("The model '{identifier}' is given twice.")));
        }
        found.push(Model { identifier: identifier.clone(), name });
    }
    let base = match trained {
        Some(record) => record.base.path.display().to_string(),
        None => found.first().map(|model| model.name.clone()).unwrap_or_default(),
    };
    Ok((base, found))
}

/// The models' identifiers of a request, for listings.
pub(super) fn given_identifiers(work: &Work) -> Vec<&str> {
    work.models.iter().map(|model| model.identifier.as_str()).collect()
}
