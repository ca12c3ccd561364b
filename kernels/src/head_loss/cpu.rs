//! Cross-entropy over one chunk of logits on the CPU: rows in parallel, the gradient written over the logits.

use crate::simd;
use crate::storage::{update, view};
use candle_core::{Result, Tensor};
use rayon::prelude::*;

pub(super) fn nll(logits: &Tensor, targets: &[u32]) -> Result<Vec<f32>> {
    let vocabulary = logits.dim(1)?;
    let logits = view(logits)?;
    let logits: &[f32] = &logits;
    let losses = logits.par_chunks(vocabulary).zip(targets).map_init(Vec::new, |row, (logits, &target)| {
        row.clear();
        row.extend_from_slice(logits);
        simd::run(
            #[inline(always)]
            || row_softmax(row, target).0,
        )
    });
    Ok(losses.collect())
}

/// The losses, and the logits' storage turned into `scale * (softmax(logits) - onehot)`.
pub(super) fn forward_backward(logits: Tensor, targets: &[u32], scale: f32) -> Result<(Vec<f32>, Tensor)> {
    let vocabulary = logits.dim(1)?;
    let mut losses = vec![0f32; targets.len()];
    update("head_loss", &logits, |values| {
        values.par_chunks_mut(vocabulary).zip(targets).zip(&mut losses).for_each(|((row, &target), loss)| {
            simd::run(
                #[inline(always)]
                || {
                    let (nll, sum) = row_softmax(row, target);
                    *loss = nll;
                    let factor = scale / sum;
                    row.iter_mut().for_each(|p| *p *= factor);
                    row[target as usize] -= scale;
                },
            );
        });
        Ok(())
    })?;
    Ok((losses, logits))
}

/// Turns a row into `exp(logit - max)`; returns the target's NLL and the row's sum.
#[inline(always)]
fn row_softmax(row: &mut [f32], target: u32) -> (f32, f32) {
    let largest = simd::max(row);
    let logit = row[target as usize];
    let sum = simd::exp_sum(row, largest);
    (sum.ln() - (logit - largest), sum)
}
