//! One optimizer step: micro-batches forward and backward, norm, clip, check, update.

use crate::features::{Boundary, Features};
use crate::job::Job;
use crate::{Optimizer, Result, TrainError};
use candle_core::Tensor;
use outcrop_data::Batch;
use outcrop_kernels::head_step::{self, Factors};
use outcrop_kernels::{Gradients, global_norm, head_loss, pool};
use outcrop_model::{Decoder, Recompute, Row};

/// The sum of a step's gradients and what is known of it before the update.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepGradient {
    /// Mean NLL over the step's targets, in nats (R1).
    pub loss: f64,
    /// Targets of the step.
    pub target_tokens: u64,
    /// Tokens that were read.
    pub tokens: u64,
    /// L2 norm of all gradients before clipping.
    pub grad_norm: f64,
    /// What clipping multiplies the gradients with; 1 where it leaves them.
    pub clip_factor: f64,
}

/// Runs the micro-batches of one step and fills `gradients` with the gradient of the mean NLL over all its targets:
/// the count is known before the first micro-batch, so no split changes the result (R1, R4).
/// Errors: a loss or norm that isn't finite, before anything is updated (R12).
pub fn gradient(
    decoder: &Decoder,
    micro_batches: &[Batch],
    clip_norm: f64,
    recompute: Recompute,
    gradients: &mut Gradients,
) -> Result<StepGradient> {
    gradients.clear();
    let target_tokens: u64 = micro_batches.iter().map(|batch| batch.targets.len() as u64).sum();
    let scale = (1.0 / target_tokens as f64) as f32;
    let (mut sum, mut tokens) = (0f64, 0u64);
    for batch in micro_batches {
        let row = Row::new(batch.tokens.clone(), &batch.offsets)?;
        let nll = pool::run(|| decoder.loss_backward(&row, &batch.targets, scale, recompute, gradients))?;
        sum += nll.iter().map(|&value| f64::from(value)).sum::<f64>();
        tokens += batch.tokens.len() as u64;
    }
    let (loss, grad_norm) = (sum / target_tokens as f64, pool::run(|| global_norm::global_norm(gradients))?);
    if !loss.is_finite() || !grad_norm.is_finite() {
        return Err(TrainError::NotFinite { loss, grad_norm, culprit: first_not_finite(gradients)? });
    }
    let clip_factor = clip_factor(clip_norm, grad_norm);
    Ok(StepGradient { loss, target_tokens, tokens, grad_norm, clip_factor })
}

/// As `torch.nn.utils.clip_grad_norm_`, whose epsilon keeps a zero norm finite.
fn clip_factor(clip_norm: f64, grad_norm: f64) -> f64 {
    if clip_norm > 0.0 { (clip_norm / (grad_norm + 1e-6)).min(1.0) } else { 1.0 }
}

/// The gradient of one step of a job, from features where its base is frozen. `documents` are those of the batches,
/// in order. The factors stand for the head's gradient where that isn't written down; `gradients` has the others.
pub(crate) fn run(
    job: &Job,
    features: Option<&Features>,
    batches: &[Batch],
    documents: &[usize],
    optimizer: &Optimizer,
    gradients: &mut Gradients,
) -> Result<(StepGradient, Option<Factors>)> {
    let clip_norm = job.plan.hyperparameters.clip_norm;
    let Some(features) = features else {
        return Ok((gradient(&job.decoder, batches, clip_norm, job.recompute, gradients)?, None));
    };
    let (mut inputs, mut first) = (Vec::new(), 0);
    for batch in batches {
        let of_batch = documents.get(first..first + batch.num_documents()).unwrap_or_default();
        first += batch.num_documents();
        inputs.push(features.of(&job.decoder, batch, of_batch)?);
    }
    above(job, features.boundary, inputs, batches, optimizer, gradients)
}

/// [`run`] of a frozen base from what its trunk gave for each batch.
pub(crate) fn above(
    job: &Job,
    boundary: Boundary,
    inputs: Vec<Tensor>,
    batches: &[Batch],
    optimizer: &Optimizer,
    gradients: &mut Gradients,
) -> Result<(StepGradient, Option<Factors>)> {
    let clip_norm = job.plan.hyperparameters.clip_norm;
    let rows = batches.iter().map(|batch| Ok(Row::new(batch.tokens.clone(), &batch.offsets)?));
    let rows = rows.collect::<Result<Vec<_>>>()?;
    let target_tokens: u64 = batches.iter().map(|batch| batch.targets.len() as u64).sum();
    let tokens = batches.iter().map(|batch| batch.tokens.len() as u64).sum();
    let scale = (1.0 / target_tokens as f64) as f32;
    gradients.clear();
    let (mut nll, mut factors) = (Vec::new(), None);
    match boundary {
        Boundary::Head => {
            let h = Tensor::cat(&inputs, 0)?;
            let next: Vec<u32> =
                rows.iter().zip(batches).flat_map(|(row, batch)| row.next_tokens(&batch.targets)).collect();
            let decoder = &job.decoder;
            (nll, factors) = pool::run(|| head(decoder, &h, &next, scale, optimizer, gradients))?;
        }
        Boundary::Block(block) => {
            for ((x, row), batch) in inputs.into_iter().zip(&rows).zip(batches) {
                let (decoder, targets) = (&job.decoder, &batch.targets);
                let recompute = job.recompute;
                nll.extend(pool::run(|| {
                    decoder.loss_backward_above(x, block, row, targets, scale, recompute, gradients)
                })?);
            }
        }
    }
    let loss = nll.iter().map(|&value| f64::from(value)).sum::<f64>() / target_tokens as f64;
    let grad_norm = match &factors {
        Some(factors) => factors.norm()?,
        None => global_norm::global_norm(gradients)?,
    };
    if !loss.is_finite() || !grad_norm.is_finite() {
        let culprit = match factors {
            Some(_) => job.weights.first().map(|(name, _)| name.clone()).filter(|_| !grad_norm.is_finite()),
            None => first_not_finite(gradients)?,
        };
        return Err(TrainError::NotFinite { loss, grad_norm, culprit });
    }
    let clip_factor = clip_factor(clip_norm, grad_norm);
    Ok((StepGradient { loss, target_tokens, tokens, grad_norm, clip_factor }, factors))
}

/// The head's losses and its gradient, in factors where the step is small enough and the optimizer takes them.
fn head(
    decoder: &Decoder,
    h: &Tensor,
    next: &[u32],
    scale: f32,
    optimizer: &Optimizer,
    gradients: &mut Gradients,
) -> Result<(Vec<f32>, Option<Factors>)> {
    let (spec, weight) = (decoder.spec(), decoder.head_weight());
    let few = next.len() <= head_step::most_targets(spec.vocab_size, spec.hidden_size);
    if few && optimizer.takes_factors() && head_step::applies(weight) {
        let mut factors = head_step::forward(h, weight, next, scale, decoder.head_options())?;
        return Ok((std::mem::take(&mut factors.nll), Some(factors)));
    }
    let gradient = gradients.get_mut(spec.head_name());
    Ok((head_loss::forward_backward(h, weight, next, scale, decoder.head_options(), false, gradient)?.nll, None))
}

/// The first tensor, by name, whose gradient isn't finite.
fn first_not_finite(gradients: &Gradients) -> Result<Option<String>> {
    for (name, gradient) in gradients.iter().filter(|(_, gradient)| gradient.is_filled()) {
        if !global_norm::sum_of_squares(gradient.tensor())?.is_finite() {
            return Ok(Some(name.to_string()));
        }
    }
    Ok(None)
}
