//! Evaluation: suites of items, their scores by log-likelihood and by generated answers, and the paired comparison of a tuned model with its
//! untouched base, whose verdict is the first line of every report (R32).
//!
//! [`suite::Suite`] -> [`score::score`] by a [`Scorer`], kept in a [`cache::ScoreCache`] -> [`comparison::compare`] ->
//! [`report`]. Devices are left out: a model comes in as a [`Scorer`], a decoder by [`DecoderScorer`].

pub mod bootstrap;
pub mod cache;
#[cfg(test)]
mod calibration_tests;
pub mod comparison;
pub mod contamination;
mod decoder;
mod error;
mod exact;
#[cfg(test)]
mod fixtures;
pub mod gate;
mod header;
mod headline;
pub mod items;
pub mod kinds;
mod layout;
mod lines;
pub mod measures;
mod metrics;
mod packing;
mod pairing;
#[cfg(test)]
mod pipeline_tests;
mod reading;
#[cfg(test)]
mod reference_tests;
pub mod report;
pub mod score;
pub mod statistics;
pub mod suite;
pub mod verdict;
pub mod wilcoxon;

pub use cache::{Cached, ScoreCache, ScoreKey};
pub use comparison::{CompareOptions, Comparison, Scored, SuiteComparison, compare};
pub use contamination::Contamination;
pub use decoder::DecoderScorer;
pub use error::EvalError;
pub use gate::{check_gate, gate_failure};
pub use score::{Scorer, Scores, score};
pub use suite::{Suite, SuiteKind};
