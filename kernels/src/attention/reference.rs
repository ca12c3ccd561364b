//! The definition of causal attention over packed documents.

use super::Heads;
use crate::device::empty;
use crate::documents::Documents;
use candle_core::{D, DType, Result, Tensor};

/// Shapes: q (T, H*D), k and v (T, K*D) -> o (T, H*D), lse (H, T). Scores and softmax in f32.
pub fn forward(q: &Tensor, k: &Tensor, v: &Tensor, heads: Heads, documents: &Documents) -> Result<(Tensor, Tensor)> {
    if documents.num_tokens() == 0 {
        return Ok((q.clone(), empty(&[heads.query, 0], scores_type(q.dtype()), q.device())?));
    }
    let (mut outputs, mut lses) = (Vec::new(), Vec::new());
    for range in documents.ranges() {
        let part = |x: &Tensor| x.narrow(0, range.start, range.len());
        let (o, lse) = document(&part(q)?, &part(k)?, &part(v)?, heads)?;
        outputs.push(o);
        lses.push(lse);
    }
    Ok((Tensor::cat(&outputs, 0)?, Tensor::cat(&lses, 1)?))
}

/// f32 for 16-bit inputs; tests run the definition in f64.
fn scores_type(dtype: DType) -> DType {
    if dtype == DType::F64 { DType::F64 } else { DType::F32 }
}

fn document(q: &Tensor, k: &Tensor, v: &Tensor, heads: Heads) -> Result<(Tensor, Tensor)> {
    let (t, groups) = (q.dim(0)?, heads.query / heads.key_value);
    let split = |x: &Tensor, count: usize| x.reshape((t, count, heads.dim))?.transpose(0, 1)?.contiguous(); // (count, T, D)
    let repeat = |x: Tensor| {
        let shape = (heads.key_value, groups, t, heads.dim);
        x.unsqueeze(1)?.broadcast_as(shape)?.contiguous()?.reshape((heads.query, t, heads.dim))
    };
    let (q, k, v) = (split(q, heads.query)?, repeat(split(k, heads.key_value)?)?, repeat(split(v, heads.key_value)?)?);
    let scores =
        (q.matmul(&k.transpose(1, 2)?.contiguous()?)?.to_dtype(scores_type(q.dtype()))? * f64::from(heads.scale))?; // (H, T, T)
    let scores = match heads.softcap {
        Some(cap) => ((scores / f64::from(cap))?.tanh()? * f64::from(cap))?,
        None => scores,
    };
    let window = heads.window.unwrap_or(t);
    let hidden = |i: usize, j: usize| j > i || i - j >= window;
    let mask: Vec<f32> =
        (0..t).flat_map(|i| (0..t).map(move |j| if hidden(i, j) { f32::NEG_INFINITY } else { 0.0 })).collect();
    let scores = scores.broadcast_add(&Tensor::from_vec(mask, (t, t), q.device())?.to_dtype(scores.dtype())?)?;
    let largest = scores.max_keepdim(D::Minus1)?.detach();
    let exp = scores.broadcast_sub(&largest)?.exp()?;
    let sum = exp.sum_keepdim(D::Minus1)?;
    let lse = (sum.log()? + largest)?.squeeze(D::Minus1)?;
    let o = exp.broadcast_div(&sum)?.to_dtype(v.dtype())?.matmul(&v)?;
    Ok((o.transpose(0, 1)?.contiguous()?.reshape((t, heads.query * heads.dim))?, lse))
}
