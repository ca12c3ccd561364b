//! The head's step: loss, clipping norm and AdamW of an output projection whose gradient is never written down.
//!
//! The gradient of k targets is `P^T H`, P (k, V) the logits' gradient and H (k, C) what the head read: its rank is k.
//! One pass over the head's rows makes a row's gradient and updates its moments and weight at once, 24 bytes moved a
//! weight. Left out: other optimizers, 16-bit weights and more than [`most_targets`]; these go by `head_loss`.

mod cpu;
pub mod reference;

use crate::adamw::Update;
use crate::head_loss::Options;
use crate::storage::fused;
use crate::{head_loss, linear};
use candle_core::{Result, Tensor, bail};

/// Most targets of a step that goes this way: P is at most half as large as the gradient it stands for, and at most
/// one chunk of `head_loss`. A function of the shapes alone, so that a resumed run and a trial of a sweep choose alike.
pub fn most_targets(vocabulary: usize, channels: usize) -> usize {
    head_loss::chunk_rows(vocabulary).min(channels / 2)
}

/// The gradient of a step's mean loss in two factors, and the losses.
#[derive(Debug)]
pub struct Factors {
    /// NLL of each target, in nats.
    pub nll: Vec<f32>,
    dlogits: Tensor,
    h: Tensor,
}

/// True where [`forward`] and [`step`] apply to this head: f32 on the CPU.
pub fn applies(weight: &Tensor) -> bool {
    fused(weight) && weight.is_contiguous()
}

/// Losses and the factors of the gradient of `scale * sum(nll + z_loss * lse^2)`. Shapes: h (k, C), weight (V, C), targets k.
/// Memory: k * V floats. Errors: shapes that don't fit, a target outside the vocabulary, another type or device.
pub fn forward(h: &Tensor, weight: &Tensor, targets: &[u32], scale: f32, options: Options) -> Result<Factors> {
    head_loss::check(h, weight, targets, options)?;
    if !applies(weight) || !fused(h) {
        bail!("head_step: f32 on the CPU needed, got {:?} on {:?}", weight.dtype(), weight.device())
    }
    let h = h.contiguous()?;
    let (nll, dlogits) = head_loss::cpu::forward_backward(linear::forward(&h, weight)?, targets, scale, options)?;
    Ok(Factors { nll, dlogits, h })
}

impl Factors {
    /// L2 norm of the gradient, from two k x k Gram matrices: `||P^T H||^2 = sum((P P^T) * (H H^T))`. Sums in f64.
    pub fn norm(&self) -> Result<f64> {
        cpu::norm(&self.dlogits, &self.h)
    }
}

/// AdamW of the head with this gradient, in place. Shapes: weight and moments (V, C).
/// The weights' bits are those of [`crate::adamw::step`] with the gradient's rows summed target by target, fused.
/// Errors: shapes or types that don't fit.
pub fn step(weight: &Tensor, first: &Tensor, second: &Tensor, factors: &Factors, update: &Update) -> Result<()> {
    let (vocabulary, channels) = (factors.dlogits.dim(1)?, factors.h.dim(1)?);
    if [weight, first, second].iter().any(|tensor| tensor.dims() != [vocabulary, channels] || !applies(tensor)) {
        let shapes = [weight.shape(), first.shape(), second.shape()];
        bail!("head_step: weight and moments {shapes:?}, f32 of [{vocabulary}, {channels}] needed")
    }
    cpu::step(weight, first, second, &factors.dlogits, &factors.h, update)
}

#[cfg(test)]
mod tests;
