//! Attention of one new token over cached keys and values, for generation: fused on the CPU, plain tensor ops elsewhere.
//!
//! Cost: one read of keys and values.

use super::{Heads, cpu};
use crate::storage::{fused, narrow, wide};
use candle_core::{D, DType, Result, Tensor, bail};

/// Shapes: q (1, H*D), k and v (N, K*D), the new token's own included -> (1, H*D). A window reads the last keys alone.
/// Errors: shapes that don't fit.
pub fn decode(q: &Tensor, k: &Tensor, v: &Tensor, heads: Heads) -> Result<Tensor> {
    let n = k.dim(0)?;
    let (query, key) = ((1, heads.query * heads.dim), (n, heads.key_value * heads.dim));
    if n == 0 || q.dims2()? != query || k.dims2()? != key || v.dims2()? != key {
        bail!("attention: {:?}, {:?} and {:?} for one token of {heads:?}", q.dims(), k.dims(), v.dims())
    }
    if narrow(q) {
        return decode(&wide(q)?, &wide(k)?, &wide(v)?, heads)?.to_dtype(q.dtype());
    }
    if let Some(window) = heads.window.filter(|window| *window < n) {
        let last = |x: &Tensor| x.narrow(0, n - window, window);
        return decode(q, &last(k)?, &last(v)?, Heads { window: None, ..heads });
    }
    if fused(q) && fused(k) && fused(v) { cpu::decode(q, k, v, heads) } else { plain(q, k, v, heads) }
}

/// [`decode`] of all keys by plain tensor ops.
pub(super) fn plain(q: &Tensor, k: &Tensor, v: &Tensor, heads: Heads) -> Result<Tensor> {
    let (n, groups) = (k.dim(0)?, heads.query / heads.key_value);
    let q = q.reshape((heads.key_value, groups, heads.dim))?;
    let split = |x: &Tensor| x.reshape((n, heads.key_value, heads.dim))?.transpose(0, 1)?.contiguous(); // (K, N, D)
    let (k, v) = (split(k)?, split(v)?);
    let scores =
        (q.contiguous()?.matmul(&k.transpose(1, 2)?.contiguous()?)?.to_dtype(DType::F32)? * f64::from(heads.scale))?;
    let scores = match heads.softcap {
        Some(cap) => ((scores / f64::from(cap))?.tanh()? * f64::from(cap))?,
        None => scores,
    };
    let exp = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?)?.exp()?;
    let probabilities = exp.broadcast_div(&exp.sum_keepdim(D::Minus1)?)?.to_dtype(v.dtype())?;
    probabilities.matmul(&v)?.reshape((1, heads.query * heads.dim))
}
