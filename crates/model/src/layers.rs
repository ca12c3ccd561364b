//! A weight with its name, and the two layers that every block is made of: a norm and a linear projection, as the
//! spec says they are stored, with their backward passes.

use crate::Result;
use crate::spec::{NormKind, Spec, bias_name};
use crate::weights::Weights;
use candle_core::Tensor;
use outcrop_kernels::{Gradients, layer_norm, linear, rms_norm};

/// A weight and its name, under which its gradient is kept.
#[derive(Clone, Debug)]
pub(crate) struct Weight {
    pub(crate) name: String,
    pub(crate) tensor: Tensor,
}

impl Weight {
    pub(crate) fn new(name: impl Into<String>, weights: &Weights) -> Result<Self> {
        let name = name.into();
        Ok(Self { tensor: weights.get(&name)?.clone(), name })
    }
}

/// A norm over the last dimension.
#[derive(Clone, Debug)]
pub(crate) struct Norm {
    weight: Weight,
    bias: Option<Weight>,
    kind: NormKind,
    eps: f32,
}

/// What a norm's backward pass needs of each row beside its input.
pub(crate) enum Statistics {
    Rms(Tensor),
    Layer(layer_norm::Statistics),
}

impl Norm {
    pub(crate) fn new(name: impl Into<String>, spec: &Spec, weights: &Weights) -> Result<Self> {
        let weight = Weight::new(name, weights)?;
        let bias = match spec.norm {
            NormKind::Layer => Some(Weight::new(bias_name(&weight.name), weights)?),
            NormKind::Rms | NormKind::RmsOffset => None,
        };
        Ok(Self { weight, bias, kind: spec.norm, eps: spec.norm_eps })
    }

    pub(crate) fn weights(&self) -> impl Iterator<Item = &Weight> {
        std::iter::once(&self.weight).chain(&self.bias)
    }

    /// Shapes: x (T, C) -> (T, C).
    pub(crate) fn forward(&self, x: &Tensor) -> Result<(Tensor, Statistics)> {
        if self.kind == NormKind::Layer {
            let layer_norm::Normed { y, statistics } = layer_norm::forward(x, self.layer())?;
            return Ok((y, Statistics::Layer(statistics)));
        }
        let (y, rstd) = rms_norm::forward(x, &self.factor()?, self.eps)?;
        Ok((y, Statistics::Rms(rstd)))
    }

    /// `x + residual`, and the norm of the sum in the same pass. Shapes: x, residual (T, C) -> (T, C).
    pub(crate) fn forward_residual(&self, x: &Tensor, residual: &Tensor) -> Result<(Tensor, (Tensor, Statistics))> {
        if self.kind == NormKind::Layer {
            let (sum, layer_norm::Normed { y, statistics }) = layer_norm::forward_residual(x, residual, self.layer())?;
            return Ok((sum, (y, Statistics::Layer(statistics))));
        }
        let (sum, y, rstd) = rms_norm::forward_residual(x, residual, &self.factor()?, self.eps)?;
        Ok((sum, (y, Statistics::Rms(rstd))))
    }

    /// Adds the gradients and returns dx, plus the gradient that reaches x past the norm where one is given.
    /// Shapes: dy, x, residual (T, C) -> (T, C).
    pub(crate) fn backward(
        &self,
        dy: &Tensor,
        x: &Tensor,
        kept: &Statistics,
        residual: Option<&Tensor>,
        grads: &mut Gradients,
    ) -> Result<Tensor> {
        if let Some(gradient) = self.bias.as_ref().and_then(|bias| grads.get_mut(&bias.name)) {
            linear::backward_bias(dy, gradient)?;
        }
        let gradient = grads.get_mut(&self.weight.name);
        Ok(match kept {
            Statistics::Rms(rstd) => rms_norm::backward(dy, x, &self.factor()?, rstd, self.eps, residual, gradient)?,
            Statistics::Layer(kept) => layer_norm::backward(dy, x, self.layer(), kept, residual, gradient, None)?,
        })
    }

    /// What the RMS norm multiplies by; computed in every pass where it is 1 + w, since training changes w in place.
    fn factor(&self) -> Result<Tensor> {
        match self.kind {
            NormKind::RmsOffset => Ok(rms_norm::offset(&self.weight.tensor)?),
            NormKind::Rms | NormKind::Layer => Ok(self.weight.tensor.clone()),
        }
    }

    fn layer(&self) -> layer_norm::Norm<'_> {
        let bias = self.bias.as_ref().map(|bias| &bias.tensor);
        layer_norm::Norm { weight: &self.weight.tensor, bias, eps: self.eps }
    }
}

/// A linear projection, stored as (out, in) or, transposed, as (in, out); no product copies a transposed matrix.
#[derive(Clone, Debug)]
pub(crate) struct Linear {
    weight: Weight,
    bias: Option<Weight>,
    transposed: bool,
}

impl Linear {
    pub(crate) fn new(name: impl Into<String>, bias: bool, transposed: bool, weights: &Weights) -> Result<Self> {
        let weight = Weight::new(name, weights)?;
        let bias = bias.then(|| Weight::new(bias_name(&weight.name), weights)).transpose()?;
        Ok(Self { weight, bias, transposed })
    }

    pub(crate) fn weights(&self) -> impl Iterator<Item = &Weight> {
        std::iter::once(&self.weight).chain(&self.bias)
    }

    /// Shapes: x (T, in) -> (T, out).
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let weight = &self.weight.tensor;
        // `dy W` for a stored (out, in) is `x W` for a stored (in, out)
        let y = if self.transposed { linear::backward_input(x, weight)? } else { linear::forward(x, weight)? };
        Ok(match &self.bias {
            Some(bias) => linear::add_bias(y, &bias.tensor)?,
            None => y,
        })
    }

    /// Shapes: dy (T, out) -> (T, in).
    pub(crate) fn backward_input(&self, dy: &Tensor) -> Result<Tensor> {
        let weight = &self.weight.tensor;
        Ok(if self.transposed { linear::forward(dy, weight)? } else { linear::backward_input(dy, weight)? })
    }

    /// Adds the gradients of what trains. Shapes: dy (T, out), x (T, in).
    pub(crate) fn backward_weights(&self, dy: &Tensor, x: &Tensor, grads: &mut Gradients) -> Result<()> {
        if let Some(gradient) = grads.get_mut(&self.weight.name) {
            let (rows, columns) = if self.transposed { (x, dy) } else { (dy, x) };
            linear::backward_weight(rows, columns, gradient)?;
        }
        if let Some(gradient) = self.bias.as_ref().and_then(|bias| grads.get_mut(&bias.name)) {
            linear::backward_bias(dy, gradient)?;
        }
        Ok(())
    }
}

/// A norm that a block may lack: without a name it is none.
pub(crate) fn block_norm(spec: &Spec, index: usize, name: Option<&str>, weights: &Weights) -> Result<Option<Norm>> {
    name.map(|name| Norm::new(spec.block_tensor(index, name), spec, weights)).transpose()
}
