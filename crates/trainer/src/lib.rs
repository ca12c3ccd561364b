//! The main job: [`Job::open`] resolves and checks everything, [`run()`] trains and finishes.
//!
//! `job` plan, `sets` data, `base` model, `preflight` probes, `run` the loop, `step` one optimizer step, `optimizer`,
//! `schedule`, `monitor` while it trains, `checkpoint`, `snapshot`, `sweep`, `comparison` with the base, `evaluate`
//! without a job, `finish`, its `report`, `views` of the events, and the `model_card` of an
//! export.
//! Left out: the terminal (`outcrop-cli`), tokens (`outcrop-data`), layers (`outcrop-model`).

pub mod base;
pub mod checkpoint;
mod comparison;
mod coverage;
mod error;
pub mod evaluate;
mod features;
mod finish;
mod job;
pub mod memory;
pub mod model_card;
mod monitor;
pub mod observer;
mod optimizer;
mod pages;
mod planner;
mod preflight;
mod recorder;
pub mod rehearsal;
pub mod report;
mod run;
mod schedule;
mod sets;
mod snapshot;
pub mod step;
pub mod sweep;
mod trunk_cache;
pub mod views;

/// The data of a job, prepared apart from it.
pub mod data {
    pub use crate::sets::{DataSettings, prepare_input};
}

pub use error::TrainError;
pub use finish::{failed, name_with_id};
pub use job::{Inputs, Job};
pub use observer::{Observer, Stage};
pub use optimizer::{Optimizer, Rule, Settings as OptimizerSettings};
pub use run::{Outcome, run};
pub use schedule::Schedule;

/// What this crate's functions return.
pub type Result<T> = std::result::Result<T, TrainError>;
