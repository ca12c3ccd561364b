//! The one table of hyperparameters: name, range, default, meaning, and the field each key fills. The first four keys
//! and their ranges are Titan Text Express's; `evalPercentage` is Cohere's and so are the ranges of early stopping; the
//! others are this engine's own.

use std::fmt;

use super::{Dtype, Hyperparameters, LongRecords, OptimizerKind, Recompute, Schedule, Trainable};
use crate::CustomizationType;
use crate::gate::Gate;

/// One hyperparameter.
pub struct Key {
    /// Name in `hyperParameters`.
    pub name: &'static str,
    /// Values it takes; displayed as words.
    pub range: Range,
    /// Its value where the request gives none.
    pub default: DefaultValue,
    /// What it does, in one line.
    pub doc: &'static str,
    /// Whether another value gives another model; the others may change when a run is resumed (R27).
    pub shapes_result: bool,
    /// The optimizers that read it; empty: all of them.
    pub optimizers: &'static [OptimizerKind],
    field: Field,
}

/// The values a key takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Range {
    /// Whole numbers, both ends included.
    Integer {
        /// Least.
        min: u64,
        /// Most.
        max: u64,
    },
    /// Numbers.
    Number {
        /// Lower end.
        min: f64,
        /// Upper end.
        max: f64,
        /// Whether `min` itself is left out.
        above_min: bool,
        /// Whether `max` itself is left out.
        below_max: bool,
    },
    /// One of these words.
    Choice(&'static [&'static str]),
    /// `head`, `last:N` or `all`.
    Trainable,
    /// Comma-separated `s3://` URIs or paths, or `none`.
    Locations,
    /// An `s3://` URI or a path.
    Location,
    /// Conditions on the comparison with the base.
    Gate,
}

/// The value of a key that a request leaves out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DefaultValue {
    /// The same for every job.
    Always(&'static str),
    /// By what the job does.
    ByType {
        /// For `FINE_TUNING`.
        fine_tuning: &'static str,
        /// For `CONTINUED_PRE_TRAINING`.
        continued_pre_training: &'static str,
    },
    /// By the optimizer.
    ByOptimizer {
        /// For most.
        most: &'static str,
        /// For Lion.
        lion: &'static str,
    },
    /// No value of its own: what happens then, in words.
    Unset(&'static str),
}

type At<T> = fn(&mut Hyperparameters) -> &mut T;

/// The field that a key fills.
enum Field {
    Integer(At<u64>),
    OptionalInteger(At<Option<u64>>),
    Number(At<f64>),
    OptionalNumber(At<Option<f64>>),
    Flag(At<bool>),
    Schedule(At<Schedule>),
    Trainable(At<Trainable>),
    LongRecords(At<LongRecords>),
    Recompute(At<Recompute>),
    Optimizer(At<OptimizerKind>),
    Dtype(At<Dtype>),
    Locations(At<Vec<String>>),
    OptionalLocation(At<Option<String>>),
    OptionalGate(At<Option<Gate>>),
}

impl DefaultValue {
    /// The default of a job of this type with this optimizer; None where the key stays unset.
    pub fn text(self, customization_type: CustomizationType, optimizer: OptimizerKind) -> Option<&'static str> {
        match (self, customization_type) {
            (Self::ByOptimizer { lion, .. }, _) if optimizer == OptimizerKind::Lion => Some(lion),
            (Self::ByOptimizer { most, .. }, _) => Some(most),
            (Self::Always(text), _) => Some(text),
            (Self::ByType { fine_tuning, .. }, CustomizationType::FineTuning) => Some(fine_tuning),
            (Self::ByType { continued_pre_training, .. }, CustomizationType::ContinuedPreTraining) => {
                Some(continued_pre_training)
            }
            (Self::Unset(_), _) => None,
        }
    }
}

impl fmt::Display for DefaultValue {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Always(text) => write!(formatter, "`{text}`"),
            Self::ByType { fine_tuning, continued_pre_training } => {
                write!(
                    formatter,
                    "`{fine_tuning}` (`FINE_TUNING`), `{continued_pre_training}` (`CONTINUED_PRE_TRAINING`)"
                )
            }
            Self::ByOptimizer { most, lion } => write!(formatter, "`{most}`, `{lion}` with `{}`", OptimizerKind::Lion),
            Self::Unset(words) => formatter.write_str(words),
        }
    }
}

impl fmt::Display for Range {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Integer { min, max: u64::MAX } => write!(formatter, "whole numbers from {min}"),
            Self::Integer { min, max } => write!(formatter, "whole numbers from {min} to {max}"),
            Self::Number { min, max, above_min, below_max } => {
                let from = if *above_min { "above" } else { "from" };
                let to = if *below_max { "below" } else { "to" };
                write!(formatter, "numbers {from} {} {to} {}", number_text(*min), number_text(*max))
            }
            Self::Choice(words) => {
                let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
                formatter.write_str(&quoted.join(", "))
            }
            Self::Trainable => formatter.write_str("`head`, `last:N` (N blocks of the model, at least 1), `all`"),
            Self::Locations => formatter.write_str("comma-separated `s3://` URIs or paths, or `none`"),
            Self::Location => formatter.write_str("an `s3://` URI or a path"),
            Self::Gate => formatter.write_str("comma-separated conditions such as `task>0,general>=-0.01`, or `none`"),
        }
    }
}

impl Range {
    fn integer(self, text: &str) -> Option<u64> {
        let Self::Integer { min, max } = self else { return None };
        // Rust's parser also takes a sign; Bedrock's integers have none.
        let value = text.parse().ok().filter(|_| !text.starts_with('+'))?;
        (min..=max).contains(&value).then_some(value)
    }

    fn number(self, text: &str) -> Option<f64> {
        let Self::Number { min, max, above_min, below_max } = self else { return None };
        let value: f64 = text.parse().ok()?;
        let low = if above_min { value > min } else { value >= min };
        let high = if below_max { value < max } else { value <= max };
        // `-0` is zero; NaN is in no range.
        (low && high).then_some(value + 0.0)
    }
}

impl Key {
    /// Whether this optimizer reads it.
    pub(super) fn has_effect(&self, optimizer: OptimizerKind) -> bool {
        self.optimizers.is_empty() || self.optimizers.contains(&optimizer)
    }

    /// Whether this schedule reads it.
    pub(super) fn is_scheduled(&self, schedule: Schedule) -> bool {
        self.name != "decayFraction" || schedule == Schedule::Wsd
    }

    const fn of(self, optimizers: &'static [OptimizerKind]) -> Self {
        Self { optimizers, ..self }
    }

    /// Reads `text` into the key's field; false where it isn't one of the key's values.
    pub(super) fn set(&self, to: &mut Hyperparameters, text: &str) -> bool {
        fn put<T>(field: &mut T, value: Option<T>) -> bool {
            let fits = value.is_some();
            if let Some(value) = value {
                *field = value;
            }
            fits
        }
        match &self.field {
            Field::Integer(at) => put(at(to), self.range.integer(text)),
            Field::OptionalInteger(at) => put(at(to), self.range.integer(text).map(Some)),
            Field::Number(at) => put(at(to), self.range.number(text)),
            Field::OptionalNumber(at) => put(at(to), self.range.number(text).map(Some)),
            Field::Flag(at) => put(at(to), text.parse().ok()),
            Field::Schedule(at) => put(at(to), Schedule::from_name(text)),
            Field::Trainable(at) => put(at(to), Trainable::from_name(text)),
            Field::LongRecords(at) => put(at(to), LongRecords::from_name(text)),
            Field::Recompute(at) => put(at(to), Recompute::from_name(text)),
            Field::Optimizer(at) => put(at(to), OptimizerKind::from_name(text)),
            Field::Dtype(at) => put(at(to), Dtype::from_name(text)),
            Field::Locations(at) => put(at(to), locations(text)),
            Field::OptionalGate(at) if text == "none" => put(at(to), Some(None)),
            Field::OptionalGate(at) => put(at(to), text.parse().ok().map(Some)),
            Field::OptionalLocation(at) => put(at(to), (!text.trim().is_empty()).then(|| Some(text.to_string()))),
        }
    }

    /// The field's value as text; None where it is unset.
    pub(super) fn get(&self, from: &Hyperparameters) -> Option<String> {
        // The accessors are `&mut`, so that the table names each field once.
        let mut copy = from.clone();
        match &self.field {
            Field::Integer(at) => Some(at(&mut copy).to_string()),
            Field::OptionalInteger(at) => at(&mut copy).map(|value| value.to_string()),
            Field::Number(at) => Some(number_text(*at(&mut copy))),
            Field::OptionalNumber(at) => at(&mut copy).map(number_text),
            Field::Flag(at) => Some(at(&mut copy).to_string()),
            Field::Schedule(at) => Some(at(&mut copy).to_string()),
            Field::Trainable(at) => Some(at(&mut copy).to_string()),
            Field::LongRecords(at) => Some(at(&mut copy).to_string()),
            Field::Recompute(at) => Some(at(&mut copy).to_string()),
            Field::Optimizer(at) => Some(at(&mut copy).to_string()),
            Field::Dtype(at) => Some(at(&mut copy).to_string()),
            Field::Locations(at) if at(&mut copy).is_empty() => Some("none".to_string()),
            Field::Locations(at) => Some(at(&mut copy).join(",")),
            Field::OptionalLocation(at) => at(&mut copy).clone(),
            Field::OptionalGate(at) => at(&mut copy).as_ref().map(ToString::to_string),
        }
    }
}

/// The shortest text that reads back to the same bits: `1e-5`, `0.1`, `1`.
fn number_text(value: f64) -> String {
    let text = format!("{value:?}");
    text.strip_suffix(".0").unwrap_or(&text).to_string()
}

/// A comma-separated list, `none` for the empty one; None where an item is empty.
fn locations(text: &str) -> Option<Vec<String>> {
    if text == "none" {
        return Some(Vec::new());
    }
    let items: Vec<String> = text.split(',').map(|item| item.trim().to_string()).collect();
    items.iter().all(|item| !item.is_empty() && item != "none").then_some(items)
}

const fn integers(min: u64, max: u64) -> Range {
    Range::Integer { min, max }
}

const fn numbers(min: f64, max: f64) -> Range {
    Range::Number { min, max, above_min: false, below_max: false }
}

const FLAG: Range = Range::Choice(&["true", "false"]);
/// Zero up to, but without, one.
const MOMENT_DECAY: Range = Range::Number { min: 0.0, max: 1.0, above_min: false, below_max: true };

/// Every hyperparameter, in the order in which help and documents list them.
pub fn table() -> &'static [Key] {
    TABLE
}

const fn key(
    name: &'static str,
    range: Range,
    default: DefaultValue,
    shapes_result: bool,
    field: Field,
    doc: &'static str,
) -> Key {
    Key { name, range, default, doc, shapes_result, optimizers: &[], field }
}

use DefaultValue::{Always, ByOptimizer, ByType, Unset};

const ADAM: &[OptimizerKind] = &[OptimizerKind::AdamW, OptimizerKind::AdamW8bit];
const ADAM_AND_LION: &[OptimizerKind] = &[OptimizerKind::AdamW, OptimizerKind::AdamW8bit, OptimizerKind::Lion];

#[rustfmt::skip] // one key a line pair
const TABLE: &[Key] = &[
    key("epochCount", integers(1, 10), Always("5"), true, Field::Integer(|h| &mut h.epoch_count),
        "passes over the training data"),
    key("batchSize", integers(1, 64), Always("1"), true, Field::Integer(|h| &mut h.batch_size),
        "records (raw text: rows of `maxSequenceLength` tokens) per optimizer step"),
    key("learningRate", numbers(0.0, 1.0), Always("1e-5"), true, Field::Number(|h| &mut h.learning_rate),
        "highest learning rate"),
    key("learningRateWarmupSteps", integers(0, 250), Always("5"), true, Field::Integer(|h| &mut h.learning_rate_warmup_steps),
        "optimizer steps over which the learning rate rises in a line to its highest"),
    key("schedule", Range::Choice(Schedule::NAMES), Always("linear"), true, Field::Schedule(|h| &mut h.schedule),
        "course of the learning rate after the warm-up: to zero at the end in a line or half a cosine, constant, or constant and then down (`wsd`)"),
    key("decayFraction", Range::Number { min: 0.0, max: 1.0, above_min: true, below_max: false }, Always("0.2"), true,
        Field::Number(|h| &mut h.decay_fraction),
        "share of the steps over which `wsd` falls to zero at its end"),
    key("trainable", Range::Trainable, ByType { fine_tuning: "head", continued_pre_training: "all" }, true,
        Field::Trainable(|h| &mut h.trainable),
        "which weights are trained: the output projection alone, the last N blocks with the final norm and it, or all"),
    key("maxSequenceLength", integers(8, 131_072), Unset("the base model's context"), true,
        Field::OptionalInteger(|h| &mut h.max_sequence_length),
        "most tokens of a record, or of a row of raw text"),
    key("microBatchTokens", integers(1, u64::MAX), Unset("chosen by the plan from the memory there is"), true,
        Field::OptionalInteger(|h| &mut h.micro_batch_tokens),
        "most tokens of one forward and backward pass; the loss doesn't depend on it"),
    key("maxSteps", integers(1, u64::MAX), Unset("all epochs"), true, Field::OptionalInteger(|h| &mut h.max_steps),
        "optimizer steps after which the run ends, even within an epoch"),
    key("seed", integers(0, u64::MAX), Always("0"), true, Field::Integer(|h| &mut h.seed),
        "seed of the order of records and of what is held out"),
    key("shuffle", FLAG, Always("true"), true, Field::Flag(|h| &mut h.shuffle),
        "whether each epoch has an order of its own; otherwise the order of the file"),
    key("optimizer", Range::Choice(OptimizerKind::NAMES), Always("adamw"), true, Field::Optimizer(|h| &mut h.optimizer),
        "AdamW, AdamW with moments in 8 bits (a quarter of their memory), gradient descent with momentum, or Lion"),
    key("weightDecay", numbers(0.0, 1.0), Always("0"), true, Field::Number(|h| &mut h.weight_decay),
        "decoupled weight decay of matrices; with `sgd` it is added to the gradient, as in PyTorch's SGD"),
    key("clipNorm", numbers(0.0, 1e6), Always("1"), true, Field::Number(|h| &mut h.clip_norm),
        "largest gradient norm, a longer gradient is scaled down to it; `0` turns clipping off"),
    key("zLossWeight", numbers(0.0, 1.0), Always("0"), true, Field::Number(|h| &mut h.z_loss_weight),
        "weight of the squared log of the softmax's sum in what is trained, which keeps logits from drifting; no part of any reported loss"),
    key("adamBeta1", MOMENT_DECAY, Always("0.9"), true, Field::Number(|h| &mut h.adam_beta1),
        "AdamW's decay of the first moment; with `lion` the momentum's share in a step").of(ADAM_AND_LION),
    key("adamBeta2", MOMENT_DECAY, ByOptimizer { most: "0.999", lion: "0.99" }, true, Field::Number(|h| &mut h.adam_beta2),
        "AdamW's decay of the second moment; with `lion` its momentum's decay").of(ADAM_AND_LION),
    key("adamEpsilon", Range::Number { min: 0.0, max: 1.0, above_min: true, below_max: false }, Always("1e-8"), true,
        Field::Number(|h| &mut h.adam_epsilon),
        "AdamW's epsilon").of(ADAM),
    key("momentum", MOMENT_DECAY, Always("0.9"), true, Field::Number(|h| &mut h.momentum),
        "momentum of `sgd`").of(&[OptimizerKind::Sgd]),
    key("longRecords", Range::Choice(LongRecords::NAMES), Always("error"), true, Field::LongRecords(|h| &mut h.long_records),
        "what happens to a record longer than `maxSequenceLength`: stop, leave it out, or shorten its prompt at the front"),
    key("allowEmptyCompletions", integers(0, u64::MAX), Always("0"), true, Field::Integer(|h| &mut h.allow_empty_completions),
        "how many records may have an empty completion before the job is refused"),
    key("checkpointSteps", integers(1, u64::MAX), Unset("at epochs' ends, 10 s or more apart"), false,
        Field::OptionalInteger(|h| &mut h.checkpoint_steps),
        "optimizer steps between checkpoints; there is always one at the end"),
    key("keepCheckpoints", integers(1, 100), Always("2"), false, Field::Integer(|h| &mut h.keep_checkpoints),
        "how many of the latest checkpoints are kept"),
    key("evalPercentage", numbers(0.0, 50.0), Always("0"), true, Field::Number(|h| &mut h.eval_percentage),
        "percentage of the training records held out for validation, drawn by `seed`"),
    key("earlyStoppingThreshold", numbers(0.0, 0.1), Unset("no early stopping; `0.001` with `earlyStoppingPatience`"), true,
        Field::OptionalNumber(|h| &mut h.early_stopping_threshold),
        "nats by which the validation loss has to fall below its last counted value to count as better"),
    key("earlyStoppingPatience", integers(1, 10), Unset("no early stopping; `2` with `earlyStoppingThreshold`"), true,
        Field::OptionalInteger(|h| &mut h.early_stopping_patience),
        "validations in a row, one an epoch, that aren't better before the run ends; the model with the lowest validation loss is kept"),
    key("evaluationData", Range::Locations, Unset("no task items"), false, Field::Locations(|h| &mut h.evaluation_data),
        "items on which the tuned model is compared with the base model"),
    key("generalData", Range::Locations,
        Always("s3://outcrop-examples/general/items.jsonl,s3://outcrop-examples/general/prose.txt"), false,
        Field::Locations(|h| &mut h.general_data),
        "general items and texts on which forgetting is measured; `none` turns it off"),
    key("forgettingEvery", integers(1, u64::MAX), Unset("chosen by the plan, so that it takes less than 3 % of the steps' time"), true,
        Field::OptionalInteger(|h| &mut h.forgetting_every),
        "optimizer steps between looks at what the model forgets of the texts in `generalData`; there is one at each epoch's end"),
    key("forgettingPositions", integers(0, 256), Unset("chosen by the plan, likewise; with `maxForgetting` as many as are possible"), true,
        Field::OptionalInteger(|h| &mut h.forgetting_positions),
        "positions of those texts, drawn by `seed`, that a look compares with the base; `0` turns it off"),
    key("maxForgetting", Range::Number { min: 0.0, max: 100.0, above_min: true, below_max: false }, Unset("no limit"), true,
        Field::OptionalNumber(|h| &mut h.max_forgetting),
        "nats per token by which the NLL of those positions may rise; beyond it the run ends and the best checkpoint within it is kept"),
    key("sampleGenerations", integers(0, 16), Always("3"), false, Field::Integer(|h| &mut h.sample_generations),
        "prompts of the validation (else training) data, drawn by `seed`, that the model answers at each epoch's end; `0` turns it off"),
    key("gate", Range::Gate, Unset("no gate"), false, Field::OptionalGate(|h| &mut h.gate),
        "what the comparison with the base must show; `task` and `general` are all suites of the list, a suite's own name is that suite, \
         and the number is a bound for the lower end of the 95 % interval of the gain; a model that fails is marked, the exit code is 3"),
    key("chatTemplate", Range::Location, Unset("the base's own"), true, Field::OptionalLocation(|h| &mut h.chat_template),
        "file with the Jinja template that lays conversations out"),
    key("recompute", Range::Choice(Recompute::NAMES), Always("auto"), false, Field::Recompute(|h| &mut h.recompute),
        "what the backward pass computes again to save memory: nothing, each block from its input, or each from the input of a group \
         of about the root of the blocks (one and two forward passes more); the bits stay; `auto` goes by the memory there is"),
    key("dtype", Range::Choice(Dtype::NAMES), Always("float32"), true, Field::Dtype(|h| &mut h.dtype),
        "type of weights and computation; updates and the saved model stay in float32"),
];
