//! Output projection and cross-entropy as one op, in chunks of target rows: all logits never exist at once.

pub mod case;
pub(crate) mod cpu;
pub mod reference;

use crate::arguments;
use crate::gradient::Gradient;
use crate::storage::{fused, narrow, wide};
use candle_core::{DType, Result, Tensor, bail};

/// Logits that a chunk may hold: 64 MiB of f32.
const CHUNK_LOGITS: usize = 16 * 1024 * 1024;
/// Most rows of a chunk, where the vocabulary is small: enough for packing the weight to be a small part of the product.
const CHUNK_ROWS: usize = 1024;

/// Rows of a chunk for a vocabulary of that size.
pub(crate) fn chunk_rows(vocabulary: usize) -> usize {
    (CHUNK_LOGITS / vocabulary.max(1)).clamp(1, CHUNK_ROWS)
}

/// Rows of each chunk of `rows`: as few chunks as may be, all alike.
fn even_rows(rows: usize, vocabulary: usize) -> usize {
    rows.div_ceil(rows.div_ceil(chunk_rows(vocabulary)).max(1)).max(1)
}

/// Bytes of logits that exist at once for a vocabulary of that size, for memory plans.
pub fn chunk_bytes(vocabulary: usize) -> usize {
    chunk_rows(vocabulary) * vocabulary * size_of::<f32>()
}

/// What a family or a job adds to the plain cross-entropy; nothing by default.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Options {
    /// Bounds the logits: `cap * tanh(logit / cap)`. As `final_logit_softcapping` of Hugging Face.
    pub softcap: Option<f32>,
    /// Weight of `lse^2` in what is differentiated, which keeps the logits from drifting; no part of the NLL.
    /// Source: Chowdhery et al. 2022, arXiv:2204.02311, section 5 (there 1e-4).
    pub z_loss: f32,
}

/// Negative log-likelihood of each target, in nats. Shapes: h (N, C), weight (V, C), targets N -> N values.
/// A row has the same bits in the same place of the vocabulary's chunking whatever the other rows are.
/// Errors: a target outside the vocabulary, shapes that don't fit.
pub fn nll(h: &Tensor, weight: &Tensor, targets: &[u32], options: Options) -> Result<Vec<f32>> {
    check(h, weight, targets, options)?;
    if narrow(h) || narrow(weight) {
        return nll(&wide(h)?, &wide(weight)?, targets, options); // logits stay f32
    }
    let mut losses = Vec::with_capacity(targets.len());
    let rows = even_rows(targets.len(), weight.dim(0)?);
    for (index, targets) in targets.chunks(rows).enumerate() {
        let h = h.narrow(0, index * rows, targets.len())?;
        let logits = crate::linear::forward(&h, weight)?;
        losses.extend(if fused(&logits) {
            cpu::nll(logits, targets, options)?
        } else {
            reference::nll(&logits, targets, options)?.to_vec1()?
        });
    }
    Ok(losses)
}

/// The loss of the targets and its gradients: `scale * sum(nll + z_loss * lse^2)` is what is differentiated.
pub struct Output {
    /// NLL of each target, in nats, not scaled.
    pub nll: Vec<f32>,
    /// Gradient of h (N, C), where it was asked for; f32 where h has 16 bits.
    pub dh: Option<Tensor>,
}

/// Loss, `dh` where `wants_input`, and `dW` added in place where a gradient is given.
/// Shapes: h (N, C), weight (V, C), targets N, gradient (V, C). `scale` is 1 / (targets of the optimizer step), R1.
/// Memory: one chunk of logits. Errors: as [`nll`].
pub fn forward_backward(
    h: &Tensor,
    weight: &Tensor,
    targets: &[u32],
    scale: f32,
    options: Options,
    wants_input: bool,
    mut gradient: Option<&mut Gradient>,
) -> Result<Output> {
    check(h, weight, targets, options)?;
    if narrow(h) || narrow(weight) {
        return forward_backward(&wide(h)?, &wide(weight)?, targets, scale, options, wants_input, gradient);
    }
    let (mut nll, mut dh) = (Vec::with_capacity(targets.len()), Vec::new());
    let rows = even_rows(targets.len(), weight.dim(0)?);
    for (index, targets) in targets.chunks(rows).enumerate() {
        let h = h.narrow(0, index * rows, targets.len())?;
        let logits = crate::linear::forward(&h, weight)?;
        let (losses, dlogits) = if fused(&logits) {
            cpu::forward_backward(logits, targets, scale, options)?
        } else {
            reference::forward_backward(&logits, targets, scale, options)?
        };
        nll.extend(losses);
        if wants_input {
            dh.push(crate::linear::backward_input(&dlogits, weight)?);
        }
        if let Some(gradient) = gradient.as_deref_mut() {
            crate::linear::backward_weight(&dlogits, &h, gradient)?;
        }
    }
    let dh = match (wants_input, dh.is_empty()) {
        (false, _) => None,
        (true, true) => Some(crate::device::empty(h.dims(), DType::F32, h.device())?),
        (true, false) => Some(Tensor::cat(&dh, 0)?),
    };
    Ok(Output { nll, dh })
}

pub(crate) fn check(h: &Tensor, weight: &Tensor, targets: &[u32], options: Options) -> Result<()> {
    arguments::check("head_loss", &[("h", h), ("weight", weight)])?;
    if options.softcap.is_some_and(|cap| cap.is_nan() || cap <= 0.0) || !options.z_loss.is_finite() {
        bail!("head_loss: a soft-cap is above 0 and a z-loss is a number, got {options:?}")
    }
    let (vocabulary, channels) = weight.dims2()?;
    if h.dims() != [targets.len(), channels] {
        bail!("head_loss: h {:?}, weight {:?}, {} targets", h.shape(), weight.shape(), targets.len())
    }
    if let Some(target) = targets.iter().find(|&&target| target as usize >= vocabulary) {
        bail!("head_loss: target {target} but the vocabulary has {vocabulary} tokens")
    }
    Ok(())
}

#[cfg(test)]
mod tests;
