//! Rotation on the CPU: tokens in parallel, one read and one write of x.

use crate::fresh::Fresh;
use crate::simd;
use crate::storage::view;
use candle_core::{Device, Result, Tensor};
use rayon::prelude::*;

/// Tokens a task takes.
const TOKENS: usize = 16;

pub(super) fn rotate(
    x: &Tensor,
    num_heads: usize,
    positions: &[u32],
    cos: &Tensor,
    sin: &Tensor,
    direction: f32,
) -> Result<Tensor> {
    let (t, width) = x.dims2()?;
    let (dim, half) = (width / num_heads, cos.dim(1)?);
    let (x, cos, sin) = (view(x)?, view(cos)?, view(sin)?);
    let (x, cos, sin): (&[f32], &[f32], &[f32]) = (&x, &cos, &sin);
    let mut y = Fresh::new(t * width);
    let tasks = y.par_chunks_mut(TOKENS * width).zip(x.par_chunks(TOKENS * width)).zip(positions.par_chunks(TOKENS));
    tasks.for_each(|((y, x), positions)| {
        simd::run(
            #[inline(always)]
            || {
                for ((y, x), &position) in y.chunks_exact_mut(width).zip(x.chunks_exact(width)).zip(positions) {
                    let at = position as usize * half;
                    let (cos, sin) = (&cos[at..at + half], &sin[at..at + half]);
                    for (y, x) in y.chunks_exact_mut(dim).zip(x.chunks_exact(dim)) {
                        rotate_head(y, x, cos, sin, direction);
                    }
                }
            },
        );
    });
    Tensor::from_vec(y.into_vec(), (t, width), &Device::Cpu)
}

#[inline(always)]
fn rotate_head(y: &mut [f32], x: &[f32], cos: &[f32], sin: &[f32], direction: f32) {
    let half = cos.len();
    let (a, b, rest) = (&x[..half], &x[half..2 * half], &x[2 * half..]);
    let (first, tail) = y.split_at_mut(half);
    let (second, tail) = tail.split_at_mut(half);
    for i in 0..half {
        let sin = sin[i] * direction;
        first[i] = a[i] * cos[i] - b[i] * sin;
        second[i] = b[i] * cos[i] + a[i] * sin;
    }
    tail.copy_from_slice(rest);
}
