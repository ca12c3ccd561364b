//! Before the first step: the worst planned batch runs once, forward, backward and update at rate zero, so that what
//! doesn't fit fails now (R16), and three runs are timed for the plan (R24). No weight changes.

use crate::features::Boundary;
use crate::job::Job;
use crate::{Optimizer, Result, step};
use outcrop_data::Batch;
use outcrop_job::plan::TimePlan;
use outcrop_kernels::Gradients;
use std::time::Instant;

/// Seconds that a probe took: in the frozen trunk, and in all else.
pub(crate) struct Took {
    pub(crate) trunk: f64,
    pub(crate) step: f64,
    /// Loss of the batches before the update; NaN where they have no targets.
    pub(crate) loss: f64,
}

/// Runs the probes, and puts the estimate of the time of the steps behind `done` into the plan. With a feature store the
/// trunk runs once over all data at the most, and not at all where another run has filled the store.
pub(crate) fn probe(job: &mut Job, gradients: &mut Gradients, optimizer: &mut Optimizer, done: u64) -> Result<()> {
    let steps = job.plan.steps;
    let (mut trunk, mut step) = (Vec::new(), Vec::new()); // seconds per token of a step
    for (index, (number, batches)) in probes(job)?.into_iter().enumerate() {
        let tokens: usize = batches.iter().map(|batch| batch.tokens.len()).sum();
        let took = run(job, &batches, gradients, optimizer, 0.0).map_err(|error| job.locate(error, number))?;
        if index > 0 {
            trunk.push(took.trunk / tokens.max(1) as f64); // the first run also touches fresh memory
            step.push(took.step / tokens.max(1) as f64);
        }
    }
    optimizer.reset(&job.weights)?;
    if step.is_empty() {
        return Ok(());
    }
    let all = job.plan.data.training.tokens as f64;
    let tokens = all * (steps.total - done.min(steps.total)) as f64 / steps.per_epoch as f64;
    let once = all + job.plan.data.validation.iter().map(|set| set.tokens as f64).sum::<f64>();
    let (trunk_low, trunk_high) = match job.feature_cache {
        Some(_) => (0.0, once), // tokens that the trunk reads
        None => (tokens, tokens),
    };
    let low = |rates: &[f64]| rates.iter().copied().fold(f64::INFINITY, f64::min);
    let high = |rates: &[f64]| rates.iter().copied().fold(0.0, f64::max);
    job.plan.time = Some(TimePlan {
        seconds_low: TimePlan::LOW_MARGIN * (tokens * low(&step) + trunk_low * low(&trunk)),
        seconds_high: TimePlan::HIGH_MARGIN * (tokens * high(&step) + trunk_high * high(&trunk)),
    });
    Ok(())
}

/// The largest micro-batch of the first epoch, then its first two steps, each with the step (from 0) it is of.
fn probes(job: &Job) -> Result<Vec<(u64, Vec<Batch>)>> {
    let step = job.worst_step();
    let worst = job.micro_batches(step)?.0.into_iter().max_by_key(|batch| batch.tokens.len());
    let mut probes: Vec<(u64, Vec<Batch>)> = worst.into_iter().map(|batch| (step, vec![batch])).collect();
    for step in 0..2 {
        let step = step % job.plan.steps.total;
        probes.push((step, job.micro_batches(step)?.0));
    }
    Ok(probes)
}

/// One step on these batches at this rate, timed. At rate zero no weight changes.
pub(crate) fn run(
    job: &Job,
    batches: &[Batch],
    gradients: &mut Gradients,
    optimizer: &mut Optimizer,
    learning_rate: f64,
) -> Result<Took> {
    if batches.iter().all(|batch| batch.targets.is_empty()) {
        return Ok(Took { trunk: 0.0, step: 0.0, loss: f64::NAN });
    }
    let begin = Instant::now();
    let boundary = Boundary::new(&job.decoder, job.plan.hyperparameters.trainable);
    let inputs = match boundary {
        Some(boundary) => {
            batches.iter().map(|batch| boundary.compute(&job.decoder, batch)).collect::<Result<Vec<_>>>()?
        }
        None => Vec::new(),
    };
    let (trunk, begin) = (begin.elapsed().as_secs_f64(), Instant::now());
    let (result, factors) = match boundary {
        Some(boundary) => step::above(job, boundary, inputs, batches, optimizer, gradients)?,
        None => step::run(job, None, batches, &[], optimizer, gradients)?,
    };
    match factors {
        Some(factors) => optimizer.update_head(&job.weights, &factors, learning_rate, result.clip_factor)?,
        None => optimizer.update(job.named_weights(), gradients, learning_rate, result.clip_factor)?,
    }
    Ok(Took { trunk, step: begin.elapsed().as_secs_f64(), loss: result.loss })
}
