//! Lion in one pass over weight, momentum and gradient: every weight moves by the learning rate, up or down.

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
    /// Share of the momentum in the direction of this step.
    pub beta1: f64,
    /// Decay of the momentum.
    pub beta2: f64,
    /// Decoupled weight decay of this tensor.
    pub weight_decay: f64,
    /// Factor of the gradient: what clipping leaves.
    pub gradient_scale: f64,
}

/// Updates a weight and its momentum in place. Shapes: all equal; momentum and gradient f32.
///
/// `p -= lr*wd*p; p -= lr*sign(b1*m + (1-b1)g); m = b2*m + (1-b2)g`, where the sign of 0 is 0 and of NaN is NaN.
/// Errors: shapes or types that don't fit.
/// Source: Chen et al. 2023, arXiv:2302.06675, algorithm 2, in the order of the authors' `lion_pytorch.py`.
pub fn step<'a>(
    parameter: impl Into<Parameter<'a>>,
    momentum: &mut Tensor,
    gradient: &Tensor,
    update: &Update,
) -> Result<()> {
    let parameter = parameter.into();
    parameter.check("lion", &[momentum], gradient)?;
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

    const UPDATE: Update =
        Update { learning_rate: 0.01, beta1: 0.9, beta2: 0.99, weight_decay: 0.1, gradient_scale: 0.3 };

    fn zeros(len: usize) -> Tensor {
        Tensor::zeros(len, DType::F32, &Device::Cpu).unwrap()
    }

    #[test]
    fn lion_matches_the_reference_over_steps_with_decay_and_clipping() {
        for len in [1usize, 15, 16, 100_003] {
            let (fused, plain, mut m, mut m_plain) = (random(&[len], 1), random(&[len], 1), zeros(len), zeros(len));
            for s in 1..=4 {
                let gradient = random(&[len], 10 + s);
                step(&fused, &mut m, &gradient, &UPDATE).unwrap();
                reference::step(&plain, &mut m_plain, &gradient, &UPDATE).unwrap();
            }
            assert_close("momentum", &m, &m_plain, 1e-7);
            assert_close("weight", &fused, &plain, 1e-6);
        }
    }

    #[test]
    fn lion_matches_the_formula_in_f64() {
        let (mut m, weight) = (zeros(1), Tensor::new(&[0.5f32], &Device::Cpu).unwrap());
        let (mut p, mut m64) = (0.5f64, 0f64);
        for g in [0.3f32, -0.9, 0.0, -0.2] {
            step(&weight, &mut m, &Tensor::new(&[g], &Device::Cpu).unwrap(), &UPDATE).unwrap();
            let g = f64::from(g) * 0.3;
            p -= 0.01 * 0.1 * p;
            p -= 0.01 * (0.9 * m64 + 0.1 * g).signum();
            m64 = 0.99 * m64 + 0.01 * g;
            let got = f64::from(weight.to_vec1::<f32>().unwrap()[0]);
            assert!((got - p).abs() < 1e-7, "{got} but {p}");
        }
    }

    #[test]
    fn a_weight_that_nothing_pulls_stays_where_it_is() {
        let numbers = Update { weight_decay: 0.0, ..UPDATE };
        let run = |gradient: &Tensor| {
            let (fused, plain) = (random(&[2], 1), random(&[2], 1));
            step(&fused, &mut zeros(2), gradient, &numbers).unwrap();
            reference::step(&plain, &mut zeros(2), gradient, &numbers).unwrap();
            assert_eq!(bits(&fused), bits(&plain));
            fused
        };
        assert_eq!(bits(&run(&zeros(2))), bits(&random(&[2], 1)));
        let values = run(&Tensor::new(&[f32::NAN, 1.0], &Device::Cpu).unwrap()).to_vec1::<f32>().unwrap();
        assert!(values[0].is_nan() && values[1].is_finite(), "a NaN is not hidden: {values:?}");
    }

    #[test]
    fn a_sixteen_bit_weight_is_its_master_rounded_and_the_master_is_the_f32_run() {
        let alone = random(&[20_011], 1).to_dtype(DType::BF16).unwrap().to_dtype(DType::F32).unwrap();
        let (master, weight) = (alone.copy().unwrap(), alone.to_dtype(DType::BF16).unwrap());
        let (mut m, mut m_alone) = (zeros(20_011), zeros(20_011));
        for s in 1..=3 {
            let gradient = random(&[20_011], 10 + s);
            step(Parameter::new(&weight, Some(&master)), &mut m, &gradient, &UPDATE).unwrap();
            step(&alone, &mut m_alone, &gradient, &UPDATE).unwrap();
        }
        assert_eq!(bits(&master), bits(&alone));
        assert_eq!(bits(&weight), bits(&master.to_dtype(DType::BF16).unwrap()));
    }

    #[test]
    fn the_number_of_threads_changes_no_bit_and_shapes_are_named() {
        let run = || {
            let (weight, mut m) = (random(&[100_003], 1), zeros(100_003));
            step(&weight, &mut m, &random(&[100_003], 2), &UPDATE).unwrap();
            [bits(&weight), bits(&m)]
        };
        assert_eq!(with_threads(1, run), with_threads(4, run));
        let message = step(&zeros(2), &mut zeros(2), &zeros(3), &UPDATE).unwrap_err().to_string();
        assert!(message.starts_with("lion: weight [2], its f32 values [2], state [[2]], gradient [3]"), "{message}");
    }
}
