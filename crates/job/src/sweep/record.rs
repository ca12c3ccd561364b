//! The plan of a sweep and what became of its trials. Plain data; losses are in nats per target.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Varied;
use crate::StringMap;

/// `plan.json` of a sweep.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SweepPlan {
    /// Version of the engine that made the plan; another one doesn't go on with it.
    pub engine_version: String,
    /// The sweep's id.
    pub sweep_id: String,
    /// Its name; trials have it with their number behind it.
    pub name: String,
    /// When it began.
    #[serde(with = "crate::timestamp")]
    pub created: Timestamp,
    /// Where trials run.
    pub device: String,
    /// What varies.
    pub varied: Vec<Varied>,
    /// Every trial, in order.
    pub trials: Vec<TrialPlan>,
    /// How trials share their steps; each trial is in one of these.
    pub runs: Vec<RunPlan>,
    /// Epochs of all trials, each counted alone.
    pub trial_epochs: f64,
    /// Epochs that are really trained.
    pub trained_epochs: f64,
    /// Whether what is frozen runs once for all epochs and trials.
    pub trunk_once: bool,
    /// Hash of the base.
    pub base_hash: String,
    /// Hash of what shapes the first trial's result: with it a change of the data is seen.
    pub config_hash: String,
    /// The validation set that selects.
    pub selection: String,
    /// The test set of the winner.
    pub test: Vec<String>,
    /// Largest p value at which a trial that is behind ends early; None: none does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_losers: Option<f64>,
    /// Bytes of all models.
    pub models_bytes: u64,
    /// Bytes of checkpoints that exist at a time, at most.
    pub checkpoint_bytes: u64,
}

/// One trial of a plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TrialPlan {
    /// From 1.
    pub number: usize,
    /// Its values of what varies.
    pub settings: StringMap,
    /// The id of its job.
    pub job_id: String,
    /// The name of its job.
    pub job_name: String,
    /// The name of its model.
    pub model_name: String,
    /// Epochs, cut by `maxSteps`.
    pub epochs: f64,
    /// Optimizer steps.
    pub steps: u64,
}

/// Trials that share steps: each but the last is a prefix of the next, or branches off it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunPlan {
    /// Numbers of the trials, the shortest first.
    pub trials: Vec<usize>,
    /// The step after which each but the last hands on to the next: its end, or the begin of its decay.
    pub forks: Vec<u64>,
}

/// What became of a trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrialStatus {
    /// Its model is there.
    Completed,
    /// Loss or gradient stopped being finite.
    Diverged,
    /// Ended early: significantly behind another trial.
    Stopped,
}

impl TrialStatus {
    /// In a table.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Diverged => "diverged",
            Self::Stopped => "stopped early",
        }
    }
}

/// A validation loss on the way.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct EpochLoss {
    /// Steps done.
    pub step: u64,
    /// Of the set that selects.
    #[serde(with = "crate::float")]
    pub loss: f64,
}

/// The tuned model against its base on one suite.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// The suite.
    pub suite: String,
    /// The measure, such as `accuracy`.
    pub measure: String,
    /// The base's value.
    #[serde(with = "crate::float")]
    pub base: f64,
    /// The trial's.
    #[serde(with = "crate::float")]
    pub tuned: f64,
    /// Rise of the NLL per token over the base, nats; negative is a gain.
    #[serde(with = "crate::float")]
    pub nll_rise: f64,
}

/// A line of `trials.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TrialResult {
    /// Its number.
    pub trial: usize,
    /// What became of it.
    pub status: TrialStatus,
    /// Why it ended before its end, on one line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Steps done, those shared with another trial too.
    pub steps: u64,
    /// Its job's folder, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<PathBuf>,
    /// Its model's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Hash of its model's tensors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delta_hash: Option<String>,
    /// Loss of its last step.
    #[serde(with = "crate::float")]
    pub training_loss: f64,
    /// Losses of the set that selects: before training, at each epoch's end.
    pub validation: Vec<EpochLoss>,
    /// Losses of that set's items at each epoch's end, where losers stop early.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub items: Vec<Vec<f64>>,
    /// The task, on the set that selects.
    pub task: Vec<Change>,
    /// General suites.
    pub general: Vec<Change>,
    /// The headline of its comparison.
    pub headline: String,
    /// Seconds of its own steps.
    pub seconds: f64,
}

impl TrialResult {
    /// Validation loss at its end; None where it has no end.
    pub fn final_loss(&self) -> Option<f64> {
        let last = self.validation.last().map(|last| last.loss);
        last.filter(|loss| loss.is_finite() && self.status == TrialStatus::Completed)
    }
}
