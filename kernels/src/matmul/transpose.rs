//! Squares of f32 values transposed in registers.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

/// Columns of the 8 x 8 values whose rows are given.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn avx2(mut a: [__m256; 8]) -> [__m256; 8] {
    // pairs of rows, then fours: within 128-bit lanes
    let mut b = [_mm256_setzero_ps(); 8];
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
    b
}

/// Columns of the 16 x 16 values whose rows are given.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn avx512(mut a: [__m512; 16]) -> [__m512; 16] {
    // pairs of rows, then fours: within 128-bit lanes
    let mut b = [_mm512_setzero_ps(); 16];
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
    b
}
