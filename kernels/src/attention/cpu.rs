//! Attention on the CPU. A task is one block of queries of one head of one document (forward), or one head of one
//! document (backward, which adds up dk and dv over the blocks in order). Blocks count from the document's start, so
//! a token's bits never depend on what else is in the row.

use super::{Heads, Saved};
use crate::documents::Documents;
use crate::fresh::Fresh;
use crate::matmul::{Matrix, Output, Threads, multiply_raw};
use crate::simd;
use crate::storage::{SharedMut, view};
use candle_core::{Device, Result, Tensor};
use rayon::prelude::*;
use std::ops::Range;

/// Queries of a block: their scores over 2,048 keys take 512 KiB.
const BLOCK: usize = 64;
const SERIAL: Threads = Threads::Caller;
/// Values of a cache below which threads cost more than they give.
const DECODE_SERIAL: usize = 1 << 16;

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

    /// Head `head` of a (T, H*D) buffer from token `token` on, a row a token.
    fn query_rows<'a>(&self, values: &'a [f32], token: usize, head: usize) -> Matrix<'a> {
        Matrix::rows(&values[self.query(token, head)..], self.query_width)
    }

    /// The key/value head of `head` of a (T, K*D) buffer from token `token` on, a row a token.
    fn key_rows<'a>(&self, values: &'a [f32], token: usize, head: usize) -> Matrix<'a> {
        Matrix::rows(&values[self.key(token, head)..], self.key_width)
    }

    /// The same, a column a token.
    fn key_columns<'a>(&self, values: &'a [f32], token: usize, head: usize) -> Matrix<'a> {
        Matrix::columns(&values[self.key(token, head)..], self.key_width)
    }

    /// The query blocks of a document.
    fn blocks(&self, document: Range<usize>) -> impl Iterator<Item = Block> {
        let (start, end, window) = (document.start, document.end, self.heads.window.unwrap_or(document.end));
        document.step_by(BLOCK).map(move |first| {
            let queries = first..(first + BLOCK).min(end);
            Block { keys: start.max((first + 1).saturating_sub(window))..queries.end, queries }
        })
    }
}

/// A block of queries and the keys that any of them sees, as ranges of tokens.
#[derive(Clone)]
struct Block {
    queries: Range<usize>,
    keys: Range<usize>,
}

impl Block {
    /// The keys that query `row` of the block sees, counted from the block's first key.
    fn seen(&self, row: usize, heads: &Heads) -> Range<usize> {
        let token = self.queries.start + row;
        let first = heads.window.map_or(0, |window| (token + 1).saturating_sub(window));
        first.max(self.keys.start) - self.keys.start..token + 1 - self.keys.start
    }

    /// `scores (rows, keys) = scale * a b^T` over the head's channels, a the block's rows of a query-shaped buffer, b its
    /// keys' rows of a key-shaped one; those of keys that a query doesn't see are left in it, unused.
    fn scores(&self, scores: &mut [f32], a: &[f32], b: &[f32], layout: &Layout, head: usize, scale: f32) {
        let (rows, keys) = (self.queries.len(), self.keys.len());
        let scores = SharedMut(scores[..rows * keys].as_mut_ptr());
        let (a, b) = (layout.query_rows(a, self.queries.start, head), layout.key_columns(b, self.keys.start, head));
        // SAFETY: `scores` is borrowed mutably and holds rows * keys values.
        unsafe {
            multiply_raw((rows, keys, layout.heads.dim), scores, keys, Output { add: false, scale }, a, b, SERIAL);
        }
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
    let (mut o, mut lse) = (Fresh::new(t * layout.query_width), Fresh::new(heads.query * t));
    let (o_shared, lse_shared) = (o.shared(), lse.shared());
    let tasks: Vec<(Block, usize)> = documents
        .ranges()
        .flat_map(|document| layout.blocks(document))
        .flat_map(|block| (0..heads.query).map(move |head| (block.clone(), head)))
        .collect();
    tasks.into_par_iter().for_each_init(Vec::new, |scores, (block, head)| {
        let (rows, keys) = (block.queries.len(), block.keys.len());
        if scores.len() < rows * keys {
            scores.resize(rows * keys, 0.0);
        }
        block.scores(scores, q, k, &layout, head, heads.scale);
        for (row, scores) in scores[..rows * keys].chunks_exact_mut(keys).enumerate() {
            let seen = block.seen(row, &heads);
            let value = simd::run(
                #[inline(always)]
                || softmax(scores, seen, heads.softcap),
            );
            // SAFETY: task (block, head) alone writes lse[head, block].
            unsafe { lse_shared.at(head * t + block.queries.start + row).write(value) };
        }
        let p = Matrix::rows(&scores[..rows * keys], keys);
        let v = layout.key_rows(v, block.keys.start, head);
        let output = Output { add: false, scale: 1.0 };
        // SAFETY: the tasks write disjoint (tokens, head) parts of o.
        unsafe {
            let o = SharedMut(o_shared.at(layout.query(block.queries.start, head)));
            multiply_raw((rows, heads.dim, keys), o, layout.query_width, output, p, v, SERIAL);
        }
    });
    // SAFETY: every token is in a block of its document, and each of its heads had a task, which wrote both.
    let (o, lse) = unsafe { (o.written(), lse.written()) };
    let o = Tensor::from_vec(o, (t, layout.query_width), &Device::Cpu)?;
    Ok((o, Tensor::from_vec(lse, (heads.query, t), &Device::Cpu)?))
}

/// One token over all of its keys. Shapes: q (1, H*D), k and v (N, K*D) -> (1, H*D). A task is one key/value head and the
/// query heads that read it.
pub(super) fn decode(q: &Tensor, k: &Tensor, v: &Tensor, heads: Heads) -> Result<Tensor> {
    let (keys, layout) = (k.dim(0)?, Layout::new(heads));
    let group = heads.query / heads.key_value;
    let (q, k, v) = (view(q)?, view(k)?, view(v)?);
    let (q, k, v): (&[f32], &[f32], &[f32]) = (&q, &k, &v);
    let mut o = vec![0f32; layout.query_width];
    let task = |scores: &mut Vec<f32>, (index, o): (usize, &mut [f32])| {
        let head = index * group;
        scores.resize(group * keys, 0.0);
        let (queries, keys_of) = (Matrix::rows(&q[head * heads.dim..], heads.dim), layout.key_columns(k, 0, head));
        let to = |values: &mut [f32]| SharedMut(values.as_mut_ptr());
        let output = Output { add: false, scale: heads.scale };
        // SAFETY: `scores` is borrowed mutably and holds group * keys values.
        unsafe { multiply_raw((group, keys, heads.dim), to(scores), keys, output, queries, keys_of, SERIAL) };
        for scores in scores.chunks_exact_mut(keys) {
            simd::run(
                #[inline(always)]
                || softmax(scores, 0..keys, heads.softcap),
            );
        }
        let (p, v, output) =
            (Matrix::rows(scores, keys), layout.key_rows(v, 0, head), Output { add: false, scale: 1.0 });
        // SAFETY: `o` is borrowed mutably and holds the group's heads.
        unsafe { multiply_raw((group, heads.dim, keys), to(o), heads.dim, output, p, v, SERIAL) };
    };
    let width = group * heads.dim;
    if k.len() < DECODE_SERIAL {
        let mut scores = Vec::new();
        o.chunks_exact_mut(width).enumerate().for_each(|part| task(&mut scores, part));
    } else {
        o.par_chunks_exact_mut(width).enumerate().for_each_init(Vec::new, task);
    }
    Tensor::from_vec(o, (1, layout.query_width), &Device::Cpu)
}

/// Softmax over the `seen` scores, capped before, zero for the rest; returns the log-sum-exp.
#[inline(always)]
fn softmax(scores: &mut [f32], seen: Range<usize>, softcap: Option<f32>) -> f32 {
    scores[..seen.start].fill(0.0);
    scores[seen.end..].fill(0.0);
    let scores = &mut scores[seen];
    if let Some(cap) = softcap {
        scores.iter_mut().for_each(|score| *score = cap * simd::tanh(*score / cap));
    }
    let largest = simd::max(scores);
    let sum = simd::exp_sum(scores, largest);
    let factor = 1.0 / sum;
    scores.iter_mut().for_each(|p| *p *= factor);
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
    let fresh = || Fresh::new(t * layout.query_width);
    // dk and dv of each query head apart; heads that share a key head are added up afterwards, in order
    let (mut dq, mut dk, mut dv) = (fresh(), fresh(), fresh());
    let out = Outputs { dq: dq.shared(), dk: dk.shared(), dv: dv.shared() };
    let tasks: Vec<(Range<usize>, usize)> =
        documents.ranges().flat_map(|document| (0..heads.query).map(move |head| (document.clone(), head))).collect();
    tasks.into_par_iter().for_each_init(<(Vec<f32>, Vec<f32>)>::default, |(p, dp), (document, head)| {
        for block in layout.blocks(document) {
            let scores = block.queries.len() * block.keys.len();
            if p.len() < scores {
                p.resize(scores, 0.0);
                dp.resize(scores, 0.0);
            }
            // SAFETY: task (document, head) alone touches the (document, head) parts of dq, dk and dv, block after block.
            unsafe { inputs.backward_block(&out, p, dp, head, &block) };
        }
    });
    // SAFETY: every token is a query and a key of the block that holds it, and each of its heads had a task.
    let (dq, dk, dv) = unsafe { (dq.written(), dk.written(), dv.written()) };
    let dq = Tensor::from_vec(dq, (t, layout.query_width), &Device::Cpu)?;
    let sum = |per_head: Vec<f32>| Tensor::from_vec(sum_groups(per_head, heads), (t, layout.key_width), &Device::Cpu);
    Ok((dq, sum(dk)?, sum(dv)?))
}

/// Adds the query heads of each group: (T, H*D) -> (T, K*D).
fn sum_groups(per_head: Vec<f32>, heads: Heads) -> Vec<f32> {
    let groups = heads.query / heads.key_value;
    if groups == 1 {
        return per_head;
    }
    let mut sums = Fresh::new(per_head.len() / groups);
    sums.par_chunks_mut(heads.dim).zip(per_head.par_chunks(groups * heads.dim)).for_each(|(sum, group)| {
        for head in group.chunks_exact(heads.dim) {
            sum.iter_mut().zip(head).for_each(|(sum, value)| *sum += value);
        }
    });
    sums.into_vec()
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
    /// p and dp hold a value per query and key at least.
    ///
    /// # Safety
    /// Nobody else may touch the (document, head) parts of the outputs, and the document's blocks must come in order.
    unsafe fn backward_block(&self, out: &Outputs, p: &mut [f32], dp: &mut [f32], head: usize, block: &Block) {
        let layout = self.layout;
        let (rows, keys, dim, scale) = (block.queries.len(), block.keys.len(), layout.heads.dim, layout.heads.scale);
        let (p, dp) = (&mut p[..rows * keys], &mut dp[..rows * keys]);
        block.scores(p, self.q, self.k, layout, head, scale);
        block.scores(dp, self.dy, self.v, layout, head, 1.0);
        for (row, (p, dp)) in p.chunks_exact_mut(keys).zip(dp.chunks_exact_mut(keys)).enumerate() {
            let token = block.queries.start + row;
            let at = layout.query(token, head);
            let (dy, o) = (&self.dy[at..at + dim], &self.o[at..at + dim]);
            let (lse, seen) = (self.lse[head * self.num_tokens + token], block.seen(row, &layout.heads));
            simd::run(
                #[inline(always)]
                || softmax_backward(p, dp, lse, simd::dot(dy, o), seen, layout.heads.softcap),
            );
        }
        let (queries, keys_start) = (block.queries.start, block.keys.start);
        let (q, dy) = (layout.query_rows(self.q, queries, head), layout.query_rows(self.dy, queries, head));
        let (ds, ds_columns, p_columns) = (Matrix::rows(dp, keys), Matrix::columns(dp, keys), Matrix::columns(p, keys));
        let (k, width) = (layout.key_rows(self.k, keys_start, head), layout.query_width);
        // SAFETY: the outputs' parts are this task's alone. dk and dv are (T, H*D): one part a head.
        unsafe {
            let at = |d: SharedMut, token| SharedMut(d.at(layout.query(token, head)));
            for token in block.queries.clone() {
                // its first block: the blocks before had no such key
                at(out.dk, token).0.write_bytes(0, dim);
                at(out.dv, token).0.write_bytes(0, dim);
            }
            let (dq, dk, dv) = (at(out.dq, queries), at(out.dk, keys_start), at(out.dv, keys_start));
            multiply_raw((rows, dim, keys), dq, width, Output { add: false, scale }, ds, k, SERIAL);
            multiply_raw((keys, dim, rows), dk, width, Output { add: true, scale }, ds_columns, q, SERIAL);
            multiply_raw((keys, dim, rows), dv, width, Output { add: true, scale: 1.0 }, p_columns, dy, SERIAL);
        }
    }
}

/// Turns scores into probabilities and dP into dS, in place; zero for what the query doesn't see.
#[inline(always)]
fn softmax_backward(p: &mut [f32], dp: &mut [f32], lse: f32, delta: f32, seen: Range<usize>, softcap: Option<f32>) {
    for hidden in [0..seen.start, seen.end..p.len()] {
        p[hidden.clone()].fill(0.0);
        dp[hidden].fill(0.0);
    }
    let (p, dp) = (&mut p[seen.clone()], &mut dp[seen]);
    match softcap {
        None => {
            for i in 0..p.len() {
                p[i] = simd::exp(p[i] - lse);
                dp[i] = p[i] * (dp[i] - delta);
            }
        }
        Some(cap) => {
            for i in 0..p.len() {
                let bounded = simd::tanh(p[i] / cap);
                p[i] = simd::exp(cap * bounded - lse);
                dp[i] = p[i] * (dp[i] - delta) * (1.0 - bounded * bounded);
            }
        }
    }
}
