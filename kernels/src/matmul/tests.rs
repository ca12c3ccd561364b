//! The product against a plain sum in f64, at sizes around every edge, and its invariances.

use super::*;
use crate::testing::{random, with_threads};

fn values(len: usize, seed: u64) -> Vec<f32> {
    random(&[len], seed).to_vec1().unwrap()
}

/// (m, n, k) around the kernel's rows and columns, the blocks of depth, rows and columns.
const SIZES: [(usize, usize, usize); 16] = [
    (0, 3, 2),
    (3, 0, 2),
    (3, 2, 0),
    (1, 1, 1),
    (7, 50, 3),
    (8, 48, 16),
    (9, 64, 17),
    (65, 100, 700),
    (97, 49, 1300),
    (2, 1, 641),
    (100, 600, 33),
    (193, 31, 640),
    (4, 33, 1301),
    (5, 16, 15),
    (8, 17, 640),
    (40, 900, 640),
];

#[test]
fn the_product_is_the_sum_at_every_size_and_layout_and_adds_and_scales() {
    for (m, n, k) in SIZES {
        let (a, b) = (values(m * k, 1), values(k * n, 2));
        for (a_is_transposed, b_is_transposed) in [(false, false), (false, true), (true, false), (true, true)] {
            let a = if a_is_transposed { Matrix::columns(&a, m) } else { Matrix::rows(&a, k) };
            let b = if b_is_transposed { Matrix::columns(&b, k) } else { Matrix::rows(&b, n) };
            let at = |x: Matrix, r: usize, c: usize| f64::from(x.values[r * x.strides.row + c * x.strides.column]);
            for (add, scale) in [(false, 1.0), (true, 1.0), (true, 0.5), (false, 0.25)] {
                let c_row = n + 3; // rows of c apart: what lies between stays
                let mut c = vec![7.0f32; m * c_row];
                let shared = SharedMut(c.as_mut_ptr());
                // SAFETY: c holds m rows of n values, c_row apart.
                unsafe { multiply_raw((m, n, k), shared, c_row, Output { add, scale }, a, b, Threads::Pool) };
                for row in 0..m {
                    for column in 0..n {
                        let products = (0..k).map(|i| at(a, row, i) * at(b, i, column));
                        let (sum, size) = products.fold((0.0, 7.0), |(sum, size), p| (sum + p, size + p.abs()));
                        let expected = f64::from(scale) * sum + if add { 7.0 } else { 0.0 };
                        let got = f64::from(c[row * c_row + column]);
                        assert!(
                            (got - expected).abs() < 5e-7 * size,
                            "{m} {n} {k} at {row} {column}: {got} but {expected}"
                        );
                    }
                    assert!(
                        c[row * c_row + n..(row + 1) * c_row].iter().all(|&x| x == 7.0),
                        "{m} {n} {k}: between rows"
                    );
                }
            }
        }
    }
}

#[test]
fn r10_a_row_has_the_same_bits_whatever_the_other_rows_and_the_number_of_threads() {
    for (n, k) in [(48, 576), (131, 641), (1, 64), (600, 40), (37, 13), (700, 1281)] {
        let (a, b) = (values(300 * k, 3), values(k * n, 4));
        let run = |rows: std::ops::Range<usize>| {
            let mut c = vec![0.0; rows.len() * n];
            let a = Matrix::rows(&a[rows.start * k..], k);
            multiply((rows.len(), n, k), &mut c, false, a, Matrix::columns(&b, k));
            c
        };
        let all = with_threads(1, || run(0..300));
        assert!(with_threads(4, || run(0..300)) == all, "{n} {k}: threads");
        for rows in [0..1, 5..6, 7..9, 3..6, 20..24, 11..18, 40..48, 3..20, 100..197, 299..300] {
            assert!(run(rows.clone()) == all[rows.start * n..rows.end * n], "{n} {k}: rows {rows:?}");
        }
    }
}

/// Every instruction set of this machine that has a kernel for few rows.
#[cfg(target_arch = "x86_64")]
fn few_row_isas() -> Vec<Isa> {
    let avx2 = std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma");
    let avx512 = std::is_x86_feature_detected!("avx512f");
    [(avx2, Isa::Avx2), (avx512, Isa::Avx512)].into_iter().filter(|(has, _)| *has).map(|(_, isa)| isa).collect()
}

#[test]
#[cfg(target_arch = "x86_64")]
fn r10_few_rows_have_the_bits_of_many_with_every_instruction_set() {
    for (n, k) in [(1, 1), (15, 7), (16, 16), (37, 13), (131, 641), (700, 1281), (48, 576)] {
        let (a, b) = (values(40 * k, 3), values(k * n, 4));
        let b = Matrix::columns(&b, k);
        let mut many = values(40 * n, 5); // packed, since there are forty
        let before = many.clone();
        multiply((40, n, k), &mut many, true, Matrix::rows(&a, k), b);
        for isa in few_row_isas() {
            let most = if isa == Isa::Avx2 { 16 } else { 32 };
            assert!(!few_rows::applies(isa, most + 1, Matrix::rows(&a, k), b));
            for m in 1..=most {
                assert!(few_rows::applies(isa, m, Matrix::rows(&a, k), b), "{isa:?} has no kernel for {m} rows");
                let mut few = before[..m * n].to_vec();
                let output = Output { add: true, scale: 1.0 };
                let (c, a) = (SharedMut(few.as_mut_ptr()), Matrix::rows(&a, k));
                // SAFETY: `few` holds m rows of n values; a and b were made for k.
                unsafe { few_rows::multiply(isa, (m, n, k), c, n, output, a, b, Threads::Pool) };
                assert!(few == many[..m * n], "{isa:?}: {m} {n} {k}");
            }
        }
    }
}

#[test]
fn a_nan_reaches_every_value_of_its_row() {
    let (mut a, b) = (values(20 * 30, 5), values(30 * 50, 6));
    a[7 * 30 + 4] = f32::NAN;
    let mut c = vec![0.0; 20 * 50];
    multiply((20, 50, 30), &mut c, false, Matrix::rows(&a, 30), Matrix::rows(&b, 50));
    for (row, values) in c.chunks_exact(50).enumerate() {
        assert!(values.iter().all(|x| x.is_nan() == (row == 7)), "row {row}");
    }
}
