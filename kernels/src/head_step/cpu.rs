//! The head's step on the CPU: tiles of rows in parallel, explicit vectors. Left to the compiler, the same loops took
//! several times as long.
//!
//! A tile's gradient (rows x C floats) stays in the first cache between being summed and being used.

use crate::adamw::{Factors, Update};
use crate::storage::{update, view};
use candle_core::{Result, Tensor};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;
use std::sync::OnceLock;

/// Rows of the vocabulary whose gradients are summed together: each value of H is loaded once for all of them.
const ROWS: usize = 4;
/// Tiles of a task.
const TILES: usize = 8;

fn arch() -> pulp::Arch {
    static ARCH: OnceLock<pulp::Arch> = OnceLock::new();
    *ARCH.get_or_init(pulp::Arch::new)
}

pub(super) fn norm(dlogits: &Tensor, h: &Tensor) -> Result<f64> {
    let ((k, vocabulary), channels) = (dlogits.dims2()?, h.dim(1)?);
    let (p, h) = (view(dlogits)?, view(h)?);
    let (p, h): (&[f32], &[f32]) = (&p, &h);
    let row = |i: usize| {
        let products = (0..=i).map(|j| {
            let pp = dot(&p[i * vocabulary..][..vocabulary], &p[j * vocabulary..][..vocabulary]);
            let hh = dot(&h[i * channels..][..channels], &h[j * channels..][..channels]);
            if i == j { pp * hh } else { 2.0 * pp * hh }
        });
        products.sum::<f64>()
    };
    let rows: Vec<f64> = (0..k).into_par_iter().map(row).collect();
    // rounding may leave a zero norm a little below zero; a NaN stays one
    let sum: f64 = rows.iter().sum();
    Ok(if sum < 0.0 { 0.0 } else { sum.sqrt() })
}

/// Sum of products in f64.
fn dot(a: &[f32], b: &[f32]) -> f64 {
    crate::simd::run(
        #[inline(always)]
        || crate::simd::dot_f64(a, b),
    )
}

pub(super) fn step(
    weight: &Tensor,
    first: &Tensor,
    second: &Tensor,
    dlogits: &Tensor,
    h: &Tensor,
    numbers: &Update,
) -> Result<()> {
    let ((k, vocabulary), channels) = (dlogits.dims2()?, h.dim(1)?);
    let (p, h) = (view(dlogits)?, view(h)?);
    let (p, h): (&[f32], &[f32]) = (&p, &h);
    let (factors, size) = (numbers.factors(), ROWS * TILES * channels);
    update("head_step first moment", first, |m| {
        update("head_step second moment", second, |v| {
            update("head_step weight", weight, |w| {
                let parts = w.par_chunks_mut(size).zip(m.par_chunks_mut(size)).zip(v.par_chunks_mut(size)).enumerate();
                parts.for_each_init(
                    || (vec![0f32; ROWS * channels], vec![0f32; ROWS * k]),
                    |(gradient, coefficients), (index, ((w, m), v))| {
                        let tiles = w.chunks_mut(ROWS * channels).zip(m.chunks_mut(ROWS * channels));
                        for (tile, ((w, m), v)) in tiles.zip(v.chunks_mut(ROWS * channels)).enumerate() {
                            let begin = (index * TILES + tile) * ROWS;
                            let rows = w.len() / channels;
                            gather(p, vocabulary, begin, rows, coefficients);
                            let gradient = &mut gradient[..];
                            arch().dispatch(Sum { h, coefficients, channels, gradient });
                            arch().dispatch(Adam { w, m, v, g: &gradient[..rows * channels], factors });
                        }
                    },
                );
                Ok(())
            })
        })
    })
}

/// The tile's part of P, target by target; zeros for rows beyond the vocabulary.
fn gather(p: &[f32], vocabulary: usize, begin: usize, rows: usize, to: &mut [f32]) {
    for (target, to) in to.as_chunks_mut::<ROWS>().0.iter_mut().enumerate() {
        *to = [0.0; ROWS];
        to[..rows].copy_from_slice(&p[target * vocabulary + begin..][..rows]);
    }
}

/// `gradient (ROWS, C) = coefficients^T (ROWS, k) h (k, C)`, each value summed target by target in fused steps.
struct Sum<'a> {
    h: &'a [f32],
    coefficients: &'a [f32],
    channels: usize,
    gradient: &'a mut [f32],
}

impl WithSimd for Sum<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { h, coefficients, channels, gradient } = self;
        let coefficients = coefficients.as_chunks::<ROWS>().0;
        let (g0, rest) = gradient.split_at_mut(channels);
        let (g1, rest) = rest.split_at_mut(channels);
        let (g2, g3) = rest.split_at_mut(channels);
        let lanes = S::F32_LANES;
        let whole = channels / (2 * lanes) * (2 * lanes);
        for at in (0..whole).step_by(2 * lanes) {
            let zero = simd.splat_f32s(0.0);
            let mut sums = [[zero; 2]; ROWS];
            for (target, p) in coefficients.iter().enumerate() {
                let (x, _) = S::as_simd_f32s(&h[target * channels + at..][..2 * lanes]);
                let [x0, x1] = [x[0], x[1]];
                for row in 0..ROWS {
                    let p = simd.splat_f32s(p[row]);
                    sums[row][0] = simd.mul_add_f32s(p, x0, sums[row][0]);
                    sums[row][1] = simd.mul_add_f32s(p, x1, sums[row][1]);
                }
            }
            for (g, sums) in [&mut *g0, &mut *g1, &mut *g2, &mut *g3].into_iter().zip(sums) {
                let (g, _) = S::as_mut_simd_f32s(&mut g[at..][..2 * lanes]);
                g[0] = sums[0];
                g[1] = sums[1];
            }
        }
        for at in whole..channels {
            for (row, g) in [&mut *g0, &mut *g1, &mut *g2, &mut *g3].into_iter().enumerate() {
                let terms = coefficients.iter().enumerate();
                g[at] = terms.fold(0.0, |sum, (target, p)| p[row].mul_add(h[target * channels + at], sum));
            }
        }
    }
}

/// AdamW over slices of equal length, in the order of [`crate::adamw::cpu::chunk`], which does the rest.
struct Adam<'a> {
    w: &'a mut [f32],
    m: &'a mut [f32],
    v: &'a mut [f32],
    g: &'a [f32],
    factors: Factors,
}

impl WithSimd for Adam<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { w, m, v, g, factors: f } = self;
        let splat = |value: f32| simd.splat_f32s(value);
        let (keep, one_minus_beta1, beta2) = (splat(f.keep), splat(f.one_minus_beta1), splat(f.beta2));
        let (one_minus_beta2, root_factor) = (splat(f.one_minus_beta2), splat(f.root_factor));
        let (step_size, epsilon, scale) = (splat(f.step_size), splat(f.epsilon), splat(f.scale));
        let ((w, w_rest), (m, m_rest)) = (S::as_mut_simd_f32s(w), S::as_mut_simd_f32s(m));
        let ((v, v_rest), (g, g_rest)) = (S::as_mut_simd_f32s(v), S::as_simd_f32s(g));
        for (((w, m), v), g) in w.iter_mut().zip(m).zip(v).zip(g) {
            let g = simd.mul_f32s(*g, scale);
            let first = simd.add_f32s(*m, simd.mul_f32s(one_minus_beta1, simd.sub_f32s(g, *m)));
            let squared = simd.mul_f32s(simd.mul_f32s(one_minus_beta2, g), g);
            let second = simd.add_f32s(simd.mul_f32s(beta2, *v), squared);
            let root = simd.add_f32s(simd.mul_f32s(simd.sqrt_f32s(second), root_factor), epsilon);
            let moved = simd.mul_f32s(step_size, simd.div_f32s(first, root));
            *w = simd.sub_f32s(simd.mul_f32s(*w, keep), moved);
            *m = first;
            *v = second;
        }
        crate::adamw::cpu::chunk(w_rest, m_rest, v_rest, g_rest, f);
    }
}
