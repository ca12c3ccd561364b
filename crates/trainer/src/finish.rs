//! The end of a job: the custom model, the comparison with the base, the report, the metrics for the output location.

use crate::checkpoint::State;
use crate::comparison::Trained;
use crate::job::Job;
use crate::observer::Stage;
use crate::recorder::Recorder;
use crate::report::{Context, JobPart, write_report};
use crate::views::curve;
use crate::{Result, TrainError, comparison};
use candle_core::Tensor;
use outcrop_eval::{Comparison, Contamination, gate_failure};
use outcrop_job::event::Event;
use outcrop_job::model_record::{BaseReference, Metrics, ValidationMetric};
use outcrop_job::model_store::ModelError;
use outcrop_job::{ModelRecord, Request, artifacts, content_hash, home, metrics_csv, timestamp};
use outcrop_model::delta;
use std::path::Path;

/// What finishing reads and writes of a run.
pub(crate) struct Parts<'r, 'a> {
    pub(crate) job: &'r mut Job,
    pub(crate) recorder: &'r mut Recorder<'a>,
    /// Of the step that becomes the model.
    pub(crate) state: &'r State,
    /// What the job trained, f32: the masters of 16-bit weights.
    pub(crate) values: Vec<(String, Tensor)>,
}

/// Saves the model first, so that nothing later can lose it; then compares, reports, and completes.
pub(crate) fn finish(parts: &mut Parts, request: &Request, output: &Path) -> Result<(ModelRecord, Comparison)> {
    let mut record = model_record(parts, request)?;
    let (job, values) = (&*parts.job, &parts.values);
    parts.recorder.retry_when_full(|_| save_model(job, values, &mut record))?;
    if record.name != job.plan.custom_model_name {
        let (taken, name) = (&job.plan.custom_model_name, &record.name);
        parts.recorder.warn(format!("another job made a model named `{taken}` meanwhile; this one is `{name}`"))?;
    }
    let hash = format!("{}+{}", parts.job.plan.base.hash, record.delta_hash);
    let tuned = parts.job.score(&hash, Stage::ScoringTuned, parts.recorder.observer)?;
    let suites = std::mem::take(&mut parts.job.suites);
    let source = suites.task_source.clone();
    let base = std::mem::take(&mut parts.job.base_scores);
    let (comparison, scored) = comparison::judge(suites, base, tuned, parts.job.plan.hyperparameters.seed)?;
    parts.job.suites.task_source = source;

    let value = serde_json::to_value(&comparison).map_err(|e| TrainError::Plan(e.to_string()))?;
    parts.recorder.write(Event::Comparison { comparison: value.clone() })?;
    record.comparison = Some(value);
    let gate = parts.job.plan.hyperparameters.gate.as_ref();
    record.gate = gate.and_then(|gate| gate_failure(gate, &comparison)).map(|reason| failed(&reason));
    if let Some(failure) = &record.gate {
        parts.recorder.warn(failure.clone())?;
    }
    let contamination = comparison::contamination(&Trained::of(&parts.job.data), &comparison, &scored)?;
    for line in contamination.iter().filter_map(Contamination::line) {
        parts.recorder.warn(line)?;
    }
    let job = &*parts.job;
    // all before the job is called completed, which is never resumed
    parts.recorder.retry_when_full(|recorder| {
        job.models.save(&record)?;
        let about = JobPart { plan: &job.plan, records: &recorder.records, model: &record };
        let context = Context { contamination: &contamination, ..Context::of_job(about, &job.suites.task_source) };
        write_report(&job.folder.report_dir(), &comparison, &scored, &context)?;
        curve::draw(&recorder.records, &job.plan.job_name, &job.folder.report_dir().join("loss.svg"))?;
        metrics_csv::write_metrics(&recorder.records, output, &job.plan.job_id)?;
        if request.output_data_config.is_some() {
            // Without a location of the user's it would lie beside the store, which has it already.
            artifacts::write(&job.models, &record, output)?;
        }
        Ok(())
    })?;
    if let Some(config) = &request.output_data_config {
        let part = format!("model-customization-job-{}", parts.job.plan.job_id);
        parts.job.locations.publish(&config.s3_uri, &part)?;
    }
    let (training_loss, seconds) = (parts.state.training_loss, parts.state.seconds);
    parts.recorder.write(Event::Completed { training_loss, seconds })?;
    Ok((record, comparison))
}

/// The record of the model, its delta's hash still empty; a run that was killed while it saved keeps its id.
fn model_record(parts: &Parts, request: &Request) -> Result<ModelRecord> {
    let (job, state) = (&parts.job, parts.state);
    let plan = &job.plan;
    let former = job.models.list()?.into_iter().find(|record| record.job_id == plan.job_id);
    let id = match former {
        Some(record) => record.id,
        None => home::new_id()?,
    };
    Ok(ModelRecord {
        id,
        name: plan.custom_model_name.clone(),
        created: timestamp::now(),
        job_id: plan.job_id.clone(),
        job_name: plan.job_name.clone(),
        base: BaseReference {
            identifier: plan.base.identifier.clone(),
            path: plan.base.path.clone(),
            hash: plan.base.hash.clone(),
        },
        customization_type: request.customization_type,
        tensors: job.weights.iter().map(|(name, _)| name.clone()).collect(),
        delta_file: "delta.safetensors".into(),
        delta_hash: String::new(),
        metrics: Metrics { training_loss: state.training_loss, validation: last_validation(parts) },
        comparison: None,
        chat_template: plan
            .hyperparameters
            .chat_template
            .as_ref()
            .and_then(|_| job.tokenizer.chat_template().map(|template| template.source().to_owned())),
        hyperparameters: plan.hyperparameters.clone(),
        training_data: plan.data.training.files.clone(),
        engine_version: plan.engine_version.clone(),
        gate: None,
    })
}

/// What records, reports and terminals say of a gate that a model failed.
pub fn failed(reason: &str) -> String {
    format!("gate: failed: {reason}")
}

/// A model's name that no other has: the id's twelve characters behind as much of `name` as 63 leave room for.
pub fn name_with_id(name: &str, id: &str) -> String {
    let kept: String = name.chars().take(50).collect();
    format!("{}-{id}", kept.trim_end_matches(['-', '_']))
}

/// Writes the delta and its record to the store, over what a former try left. A name that another job took meanwhile
/// costs no training: the model gets its id behind it.
fn save_model(job: &Job, values: &[(String, Tensor)], record: &mut ModelRecord) -> Result<()> {
    let folder = job.models.dir(&record.id)?;
    fs_err::create_dir_all(&folder)?;
    let file = folder.join(&record.delta_file);
    delta::write(&file, values, &job.plan.base.hash)?;
    record.delta_hash = content_hash::of_file(&file)?;
    match job.models.save(record) {
        Err(ModelError::NameTaken(name)) => {
            record.name = name_with_id(&name, &record.id);
            Ok(job.models.save(record)?)
        }
        saved => Ok(saved?),
    }
}

/// The model's loss on each validation set, in order.
fn last_validation(parts: &Parts) -> Vec<ValidationMetric> {
    let last = |set: u64| {
        parts.recorder.records.iter().rev().find_map(|record| match &record.event {
            Event::Validation(validation) if validation.set == set && validation.step <= parts.state.step => {
                Some(validation.loss)
            }
            _ => None,
        })
    };
    (0..parts.job.data.validation.len() as u64)
        .filter_map(|set| Some(ValidationMetric { validation_loss: last(set)? }))
        .collect()
}
