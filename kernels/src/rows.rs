//! Gathering and scattering token rows: targets leave the row before the head and come back behind it.

pub mod case;

use candle_core::{Result, Tensor, bail};

/// Rows `indices` of `x`. Shapes: x (T, C) -> (N, C). Errors: an index beyond the rows.
pub fn gather(x: &Tensor, indices: &[u32]) -> Result<Tensor> {
    crate::arguments::check("rows", &[("x", x)])?;
    let (rows, _) = x.dims2()?;
    if let Some(index) = indices.iter().find(|&&index| index as usize >= rows) {
        bail!("rows: index {index} but there are {rows} rows")
    }
    if indices.is_empty() {
        return x.narrow(0, 0, 0); // CUDA refuses to launch a kernel over nothing
    }
    let indices = Tensor::from_slice(indices, indices.len(), x.device())?;
    x.contiguous()?.index_select(&indices, 0)
}

/// The backward pass of [`gather`]: rows of `dy` at `indices`, zeros elsewhere. Indices are distinct.
/// Shapes: dy (N, C), indices N -> (T, C). Errors: counts that differ, an index beyond the rows, an index twice.
///
/// Each row is fetched, from `dy` or from a row of zeros behind it: adding rows into zeros is one thread per channel
/// on CUDA, which goes through all rows.
pub fn scatter(dy: &Tensor, indices: &[u32], num_rows: usize) -> Result<Tensor> {
    let (n, channels) = dy.dims2()?;
    if n != indices.len() {
        bail!("rows: {n} rows but {} indices", indices.len())
    }
    let mut sources = vec![n as u32; num_rows];
    for (row, &index) in indices.iter().enumerate() {
        match sources.get_mut(index as usize) {
            Some(source) if *source == n as u32 => *source = row as u32,
            Some(_) => bail!("rows: index {index} is there twice"),
            None => bail!("rows: index {index} but there are {num_rows} rows"),
        }
    }
    if n == 0 {
        return Tensor::zeros((num_rows, channels), dy.dtype(), dy.device());
    }
    let zeros = Tensor::zeros((1, channels), dy.dtype(), dy.device())?;
    gather(&Tensor::cat(&[dy, &zeros], 0)?, &sources)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, random};
    use candle_core::{DType, Device};

    #[test]
    fn gather_and_scatter_match_the_autograd_of_index_select_also_in_16_bit_strided_and_without_rows() {
        for dtype in [DType::F32, DType::BF16] {
            for (t, c, indices) in [(7, 5, vec![6, 0, 3]), (1, 1, vec![0]), (4, 3, vec![]), (3, 2, vec![2, 1, 0])] {
                let x = random(&[c, t], 1).to_dtype(dtype).unwrap().t().unwrap(); // strided
                let dy = random(&[c, indices.len()], 2).to_dtype(dtype).unwrap().t().unwrap();
                let ids = Tensor::new(indices.as_slice(), &Device::Cpu).unwrap();
                let reference = |x: &Tensor| x.contiguous()?.index_select(&ids, 0);
                assert_close("y", &gather(&x, &indices).unwrap(), &reference(&x).unwrap(), 0.0);
                let expected = crate::autograd::backward(&[&x], &dy, |v| reference(&v[0])).unwrap();
                let dx = scatter(&dy, &indices, t).unwrap();
                assert_close("dx", &dx, &expected[0], 0.0);
                assert_eq!(dx.dtype(), dtype);
            }
        }
    }

    #[test]
    fn indices_that_do_not_fit_are_named() {
        let x = random(&[3, 2], 1);
        let message = |result: Result<Tensor>| result.unwrap_err().to_string();
        assert!(message(gather(&x, &[0, 3])).contains("index 3 but there are 3 rows"));
        assert!(message(scatter(&x, &[0, 4, 1], 4)).contains("index 4 but there are 4 rows"));
        assert!(message(scatter(&x, &[0, 2, 2], 4)).contains("index 2 is there twice"));
        assert!(message(scatter(&x, &[0, 2], 4)).contains("3 rows but 2 indices"));
    }
}
