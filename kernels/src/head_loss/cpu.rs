//! Cross-entropy over one chunk of logits on the CPU: rows in parallel, the gradient written over the logits.

use super::Options;
use crate::simd;
use crate::storage::update;
use candle_core::{Result, Tensor};
use rayon::prelude::*;

/// The losses; what was the logits' storage is worked in.
pub(super) fn nll(logits: Tensor, targets: &[u32], options: Options) -> Result<Vec<f32>> {
    let vocabulary = logits.dim(1)?;
    let mut losses = vec![0f32; targets.len()];
    update("head_loss", &logits, |values| {
        values.par_chunks_mut(vocabulary).zip(targets).zip(&mut losses).for_each(|((row, &target), loss)| {
            simd::run(
                #[inline(always)]
                || {
                    cap(row, options.softcap);
                    *loss = exponentials(row, target).nll;
                },
            );
        });
        Ok(())
    })?;
    Ok(losses)
}

/// The losses, and the logits' storage turned into the gradient of `scale * sum(nll + z_loss * lse^2)`:
/// `scale * (softmax(logits) * (1 + 2 z_loss lse) - onehot)`, times the soft-cap's slope where there is one.
pub(crate) fn forward_backward(
    logits: Tensor,
    targets: &[u32],
    scale: f32,
    options: Options,
) -> Result<(Vec<f32>, Tensor)> {
    let vocabulary = logits.dim(1)?;
    let mut losses = vec![0f32; targets.len()];
    update("head_loss", &logits, |values| {
        let tasks = values.par_chunks_mut(vocabulary).zip(targets).zip(&mut losses);
        tasks.for_each_init(Vec::new, |capped, ((row, &target), loss)| {
            simd::run(
                #[inline(always)]
                || {
                    cap(row, options.softcap);
                    if options.softcap.is_some() {
                        capped.clear();
                        capped.extend_from_slice(row);
                    }
                    let Softmax { nll, sum, lse } = exponentials(row, target);
                    *loss = nll;
                    let factor = scale * (1.0 + 2.0 * options.z_loss * lse) / sum;
                    row.iter_mut().for_each(|p| *p *= factor);
                    row[target as usize] -= scale;
                    if let Some(cap) = options.softcap {
                        row.iter_mut().zip(capped.iter()).for_each(|(d, y)| *d *= 1.0 - (y / cap) * (y / cap));
                    }
                },
            );
        });
        Ok(())
    })?;
    Ok((losses, logits))
}

/// `cap * tanh(logit / cap)` in place.
#[inline(always)]
fn cap(row: &mut [f32], softcap: Option<f32>) {
    if let Some(cap) = softcap {
        row.iter_mut().for_each(|logit| *logit = cap * simd::tanh(*logit / cap));
    }
}

/// What is known of a row: the target's NLL, the sum of `exp(logit - max)`, and the log-sum-exp.
struct Softmax {
    nll: f32,
    sum: f32,
    lse: f32,
}

/// Turns a row into `exp(logit - max)`.
#[inline(always)]
fn exponentials(row: &mut [f32], target: u32) -> Softmax {
    let largest = simd::max(row);
    let logit = row[target as usize];
    let sum = simd::exp_sum(row, largest);
    Softmax { nll: sum.ln() - (logit - largest), sum, lse: largest + sum.ln() }
}
