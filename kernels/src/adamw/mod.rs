//! AdamW in one pass over weight, moments and gradient, with the clip factor folded in.

mod cpu;
pub mod reference;

use crate::storage::fused;
use candle_core::{Result, Tensor, bail};

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

/// Updates `weight` and its moments in place. Shapes: all equal, all f32.
///
/// `p -= lr*wd*p; m += (1-b1)(g-m); v = b2*v + (1-b2)g^2; p -= lr/(1-b1^t) * m / (sqrt(v)/sqrt(1-b2^t) + eps)`.
/// Source: Loshchilov & Hutter 2019, arXiv:1711.05101, in the order and rounding of `torch.optim.AdamW`.
pub fn step(
    weight: &Tensor,
    first: &mut Tensor,
    second: &mut Tensor,
    gradient: &Tensor,
    update: &Update,
) -> Result<()> {
    if weight.shape() != gradient.shape() || weight.shape() != first.shape() || weight.shape() != second.shape() {
        bail!(
            "adamw: weight {:?}, moments {:?} and {:?}, gradient {:?}",
            weight.shape(),
            first.shape(),
            second.shape(),
            gradient.shape()
        )
    }
    if [weight, first, second, gradient].into_iter().all(fused) {
        cpu::step(weight, first, second, gradient, update)
    } else {
        reference::step(weight, first, second, gradient, update)
    }
}

/// The factors of an update that are the same for every element, rounded to f32 once.
#[derive(Clone, Copy)]
struct Factors {
    keep: f32,
    one_minus_beta1: f32,
    beta2: f32,
    one_minus_beta2: f32,
    root_correction: f32,
    step_size: f32,
    epsilon: f32,
    scale: f32,
}

impl Update {
    fn factors(&self) -> Factors {
        let steps = self.step as f64;
        Factors {
            keep: (1.0 - self.learning_rate * self.weight_decay) as f32,
            one_minus_beta1: (1.0 - self.beta1) as f32,
            beta2: self.beta2 as f32,
            one_minus_beta2: (1.0 - self.beta2) as f32,
            root_correction: (1.0 - self.beta2.powf(steps)).sqrt() as f32,
            step_size: (self.learning_rate / (1.0 - self.beta1.powf(steps))) as f32,
            epsilon: self.epsilon as f32,
            scale: self.gradient_scale as f32,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, random};

    fn update(step: u64, weight_decay: f64, gradient_scale: f64) -> Update {
        Update { learning_rate: 1e-2, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay, step, gradient_scale }
    }

    #[test]
    fn adamw_matches_the_reference_over_steps_with_decay_and_clipping() {
        for len in [1usize, 15, 16, 100_003] {
            let zeros = || Tensor::zeros(len, candle_core::DType::F32, &candle_core::Device::Cpu).unwrap();
            let (fused, plain) = (random(&[len], 1), random(&[len], 1));
            let (mut m, mut v, mut m_plain, mut v_plain) = (zeros(), zeros(), zeros(), zeros());
            for s in 1..=4 {
                let (gradient, update) = (random(&[len], 10 + s), update(s, 0.1, 0.3));
                step(&fused, &mut m, &mut v, &gradient, &update).unwrap();
                reference::step(&plain, &mut m_plain, &mut v_plain, &gradient, &update).unwrap();
            }
            assert_close("m", &m, &m_plain, 1e-7);
            assert_close("v", &v, &v_plain, 1e-7);
            assert_close("weight", &fused, &plain, 1e-6);
        }
    }

    #[test]
    fn adamw_matches_the_formula_in_f64() {
        let (mut m, mut v) = (random(&[1], 1).zeros_like().unwrap(), random(&[1], 1).zeros_like().unwrap());
        let weight = Tensor::new(&[0.5f32], m.device()).unwrap();
        let (mut p, mut m64, mut v64) = (0.5f64, 0.0f64, 0.0f64);
        for (s, g) in [(1, 0.3f32), (2, -0.2), (3, 0.7)] {
            step(&weight, &mut m, &mut v, &Tensor::new(&[g], weight.device()).unwrap(), &update(s, 0.1, 1.0)).unwrap();
            let g = f64::from(g);
            p -= 1e-2 * 0.1 * p;
            m64 += 0.1 * (g - m64);
            v64 = 0.999 * v64 + 0.001 * g * g;
            let (c1, c2) = (1.0 - 0.9f64.powi(s as i32), 1.0 - 0.999f64.powi(s as i32));
            p -= 1e-2 / c1 * m64 / ((v64 / c2).sqrt() + 1e-8);
            let got = f64::from(weight.to_vec1::<f32>().unwrap()[0]);
            assert!((got - p).abs() < 1e-7, "step {s}: {got} but {p}");
        }
    }
}
