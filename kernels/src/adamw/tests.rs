//! AdamW against its reference, its formula, and itself on other threads and types.

use super::*;
use crate::testing::{assert_close, bits, random, with_threads};
use candle_core::{DType, Device};

fn update(step: u64, weight_decay: f64, gradient_scale: f64) -> Update {
    Update { learning_rate: 1e-2, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay, step, gradient_scale }
}

fn zeros(len: usize) -> Tensor {
    Tensor::zeros(len, DType::F32, &Device::Cpu).unwrap()
}

#[test]
fn adamw_matches_the_reference_over_steps_with_decay_and_clipping() {
    for len in [1usize, 15, 16, 100_003] {
        let (fused, plain) = (random(&[len], 1), random(&[len], 1));
        let (mut m, mut v, mut m_plain, mut v_plain) = (zeros(len), zeros(len), zeros(len), zeros(len));
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
    let (mut m, mut v) = (zeros(1), zeros(1));
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

#[test]
fn a_sixteen_bit_weight_is_its_master_rounded_and_the_master_is_the_f32_run() {
    for dtype in [DType::BF16, DType::F16] {
        let alone = random(&[20_011], 1).to_dtype(dtype).unwrap().to_dtype(DType::F32).unwrap();
        let (master, plain) = (alone.copy().unwrap(), alone.copy().unwrap());
        let (weight, plain_weight) = (alone.to_dtype(dtype).unwrap(), alone.to_dtype(dtype).unwrap());
        let mut moments = [(); 6].map(|()| zeros(20_011));
        let [m, v, m_alone, v_alone, m_plain, v_plain] = &mut moments;
        for s in 1..=3 {
            let (gradient, update) = (random(&[20_011], 10 + s), update(s, 0.1, 0.3));
            step(Parameter::new(&weight, Some(&master)), m, v, &gradient, &update).unwrap();
            step(&alone, m_alone, v_alone, &gradient, &update).unwrap();
            let parameter = Parameter::new(&plain_weight, Some(&plain));
            reference::step(parameter, m_plain, v_plain, &gradient, &update).unwrap();
        }
        assert_eq!(bits(&master), bits(&alone), "{dtype:?}");
        assert_eq!(bits(&weight), bits(&master.to_dtype(dtype).unwrap()), "{dtype:?}");
        assert_close("reference's master", &master, &plain, 1e-6);
        assert_eq!(bits(&plain_weight), bits(&plain.to_dtype(dtype).unwrap()), "{dtype:?}");
    }
}

#[test]
fn the_number_of_threads_changes_no_bit_and_a_nan_is_not_hidden() {
    let run = || {
        let (weight, mut m, mut v) = (random(&[100_003], 1), zeros(100_003), zeros(100_003));
        step(&weight, &mut m, &mut v, &random(&[100_003], 2), &update(1, 0.1, 0.3)).unwrap();
        [bits(&weight), bits(&m), bits(&v)]
    };
    assert_eq!(with_threads(1, run), with_threads(4, run));
    let (weight, mut m, mut v) = (random(&[2], 1), zeros(2), zeros(2));
    let gradient = Tensor::new(&[f32::NAN, 1.0], &Device::Cpu).unwrap();
    step(&weight, &mut m, &mut v, &gradient, &update(1, 0.0, 1.0)).unwrap();
    let values = weight.to_vec1::<f32>().unwrap();
    assert!(values[0].is_nan() && values[1].is_finite(), "{values:?}");
}
