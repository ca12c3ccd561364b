//! What the ops' tests share: seeded random tensors, comparisons that print where they fail, thread pools.

use candle_core::Tensor;

/// A tensor of values in -1..1, the same for the same seed on every platform.
pub(crate) fn random(shape: &[usize], seed: u64) -> Tensor {
    crate::case::random(shape, seed).unwrap()
}

/// The bits of a tensor's values, widened to f32.
pub(crate) fn bits(tensor: &Tensor) -> Vec<u32> {
    let values = tensor.flatten_all().unwrap().to_dtype(candle_core::DType::F32).unwrap().to_vec1::<f32>().unwrap();
    values.into_iter().map(f32::to_bits).collect()
}

/// Largest absolute difference at most `tolerance` times the largest expected value (at least 1).
pub(crate) fn assert_close(name: &str, actual: &Tensor, expected: &Tensor, tolerance: f32) {
    assert_eq!(actual.dims(), expected.dims(), "{name}: shapes");
    let flat =
        |t: &Tensor| t.flatten_all().unwrap().to_dtype(candle_core::DType::F32).unwrap().to_vec1::<f32>().unwrap();
    let (actual, expected) = (flat(actual), flat(expected));
    let scale = expected.iter().fold(1f32, |m, x| m.max(x.abs()));
    for (index, (a, e)) in actual.iter().zip(&expected).enumerate() {
        let difference = (a - e).abs();
        assert!(
            difference <= tolerance * scale,
            "{name}: at {index} of {}: {a} but {e} expected (scale {scale})",
            expected.len()
        );
    }
}

/// Central differences of `f` at `x` in the direction of each coordinate, against `gradient`.
/// `f` is evaluated in f64 by the caller's reference, so the step may be small.
pub(crate) fn assert_central_differences(name: &str, x: &[f64], gradient: &[f32], f: impl Fn(&[f64]) -> f64) {
    assert_eq!(x.len(), gradient.len(), "{name}: lengths");
    let scale = gradient.iter().fold(1e-3f64, |m, g| m.max(f64::from(g.abs())));
    for index in 0..x.len() {
        let at = |step: f64| {
            let mut moved = x.to_vec();
            moved[index] += step;
            f(&moved)
        };
        let expected = (at(1e-5) - at(-1e-5)) / 2e-5;
        let difference = (f64::from(gradient[index]) - expected).abs();
        assert!(
            difference <= 2e-5 * scale,
            "{name}: at {index}: {} but {expected} by central differences",
            gradient[index]
        );
    }
}

/// Runs `f` in a pool of that many threads.
pub(crate) fn with_threads<R: Send>(threads: usize, f: impl FnOnce() -> R + Send) -> R {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(f)
}
