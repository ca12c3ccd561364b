//! Before the first step: the worst planned batch runs once, forward, backward and update at rate zero, so that what
//! doesn't fit fails now (R16), and three runs are timed for the plan (R24). No weight changes.

use crate::job::Job;
use crate::{Optimizer, Result, step};
use outcrop_data::Batch;
use outcrop_job::plan::TimePlan;
use outcrop_kernels::Gradients;
use std::time::Instant;

/// Runs the probes, and puts the estimate of the time of the steps behind `done` into the plan.
pub(crate) fn probe(job: &mut Job, gradients: &mut Gradients, optimizer: &mut Optimizer, done: u64) -> Result<()> {
    let steps = job.plan.steps;
    let mut rates = Vec::new(); // seconds per token of a step
    for (index, (step, batches)) in probes(job)?.into_iter().enumerate() {
        let tokens: usize = batches.iter().map(|batch| batch.tokens.len()).sum();
        let begin = Instant::now();
        run(job, &batches, gradients, optimizer).map_err(|error| job.locate(error, step))?;
        let seconds = begin.elapsed().as_secs_f64();
        if index > 0 {
            rates.push(seconds / tokens.max(1) as f64); // the first run also touches fresh memory
        }
    }
    optimizer.reset(&job.weights)?;
    let tokens = job.plan.data.training.tokens as f64 * (steps.total - done.min(steps.total)) as f64;
    let tokens = tokens / steps.per_epoch as f64;
    let low = rates.iter().copied().fold(f64::INFINITY, f64::min);
    let high = rates.iter().copied().fold(0.0, f64::max);
    if low.is_finite() {
        job.plan.time = Some(TimePlan { seconds_low: tokens * low * 0.9, seconds_high: tokens * high * 1.2 });
    }
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

fn run(job: &Job, batches: &[Batch], gradients: &mut Gradients, optimizer: &mut Optimizer) -> Result<()> {
    if batches.iter().all(|batch| batch.targets.is_empty()) {
        return Ok(());
    }
    let clip_norm = job.plan.hyperparameters.clip_norm;
    let result = step::gradient(&job.decoder, batches, clip_norm, job.recompute, gradients)?;
    Ok(optimizer.update(job.named_weights(), gradients, 0.0, result.clip_factor)?)
}
