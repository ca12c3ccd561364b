//! Bedrock's `CreateModelCustomizationJob` body, as a file gives it or as it comes over the network. Reading it from
//! JSON is in `json`, Bedrock's constraints in `constraints`, `--set key=value` in `set`. Hyperparameters stay strings
//! here, byte for byte; `crate::hyperparameters` gives them types.

mod constraints;
mod json;
mod set;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use crate::StringMap;

pub use constraints::{Constraint, Violation};
pub(crate) use json::{List, read_lists};
pub use json::{Problem, RequestError};
pub use set::SetError;

#[cfg(test)]
pub(crate) use constraints::is_job_name;
pub(crate) use constraints::{S3_URI_PATTERN, is_foundation_id, is_model_name, is_s3_uri};

/// Where a request comes from: a file may leave names away and use paths on disk, the network may not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A file on this machine: unknown members are errors, names are optional, locations may be paths.
    File,
    /// An HTTP body: unknown members are ignored as Bedrock does, its required members are required, locations are
    /// `s3://` URIs. `customModelName` may be absent; the caller derives it with `names::default_model_name`.
    Network,
}

/// What a job does to the base model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum CustomizationType {
    /// Prompts with completions; only completions are targets. Bedrock's default.
    #[default]
    FineTuning,
    /// Plain text; every token but the first is a target.
    ContinuedPreTraining,
}

impl CustomizationType {
    /// Bedrock's spelling.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::FineTuning => "FINE_TUNING",
            Self::ContinuedPreTraining => "CONTINUED_PRE_TRAINING",
        }
    }
}

impl std::fmt::Display for CustomizationType {
    fn fmt(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// The request of one job. Members carry Bedrock's names in camelCase; an empty `base_model_identifier` or
/// `training_data_config.s3_uri` means absent, which `validate` refuses.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Request {
    /// Name of the job, unique among jobs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job_name: Option<String>,
    /// Name of the model that the job makes, unique among custom models.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub custom_model_name: Option<String>,
    /// Bedrock's IAM role. Kept and echoed; nothing here uses it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role_arn: Option<String>,
    /// Makes a repeated request harmless.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_request_token: Option<String>,
    /// The base model: a folder or GGUF file, a known name, a custom model or an ARN.
    pub base_model_identifier: String,
    /// What to do to it.
    pub customization_type: CustomizationType,
    /// Training data.
    pub training_data_config: DataLocation,
    /// Validation data, at most ten sets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation_data_config: Option<ValidationDataConfig>,
    /// Where artifacts go; absent in a file means the job's own folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_data_config: Option<DataLocation>,
    /// Hyperparameters as written.
    pub hyper_parameters: StringMap,
    /// Tags of the job.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub job_tags: Vec<Tag>,
    /// Tags that the model gets when it is made.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub custom_model_tags: Vec<Tag>,
    /// Bedrock's encryption key. Kept and echoed; see `without_effect`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub custom_model_kms_key_id: Option<String>,
    /// Bedrock's network settings. Kept and echoed; see `without_effect`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vpc_config: Option<VpcConfig>,
}

/// One location: an `s3://` URI, or, in a file, a path relative to the request's folder.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct DataLocation {
    /// The URI or path.
    pub s3_uri: String,
}

/// The validation sets.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ValidationDataConfig {
    /// One location a set, in order.
    pub validators: Vec<DataLocation>,
}

/// A tag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tag {
    /// 1 to 128 characters.
    pub key: String,
    /// 0 to 256 characters.
    pub value: String,
}

/// Bedrock's network settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VpcConfig {
    /// 1 to 16 ids.
    pub subnet_ids: Vec<String>,
    /// 1 to 5 ids.
    pub security_group_ids: Vec<String>,
}

impl Request {
    /// The validation sets' locations, in order; empty where none are given.
    pub fn validators(&self) -> &[DataLocation] {
        self.validation_data_config.as_ref().map_or(&[], |config| config.validators.as_slice())
    }

    /// Members that are present but change nothing on one's own machine, for a warning.
    pub fn without_effect(&self) -> Vec<&'static str> {
        let mut members = Vec::new();
        if self.custom_model_kms_key_id.is_some() {
            members.push("customModelKmsKeyId");
        }
        if self.vpc_config.is_some() {
            members.push("vpcConfig");
        }
        members
    }
}
