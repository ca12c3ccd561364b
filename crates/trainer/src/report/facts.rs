//! What a job was, in names and values for people: the plan's size, the settings, and where the model comes from.

use super::JobPart;
use outcrop_job::plan::DataSet;
use outcrop_job::{Event, PlanError, Record};

/// The plan and its course.
pub(super) fn facts(job: &JobPart) -> Vec<(&'static str, String)> {
    let (plan, base, trainable) = (job.plan, &job.plan.base, &job.plan.trainable);
    let (parameters, context) = (thousands(base.parameters), thousands(base.context_length));
    let mut facts = vec![
        ("job", format!("{} ({})", plan.job_name, plan.job_id)),
        ("base", format!("{}: {}, {parameters} parameters, context {context}", base.identifier, base.family)),
        ("data", set(&plan.data.training)),
    ];
    facts.extend(plan.data.validation.iter().map(|validation| ("validation", set(validation))));
    let (trained, tensors) = (thousands(trainable.parameters), counted(trainable.tensors, "tensor"));
    facts.push(("trains", format!("{}: {trained} parameters in {tensors}", trainable.kind)));
    facts.push(("steps", format!("{}, {} an epoch", thousands(plan.steps.total), thousands(plan.steps.per_epoch))));
    facts.push(("longest row", format!("{} tokens", thousands(plan.max_sequence_length))));
    facts.push(("device", format!("{}, {} MB planned", plan.device, plan.memory.total_bytes.div_ceil(1_000_000))));
    let changed = |event: &Event| match event {
        Event::Coverage { tensors, changed_fraction } => {
            Some(format!("{:.1} % of the values of {}", changed_fraction * 100.0, counted(*tensors, "tensor")))
        }
        _ => None,
    };
    let loss = |event: &Event| match event {
        Event::Step(step) => Some(format!("{:.4} nats per target", step.loss)),
        _ => None,
    };
    let stopped = |event: &Event| match event {
        Event::StoppedEarly { step, message, .. } => Some(format!("at step {}: {message}", thousands(*step))),
        _ => None,
    };
    let kept = |event: &Event| match event {
        Event::Kept { kept_step, message, .. } => Some(format!("of step {}: {message}", thousands(*kept_step))),
        _ => None,
    };
    if let Some(error) = PlanError::of(plan, job.records) {
        facts.push(("time against plan", error.time_in_words()));
        facts.push(("memory against plan", error.memory_in_words()));
    }
    facts.extend(last(job.records, stopped).map(|text| ("stopped early", text)));
    facts.extend(last(job.records, kept).map(|text| ("model", text)));
    facts.extend(last(job.records, changed).map(|text| ("changed", text)));
    facts.extend(last(job.records, loss).map(|text| ("last training loss", text)));
    facts
}

/// What the last event that `read` knows says.
fn last<T>(records: &[Record], read: impl Fn(&Event) -> Option<T>) -> Option<T> {
    records.iter().rev().find_map(|record| read(&record.event))
}

fn set(set: &DataSet) -> String {
    let [tokens, targets] = [set.tokens, set.target_tokens].map(thousands);
    format!("{}: {}, {tokens} tokens, {targets} targets", set.location, counted(set.records, "record"))
}

fn counted(number: u64, word: &str) -> String {
    format!("{} {word}{}", thousands(number), if number == 1 { "" } else { "s" })
}

/// 1234567 as `1,234,567`.
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_three() {
        assert_eq!([0, 12, 999, 1_000, 1_048_576].map(thousands), ["0", "12", "999", "1,000", "1,048,576"]);
        assert_eq!([counted(1, "tensor"), counted(1_200, "record")], ["1 tensor", "1,200 records"]);
    }
}
