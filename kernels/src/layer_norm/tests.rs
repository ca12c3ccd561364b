//! Layer normalisation beyond its cases: what isn't asked for isn't made, and what doesn't fit is named.

use super::*;
use crate::testing::{assert_close, bits, random};
use candle_core::Device;

const EPS: f32 = 1e-5;

#[test]
fn the_residual_sum_and_its_norm_have_the_bits_of_the_two_passes() {
    let (x, residual, weight, bias) = (random(&[67, 33], 1), random(&[67, 33], 2), random(&[33], 3), random(&[33], 4));
    let norm = Norm { weight: &weight, bias: Some(&bias), eps: EPS };
    let (sum, normed) = forward_residual(&x, &residual, norm).unwrap();
    let apart = forward(&(&x + &residual).unwrap(), norm).unwrap();
    assert_eq!(bits(&sum), bits(&(&x + &residual).unwrap()));
    assert_eq!(bits(&normed.y), bits(&apart.y));
    assert_eq!(bits(&normed.statistics.rstd), bits(&apart.statistics.rstd));
}

#[test]
fn the_gradient_that_passes_the_norm_by_is_added_and_weights_that_do_not_train_cost_nothing() {
    let (x, dy, past, weight) = (random(&[5, 7], 1), random(&[5, 7], 2), random(&[5, 7], 3), random(&[7], 4));
    let norm = Norm { weight: &weight, bias: None, eps: EPS };
    let statistics = forward(&x, norm).unwrap().statistics;
    let plain = backward(&dy, &x, norm, &statistics, None, None, None).unwrap();
    let mut gradient = Gradient::new(7, &Device::Cpu).unwrap();
    let both = backward(&dy, &x, norm, &statistics, Some(&past), Some(&mut gradient), None).unwrap();
    assert_close("dx", &both, &(&plain + &past).unwrap(), 1e-6);
    let once = gradient.tensor().force_contiguous().unwrap();
    backward(&dy, &x, norm, &statistics, None, Some(&mut gradient), None).unwrap();
    assert_close("dw added up", gradient.tensor(), &(once * 2.0).unwrap(), 1e-6);
}

#[test]
fn a_constant_row_has_a_finite_norm_and_gradient() {
    let (x, weight) = (Tensor::full(3f32, (2, 9), &Device::Cpu).unwrap(), random(&[9], 1));
    let norm = Norm { weight: &weight, bias: None, eps: EPS };
    let normed = forward(&x, norm).unwrap();
    assert!(normed.y.flatten_all().unwrap().to_vec1::<f32>().unwrap().iter().all(|y| *y == 0.0));
    let dx = backward(&random(&[2, 9], 2), &x, norm, &normed.statistics, None, None, None).unwrap();
    assert!(dx.flatten_all().unwrap().to_vec1::<f32>().unwrap().iter().all(|dx| dx.is_finite()));
}

#[test]
fn shapes_that_do_not_fit_are_named() {
    let (x, weight, short) = (random(&[2, 3], 1), random(&[3], 2), random(&[2], 3));
    let message = |x: &Tensor, norm| forward(x, norm).unwrap_err().to_string();
    let text = message(&x, Norm { weight: &short, bias: None, eps: EPS });
    assert!(text.starts_with("layer_norm: x [2, 3] doesn't fit weight [2] and bias None"), "{text}");
    let norm = Norm { weight: &weight, bias: Some(&short), eps: EPS };
    assert!(message(&x, norm).contains("bias Some([2])"));
    let norm = Norm { weight: &weight, bias: None, eps: EPS };
    let text = forward_residual(&x, &short, norm).unwrap_err().to_string();
    assert!(text.starts_with("layer_norm: x [2, 3] and residual [2]"), "{text}");
    let statistics = forward(&x, norm).unwrap().statistics;
    let text = backward(&random(&[3, 3], 1), &x, norm, &statistics, None, None, None).unwrap_err().to_string();
    assert!(text.starts_with("layer_norm: gradient [3, 3] doesn't fit x [2, 3]"), "{text}");
}
