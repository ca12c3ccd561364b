//! What will run: the request after defaults, resolved against data, model and device. Plain data that the trainer
//! fills and that is saved as `plan.json`; its hash and its differences decide whether a run may be resumed (R27).

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::hyperparameters::{Recompute, table};
use crate::{CustomizationType, Hyperparameters};

/// The plan of one job. Bytes, tokens and counts are totals; hashes are BLAKE3 in hexadecimal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// Version of the engine that made the plan.
    pub engine_version: String,
    /// The job's id.
    pub job_id: String,
    /// The job's name, given or derived.
    pub job_name: String,
    /// The custom model's name, given or derived.
    pub custom_model_name: String,
    /// What is done to the base model.
    pub customization_type: CustomizationType,
    /// Every setting after defaults.
    pub hyperparameters: Hyperparameters,
    /// The base model.
    pub base: BasePlan,
    /// Training and validation data.
    pub data: DataPlan,
    /// What is trained.
    pub trainable: TrainablePlan,
    /// How many optimizer steps.
    pub steps: StepPlan,
    /// Where it runs, such as `cpu` or `cuda:0`.
    pub device: String,
    /// Most tokens of a record or row, after the base model's context capped it.
    pub max_sequence_length: u64,
    /// Most tokens of one forward and backward pass, chosen or given.
    pub micro_batch_tokens: u64,
    /// What the backward pass computes again, chosen or given; never `auto`.
    pub recompute: Recompute,
    /// Memory by part (R24).
    pub memory: MemoryPlan,
    /// Disk that the run takes at most, checkpoints times retention (R18).
    pub disk_bytes: u64,
    /// The features of the frozen part, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub features: Option<FeaturePlan>,
    /// How forgetting is watched, where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monitor: Option<MonitorPlan>,
    /// Estimated time of the run, where it was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<TimePlan>,
}

/// The base model of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BasePlan {
    /// As the request names it.
    pub identifier: String,
    /// Where it was found.
    pub path: PathBuf,
    /// Hash of its content.
    pub hash: String,
    /// Architecture, such as `llama`.
    pub family: String,
    /// Parameters.
    pub parameters: u64,
    /// Longest sequence it was made for, in tokens.
    pub context_length: u64,
}

/// The data of a plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DataPlan {
    /// What is trained on, without what `evalPercentage` holds out.
    pub training: DataSet,
    /// The validation sets, in the request's order.
    pub validation: Vec<DataSet>,
}

/// One prepared set of data.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DataSet {
    /// As the request names it.
    pub location: String,
    /// Its files, in order.
    pub files: Vec<DataFile>,
    /// Records or documents.
    pub records: u64,
    /// Tokens of one pass.
    pub tokens: u64,
    /// Targets of one pass.
    pub target_tokens: u64,
    /// Tokens of the longest record.
    pub longest: u64,
    /// Records left out by `longRecords` (R11).
    pub dropped_records: u64,
    /// Targets lost with them or by cutting (R11).
    pub lost_target_tokens: u64,
    /// Keys of the records that mean nothing here, with how many records have them.
    #[serde(default)]
    pub extra_keys: BTreeMap<String, u64>,
    /// What the user should know, a line each.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// A file of a set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DataFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// Hash of its content.
    pub hash: String,
}

/// What a plan trains.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TrainablePlan {
    /// `head`, `last:N` or `all`.
    pub kind: String,
    /// Tensors.
    pub tensors: u64,
    /// Parameters.
    pub parameters: u64,
}

/// The optimizer steps of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StepPlan {
    /// Of one epoch, the short last one included (R4).
    pub per_epoch: u64,
    /// Of the run.
    pub total: u64,
}

/// Memory of a plan, by part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MemoryPlan {
    /// The model, 32-bit masters included.
    pub weights_bytes: u64,
    /// Gradients.
    pub gradient_bytes: u64,
    /// The optimizer's moments.
    pub optimizer_bytes: u64,
    /// Activations of the worst batch (R16).
    pub activation_bytes: u64,
    /// What the forgetting monitor keeps of the base, and its logits.
    #[serde(default)]
    pub monitor_bytes: u64,
    /// All together.
    pub total_bytes: u64,
}

/// What a frozen trunk gives, once for every epoch and trial. Stored or computed, the result has the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FeaturePlan {
    /// Size on disk of those of all data.
    pub bytes: u64,
    /// Whether they are kept there; otherwise the trunk runs in every epoch.
    pub stored: bool,
}

/// Looks at what a model forgets while it trains, and what they cost. A resumed run goes on with them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MonitorPlan {
    /// Positions of general text, the same at every look.
    pub positions: u64,
    /// Steps between looks, beside those at the epochs' ends.
    pub every: u64,
    /// Looks of the run, the base's own included.
    pub looks: u64,
    /// Seconds of a look, measured.
    pub look_seconds: f64,
    /// Seconds of all looks over those of all steps.
    pub share: f64,
}

/// Estimated time of a run, from measured steps (R24).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TimePlan {
    /// Lower end.
    pub seconds_low: f64,
    /// Upper end.
    pub seconds_high: f64,
}

impl TimePlan {
    /// The shortest that was measured, without its margin: nothing of a frozen trunk that a store may hold already.
    pub fn seconds_least(&self) -> f64 {
        self.seconds_low / Self::LOW_MARGIN
    }

    /// The lower end over the shortest of the measurements.
    pub const LOW_MARGIN: f64 = 0.9;
    /// The upper end over the longest of them.
    pub const HIGH_MARGIN: f64 = 1.2;
}

/// One member in which two plans differ; displayed as ``learningRate: `1e-4` -> `1e-3` ``.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Its name.
    pub member: String,
    /// In the first plan.
    pub before: String,
    /// In the second.
    pub after: String,
    /// Whether it shapes the result; a run may be resumed only where no difference does.
    pub shapes_result: bool,
}

impl fmt::Display for Difference {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        write!(formatter, "{}: `{}` -> `{}`", self.member, self.before, self.after)
    }
}

/// One member of a plan as text, and whether it shapes the result.
struct PlanMember {
    name: String,
    value: String,
    shapes_result: bool,
}

impl Plan {
    /// BLAKE3 (hexadecimal) of the members that shape the result: what is trained, from what, on what, how, and where.
    /// Names, paths, retention and what is measured afterwards don't count.
    pub fn config_hash(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        for member in self.members().iter().filter(|member| member.shapes_result) {
            for text in [&member.name, &member.value] {
                // The length first, so that no two lists of members give the same bytes.
                hasher.update(&(text.len() as u64).to_le_bytes());
                hasher.update(text.as_bytes());
            }
        }
        hasher.finalize().to_hex().to_string()
    }

    /// Every member in which `other` differs (R27), in a fixed order.
    pub fn differences(&self, other: &Self) -> Vec<Difference> {
        const UNSET: &str = "unset";
        let (before, after) = (self.members(), other.members());
        let value = |members: &[PlanMember], name: &str| {
            let found = members.iter().find(|member| member.name == name);
            found.map_or(UNSET, |member| member.value.as_str()).to_string()
        };
        // Optional settings and validation sets may be in one plan alone.
        let added = after.iter().filter(|member| before.iter().all(|known| known.name != member.name));
        let names = before.iter().chain(added);
        names
            .map(|member| Difference {
                member: member.name.clone(),
                before: value(&before, &member.name),
                after: value(&after, &member.name),
                shapes_result: member.shapes_result,
            })
            .filter(|difference| difference.before != difference.after)
            .collect()
    }

    fn members(&self) -> Vec<PlanMember> {
        let mut members = Vec::new();
        let mut add = |name: &str, value: String, shapes_result| {
            members.push(PlanMember { name: name.to_string(), value, shapes_result });
        };
        add("customizationType", self.customization_type.to_string(), true);
        for (name, value) in self.hyperparameters.effective().iter() {
            let shapes_result = table().iter().any(|key| key.name == name && key.shapes_result);
            add(name, value.to_string(), shapes_result);
        }
        add("base", self.base.hash.clone(), true);
        add("trainingData", self.data.training.content(), true);
        for (index, set) in self.data.validation.iter().enumerate() {
            // Validation is measured along the way and changes no weight, but a log of two halves measured on
            // different sets is no curve.
            add(&format!("validationData[{index}]"), set.content(), true);
        }
        add("trainedParameters", self.trainable.parameters.to_string(), true);
        add("totalSteps", self.steps.total.to_string(), true);
        add("device", self.device.clone(), true);
        add("sequenceLength", self.max_sequence_length.to_string(), true);
        // Another cut of the step adds the same numbers in another order: equal but for rounding, not bit for bit.
        add("tokensPerPass", self.micro_batch_tokens.to_string(), true);
        add("engineVersion", self.engine_version.clone(), true);
        members
    }
}

impl DataSet {
    /// The set's content in a few words: what of it is trained on and the hashes of its files, without their names.
    fn content(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        for file in &self.files {
            hasher.update(&(file.hash.len() as u64).to_le_bytes());
            hasher.update(file.hash.as_bytes());
        }
        let hash = &hasher.finalize().to_hex()[..16];
        format!("{} records, {} tokens, {} targets, {hash}", self.records, self.tokens, self.target_tokens)
    }
}

/// `plan.json`: the plan and the hash it was written with.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SavedPlan {
    config_hash: String,
    plan: Plan,
}

impl SavedPlan {
    pub(crate) fn new(plan: Plan) -> Self {
        Self { config_hash: plan.config_hash(), plan }
    }

    /// The plan, if it is still the one that was written.
    pub(crate) fn verified(self) -> Option<Plan> {
        (self.plan.config_hash() == self.config_hash).then_some(self.plan)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::hyperparameters::Dtype;

    pub(crate) fn plan() -> Plan {
        let set = DataSet {
            location: "s3://bucket/train.jsonl".into(),
            files: vec![DataFile { path: "train.jsonl".into(), bytes: 10, hash: "aa".into() }],
            records: 4,
            tokens: 40,
            target_tokens: 20,
            longest: 12,
            extra_keys: [("id".to_string(), 4)].into(),
            ..DataSet::default()
        };
        Plan {
            engine_version: "0.1.0".into(),
            job_id: "abcdefghijk1".into(),
            job_name: "job".into(),
            custom_model_name: "model".into(),
            customization_type: CustomizationType::FineTuning,
            hyperparameters: Hyperparameters::defaults(CustomizationType::FineTuning),
            base: BasePlan {
                identifier: "tiny".into(),
                path: "models/tiny".into(),
                hash: "bb".into(),
                family: "llama".into(),
                parameters: 1000,
                context_length: 128,
            },
            data: DataPlan { training: set.clone(), validation: vec![set] },
            trainable: TrainablePlan { kind: "head".into(), tensors: 1, parameters: 100 },
            steps: StepPlan { per_epoch: 4, total: 20 },
            device: "cpu".into(),
            max_sequence_length: 128,
            micro_batch_tokens: 128,
            recompute: Recompute::None,
            memory: MemoryPlan { weights_bytes: 4000, total_bytes: 4000, ..MemoryPlan::default() },
            disk_bytes: 1200,
            features: Some(FeaturePlan { bytes: 10, stored: true }),
            monitor: Some(MonitorPlan { positions: 256, every: 2, looks: 11, look_seconds: 0.1 + 0.2, share: 0.01 }),
            time: Some(TimePlan { seconds_low: 0.1 + 0.2, seconds_high: 2.0f64.sqrt() }),
        }
    }

    #[test]
    fn a_plan_survives_a_round_trip() {
        let text = serde_json::to_string(&plan()).unwrap();
        assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan());
    }

    #[test]
    fn r27_the_hash_follows_what_shapes_the_result_and_nothing_else() {
        type Change = fn(&mut Plan);
        let shaping: [Change; 13] = [
            |plan| plan.customization_type = CustomizationType::ContinuedPreTraining,
            |plan| plan.hyperparameters.learning_rate = 1e-4,
            |plan| plan.hyperparameters.seed = 1,
            |plan| plan.hyperparameters.max_steps = Some(20),
            |plan| plan.base.hash = "cc".into(),
            |plan| plan.data.training.files[0].hash = "cc".into(),
            |plan| plan.data.training.records = 3,
            |plan| plan.data.validation.clear(),
            |plan| plan.steps.total = 21,
            |plan| plan.device = "cuda:0".into(),
            |plan| plan.hyperparameters.dtype = Dtype::Bfloat16,
            |plan| plan.micro_batch_tokens = 64,
            |plan| plan.engine_version = "0.2.0".into(),
        ];
        for (index, change) in shaping.iter().enumerate() {
            let mut other = plan();
            change(&mut other);
            assert_ne!(other.config_hash(), plan().config_hash(), "change {index}");
            assert!(plan().differences(&other).iter().any(|difference| difference.shapes_result), "change {index}");
        }
        let free: [Change; 8] = [
            |plan| plan.job_id = "x".into(),
            |plan| plan.custom_model_name = "x".into(),
            |plan| plan.base.path = "elsewhere".into(),
            |plan| plan.data.training.files[0].path = "elsewhere".into(),
            |plan| plan.hyperparameters.keep_checkpoints = 9,
            |plan| plan.hyperparameters.checkpoint_steps = Some(3),
            |plan| plan.hyperparameters.general_data = Vec::new(),
            |plan| plan.memory.total_bytes = 1,
        ];
        for (index, change) in free.iter().enumerate() {
            let mut other = plan();
            change(&mut other);
            assert_eq!(other.config_hash(), plan().config_hash(), "change {index}");
            assert!(plan().differences(&other).iter().all(|difference| !difference.shapes_result), "change {index}");
        }
    }

    #[test]
    fn r27_differences_are_shown_old_and_new() {
        let mut other = plan();
        other.hyperparameters.learning_rate = 1e-3;
        other.hyperparameters.checkpoint_steps = Some(3);
        other.data.validation.clear();
        let lines: Vec<String> = plan().differences(&other).iter().map(ToString::to_string).collect();
        assert_eq!(lines.len(), 3, "{lines:?}");
        assert_eq!(lines[0], "learningRate: `1e-5` -> `0.001`");
        assert!(lines[1].starts_with("validationData[0]: `4 records, 40 tokens, 20 targets, "), "{}", lines[1]);
        assert!(lines[1].ends_with("-> `unset`"), "{}", lines[1]);
        assert_eq!(lines[2], "checkpointSteps: `unset` -> `3`");
        assert!(plan().differences(&plan()).is_empty());
    }
}
