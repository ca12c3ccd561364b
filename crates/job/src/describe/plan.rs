//! The plan of a run in a few rows: base, data, what trains, steps, memory, time.

use super::{bytes, count, counted, duration};
use crate::Plan;
use crate::hyperparameters::{Dtype, Recompute};

/// The plan: in each row a name and what it is.
pub fn plan(plan: &Plan) -> Vec<[String; 2]> {
    let mut rows = vec![["job", &format!("{} ({})", plan.job_name, plan.job_id)].map(str::to_string)];
    rows.push(row("base", base(plan)));
    rows.extend(data(plan));
    rows.push(row("trains", trains(plan)));
    rows.push(row("steps", steps(plan)));
    rows.extend(arithmetic(plan));
    rows.push(row("memory", memory(plan)));
    rows.push(row("disk", format!("at most {}", bytes(plan.disk_bytes))));
    if let Some(features) = &plan.features {
        let size = bytes(features.bytes);
        rows.push(row(
            "features",
            if features.stored {
                format!("{size} on disk: the trunk runs once, every epoch from the second on is spared it")
            } else {
                format!("not kept ({size}): the trunk runs in every epoch")
            },
        ));
    }
    rows.push(row("forgetting", forgetting(plan)));
    if let Some(time) = &plan.time {
        let range = format!("{} to {}", duration(time.seconds_low), duration(time.seconds_high));
        rows.push(row("time", format!("{range} for the steps on {}, measured on three of them", plan.device)));
    }
    rows
}

fn row(name: &str, text: String) -> [String; 2] {
    [name.to_string(), text]
}

fn base(plan: &Plan) -> String {
    let base = &plan.base;
    let parameters = count(base.parameters);
    format!("{}: {}, {parameters} parameters, context {}", base.identifier, base.family, base.context_length)
}

fn data(plan: &Plan) -> Vec<[String; 2]> {
    let training = &plan.data.training;
    let (records, tokens) = (counted(training.records, "record"), counted(training.tokens, "token"));
    let (targets, longest) = (counted(training.target_tokens, "target"), training.longest);
    let mut rows = vec![row("data", format!("{records}, {tokens}, {targets}, longest {longest}"))];
    for set in &plan.data.validation {
        let (records, targets) = (counted(set.records, "record"), counted(set.target_tokens, "target"));
        rows.push(row("validation", format!("{records}, {targets}")));
    }
    for (key, number) in &training.extra_keys {
        rows.push(row("note", format!("key `{key}` of {} is not used", counted(*number, "record"))));
    }
    if training.dropped_records > 0 {
        let (records, targets) = (training.dropped_records, training.lost_target_tokens);
        let lost = format!("{} too long and dropped, {} lost", counted(records, "record"), counted(targets, "target"));
        rows.push(row("note", lost));
    }
    rows.extend(training.notes.iter().map(|note| row("note", note.clone())));
    rows
}

fn trains(plan: &Plan) -> String {
    let (trained, all) = (count(plan.trainable.parameters), count(plan.base.parameters));
    match plan.trainable.kind.as_str() {
        "head" => format!("the head: {trained} parameters on a frozen base of {all}"),
        "all" => format!("all {trained} parameters"),
        last => {
            let blocks = last.trim_start_matches("last:").parse().unwrap_or(0);
            let blocks = counted(blocks, "block");
            format!("the last {blocks}, final norm and head: {trained} parameters on a frozen base of {all}")
        }
    }
}

fn steps(plan: &Plan) -> String {
    let settings = &plan.hyperparameters;
    format!(
        "{} ({} an epoch, batch {}), learning rate {}, warm-up {}, then {}",
        plan.steps.total,
        plan.steps.per_epoch,
        settings.batch_size,
        settings.learning_rate,
        settings.learning_rate_warmup_steps,
        settings.schedule
    )
}

/// How forgetting is watched, and what that costs.
fn forgetting(plan: &Plan) -> String {
    let Some(monitor) = &plan.monitor else {
        let off = plan.hyperparameters.forgetting_positions == Some(0);
        let why = if off { "forgettingPositions is 0" } else { "generalData has no running text" };
        return format!("not watched during training: {why}");
    };
    let limit =
        plan.hyperparameters.max_forgetting.map_or_else(String::new, |limit| format!("; ends beyond {limit} nats"));
    let when = match monitor.every < plan.steps.per_epoch {
        true => format!("every {} and ", counted(monitor.every, "step")),
        false => String::new(),
    };
    let (positions, share) = (counted(monitor.positions, "position"), 100.0 * monitor.share);
    format!("{positions} of general text, {when}at each epoch's end: {share:.1} % of the steps' time{limit}")
}

/// Optimizer and type, and what the type costs where no kernel has it.
fn arithmetic(plan: &Plan) -> Vec<[String; 2]> {
    let (optimizer, dtype) = (plan.hyperparameters.optimizer, plan.hyperparameters.dtype);
    if dtype == Dtype::Float32 {
        return vec![row("optimizer", format!("{optimizer}, all in {dtype}"))];
    }
    let masters = format!("{optimizer} on float32 masters; weights and computation in {dtype}");
    let mut rows = vec![row("optimizer", masters)];
    if plan.device == "cpu" {
        let note = format!("{dtype} saves memory on the CPU, not time: each op widens it to float32 and rounds");
        rows.push(row("note", note));
    }
    rows
}

fn memory(plan: &Plan) -> String {
    let memory = &plan.memory;
    format!(
        "about {}: weights {}, gradients {}, moments {}, activations {}{}{}",
        bytes(memory.total_bytes),
        bytes(memory.weights_bytes),
        bytes(memory.gradient_bytes),
        bytes(memory.optimizer_bytes),
        bytes(memory.activation_bytes),
        match plan.recompute {
            Recompute::Group => " (recomputed in groups)",
            Recompute::Block => " (recomputed)",
            _ => "",
        },
        match memory.monitor_bytes {
            0 => String::new(),
            monitor => format!(", forgetting {}", bytes(monitor)),
        }
    )
}
