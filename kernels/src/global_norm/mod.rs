//! The norm of all gradients together, in a fixed order: chunks of each tensor, then tensors by name.

pub mod case;

use crate::gradient::Gradients;
use crate::simd;
use crate::storage::{fused, view};
use candle_core::{DType, Result, Tensor};
use rayon::prelude::*;

/// Values of one partial sum; part of the result's definition.
const CHUNK: usize = 64 * 1024;

/// L2 norm over every gradient, summed in f64. NaN or infinite where any gradient is.
pub fn global_norm(gradients: &Gradients) -> Result<f64> {
    let mut sum = 0.0;
    for (_, gradient) in gradients.iter() {
        sum += sum_of_squares(gradient.tensor())?;
    }
    Ok(sum.sqrt())
}

/// Sum of squares of one tensor.
pub fn sum_of_squares(tensor: &Tensor) -> Result<f64> {
    crate::arguments::check("global_norm", &[("tensor", tensor)])?;
    if tensor.elem_count() == 0 {
        return Ok(0.0);
    }
    if !fused(tensor) {
        return Ok(f64::from(tensor.to_dtype(DType::F32)?.sqr()?.sum_all()?.to_scalar::<f32>()?));
    }
    let tensor = tensor.contiguous()?;
    let values = view(&tensor)?;
    let values: &[f32] = &values;
    let partial: Vec<f64> = values
        .par_chunks(CHUNK)
        .map(|chunk| {
            simd::run(
                #[inline(always)]
                || simd::sum_of_squares(chunk),
            )
        })
        .collect();
    Ok(partial.iter().sum())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{random, with_threads};

    #[test]
    fn the_norm_matches_candles_and_no_thread_count_changes_it() {
        let (a, b) = (random(&[300, 401], 1), random(&[7], 2));
        let mut gradients = Gradients::for_weights([("a", &a), ("b", &b)]).unwrap();
        gradients.get_mut("a").unwrap().add(&a).unwrap();
        gradients.get_mut("b").unwrap().add(&b).unwrap();
        let expected = [a, b]
            .iter()
            .map(|t| f64::from(t.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap()))
            .sum::<f64>()
            .sqrt();
        let norm = with_threads(1, || global_norm(&gradients).unwrap());
        assert!((norm - expected).abs() < 1e-5 * expected, "{norm} but {expected}");
        assert_eq!(norm, with_threads(4, || global_norm(&gradients).unwrap()));
    }

    #[test]
    fn a_nan_reaches_the_norm() {
        let a = Tensor::new(&[1.0f32, f32::NAN], &candle_core::Device::Cpu).unwrap();
        assert!(sum_of_squares(&a).unwrap().is_nan());
    }
}
