//! Nothing trains silently less than it should: after the first backward pass every trainable tensor has a gradient
//! that isn't zero, and after the first update the weights have moved (R15).

use crate::{Result, TrainError};
use candle_core::Tensor;
use outcrop_kernels::{Gradients, global_norm};

/// Values of a tensor that are watched.
const SAMPLE: usize = 4096;

/// Errors: a trainable tensor without a gradient, or with a gradient of zeros, by name. `in_factors` is one whose
/// gradient isn't written down, and its norm.
pub(crate) fn check(gradients: &Gradients, in_factors: Option<(&String, f64)>) -> Result<()> {
    for (name, gradient) in gradients.iter() {
        if in_factors.is_some_and(|(known, norm)| known == name && norm > 0.0) {
            continue;
        }
        if !gradient.is_filled() || global_norm::sum_of_squares(gradient.tensor())? == 0.0 {
            return Err(TrainError::Plan(format!(
                "`{name}` is to be trained but its gradient in the first step is zero; nothing was updated"
            )));
        }
    }
    Ok(())
}

/// The first values of each tensor, to be compared after an update.
pub(crate) struct Sample(Vec<Vec<f32>>);

impl Sample {
    /// Copies them.
    pub(crate) fn take(weights: &[(String, Tensor)]) -> Result<Self> {
        Ok(Self(weights.iter().map(|(_, tensor)| values(tensor)).collect::<Result<_>>()?))
    }

    /// The share of them that differ now.
    pub(crate) fn changed_fraction(&self, weights: &[(String, Tensor)]) -> Result<f64> {
        let (mut changed, mut all) = (0usize, 0usize);
        for (before, (_, tensor)) in self.0.iter().zip(weights) {
            let after = values(tensor)?;
            changed += before.iter().zip(&after).filter(|(before, after)| before.to_bits() != after.to_bits()).count();
            all += after.len();
        }
        Ok(changed as f64 / all.max(1) as f64)
    }
}

fn values(tensor: &Tensor) -> Result<Vec<f32>> {
    let flat = tensor.flatten_all()?;
    Ok(flat.narrow(0, 0, SAMPLE.min(flat.elem_count()))?.to_vec1()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};

    #[test]
    fn a_tensor_without_a_gradient_is_named() {
        let weight = Tensor::zeros((2, 2), DType::F32, &Device::Cpu).unwrap();
        let mut gradients = Gradients::for_weights([("a", &weight), ("b", &weight)]).unwrap();
        gradients.get_mut("a").unwrap().add(&weight.ones_like().unwrap()).unwrap();
        assert!(check(&gradients, None).unwrap_err().to_string().starts_with("`b` is to be trained"));
        gradients.get_mut("b").unwrap().add(&weight).unwrap();
        assert!(
            check(&gradients, None).unwrap_err().to_string().starts_with("`b` is to be trained"),
            "zeros are no gradient"
        );
    }

    #[test]
    fn r15_the_share_of_changed_weights_is_counted() {
        let weights = vec![("a".to_string(), Tensor::zeros(4, DType::F32, &Device::Cpu).unwrap())];
        let sample = Sample::take(&weights).unwrap();
        assert_eq!(sample.changed_fraction(&weights).unwrap(), 0.0);
        let moved = Tensor::new(&[0f32, 1., 2., 0.], &Device::Cpu).unwrap();
        assert_eq!(sample.changed_fraction(&[("a".into(), moved)]).unwrap(), 0.5);
    }
}
