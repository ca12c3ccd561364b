//! GELU on the CPU: chunks in parallel, one read and one write.

use super::{Form, scalar};
use crate::fresh::Fresh;
use crate::simd;
use crate::storage::view;
use candle_core::{Device, Result, Tensor};
use rayon::prelude::*;

/// Values a task takes.
const CHUNK: usize = 8 * 1024;

pub(super) fn forward(x: &Tensor, form: Form) -> Result<Tensor> {
    match form {
        Form::Erf => map(x, scalar::erf_value),
        Form::Tanh => map(x, scalar::tanh_value),
    }
}

pub(super) fn backward(dy: &Tensor, x: &Tensor, form: Form) -> Result<Tensor> {
    // Closures that are inlined: a function's name would be called, compiled for the baseline instruction set.
    match form {
        Form::Erf => chunks_backward(
            dy,
            x,
            #[inline(always)]
            |dx, d, x| {
                for i in 0..dx.len() {
                    dx[i] = scalar::erf_below(x[i]);
                }
                for i in 0..dx.len() {
                    dx[i] = d[i] * scalar::erf_slope(x[i], dx[i]); // a loop with both exponentials isn't vectorised
                }
            },
        ),
        Form::Tanh => chunks_backward(
            dy,
            x,
            #[inline(always)]
            |dx, d, x| {
                for i in 0..dx.len() {
                    dx[i] = d[i] * scalar::tanh_both(x[i]).1;
                }
            },
        ),
    }
}

#[inline(always)]
fn map(x: &Tensor, value: impl Fn(f32) -> f32 + Sync) -> Result<Tensor> {
    let values = view(x)?;
    let values: &[f32] = &values;
    let mut y = Fresh::new(values.len());
    y.par_chunks_mut(CHUNK).zip(values.par_chunks(CHUNK)).for_each(|(y, x)| {
        simd::run(
            #[inline(always)]
            || {
                let x = &x[..y.len()]; // one length: a bounds check in the loop would keep it scalar
                for i in 0..y.len() {
                    y[i] = value(x[i]);
                }
            },
        );
    });
    Tensor::from_vec(y.into_vec(), x.shape(), &Device::Cpu)
}

/// `chunk` takes dx, dy and x, equally long, and writes dx.
#[inline(always)]
fn chunks_backward(dy: &Tensor, x: &Tensor, chunk: impl Fn(&mut [f32], &[f32], &[f32]) + Sync) -> Result<Tensor> {
    let (d, values) = (view(dy)?, view(x)?);
    let (d, values): (&[f32], &[f32]) = (&d, &values);
    let mut dx = Fresh::new(values.len());
    dx.par_chunks_mut(CHUNK).zip(d.par_chunks(CHUNK)).zip(values.par_chunks(CHUNK)).for_each(|((dx, d), x)| {
        simd::run(
            #[inline(always)]
            || {
                let (d, x) = (&d[..dx.len()], &x[..dx.len()]);
                chunk(dx, d, x);
            },
        );
    });
    Tensor::from_vec(dx.into_vec(), x.shape(), &Device::Cpu)
}
