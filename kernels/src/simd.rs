//! Loops that the compiler vectorises, run under the widest instruction set the machine has.
//!
//! `run` picks AVX-512, AVX2 or NEON at run time (pulp); the loops inside are plain Rust. Reductions keep 16
//! partial sums, or LLVM would keep the order of a float sum and stay scalar. The bits of a result depend on
//! the instruction set, never on the number of threads.

use std::sync::OnceLock;

/// Partial sums kept by a reduction.
pub(crate) const LANES: usize = 16;

/// Name of the instruction set that [`run`] picks on this machine.
pub(crate) fn instruction_set() -> &'static str {
    match pulp::Arch::new() {
        #[cfg(target_arch = "x86_64")]
        pulp::Arch::V4(_) => "AVX-512",
        #[cfg(target_arch = "x86_64")]
        pulp::Arch::V3(_) => "AVX2",
        #[cfg(target_arch = "aarch64")]
        pulp::Arch::Neon(_) => "NEON",
        _ => "baseline",
    }
}

/// Runs `f` compiled for the machine's best instruction set. `f` must be `#[inline(always)]` or a closure.
#[inline]
pub(crate) fn run<R>(f: impl FnOnce() -> R) -> R {
    static ARCH: OnceLock<pulp::Arch> = OnceLock::new();
    ARCH.get_or_init(pulp::Arch::new).dispatch(f)
}

/// Sum of products of two slices of equal length.
#[inline(always)]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0f32; LANES];
    let (a_chunks, a_tail) = a.as_chunks::<LANES>();
    let (b_chunks, b_tail) = b.as_chunks::<LANES>();
    for (x, y) in a_chunks.iter().zip(b_chunks) {
        for lane in 0..LANES {
            sums[lane] += x[lane] * y[lane];
        }
    }
    let tail: f32 = a_tail.iter().zip(b_tail).map(|(x, y)| x * y).sum();
    fold(sums, |x, y| x + y) + tail
}

/// Sum of products in f64 of two slices of equal length.
#[inline(always)]
pub(crate) fn dot_f64(a: &[f32], b: &[f32]) -> f64 {
    let mut sums = [0f64; LANES];
    let (a_chunks, a_tail) = a.as_chunks::<LANES>();
    let (b_chunks, b_tail) = b.as_chunks::<LANES>();
    for (x, y) in a_chunks.iter().zip(b_chunks) {
        for lane in 0..LANES {
            sums[lane] += f64::from(x[lane]) * f64::from(y[lane]);
        }
    }
    let tail: f64 = a_tail.iter().zip(b_tail).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum();
    sums.iter().sum::<f64>() + tail
}

/// Sum of squares in f64: exact enough to compare norms of millions of values.
#[inline(always)]
pub(crate) fn sum_of_squares(a: &[f32]) -> f64 {
    let mut sums = [0f64; LANES];
    let (chunks, tail) = a.as_chunks::<LANES>();
    for x in chunks {
        for lane in 0..LANES {
            let value = f64::from(x[lane]);
            sums[lane] += value * value;
        }
    }
    let tail: f64 = tail.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
    sums.iter().sum::<f64>() + tail
}

/// Largest value; a NaN anywhere gives NaN, so that no op hides one.
#[inline(always)]
pub(crate) fn max(a: &[f32]) -> f32 {
    let mut best = [f32::NEG_INFINITY; LANES];
    let mut nan = [0f32; LANES]; // how many: a comparison alone would drop them
    let (chunks, tail) = a.as_chunks::<LANES>();
    for x in chunks {
        for lane in 0..LANES {
            best[lane] = if x[lane] > best[lane] { x[lane] } else { best[lane] };
            nan[lane] += if x[lane].is_nan() { 1.0 } else { 0.0 };
        }
    }
    let mut result = fold(best, f32::max);
    for &x in tail {
        result = if x > result { x } else { result };
        nan[0] += if x.is_nan() { 1.0 } else { 0.0 };
    }
    if nan.iter().any(|&count| count > 0.0) { f32::NAN } else { result }
}

/// Replaces every value by `exp(value - shift)` and returns their sum.
#[inline(always)]
pub(crate) fn exp_sum(values: &mut [f32], shift: f32) -> f32 {
    let mut sums = [0f32; LANES];
    let (chunks, tail) = values.as_chunks_mut::<LANES>();
    for x in chunks {
        for lane in 0..LANES {
            x[lane] = exp(x[lane] - shift);
            sums[lane] += x[lane];
        }
    }
    let mut tail_sum = 0.0;
    for x in tail {
        *x = exp(*x - shift);
        tail_sum += *x;
    }
    fold(sums, |x, y| x + y) + tail_sum
}

/// Pairwise fold of the lanes, in a fixed order.
#[inline(always)]
fn fold(mut lanes: [f32; LANES], f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] = f(lanes[lane], lanes[lane + width]);
        }
        width /= 2;
    }
    lanes[0]
}

/// `e^x` without a branch: 2^n * p(r), |r| <= ln(2)/2, Cephes' degree-6 polynomial. Relative error below 2e-7.
/// Below -87.3 it gives the smallest normal number or 0, above 88.7 infinity; NaN stays NaN.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    const LN_2_HIGH: f32 = 355.0 / 512.0; // ln(2) in two parts; times n, the first is exact
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23: adding it rounds to the nearest integer
    let clamped = if x > 88.8 { 88.8 } else { x };
    let clamped = if clamped < -87.4 { -87.4 } else { clamped };
    let n = clamped * std::f32::consts::LOG2_E + ROUND;
    let n_bits = n.to_bits() as i32 - ROUND.to_bits() as i32;
    let n = n - ROUND;
    let r = clamped - n * LN_2_HIGH;
    let r = r - n * LN_2_LOW;
    let p = 1.987_569_1e-4_f32;
    let p = p * r + 1.398_2e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 0.5;
    let p = p * r * r + r + 1.0;
    // two factors, since n reaches 128 and 2^128 has no f32
    let half = n_bits >> 1;
    let scale = |n: i32| f32::from_bits(((n + 127) << 23) as u32);
    let y = p * scale(half) * scale(n_bits - half);
    let y = if x < -87.4 { 0.0 } else { y };
    if x.is_nan() { x } else { y }
}

/// `tanh(x)` without a branch: Cephes' polynomial where |x| < 0.625, else from [`exp`]. Relative error below 3e-7.
#[inline(always)]
pub(crate) fn tanh(x: f32) -> f32 {
    let z = x * x;
    let p = -5.704_988_7e-3_f32;
    let p = p * z + 2.063_909e-2;
    let p = p * z - 5.373_971_6e-2;
    let p = p * z + 1.333_144_2e-1;
    let p = p * z - 3.333_328e-1;
    let small = p * z * x + x;
    let large = (1.0 - 2.0 / (exp(2.0 * x.abs()) + 1.0)).copysign(x);
    if x.abs() < 0.625 { small } else { large }
}

/// `1 / (1 + e^-x)`.
#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_within_2e7_of_libm_over_its_whole_range() {
        let mut worst = 0f64;
        let mut x = -87.0f32;
        while x < 88.6 {
            let expected = f64::from(x).exp();
            worst = worst.max((f64::from(exp(x)) - expected).abs() / expected);
            x += 0.001_37;
        }
        assert!(worst < 2e-7, "largest relative error {worst:e}");
        assert_eq!(exp(0.0), 1.0);
    }

    #[test]
    fn exp_keeps_its_limits_and_nan() {
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(-1000.0), 0.0);
        assert_eq!(exp(f32::INFINITY), f32::INFINITY);
        assert_eq!(exp(1000.0), f32::INFINITY);
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn tanh_is_within_3e7_of_libm_and_keeps_its_limits_and_nan() {
        let mut worst = 0f64;
        let mut x = -12.0f32;
        while x < 12.0 {
            let expected = f64::from(x).tanh();
            if expected != 0.0 {
                worst = worst.max((f64::from(tanh(x)) - expected).abs() / expected.abs());
            }
            x += 0.000_437;
        }
        assert!(worst < 3e-7, "largest relative error {worst:e}");
        assert_eq!([tanh(0.0), tanh(f32::INFINITY), tanh(f32::NEG_INFINITY), tanh(100.0)], [0.0, 1.0, -1.0, 1.0]);
        assert_eq!(tanh(1e-20), 1e-20);
        assert!(tanh(f32::NAN).is_nan());
    }

    #[test]
    fn reductions_match_a_plain_loop_at_every_length() {
        for len in 0..70 {
            let a: Vec<f32> = (0..len).map(|i| (i as f32 * 0.7).sin()).collect();
            let b: Vec<f32> = (0..len).map(|i| (i as f32 * 1.3).cos()).collect();
            let plain: f64 = a.iter().zip(&b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum();
            assert!((f64::from(run(|| dot(&a, &b))) - plain).abs() < 1e-5);
            let squares: f64 = a.iter().map(|x| f64::from(*x).powi(2)).sum();
            assert!((run(|| sum_of_squares(&a)) - squares).abs() < 1e-12);
            let largest = a.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            assert_eq!(run(|| max(&a)), largest);
        }
    }

    #[test]
    fn max_does_not_hide_a_nan() {
        for at in [0, 15, 16, 20] {
            let mut a = vec![1.0f32; 21];
            a[at] = f32::NAN;
            assert!(max(&a).is_nan(), "NaN at {at}");
        }
    }
}
