//! The optimizer over the weights that train: state by name and weight, one pass per tensor, decay on matrices alone.
//!
//! A 16-bit weight has an f32 master here, which is what is updated, saved, and handed on as the result.

use candle_core::{DType, Result, Tensor, bail};
use outcrop_job::Hyperparameters;
use outcrop_job::hyperparameters::OptimizerKind;
use outcrop_kernels::adamw_8bit::{self, Codebook, Quantized};
use outcrop_kernels::{Gradients, Parameter, adamw, head_step, lion, sgd};
use rayon::prelude::*;
use std::collections::{BTreeMap, HashMap};

/// The update rule and its constants.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    /// AdamW; the moments of large tensors in 8 bits where asked for.
    AdamW {
        /// Decay of the first moment.
        beta1: f64,
        /// Decay of the second moment.
        beta2: f64,
        /// Added to the root of the second moment.
        epsilon: f64,
        /// Whether tensors of [`adamw_8bit::MIN_VALUES`] values and more have quantized moments.
        quantized: bool,
    },
    /// Gradient descent with momentum.
    Sgd {
        /// What the momentum keeps of itself.
        momentum: f64,
    },
    /// Lion.
    Lion {
        /// Share of the momentum in a step.
        beta1: f64,
        /// Decay of the momentum.
        beta2: f64,
    },
}

/// The constants of an optimizer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// The update rule.
    pub rule: Rule,
    /// Decay of tensors of two or more dimensions; norms and biases have none. Decoupled, but SGD's is L2.
    pub weight_decay: f64,
}

impl From<&Hyperparameters> for Settings {
    fn from(settings: &Hyperparameters) -> Self {
        let (beta1, beta2, epsilon) = (settings.adam_beta1, settings.adam_beta2, settings.adam_epsilon);
        let rule = match settings.optimizer {
            OptimizerKind::AdamW => Rule::AdamW { beta1, beta2, epsilon, quantized: false },
            OptimizerKind::AdamW8bit => Rule::AdamW { beta1, beta2, epsilon, quantized: true },
            OptimizerKind::Sgd => Rule::Sgd { momentum: settings.momentum },
            OptimizerKind::Lion => Rule::Lion { beta1, beta2 },
        };
        Self { rule, weight_decay: settings.weight_decay }
    }
}

impl Settings {
    /// Bytes of state beside a weight of that many values, its master not counted.
    pub fn state_bytes(&self, values: u64) -> u64 {
        match self.rule {
            Rule::AdamW { .. } if self.quantizes(values as usize) => {
                2 * (values + 4 * values.div_ceil(adamw_8bit::BLOCK as u64))
            }
            Rule::AdamW { .. } => 8 * values,
            Rule::Sgd { .. } | Rule::Lion { .. } => 4 * values,
        }
    }

    fn quantizes(&self, values: usize) -> bool {
        matches!(self.rule, Rule::AdamW { quantized: true, .. }) && values >= adamw_8bit::MIN_VALUES
    }
}

/// What an optimizer remembers of one weight.
#[derive(Debug)]
enum Moments {
    Two { first: Tensor, second: Tensor },
    Quantized { first: Quantized, second: Quantized },
    One { momentum: Tensor },
}

impl Moments {
    /// Those of the first step.
    fn new(settings: &Settings, weight: &Tensor) -> Result<Self> {
        let zeros = || Tensor::zeros(weight.shape(), DType::F32, weight.device());
        Ok(match settings.rule {
            Rule::AdamW { .. } if settings.quantizes(weight.elem_count()) => {
                let zeros = |codebook| Quantized::zeros(weight.shape(), codebook, weight.device());
                Self::Quantized { first: zeros(Codebook::Signed)?, second: zeros(Codebook::Unsigned)? }
            }
            Rule::AdamW { .. } => Self::Two { first: zeros()?, second: zeros()? },
            Rule::Sgd { .. } | Rule::Lion { .. } => Self::One { momentum: zeros()? },
        })
    }

    /// Those of the first step again, where they lie: others beside them would double the peak of a run's memory.
    fn reset(&mut self, settings: &Settings, weight: &Tensor) -> Result<()> {
        match self {
            Self::Two { first, second } => {
                first.zero_set()?;
                second.zero_set()?;
            }
            Self::One { momentum } => momentum.zero_set()?,
            Self::Quantized { .. } => *self = Self::new(settings, weight)?, // small, and no zero has code 0
        }
        Ok(())
    }

    /// Every tensor by name, to be read or replaced.
    fn named(&mut self) -> Vec<(&'static str, &mut Tensor)> {
        match self {
            Self::Two { first, second } => vec![("first", first), ("second", second)],
            Self::Quantized { first, second } => vec![
                ("first/codes", &mut first.codes),
                ("first/absmax", &mut first.absmax),
                ("second/codes", &mut second.codes),
                ("second/absmax", &mut second.absmax),
            ],
            Self::One { momentum } => vec![("momentum", momentum)],
        }
    }
}

/// One weight's part of the optimizer.
#[derive(Debug)]
struct Slot {
    moments: Moments,
    /// The f32 values of a 16-bit weight.
    master: Option<Tensor>,
}

/// The optimizer's state.
#[derive(Debug)]
pub struct Optimizer {
    settings: Settings,
    pub(crate) step: u64,
    slots: BTreeMap<String, Slot>,
}

impl Optimizer {
    /// The state before the first step of these weights. A 16-bit weight's master is the tensor of its name in
    /// `masters`, which it must be the rounding of; where there is none, the weight itself, widened.
    pub fn new<'a>(
        settings: Settings,
        weights: impl IntoIterator<Item = (&'a str, &'a Tensor)>,
        masters: &[(String, Tensor)],
    ) -> Result<Self> {
        let slot = |name: &str, weight: &Tensor| -> Result<Slot> {
            let given = masters.iter().find(|(known, _)| known == name).map(|(_, master)| master);
            let master = match weight.dtype() {
                DType::F32 => None,
                _ => Some(given.map_or_else(|| weight.to_dtype(DType::F32), |master| Ok(master.clone()))?),
            };
            Ok(Slot { moments: Moments::new(&settings, weight)?, master })
        };
        let slots = weights.into_iter().map(|(name, weight)| Ok((name.to_string(), slot(name, weight)?)));
        Ok(Self { settings, step: 0, slots: slots.collect::<Result<_>>()? })
    }

    /// Back to the state before the first step; masters stay.
    pub(crate) fn reset(&mut self, weights: &[(String, Tensor)]) -> Result<()> {
        self.step = 0;
        for (name, weight) in weights {
            if let Some(slot) = self.slots.get_mut(name) {
                slot.moments.reset(&self.settings, weight)?;
            }
        }
        Ok(())
    }

    /// The f32 values of these weights: the master where there is one, else the weight itself.
    pub(crate) fn values(&self, weights: &[(String, Tensor)]) -> Vec<(String, Tensor)> {
        let value = |(name, weight): &(String, Tensor)| {
            let master = self.slots.get(name).and_then(|slot| slot.master.as_ref());
            (name.clone(), master.unwrap_or(weight).clone())
        };
        weights.iter().map(value).collect()
    }

    /// Puts these f32 values, of the same shape, into a weight and its master.
    pub(crate) fn set_values(&mut self, name: &str, weight: &Tensor, values: &Tensor) -> Result<()> {
        if let Some(slot) = self.slots.get_mut(name)
            && let Some(master) = &mut slot.master
        {
            *master = values.clone();
        }
        weight.slice_set(&values.to_dtype(weight.dtype())?.contiguous()?, 0, 0)
    }

    /// Every tensor of the state but the masters, as `weight/tensor`, to be saved or replaced.
    pub(crate) fn state(&mut self) -> impl Iterator<Item = (String, &mut Tensor)> {
        self.slots.iter_mut().flat_map(|(name, slot)| {
            slot.moments.named().into_iter().map(move |(part, tensor)| (format!("{name}/{part}"), tensor))
        })
    }

    /// Whether [`Optimizer::update_head`] applies: AdamW with f32 moments, and no master.
    pub(crate) fn takes_factors(&self) -> bool {
        self.slots.values().all(|slot| slot.master.is_none() && matches!(slot.moments, Moments::Two { .. }))
    }

    /// One step of the only weight that trains, its gradient in factors.
    pub(crate) fn update_head(
        &mut self,
        weights: &[(String, Tensor)],
        factors: &head_step::Factors,
        learning_rate: f64,
        gradient_scale: f64,
    ) -> Result<()> {
        self.step += 1;
        let Rule::AdamW { beta1, beta2, epsilon, .. } = self.settings.rule else {
            bail!("optimizer: only AdamW takes the head's gradient in factors")
        };
        let [(name, weight)] = weights else { bail!("optimizer: the head doesn't train alone") };
        let Some(Slot { moments: Moments::Two { first, second }, master: None }) = self.slots.get(name) else {
            bail!("optimizer: `{name}` has no f32 moments")
        };
        let (weight_decay, step) = (self.settings.weight_decay, self.step);
        let update = adamw::Update { learning_rate, beta1, beta2, epsilon, weight_decay, step, gradient_scale };
        head_step::step(weight, first, second, factors, &update)
    }

    /// One step: every weight that has state is updated in place with its gradient times `gradient_scale`.
    /// Errors: a weight without a gradient: nothing trains silently less than it should.
    pub fn update<'a>(
        &mut self,
        weights: impl IntoIterator<Item = (&'a str, &'a Tensor)>,
        gradients: &Gradients,
        learning_rate: f64,
        gradient_scale: f64,
    ) -> Result<()> {
        self.step += 1;
        let mut work = Vec::with_capacity(self.slots.len());
        let mut slots: HashMap<&str, &mut Slot> = self.slots.iter_mut().map(|(name, slot)| (&**name, slot)).collect();
        for (name, weight) in weights {
            let Some(slot) = slots.remove(name) else { continue };
            let Some(gradient) = gradients.get(name).filter(|gradient| gradient.is_filled()) else {
                bail!("optimizer: `{name}` trains but got no gradient")
            };
            work.push((name, weight, slot, gradient.tensor()));
        }
        // all at once, so that no thread waits at the end of each small tensor
        let numbers = Numbers { settings: self.settings, step: self.step, learning_rate, gradient_scale };
        work.into_par_iter().try_for_each(|(name, weight, slot, gradient)| numbers.update(name, weight, slot, gradient))
    }
}

/// What one step is the same in for every weight.
struct Numbers {
    settings: Settings,
    step: u64,
    learning_rate: f64,
    gradient_scale: f64,
}

impl Numbers {
    /// The step of one weight.
    fn update(&self, name: &str, weight: &Tensor, slot: &mut Slot, gradient: &Tensor) -> Result<()> {
        let Self { settings, step, learning_rate, gradient_scale } = *self;
        let weight_decay = if weight.rank() >= 2 { settings.weight_decay } else { 0.0 };
        let parameter = Parameter::new(weight, slot.master.as_ref());
        match (&mut slot.moments, settings.rule) {
            (Moments::Two { first, second }, Rule::AdamW { beta1, beta2, epsilon, .. }) => {
                let update = adamw::Update { learning_rate, beta1, beta2, epsilon, weight_decay, step, gradient_scale };
                adamw::step(parameter, first, second, gradient, &update)
            }
            (Moments::Quantized { first, second }, Rule::AdamW { beta1, beta2, epsilon, .. }) => {
                let update = adamw::Update { learning_rate, beta1, beta2, epsilon, weight_decay, step, gradient_scale };
                adamw_8bit::step(parameter, first, second, gradient, &update)
            }
            (Moments::One { momentum }, Rule::Sgd { momentum: keep }) => {
                let update = sgd::Update { learning_rate, momentum: keep, weight_decay, gradient_scale };
                sgd::step(parameter, momentum, gradient, &update)
            }
            (Moments::One { momentum }, Rule::Lion { beta1, beta2 }) => {
                let update = lion::Update { learning_rate, beta1, beta2, weight_decay, gradient_scale };
                lion::step(parameter, momentum, gradient, &update)
            }
            _ => bail!("optimizer: `{name}` has the state of another rule"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn r16_after_a_reset_the_first_step_comes_again_bit_for_bit_and_moments_lie_where_they_lay() {
        let adamw = |quantized| Rule::AdamW { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, quantized };
        let rules = [adamw(false), adamw(true), Rule::Sgd { momentum: 0.9 }, Rule::Lion { beta1: 0.9, beta2: 0.99 }];
        for rule in rules {
            let weights = vec![("w".to_string(), Tensor::full(0.5f32, (80, 60), &Device::Cpu).unwrap())];
            let named = || weights.iter().map(|(name, tensor)| (name.as_str(), tensor));
            let mut gradients = Gradients::for_weights(named()).unwrap();
            let gradient = Tensor::rand(-1f32, 1f32, (80, 60), &Device::Cpu).unwrap();
            gradients.get_mut("w").unwrap().add(&gradient).unwrap();
            let mut optimizer = Optimizer::new(Settings { rule, weight_decay: 0.1 }, named(), &[]).unwrap();
            let mut step = || {
                optimizer.update(named(), &gradients, 0.01, 1.0).unwrap();
                let after = weights[0].1.flatten_all().unwrap().to_vec1::<f32>().unwrap();
                weights[0].1.slice_set(&Tensor::full(0.5f32, (80, 60), &Device::Cpu).unwrap(), 0, 0).unwrap();
                let places: Vec<_> = optimizer.state().map(|(_, tensor)| tensor.id()).collect();
                optimizer.reset(&weights).unwrap();
                let kept = places.iter().zip(optimizer.state()).all(|(before, (_, tensor))| *before == tensor.id());
                (after, kept)
            };
            let (first, kept) = step();
            let (again, _) = step();
            assert_eq!(
                first.iter().map(|x| x.to_bits()).collect::<Vec<_>>(),
                again.iter().map(|x| x.to_bits()).collect::<Vec<_>>(),
                "{rule:?}"
            );
            assert_eq!(kept, rule != adamw(true), "{rule:?}");
        }
    }
}
