//! Stochastic gradient descent with momentum in one pass over weight, momentum and gradient.

pub mod case;
mod cpu;
pub mod reference;

use crate::parameter::Parameter;
use crate::storage::fused;
use candle_core::{Result, Tensor};

/// Numbers of one update, the same for every tensor but the decay.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Update {
    /// Learning rate of this step.
    pub learning_rate: f64,
    /// What the momentum keeps of itself; 0 is plain descent.
    pub momentum: f64,
    /// L2 decay of this tensor: added to the gradient, behind clipping, not decoupled.
    pub weight_decay: f64,
    /// Factor of the gradient: what clipping leaves.
    pub gradient_scale: f64,
}

/// Updates a weight and its momentum in place. Shapes: all equal; momentum and gradient f32.
///
/// `b = mu*b + (g + wd*p); p -= lr*b`. The momentum starts at zero, so that the first step has `b = g + wd*p`.
/// Errors: shapes or types that don't fit.
/// Source: Sutskever et al. 2013 in the form of `torch.optim.SGD`: L2 decay, no dampening, no Nesterov.
pub fn step<'a>(
    parameter: impl Into<Parameter<'a>>,
    momentum: &mut Tensor,
    gradient: &Tensor,
    update: &Update,
) -> Result<()> {
    let parameter = parameter.into();
    parameter.check("sgd", &[momentum], gradient)?;
    if parameter.is_on_cpu() && fused(momentum) && fused(gradient) {
        cpu::step(parameter, momentum, gradient, update)
    } else {
        reference::step(parameter, momentum, gradient, update)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, bits, random, with_threads};
    use candle_core::{DType, Device};

    const UPDATE: Update = Update { learning_rate: 0.05, momentum: 0.9, weight_decay: 0.1, gradient_scale: 0.3 };

    fn zeros(len: usize) -> Tensor {
        Tensor::zeros(len, DType::F32, &Device::Cpu).unwrap()
    }

    #[test]
    fn sgd_matches_the_reference_over_steps_with_decay_and_clipping() {
        for len in [1usize, 15, 16, 100_003] {
            let (fused, plain, mut b, mut b_plain) = (random(&[len], 1), random(&[len], 1), zeros(len), zeros(len));
            for s in 1..=4 {
                let gradient = random(&[len], 10 + s);
                step(&fused, &mut b, &gradient, &UPDATE).unwrap();
                reference::step(&plain, &mut b_plain, &gradient, &UPDATE).unwrap();
            }
            assert_close("momentum", &b, &b_plain, 1e-6);
            assert_close("weight", &fused, &plain, 1e-6);
        }
    }

    #[test]
    fn sgd_matches_the_formula_in_f64() {
        let (mut b, weight) = (zeros(1), Tensor::new(&[0.5f32], &Device::Cpu).unwrap());
        let (mut p, mut b64) = (0.5f64, None);
        for g in [0.3f32, -0.2, 0.7] {
            step(&weight, &mut b, &Tensor::new(&[g], &Device::Cpu).unwrap(), &UPDATE).unwrap();
            let g = f64::from(g) * 0.3 + 0.1 * p;
            let next = b64.map_or(g, |b: f64| 0.9 * b + g); // torch's first step
            b64 = Some(next);
            p -= 0.05 * next;
            let got = f64::from(weight.to_vec1::<f32>().unwrap()[0]);
            assert!((got - p).abs() < 1e-7, "{got} but {p}");
        }
    }

    #[test]
    fn a_sixteen_bit_weight_is_its_master_rounded_and_the_master_is_the_f32_run() {
        let alone = random(&[20_011], 1).to_dtype(DType::BF16).unwrap().to_dtype(DType::F32).unwrap();
        let (master, weight) = (alone.copy().unwrap(), alone.to_dtype(DType::BF16).unwrap());
        let (mut b, mut b_alone) = (zeros(20_011), zeros(20_011));
        for s in 1..=3 {
            let gradient = random(&[20_011], 10 + s);
            step(Parameter::new(&weight, Some(&master)), &mut b, &gradient, &UPDATE).unwrap();
            step(&alone, &mut b_alone, &gradient, &UPDATE).unwrap();
        }
        assert_eq!(bits(&master), bits(&alone));
        assert_eq!(bits(&weight), bits(&master.to_dtype(DType::BF16).unwrap()));
    }

    #[test]
    fn the_number_of_threads_changes_no_bit_a_nan_is_not_hidden_and_shapes_are_named() {
        let run = || {
            let (weight, mut b) = (random(&[100_003], 1), zeros(100_003));
            step(&weight, &mut b, &random(&[100_003], 2), &UPDATE).unwrap();
            [bits(&weight), bits(&b)]
        };
        assert_eq!(with_threads(1, run), with_threads(4, run));
        let (weight, mut b) = (random(&[2], 1), zeros(2));
        step(&weight, &mut b, &Tensor::new(&[f32::NAN, 1.0], &Device::Cpu).unwrap(), &UPDATE).unwrap();
        let values = weight.to_vec1::<f32>().unwrap();
        assert!(values[0].is_nan() && values[1].is_finite(), "{values:?}");
        let message = step(&weight, &mut zeros(3), &zeros(2), &UPDATE).unwrap_err().to_string();
        assert!(message.starts_with("sgd: weight [2], its f32 values [2], state [[3]], gradient [2]"), "{message}");
    }
}
