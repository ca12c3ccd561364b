//! The definition of the cross-entropy over logits.

use super::Options;
use crate::autograd::widened;
use candle_core::{D, Result, Tensor};

/// `log(sum(exp(logits))) - logits[target]` per row, in f32. Shapes: logits (N, V), targets N -> (N).
pub fn nll(logits: &Tensor, targets: &[u32], options: Options) -> Result<Tensor> {
    Ok(nll_and_lse(logits, targets, options)?.0)
}

/// What is differentiated per row: `nll + z_loss * lse^2`. Shapes: as [`nll`].
pub fn loss(logits: &Tensor, targets: &[u32], options: Options) -> Result<Tensor> {
    let (nll, lse) = nll_and_lse(logits, targets, options)?;
    nll + (lse.sqr()? * f64::from(options.z_loss))?
}

fn nll_and_lse(logits: &Tensor, targets: &[u32], options: Options) -> Result<(Tensor, Tensor)> {
    let logits = widened(logits)?;
    let logits = match options.softcap {
        Some(cap) => ((logits / f64::from(cap))?.tanh()? * f64::from(cap))?,
        None => logits,
    };
    if targets.is_empty() {
        let none = logits.narrow(1, 0, 0)?.reshape(0)?; // candle reduces nothing to an error
        return Ok((none.clone(), none));
    }
    let largest = logits.max_keepdim(D::Minus1)?.detach();
    let shifted = logits.broadcast_sub(&largest)?;
    let log_sum = shifted.exp()?.sum_keepdim(D::Minus1)?.log()?;
    let targets = Tensor::from_slice(targets, (targets.len(), 1), logits.device())?;
    let nll = (&log_sum - shifted.gather(&targets, 1)?)?.squeeze(1)?;
    Ok((nll, (log_sum + largest)?.squeeze(1)?))
}

/// The NLLs, and the gradient of `scale * sum(loss)` with respect to the logits. Shapes: (N), (N, V).
pub fn forward_backward(logits: &Tensor, targets: &[u32], scale: f32, options: Options) -> Result<(Vec<f32>, Tensor)> {
    let losses = nll(logits, targets, options)?;
    let dy = (losses.ones_like()? * f64::from(scale))?;
    let grads = crate::autograd::backward(&[logits], &dy, |x| loss(&x[0], targets, options))?;
    Ok((losses.to_vec1()?, grads[0].clone()))
}
