//! Layer normalisation over the last dimension, with or without a bias, mean and reciprocal deviation kept for the
//! backward pass; in a variant it also makes the residual sum that it normalises.

pub mod case;
mod cpu;
pub mod reference;
#[cfg(test)]
mod tests;

use crate::gradient::Gradient;
use crate::storage::{fused, narrow, wide};
use candle_core::{DType, Result, Tensor, bail};

/// The trained vectors of one norm, and the constant under its root.
#[derive(Clone, Copy, Debug)]
pub struct Norm<'a> {
    /// Factor (C).
    pub weight: &'a Tensor,
    /// Summand (C), where there is one.
    pub bias: Option<&'a Tensor>,
    /// Added to the variance.
    pub eps: f32,
}

/// The result of a forward pass.
#[derive(Clone, Debug)]
pub struct Normed {
    /// The normalised rows (T, C).
    pub y: Tensor,
    /// What the backward pass needs of each row.
    pub statistics: Statistics,
}

/// Mean and `1 / sqrt(var + eps)` of each row, (T) f32 each.
#[derive(Clone, Debug)]
pub struct Statistics {
    /// Mean.
    pub mean: Tensor,
    /// Reciprocal of the standard deviation.
    pub rstd: Tensor,
}

/// `y = (x - mean) / sqrt(var + eps) * w + b`; statistics in f32, result in x's dtype. Shapes: x (T, C) -> y (T, C).
/// Memory: one read, one write of x. Errors: C differs. Source: Ba et al. 2016, arXiv:1607.06450; as torch's layer_norm.
pub fn forward(x: &Tensor, norm: Norm) -> Result<Normed> {
    norm.check(x)?;
    if norm.narrow(x) {
        let Normed { y, statistics } = norm.widened(|norm| forward(&wide(x)?, norm))?;
        return Ok(Normed { y: y.to_dtype(x.dtype())?, statistics });
    }
    if x.elem_count() == 0 {
        let none = || crate::device::empty(&[x.dim(0)?], DType::F32, x.device());
        return Ok(Normed { y: x.clone(), statistics: Statistics { mean: none()?, rstd: none()? } });
    }
    if norm.fused(x) {
        Ok(cpu::forward(&x.contiguous()?, None, norm)?.1)
    } else {
        let (y, mean, rstd) = reference::forward(x, norm.weight, norm.bias, norm.eps)?;
        Ok(Normed { y, statistics: Statistics { mean, rstd } })
    }
}

/// `sum = x + residual`, and the norm of the sum. Shapes: x, residual (T, C) -> sum (T, C) and the norm's.
/// Memory: two reads, two writes; apart, the norm would read the sum once more. Errors: shapes that differ.
pub fn forward_residual(x: &Tensor, residual: &Tensor, norm: Norm) -> Result<(Tensor, Normed)> {
    norm.check(x)?;
    crate::arguments::check("layer_norm", &[("x", x), ("residual", residual)])?;
    if x.shape() != residual.shape() {
        bail!("layer_norm: x {:?} and residual {:?}", x.shape(), residual.shape())
    }
    if norm.fused(x) && fused(residual) && x.elem_count() > 0 {
        let (Some(sum), normed) = cpu::forward(&x.contiguous()?, Some(&residual.contiguous()?), norm)? else {
            bail!("layer_norm: no residual sum came back")
        };
        return Ok((sum, normed));
    }
    let sum = crate::residual::add(x, residual)?;
    let normed = forward(&sum, norm)?;
    Ok((sum, normed))
}

/// The gradients: dx is returned, f32 where x has 16 bits; those of weight and bias are added where they are given.
/// Shapes: dy, x (T, C), residual (T, C) -> dx (T, C).
///
/// With n = (x - mean) * rstd and d = dy * w: dx = rstd * (d - mean(d) - n * mean(d * n)), dw = sum over rows of
/// dy * n, db = sum over rows of dy. `residual` is the gradient that reaches x past the norm, added in the same pass.
/// Errors: shapes that don't fit.
pub fn backward(
    dy: &Tensor,
    x: &Tensor,
    norm: Norm,
    statistics: &Statistics,
    residual: Option<&Tensor>,
    weight_gradient: Option<&mut Gradient>,
    bias_gradient: Option<&mut Gradient>,
) -> Result<Tensor> {
    norm.check(x)?;
    for other in [Some(dy), residual].into_iter().flatten() {
        if other.shape() != x.shape() {
            bail!("layer_norm: gradient {:?} doesn't fit x {:?}", other.shape(), x.shape())
        }
    }
    if norm.narrow(x) || narrow(dy) || residual.is_some_and(narrow) {
        let (dy, x, residual) = (wide(dy)?, wide(x)?, residual.map(wide).transpose()?);
        let gradients = (weight_gradient, bias_gradient);
        return norm.widened(|norm| backward(&dy, &x, norm, statistics, residual.as_ref(), gradients.0, gradients.1));
    }
    if norm.fused(x) && fused(dy) && residual.is_none_or(fused) && x.elem_count() > 0 {
        let residual = residual.map(Tensor::contiguous).transpose()?;
        let gradients = (weight_gradient, bias_gradient);
        let (dy, x) = (dy.contiguous()?, x.contiguous()?);
        return cpu::backward(&dy, &x, norm, statistics, residual.as_ref(), gradients);
    }
    let zeros = norm.weight.zeros_like()?; // the bias's gradient doesn't depend on its value
    let grads = crate::autograd::backward(&[x, norm.weight, norm.bias.unwrap_or(&zeros)], dy, |v| {
        Ok(reference::forward(&v[0], &v[1], Some(&v[2]), norm.eps)?.0)
    })?;
    for (gradient, contribution) in [(weight_gradient, &grads[1]), (bias_gradient, &grads[2])] {
        if let Some(gradient) = gradient {
            gradient.add(contribution)?;
        }
    }
    match residual {
        Some(residual) => crate::residual::add(&grads[0], &residual.to_dtype(grads[0].dtype())?),
        None => Ok(grads[0].clone()),
    }
}

impl Norm<'_> {
    fn check(&self, x: &Tensor) -> Result<()> {
        crate::arguments::check("layer_norm", &[("x", x), ("weight", self.weight), ("bias", self.bias.unwrap_or(x))])?;
        let c = x.dims2()?.1;
        if c == 0 || self.weight.dims() != [c] || self.bias.is_some_and(|bias| bias.dims() != [c]) {
            let bias = self.bias.map(Tensor::shape);
            bail!("layer_norm: x {:?} doesn't fit weight {:?} and bias {bias:?}", x.shape(), self.weight.shape())
        }
        Ok(())
    }

    fn narrow(&self, x: &Tensor) -> bool {
        narrow(x) || narrow(self.weight) || self.bias.is_some_and(narrow)
    }

    fn fused(&self, x: &Tensor) -> bool {
        fused(x) && fused(self.weight) && self.bias.is_none_or(fused)
    }

    /// Runs `f` with the same norm in f32.
    fn widened<R>(&self, f: impl FnOnce(Norm) -> Result<R>) -> Result<R> {
        let (weight, bias) = (wide(self.weight)?, self.bias.map(wide).transpose()?);
        f(Norm { weight: &weight, bias: bias.as_ref(), eps: self.eps })
    }
}
