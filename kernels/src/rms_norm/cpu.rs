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

/// Where a residual is given, `x + residual` is made, returned, and normalised; else x is.
pub(super) fn forward(
    x: &Tensor,
    residual: Option<&Tensor>,
    weight: &Tensor,
    eps: f32,
) -> Result<(Option<Tensor>, Tensor, Tensor)> {
    let (rows, c) = x.dims2()?;
    let weight = weight.contiguous()?;
    let residual = residual.map(view).transpose()?;
    let (x, w) = (view(x)?, view(&weight)?);
    let (x, w, residual): (&[f32], &[f32], Option<&[f32]>) = (&x, &w, residual.as_deref());
    let (mut y, mut rstd) = (Fresh::new(rows * c), Fresh::new(rows));
    let tasks = y.par_chunks_mut(ROWS * c).zip(rstd.par_chunks_mut(ROWS)).zip(x.par_chunks(ROWS * c));
    let mut sum = residual.map(|_| Fresh::new(rows * c));
    match (&mut sum, residual) {
        (Some(sum), Some(residual)) => {
            tasks.zip(sum.par_chunks_mut(ROWS * c).zip(residual.par_chunks(ROWS * c))).for_each(
                |(((y, rstd), x), (sum, residual))| {
                    simd::run(
                        #[inline(always)]
                        || {
                            sum.iter_mut().zip(x).zip(residual).for_each(|((sum, x), r)| *sum = x + r);
                            normalise(y, sum, rstd, w, eps);
                        },
                    );
                },
            );
        }
        _ => tasks.for_each(|((y, rstd), x)| {
            simd::run(
                #[inline(always)]
                || normalise(y, x, rstd, w, eps),
            );
        }),
    }
    let matrix = |values: Fresh| Tensor::from_vec(values.into_vec(), (rows, c), &Device::Cpu);
    Ok((sum.map(matrix).transpose()?, matrix(y)?, Tensor::from_vec(rstd.into_vec(), rows, &Device::Cpu)?))
}

#[inline(always)]
fn normalise(y: &mut [f32], x: &[f32], rstd: &mut [f32], w: &[f32], eps: f32) {
    let c = w.len();
    for ((y, rstd), x) in y.chunks_exact_mut(c).zip(rstd).zip(x.chunks_exact(c)) {
        let r = 1.0 / (simd::dot(x, x) / c as f32 + eps).sqrt();
        *rstd = r;
        for i in 0..c {
            y[i] = x[i] * r * w[i];
        }
    }
}

/// What the rows' loop reads.
#[derive(Clone, Copy)]
struct Inputs<'a> {
    dy: &'a [f32],
    x: &'a [f32],
    weight: &'a [f32],
    rstd: &'a [f32],
    residual: Option<&'a [f32]>,
}

impl Inputs<'_> {
    /// The part of one group of rows.
    fn group(&self, index: usize) -> Self {
        let c = self.weight.len();
        let rows = index * ROWS..((index + 1) * ROWS).min(self.rstd.len());
        let values = rows.start * c..rows.end * c;
        Self {
            dy: &self.dy[values.clone()],
            x: &self.x[values.clone()],
            weight: self.weight,
            rstd: &self.rstd[rows],
            residual: self.residual.map(|residual| &residual[values]),
        }
    }
}

pub(super) fn backward(
    dy: &Tensor,
    x: &Tensor,
    weight: &Tensor,
    rstd: &Tensor,
    residual: Option<&Tensor>,
    gradient: Option<&mut Gradient>,
) -> Result<Tensor> {
    let (rows, c) = x.dims2()?;
    let weight = weight.contiguous()?;
    let residual = residual.map(view).transpose()?;
    let (dy, x, w, rstd) = (view(dy)?, view(x)?, view(&weight)?, view(rstd)?);
    let inputs = Inputs { dy: &dy, x: &x, weight: &w, rstd: &rstd, residual: residual.as_deref() };
    let groups = rows.div_ceil(ROWS);
    let mut dx = Fresh::new(rows * c);
    let mut partial = vec![0f32; if gradient.is_some() { groups * c } else { 0 }];
    let tasks = dx.par_chunks_mut(ROWS * c).enumerate();
    if gradient.is_some() {
        tasks.zip(partial.par_chunks_mut(c)).for_each(|((index, dx), dw)| {
            simd::run(
                #[inline(always)]
                || rows_backward(dx, inputs.group(index), Some(dw)),
            );
        });
    } else {
        tasks.for_each(|(index, dx)| {
            simd::run(
                #[inline(always)]
                || rows_backward(dx, inputs.group(index), None),
            );
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
fn rows_backward(dx: &mut [f32], inputs: Inputs, mut dw: Option<&mut [f32]>) {
    let (w, c) = (inputs.weight, inputs.weight.len());
    for (row, dx) in dx.chunks_exact_mut(c).enumerate() {
        let at = row * c;
        let (dy, x, r) = (&inputs.dy[at..at + c], &inputs.x[at..at + c], inputs.rstd[row]);
        for i in 0..c {
            dx[i] = dy[i] * w[i];
        }
        let mean = simd::dot(dx, x) * r * r / c as f32;
        for i in 0..c {
            dx[i] = r * (dx[i] - x[i] * mean);
        }
        if let Some(dw) = &mut dw {
            let dw = &mut dw[..c];
            for i in 0..c {
                dw[i] += dy[i] * x[i] * r;
            }
        }
        if let Some(residual) = inputs.residual {
            dx.iter_mut().zip(&residual[at..at + c]).for_each(|(dx, r)| *dx += r);
        }
    }
}
