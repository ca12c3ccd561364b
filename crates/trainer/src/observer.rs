//! Who watches a run: the terminal, a test. Observers are told; they change nothing but ask to stop.

use outcrop_job::{Plan, Record};

/// Something that takes time before or after the steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Reading and hashing the base model.
    ReadingBase,
    /// Checking and tokenizing data; in bytes.
    PreparingData,
    /// Scoring the untouched base; in items.
    ScoringBase,
    /// Scoring the tuned model; in items.
    ScoringTuned,
    /// Running the frozen trunk, once; in documents.
    Features,
    /// A validation pass; in targets.
    Validating,
}

/// Watches a run. Every method has a default that does nothing.
pub trait Observer {
    /// A stage has come so far; `done == total` ends it. A stage without a measure comes once, as 0 of 0.
    fn stage(&mut self, stage: Stage, done: u64, total: u64) {
        let _ = (stage, done, total);
    }

    /// The plan stands; training begins after this.
    fn planned(&mut self, plan: &Plan) {
        let _ = plan;
    }

    /// Something happened; it is in `events.jsonl` already.
    fn event(&mut self, record: &Record) {
        let _ = record;
    }

    /// Asked after every step: true checkpoints and stops.
    fn stop_requested(&mut self) -> bool {
        false
    }
}
