//! AdamW with quantized moments against its reference, its formula, AdamW in f32, and itself on other threads.

use super::*;
use crate::adamw;
use crate::testing::{assert_close, bits, random, with_threads};

fn update(step: u64, weight_decay: f64, gradient_scale: f64) -> Update {
    Update { learning_rate: 1e-2, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay, step, gradient_scale }
}

fn moments(shape: &[usize]) -> (Quantized, Quantized) {
    let zeros = |codebook| Quantized::zeros(shape, codebook, &Device::Cpu).unwrap();
    (zeros(Codebook::Signed), zeros(Codebook::Unsigned))
}

fn copy(moment: &Quantized) -> Quantized {
    let (codes, absmax) = (moment.codes.copy().unwrap(), moment.absmax.copy().unwrap());
    Quantized { codes, absmax, codebook: moment.codebook }
}

/// Codes that differ, each by one: a value on the edge between two, rounded in another order.
fn flipped(one: &Quantized, other: &Quantized) -> usize {
    let flat = |moment: &Quantized| moment.codes.flatten_all().unwrap().to_vec1::<u8>().unwrap();
    let distances = flat(one).into_iter().zip(flat(other)).map(|(one, other)| one.abs_diff(other));
    distances.inspect(|distance| assert!(*distance <= 1, "a code differs by {distance}")).map(usize::from).sum()
}

#[test]
fn each_step_matches_the_reference_with_decay_and_clipping() {
    for shape in [vec![1], vec![255], vec![257, 3], vec![100_003]] {
        let (weight, (mut m, mut v)) = (random(&shape, 1), moments(&shape));
        for s in 1..=4 {
            let (gradient, update) = (random(&shape, 10 + s), update(s, 0.1, 0.3));
            let (plain, mut m_plain, mut v_plain) = (weight.copy().unwrap(), copy(&m), copy(&v));
            step(&weight, &mut m, &mut v, &gradient, &update).unwrap();
            reference::step(&plain, &mut m_plain, &mut v_plain, &gradient, &update).unwrap();
            assert_close("weight", &weight, &plain, 1e-6);
            assert_close("first magnitudes", &m.absmax, &m_plain.absmax, 1e-6);
            assert_close("second magnitudes", &v.absmax, &v_plain.absmax, 1e-6);
            let flipped = flipped(&m, &m_plain) + flipped(&v, &v_plain);
            assert!(flipped <= weight.elem_count() / 1000, "{flipped} codes of {:?}", shape);
        }
    }
}

/// Nearest value of a codebook times the block's largest magnitude, by a scan in f64; not zero for what isn't.
fn round_trip(values: &mut [f64], codebook: Codebook) {
    for block in values.chunks_mut(BLOCK) {
        let absmax = block.iter().fold(0f64, |largest, value| largest.max(value.abs()));
        for value in block.iter_mut().filter(|value| **value != 0.0) {
            let codes = codebook.values().iter().map(|code| f64::from(*code) * absmax);
            let fits = codes.filter(|code| code * *value > 0.0);
            *value = fits.min_by(|a, b| (a - *value).abs().total_cmp(&(b - *value).abs())).unwrap();
        }
    }
}

#[test]
fn the_update_matches_the_formula_in_f64() {
    let len = 700;
    let (weight, (mut m, mut v)) = (random(&[len], 1), moments(&[len]));
    let wide = |tensor: &Tensor| tensor.to_vec1::<f32>().unwrap().into_iter().map(f64::from).collect::<Vec<_>>();
    let (mut p, mut m64, mut v64) = (wide(&weight), vec![0f64; len], vec![0f64; len]);
    for s in 1..=3 {
        let gradient = random(&[len], 10 + s);
        step(&weight, &mut m, &mut v, &gradient, &update(s, 0.1, 0.5)).unwrap();
        let (c1, c2) = (1.0 - 0.9f64.powi(s as i32), 1.0 - 0.999f64.powi(s as i32));
        for (i, g) in wide(&gradient).into_iter().enumerate() {
            let g = 0.5 * g;
            p[i] -= 1e-2 * 0.1 * p[i];
            m64[i] += 0.1 * (g - m64[i]);
            v64[i] = 0.999 * v64[i] + 0.001 * g * g;
            p[i] -= 1e-2 / c1 * m64[i] / ((v64[i] / c2).sqrt() + 1e-8);
        }
        round_trip(&mut m64, Codebook::Signed);
        round_trip(&mut v64, Codebook::Unsigned);
        for (got, expected) in wide(&weight).into_iter().zip(&p) {
            assert!((got - expected).abs() < 1e-6, "step {s}: {got} but {expected}");
        }
    }
}

#[test]
fn quantized_moments_go_where_f32_moments_go() {
    let len = 10_000;
    let (weight, wide, (mut m, mut v)) = (random(&[len], 1), random(&[len], 1), moments(&[len]));
    let (mut m_wide, mut v_wide) = (m.dequantize().unwrap(), v.dequantize().unwrap());
    let pull = random(&[len], 2);
    for s in 1..=50 {
        let gradient = (&pull + (random(&[len], 100 + s) * 0.5).unwrap()).unwrap();
        step(&weight, &mut m, &mut v, &gradient, &update(s, 0.0, 1.0)).unwrap();
        adamw::step(&wide, &mut m_wide, &mut v_wide, &gradient, &update(s, 0.0, 1.0)).unwrap();
    }
    let mean = |tensor: Tensor| tensor.abs().unwrap().mean_all().unwrap().to_scalar::<f32>().unwrap();
    let (apart, moved) = (mean((&weight - &wide).unwrap()), mean((&wide - random(&[len], 1)).unwrap()));
    assert!(apart < 0.05 * moved, "{apart} apart after a way of {moved}");
}

#[test]
fn a_sixteen_bit_weight_is_its_master_rounded_and_the_master_is_the_f32_run() {
    let len = 20_011;
    let alone = random(&[len], 1).to_dtype(DType::BF16).unwrap().to_dtype(DType::F32).unwrap();
    let (master, weight) = (alone.copy().unwrap(), alone.to_dtype(DType::BF16).unwrap());
    let ((mut m, mut v), (mut m_alone, mut v_alone)) = (moments(&[len]), moments(&[len]));
    for s in 1..=3 {
        let (gradient, update) = (random(&[len], 10 + s), update(s, 0.1, 0.3));
        step(Parameter::new(&weight, Some(&master)), &mut m, &mut v, &gradient, &update).unwrap();
        step(&alone, &mut m_alone, &mut v_alone, &gradient, &update).unwrap();
    }
    assert_eq!(bits(&master), bits(&alone));
    assert_eq!(bits(&weight), bits(&master.to_dtype(DType::BF16).unwrap()));
}

#[test]
fn the_number_of_threads_changes_no_bit_and_a_nan_is_not_hidden() {
    let run = || {
        let (weight, (mut m, mut v)) = (random(&[100_003], 1), moments(&[100_003]));
        for s in 1..=2 {
            step(&weight, &mut m, &mut v, &random(&[100_003], 1 + s), &update(s, 0.1, 0.3)).unwrap();
        }
        [bits(&weight), bits(&m.codes), bits(&m.absmax), bits(&v.codes), bits(&v.absmax)]
    };
    assert_eq!(with_threads(1, run), with_threads(4, run));
    let (weight, (mut m, mut v)) = (random(&[300], 1), moments(&[300]));
    let mut gradient = vec![1f32; 300];
    gradient[7] = f32::NAN;
    step(&weight, &mut m, &mut v, &Tensor::new(gradient, &Device::Cpu).unwrap(), &update(1, 0.0, 1.0)).unwrap();
    let values = weight.to_vec1::<f32>().unwrap();
    assert!(values[7].is_nan() && values[8].is_finite(), "{:?}", &values[5..10]);
    step(&weight, &mut m, &mut v, &random(&[300], 2), &update(2, 0.0, 1.0)).unwrap();
    let values = weight.to_vec1::<f32>().unwrap();
    assert!(values[..256].iter().all(|value| value.is_nan()), "the moments of its block are NaN");
    assert!(values[256..].iter().all(|value| value.is_finite()), "those of the next are not");
}

#[test]
fn shapes_and_codebooks_that_do_not_fit_are_named() {
    let (weight, (mut m, mut v)) = (random(&[300], 1), moments(&[300]));
    let message = step(&weight, &mut m, &mut v, &random(&[299], 1), &update(1, 0.0, 1.0)).unwrap_err().to_string();
    assert!(message.starts_with("adamw_8bit: weight [300], its f32 values [300], state [[300], [300]]"), "{message}");
    let message = step(&weight, &mut v, &mut m, &weight, &update(1, 0.0, 1.0)).unwrap_err().to_string();
    assert!(message.starts_with("adamw_8bit: moments are Unsigned and Signed"), "{message}");
    v.absmax = random(&[1], 1);
    let message = step(&weight, &mut m, &mut v, &weight, &update(1, 0.0, 1.0)).unwrap_err().to_string();
    assert!(message.starts_with("adamw_8bit: [300] codes but [1] blocks"), "{message}");
}
