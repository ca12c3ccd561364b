//! What a sweep is on disk: its request (a job's, whose hyperparameters may be lists), its plan, what became of each
//! trial, and its folder. How trials share work is the trainer's affair.

mod folder;
mod record;
mod request;

pub use folder::{SweepError, SweepFolder};
pub use record::{Change, EpochLoss, RunPlan, SweepPlan, TrialPlan, TrialResult, TrialStatus};
pub use request::{MOST_TRIALS, SweepRequest, VARYING, Varied};
