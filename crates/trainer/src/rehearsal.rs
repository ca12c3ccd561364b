//! A plan without its run, and a rehearsal: the first steps of a job, really trained at the rate that its schedule reaches,
//! to know how long all of them take and whether the rate is one that diverges. Nothing of it is kept: no weights, no
//! events, no model. Left out: validation, looks at forgetting, checkpoints and the comparison, whose time is in neither.

use crate::job::Job;
use crate::monitor::Monitor;
use crate::{Optimizer, OptimizerSettings, Result, TrainError, memory, preflight};
use outcrop_eval::statistics::{mean, paired_difference};
use outcrop_job::plan::TimePlan;
use outcrop_kernels::Gradients;

/// Fewer steps say nothing of a rate.
pub const LEAST_STEPS: u64 = 20;
/// Groups of steps whose means are taken for independent: one step's time is like that of its neighbour.
const GROUPS: usize = 10;

/// What a rehearsal found.
#[derive(Debug, Clone, PartialEq)]
pub struct Rehearsal {
    /// Steps that ran.
    pub steps: u64,
    /// Seconds that they took, the trunk's included.
    pub seconds: f64,
    /// The time of all steps, by the 95 % interval of what these took per token.
    pub time: TimePlan,
    /// Loss of each step that has targets, in nats.
    pub losses: Vec<f64>,
    /// Most memory of the process after a step, in bytes.
    pub memory_bytes: u64,
    /// Why the learning rate looks like one that diverges, where it does.
    pub divergence: Option<String>,
}

/// Completes the plan of a prepared job with what is measured: the time of three steps, the looks at forgetting.
/// Errors: what would stop the run at its first step.
pub fn measure(job: &mut Job) -> Result<()> {
    let (mut optimizer, mut gradients) = state(job)?;
    preflight::probe(job, &mut gradients, &mut optimizer, 0)?;
    Monitor::open(job, false)?;
    Ok(())
}

fn state(job: &Job) -> Result<(Optimizer, Gradients)> {
    let settings = OptimizerSettings::from(&job.plan().hyperparameters);
    let optimizer = Optimizer::new(settings, job.named_weights(), &job.masters)?;
    Ok((optimizer, Gradients::for_weights(job.named_weights())?))
}

/// Trains the first `fraction` (above 0 up to 1) of a job's steps, at least [`LEAST_STEPS`] where it has so many, at the
/// peak of its rate after a warm-up of at most a quarter of them. The job is used up.
/// Errors: the steps' own, but a loss or gradient that isn't finite is a finding.
pub fn rehearse(mut job: Job, fraction: f64) -> Result<Rehearsal> {
    let all = job.plan().steps;
    let steps = ((all.total as f64 * fraction).ceil() as u64).max(LEAST_STEPS).min(all.total);
    let (mut optimizer, mut gradients) = state(&job)?;
    job.masters.clear(); // the optimizer has them
    let settings = &job.plan().hyperparameters;
    let (peak, warm_up) = (settings.learning_rate, settings.learning_rate_warmup_steps.min(steps / 4));
    let judged = steps - steps.div_ceil(4); // the first of the steps whose losses are held against the base's
    let mut untrained = Vec::new();
    for number in judged..steps {
        let (batches, _) = job.micro_batches(number)?;
        untrained.push(preflight::run(&job, &batches, &mut gradients, &mut optimizer, 0.0)?.loss);
    }
    optimizer.reset(&job.weights)?;
    let (mut trunk, mut step, mut losses) = (Vec::new(), Vec::new(), Vec::new()); // seconds per token of a step
    let (mut seconds, mut memory_bytes, mut divergence, mut changes) = (0.0, 0, None, Vec::new());
    for number in 0..steps {
        let (batches, _) = job.micro_batches(number)?;
        let tokens = batches.iter().map(|batch| batch.tokens.len()).sum::<usize>().max(1) as f64;
        let rate = if number < warm_up { peak * (number + 1) as f64 / warm_up as f64 } else { peak };
        let took = match preflight::run(&job, &batches, &mut gradients, &mut optimizer, rate) {
            Err(TrainError::NotFinite { .. }) => {
                divergence = Some(format!("loss or gradient of step {} isn't finite", number + 1));
                break;
            }
            took => took?,
        };
        if took.loss.is_nan() {
            continue;
        }
        seconds += took.trunk + took.step;
        trunk.push(took.trunk / tokens);
        step.push(took.step / tokens);
        losses.push(took.loss);
        if number >= judged {
            changes.push((untrained[(number - judged) as usize], took.loss));
        }
        memory_bytes = memory_bytes.max(memory::in_use());
    }
    let done = losses.len() as u64;
    let divergence = divergence.or_else(|| worse(&changes));
    Ok(Rehearsal { steps: done, seconds, time: time(&job, &trunk, &step), losses, memory_bytes, divergence })
}

/// The time of all steps from seconds per token. With a feature store the trunk reads the data once at the most.
fn time(job: &Job, trunk: &[f64], step: &[f64]) -> TimePlan {
    let plan = job.plan();
    let pass = plan.data.training.tokens as f64;
    let all = pass * plan.steps.total as f64 / plan.steps.per_epoch.max(1) as f64;
    let validation: u64 = plan.data.validation.iter().map(|set| set.tokens).sum();
    let stored = plan.features.is_some_and(|features| features.stored);
    let (trunk_low, trunk_high) = if stored { (0.0, pass + validation as f64) } else { (all, all) };
    let (trunk, step) = (interval(trunk), interval(step));
    TimePlan { seconds_low: all * step.0 + trunk_low * trunk.0, seconds_high: all * step.1 + trunk_high * trunk.1 }
}

/// The 95 % interval of a mean, by the means of groups of neighbours; never below zero.
fn interval(values: &[f64]) -> (f64, f64) {
    let values = values.get(1..).filter(|rest| !rest.is_empty()).unwrap_or(values); // the first touches fresh memory
    let size = values.len().div_ceil(GROUPS).max(1);
    let groups: Vec<f64> = values.chunks_exact(size).map(mean).collect();
    let clusters: Vec<usize> = (0..groups.len()).collect();
    match paired_difference(&groups, &clusters) {
        Some(estimate) => {
            let interval = estimate.interval();
            (interval.low.max(0.0), interval.high)
        }
        None => (mean(values), mean(values)),
    }
}

/// Whether training made the loss worse on the very records of the last steps: pairs of the untouched base's loss and the
/// loss at that step. What is a hundredth above the base's is no noise of a rate that trains: the records are the same.
fn worse(pairs: &[(f64, f64)]) -> Option<String> {
    let base = mean(&pairs.iter().map(|pair| pair.0).collect::<Vec<f64>>());
    let trained = mean(&pairs.iter().map(|pair| pair.1).collect::<Vec<f64>>());
    let above = !pairs.is_empty() && trained > 1.01 * base;
    above.then(|| format!("its last steps have a loss of {trained:.3}, where the untouched base has {base:.3}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_above_the_bases_is_told_from_noise() {
        let pairs = |change: f64| (0..8).map(move |step| (3.0, 3.0 + change + [0.1, -0.2, 0.15, -0.05][step % 4]));
        assert_eq!((worse(&pairs(0.02).collect::<Vec<_>>()), worse(&pairs(-1.0).collect::<Vec<_>>())), (None, None));
        let told = worse(&pairs(1.0).collect::<Vec<_>>()).unwrap();
        assert_eq!(told, "its last steps have a loss of 4.000, where the untouched base has 3.000");
        assert_eq!(worse(&[]), None);
    }

    #[test]
    fn an_interval_is_as_wide_as_its_values_differ() {
        let (low, high) = interval(&[9.0, 2.0, 2.0, 2.0, 2.0]);
        assert!((low - 2.0).abs() < 1e-12 && (high - 2.0).abs() < 1e-12, "the first is left out: {low} {high}");
        let (low, high) = interval(&[0.0, 1.0, 3.0, 1.0, 3.0, 1.0, 3.0]);
        assert!(low > 0.0 && low < 2.0 && high > 2.0, "{low} {high}");
    }
}
