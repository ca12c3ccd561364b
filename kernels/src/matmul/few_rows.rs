//! The product of a few rows of A with a B whose columns are contiguous: a weight [out, in] that generation reads once for
//! each token. Squares of B are transposed in registers and multiplied there, nothing is packed: the cost is one read of
//! B. Every value is summed as in [`super::kernel`], to the bit.
//!
//! Left out: instruction sets other than AVX-512 and AVX2; they take the packed way.

use super::kernel::Isa;
use super::{Matrix, Output, Threads, depths};
use crate::storage::SharedMut;
use rayon::prelude::*;

/// Rows of A whose sums stay in registers beside a square of B, and the most groups of so many. Each further group
/// transposes the squares again, which the cache holds by then; with more, packing once is faster.
fn groups(isa: Isa) -> (usize, usize) {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => (16, 2),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => (4, 4),
        _ => (0, 0),
    }
}

/// Values of B below which threads cost more than they give.
const SERIAL: usize = 1 << 16;
/// Tasks a thread gets: what another program delays one of them by is shared.
const TASKS: usize = 4;

/// True where this file has the product.
pub(super) fn applies(isa: Isa, m: usize, a: Matrix, b: Matrix) -> bool {
    let (rows, most) = groups(isa);
    m <= rows * most && a.strides.column == 1 && b.strides.row == 1
}

/// `c (m, n) = [c +] scale * a (m, k) b (k, n)`, rows of c `c_row` apart, where [`applies`]; no size is 0.
///
/// # Safety
/// `c` must be valid for `m` rows of `n` values, and nobody else may touch them meanwhile; a and b must reach their sizes.
#[allow(clippy::too_many_arguments)]
pub(super) unsafe fn multiply(
    isa: Isa,
    (m, n, k): (usize, usize, usize),
    c: SharedMut,
    c_row: usize,
    output: Output,
    a: Matrix,
    b: Matrix,
    threads: Threads,
) {
    let (width, (group_rows, _)) = (isa.lanes(), groups(isa));
    let registers = n.div_ceil(width);
    let task = |registers: std::ops::Range<usize>| {
        for column in registers.map(|register| register * width) {
            for depth in depths(k) {
                let (whole, start, len) = (width * b.strides.column, depth.start, depth.len());
                let next = if depth.end == k { whole as isize - start as isize } else { len as isize };
                for row in (0..m).step_by(group_rows) {
                    let part = Part {
                        depth: len,
                        a: a.values[row * a.strides.row + start..].as_ptr(),
                        a_row: a.strides.row,
                        b: b.values[column * b.strides.column + start..].as_ptr(),
                        b_column: b.strides.column,
                        next,
                        // SAFETY: inside c, as the caller promised.
                        c: unsafe { c.at(row * c_row + column) },
                        c_row,
                        columns: width.min(n - column),
                        output: Output { add: output.add || start > 0, ..output },
                    };
                    // SAFETY: the caller promised a, b and c; the tasks write different columns.
                    unsafe { run(isa, group_rows.min(m - row), &part) };
                }
            }
        }
    };
    if threads == Threads::Pool && n.saturating_mul(k) >= SERIAL {
        let tasks = registers.min(rayon::current_num_threads() * TASKS);
        (0..tasks).into_par_iter().for_each(|index| task(index * registers / tasks..(index + 1) * registers / tasks));
    } else {
        task(0..registers);
    }
}

/// One call of the kernel: `c (rows, columns) = [c +] scale * a (rows, depth) b (depth, columns)`, at most a register of
/// columns.
struct Part {
    depth: usize,
    a: *const f32,
    a_row: usize,
    b: *const f32,
    b_column: usize,
    /// Where the part that follows begins, counted from b; it may lie behind the end.
    next: isize,
    c: *mut f32,
    c_row: usize,
    columns: usize,
    output: Output,
}

/// Picks the kernel for that many rows.
macro_rules! by_rows {
    ($kernel:ident, $rows:expr, $part:expr, $($n:literal),*) => {
        match $rows {
            $($n => $kernel::<$n>($part),)*
            _ => debug_assert!(false, "no kernel has that many rows"),
        }
    };
}

/// # Safety
/// The pointers of `part` must be valid for `rows` rows of A and C, its depth and its columns, of which there must be
/// one; `isa` must be the machine's, `rows` at most a group of [`groups`].
unsafe fn run(isa: Isa, rows: usize, part: &Part) {
    // SAFETY: promised by the caller.
    unsafe {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => by_rows!(avx512, rows, part, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => by_rows!(avx2, rows, part, 1, 2, 3, 4),
            _ => debug_assert!(false, "no kernel for {rows} rows {}", part.depth),
        }
    }
}

/// A kernel of one instruction set. Per square of B: a load and four shuffles a column, then a broadcast and a product
/// per row of A and value of depth. The part that follows is fetched meanwhile: the processor doesn't foresee where as
/// many short rows go on, and reads a head of 49,152 rows at half of the memory's speed without.
#[cfg(target_arch = "x86_64")]
macro_rules! kernel {
    ($name:ident, $feature:literal, $lanes:literal, $transposed:path, $zero:expr, $load:ident, $splat:ident, $fma:ident, $store:ident) => {
        /// # Safety
        /// As [`run`].
        #[target_feature(enable = $feature)]
        unsafe fn $name<const ROWS: usize>(part: &Part) {
            // SAFETY: promised by the caller.
            unsafe {
                // behind the last column that one again: what it gives isn't written
                let columns: [*const f32; $lanes] =
                    std::array::from_fn(|j| part.b.add(j.min(part.columns - 1) * part.b_column));
                let mut sums = [$zero; ROWS];
                let whole = part.depth - part.depth % $lanes;
                for k in (0..whole).step_by($lanes) {
                    let mut square = [$zero; $lanes];
                    for j in 0..$lanes {
                        square[j] = $load(columns[j].add(k));
                        _mm_prefetch::<_MM_HINT_T1>(columns[j].wrapping_add(k).wrapping_offset(part.next).cast());
                    }
                    let square = $transposed(square);
                    for i in 0..$lanes {
                        for r in 0..ROWS {
                            let x = $splat(*part.a.add(r * part.a_row + k + i));
                            sums[r] = $fma(x, square[i], sums[r]);
                        }
                    }
                }
                for k in whole..part.depth {
                    let values: [f32; $lanes] = std::array::from_fn(|j| *columns[j].add(k));
                    let values = $load(values.as_ptr());
                    for r in 0..ROWS {
                        sums[r] = $fma($splat(*part.a.add(r * part.a_row + k)), values, sums[r]);
                    }
                }
                let scale = $splat(part.output.scale);
                for r in 0..ROWS {
                    let c = part.c.add(r * part.c_row);
                    let mut row = [0f32; $lanes];
                    if part.output.add {
                        std::ptr::copy_nonoverlapping(c, row.as_mut_ptr(), part.columns); // else it may be no value yet
                    }
                    let before = if part.output.add { $load(row.as_ptr()) } else { $zero };
                    $store(row.as_mut_ptr(), $fma(scale, sums[r], before));
                    std::ptr::copy_nonoverlapping(row.as_ptr(), c, part.columns);
                }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
use {super::transpose, std::arch::x86_64::*};
#[cfg(target_arch = "x86_64")]
kernel!(
    avx512,
    "avx512f",
    16,
    transpose::avx512,
    _mm512_setzero_ps(),
    _mm512_loadu_ps,
    _mm512_set1_ps,
    _mm512_fmadd_ps,
    _mm512_storeu_ps
);
#[cfg(target_arch = "x86_64")]
kernel!(
    avx2,
    "avx2,fma",
    8,
    transpose::avx2,
    _mm256_setzero_ps(),
    _mm256_loadu_ps,
    _mm256_set1_ps,
    _mm256_fmadd_ps,
    _mm256_storeu_ps
);
