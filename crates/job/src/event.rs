//! What happens in a run, one JSON object a line in `events.jsonl`: the one record that progress, reports, CSVs and
//! TensorBoard files are views of. Writing and reading the file is in `event_log`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// An event and when it happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// UTC, to the millisecond.
    #[serde(with = "crate::timestamp")]
    pub time: Timestamp,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// One thing that happened in a run. `step` is everywhere the number of optimizer steps done, so the first step's event
/// has `step` 1 and a checkpoint of step n holds the weights after the event of step n. Epochs count from 0.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The request is resolved and checked; nothing is trained yet.
    Planned(Planned),
    /// The process that trains has begun.
    Started {
        /// Version of the engine.
        engine_version: String,
        /// Its process id.
        pid: u32,
    },
    /// A frozen trunk has run over a set of the data; what it gave is on disk.
    Features {
        /// Records whose features were computed; the others' were there.
        records: u64,
        /// Their tokens.
        tokens: u64,
        /// Tokens that ran through the trunk: equal beginnings of records that share a pass run once.
        trunk_tokens: u64,
        /// Wall time.
        #[serde(with = "crate::float")]
        seconds: f64,
    },
    /// One optimizer step is done.
    Step(Step),
    /// One validation set is scored.
    Validation(Validation),
    /// How far the model is from its base on general text.
    Monitor(Monitor),
    /// What the model answers to a few fixed prompts.
    Samples(Samples),
    /// A checkpoint is on disk, whole.
    Checkpoint {
        /// Steps done.
        step: u64,
        /// Its folder, relative to the job's.
        path: String,
        /// Its size.
        bytes: u64,
    },
    /// The run goes on from a checkpoint.
    Resumed {
        /// Steps done.
        step: u64,
    },
    /// The run was stopped by its user and can be resumed.
    Interrupted {
        /// Steps done.
        step: u64,
    },
    /// The run ended before its last step by a setting of its request.
    StoppedEarly {
        /// Steps done.
        step: u64,
        /// Which setting.
        cause: StopCause,
        /// Why, on one line.
        message: String,
    },
    /// The model is that of another step than the last one.
    Kept {
        /// The step whose checkpoint became the model.
        kept_step: u64,
        /// Steps done.
        last_step: u64,
        /// Its loss on the first validation set, where there is one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        validation_loss: Option<f64>,
        /// Why, on one line.
        message: String,
    },
    /// Something that the user should know, on one line.
    Warning {
        /// What.
        message: String,
    },
    /// How much of the model changed (R15).
    Coverage {
        /// Tensors that are trained.
        tensors: u64,
        /// Share of their elements that differ from the base model's, 0 to 1.
        #[serde(with = "crate::float")]
        changed_fraction: f64,
    },
    /// The tuned model against its base (R32); the evaluation's own JSON.
    Comparison {
        /// The summary.
        comparison: Value,
    },
    /// The run ended with an error.
    Failed {
        /// Why, on one line.
        message: String,
    },
    /// The run ended and the custom model is there.
    Completed {
        /// Loss of the last step.
        #[serde(with = "crate::float")]
        training_loss: f64,
        /// Wall time of the run, the resumed parts together.
        #[serde(with = "crate::float")]
        seconds: f64,
    },
}

/// What ends a run before its last step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopCause {
    /// The validation loss no longer got better.
    EarlyStopping,
    /// The model forgot more than it may.
    MaxForgetting,
}

impl StopCause {
    /// Its name in events and files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EarlyStopping => "early_stopping",
            Self::MaxForgetting => "max_forgetting",
        }
    }
}

/// The size of what is about to run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Planned {
    /// Optimizer steps in all.
    pub steps: u64,
    /// Passes over the data.
    pub epochs: u64,
    /// Training records.
    pub records: u64,
    /// Their tokens.
    pub tokens: u64,
    /// Their targets.
    pub target_tokens: u64,
    /// Parameters that are trained.
    pub trainable_parameters: u64,
    /// Where it runs, such as `cpu` or `cuda:0`.
    pub device: String,
    /// `Plan::config_hash`.
    pub config_hash: String,
}

/// Measures of one optimizer step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Steps done, from 1.
    pub step: u64,
    /// Epoch of the step's records, from 0.
    pub epoch: u64,
    /// Sum of the targets' NLL over the step, divided by their count (R1), in nats.
    #[serde(with = "crate::float")]
    pub loss: f64,
    /// Tokens of the step.
    pub tokens: u64,
    /// Targets of the step.
    pub target_tokens: u64,
    /// Norm of the gradient before clipping (R37).
    #[serde(with = "crate::float")]
    pub grad_norm: f64,
    /// What the gradient was multiplied by, 1 where it wasn't clipped.
    #[serde(with = "crate::float")]
    pub clip_factor: f64,
    /// The learning rate of this step's update (R14).
    #[serde(with = "crate::float")]
    pub learning_rate: f64,
    /// Tokens per second of this step.
    #[serde(with = "crate::float")]
    pub tokens_per_second: f64,
    /// Wall time of this step.
    #[serde(with = "crate::float")]
    pub seconds: f64,
    /// Memory in use after the step (R23).
    pub memory_bytes: u64,
}

/// Score of one validation set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Validation {
    /// Steps done; 0 is the untouched base model.
    pub step: u64,
    /// Epoch that was just trained, from 0.
    pub epoch: u64,
    /// Index of the set among the request's validators.
    pub set: u64,
    /// Sum of the targets' NLL divided by their count (R13), in nats.
    #[serde(with = "crate::float")]
    pub loss: f64,
    /// `exp(loss)`.
    #[serde(with = "crate::float")]
    pub perplexity: f64,
    /// Targets of the set.
    pub target_tokens: u64,
}

/// A look at a fixed sample of positions of general text; means over the positions, nats.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Monitor {
    /// Steps done; 0 is the untouched base model.
    pub step: u64,
    /// Positions of the sample.
    pub positions: u64,
    /// NLL of the base.
    #[serde(with = "crate::float")]
    pub nll_base: f64,
    /// NLL of the model.
    #[serde(with = "crate::float")]
    pub nll: f64,
    /// KL(base || model) over the whole vocabulary.
    #[serde(with = "crate::float")]
    pub kl: f64,
}

/// Greedy answers to the same prompts after each epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Samples {
    /// Steps done.
    pub step: u64,
    /// Epoch that was just trained, from 0.
    pub epoch: u64,
    /// Share of answers that the model ended itself, 0 to 1 (R8).
    #[serde(with = "crate::float")]
    pub stop_rate: f64,
    /// Share of answers without a visible character.
    #[serde(with = "crate::float")]
    pub empty_rate: f64,
    /// The answers.
    pub samples: Vec<Sample>,
}

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// What stood before.
    pub prompt: String,
    /// What the data have there.
    pub expected: String,
    /// What the model wrote.
    pub text: String,
    /// How it ended.
    pub end: SampleEnd,
}

/// How an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SampleEnd {
    /// By the model's end token.
    Stop,
    /// At the most tokens that it may have.
    Length,
}

impl Event {
    /// Steps done at this event, where it tells.
    pub fn step(&self) -> Option<u64> {
        match self {
            Self::Step(step) => Some(step.step),
            Self::Validation(validation) => Some(validation.step),
            Self::Monitor(monitor) => Some(monitor.step),
            Self::Samples(samples) => Some(samples.step),
            Self::Checkpoint { step, .. }
            | Self::Resumed { step }
            | Self::Interrupted { step }
            | Self::StoppedEarly { step, .. } => Some(*step),
            _ => None,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A step whose measures follow from its number.
    pub(crate) fn step(number: u64, epoch: u64, loss: f64) -> Event {
        Event::Step(Step {
            step: number,
            epoch,
            loss,
            tokens: 64,
            target_tokens: 32,
            grad_norm: 1.5,
            clip_factor: 1.0 / 1.5,
            learning_rate: 1e-5,
            tokens_per_second: 1000.0,
            seconds: 0.064,
            memory_bytes: 1 << 33,
        })
    }

    /// A score of one set.
    pub(crate) fn validation(number: u64, epoch: u64, set: u64, loss: f64) -> Event {
        Event::Validation(Validation { step: number, epoch, set, loss, perplexity: loss.exp(), target_tokens: 32 })
    }

    fn every_event() -> Vec<Event> {
        vec![
            Event::Planned(Planned {
                steps: 10,
                epochs: 2,
                records: 5,
                tokens: u64::MAX,
                target_tokens: 40,
                trainable_parameters: 7,
                device: "cpu".into(),
                config_hash: "00".into(),
            }),
            Event::Started { engine_version: "0.1.0".into(), pid: 7 },
            Event::Features { records: 3, tokens: 90, trunk_tokens: 70, seconds: 0.25 },
            step(1, 0, 2.0f64.sqrt()),
            validation(1, 0, 0, 0.1 + 0.2),
            Event::Monitor(Monitor { step: 1, positions: 256, nll_base: 3.5, nll: f64::INFINITY, kl: 0.1 + 0.2 }),
            Event::Samples(Samples {
                step: 1,
                epoch: 0,
                stop_rate: 0.5,
                empty_rate: 1.0 / 3.0,
                samples: vec![Sample {
                    prompt: "a\n\"b".into(),
                    expected: "c".into(),
                    text: "d\u{fffd}".into(),
                    end: SampleEnd::Length,
                }],
            }),
            Event::Checkpoint { step: 1, path: "checkpoints/1".into(), bytes: 9 },
            Event::Resumed { step: 1 },
            Event::Interrupted { step: 1 },
            Event::StoppedEarly { step: 1, cause: StopCause::EarlyStopping, message: "no better".into() },
            Event::Kept { kept_step: 1, last_step: 2, validation_loss: Some(0.5), message: "lowest".into() },
            Event::Kept { kept_step: 1, last_step: 2, validation_loss: None, message: "last".into() },
            Event::Warning { message: "a \"quoted\"\nline".into() },
            Event::Coverage { tensors: 1, changed_fraction: 0.999 },
            Event::Comparison { comparison: serde_json::json!({"tasks": [{"difference": -0.25}], "event": "kept"}) },
            Event::Failed { message: "no".into() },
            Event::Completed { training_loss: 6.125, seconds: 3.0 },
        ]
    }

    #[test]
    fn every_event_survives_a_round_trip_on_one_line() {
        for event in every_event() {
            let record = Record { time: crate::timestamp::now(), event };
            let text = serde_json::to_string(&record).unwrap();
            assert!(!text.contains('\n'), "{text}");
            assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), record, "{text}");
        }
    }

    #[test]
    fn the_wire_form_is_flat_and_snake_case() {
        let time = "2026-11-22T07:20:00.123Z".parse().unwrap();
        let text = serde_json::to_string(&Record { time, event: Event::Resumed { step: 3 } }).unwrap();
        assert_eq!(text, r#"{"time":"2026-11-22T07:20:00.123Z","event":"resumed","step":3}"#);
        let text = serde_json::to_string(&Record { time, event: step(1, 0, 2.5) }).unwrap();
        assert!(text.starts_with(
            r#"{"time":"2026-11-22T07:20:00.123Z","event":"step","step":1,"epoch":0,"loss":2.5,"tokens":64,"#
        ));
    }

    #[test]
    fn r12_a_loss_that_is_not_finite_is_valid_json_and_comes_back() {
        for loss in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let text =
                serde_json::to_string(&Record { time: crate::timestamp::now(), event: step(1, 0, loss) }).unwrap();
            let value: Value = serde_json::from_str(&text).unwrap();
            assert!(value["loss"].is_string(), "{text}");
            let Record { event: Event::Step(back), .. } = serde_json::from_str(&text).unwrap() else {
                panic!("another event: {text}")
            };
            assert_eq!(back.loss.to_bits(), loss.to_bits());
        }
    }
}
