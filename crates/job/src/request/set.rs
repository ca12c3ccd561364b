//! `--set key=value`: changes one hyperparameter or one member of a request after it is read.

use super::json::parse_customization_type;
use super::{DataLocation, Request, ValidationDataConfig};
use crate::hyperparameters;
use crate::wording::{nearest, quote};

/// Why a `key=value` can't be applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SetError {
    /// No `=` in it, or nothing before it.
    #[error("{} has no key and value; write `key=value`", quote(.0))]
    NotAPair(String),
    /// Neither a hyperparameter nor a member that can be set.
    #[error("unknown key {}; the nearest known one is `{nearest}`", quote(key))]
    UnknownKey {
        /// As given.
        key: String,
        /// The known key most like it.
        nearest: String,
    },
    /// Not one of the member's values.
    #[error("{0}")]
    Value(String),
}

/// Members that can be set, by Bedrock's names and short ones for locations.
const MEMBERS: [&str; 11] = [
    "jobName",
    "customModelName",
    "roleArn",
    "clientRequestToken",
    "baseModelIdentifier",
    "customizationType",
    "trainingDataConfig.s3Uri",
    "trainingData",
    "validationData",
    "outputDataConfig.s3Uri",
    "outputData",
];

impl Request {
    /// Applies one `key=value`. The key is a hyperparameter (with or without `hyperParameters.` before it), one of
    /// Bedrock's text members, or `trainingData`, `validationData` (comma-separated, at most ten) or `outputData`.
    /// Values are checked where all values are: by `validate` and `Hyperparameters::resolve`.
    ///
    /// # Errors
    /// No pair; a key that isn't known, with the nearest one that is; a customization type that isn't run here.
    pub fn set(&mut self, pair: &str) -> Result<(), SetError> {
        let (key, value) = match pair.split_once('=') {
            Some((key, value)) if !key.trim().is_empty() => (key.trim(), value.trim()),
            _ => return Err(SetError::NotAPair(pair.to_string())),
        };
        let text = || value.to_string();
        let location = || DataLocation { s3_uri: value.to_string() };
        match key {
            "jobName" => self.job_name = Some(text()),
            "customModelName" => self.custom_model_name = Some(text()),
            "roleArn" => self.role_arn = Some(text()),
            "clientRequestToken" => self.client_request_token = Some(text()),
            "baseModelIdentifier" => self.base_model_identifier = text(),
            "customizationType" => {
                self.customization_type = parse_customization_type(value).map_err(SetError::Value)?;
            }
            "trainingDataConfig.s3Uri" | "trainingData" => self.training_data_config = location(),
            "outputDataConfig.s3Uri" | "outputData" => self.output_data_config = Some(location()),
            "validationData" => {
                let validators = value.split(',').map(|uri| DataLocation { s3_uri: uri.trim().to_string() }).collect();
                self.validation_data_config = Some(ValidationDataConfig { validators });
            }
            _ => self.set_hyperparameter(key, value)?,
        }
        Ok(())
    }

    fn set_hyperparameter(&mut self, key: &str, value: &str) -> Result<(), SetError> {
        let name = key.strip_prefix("hyperParameters.").unwrap_or(key);
        let known = hyperparameters::table().iter().map(|row| row.name);
        if known.clone().any(|known| known == name) {
            self.hyper_parameters.insert(name, value);
            return Ok(());
        }
        let nearest = nearest(name, known.chain(MEMBERS)).unwrap_or_default().to_string();
        Err(SetError::UnknownKey { key: key.to_string(), nearest })
    }
}
