//! `model.json` of a custom model: what it is made of, where it comes from and how it scored. The tensors themselves
//! are in the delta file beside it.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::plan::DataFile;
use crate::{CustomizationType, Hyperparameters};

/// A custom model with its lineage. Hashes are BLAKE3 in hexadecimal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ModelRecord {
    /// The model's id, which is not its job's.
    pub id: String,
    /// Its name, unique among custom models.
    pub name: String,
    /// When it was made.
    #[serde(with = "crate::timestamp")]
    pub created: Timestamp,
    /// The job that made it.
    pub job_id: String,
    /// That job's name.
    pub job_name: String,
    /// The model it lies on top of.
    pub base: BaseReference,
    /// What was done to it.
    pub customization_type: CustomizationType,
    /// Names of the tensors that changed, sorted.
    pub tensors: Vec<String>,
    /// File of those tensors, beside this record.
    pub delta_file: String,
    /// Hash of that file.
    pub delta_hash: String,
    /// Losses at the end.
    pub metrics: Metrics,
    /// Summary of the comparison with the base (R32), the evaluation's own JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comparison: Option<Value>,
    /// The chat template that conversations were laid out with, where it isn't the base's own (R9, R30).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chat_template: Option<String>,
    /// Every setting after defaults.
    pub hyperparameters: Hyperparameters,
    /// What it was trained on.
    pub training_data: Vec<DataFile>,
    /// Version of the engine.
    pub engine_version: String,
    /// `gate: failed` and why, where the model failed its gate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<String>,
}

/// The base of a custom model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BaseReference {
    /// As the request named it.
    pub identifier: String,
    /// Where it was.
    pub path: PathBuf,
    /// Hash of its content; a model is only put on a base that has it.
    pub hash: String,
}

/// Losses of a finished run, in nats per target.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Metrics {
    /// Of the last step.
    #[serde(with = "crate::float")]
    pub training_loss: f64,
    /// Of each validation set, in the request's order.
    pub validation: Vec<ValidationMetric>,
}

/// Final loss of one validation set.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ValidationMetric {
    /// Sum of NLL divided by targets.
    #[serde(with = "crate::float")]
    pub validation_loss: f64,
}
