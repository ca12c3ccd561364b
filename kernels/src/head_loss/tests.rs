//! The head's loss against its reference, central differences, and itself on other rows and threads.

use super::*;
use crate::testing::{assert_central_differences, assert_close, random, with_threads};
use candle_core::Device;

fn targets(n: usize, v: usize) -> Vec<u32> {
    (0..n).map(|i| ((i * 7919 + 3) % v) as u32).collect()
}

/// Every option, alone and together.
const OPTIONS: [Options; 4] = [
    Options { softcap: None, z_loss: 0.0 },
    Options { softcap: Some(2.5), z_loss: 0.0 },
    Options { softcap: None, z_loss: 0.03 },
    Options { softcap: Some(2.5), z_loss: 0.03 },
];

#[test]
fn loss_and_gradients_match_the_reference_over_several_chunks() {
    for (n, c, v) in [(1, 8, 3), (5, 16, 131), (1100, 12, 67), (258, 4, 151_936)] {
        for options in OPTIONS.into_iter().take(if v > 1000 { 1 } else { 4 }) {
            let (h, w) = ((random(&[n, c], 1) * 3.0).unwrap(), random(&[v, c], 2));
            let (targets, scale) = (targets(n, v), 1.0 / n as f32);
            let mut gradient = Gradient::new((v, c), &Device::Cpu).unwrap();
            let output = forward_backward(&h, &w, &targets, scale, options, true, Some(&mut gradient)).unwrap();
            assert_eq!(output.nll, nll(&h, &w, &targets, options).unwrap());
            let logits = crate::linear::reference::forward(&h, &w).unwrap();
            let expected = reference::nll(&logits, &targets, options).unwrap();
            assert_close("nll", &Tensor::new(output.nll, &Device::Cpu).unwrap(), &expected, 2e-6);
            let ones = (Tensor::ones(n, candle_core::DType::F32, &Device::Cpu).unwrap() * f64::from(scale)).unwrap();
            let expected = crate::autograd::backward(&[&h, &w], &ones, |x| {
                reference::loss(&crate::linear::reference::forward(&x[0], &x[1])?, &targets, options)
            })
            .unwrap();
            assert_close("dh", &(output.dh.unwrap() * n as f64).unwrap(), &(&expected[0] * n as f64).unwrap(), 2e-6);
            assert_close("dW", &(gradient.tensor() * n as f64).unwrap(), &(&expected[1] * n as f64).unwrap(), 2e-6);
        }
    }
}

#[test]
fn chunks_are_few_and_alike_and_hold_no_more_logits_than_planned() {
    let sizes = |rows: usize, vocabulary| {
        let targets: Vec<u32> = vec![0; rows];
        targets.chunks(even_rows(rows, vocabulary)).map(<[u32]>::len).collect::<Vec<_>>()
    };
    assert_eq!(sizes(512, 49_152), [256, 256]);
    assert_eq!(sizes(700, 49_152), [234, 234, 232]);
    assert_eq!(sizes(1025, 67), [513, 512]);
    assert_eq!(sizes(3, 67), [3]);
    assert!(sizes(0, 67).is_empty());
    assert!(sizes(258, 151_936).iter().all(|rows| rows * 151_936 * 4 <= chunk_bytes(151_936)));
}

#[test]
fn gradients_match_central_differences_in_f64() {
    let (n, c, v, scale) = (2usize, 3usize, 5usize, 0.5f32);
    for options in OPTIONS {
        let (h, w, targets) = ((random(&[n, c], 1) * 2.0).unwrap(), random(&[v, c], 2), targets(n, v));
        let flat = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let wide = |t: &Tensor| flat(t).iter().map(|&x| f64::from(x)).collect::<Vec<f64>>();
        let loss = |h: &[f64], w: &[f64]| {
            let row = |i: usize| {
                let logit = |j: usize| {
                    let logit = (0..c).map(|k| h[i * c + k] * w[j * c + k]).sum::<f64>();
                    options.softcap.map_or(logit, |cap| f64::from(cap) * (logit / f64::from(cap)).tanh())
                };
                let lse = (0..v).map(|j| logit(j).exp()).sum::<f64>().ln();
                lse - logit(targets[i] as usize) + f64::from(options.z_loss) * lse * lse
            };
            f64::from(scale) * (0..n).map(row).sum::<f64>()
        };
        let mut gradient = Gradient::new((v, c), &Device::Cpu).unwrap();
        let output = forward_backward(&h, &w, &targets, scale, options, true, Some(&mut gradient)).unwrap();
        let (h64, w64) = (wide(&h), wide(&w));
        assert_central_differences("head_loss dh", &h64, &flat(&output.dh.unwrap()), |h| loss(h, &w64));
        assert_central_differences("head_loss dW", &w64, &flat(gradient.tensor()), |w| loss(&h64, w));
    }
}

#[test]
fn a_softcap_changes_the_loss_and_a_z_loss_the_gradient_alone() {
    let (h, w, targets) = (random(&[7, 4], 1), random(&[9, 4], 2), targets(7, 9));
    let run = |options| {
        let mut gradient = Gradient::new((9, 4), &Device::Cpu).unwrap();
        let output = forward_backward(&h, &w, &targets, 1.0, options, false, Some(&mut gradient)).unwrap();
        (output.nll, gradient.tensor().to_vec2::<f32>().unwrap())
    };
    let [plain, capped, z, _] = OPTIONS.map(run);
    assert!(capped.0 != plain.0 && capped.1 != plain.1);
    assert!(z.0 == plain.0 && z.1 != plain.1);
    for options in [Options { softcap: Some(0.0), z_loss: 0.0 }, Options { softcap: None, z_loss: f32::NAN }] {
        let message = nll(&h, &w, &targets, options).unwrap_err().to_string();
        assert!(message.contains("a soft-cap is above 0 and a z-loss is a number, got Options"), "{message}");
    }
}

#[test]
fn only_the_gradients_that_are_asked_for_are_made() {
    let output =
        forward_backward(&random(&[3, 4], 1), &random(&[5, 4], 2), &[0, 1, 2], 1.0, Options::default(), false, None)
            .unwrap();
    assert!(output.dh.is_none());
}

#[test]
fn a_random_head_has_the_loss_of_a_guess() {
    let h = (random(&[64, 32], 1) * 0.01).unwrap();
    let losses = nll(&h, &random(&[512, 32], 2), &targets(64, 512), Options::default()).unwrap();
    let mean = losses.iter().sum::<f32>() / 64.0;
    assert!((mean - 512f32.ln()).abs() < 0.05, "mean {mean}");
}

#[test]
fn r3_a_targets_loss_has_the_same_bits_whatever_shares_its_batch() {
    let (h, w, targets) = (random(&[40, 64], 3), random(&[999, 64], 4), targets(40, 999));
    let all = nll(&h, &w, &targets, Options::default()).unwrap();
    for row in 0..40 {
        assert_eq!(
            nll(&h.narrow(0, row, 1).unwrap(), &w, &targets[row..=row], Options::default()).unwrap(),
            all[row..=row]
        );
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let (h, w, targets) = (random(&[300, 24], 5), random(&[501, 24], 6), targets(300, 501));
    let run = || {
        let mut gradient = Gradient::new((501, 24), &Device::Cpu).unwrap();
        let output = forward_backward(&h, &w, &targets, 0.1, Options::default(), true, Some(&mut gradient)).unwrap();
        (output.nll, output.dh.unwrap().to_vec2::<f32>().unwrap(), gradient.tensor().to_vec2::<f32>().unwrap())
    };
    assert_eq!(with_threads(1, run), with_threads(4, run));
}

#[test]
fn a_target_outside_the_vocabulary_is_named_and_a_nan_is_not_hidden() {
    let w = random(&[5, 4], 2);
    let message = nll(&random(&[1, 4], 1), &w, &[5], Options::default()).unwrap_err().to_string();
    assert!(message.contains("target 5 but the vocabulary has 5 tokens"), "{message}");
    let h = Tensor::full(f32::NAN, (1, 4), &Device::Cpu).unwrap();
    assert!(nll(&h, &w, &[0], Options::default()).unwrap()[0].is_nan());
}
