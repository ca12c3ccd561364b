//! The innermost product: a few rows of A times one packed panel of B, all sums in registers.

use super::Output;
use std::sync::OnceLock;

/// The instruction sets that have a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Isa {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "aarch64")]
    Neon,
    /// Plain Rust, as wide as the compiler makes it.
    Plain,
}

/// Rows of A and vectors of B whose sums fit into the registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) rows: usize,
    vectors: usize,
}

impl Shape {
    /// Columns of a panel.
    pub(super) fn columns(self, isa: Isa) -> usize {
        self.vectors * isa.lanes()
    }
}

impl Isa {
    /// The machine's best.
    pub(super) fn detected() -> Self {
        static ISA: OnceLock<Isa> = OnceLock::new();
        *ISA.get_or_init(|| {
            #[cfg(target_arch = "x86_64")]
            {
                if std::is_x86_feature_detected!("avx512f") {
                    return Self::Avx512;
                }
                if std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma") {
                    return Self::Avx2;
                }
            }
            #[cfg(target_arch = "aarch64")]
            return Self::Neon;
            #[cfg(not(target_arch = "aarch64"))]
            Self::Plain
        })
    }

    /// f32 values of a register.
    pub(super) fn lanes(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => 16,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => 8,
            #[cfg(target_arch = "aarch64")]
            Self::Neon => 4,
            Self::Plain => 8,
        }
    }

    /// The shape that leaves fewer columns of the last panel empty. 24 sums in 32 registers; 12 in 16, of which 4 x 3 with
    /// its three columns and a broadcast would take every one: the compiler then keeps a sum in memory, at 44 % of the speed.
    pub(super) fn shape(self, columns: usize) -> Shape {
        let shapes = match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => [Shape { rows: 6, vectors: 2 }; 2],
            Self::Plain => [Shape { rows: 4, vectors: 1 }; 2],
            #[allow(unreachable_patterns)]
            _ => [Shape { rows: 8, vectors: 3 }, Shape { rows: 6, vectors: 4 }],
        };
        let padded = |shape: Shape| columns.next_multiple_of(shape.columns(self));
        if padded(shapes[1]) < padded(shapes[0]) { shapes[1] } else { shapes[0] }
    }
}

/// One call of the kernel: `c (rows, columns) = [c +] scale * a (rows, depth) b (depth, panel)`.
pub(super) struct Part {
    pub(super) depth: usize,
    pub(super) a: *const f32,
    pub(super) row_stride: usize,
    pub(super) depth_stride: usize,
    pub(super) b: *const f32,
    pub(super) c: *mut f32,
    pub(super) c_row: usize,
    /// Columns of the panel that c has.
    pub(super) columns: usize,
    pub(super) output: Output,
}

/// Most vectors of a shape.
const VECTORS_MOST: usize = 4;

/// Picks the kernel for that many rows.
macro_rules! by_rows {
    ($kernel:ident, $vectors:literal, $rows:expr, $part:expr, $($n:literal),*) => {
        match $rows {
            $($n => $kernel::<$n, $vectors>($part),)*
            _ => debug_assert!(false, "no kernel has that many rows"),
        }
    };
}

/// # Safety
/// The pointers of `part` must be valid for `rows` rows of A and C, its depth, and a whole panel of B; `isa` must be
/// the machine's, `rows` at most the shape's.
pub(super) unsafe fn run(isa: Isa, shape: Shape, rows: usize, part: &Part) {
    // SAFETY: promised by the caller.
    unsafe {
        match (isa, shape.vectors) {
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx512, 3) => by_rows!(avx512, 3, rows, part, 1, 2, 3, 4, 5, 6, 7, 8),
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx512, _) => by_rows!(avx512, 4, rows, part, 1, 2, 3, 4, 5, 6),
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx2, _) => by_rows!(avx2, 2, rows, part, 1, 2, 3, 4, 5, 6),
            #[cfg(target_arch = "aarch64")]
            (Isa::Neon, 3) => by_rows!(neon, 3, rows, part, 1, 2, 3, 4, 5, 6, 7, 8),
            #[cfg(target_arch = "aarch64")]
            (Isa::Neon, _) => by_rows!(neon, 4, rows, part, 1, 2, 3, 4, 5, 6),
            (Isa::Plain, _) => by_rows!(plain, 1, rows, part, 1, 2, 3, 4),
        }
    }
}

/// Steps of depth that the panel is fetched ahead where the kernel reads it faster than the second-level cache gives it
/// unasked: with AVX-512, and there 8 % of the product's time. AVX2's kernel gains nothing.
const AHEAD: usize = 3;

/// f32 values of a line of the cache.
pub(super) const LINE: usize = 16;

/// Asks for the line of the cache at `from`, which may lie behind the end; nothing where Rust has no such hint.
#[inline(always)]
pub(super) fn fetch(from: *const f32) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint: no address faults.
    unsafe {
        _mm_prefetch::<_MM_HINT_T0>(from.cast());
    }
    let _ = from;
}

/// A kernel of one instruction set. Per step of depth: one load per vector of B, one broadcast per row of A.
macro_rules! kernel {
    ($name:ident, $($feature:literal)?, $lanes:literal, $zero:expr, $load:expr, $splat:expr, $fma:expr, $store:expr, $fetch:expr) => {
        /// # Safety
        /// As [`run`].
        $(#[target_feature(enable = $feature)])?
        unsafe fn $name<const ROWS: usize, const VECTORS: usize>(part: &Part) {
            let (mut a, mut b) = (part.a, part.b);
            // SAFETY: promised by the caller.
            unsafe {
                let mut sums = [[$zero; VECTORS]; ROWS];
                for _ in 0..part.depth {
                    let mut columns = [$zero; VECTORS];
                    for v in 0..VECTORS {
                        columns[v] = $load(b.add(v * $lanes));
                        $fetch(b.wrapping_add((AHEAD * VECTORS + v) * $lanes));
                    }
                    for r in 0..ROWS {
                        let x = $splat(*a.add(r * part.row_stride));
                        for v in 0..VECTORS {
                            sums[r][v] = $fma(x, columns[v], sums[r][v]);
                        }
                    }
                    a = a.add(part.depth_stride);
                    b = b.add(VECTORS * $lanes);
                }
                let scale = $splat(part.output.scale);
                if part.columns == VECTORS * $lanes {
                    for r in 0..ROWS {
                        for v in 0..VECTORS {
                            let c = part.c.add(r * part.c_row + v * $lanes);
                            let before = if part.output.add { $load(c) } else { $zero };
                            $store(c, $fma(scale, sums[r][v], before));
                        }
                    }
                    return;
                }
                for r in 0..ROWS {
                    let c = part.c.add(r * part.c_row);
                    let mut row = [0f32; VECTORS_MOST * $lanes];
                    if part.output.add {
                        std::ptr::copy_nonoverlapping(c, row.as_mut_ptr(), part.columns); // else it may be no value yet
                    }
                    for v in 0..VECTORS {
                        let at = row.as_mut_ptr().add(v * $lanes);
                        let before = if part.output.add { $load(at) } else { $zero };
                        $store(at, $fma(scale, sums[r][v], before));
                    }
                    std::ptr::copy_nonoverlapping(row.as_ptr(), c, part.columns);
                }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;
#[cfg(target_arch = "x86_64")]
kernel!(
    avx512,
    "avx512f",
    16,
    _mm512_setzero_ps(),
    _mm512_loadu_ps,
    _mm512_set1_ps,
    _mm512_fmadd_ps,
    _mm512_storeu_ps,
    fetch
);
#[cfg(target_arch = "x86_64")]
kernel!(
    avx2,
    "avx2,fma",
    8,
    _mm256_setzero_ps(),
    _mm256_loadu_ps,
    _mm256_set1_ps,
    _mm256_fmadd_ps,
    _mm256_storeu_ps,
    |_| ()
);

#[cfg(target_arch = "aarch64")]
use std::arch::aarch64::*;
#[cfg(target_arch = "aarch64")]
kernel!(neon, "neon", 4, vdupq_n_f32(0.0), vld1q_f32, vdupq_n_f32, |x, y, z| vfmaq_f32(z, x, y), vst1q_f32, |_| ());

/// Eight values that the compiler may keep in registers.
#[derive(Clone, Copy)]
struct Eight([f32; 8]);

#[inline(always)]
unsafe fn load(from: *const f32) -> Eight {
    // SAFETY: promised by the caller.
    Eight(unsafe { from.cast::<[f32; 8]>().read_unaligned() })
}

#[inline(always)]
unsafe fn store(to: *mut f32, values: Eight) {
    // SAFETY: promised by the caller.
    unsafe { to.cast::<[f32; 8]>().write_unaligned(values.0) }
}

#[inline(always)]
fn splat(value: f32) -> Eight {
    Eight([value; 8])
}

/// Two roundings: without the instruction, a fused product is a call of the library.
#[inline(always)]
fn multiply_add(x: Eight, y: Eight, sum: Eight) -> Eight {
    Eight(std::array::from_fn(|i| x.0[i] * y.0[i] + sum.0[i]))
}

kernel!(plain, , 8, Eight([0.0; 8]), load, splat, multiply_add, store, |_| ());
