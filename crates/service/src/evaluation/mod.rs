//! Evaluation jobs: `outcrop eval` on one or two models in a process of its own (`runner`), and what it found as objects
//! in the output location (`results`). Scores are by log-likelihood, so the settings of a generation play no part.

mod results;
pub(crate) mod runner;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::AppState;

/// Bedrock's metric that is there: the share of right answers, where answers are labels or choices.
pub(crate) const ACCURACY: &str = "Builtin.Accuracy";
/// Nats per token of the reference response: Outcrop's own, which every dataset has.
pub(crate) const NLL: &str = "Outcrop.NegativeLogLikelihood";

/// What an evaluation job does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    /// What `outcrop eval --base` is given.
    pub base: String,
    /// One or two models.
    pub models: Vec<Model>,
    /// The datasets.
    pub datasets: Vec<Dataset>,
    /// `s3://` location of the results.
    pub output: String,
}

/// A model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Model {
    /// As the request names it.
    pub identifier: String,
    /// What `outcrop eval --model` is given.
    pub name: String,
}

/// A dataset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dataset {
    /// Its name in the results.
    pub name: String,
    /// Bedrock's type of the task.
    pub task: String,
    /// Metrics that are asked for.
    pub metrics: Vec<String>,
    /// `s3://` location of the records.
    pub location: String,
}

impl Work {
    /// The locations of the datasets, each once.
    fn locations(&self) -> Vec<&str> {
        let mut found: Vec<&str> = Vec::new();
        for dataset in &self.datasets {
            if !found.contains(&dataset.location.as_str()) {
                found.push(&dataset.location);
            }
        }
        found
    }

    /// Where `outcrop eval` leaves the report on a model.
    fn report(&self, folder: &Path, index: usize) -> std::io::Result<PathBuf> {
        let report = folder.join(REPORT);
        if self.models.len() == 1 {
            return Ok(report);
        }
        let prefix = format!("{}-", index + 1);
        let entries = fs_err::read_dir(&report)?.flatten();
        let found = entries
            .map(|entry| entry.path())
            .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix)));
        Ok(found.unwrap_or_else(|| report.join(prefix)))
    }

    /// Whether every report is there.
    fn is_done(&self, folder: &Path) -> bool {
        let has = |index| self.report(folder, index).is_ok_and(|report| report.join("report.json").is_file());
        (0..self.models.len()).all(has)
    }
}

/// Folder of the reports in that of an evaluation job.
const REPORT: &str = "report";

/// The folder of an evaluation job.
pub(crate) fn folder(state: &AppState, id: &str) -> PathBuf {
    state.home().evaluations_dir().join(id)
}
