//! GELU, the activation of an MLP without a gate, in its exact form (GPT-NeoX) and in the tanh form (GPT-2).

pub mod case;
mod cpu;
pub mod reference;
pub(crate) mod scalar;

use crate::storage::{fused, narrow, wide};
use candle_core::{Result, Tensor, bail};

/// Which of the two functions is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// By the error function: `gelu` in Hugging Face's configs.
    Erf,
    /// By tanh: `gelu_new`, `gelu_pytorch_tanh`.
    Tanh,
}

/// `x * Phi(x)`, Phi the normal distribution, or its tanh approximation. Shapes: any -> the same.
/// Memory: one read, one write. Source: Hendrycks & Gimpel 2016, arXiv:1606.08415.
pub fn forward(x: &Tensor, form: Form) -> Result<Tensor> {
    crate::arguments::check("gelu", &[("x", x)])?;
    if narrow(x) {
        return forward(&wide(x)?, form)?.to_dtype(x.dtype());
    }
    if x.elem_count() == 0 {
        return Ok(x.clone());
    }
    if fused(x) { cpu::forward(&x.contiguous()?, form) } else { reference::forward(x, form) }
}

/// The gradient, f32 where x has 16 bits. Shapes: dy, x equal -> the same. Errors: shapes that differ.
pub fn backward(dy: &Tensor, x: &Tensor, form: Form) -> Result<Tensor> {
    crate::arguments::check("gelu", &[("dy", dy), ("x", x)])?;
    if dy.shape() != x.shape() {
        bail!("gelu: dy {:?} doesn't fit x {:?}", dy.shape(), x.shape())
    }
    if narrow(dy) || narrow(x) {
        return backward(&wide(dy)?, &wide(x)?, form);
    }
    if fused(dy) && fused(x) {
        return cpu::backward(&dy.contiguous()?, &x.contiguous()?, form);
    }
    let mut grads = crate::autograd::backward(&[x], dy, |v| reference::forward(&v[0], form))?;
    Ok(grads.swap_remove(0))
}
