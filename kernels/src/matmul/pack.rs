//! Copies of the operands in the order in which the kernel reads them.

use super::Matrix;
use super::kernel::Isa;
use std::ops::Range;

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
    #[cfg(target_arch = "x86_64")]
    if isa == Isa::Avx512 {
        let stride = b.strides.column;
        let (source, target) = (&b.values[from..], &mut panel[to..]);
        assert!(source.len() >= 15 * stride + TILE && target.len() >= 15 * width + TILE);
        // SAFETY: the assertion bounds both squares, and the machine has AVX-512.
        unsafe { transpose_avx512(target.as_mut_ptr(), width, source.as_ptr(), stride) };
        return true;
    }
    #[cfg(target_arch = "x86_64")]
    if isa == Isa::Avx2 {
        let stride = b.strides.column;
        let (source, target) = (&b.values[from..], &mut panel[to..]);
        assert!(source.len() >= 15 * stride + TILE && target.len() >= 15 * width + TILE);
        for (j, k) in [(0, 0), (0, 8), (8, 0), (8, 8)] {
            // SAFETY: the assertion bounds both squares and so their quarters, and the machine has AVX2.
            unsafe {
                let (target, source) = (target.as_mut_ptr().add(k * width + j), source.as_ptr().add(j * stride + k));
                transpose_avx2(target, width, source, stride);
            }
        }
        return true;
    }
    let _ = (isa, panel, to, width, b, from);
    false
}

/// `to[k * to_stride + j] = from[j * from_stride + k]` for 8 x 8 values.
///
/// # Safety
/// Both squares must be valid, and the machine must have AVX2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn transpose_avx2(to: *mut f32, to_stride: usize, from: *const f32, from_stride: usize) {
    use std::arch::x86_64::*;
    let zero = _mm256_setzero_ps();
    // SAFETY: promised by the caller.
    unsafe {
        let mut a = [zero; 8];
        for (j, row) in a.iter_mut().enumerate() {
            *row = _mm256_loadu_ps(from.add(j * from_stride));
        }
        // pairs of rows, then fours: within 128-bit lanes
        let mut b = [zero; 8];
        for i in 0..4 {
            b[2 * i] = _mm256_unpacklo_ps(a[2 * i], a[2 * i + 1]);
            b[2 * i + 1] = _mm256_unpackhi_ps(a[2 * i], a[2 * i + 1]);
        }
        for i in 0..2 {
            a[4 * i] = _mm256_shuffle_ps::<0x44>(b[4 * i], b[4 * i + 2]);
            a[4 * i + 1] = _mm256_shuffle_ps::<0xee>(b[4 * i], b[4 * i + 2]);
            a[4 * i + 2] = _mm256_shuffle_ps::<0x44>(b[4 * i + 1], b[4 * i + 3]);
            a[4 * i + 3] = _mm256_shuffle_ps::<0xee>(b[4 * i + 1], b[4 * i + 3]);
        }
        // a[4i + c] holds, in lane l, column 4l + c of rows 4i .. 4i + 4
        for c in 0..4 {
            b[c] = _mm256_permute2f128_ps::<0x20>(a[c], a[4 + c]);
            b[4 + c] = _mm256_permute2f128_ps::<0x31>(a[c], a[4 + c]);
        }
        for (k, row) in b.iter().enumerate() {
            _mm256_storeu_ps(to.add(k * to_stride), *row);
        }
    }
}

/// `to[k * to_stride + j] = from[j * from_stride + k]` for 16 x 16 values.
///
/// # Safety
/// Both squares must be valid, and the machine must have AVX-512.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn transpose_avx512(to: *mut f32, to_stride: usize, from: *const f32, from_stride: usize) {
    use std::arch::x86_64::*;
    let zero = _mm512_setzero_ps();
    // SAFETY: promised by the caller.
    unsafe {
        let mut a = [zero; 16];
        for (j, row) in a.iter_mut().enumerate() {
            *row = _mm512_loadu_ps(from.add(j * from_stride));
        }
        // pairs of rows, then fours: within 128-bit lanes
        let mut b = [zero; 16];
        for i in 0..8 {
            b[2 * i] = _mm512_unpacklo_ps(a[2 * i], a[2 * i + 1]);
            b[2 * i + 1] = _mm512_unpackhi_ps(a[2 * i], a[2 * i + 1]);
        }
        let as_pd = |x| _mm512_castps_pd(x);
        let as_ps = |x| _mm512_castpd_ps(x);
        for i in 0..4 {
            a[4 * i] = as_ps(_mm512_unpacklo_pd(as_pd(b[4 * i]), as_pd(b[4 * i + 2])));
            a[4 * i + 1] = as_ps(_mm512_unpackhi_pd(as_pd(b[4 * i]), as_pd(b[4 * i + 2])));
            a[4 * i + 2] = as_ps(_mm512_unpacklo_pd(as_pd(b[4 * i + 1]), as_pd(b[4 * i + 3])));
            a[4 * i + 3] = as_ps(_mm512_unpackhi_pd(as_pd(b[4 * i + 1]), as_pd(b[4 * i + 3])));
        }
        // a[4i + c] holds, in lane l, column 4l + c of rows 4i .. 4i + 4; now the lanes of four rows of lanes
        for c in 0..4 {
            let low = _mm512_shuffle_f32x4::<0x88>(a[c], a[4 + c]); // lanes 0 2 of rows 0-3, lanes 0 2 of rows 4-7
            let high = _mm512_shuffle_f32x4::<0xdd>(a[c], a[4 + c]); // lanes 1 3
            let low_2 = _mm512_shuffle_f32x4::<0x88>(a[8 + c], a[12 + c]);
            let high_2 = _mm512_shuffle_f32x4::<0xdd>(a[8 + c], a[12 + c]);
            b[c] = _mm512_shuffle_f32x4::<0x88>(low, low_2); // lane 0 of all rows: column c
            b[8 + c] = _mm512_shuffle_f32x4::<0xdd>(low, low_2); // lane 2: column 8 + c
            b[4 + c] = _mm512_shuffle_f32x4::<0x88>(high, high_2); // lane 1
            b[12 + c] = _mm512_shuffle_f32x4::<0xdd>(high, high_2); // lane 3
        }
        for (k, row) in b.iter().enumerate() {
            _mm512_storeu_ps(to.add(k * to_stride), *row);
        }
    }
}

/// Rows of A over `depth` in micro-panels `[depth][height]`; values behind the last row are left as they are.
pub(super) fn rows(packed: &mut Vec<f32>, a: Matrix, rows: Range<usize>, depth: Range<usize>, height: usize) {
    let len = rows.len().div_ceil(height) * height * depth.len();
    if packed.len() < len {
        packed.resize(len, 0.0);
    }
    for (index, k) in depth.clone().enumerate() {
        for (panel, row) in rows.clone().step_by(height).enumerate() {
            let count = height.min(rows.end - row);
            let to = (panel * depth.len() + index) * height;
            let from = row * a.strides.row + k * a.strides.column;
            let target = &mut packed[to..to + count];
            if a.strides.row == 1 {
                let source = &a.values[from..from + count];
                match (target.as_chunks_mut::<8>(), source.as_chunks::<8>()) {
                    (([target], []), ([source], [])) => *target = *source, // one move where the height is 8
                    _ => target.copy_from_slice(source),
                }
            } else {
                target.iter_mut().enumerate().for_each(|(i, t)| *t = a.values[from + i * a.strides.row]);
            }
        }
    }
}
