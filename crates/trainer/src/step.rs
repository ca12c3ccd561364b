//! One optimizer step: micro-batches forward and backward, norm, clip, check, update.

use crate::{Result, TrainError};
use outcrop_data::Batch;
use outcrop_kernels::{Gradients, global_norm};
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
        let nll = decoder.loss_backward(&row, &batch.targets, scale, recompute, gradients)?;
        sum += nll.iter().map(|&value| f64::from(value)).sum::<f64>();
        tokens += batch.tokens.len() as u64;
    }
    let (loss, grad_norm) = (sum / target_tokens as f64, global_norm::global_norm(gradients)?);
    if !loss.is_finite() || !grad_norm.is_finite() {
        return Err(TrainError::NotFinite { loss, grad_norm, culprit: first_not_finite(gradients)? });
    }
    // as torch.nn.utils.clip_grad_norm_, whose epsilon keeps a zero norm finite
    let clip_factor = if clip_norm > 0.0 { (clip_norm / (grad_norm + 1e-6)).min(1.0) } else { 1.0 };
    Ok(StepGradient { loss, target_tokens, tokens, grad_norm, clip_factor })
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
