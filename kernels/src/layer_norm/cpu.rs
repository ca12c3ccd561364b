//! Layer normalisation on the CPU: rows in parallel; the gradients of weight and bias from partial sums per fixed group
//! of rows, added in the order of the groups, so that the number of threads changes nothing.

use super::{Norm, Normed, Statistics};
use crate::fresh::Fresh;
use crate::gradient::Gradient;
use crate::simd;
use crate::storage::{update, view};
use candle_core::{Device, Result, Tensor};
use rayon::prelude::*;

/// Rows a task takes; also the groups of the partial sums.
const ROWS: usize = 32;

/// Where a residual is given, `x + residual` is made, returned, and normalised; else x is.
pub(super) fn forward(x: &Tensor, residual: Option<&Tensor>, norm: Norm) -> Result<(Option<Tensor>, Normed)> {
    let (rows, c) = x.dims2()?;
    let (weight, bias) = vectors(norm, c)?;
    let x = view(x)?;
    let x: &[f32] = &x;
    let residual = residual.map(view).transpose()?;
    let residual: Option<&[f32]> = residual.as_deref();
    let (mut y, mut mean, mut rstd) = (Fresh::new(rows * c), Fresh::new(rows), Fresh::new(rows));
    let mut sum = Fresh::new(if residual.is_some() { rows * c } else { 0 });
    let statistics = mean.par_chunks_mut(ROWS).zip(rstd.par_chunks_mut(ROWS));
    let tasks = y.par_chunks_mut(ROWS * c).zip(x.par_chunks(ROWS * c)).zip(statistics);
    match residual {
        Some(residual) => {
            tasks.zip(sum.par_chunks_mut(ROWS * c).zip(residual.par_chunks(ROWS * c))).for_each(
                |(((y, x), (mean, rstd)), (sum, residual))| {
                    simd::run(
                        #[inline(always)]
                        || {
                            sum.iter_mut().zip(x).zip(residual).for_each(|((sum, x), r)| *sum = x + r);
                            normalise(y, sum, mean, rstd, &weight, &bias, norm.eps);
                        },
                    );
                },
            );
        }
        None => tasks.for_each(|((y, x), (mean, rstd))| {
            simd::run(
                #[inline(always)]
                || normalise(y, x, mean, rstd, &weight, &bias, norm.eps),
            );
        }),
    }
    let matrix = |values: Fresh| Tensor::from_vec(values.into_vec(), (rows, c), &Device::Cpu);
    let vector = |values: Fresh| Tensor::from_vec(values.into_vec(), rows, &Device::Cpu);
    let sum = residual.map(|_| matrix(sum)).transpose()?;
    Ok((sum, Normed { y: matrix(y)?, statistics: Statistics { mean: vector(mean)?, rstd: vector(rstd)? } }))
}

/// Weight and bias; zeros where there is none.
fn vectors(norm: Norm, c: usize) -> Result<(Vec<f32>, Vec<f32>)> {
    let copied = |tensor: &Tensor| Ok::<_, candle_core::Error>(view(&tensor.contiguous()?)?.to_vec());
    Ok((copied(norm.weight)?, norm.bias.map_or_else(|| Ok(vec![0f32; c]), copied)?))
}

#[inline(always)]
fn normalise(y: &mut [f32], x: &[f32], mean: &mut [f32], rstd: &mut [f32], w: &[f32], b: &[f32], eps: f32) {
    let c = w.len();
    let b = &b[..c];
    for (((y, x), mean), rstd) in y.chunks_exact_mut(c).zip(x.chunks_exact(c)).zip(mean).zip(rstd) {
        *mean = sum(x) / c as f32;
        for i in 0..c {
            y[i] = x[i] - *mean;
        }
        *rstd = 1.0 / (simd::dot(y, y) / c as f32 + eps).sqrt();
        for i in 0..c {
            y[i] = y[i] * *rstd * w[i] + b[i];
        }
    }
}

/// Sum of a row, in [`simd::LANES`] partial sums.
#[inline(always)]
fn sum(values: &[f32]) -> f32 {
    let mut sums = [0f32; simd::LANES];
    let (chunks, tail) = values.as_chunks::<{ simd::LANES }>();
    for x in chunks {
        for lane in 0..simd::LANES {
            sums[lane] += x[lane];
        }
    }
    sums.iter().sum::<f32>() + tail.iter().sum::<f32>()
}

/// What the rows' loop reads.
#[derive(Clone, Copy)]
struct Inputs<'a> {
    dy: &'a [f32],
    x: &'a [f32],
    mean: &'a [f32],
    rstd: &'a [f32],
    weight: &'a [f32],
    residual: Option<&'a [f32]>,
}

impl Inputs<'_> {
    /// The part of one group of rows.
    fn group(&self, index: usize, c: usize) -> Self {
        let rows = index * ROWS..((index + 1) * ROWS).min(self.mean.len());
        let values = rows.start * c..rows.end * c;
        Self {
            dy: &self.dy[values.clone()],
            x: &self.x[values.clone()],
            mean: &self.mean[rows.clone()],
            rstd: &self.rstd[rows],
            weight: self.weight,
            residual: self.residual.map(|residual| &residual[values]),
        }
    }
}

pub(super) fn backward(
    dy: &Tensor,
    x: &Tensor,
    norm: Norm,
    statistics: &Statistics,
    residual: Option<&Tensor>,
    gradients: (Option<&mut Gradient>, Option<&mut Gradient>),
) -> Result<Tensor> {
    let (rows, c) = x.dims2()?;
    let (weight, _) = vectors(norm, c)?;
    let (mean, rstd) = (statistics.mean.contiguous()?, statistics.rstd.contiguous()?);
    let (dy, x, mean, rstd) = (view(dy)?, view(x)?, view(&mean)?, view(&rstd)?);
    let residual = residual.map(view).transpose()?;
    let inputs = Inputs { dy: &dy, x: &x, mean: &mean, rstd: &rstd, weight: &weight, residual: residual.as_deref() };
    let groups = rows.div_ceil(ROWS);
    let mut dx = Fresh::new(rows * c);
    let wanted = gradients.0.is_some() || gradients.1.is_some();
    let mut partial = vec![0f32; if wanted { groups * 2 * c } else { 0 }]; // of each group dw, then db
    let tasks = dx.par_chunks_mut(ROWS * c).enumerate();
    if wanted {
        tasks.zip(partial.par_chunks_mut(2 * c)).for_each(|((index, dx), partial)| {
            let sums = partial.split_at_mut(c);
            simd::run(
                #[inline(always)]
                || rows_backward(dx, inputs.group(index, c), Some(sums)),
            );
        });
    } else {
        tasks.for_each(|(index, dx)| {
            simd::run(
                #[inline(always)]
                || rows_backward(dx, inputs.group(index, c), None),
            );
        });
    }
    let part = |offset: usize| partial.chunks_exact(2 * c).map(move |group| &group[offset..offset + c]);
    add("layer_norm dw", gradients.0, part(0))?;
    add("layer_norm db", gradients.1, part(c))?;
    Tensor::from_vec(dx.into_vec(), (rows, c), &Device::Cpu)
}

/// Adds the groups' sums, in order.
fn add<'a>(name: &'static str, gradient: Option<&mut Gradient>, groups: impl Iterator<Item = &'a [f32]>) -> Result<()> {
    let Some(gradient) = gradient else { return Ok(()) };
    let add = gradient.begin();
    update(name, gradient.tensor(), |sums| {
        if !add {
            sums.fill(0.0);
        }
        groups.for_each(|group| sums.iter_mut().zip(group).for_each(|(sum, value)| *sum += value));
        Ok(())
    })
}

#[inline(always)]
fn rows_backward(dx: &mut [f32], inputs: Inputs, mut sums: Option<(&mut [f32], &mut [f32])>) {
    let (w, c) = (inputs.weight, inputs.weight.len());
    for (row, dx) in dx.chunks_exact_mut(c).enumerate() {
        let at = row * c;
        let (dy, x) = (&inputs.dy[at..at + c], &inputs.x[at..at + c]);
        let (mean, rstd) = (inputs.mean[row], inputs.rstd[row]);
        for i in 0..c {
            dx[i] = (x[i] - mean) * rstd; // n
        }
        if let Some((dw, db)) = &mut sums {
            for i in 0..c {
                dw[i] += dy[i] * dx[i];
                db[i] += dy[i];
            }
        }
        let mean_d = simd::dot(dy, w) / c as f32;
        let mut sums_dn = [0f32; simd::LANES];
        let split = c / simd::LANES * simd::LANES;
        for start in (0..split).step_by(simd::LANES) {
            for (lane, sum) in sums_dn.iter_mut().enumerate() {
                let i = start + lane;
                *sum += dy[i] * w[i] * dx[i];
            }
        }
        let tail: f32 = (split..c).map(|i| dy[i] * w[i] * dx[i]).sum();
        let mean_dn = (sums_dn.iter().sum::<f32>() + tail) / c as f32;
        for i in 0..c {
            dx[i] = rstd * (dy[i] * w[i] - mean_d - dx[i] * mean_dn);
        }
        if let Some(residual) = inputs.residual {
            dx.iter_mut().zip(&residual[at..at + c]).for_each(|(dx, r)| *dx += r);
        }
    }
}
