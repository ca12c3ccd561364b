//! Attention of one new token over cached keys and values, for generation. Plain tensor ops: a generated token
//! costs one read of every weight, beside which this is small.

use super::Heads;
use crate::storage::{narrow, wide};
use candle_core::{D, DType, Result, Tensor};

/// Shapes: q (1, H*D), k and v (N, K*D), the new token's own included -> (1, H*D). A window reads the last keys alone.
pub fn decode(q: &Tensor, k: &Tensor, v: &Tensor, heads: Heads) -> Result<Tensor> {
    if narrow(q) {
        return decode(&wide(q)?, &wide(k)?, &wide(v)?, heads)?.to_dtype(q.dtype());
    }
    let (n, groups) = (k.dim(0)?, heads.query / heads.key_value);
    if let Some(window) = heads.window.filter(|window| *window < n) {
        let last = |x: &Tensor| x.narrow(0, n - window, window);
        return decode(q, &last(k)?, &last(v)?, Heads { window: None, ..heads });
    }
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
