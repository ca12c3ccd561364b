//! AdamW in one pass over weight, moments and gradient, with the clip factor folded in.

pub mod case;
pub(crate) mod cpu;
pub mod reference;

use crate::parameter::Parameter;
use crate::storage::fused;
use candle_core::{Result, Tensor};

/// Numbers of one update, the same for every tensor but the decay.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Update {
    /// Learning rate of this step.
    pub learning_rate: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the corrected second moment.
    pub epsilon: f64,
    /// Decoupled weight decay of this tensor.
    pub weight_decay: f64,
    /// Optimizer steps, this one included; counts from 1.
    pub step: u64,
    /// Factor of the gradient: what clipping leaves.
    pub gradient_scale: f64,
}

/// Updates a weight and its moments in place. Shapes: all equal; moments and gradient f32.
///
/// `p -= lr*wd*p; m += (1-b1)(g-m); v = b2*v + (1-b2)g^2; p -= lr/(1-b1^t) * m / (sqrt(v)/sqrt(1-b2^t) + eps)`.
/// Errors: shapes or types that don't fit.
/// Source: Loshchilov & Hutter 2019, arXiv:1711.05101, in the order and rounding of `torch.optim.AdamW`.
pub fn step<'a>(
    parameter: impl Into<Parameter<'a>>,
    first: &mut Tensor,
    second: &mut Tensor,
    gradient: &Tensor,
    update: &Update,
) -> Result<()> {
    let parameter = parameter.into();
    parameter.check("adamw", &[first, second], gradient)?;
    if parameter.is_on_cpu() && [&*first, second, gradient].into_iter().all(fused) {
        cpu::step(parameter, first, second, gradient, update)
    } else {
        reference::step(parameter, first, second, gradient, update)
    }
}

/// The factors of an update that are the same for every element, rounded to f32 once.
#[derive(Clone, Copy)]
pub(crate) struct Factors {
    pub(crate) keep: f32,
    pub(crate) one_minus_beta1: f32,
    pub(crate) beta2: f32,
    pub(crate) one_minus_beta2: f32,
    /// 1 / sqrt(1 - beta2^step): a product where PyTorch divides, within one rounding.
    pub(crate) root_factor: f32,
    pub(crate) step_size: f32,
    pub(crate) epsilon: f32,
    pub(crate) scale: f32,
}

impl Update {
    pub(crate) fn factors(&self) -> Factors {
        let steps = self.step as f64;
        Factors {
            keep: (1.0 - self.learning_rate * self.weight_decay) as f32,
            one_minus_beta1: (1.0 - self.beta1) as f32,
            beta2: self.beta2 as f32,
            one_minus_beta2: (1.0 - self.beta2) as f32,
            root_factor: (1.0 - self.beta2.powf(steps)).sqrt().recip() as f32,
            step_size: (self.learning_rate / (1.0 - self.beta1.powf(steps))) as f32,
            epsilon: self.epsilon as f32,
            scale: self.gradient_scale as f32,
        }
    }
}

#[cfg(test)]
mod tests;
