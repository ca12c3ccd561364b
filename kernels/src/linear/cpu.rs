//! Linear projection on the CPU: three matrix products, the weight's gradient added in place.

use crate::fresh::Fresh;
use crate::gradient::Gradient;
use crate::matmul::{Matrix, Output, Threads, multiply, multiply_raw};
use crate::storage::{update, view};
use candle_core::{Device, Result, Tensor};
use rayon::prelude::*;

const OVERWRITE: Output = Output { add: false, scale: 1.0 };

/// A fresh `c (m, n) = a (m, k) b (k, n)`.
fn product((m, n, k): (usize, usize, usize), a: Matrix, b: Matrix) -> Result<Tensor> {
    let mut c = Fresh::new(m * n);
    // SAFETY: c is m rows of n, all of which the product writes.
    let c = unsafe {
        multiply_raw((m, n, k), c.shared(), n, OVERWRITE, a, b, Threads::Pool);
        c.written()
    };
    Tensor::from_vec(c, (m, n), &Device::Cpu)
}

pub(super) fn forward(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    let ((rows, inner), out) = (x.dims2()?, weight.dim(0)?);
    let weight = weight.contiguous()?;
    let (x, w) = (view(x)?, view(&weight)?);
    product((rows, out, inner), Matrix::rows(&x, inner), Matrix::columns(&w, inner))
}

/// Rows a task of the bias takes; also the groups of its gradient's partial sums.
const ROWS: usize = 32;

pub(super) fn add_bias(y: &Tensor, bias: &Tensor) -> Result<()> {
    let out = y.dim(1)?;
    let bias = view(bias)?;
    let bias: &[f32] = &bias;
    update("linear bias", y, |y| {
        y.par_chunks_mut((ROWS * out).max(1)).for_each(|rows| {
            for row in rows.chunks_exact_mut(out.max(1)) {
                row.iter_mut().zip(bias).for_each(|(y, b)| *y += b);
            }
        });
        Ok(())
    })
}

pub(super) fn backward_bias(dy: &Tensor, gradient: &mut Gradient) -> Result<()> {
    let out = dy.dim(1)?;
    let add = gradient.begin();
    let dy = view(dy)?;
    let dy: &[f32] = &dy;
    let partial: Vec<Vec<f32>> = dy.par_chunks((ROWS * out).max(1)).map(|rows| column_sums(rows, out)).collect();
    let sums = column_sums(&partial.concat(), out);
    update("linear dbias", gradient.tensor(), |dbias| {
        dbias.iter_mut().zip(sums).for_each(|(d, sum)| *d = if add { *d + sum } else { sum });
        Ok(())
    })
}

fn column_sums(rows: &[f32], width: usize) -> Vec<f32> {
    let mut sums = vec![0f32; width];
    for row in rows.chunks_exact(width.max(1)) {
        sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
    }
    sums
}

pub(super) fn backward_input(dy: &Tensor, weight: &Tensor) -> Result<Tensor> {
    let ((rows, out), inner) = (dy.dims2()?, weight.dim(1)?);
    let weight = weight.contiguous()?;
    let (dy, w) = (view(dy)?, view(&weight)?);
    product((rows, inner, out), Matrix::rows(&dy, out), Matrix::rows(&w, inner))
}

pub(super) fn backward_weight(dy: &Tensor, x: &Tensor, gradient: &mut Gradient) -> Result<()> {
    let ((rows, out), inner) = (dy.dims2()?, x.dim(1)?);
    let add = gradient.begin();
    let (dy, x) = (view(dy)?, view(x)?);
    update("linear dW", gradient.tensor(), |dw| {
        multiply((out, inner, rows), dw, add, Matrix::columns(&dy, out), Matrix::rows(&x, inner));
        Ok(())
    })
}
