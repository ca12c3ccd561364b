//! Linear projection on the CPU: three calls of the `gemm` crate, which packs any strides and adds in place.

use crate::gradient::Gradient;
use crate::storage::{update, view};
use candle_core::{Device, Result, Tensor};

/// A row-major matrix seen by `gemm`: element (r, c) lies at `row_stride * r + column_stride * c`.
#[derive(Clone, Copy)]
pub(crate) struct Strides {
    pub(crate) row: usize,
    pub(crate) column: usize,
}

/// `dst (m, n) = [dst +] scale * lhs (m, k) rhs (k, n)` on raw parts of buffers.
///
/// # Safety
/// Each pointer must be valid for every element its strides and sizes reach; `dst` must not overlap the others,
/// and nobody else may write it meanwhile.
#[allow(clippy::too_many_arguments)]
pub(crate) unsafe fn gemm_raw(
    (m, n, k): (usize, usize, usize),
    dst: *mut f32,
    dst_strides: Strides,
    add: bool,
    lhs: *const f32,
    lhs_strides: Strides,
    rhs: *const f32,
    rhs_strides: Strides,
    scale: f32,
    parallelism: gemm::Parallelism,
) {
    if m == 0 || n == 0 {
        return;
    }
    // SAFETY: promised by the caller.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            dst,
            dst_strides.column as isize,
            dst_strides.row as isize,
            add,
            lhs,
            lhs_strides.column as isize,
            lhs_strides.row as isize,
            rhs,
            rhs_strides.column as isize,
            rhs_strides.row as isize,
            1.0,
            scale,
            false,
            false,
            false,
            parallelism,
        );
    }
}

/// `dst (m, n) = [dst +] lhs (m, k) rhs (k, n)`, dst row-major and dense, on all threads of the pool.
pub(crate) fn gemm_into(
    (m, n, k): (usize, usize, usize),
    dst: &mut [f32],
    add: bool,
    lhs: &[f32],
    lhs_strides: Strides,
    rhs: &[f32],
    rhs_strides: Strides,
) {
    let reach = |rows: usize, columns: usize, s: Strides| match (rows, columns) {
        (0, _) | (_, 0) => 0,
        _ => (rows - 1) * s.row + (columns - 1) * s.column + 1,
    };
    assert!(dst.len() == m * n && lhs.len() >= reach(m, k, lhs_strides) && rhs.len() >= reach(k, n, rhs_strides));
    let dense = Strides { row: n, column: 1 };
    // SAFETY: the assertion above bounds every element; `dst` is borrowed mutably, so nothing else reaches it.
    unsafe {
        gemm_raw(
            (m, n, k),
            dst.as_mut_ptr(),
            dense,
            add,
            lhs.as_ptr(),
            lhs_strides,
            rhs.as_ptr(),
            rhs_strides,
            1.0,
            gemm::Parallelism::Rayon(0),
        );
    }
}

/// Rows that a projection is run with at least, so that `gemm` 0.19 sums every row in one order however many there are
/// (gemm-common's gemm.rs): it has a path of its own for one row and for up to 256 values of y, and cuts a sum of more
/// than 512 products elsewhere where neither rows nor columns are more than 64.
fn least_rows(inner: usize, out: usize) -> usize {
    let large = if inner > 512 && out <= 64 { 65 } else { 2 };
    (256 / out.max(1) + 1).max(large)
}

/// `y (rows, out) = x (rows, inner) w^T`. Rows of zeros fill up what [`least_rows`] asks for.
pub(crate) fn project(x: &[f32], w: &[f32], rows: usize, inner: usize, out: usize, y: &mut [f32]) {
    let (x_strides, w_strides) = (Strides { row: inner, column: 1 }, Strides { row: 1, column: inner });
    let least = least_rows(inner, out);
    if (1..least).contains(&rows) {
        let mut padded = vec![0f32; least * inner];
        padded[..rows * inner].copy_from_slice(&x[..rows * inner]);
        let mut all = vec![0f32; least * out];
        gemm_into((least, out, inner), &mut all, false, &padded, x_strides, w, w_strides);
        y.copy_from_slice(&all[..rows * out]);
    } else {
        gemm_into((rows, out, inner), y, false, x, x_strides, w, w_strides);
    }
}

pub(super) fn forward(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    let ((rows, inner), out) = (x.dims2()?, weight.dim(0)?);
    let weight = weight.contiguous()?;
    let mut y = vec![0f32; rows * out];
    project(&view(x)?, &view(&weight)?, rows, inner, out, &mut y);
    Tensor::from_vec(y, (rows, out), &Device::Cpu)
}

pub(super) fn backward_input(dy: &Tensor, weight: &Tensor) -> Result<Tensor> {
    let ((rows, out), inner) = (dy.dims2()?, weight.dim(1)?);
    let weight = weight.contiguous()?;
    let mut dx = vec![0f32; rows * inner];
    let (dy_strides, w_strides) = (Strides { row: out, column: 1 }, Strides { row: inner, column: 1 });
    gemm_into((rows, inner, out), &mut dx, false, &view(dy)?, dy_strides, &view(&weight)?, w_strides);
    Tensor::from_vec(dx, (rows, inner), &Device::Cpu)
}

pub(super) fn backward_weight(dy: &Tensor, x: &Tensor, gradient: &mut Gradient) -> Result<()> {
    let ((rows, out), inner) = (dy.dims2()?, x.dim(1)?);
    let add = gradient.begin();
    let (dy, x) = (view(dy)?, view(x)?);
    update("linear dW", gradient.tensor(), |dw| {
        let (dy_strides, x_strides) = (Strides { row: 1, column: out }, Strides { row: inner, column: 1 });
        gemm_into((out, inner, rows), dw, add, &dy, dy_strides, &x, x_strides);
        Ok(())
    })
}
