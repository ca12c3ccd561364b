//! Hyperparameters with types. `table` is the one list of keys (name, range, default, what it does); everything here
//! reads it: `resolve` from the request's strings, `effective` back to strings, help and documentation.

mod table;
#[cfg(test)]
mod tests;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::gate::Gate;
use crate::wording::{nearest, quote};
use crate::{CustomizationType, StringMap};

pub use table::{DefaultValue, Key, Range, table};

/// How the learning rate goes on after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Schedule {
    /// Falls in a line to zero at the last step.
    #[default]
    Linear,
    /// Stays.
    Constant,
    /// Falls along half a cosine to zero at the last step.
    Cosine,
    /// Warm-up, stable, decay: stays, then falls in a line to zero over the last `decayFraction` of the steps.
    Wsd,
}

/// Which weights are trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Trainable {
    /// The output projection alone; everything below is frozen.
    #[default]
    Head,
    /// The last blocks, so many of them, with the final norm and the head; the rest is frozen.
    Last(u64),
    /// Every weight.
    All,
}

impl Trainable {
    /// Whether a part of the base stays frozen, so that its features can be computed once.
    pub fn is_frozen_below(self) -> bool {
        self != Self::All
    }

    fn from_name(name: &str) -> Option<Self> {
        match name {
            "head" => Some(Self::Head),
            "all" => Some(Self::All),
            // a number as it is written back: no sign, no leading zero, so never `last:0`
            _ => name
                .strip_prefix("last:")
                .filter(|n| n.starts_with(|c: char| ('1'..='9').contains(&c)))?
                .parse()
                .ok()
                .map(Self::Last),
        }
    }
}

impl std::fmt::Display for Trainable {
    fn fmt(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self {
            Self::Head => formatter.write_str("head"),
            Self::Last(blocks) => write!(formatter, "last:{blocks}"),
            Self::All => formatter.write_str("all"),
        }
    }
}

/// What happens to a record longer than `maxSequenceLength`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LongRecords {
    /// The job stops and names it.
    #[default]
    Error,
    /// It is left out and counted.
    Drop,
    /// Its prompt loses tokens at the front.
    Truncate,
}

/// Whether a block's values are kept for the backward pass or computed again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Recompute {
    /// Kept.
    None,
    /// Computed again from the block's input.
    Block,
    /// Computed again from the input of a group of blocks, twice: the least memory.
    Group,
    /// The plan chooses by the memory there is.
    #[default]
    Auto,
}

/// What turns gradients into updates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OptimizerKind {
    /// AdamW, moments in f32.
    #[default]
    AdamW,
    /// AdamW, moments in 8 bits.
    AdamW8bit,
    /// Gradient descent with momentum.
    Sgd,
    /// Lion: the sign of a momentum.
    Lion,
}

/// Type of weights and computation; what is updated and saved is f32 in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Dtype {
    /// 32 bits.
    #[default]
    Float32,
    /// 16 bits, with f32 masters of the weights that train.
    Bfloat16,
}

macro_rules! names {
    ($type:ident { $($variant:ident = $name:literal),* }) => {
        impl $type {
            /// Every value by its name in a request.
            pub const NAMES: &'static [&'static str] = &[$($name),*];

            /// The name in a request.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }

            fn from_name(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$variant),)* _ => None }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
                formatter.write_str(self.as_str())
            }
        }
    };
}

names!(Schedule { Linear = "linear", Constant = "constant", Cosine = "cosine", Wsd = "wsd" });
names!(LongRecords { Error = "error", Drop = "drop", Truncate = "truncate" });
names!(OptimizerKind { AdamW = "adamw", AdamW8bit = "adamw8bit", Sgd = "sgd", Lion = "lion" });
names!(Dtype { Float32 = "float32", Bfloat16 = "bfloat16" });
names!(Recompute { None = "none", Block = "block", Group = "group", Auto = "auto" });

/// The settings of a run, after defaults. Serialised as the map of strings that `effective` gives.
#[derive(Debug, Clone, PartialEq)]
pub struct Hyperparameters {
    /// Passes over the training data.
    pub epoch_count: u64,
    /// Records (or rows of text) per optimizer step.
    pub batch_size: u64,
    /// Highest learning rate.
    pub learning_rate: f64,
    /// Optimizer steps over which the learning rate rises in a line to `learning_rate`.
    pub learning_rate_warmup_steps: u64,
    /// Course of the learning rate after the warm-up.
    pub schedule: Schedule,
    /// Share of a `wsd` run's steps over which the learning rate falls.
    pub decay_fraction: f64,
    /// Which weights are trained.
    pub trainable: Trainable,
    /// Most tokens of one record or row; None: the base model's context.
    pub max_sequence_length: Option<u64>,
    /// Most tokens of one forward and backward pass; None: the plan chooses by memory.
    pub micro_batch_tokens: Option<u64>,
    /// Steps after which the run ends even within an epoch.
    pub max_steps: Option<u64>,
    /// Seed of the order of records and of everything else drawn at random.
    pub seed: u64,
    /// Whether each epoch has an order of its own; otherwise the file's order.
    pub shuffle: bool,
    /// What turns gradients into updates.
    pub optimizer: OptimizerKind,
    /// Weight decay: decoupled, but with SGD added to the gradient.
    pub weight_decay: f64,
    /// Largest gradient norm (l2, over all trained tensors); 0 turns clipping off (R37).
    pub clip_norm: f64,
    /// Weight of the z-loss in what is differentiated.
    pub z_loss_weight: f64,
    /// AdamW's decay of the first moment; Lion's share of the momentum in a step.
    pub adam_beta1: f64,
    /// AdamW's decay of the second moment; Lion's of its momentum.
    pub adam_beta2: f64,
    /// AdamW's epsilon, added outside the root.
    pub adam_epsilon: f64,
    /// SGD's momentum.
    pub momentum: f64,
    /// What happens to records that are too long (R11).
    pub long_records: LongRecords,
    /// How many records may have an empty completion (R7).
    pub allow_empty_completions: u64,
    /// Steps between checkpoints; None: at epochs' ends, 10 seconds or more apart. There is always one at the end.
    pub checkpoint_steps: Option<u64>,
    /// How many of the latest checkpoints are kept.
    pub keep_checkpoints: u64,
    /// Percentage of the training records held out for validation.
    pub eval_percentage: f64,
    /// Nats that count as an improvement of the validation loss; None: see [`Hyperparameters::early_stopping`].
    pub early_stopping_threshold: Option<f64>,
    /// Validations without one before the run ends; None: see [`Hyperparameters::early_stopping`].
    pub early_stopping_patience: Option<u64>,
    /// Locations of task items for the comparison with the base model.
    pub evaluation_data: Vec<String>,
    /// Locations of general items for the forgetting check; empty: none.
    pub general_data: Vec<String>,
    /// Steps between looks at forgetting; None: the plan chooses.
    pub forgetting_every: Option<u64>,
    /// Positions of a look; None: the plan chooses; 0: there is none.
    pub forgetting_positions: Option<u64>,
    /// Largest rise of the NLL on general text, nats per token (R32).
    pub max_forgetting: Option<f64>,
    /// Prompts that are answered at each epoch's end.
    pub sample_generations: u64,
    /// What the comparison with the base must show.
    pub gate: Option<Gate>,
    /// Location of the chat template that conversations are laid out with; None: the base's own.
    pub chat_template: Option<String>,
    /// Recomputation in the backward pass.
    pub recompute: Recompute,
    /// Type of weights and computation.
    pub dtype: Dtype,
}

/// What is wrong with one hyperparameter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HyperparameterError {
    /// No such key (R33).
    #[error("unknown hyperparameter {}; the nearest known one is `{nearest}`", quote(key))]
    Unknown {
        /// As given.
        key: String,
        /// The known key most like it.
        nearest: String,
    },
    /// Not of the key's kind, or out of its range.
    #[error("hyperParameters.{key} is {}, allowed are {allowed}", quote(value))]
    Value {
        /// The key.
        key: &'static str,
        /// As given.
        value: String,
        /// The key's range in words.
        allowed: String,
    },
    /// A key of another optimizer than the request's: nothing is silently ignored.
    #[error("hyperParameters.{key} has no effect with optimizer `{optimizer}`, only with {with}; leave it out")]
    NoEffect {
        /// The key.
        key: &'static str,
        /// The request's.
        optimizer: OptimizerKind,
        /// Those that read the key, in words.
        with: String,
    },
    /// A key that the request's schedule doesn't read.
    #[error(
        "hyperParameters.{key} has no effect with schedule `{schedule}`, only with `{}`; leave it out",
        Schedule::Wsd
    )]
    NotScheduled {
        /// The key.
        key: &'static str,
        /// The request's.
        schedule: Schedule,
    },
}

impl Hyperparameters {
    /// The settings of a job whose request gives none.
    pub fn defaults(customization_type: CustomizationType) -> Self {
        Self::defaults_with(customization_type, OptimizerKind::default())
    }

    /// Those of a job whose request gives an optimizer alone.
    fn defaults_with(customization_type: CustomizationType, optimizer: OptimizerKind) -> Self {
        let mut defaults = Self::blank();
        for key in table() {
            if let Some(text) = key.default.text(customization_type, optimizer) {
                let fits = key.set(&mut defaults, text);
                assert!(fits, "the table's default of `{}` is in its range", key.name);
            }
        }
        defaults
    }

    /// Before the table has filled it; no run sees these values.
    fn blank() -> Self {
        Self {
            epoch_count: 0,
            batch_size: 0,
            learning_rate: 0.0,
            learning_rate_warmup_steps: 0,
            schedule: Schedule::default(),
            decay_fraction: 0.0,
            trainable: Trainable::default(),
            max_sequence_length: None,
            micro_batch_tokens: None,
            max_steps: None,
            seed: 0,
            shuffle: false,
            optimizer: OptimizerKind::default(),
            weight_decay: 0.0,
            clip_norm: 0.0,
            z_loss_weight: 0.0,
            adam_beta1: 0.0,
            adam_beta2: 0.0,
            adam_epsilon: 0.0,
            momentum: 0.0,
            long_records: LongRecords::default(),
            allow_empty_completions: 0,
            checkpoint_steps: None,
            keep_checkpoints: 0,
            eval_percentage: 0.0,
            early_stopping_threshold: None,
            early_stopping_patience: None,
            evaluation_data: Vec::new(),
            general_data: Vec::new(),
            forgetting_every: None,
            forgetting_positions: None,
            max_forgetting: None,
            sample_generations: 0,
            gate: None,
            chat_template: None,
            recompute: Recompute::default(),
            dtype: Dtype::default(),
        }
    }

    /// Reads the request's strings; absent keys get the defaults of `customization_type` and of the request's optimizer.
    ///
    /// # Errors
    /// Every unknown key, every value out of range, and every key that the optimizer or the schedule doesn't read.
    pub fn resolve(map: &StringMap, customization_type: CustomizationType) -> Result<Self, Vec<HyperparameterError>> {
        // An optimizer or schedule that isn't one is reported below.
        let schedule = map.get("schedule").and_then(Schedule::from_name).unwrap_or_default();
        let optimizer = map.get("optimizer").and_then(OptimizerKind::from_name).unwrap_or_default();
        let mut resolved = Self::defaults_with(customization_type, optimizer);
        let mut errors = Vec::new();
        for (name, text) in map.iter() {
            let Some(key) = table().iter().find(|key| key.name == name) else {
                let nearest = nearest(name, table().iter().map(|key| key.name)).unwrap_or_default();
                errors.push(HyperparameterError::Unknown { key: name.to_string(), nearest: nearest.to_string() });
                continue;
            };
            if !key.set(&mut resolved, text) {
                let allowed = key.range.to_string();
                errors.push(HyperparameterError::Value { key: key.name, value: text.to_string(), allowed });
            } else if !key.has_effect(optimizer) {
                let with: Vec<String> = key.optimizers.iter().map(|name| format!("`{name}`")).collect();
                errors.push(HyperparameterError::NoEffect { key: key.name, optimizer, with: with.join(", ") });
            } else if !key.is_scheduled(schedule) {
                errors.push(HyperparameterError::NotScheduled { key: key.name, schedule });
            }
        }
        if errors.is_empty() { Ok(resolved) } else { Err(errors) }
    }

    /// Threshold and patience of early stopping, where the request sets one of them; the other is then the default that
    /// Bedrock documents for Claude 3.
    pub fn early_stopping(&self) -> Option<(f64, u64)> {
        let (threshold, patience) = (self.early_stopping_threshold, self.early_stopping_patience);
        (threshold.is_some() || patience.is_some()).then(|| (threshold.unwrap_or(0.001), patience.unwrap_or(2)))
    }

    /// Every setting as a string, in the table's order; keys that are unset and have no default are left out, and those
    /// that the optimizer or the schedule doesn't read. `resolve` reads it back to the same values, bit for bit.
    pub fn effective(&self) -> StringMap {
        let keys = table().iter().filter(|key| key.has_effect(self.optimizer) && key.is_scheduled(self.schedule));
        keys.filter_map(|key| Some((key.name, key.get(self)?))).collect()
    }
}

impl Serialize for Hyperparameters {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.effective().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Hyperparameters {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let map = StringMap::deserialize(deserializer)?;
        // `effective` writes every key whose default depends on the customization type, so the type doesn't matter.
        Self::resolve(&map, CustomizationType::default()).map_err(|errors| {
            let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
            D::Error::custom(lines.join("; "))
        })
    }
}
