//! What looks at a run while it trains: the validation loss, forgetting, sample answers, and what ends the run. Nothing here
//! changes a weight.
//! When each looks, and what is kept at the end, is in `run`.

pub(crate) mod forgetting;
pub(crate) mod generations;
mod planning;
mod sample;
pub(crate) mod stopping;
pub(crate) mod validation;

use crate::comparison::Suites;
use crate::features::Boundary;
use crate::job::Job;
use crate::sets::DataSets;
use crate::{Result, TrainError};
use forgetting::{Forgetting, Look, bytes, most_positions};
use outcrop_eval::suite::Items;
use outcrop_job::Hyperparameters;
use outcrop_job::event::Monitor as Measured;
use outcrop_job::plan::{MonitorPlan, StepPlan};
use outcrop_model::Spec;
use planning::{Cost, choose, is_due};
use sample::Windows;
use std::time::Instant;

/// Positions of the two looks that are timed.
const TIMED: [usize; 2] = [16, 64];

/// Errors: a setting that watches something that isn't there, or more than fits.
pub(crate) fn check(settings: &Hyperparameters, data: &DataSets, suites: &Suites, spec: &Spec) -> Result<()> {
    let has_text = suites.general.iter().any(|suite| matches!(suite.items, Items::Text(_)));
    let watched = settings.forgetting_positions != Some(0) && has_text;
    for (key, given) in
        [("maxForgetting", settings.max_forgetting.is_some()), ("forgettingEvery", settings.forgetting_every.is_some())]
    {
        if given && !watched {
            let why = if has_text { "forgettingPositions is `0`" } else { "generalData has no running text" };
            return Err(TrainError::Plan(format!(
                "hyperParameters.{key} watches what is forgotten of general text, but {why}"
            )));
        }
    }
    let most = most_positions(spec.vocab_size);
    if settings.forgetting_positions.is_some_and(|positions| positions > most) {
        return Err(TrainError::Plan(format!(
            "hyperParameters.forgettingPositions is `{}`, but of a vocabulary of {} at most {most} are kept in memory",
            settings.forgetting_positions.unwrap_or_default(),
            spec.vocab_size
        )));
    }
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

/// Bytes that the monitor takes at most, for memory plans.
pub(crate) fn most_bytes(settings: &Hyperparameters, vocabulary: usize) -> u64 {
    if settings.general_data.is_empty() {
        return 0;
    }
    bytes(settings.forgetting_positions.unwrap_or(most_positions(vocabulary)), vocabulary)
}

/// What watches forgetting in a run.
pub(crate) struct Monitor {
    sample: Forgetting,
    every: u64,
}

impl Monitor {
    /// Takes the sample and the base's probabilities at it, which the decoder must still be; what a look costs is measured
    /// and put into the plan, unless it is a resumed run's. None where there is nothing to watch.
    pub(crate) fn open(job: &mut Job, resumed: bool) -> Result<Option<Self>> {
        let (settings, decoder) = (&job.plan.hyperparameters, &job.decoder);
        if settings.forgetting_positions == Some(0) || (resumed && job.plan.monitor.is_none()) {
            return Ok(None);
        }
        let context = decoder.spec().max_position_embeddings;
        let Some(windows) = Windows::new(&job.suites, &job.tokenizer, context, settings.seed)? else { return Ok(None) };
        let boundary = Boundary::new(decoder, settings.trainable);
        let sample = |positions: usize| Forgetting::new(decoder, boundary, &windows.take(positions)?);
        if let Some(plan) = job.plan.monitor.filter(|_| resumed) {
            return Ok(Some(Self { sample: sample(plan.positions as usize)?, every: plan.every }));
        }
        let timed = |positions: usize| -> Result<(u64, f64)> {
            let sample = sample(positions)?; // its own look also touches fresh memory
            let begin = Instant::now();
            sample.look(decoder)?;
            Ok((sample.len() as u64, begin.elapsed().as_secs_f64()))
        };
        // the least, so that the share is one of the steps alone
        let steps = job.plan.time.map_or(0.0, |time| time.seconds_least());
        let cost = Cost::measured(timed(TIMED[0])?, timed(TIMED[1])?, steps);
        let most = most_positions(decoder.spec().vocab_size).min(windows.positions() as u64);
        let choice = choose(settings, &cost, job.plan.steps, most);
        let sample = sample(choice.positions as usize)?;
        job.plan.monitor = Some(MonitorPlan {
            positions: sample.len() as u64,
            every: choice.every,
            looks: choice.looks,
            look_seconds: cost.look(choice.positions),
            share: choice.share,
        });
        Ok(Some(Self { sample, every: choice.every }))
    }

    /// Whether it looks after step `step`.
    pub(crate) fn is_due(&self, step: u64, steps: StepPlan) -> bool {
        is_due(step, self.every, steps)
    }

    /// A look at the decoder after step `step`.
    pub(crate) fn look(&self, job: &Job, step: u64) -> Result<Measured> {
        let Look { nll, kl } = match step {
            0 => Look { nll: self.sample.nll_base, kl: 0.0 },
            _ => self.sample.look(&job.decoder)?,
        };
        Ok(Measured { step, positions: self.sample.len() as u64, nll_base: self.sample.nll_base, nll, kl })
    }
}
