//! Linear projection `y = x W^T`, weights in `[out, in]` layout as Hugging Face stores them.
//!
//! The weight's gradient is added in place in the same layout; the caller asks only for the gradients it needs.

pub(crate) mod cpu;
pub mod reference;

use crate::gradient::Gradient;
use crate::storage::{fused, narrow, wide};
use candle_core::{Result, Tensor, bail};

/// `y = x W^T`. Shapes: x (T, I), weight (O, I) -> (T, O).
/// Every row has the same bits whatever other rows there are. Errors: shapes that don't fit.
pub fn forward(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    check("linear forward", x, weight, 1)?;
    if narrow(x) || narrow(weight) {
        return forward(&wide(x)?, &wide(weight)?)?.to_dtype(x.dtype());
    }
    if fused(x) && fused(weight) { cpu::forward(&x.contiguous()?, weight) } else { reference::forward(x, weight) }
}

/// `dx = dy W`. Shapes: dy (T, O), weight (O, I) -> (T, I). Errors: shapes that don't fit.
pub fn backward_input(dy: &Tensor, weight: &Tensor) -> Result<Tensor> {
    check("linear backward", dy, weight, 0)?;
    if narrow(dy) || narrow(weight) {
        return backward_input(&wide(dy)?, &wide(weight)?)?.to_dtype(dy.dtype());
    }
    if fused(dy) && fused(weight) {
        cpu::backward_input(&dy.contiguous()?, weight)
    } else {
        dy.to_dtype(weight.dtype())?.matmul(weight)?.to_dtype(dy.dtype())
    }
}

/// `dW += dy^T x`, in place. Shapes: dy (T, O), x (T, I), gradient (O, I). Errors: shapes that don't fit.
pub fn backward_weight(dy: &Tensor, x: &Tensor, gradient: &mut Gradient) -> Result<()> {
    let ((rows, out), (x_rows, inner)) = (dy.dims2()?, x.dims2()?);
    if rows != x_rows || gradient.tensor().dims() != [out, inner] {
        bail!("linear backward: dy {:?}, x {:?}, gradient {:?}", dy.shape(), x.shape(), gradient.tensor().shape())
    }
    if narrow(dy) || narrow(x) {
        return backward_weight(&wide(dy)?, &wide(x)?, gradient);
    }
    if fused(dy) && fused(x) && fused(gradient.tensor()) {
        cpu::backward_weight(&dy.contiguous()?, &x.contiguous()?, gradient)
    } else {
        gradient.add(&dy.to_dtype(x.dtype())?.t()?.contiguous()?.matmul(&x.contiguous()?)?)
    }
}

fn check(name: &str, x: &Tensor, weight: &Tensor, weight_dim: usize) -> Result<()> {
    if x.dims2()?.1 != weight.dims2()?.0 && weight_dim == 0 || x.dims2()?.1 != weight.dims2()?.1 && weight_dim == 1 {
        bail!("{name}: x {:?} doesn't fit weight {:?}", x.shape(), weight.shape())
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, random, with_threads};
    use candle_core::Device;

    #[test]
    fn linear_and_its_gradients_match_the_reference() {
        for (t, i, o) in [(1, 16, 7), (2, 3, 5), (37, 41, 131), (64, 64, 256)] {
            let (x, w, dy) = (random(&[t, i], 1), random(&[o, i], 2), random(&[t, o], 3));
            assert_close("y", &forward(&x, &w).unwrap(), &reference::forward(&x, &w).unwrap(), 1e-5);
            let expected = crate::autograd::backward(&[&x, &w], &dy, |v| reference::forward(&v[0], &v[1])).unwrap();
            assert_close("dx", &backward_input(&dy, &w).unwrap(), &expected[0], 1e-5);
            let mut gradient = Gradient::new((o, i), &Device::Cpu).unwrap();
            backward_weight(&dy, &x, &mut gradient).unwrap();
            assert_close("dW", gradient.tensor(), &expected[1], 1e-5);
            backward_weight(&dy, &x, &mut gradient).unwrap();
            assert_close("dW added twice", gradient.tensor(), &(&expected[1] * 2.0).unwrap(), 1e-5);
        }
    }

    #[test]
    fn r10_a_row_has_the_same_bits_whatever_shares_its_batch() {
        let shapes =
            [(576, 192), (32, 16), (32, 80), (80, 32), (64, 1), (896, 128), (128, 131), (2, 40), (600, 64), (513, 16)];
        for (inner, out) in shapes {
            let (x, w) = (random(&[300, inner], 4), random(&[out, inner], 5));
            let all = forward(&x, &w).unwrap().to_vec2::<f32>().unwrap();
            for rows in (1..80).chain([99, 128, 255, 256, 257, 299]) {
                for start in [0, 300 - rows] {
                    let part = forward(&x.narrow(0, start, rows).unwrap(), &w).unwrap().to_vec2::<f32>().unwrap();
                    assert!(part == all[start..start + rows], "{inner} -> {out}: {rows} rows from {start}");
                }
            }
        }
    }

    #[test]
    fn the_number_of_threads_changes_no_bit() {
        let (x, w, dy) = (random(&[129, 160], 6), random(&[96, 160], 7), random(&[129, 96], 8));
        let run = || {
            let mut gradient = Gradient::new((96, 160), &Device::Cpu).unwrap();
            backward_weight(&dy, &x, &mut gradient).unwrap();
            let y = forward(&x, &w).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
            (y, gradient.tensor().flatten_all().unwrap().to_vec1::<f32>().unwrap())
        };
        assert_eq!(with_threads(1, run), with_threads(4, run));
    }

    #[test]
    fn shapes_that_do_not_fit_are_named() {
        let message = forward(&random(&[2, 3], 1), &random(&[4, 5], 2)).unwrap_err().to_string();
        assert!(message.contains("x [2, 3] doesn't fit weight [4, 5]"), "{message}");
    }
}
