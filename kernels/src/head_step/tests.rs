//! The head's step against its reference, against AdamW on the written gradient, and on other threads.

use super::*;
use crate::testing::{assert_close, bits, random, with_threads};
use crate::{Gradients, adamw, global_norm};
use candle_core::{DType, Device};

fn update(step: u64, gradient_scale: f64) -> Update {
    Update { learning_rate: 1e-2, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.1, step, gradient_scale }
}

fn zeros(v: usize, c: usize) -> Tensor {
    Tensor::zeros((v, c), DType::F32, &Device::Cpu).unwrap()
}

fn targets(k: usize, v: usize) -> Vec<u32> {
    (0..k).map(|i| ((i * 7919 + 3) % v) as u32).collect()
}

/// Targets, channels, vocabulary: odd sizes leave tails in every loop.
const SHAPES: [(usize, usize, usize); 5] = [(1, 16, 7), (2, 64, 131), (5, 33, 130), (8, 576, 257), (40, 96, 1001)];

#[test]
fn steps_match_the_reference_with_decay_and_clipping() {
    for (k, c, v) in SHAPES {
        let (weight, plain) = (random(&[v, c], 1), random(&[v, c], 1));
        let (m, s, mut m_plain, mut s_plain) = (zeros(v, c), zeros(v, c), zeros(v, c), zeros(v, c));
        for number in 1..=3 {
            let h = random(&[k, c], 10 + number);
            let (targets, update) = (targets(k, v), update(number, 0.7));
            let factors = forward(&h, &weight, &targets, 1.0 / k as f32, Options::default()).unwrap();
            let (nll, gradient) =
                reference::gradient(&h, &plain, &targets, 1.0 / k as f32, Options::default()).unwrap();
            let losses = |nll: &[f32]| Tensor::new(nll, &Device::Cpu).unwrap();
            assert_close("nll", &losses(&factors.nll), &losses(&nll), 1e-4);
            let expected = gradient.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap().sqrt();
            let norm = factors.norm().unwrap();
            assert!((norm / f64::from(expected) - 1.0).abs() < 1e-4, "{norm} {expected}");
            step(&weight, &m, &s, &factors, &update).unwrap();
            reference::step(&plain, &mut m_plain, &mut s_plain, &gradient, &update).unwrap();
        }
        assert_close("m", &m, &m_plain, 1e-5);
        assert_close("v", &s, &s_plain, 1e-5);
    }
}

#[test]
fn the_update_is_adamws_on_the_written_gradient_and_the_norm_its_norm() {
    for (k, c, v) in SHAPES {
        let (h, weight, dense) = (random(&[k, c], 3), random(&[v, c], 4), random(&[v, c], 4));
        let (targets, scale) = (targets(k, v), 1.0 / k as f32);
        let (m, s, mut m_dense, mut s_dense) = (zeros(v, c), zeros(v, c), zeros(v, c), zeros(v, c));
        let factors = forward(&h, &weight, &targets, scale, Options::default()).unwrap();
        let mut gradients = Gradients::for_weights([("w", &dense)]).unwrap();
        let gradient = gradients.get_mut("w");
        let losses =
            head_loss::forward_backward(&h, &dense, &targets, scale, Options::default(), false, gradient).unwrap();
        assert_eq!(losses.nll, factors.nll, "the same losses, bit for bit");
        let (norm, expected) = (factors.norm().unwrap(), global_norm::global_norm(&gradients).unwrap());
        assert!((norm / expected - 1.0).abs() < 1e-6, "{norm} but {expected}");
        step(&weight, &m, &s, &factors, &update(1, 0.3)).unwrap();
        let gradient = gradients.get("w").unwrap().tensor();
        adamw::step(&dense, &mut m_dense, &mut s_dense, gradient, &update(1, 0.3)).unwrap();
        assert_close("m", &m, &m_dense, 1e-7);
        assert_close("v", &s, &s_dense, 1e-7);
        // a first step of AdamW is the gradient's sign: a value near zero may turn, in proportion to its rounding
        assert_close("weight", &weight, &dense, 1e-4);
    }
}

#[test]
fn the_gradient_of_the_factors_is_that_of_central_differences() {
    let (k, c, v) = (3, 5, 7);
    let (h, w, targets) = (random(&[k, c], 5), random(&[v, c], 6), targets(k, v));
    // without decay of the moments and clipping the first moment is the gradient
    let (m, s) = (zeros(v, c), zeros(v, c));
    let factors = forward(&h, &w.copy().unwrap(), &targets, 1.0 / k as f32, Options::default()).unwrap();
    step(&w.copy().unwrap(), &m, &s, &factors, &Update { beta1: 0.0, ..update(1, 1.0) }).unwrap();
    let gradient = m.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let wide = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f64::from).collect();
    let (x, h): (Vec<f64>, Vec<f64>) = (wide(&w), wide(&h));
    crate::testing::assert_central_differences("head", &x, &gradient, |w| {
        let loss = |i: usize| {
            let logit = |t: usize| (0..c).map(|j| h[i * c + j] * w[t * c + j]).sum::<f64>();
            (0..v).map(|t| logit(t).exp()).sum::<f64>().ln() - logit(targets[i] as usize)
        };
        (0..k).map(loss).sum::<f64>() / k as f64
    });
}

#[test]
fn the_number_of_threads_changes_no_bit_and_a_nan_is_not_hidden() {
    let run = || {
        let (weight, m, v) = (random(&[1003, 65], 1), zeros(1003, 65), zeros(1003, 65));
        let factors = forward(
            &random(&[6, 65], 2),
            &weight,
            &targets(6, 1003),
            0.2,
            Options { softcap: Some(5.0), z_loss: 1e-3 },
        )
        .unwrap();
        step(&weight, &m, &v, &factors, &update(1, 0.3)).unwrap();
        (factors.norm().unwrap().to_bits(), [bits(&weight), bits(&m), bits(&v)])
    };
    assert_eq!(with_threads(1, run), with_threads(4, run));
    let h = Tensor::full(f32::NAN, (1, 4), &Device::Cpu).unwrap();
    let factors = forward(&h, &random(&[5, 4], 1), &[0], 1.0, Options::default()).unwrap();
    assert!(factors.nll[0].is_nan() && factors.norm().unwrap().is_nan());
}

#[test]
fn what_does_not_fit_is_named_and_the_choice_follows_the_shapes() {
    let (h, w) = (random(&[2, 4], 1), random(&[5, 4], 2));
    let message = |result: Result<()>| result.unwrap_err().to_string();
    assert!(message(forward(&h, &w, &[0, 5], 1.0, Options::default()).map(|_| ())).contains("target 5"));
    let narrow = w.to_dtype(DType::BF16).unwrap();
    assert!(
        message(forward(&h, &narrow, &[0, 1], 1.0, Options::default()).map(|_| ()))
            .contains("f32 on the CPU needed, got BF16")
    );
    let factors = forward(&h, &w, &[0, 1], 1.0, Options::default()).unwrap();
    let wrong = step(&w, &zeros(5, 3), &zeros(5, 4), &factors, &update(1, 1.0));
    assert!(message(wrong).contains("f32 of [5, 4] needed"));
    assert_eq!(most_targets(49_152, 576), 288);
    assert_eq!(most_targets(151_936, 4096), 110);
    assert_eq!(most_targets(512, 64), 32);
}
