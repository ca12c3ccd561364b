//! An event as one line of a log.

use crate::event::Step;
use crate::{Event, Record, timestamp};

/// An event on one line.
pub fn describe(record: &Record) -> String {
    let what = match &record.event {
        Event::Planned(plan) => format!(
            "planned: {} records, {} steps in {} epochs on {}",
            plan.records, plan.steps, plan.epochs, plan.device
        ),
        Event::Started { pid, engine_version } => format!("started: process {pid}, outcrop {engine_version}"),
        Event::Features { records, tokens, trunk_tokens, seconds } => format!(
            "features of {records} records: {tokens} tokens, {trunk_tokens} of them through the trunk, {}",
            super::duration(*seconds)
        ),
        Event::Step(Step { step, loss, learning_rate, tokens_per_second, .. }) => {
            format!("step {step}: loss {loss:.4}, learning rate {learning_rate:.2e}, {tokens_per_second:.0} tokens/s")
        }
        Event::Validation(set) => format!(
            "validation {} after step {}: loss {:.4}, perplexity {:.2}",
            set.set, set.step, set.loss, set.perplexity
        ),
        Event::Monitor(look) => format!(
            "forgetting after step {}: NLL {:.4} where the base has {:.4}, KL {:.4} nats at {} positions",
            look.step, look.nll, look.nll_base, look.kl, look.positions
        ),
        Event::Samples(samples) => format!(
            "answers after step {}: {:.0} % end by themselves, {:.0} % are empty",
            samples.step,
            100.0 * samples.stop_rate,
            100.0 * samples.empty_rate
        ),
        Event::Checkpoint { step, bytes, .. } => format!("checkpoint of step {step}: {}", super::bytes(*bytes)),
        Event::StoppedEarly { message, .. } | Event::Kept { message, .. } => message.clone(),
        Event::Resumed { step } => format!("resumed after step {step}"),
        Event::Interrupted { step } => format!("stopped after step {step}"),
        Event::Warning { message } => format!("warning: {message}"),
        Event::Coverage { tensors, changed_fraction } => {
            format!("{tensors} tensors trained, {:.1} % of their values changed", 100.0 * changed_fraction)
        }
        Event::Comparison { comparison } => {
            let headline = comparison.get("headline").and_then(|headline| headline.as_str());
            format!("compared with the base: {}", headline.unwrap_or("see the report"))
        }
        Event::Failed { message } => format!("failed: {message}"),
        Event::Completed { training_loss, seconds } => {
            format!("completed: training loss {training_loss:.4}, {}", super::duration(*seconds))
        }
    };
    format!("{} {what}", timestamp::to_text(record.time))
}
