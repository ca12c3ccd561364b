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
    pub fn add(&mut self, contribution: &Tensor) -> Result<()> {
        let contribution = contribution.to_dtype(DType::F32)?;
        self.tensor = if self.begin() { (&self.tensor + contribution)? } else { contribution.contiguous()? };
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
