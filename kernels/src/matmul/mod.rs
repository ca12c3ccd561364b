//! Matrix product on the CPU, `C = [C +] scale * A B`: the one kernel behind projections, attention and the head.
//!
//! B is packed into panels of as many columns as the registers take, A is read where it lies or packed where its rows
//! aren't contiguous; a block of B stays in the second-level cache while rows of A pass. A few rows read B where it lies
//! ([`few_rows`]). Every value of C is summed in the order of k, in blocks of k that depend on k alone: its bits depend
//! neither on the other rows and columns, nor on the number of threads (R10). The `gemm` crate sums a row differently
//! where there are few of them, which cost rows of zeros, and packs A on one thread. On two cores this product has its
//! speed or a little more on a small decoder's projections, and less on the head's shapes (benches/results).
//!
//! Left out: other types than f32, products of batches.

mod few_rows;
mod kernel;
mod pack;
mod transpose;

use crate::storage::SharedMut;
use kernel::{Isa, Shape};
use rayon::prelude::*;
use std::cell::RefCell;

/// A matrix seen in a buffer: element (r, c) lies at `row * r + column * c`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Strides {
    pub(crate) row: usize,
    pub(crate) column: usize,
}

impl Strides {
    /// Rows that lie one behind the other.
    pub(crate) fn rows(width: usize) -> Self {
        Self { row: width, column: 1 }
    }

    /// The transpose of a matrix with rows of that width.
    pub(crate) fn columns(width: usize) -> Self {
        Self { row: 1, column: width }
    }

    /// Length of a buffer that holds a matrix of that size.
    fn reach(self, rows: usize, columns: usize) -> usize {
        if rows == 0 || columns == 0 { 0 } else { (rows - 1) * self.row + (columns - 1) * self.column + 1 }
    }
}

/// An operand: its buffer and how it lies there.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) strides: Strides,
}

impl<'a> Matrix<'a> {
    pub(crate) fn rows(values: &'a [f32], width: usize) -> Self {
        Self { values, strides: Strides::rows(width) }
    }

    /// The transpose of a matrix with rows of that width.
    pub(crate) fn columns(values: &'a [f32], width: usize) -> Self {
        Self { values, strides: Strides::columns(width) }
    }
}

/// Most products summed before they are added to C: 8 rows of A take 20 KiB of the first-level cache.
const MOST_DEPTH: usize = 640;
/// Bytes of packed B that a task works with: they stay in the second-level cache.
const TASK_BYTES: usize = 1 << 20;
/// Most micro-panels of rows that a task takes.
const ROW_PANELS: usize = 12;
/// Multiplications below which threads cost more than they give.
const SERIAL: usize = 1 << 19;

thread_local! {
    /// Packed A of the task that this thread runs; a task starts no other work of the pool.
    static PACKED_ROWS: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
    /// Packed B of the products that this thread started.
    static PACKED_COLUMNS: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// What the product does with C.
#[derive(Clone, Copy)]
pub(crate) struct Output {
    /// Added to C, or written over it.
    pub(crate) add: bool,
    /// Factor of the product.
    pub(crate) scale: f32,
}

/// Where it runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Threads {
    /// All of the pool.
    Pool,
    /// The caller's alone: for tasks that are parallel themselves.
    Caller,
}

/// `c (m, n) = [c +] a (m, k) b (k, n)`, c dense.
pub(crate) fn multiply((m, n, k): (usize, usize, usize), c: &mut [f32], add: bool, a: Matrix, b: Matrix) {
    assert!(c.len() == m * n);
    // SAFETY: c is borrowed mutably and holds m rows of n.
    unsafe { multiply_raw((m, n, k), SharedMut(c.as_mut_ptr()), n, Output { add, scale: 1.0 }, a, b, Threads::Pool) };
}

/// `c (m, n) = [c +] scale * a (m, k) b (k, n)`, rows of c `c_row` apart.
///
/// # Safety
/// `c` must be valid for `m` rows of `n` values, and nobody else may touch them meanwhile.
pub(crate) unsafe fn multiply_raw(
    (m, n, k): (usize, usize, usize),
    c: SharedMut,
    c_row: usize,
    output: Output,
    a: Matrix,
    b: Matrix,
    threads: Threads,
) {
    assert!(a.values.len() >= a.strides.reach(m, k) && b.values.len() >= b.strides.reach(k, n));
    if m == 0 || n == 0 {
        return;
    }
    if k == 0 {
        if !output.add {
            for row in 0..m {
                // SAFETY: promised by the caller.
                unsafe { std::slice::from_raw_parts_mut(c.at(row * c_row), n).fill(0.0) };
            }
        }
        return;
    }
    let isa = Isa::detected();
    if few_rows::applies(isa, m, a, b) {
        // SAFETY: promised by the caller, and asserted.
        return unsafe { few_rows::multiply(isa, (m, n, k), c, c_row, output, a, b, threads) };
    }
    let shape = isa.shape(n);
    let width = shape.columns(isa);
    let parallel = threads == Threads::Pool && m.saturating_mul(n).saturating_mul(k) >= SERIAL;
    let num_threads = if parallel { rayon::current_num_threads() } else { 1 };
    let panels = n.div_ceil(width);
    // columns that are packed at once: a cache full for each thread
    let deepest = k.div_ceil(k.div_ceil(MOST_DEPTH));
    let task_panels = (TASK_BYTES / (deepest * width * size_of::<f32>())).max(1);
    let block_panels = panels.div_ceil(panels.div_ceil(task_panels * num_threads));
    let row_blocks = m.div_ceil(shape.rows * ROW_PANELS);
    let block_rows = m.div_ceil(row_blocks).next_multiple_of(shape.rows); // alike, so that no thread waits
    PACKED_COLUMNS.with(|packed| {
        // taken out, so that a product which this thread steals meanwhile finds the cell free
        let mut packed = packed.take();
        let needed = block_panels * deepest * width;
        if packed.len() < needed {
            packed.resize(needed, 0.0);
        }
        for first_panel in (0..panels).step_by(block_panels) {
            let block = first_panel..(first_panel + block_panels).min(panels);
            for depth in depths(k) {
                let panel_len = depth.len() * width;
                let pack = |(index, panel): (usize, &mut [f32])| {
                    let first = (block.start + index) * width;
                    pack::columns(isa, panel, b, depth.clone(), first..(first + width).min(n), width);
                };
                let destination = &mut packed[..block.len() * panel_len];
                if parallel {
                    destination.par_chunks_mut(panel_len).enumerate().for_each(pack);
                } else {
                    destination.chunks_mut(panel_len).enumerate().for_each(pack);
                }
                let packed: &[f32] = destination;
                let groups = block.len().div_ceil(task_panels);
                let output = Output { add: output.add || depth.start > 0, ..output };
                let task = |index: usize| {
                    let (group, row_block) = (index / row_blocks, index % row_blocks);
                    let (from, to) = (group * block.len() / groups, (group + 1) * block.len() / groups);
                    let first_row = (row_block * block_rows).min(m);
                    let rows = first_row..(first_row + block_rows).min(m);
                    let first_column = (block.start + from) * width;
                    let columns = first_column..((block.start + to) * width).min(n);
                    let panels = &packed[from * panel_len..to * panel_len];
                    // SAFETY: the tasks write disjoint (rows, columns) parts of c, which the caller promised.
                    unsafe { product(isa, shape, a, rows, depth.clone(), panels, c, c_row, columns, output) };
                };
                if parallel {
                    (0..groups * row_blocks).into_par_iter().for_each(task);
                } else {
                    (0..groups * row_blocks).for_each(task);
                }
            }
        }
        PACKED_COLUMNS.set(packed);
    });
}

/// The blocks of k that are summed before they are added to C.
fn depths(k: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    let blocks = k.div_ceil(MOST_DEPTH);
    (0..blocks).map(move |block| block * k / blocks..(block + 1) * k / blocks)
}

/// The product of a block of rows of A with packed panels of B.
///
/// # Safety
/// The (rows, columns) part of c must be valid and the caller's alone.
#[allow(clippy::too_many_arguments)]
unsafe fn product(
    isa: Isa,
    shape: Shape,
    a: Matrix,
    rows: std::ops::Range<usize>,
    depth: std::ops::Range<usize>,
    panels: &[f32],
    c: SharedMut,
    c_row: usize,
    columns: std::ops::Range<usize>,
    output: Output,
) {
    let width = shape.columns(isa);
    PACKED_ROWS.with_borrow_mut(|packed| {
        let in_place = a.strides.column == 1;
        if !in_place {
            pack::rows(packed, a, rows.clone(), depth.clone(), shape.rows);
        }
        for (index, row) in rows.clone().step_by(shape.rows).enumerate() {
            let count = shape.rows.min(rows.end - row);
            let (values, row_stride, depth_stride) = if in_place {
                (&a.values[row * a.strides.row + depth.start..], a.strides.row, 1)
            } else {
                (&packed[index * shape.rows * depth.len()..], 1, shape.rows)
            };
            for (panel, column) in panels.chunks_exact(depth.len() * width).zip(columns.clone().step_by(width)) {
                let part = kernel::Part {
                    depth: depth.len(),
                    a: values.as_ptr(),
                    row_stride,
                    depth_stride,
                    b: panel.as_ptr(),
                    // SAFETY: inside c, as the caller promised.
                    c: unsafe { c.at(row * c_row + column) },
                    c_row,
                    columns: width.min(columns.end - column),
                    output,
                };
                // SAFETY: `values` reaches `count` rows of that depth: in place since `multiply_raw` asserted a's reach,
                // packed since `pack::rows` filled it; the panel holds depth * width values; c is the caller's.
                unsafe { kernel::run(isa, shape, count, &part) };
            }
        }
    });
}

#[cfg(test)]
mod tests;
