//! Attention on the CPU. A task is one block of queries of one head of one document (forward), or one head of one
//! document (backward, which adds up dk and dv over the blocks in order). Blocks count from the document's start, so
//! a token's bits never depend on what else is in the row.

use super::{Heads, Saved};
use crate::documents::Documents;
use crate::linear::cpu::{Strides, gemm_raw};
use crate::simd;
use crate::storage::{SharedMut, view};
use candle_core::{Device, Result, Tensor};
use rayon::prelude::*;
use std::ops::Range;

/// Queries of a block: their scores over 2,048 keys take 512 KiB.
const BLOCK: usize = 64;

/// Row strides, in elements, of the query-shaped and the key-shaped buffers.
struct Layout {
    heads: Heads,
    query_width: usize,
    key_width: usize,
}

impl Layout {
    fn new(heads: Heads) -> Self {
        Self { heads, query_width: heads.query * heads.dim, key_width: heads.key_value * heads.dim }
    }

    /// Offset of head `head` of token `token` in a (T, H*D) buffer.
    fn query(&self, token: usize, head: usize) -> usize {
        token * self.query_width + head * self.heads.dim
    }

    /// Offset of the key/value head that query head `head` reads, in a (T, K*D) buffer.
    fn key(&self, token: usize, head: usize) -> usize {
        token * self.key_width + head / (self.heads.query / self.heads.key_value) * self.heads.dim
    }

    fn query_rows(&self) -> Strides {
        Strides { row: self.query_width, column: 1 }
    }

    fn key_rows(&self) -> Strides {
        Strides { row: self.key_width, column: 1 }
    }

    fn key_columns(&self) -> Strides {
        Strides { row: 1, column: self.key_width }
    }
}

/// The query blocks of a document: ranges of tokens.
fn blocks(document: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let end = document.end;
    document.step_by(BLOCK).map(move |start| start..(start + BLOCK).min(end))
}

/// `scores (rows, keys) = scale * q k^T` of one block; later keys than the query's own are left in it, unused.
///
/// `scores` must hold `rows * keys` values.
fn block_scores(
    scores: &mut [f32],
    q: &[f32],
    k: &[f32],
    layout: &Layout,
    head: usize,
    document: usize,
    block: &Range<usize>,
) {
    let (rows, keys, dim) = (block.len(), block.end - document, layout.heads.dim);
    let (q, k) = (&q[layout.query(block.start, head)..], &k[layout.key(document, head)..]);
    assert!(q.len() > (rows - 1) * layout.query_width + dim - 1 && k.len() > (keys - 1) * layout.key_width + dim - 1);
    let dense = Strides { row: keys, column: 1 };
    // SAFETY: the assertion bounds q and k, `scores` holds rows * keys values and is borrowed mutably.
    unsafe {
        gemm_raw(
            (rows, keys, dim),
            scores[..rows * keys].as_mut_ptr(),
            dense,
            false,
            q.as_ptr(),
            layout.query_rows(),
            k.as_ptr(),
            layout.key_columns(),
            layout.heads.scale,
            gemm::Parallelism::None,
        );
    }
}

pub(super) fn forward(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    heads: Heads,
    documents: &Documents,
) -> Result<(Tensor, Tensor)> {
    let (t, layout) = (documents.num_tokens(), Layout::new(heads));
    let (q, k, v) = (view(q)?, view(k)?, view(v)?);
    let (q, k, v): (&[f32], &[f32], &[f32]) = (&q, &k, &v);
    let (mut o, mut lse) = (vec![0f32; t * layout.query_width], vec![0f32; heads.query * t]);
    let (o_shared, lse_shared) = (SharedMut(o.as_mut_ptr()), SharedMut(lse.as_mut_ptr()));
    let tasks: Vec<(usize, Range<usize>, usize)> = documents
        .ranges()
        .flat_map(|document| blocks(document.clone()).map(move |block| (document.start, block)))
        .flat_map(|(document, block)| (0..heads.query).map(move |head| (document, block.clone(), head)))
        .collect();
    tasks.into_par_iter().for_each_init(Vec::new, |scores, (document, block, head)| {
        let (rows, keys) = (block.len(), block.end - document);
        if scores.len() < rows * keys {
            scores.resize(rows * keys, 0.0);
        }
        block_scores(scores, q, k, &layout, head, document, &block);
        for (row, scores) in scores[..rows * keys].chunks_exact_mut(keys).enumerate() {
            let seen = block.start + row + 1 - document;
            let value = simd::run(
                #[inline(always)]
                || softmax(scores, seen),
            );
            // SAFETY: task (block, head) alone writes lse[head, block].
            unsafe { *lse_shared.at(head * t + block.start + row) = value };
        }
        let values = &v[layout.key(document, head)..];
        assert!(values.len() > (keys - 1) * layout.key_width + heads.dim - 1);
        // SAFETY: the assertion bounds v; `scores` holds rows * keys; the tasks write disjoint (tokens, head) parts of o.
        unsafe {
            gemm_raw(
                (rows, heads.dim, keys),
                o_shared.at(layout.query(block.start, head)),
                layout.query_rows(),
                false,
                scores.as_ptr(),
                Strides { row: keys, column: 1 },
                values.as_ptr(),
                layout.key_rows(),
                1.0,
                gemm::Parallelism::None,
            );
        }
    });
    let o = Tensor::from_vec(o, (t, layout.query_width), &Device::Cpu)?;
    Ok((o, Tensor::from_vec(lse, (heads.query, t), &Device::Cpu)?))
}

/// Softmax over the first `seen` scores, zero for the rest; returns the log-sum-exp.
#[inline(always)]
fn softmax(scores: &mut [f32], seen: usize) -> f32 {
    let (seen, unseen) = scores.split_at_mut(seen);
    let largest = simd::max(seen);
    let sum = simd::exp_sum(seen, largest);
    let factor = 1.0 / sum;
    seen.iter_mut().for_each(|p| *p *= factor);
    unseen.fill(0.0);
    largest + sum.ln()
}

pub(super) fn backward(
    dy: &Tensor,
    saved: &Saved,
    heads: Heads,
    documents: &Documents,
) -> Result<(Tensor, Tensor, Tensor)> {
    let (t, layout) = (documents.num_tokens(), Layout::new(heads));
    let (dy, q, k, v, o, lse) =
        (view(dy)?, view(saved.q)?, view(saved.k)?, view(saved.v)?, view(saved.o)?, view(saved.lse)?);
    let inputs = Inputs { dy: &dy, q: &q, k: &k, v: &v, o: &o, lse: &lse, num_tokens: t, layout: &layout };
    let mut dq = vec![0f32; t * layout.query_width];
    // dk and dv of each query head apart; heads that share a key head are added up afterwards, in order
    let (mut dk, mut dv) = (vec![0f32; t * layout.query_width], vec![0f32; t * layout.query_width]);
    let out =
        Outputs { dq: SharedMut(dq.as_mut_ptr()), dk: SharedMut(dk.as_mut_ptr()), dv: SharedMut(dv.as_mut_ptr()) };
    let tasks: Vec<(Range<usize>, usize)> =
        documents.ranges().flat_map(|document| (0..heads.query).map(move |head| (document.clone(), head))).collect();
    tasks.into_par_iter().for_each_init(<(Vec<f32>, Vec<f32>)>::default, |(p, dp), (document, head)| {
        let largest = BLOCK.min(document.len()) * document.len();
        if p.len() < largest {
            p.resize(largest, 0.0);
            dp.resize(largest, 0.0);
        }
        // SAFETY: task (document, head) alone touches the (document, head) parts of dq, dk and dv.
        blocks(document.clone())
            .for_each(|block| unsafe { inputs.backward_block(&out, p, dp, document.start, head, block) });
    });
    let dq = Tensor::from_vec(dq, (t, layout.query_width), &Device::Cpu)?;
    let sum = |per_head: &[f32]| Tensor::from_vec(sum_groups(per_head, heads), (t, layout.key_width), &Device::Cpu);
    Ok((dq, sum(&dk)?, sum(&dv)?))
}

/// Adds the query heads of each group: (T, H*D) -> (T, K*D).
fn sum_groups(per_head: &[f32], heads: Heads) -> Vec<f32> {
    let groups = heads.query / heads.key_value;
    if groups == 1 {
        return per_head.to_vec();
    }
    let mut sums = vec![0f32; per_head.len() / groups];
    sums.par_chunks_mut(heads.dim).zip(per_head.par_chunks(groups * heads.dim)).for_each(|(sum, group)| {
        for head in group.chunks_exact(heads.dim) {
            sum.iter_mut().zip(head).for_each(|(sum, value)| *sum += value);
        }
    });
    sums
}

struct Inputs<'a> {
    dy: &'a [f32],
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
    o: &'a [f32],
    lse: &'a [f32],
    num_tokens: usize,
    layout: &'a Layout,
}

struct Outputs {
    dq: SharedMut,
    dk: SharedMut,
    dv: SharedMut,
}

impl Inputs<'_> {
    /// One block of queries: probabilities from the log-sum-exp, then
    /// `dS = P * (dP - rowsum(dy * o))` with `dP = dy v^T`, `dq = scale dS k`, `dk += scale dS^T q`, `dv += P^T dy`.
    ///
    /// # Safety
    /// Nobody else may touch the (document, head) parts of the outputs.
    unsafe fn backward_block(
        &self,
        out: &Outputs,
        p: &mut [f32],
        dp: &mut [f32],
        document: usize,
        head: usize,
        block: Range<usize>,
    ) {
        let layout = self.layout;
        let (rows, keys, dim, scale) = (block.len(), block.end - document, layout.heads.dim, layout.heads.scale);
        let (query_at, key_at) = (layout.query(block.start, head), layout.key(document, head));
        let (query_rows, key_rows) = (layout.query_rows(), layout.key_rows());
        let (dense, transposed) = (Strides { row: keys, column: 1 }, Strides { row: 1, column: keys });
        let (dy, v, q, k) = (&self.dy[query_at..], &self.v[key_at..], &self.q[query_at..], &self.k[key_at..]);
        assert!(
            dy.len() > (rows - 1) * layout.query_width + dim - 1 && v.len() > (keys - 1) * layout.key_width + dim - 1
        );
        let serial = gemm::Parallelism::None;

        block_scores(p, self.q, self.k, layout, head, document, &block);
        // SAFETY: the assertion bounds dy and v (q and k have their shapes); p and dp hold rows * keys values.
        unsafe {
            let values = Strides { row: 1, column: layout.key_width };
            gemm_raw(
                (rows, keys, dim),
                dp.as_mut_ptr(),
                dense,
                false,
                dy.as_ptr(),
                query_rows,
                v.as_ptr(),
                values,
                1.0,
                serial,
            );
        }
        for row in 0..rows {
            let token = block.start + row;
            let at = layout.query(token, head);
            let (dy, o) = (&self.dy[at..at + dim], &self.o[at..at + dim]);
            let (p, dp) = (&mut p[row * keys..(row + 1) * keys], &mut dp[row * keys..(row + 1) * keys]);
            let lse = self.lse[head * self.num_tokens + token];
            simd::run(
                #[inline(always)]
                || softmax_backward(p, dp, lse, simd::dot(dy, o), token + 1 - document),
            );
        }
        // SAFETY: bounds as above; the outputs' parts are this task's alone. dk and dv are (T, H*D): one part a head.
        unsafe {
            let first = layout.query(document, head);
            let (dq, dk, dv) = (out.dq.at(query_at), out.dk.at(first), out.dv.at(first));
            gemm_raw((rows, dim, keys), dq, query_rows, false, dp.as_ptr(), dense, k.as_ptr(), key_rows, scale, serial);
            gemm_raw(
                (keys, dim, rows),
                dk,
                query_rows,
                true,
                dp.as_ptr(),
                transposed,
                q.as_ptr(),
                query_rows,
                scale,
                serial,
            );
            gemm_raw(
                (keys, dim, rows),
                dv,
                query_rows,
                true,
                p.as_ptr(),
                transposed,
                dy.as_ptr(),
                query_rows,
                1.0,
                serial,
            );
        }
    }
}

/// Turns scores into probabilities and dP into dS, in place; zero beyond what the query sees.
#[inline(always)]
fn softmax_backward(p: &mut [f32], dp: &mut [f32], lse: f32, delta: f32, seen: usize) {
    for i in 0..seen {
        p[i] = simd::exp(p[i] - lse);
        dp[i] = p[i] * (dp[i] - delta);
    }
    p[seen..].fill(0.0);
    dp[seen..].fill(0.0);
}
