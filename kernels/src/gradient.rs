//! The one gradient map: a tensor per trainable weight, added to in place over the micro-batches of a step.
//!
//! A gradient's first contribution in a step overwrites it, so that nothing has to be zeroed in between.

use candle_core::{DType, Device, Result, Shape, Tensor};
use std::collections::BTreeMap;

/// The gradient of one weight, f32, in the weight's own layout.
#[derive(Debug)]
pub struct Gradient {
    tensor: Tensor,
    filled: bool,
}

impl Gradient {
    /// A gradient without any contribution yet.
    pub fn new(shape: impl Into<Shape>, device: &Device) -> Result<Self> {
        Ok(Self { tensor: Tensor::zeros(shape, DType::F32, device)?, filled: false })
    }

    /// The sum of the contributions so far; meaningless before the first.
    pub fn tensor(&self) -> &Tensor {
        &self.tensor
    }

    /// True once a contribution has arrived in this step.
    pub fn is_filled(&self) -> bool {
        self.filled
    }

    /// Marks the gradient as filled; true where the caller must add, false where it must overwrite.
    pub(crate) fn begin(&mut self) -> bool {
        std::mem::replace(&mut self.filled, true)
    }

    /// Adds a whole tensor: the way of ops that have no in-place kernel for a device.
    /// The contribution is copied: its storage stays the caller's, whatever is added in place later.
    pub fn add(&mut self, contribution: &Tensor) -> Result<()> {
        let contribution = contribution.to_dtype(DType::F32)?;
        if !self.begin() {
            return self.tensor.slice_set(&contribution.contiguous()?, 0, 0);
        }
        self.tensor = (&self.tensor + contribution)?;
        Ok(())
    }

    /// What no rows contribute: zeros.
    pub(crate) fn add_nothing(&mut self) -> Result<()> {
        if !self.begin() {
            self.tensor = self.tensor.zeros_like()?;
        }
        Ok(())
    }

    /// Adds each row of `rows` to the row of its id; ids may repeat. Shapes: ids (T) u32, rows (T, C), gradient (V, C).
    /// Cost: one copy of the gradient; a first contribution zeroes it before.
    pub(crate) fn add_rows(&mut self, ids: &Tensor, rows: &Tensor) -> Result<()> {
        let sum = if self.begin() { self.tensor.clone() } else { self.tensor.zeros_like()? };
        // CUDA's index_add takes contiguous tensors only; it sums in their dtype, so 16-bit rows are widened first
        self.tensor = sum.index_add(ids, &rows.contiguous()?.to_dtype(DType::F32)?, 0)?;
        Ok(())
    }
}

/// Name to gradient, for exactly the weights that train.
#[derive(Debug, Default)]
pub struct Gradients {
    by_name: BTreeMap<String, Gradient>,
}

impl Gradients {
    /// Room for the gradients of these weights.
    pub fn for_weights<'a>(weights: impl IntoIterator<Item = (&'a str, &'a Tensor)>) -> Result<Self> {
        let by_name = weights
            .into_iter()
            .map(|(name, weight)| Ok((name.to_string(), Gradient::new(weight.shape(), weight.device())?)))
            .collect::<Result<_>>()?;
        Ok(Self { by_name })
    }

    /// The gradient to add to, or None for a weight that doesn't train.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Gradient> {
        self.by_name.get_mut(name)
    }

    /// The gradient of a weight that trains.
    pub fn get(&self, name: &str) -> Option<&Gradient> {
        self.by_name.get(name)
    }

    /// All of them, in the order of their names: the fixed order of every sum over gradients.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Gradient)> {
        self.by_name.iter().map(|(name, gradient)| (name.as_str(), gradient))
    }

    /// Starts a new step: the next contribution to each gradient overwrites it.
    pub fn clear(&mut self) {
        for gradient in self.by_name.values_mut() {
            gradient.filled = false;
        }
    }

    /// True where nothing trains below: callers stop their backward pass.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, random};

    #[test]
    fn a_contribution_stays_its_callers_when_the_gradient_changes_in_place() {
        let (contribution, untouched) = (random(&[3, 2], 1), random(&[3, 2], 1));
        let mut gradient = Gradient::new((3, 2), contribution.device()).unwrap();
        gradient.add(&contribution).unwrap();
        crate::update("test", gradient.tensor(), |values| {
            values.fill(7.0);
            Ok(())
        })
        .unwrap();
        assert_close("contribution", &contribution, &untouched, 0.0);
    }

    #[test]
    fn contributions_add_up_until_the_gradient_is_cleared() {
        let (a, strided) = (random(&[3, 2], 1), random(&[2, 3], 2).t().unwrap());
        let mut gradients = Gradients::for_weights([("a", &a)]).unwrap();
        for _ in 0..2 {
            gradients.clear();
            let gradient = gradients.get_mut("a").unwrap();
            assert!(!gradient.is_filled());
            gradient.add(&strided).unwrap();
            gradient.add(&a.to_dtype(DType::BF16).unwrap()).unwrap();
            let expected = (a.to_dtype(DType::BF16).unwrap().to_dtype(DType::F32).unwrap() + &strided).unwrap();
            assert_close("sum", gradient.tensor(), &expected, 0.0);
        }
    }
}
