//! The gate of a gated MLP, `activation(gate) * up`: SwiGLU by SiLU, GeGLU by GELU, with a vectorised exponential.

pub mod case;
mod cpu;
pub mod reference;

use crate::gelu::Form;
use crate::storage::{fused, narrow, wide};
use candle_core::{Result, Tensor, bail};

/// What the gate goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `x sigmoid(x)`: SwiGLU, `silu` in Hugging Face's configs (Llama, Mistral, Qwen, Phi-3, OLMo).
    Silu,
    /// GELU: GeGLU; `gelu_pytorch_tanh` is the tanh form (Gemma).
    Gelu(Form),
}

/// `activation(gate) * up`. Shapes: gate and up (T, F) -> (T, F).
/// Source: Shazeer 2020, arXiv:2002.05202 (SwiGLU, GeGLU). Memory: two reads, one write.
pub fn forward(gate: &Tensor, up: &Tensor, activation: Activation) -> Result<Tensor> {
    check("up", up, gate)?;
    if narrow(gate) || narrow(up) {
        return forward(&wide(gate)?, &wide(up)?, activation)?.to_dtype(gate.dtype());
    }
    if gate.elem_count() == 0 {
        return Ok(gate.clone());
    }
    if fused(gate) && fused(up) {
        cpu::forward(&gate.contiguous()?, &up.contiguous()?, activation)
    } else {
        reference::forward(gate, up, activation)
    }
}

/// Gradients of gate and up, f32 where these have 16 bits. Shapes: dy, gate, up (T, F) -> (T, F) each.
/// dgate = dy * up * activation'(gate), dup = dy * activation(gate).
pub fn backward(dy: &Tensor, gate: &Tensor, up: &Tensor, activation: Activation) -> Result<(Tensor, Tensor)> {
    check("up", up, gate)?;
    check("dy", dy, gate)?;
    if narrow(dy) || narrow(gate) || narrow(up) {
        return backward(&wide(dy)?, &wide(gate)?, &wide(up)?, activation);
    }
    if fused(dy) && fused(gate) && fused(up) {
        return cpu::backward(&dy.contiguous()?, &gate.contiguous()?, &up.contiguous()?, activation);
    }
    let grads = crate::autograd::backward(&[gate, up], dy, |v| reference::forward(&v[0], &v[1], activation))?;
    Ok((grads[0].clone(), grads[1].clone()))
}

fn check(name: &str, tensor: &Tensor, gate: &Tensor) -> Result<()> {
    crate::arguments::check("gated_mlp", &[("gate", gate), (name, tensor)])?;
    match tensor.shape() == gate.shape() {
        true => Ok(()),
        false => bail!("gated_mlp: {name} {:?} doesn't fit gate {:?}", tensor.shape(), gate.shape()),
    }
}
