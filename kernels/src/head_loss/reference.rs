//! The definition of the cross-entropy over logits.

use candle_core::{D, DType, Result, Tensor};

/// `log(sum(exp(logits))) - logits[target]` per row, in f32. Shapes: logits (N, V), targets N -> (N).
pub fn nll(logits: &Tensor, targets: &[u32]) -> Result<Tensor> {
    let logits = logits.to_dtype(DType::F32)?;
    let largest = logits.max_keepdim(D::Minus1)?.detach();
    let shifted = logits.broadcast_sub(&largest)?;
    let lse = shifted.exp()?.sum_keepdim(D::Minus1)?.log()?;
    let targets = Tensor::from_slice(targets, (targets.len(), 1), logits.device())?;
    (lse - shifted.gather(&targets, 1)?)?.squeeze(1)
}

/// The losses, and the gradient of `scale * sum(nll)`: `scale * (softmax(logits) - onehot)`. Shapes: (N), (N, V).
pub fn forward_backward(logits: &Tensor, targets: &[u32], scale: f32) -> Result<(Vec<f32>, Tensor)> {
    let losses = nll(logits, targets)?;
    let dy = (losses.ones_like()? * f64::from(scale))?;
    let grads = crate::autograd::backward(&[logits], &dy, |x| nll(&x[0], targets))?;
    Ok((losses.to_vec1()?, grads[0].clone()))
}
