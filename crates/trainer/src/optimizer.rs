//! AdamW over the weights that train: moments in f32, one pass per tensor, decay on matrices alone.

use candle_core::{DType, Result, Tensor, bail};
use outcrop_kernels::{Gradients, adamw};
use std::collections::BTreeMap;

/// The constants of AdamW.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Decoupled decay of tensors of two or more dimensions; norms and biases have none.
    pub weight_decay: f64,
}

/// Both moments of one weight.
#[derive(Debug)]
pub(crate) struct Moments {
    pub(crate) first: Tensor,
    pub(crate) second: Tensor,
}

/// The optimizer's state.
#[derive(Debug)]
pub struct Optimizer {
    settings: Settings,
    pub(crate) step: u64,
    pub(crate) moments: BTreeMap<String, Moments>,
}

impl Optimizer {
    /// Zero moments for these weights.
    pub fn new<'a>(settings: Settings, weights: impl IntoIterator<Item = (&'a str, &'a Tensor)>) -> Result<Self> {
        let zeros = |weight: &Tensor| Tensor::zeros(weight.shape(), DType::F32, weight.device());
        let moments = weights
            .into_iter()
            .map(|(name, weight)| Ok((name.to_string(), Moments { first: zeros(weight)?, second: zeros(weight)? })))
            .collect::<Result<_>>()?;
        Ok(Self { settings, step: 0, moments })
    }

    /// Back to the state before the first step.
    pub(crate) fn reset(&mut self) -> Result<()> {
        self.step = 0;
        for moments in self.moments.values_mut() {
            moments.first = moments.first.zeros_like()?;
            moments.second = moments.second.zeros_like()?;
        }
        Ok(())
    }

    /// One step: every weight that has moments is updated in place with its gradient times `gradient_scale`.
    /// Errors: a weight without a gradient: nothing trains silently less than it should.
    pub fn update<'a>(
        &mut self,
        weights: impl IntoIterator<Item = (&'a str, &'a Tensor)>,
        gradients: &Gradients,
        learning_rate: f64,
        gradient_scale: f64,
    ) -> Result<()> {
        self.step += 1;
        let Settings { beta1, beta2, epsilon, weight_decay } = self.settings;
        for (name, weight) in weights {
            let Some(moments) = self.moments.get_mut(name) else { continue };
            let Some(gradient) = gradients.get(name).filter(|gradient| gradient.is_filled()) else {
                bail!("optimizer: `{name}` trains but got no gradient")
            };
            let weight_decay = if weight.rank() >= 2 { weight_decay } else { 0.0 };
            let update =
                adamw::Update { learning_rate, beta1, beta2, epsilon, weight_decay, step: self.step, gradient_scale };
            adamw::step(weight, &mut moments.first, &mut moments.second, gradient.tensor(), &update)?;
        }
        Ok(())
    }
}
