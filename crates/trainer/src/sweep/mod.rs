//! A sweep: the trials of a request whose hyperparameters are lists. `plan` says which trials share steps, `conduct` runs
//! them, `trial` is one of them, `race` ends losers early, `select` chooses the winner, `verdict` judges it on a test set
//! that selection never saw, and `report` and `page` show it all. Every trial is an ordinary job.

mod conduct;
mod page;
mod plan;
mod race;
mod report;
mod select;
mod trial;
mod verdict;

pub use conduct::{SweepInputs, conduct};
pub use plan::{Trial, resolve};
pub use report::table;
pub use select::{Group, Selection};

use crate::Stage;
use outcrop_eval::Comparison;
use outcrop_job::sweep::{SweepPlan, TrialPlan, TrialResult};
use outcrop_job::{Plan, Record};
use std::path::PathBuf;

/// Watches a sweep; several trials may run at a time. Observers change nothing but ask to stop.
pub trait SweepObserver: Send {
    /// A stage before the first step of a trial has come so far.
    fn stage(&mut self, stage: Stage, done: u64, total: u64) {
        let _ = (stage, done, total);
    }

    /// The plan stands; `first` is the first trial's, `at_a_time` how many runs go side by side.
    fn planned(&mut self, plan: &SweepPlan, first: &Plan, at_a_time: usize) {
        let _ = (plan, first, at_a_time);
    }

    /// Something happened in a trial.
    fn event(&mut self, trial: &TrialPlan, record: &Record) {
        let _ = (trial, record);
    }

    /// A trial ended.
    fn ended(&mut self, trial: &TrialPlan, result: &TrialResult) {
        let _ = (trial, result);
    }

    /// Asked after every step: true checkpoints and stops every trial that runs.
    fn stop_requested(&mut self) -> bool {
        false
    }
}

/// What a finished sweep leaves.
pub struct SweepOutcome {
    /// The plan.
    pub plan: SweepPlan,
    /// Every trial's result, by number.
    pub results: Vec<TrialResult>,
    /// What was chosen, and how; None where no trial came to its end.
    pub selection: Option<Selection>,
    /// The winner on the test set against the base; None where there is no test set or no winner.
    pub verdict: Option<Comparison>,
    /// The sweep's report folder.
    pub report: PathBuf,
    /// Seconds of this process.
    pub seconds: f64,
}
