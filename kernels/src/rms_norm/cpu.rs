//! RMS normalisation on the CPU: rows in parallel; the weight's gradient from partial sums per fixed group of rows,
//! added in the order of the groups, so that the number of threads changes nothing.

use crate::fresh::Fresh;
use crate::gradient::Gradient;
use crate::simd;
use crate::storage::{update, view};
use candle_core::{Device, Result, Tensor};
use rayon::prelude::*;

/// Rows a task takes; also the groups of the weight gradient's partial sums.
const ROWS: usize = 32;

pub(super) fn forward(x: &Tensor, weight: &Tensor, eps: f32) -> Result<(Tensor, Tensor)> {
    let (rows, c) = x.dims2()?;
    let weight = weight.contiguous()?;
    let (x, w) = (view(x)?, view(&weight)?);
    let (x, w): (&[f32], &[f32]) = (&x, &w);
    let (mut y, mut rstd) = (Fresh::new(rows * c), Fresh::new(rows));
    y.par_chunks_mut(ROWS * c).zip(rstd.par_chunks_mut(ROWS)).zip(x.par_chunks(ROWS * c)).for_each(|((y, rstd), x)| {
        simd::run(
            #[inline(always)]
            || {
                for ((y, rstd), x) in y.chunks_exact_mut(c).zip(rstd).zip(x.chunks_exact(c)) {
                    let r = 1.0 / (simd::dot(x, x) / c as f32 + eps).sqrt();
                    *rstd = r;
                    for i in 0..c {
                        y[i] = x[i] * r * w[i];
                    }
                }
            },
        );
    });
    Ok((
        Tensor::from_vec(y.into_vec(), (rows, c), &Device::Cpu)?,
        Tensor::from_vec(rstd.into_vec(), rows, &Device::Cpu)?,
    ))
}

pub(super) fn backward(
    dy: &Tensor,
    x: &Tensor,
    weight: &Tensor,
    rstd: &Tensor,
    gradient: Option<&mut Gradient>,
) -> Result<Tensor> {
    let (rows, c) = x.dims2()?;
    let weight = weight.contiguous()?;
    let (dy, x, w, rstd) = (view(dy)?, view(x)?, view(&weight)?, view(rstd)?);
    let (dy, x, w, rstd): (&[f32], &[f32], &[f32], &[f32]) = (&dy, &x, &w, &rstd);
    let groups = rows.div_ceil(ROWS);
    let mut dx = Fresh::new(rows * c);
    let mut partial = vec![0f32; if gradient.is_some() { groups * c } else { 0 }];
    let tasks =
        dx.par_chunks_mut(ROWS * c).zip(dy.par_chunks(ROWS * c)).zip(x.par_chunks(ROWS * c)).zip(rstd.par_chunks(ROWS));
    if gradient.is_some() {
        tasks.zip(partial.par_chunks_mut(c)).for_each(|((((dx, dy), x), rstd), dw)| {
            simd::run(
                #[inline(always)]
                || rows_backward(dx, dy, x, w, rstd, Some(dw)),
            );
        });
    } else {
        tasks.for_each(|(((dx, dy), x), rstd)| {
            simd::run(
                #[inline(always)]
                || rows_backward(dx, dy, x, w, rstd, None),
            )
        });
    }
    if let Some(gradient) = gradient {
        let add = gradient.begin();
        update("rms_norm dw", gradient.tensor(), |dw| {
            if !add {
                dw.fill(0.0);
            }
            for group in partial.chunks_exact(c) {
                dw.iter_mut().zip(group).for_each(|(sum, value)| *sum += value);
            }
            Ok(())
        })?;
    }
    Tensor::from_vec(dx.into_vec(), (rows, c), &Device::Cpu)
}

#[inline(always)]
fn rows_backward(dx: &mut [f32], dy: &[f32], x: &[f32], w: &[f32], rstd: &[f32], mut dw: Option<&mut [f32]>) {
    let c = w.len();
    for (((dx, dy), x), &r) in dx.chunks_exact_mut(c).zip(dy.chunks_exact(c)).zip(x.chunks_exact(c)).zip(rstd) {
        for i in 0..c {
            dx[i] = dy[i] * w[i];
        }
        let mean = simd::dot(dx, x) * r * r / c as f32;
        for i in 0..c {
            dx[i] = r * (dx[i] - x[i] * mean);
        }
        if let Some(dw) = &mut dw {
            for i in 0..c {
                dw[i] += dy[i] * x[i] * r;
            }
        }
    }
}
