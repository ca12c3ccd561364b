//! What a job was, in names and values for people: the plan's size, the settings, and where the model comes from.

use super::JobPart;
use outcrop_job::Event;
use outcrop_job::plan::DataSet;

/// The plan and its course.
pub(super) fn facts(job: &JobPart) -> Vec<(&'static str, String)> {
    let plan = job.plan;
    let data = |set: &DataSet| {
        format!("{}: {} records, {} tokens, {} targets", set.location, set.records, set.tokens, set.target_tokens)
    };
    let mut facts = vec![
        ("job", format!("{} ({})", plan.job_name, plan.job_id)),
        (
            "base",
            format!(
                "{}: {}, {} parameters, context {}",
                plan.base.identifier, plan.base.family, plan.base.parameters, plan.base.context_length
            ),
        ),
        ("data", data(&plan.data.training)),
    ];
    facts.extend(plan.data.validation.iter().map(|set| ("validation", data(set))));
    facts.push((
        "trains",
        format!(
            "{}: {} parameters in {} tensors",
            plan.trainable.kind, plan.trainable.parameters, plan.trainable.tensors
        ),
    ));
    facts.push(("steps", format!("{}, {} an epoch", plan.steps.total, plan.steps.per_epoch)));
    facts.push((
        "longest row",
        format!("{} tokens; micro-batches of at most {} tokens", plan.max_sequence_length, plan.micro_batch_tokens),
    ));
    facts.push(("device", plan.device.clone()));
    facts.push(("memory", format!("{} MB planned", plan.memory.total_bytes.div_ceil(1_000_000))));
    let changed = job.records.iter().rev().find_map(|record| match &record.event {
        Event::Coverage { tensors, changed_fraction } => Some((*tensors, *changed_fraction)),
        _ => None,
    });
    if let Some((tensors, share)) = changed {
        facts.push(("changed", format!("{:.1} % of the values of {tensors} tensors", share * 100.0)));
    }
    let last = job.records.iter().rev().find_map(|record| match &record.event {
        Event::Step(step) => Some(step.loss),
        _ => None,
    });
    facts.extend(last.map(|loss| ("last training loss", format!("{loss:.4} nats per target"))));
    facts
}

/// Every setting after defaults.
pub(super) fn settings(job: JobPart) -> Vec<(String, String)> {
    let settings = job.plan.hyperparameters.effective();
    settings.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// What the model is made of, by name and hash.
pub(super) fn lineage(job: JobPart) -> Vec<(String, String, String)> {
    let model = job.model;
    let row = |what: &str, name: String, hash: &str| (what.to_owned(), name, hash.to_owned());
    let mut rows = vec![
        row("base", model.base.path.display().to_string(), &model.base.hash),
        row("model", format!("{} ({})", model.name, model.id), &model.delta_hash),
    ];
    rows.extend(
        model.training_data.iter().map(|file| row("training data", file.path.display().to_string(), &file.hash)),
    );
    let validation = job.plan.data.validation.iter().flat_map(|set| &set.files);
    rows.extend(validation.map(|file| row("validation data", file.path.display().to_string(), &file.hash)));
    rows.push(row("engine", format!("outcrop {}", model.engine_version), ""));
    rows
}
