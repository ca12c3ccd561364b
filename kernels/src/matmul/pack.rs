//! Copies of the operands in the order in which the kernel reads them.

use super::Matrix;
use super::kernel::{Isa, LINE, fetch};
use std::ops::Range;

/// Rows of the source that are fetched ahead: parts of rows that lie apart are not foreseen by the processor. 4 to 8 % of
/// a weight's gradient over 4,096 tokens.
const AHEAD: usize = 8;

/// The buffer, grown to `len` values that begin at a line of the cache: a load across two lines costs twice, and that was
/// 6 % of a product.
pub(super) fn aligned(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if buffer.len() < len + LINE {
        buffer.resize(len + LINE, 0.0);
    }
    let offset = buffer.as_ptr().align_offset(LINE * size_of::<f32>());
    &mut buffer[offset..offset + len]
}

/// Columns `columns` of B over `depth` as `[depth][width]`, zeros behind the last column.
pub(super) fn columns(
    isa: Isa,
    panel: &mut [f32],
    b: Matrix,
    depth: Range<usize>,
    columns: Range<usize>,
    width: usize,
) {
    let count = columns.len();
    if b.strides.column == 1 {
        for (row, k) in panel.chunks_exact_mut(width).zip(depth) {
            let at = k * b.strides.row + columns.start;
            for column in (0..count).step_by(LINE) {
                fetch(b.values.as_ptr().wrapping_add(at + AHEAD * b.strides.row + column));
            }
            row[..count].copy_from_slice(&b.values[at..at + count]);
            row[count..].fill(0.0);
        }
        return;
    }
    for (index, column) in columns.clone().enumerate().step_by(TILE) {
        let count = TILE.min(columns.end - column);
        for first in depth.clone().step_by(TILE) {
            let len = TILE.min(depth.end - first);
            let to = (first - depth.start) * width + index;
            let from = first * b.strides.row + column * b.strides.column;
            if count == TILE && len == TILE && b.strides.row == 1 && transpose(isa, panel, to, width, b, from) {
                continue;
            }
            for k in 0..len {
                for j in 0..count {
                    panel[to + k * width + j] = b.values[from + k * b.strides.row + j * b.strides.column];
                }
            }
        }
    }
    if count < width {
        panel.chunks_exact_mut(width).for_each(|row| row[count..].fill(0.0));
    }
}

/// Side of the squares that are transposed at once: a line of the cache.
const TILE: usize = 16;

/// A square of B whose columns are contiguous, from `b[from..]` to `panel[to..]`; false where the machine has no
/// instructions for it.
#[inline]
fn transpose(isa: Isa, panel: &mut [f32], to: usize, width: usize, b: Matrix, from: usize) -> bool {
    let (source, target, stride) = (&b.values[from..], &mut panel[to..], b.strides.column);
    assert!(source.len() >= 15 * stride + TILE && target.len() >= 15 * width + TILE);
    match isa {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the assertion bounds both squares, and the machine has AVX-512.
        Isa::Avx512 => unsafe { transpose_avx512(target.as_mut_ptr(), width, source.as_ptr(), stride) },
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => {
            for (j, k) in [(0, 0), (0, 8), (8, 0), (8, 8)] {
                // SAFETY: the assertion bounds both squares and so their quarters, and the machine has AVX2.
                unsafe {
                    let (to, from) = (target.as_mut_ptr().add(k * width + j), source.as_ptr().add(j * stride + k));
                    transpose_avx2(to, width, from, stride);
                }
            }
        }
        _ => return false,
    }
    true
}

/// `to[k * to_stride + j] = from[j * from_stride + k]` for a square of values.
#[cfg(target_arch = "x86_64")]
macro_rules! transpose {
    ($name:ident, $feature:literal, $side:literal, $zero:ident, $load:ident, $store:ident, $transposed:path) => {
        /// # Safety
        /// Both squares must be valid, and the machine must have the feature.
        #[target_feature(enable = $feature)]
        unsafe fn $name(to: *mut f32, to_stride: usize, from: *const f32, from_stride: usize) {
            let mut rows = [$zero(); $side];
            for (j, row) in rows.iter_mut().enumerate() {
                // SAFETY: promised by the caller.
                *row = unsafe { $load(from.add(j * from_stride)) };
            }
            for (k, column) in $transposed(rows).into_iter().enumerate() {
                // SAFETY: promised by the caller.
                unsafe { $store(to.add(k * to_stride), column) };
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
use {super::transpose, std::arch::x86_64::*};
#[cfg(target_arch = "x86_64")]
transpose!(transpose_avx512, "avx512f", 16, _mm512_setzero_ps, _mm512_loadu_ps, _mm512_storeu_ps, transpose::avx512);
#[cfg(target_arch = "x86_64")]
transpose!(transpose_avx2, "avx2", 8, _mm256_setzero_ps, _mm256_loadu_ps, _mm256_storeu_ps, transpose::avx2);

/// Rows of A over `depth` in micro-panels `[depth][height]`; values behind the last row are left as they are.
pub(super) fn rows(packed: &mut Vec<f32>, a: Matrix, rows: Range<usize>, depth: Range<usize>, height: usize) {
    let len = rows.len().div_ceil(height) * height * depth.len();
    if packed.len() < len {
        packed.resize(len, 0.0);
    }
    for (index, k) in depth.clone().enumerate() {
        if a.strides.row == 1 {
            for row in rows.clone().step_by(LINE) {
                fetch(a.values.as_ptr().wrapping_add((k + AHEAD) * a.strides.column + row));
            }
        }
        for (panel, row) in rows.clone().step_by(height).enumerate() {
            let count = height.min(rows.end - row);
            let to = (panel * depth.len() + index) * height;
            let from = row * a.strides.row + k * a.strides.column;
            let target = &mut packed[to..to + count];
            if a.strides.row == 1 {
                let source = &a.values[from..from + count];
                if !(copy::<8>(target, source) || copy::<6>(target, source)) {
                    target.copy_from_slice(source);
                }
            } else {
                target.iter_mut().enumerate().for_each(|(i, t)| *t = a.values[from + i * a.strides.row]);
            }
        }
    }
}

/// Copies N values by a move or two; false where there are others than N.
#[inline(always)]
fn copy<const N: usize>(to: &mut [f32], from: &[f32]) -> bool {
    match (<&mut [f32; N]>::try_from(to), <&[f32; N]>::try_from(from)) {
        (Ok(to), Ok(from)) => *to = *from,
        _ => return false,
    }
    true
}
