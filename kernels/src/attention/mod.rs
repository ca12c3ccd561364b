//! Causal attention over packed documents, with grouped query heads and without repeating keys or values.
//!
//! The forward pass keeps the log-sum-exp of each row; the backward pass computes the probabilities again from it.
//! Scores exist for one block of queries of one head at a time, never T x T.

pub mod case;
mod cpu;
mod decode;
pub mod reference;

use crate::arguments;
use crate::documents::Documents;
use crate::storage::{fused, narrow, wide};
use candle_core::{Result, Tensor, bail};

pub use decode::decode;

/// Heads and scores of one attention layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Heads {
    /// H, query heads.
    pub query: usize,
    /// K, key and value heads; a divisor of H.
    pub key_value: usize,
    /// D, channels of a head.
    pub dim: usize,
    /// Factor of the scores, usually `1 / sqrt(D)`.
    pub scale: f32,
    /// Tokens that a token sees, itself included; None for all before it. As `sliding_window` of Hugging Face.
    pub window: Option<usize>,
    /// Bounds the scores: `cap * tanh(score / cap)`; None leaves them. As `attn_logit_softcapping` of Hugging Face.
    pub softcap: Option<f32>,
}

impl Heads {
    fn check(&self, q: &Tensor, k: &Tensor, v: &Tensor, documents: &Documents) -> Result<()> {
        arguments::check("attention", &[("q", q), ("k", k), ("v", v)])?;
        let t = documents.num_tokens();
        let fits = q.dims() == [t, self.query * self.dim]
            && k.dims() == [t, self.key_value * self.dim]
            && v.dims() == k.dims()
            && self.query.is_multiple_of(self.key_value);
        if self.window == Some(0) || self.softcap.is_some_and(|cap| cap.is_nan() || cap <= 0.0) {
            bail!("attention: a window and a soft-cap are above 0, got {self:?}")
        }
        match fits {
            true => Ok(()),
            false => bail!("attention: q {:?}, k {:?}, v {:?}, {t} tokens, {self:?}", q.shape(), k.shape(), v.shape()),
        }
    }
}

/// `softmax(scale * q k^T) v` inside each document, each token seeing itself and what is before it, as far as the window
/// reaches; the scores are capped before the softmax where `heads` has a soft-cap.
/// Shapes: q (T, H*D), k and v (T, K*D) -> o (T, H*D), and lse (H, T) f32 for the backward pass.
/// A token has the same bits whatever other documents share the row. Source: Dao 2023, arXiv:2307.08691 (log-sum-exp).
pub fn forward(q: &Tensor, k: &Tensor, v: &Tensor, heads: Heads, documents: &Documents) -> Result<(Tensor, Tensor)> {
    heads.check(q, k, v, documents)?;
    if narrow(q) {
        let (o, lse) = forward(&wide(q)?, &wide(k)?, &wide(v)?, heads, documents)?;
        return Ok((o.to_dtype(q.dtype())?, lse));
    }
    if fused(q) && fused(k) && fused(v) {
        cpu::forward(&q.contiguous()?, &k.contiguous()?, &v.contiguous()?, heads, documents)
    } else {
        reference::forward(q, k, v, heads, documents)
    }
}

/// What the backward pass needs of the forward pass.
pub struct Saved<'a> {
    /// Queries (T, H*D).
    pub q: &'a Tensor,
    /// Keys (T, K*D).
    pub k: &'a Tensor,
    /// Values (T, K*D).
    pub v: &'a Tensor,
    /// Output (T, H*D).
    pub o: &'a Tensor,
    /// Log-sum-exp of the scores (H, T).
    pub lse: &'a Tensor,
}

/// Gradients of q, k and v, f32 where these have 16 bits. Shapes: dy (T, H*D) -> (T, H*D), (T, K*D), (T, K*D).
pub fn backward(dy: &Tensor, saved: &Saved, heads: Heads, documents: &Documents) -> Result<(Tensor, Tensor, Tensor)> {
    let Saved { q, k, v, o, lse } = *saved;
    heads.check(q, k, v, documents)?;
    if narrow(q) {
        let saved = Saved { q: &wide(q)?, k: &wide(k)?, v: &wide(v)?, o: &wide(o)?, lse };
        return backward(&wide(dy)?, &saved, heads, documents);
    }
    if fused(dy) && fused(q) && fused(k) && fused(v) {
        let (q, k, v, o) = (q.contiguous()?, k.contiguous()?, v.contiguous()?, o.contiguous()?);
        let saved = Saved { q: &q, k: &k, v: &v, o: &o, lse };
        return cpu::backward(&dy.contiguous()?, &saved, heads, documents);
    }
    let grads =
        crate::autograd::backward(
            &[q, k, v],
            dy,
            |x| Ok(reference::forward(&x[0], &x[1], &x[2], heads, documents)?.0),
        )?;
    Ok((grads[0].clone(), grads[1].clone(), grads[2].clone()))
}

#[cfg(test)]
mod tests;
