//! The two forms of GELU and their derivatives for one value, branch-free so that loops over them vectorise.
//!
//! Both are `x * p(x)` with a probability `p`, computed without the cancellation of `1 + erf` and `1 + tanh`, so that
//! small values of the negative tail keep their digits.

use crate::simd::exp;
use std::f32::consts::FRAC_1_SQRT_2;

/// `sqrt(2 / pi)`.
const SQRT_2_PI: f32 = 0.797_884_6;
/// `1 / sqrt(2 pi)`.
const INV_SQRT_TAU: f32 = 0.398_942_3;
/// The cubic term of the tanh form.
const CUBIC: f32 = 0.044_715;
/// Beyond it both forms are 0 or x to the last bit; limits x where a power of it could overflow. NaN passes.
const FLAT: f32 = 15.0;

/// The normal distribution's probability below `x`: `erfc(-x / sqrt(2)) / 2`.
/// Source: W. J. Cody's fit in the form of Numerical Recipes' `erfcc`, relative error 1.2e-7 before rounding to f32.
#[inline(always)]
fn normal_below(x: f32) -> f32 {
    let z = x.abs() * FRAC_1_SQRT_2;
    let t = 1.0 / (1.0 + 0.5 * z);
    let p = 0.170_872_77_f32;
    let p = p * t - 0.822_152_23;
    let p = p * t + 1.488_515_9;
    let p = p * t - 1.135_204;
    let p = p * t + 0.278_868_07;
    let p = p * t - 0.186_288_06;
    let p = p * t + 0.096_784_18;
    let p = p * t + 0.374_091_96;
    let p = p * t + 1.000_023_7;
    let p = p * t - 1.265_512_2;
    let above = 0.5 * t * exp(p - z * z);
    if x < 0.0 { above } else { 1.0 - above }
}

/// `x * Phi(x)`.
#[inline(always)]
pub(crate) fn erf_value(x: f32) -> f32 {
    x * erf_below(x)
}

/// `Phi(x)`: the derivative's first half.
#[inline(always)]
pub(crate) fn erf_below(x: f32) -> f32 {
    normal_below(x.clamp(-FLAT, FLAT))
}

/// The derivative `Phi(x) + x * phi(x)`, from its first half.
#[inline(always)]
pub(crate) fn erf_slope(x: f32, below: f32) -> f32 {
    let limited = x.clamp(-FLAT, FLAT);
    below + limited * INV_SQRT_TAU * exp(-0.5 * limited * limited)
}

/// `x / 2 * (1 + tanh(u))` with `u = sqrt(2/pi) (x + 0.044715 x^3)`: the probability is `sigmoid(2 u)`.
#[inline(always)]
pub(crate) fn tanh_value(x: f32) -> f32 {
    let limited = x.clamp(-FLAT, FLAT);
    let square = limited * limited;
    x * both_sides(2.0 * SQRT_2_PI * limited * (1.0 + CUBIC * square)).0
}

/// The value and its derivative.
#[inline(always)]
pub(crate) fn tanh_both(x: f32) -> (f32, f32) {
    let limited = x.clamp(-FLAT, FLAT);
    let square = limited * limited;
    let (s, product) = both_sides(2.0 * SQRT_2_PI * limited * (1.0 + CUBIC * square));
    let slope = 2.0 * SQRT_2_PI * (1.0 + 3.0 * CUBIC * square);
    (x * s, s + limited * slope * product)
}

/// `s = sigmoid(v)`, and `s (1 - s)` without the difference, which the slope of a cubic would magnify.
#[inline(always)]
fn both_sides(v: f32) -> (f32, f32) {
    let e = exp(-v.abs());
    let near = 1.0 / (1.0 + e);
    (if v < 0.0 { e * near } else { near }, e * near * near)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Tensor};

    /// The value and the derivative.
    fn erf_both(x: f32) -> (f32, f32) {
        let below = erf_below(x);
        (x * below, erf_slope(x, below))
    }

    /// Largest absolute differences of values and derivatives from f64 over -20..20.
    fn worst(both: fn(f32) -> (f32, f32), value: fn(f32) -> f32, exact: impl Fn(&Tensor) -> Tensor) -> (f64, f64) {
        let x: Vec<f32> = (-40_000..=40_000).map(|i| i as f32 * 5.0e-4).collect();
        let wide: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
        let variable = candle_core::Var::new(wide.as_slice(), &Device::Cpu).unwrap();
        let y = exact(variable.as_tensor());
        let slopes = y.sum_all().unwrap().backward().unwrap().get(&variable).unwrap().to_vec1::<f64>().unwrap();
        let (mut values, mut derivatives) = (0f64, 0f64);
        for ((&x, y), slope) in x.iter().zip(y.to_vec1::<f64>().unwrap()).zip(slopes) {
            assert_eq!(value(x).to_bits(), both(x).0.to_bits(), "{x}");
            values = values.max((f64::from(value(x)) - y).abs() / x.abs().max(1.0) as f64);
            derivatives = derivatives.max((f64::from(both(x).1) - slope).abs());
        }
        (values, derivatives)
    }

    #[test]
    fn both_forms_and_their_derivatives_are_exact_to_a_few_f32_roundings() {
        let gelu = |x: &Tensor, y: Tensor| ((x * (y + 1.0).unwrap()).unwrap() * 0.5).unwrap();
        let erf = |x: &Tensor| gelu(x, (x / 2f64.sqrt()).unwrap().erf().unwrap());
        let (value, derivative) = worst(erf_both, erf_value, erf);
        assert!(value < 4e-7 && derivative < 6e-7, "erf form: {value:e}, derivative {derivative:e}");
        let tanh = |x: &Tensor| {
            let cubed = ((x * x.sqr().unwrap()).unwrap() * 0.044_715).unwrap();
            let u = ((x + cubed).unwrap() * (2.0 / std::f64::consts::PI).sqrt()).unwrap();
            gelu(x, u.tanh().unwrap())
        };
        let (value, derivative) = worst(tanh_both, tanh_value, tanh);
        assert!(value < 4e-7 && derivative < 6e-7, "tanh form: {value:e}, derivative {derivative:e}");
    }

    #[test]
    fn the_ends_are_zero_and_x_and_a_nan_stays_one() {
        for (value, both) in [(erf_value as fn(f32) -> f32, erf_both as fn(f32) -> (f32, f32)), (tanh_value, tanh_both)]
        {
            assert_eq!((value(0.0), value(1e30), both(1e30).1), (0.0, 1e30, 1.0));
            assert!(value(-1e9).abs() < 1e-30 && both(-1e30).1.abs() < 1e-30);
            assert!(value(f32::NAN).is_nan() && both(f32::NAN).1.is_nan());
        }
    }
}
