//! What can end a run.

use std::path::PathBuf;

/// One line each: what, where, what to do.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// A file that can't be read or written; fs_err names the path.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The home folder.
    #[error(transparent)]
    Home(#[from] outcrop_job::home::HomeError),
    /// The job's folder.
    #[error(transparent)]
    Folder(#[from] outcrop_job::folder::FolderError),
    /// A location that isn't there.
    #[error(transparent)]
    Location(#[from] outcrop_job::location::LocationError),
    /// The record of the run.
    #[error(transparent)]
    Event(#[from] outcrop_job::event_log::EventError),
    /// The store of custom models.
    #[error(transparent)]
    Store(#[from] outcrop_job::model_store::ModelError),
    /// The training or evaluation data.
    #[error(transparent)]
    Data(#[from] outcrop_data::DataError),
    /// The table of imported bases, or one of them that changed.
    #[error(transparent)]
    Base(#[from] outcrop_job::bases::BaseError),
    /// A name that is no base's.
    #[error("{0}")]
    NoBase(String),
    /// The base model.
    #[error(transparent)]
    Model(#[from] outcrop_model::ModelError),
    /// The comparison with the base.
    #[error(transparent)]
    Eval(#[from] outcrop_eval::EvalError),
    /// A tensor op.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
    /// Loss or gradient that isn't finite (R12).
    #[error("loss {loss}, gradient norm {grad_norm}{}: nothing was updated; lower learningRate or look at the rows of this step",
        culprit.as_ref().map(|name| format!(", first in `{name}`")).unwrap_or_default())]
    NotFinite {
        /// Mean NLL of the step.
        loss: f64,
        /// Norm of its gradients.
        grad_norm: f64,
        /// The first tensor, by name, whose gradient isn't finite.
        culprit: Option<String>,
    },
    /// [`TrainError::NotFinite`] with the step and its records.
    #[error("{0}")]
    Diverged(String),
    /// The plan and the files of a sweep.
    #[error(transparent)]
    Sweep(#[from] outcrop_job::sweep::SweepError),
    /// A trial that is behind another of its sweep: its epochs end early.
    #[error("{reason}")]
    Behind {
        /// Steps done.
        step: u64,
        /// By how much.
        reason: String,
    },
    /// The sweep was stopped by its user; finished trials stay.
    #[error("stopped with {done} of {trials} trials done; `outcrop sweep --resume {sweep}` goes on")]
    SweepInterrupted {
        /// Trials that ended.
        done: usize,
        /// All trials.
        trials: usize,
        /// The sweep's id.
        sweep: String,
    },
    /// A setting that doesn't fit the base, the data or the machine.
    #[error("{0}")]
    Plan(String),
    /// A checkpoint that can't be used.
    #[error("{}: {message}", path.display())]
    Checkpoint {
        /// Its folder.
        path: PathBuf,
        /// What is wrong and what to do.
        message: String,
    },
    /// The run was stopped by its user; the checkpoint holds everything.
    #[error("stopped at step {step}; `outcrop train --resume {job}` goes on")]
    Interrupted {
        /// Steps done.
        step: u64,
        /// The job's id.
        job: String,
    },
}
