//! Matrix product on the CPU, `C = [C +] scale * A B`: the one kernel behind projections, attention and the head.
//!
//! B is packed into panels of as many columns as the registers take, A is read where it lies or packed where its rows
//! aren't contiguous; a block of B stays in the second-level cache while rows of A pass. A few rows read B where it lies
//! ([`few_rows`]). Every value of C is summed in the order of k, in blocks of k that depend on k alone: its bits depend
//! neither on the other rows and columns, nor on the number of threads (R10). The `gemm` crate sums a row differently
//! where there are few of them, which cost rows of zeros, and packs A on one thread. On two cores this product has its
//! speed or up to a fifth more on a small decoder's projections, a little less for the head's logits (docs/log.md).
//!
//! Left out: other types than f32, products of batches.

mod few_rows;
mod kernel;
mod pack;
mod plan;
mod transpose;

use crate::storage::SharedMut;
use kernel::Isa;
use plan::{Plan, Product};
use std::cell::RefCell;
use std::ops::Range;

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

thread_local! {
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
    let plan = Plan::new(isa, (m, n, k), threads);
    PACKED_COLUMNS.with(|buffer| {
        // taken out, so that a product which this thread steals meanwhile finds the cell free
        let mut buffer = buffer.take();
        let packed = pack::aligned(&mut buffer, plan.block_panels * plan::deepest(k) * plan.width);
        for first in (0..plan.panels).step_by(plan.block_panels) {
            let block = first..(first + plan.block_panels).min(plan.panels);
            for depth in depths(k) {
                let packed = &mut packed[..block.len() * depth.len() * plan.width];
                plan.pack_columns(packed, b, &block, &depth);
                let output = Output { add: output.add || depth.start > 0, ..output };
                let product = Product { plan: &plan, a, packed, block: block.clone(), depth, c, c_row, output };
                // SAFETY: a's reach is asserted, the caller promised c, and the tasks write disjoint parts of it.
                plan.for_each(product.num_tasks(), |index| unsafe { product.task(index) });
            }
        }
        PACKED_COLUMNS.set(buffer);
    });
}

/// The blocks of k that are summed before they are added to C.
fn depths(k: usize) -> impl Iterator<Item = Range<usize>> {
    let blocks = k.div_ceil(MOST_DEPTH);
    (0..blocks).map(move |block| block * k / blocks..(block + 1) * k / blocks)
}

#[cfg(test)]
mod tests;
