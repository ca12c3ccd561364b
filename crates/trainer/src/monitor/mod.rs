//! What looks at a run while it trains: the validation loss and when it ends the run. Nothing here changes a weight.
//! When each looks, and what is kept at the end, is in `run`.

pub(crate) mod stopping;
pub(crate) mod validation;

use crate::sets::DataSets;
use crate::{Result, TrainError};
use outcrop_job::Hyperparameters;

/// Errors: a setting that watches something that isn't there.
pub(crate) fn check(settings: &Hyperparameters, data: &DataSets) -> Result<()> {
    if settings.early_stopping().is_some() && data.validation.is_empty() {
        let key =
            if settings.early_stopping_patience.is_some() { "earlyStoppingPatience" } else { "earlyStoppingThreshold" };
        return Err(TrainError::Plan(format!(
            "hyperParameters.{key} watches the validation loss, but there are no validation data; give validationDataConfig \
             or evalPercentage, or leave it out"
        )));
    }
    Ok(())
}
