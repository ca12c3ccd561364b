//! Linear projection `y = x W^T`, weights in `[out, in]` layout as Hugging Face stores them.
//!
//! The weight's gradient is added in place in the same layout; the caller asks only for the gradients it needs.

pub mod case;
mod cpu;
pub mod reference;

use crate::arguments;
use crate::gradient::Gradient;
use crate::storage::{fused, narrow, wide};
use candle_core::{DType, Result, Tensor, bail};

/// `y = x W^T`. Shapes: x (T, I), weight (O, I) -> (T, O).
/// Every row has the same bits whatever other rows there are. Errors: shapes that don't fit.
pub fn forward(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    check("linear forward", x, weight, 1)?;
    if narrow(x) || narrow(weight) {
        return forward(&wide(x)?, &wide(weight)?)?.to_dtype(x.dtype());
    }
    if x.dim(0)? == 0 {
        return crate::device::empty(&[0, weight.dim(0)?], x.dtype(), x.device());
    }
    if fused(x) && fused(weight) { cpu::forward(&x.contiguous()?, weight) } else { reference::forward(x, weight) }
}

/// `y + bias`, a row at a time. Shapes: y (T, O), bias (O) -> (T, O). Errors: shapes that don't fit.
pub fn add_bias(y: Tensor, bias: &Tensor) -> Result<Tensor> {
    arguments::check("linear bias", &[("y", &y), ("bias", bias)])?;
    if y.dims2()?.1 != bias.dims1()? {
        bail!("linear bias: y {:?} doesn't fit bias {:?}", y.shape(), bias.shape())
    }
    if fused(&y) && fused(bias) && y.is_contiguous() {
        cpu::add_bias(&y, &bias.contiguous()?)?;
        return Ok(y);
    }
    if narrow(&y) {
        return add_bias(wide(&y)?, &wide(bias)?)?.to_dtype(y.dtype());
    }
    y.broadcast_add(&bias.to_dtype(y.dtype())?)
}

/// `dbias += column sums of dy`, in place and in an order that no number of threads changes.
/// Shapes: dy (T, O), gradient (O). Errors: shapes that don't fit.
pub fn backward_bias(dy: &Tensor, gradient: &mut Gradient) -> Result<()> {
    if dy.dims2()?.1 != gradient.tensor().dims1()? {
        bail!("linear bias: dy {:?} doesn't fit gradient {:?}", dy.shape(), gradient.tensor().shape())
    }
    let dy = if narrow(dy) { &wide(dy)? } else { dy };
    if fused(dy) && fused(gradient.tensor()) {
        cpu::backward_bias(&dy.contiguous()?, gradient)
    } else {
        gradient.add(&dy.to_dtype(DType::F32)?.sum(0)?)
    }
}

/// `dx = dy W`. Shapes: dy (T, O), weight (O, I) -> (T, I). Errors: shapes that don't fit.
pub fn backward_input(dy: &Tensor, weight: &Tensor) -> Result<Tensor> {
    check("linear backward", dy, weight, 0)?;
    if narrow(dy) || narrow(weight) {
        return backward_input(&wide(dy)?, &wide(weight)?)?.to_dtype(dy.dtype());
    }
    if dy.dim(0)? == 0 {
        return crate::device::empty(&[0, weight.dim(1)?], dy.dtype(), dy.device());
    }
    if fused(dy) && fused(weight) {
        cpu::backward_input(&dy.contiguous()?, weight)
    } else {
        dy.to_dtype(weight.dtype())?.contiguous()?.matmul(&weight.contiguous()?)?.to_dtype(dy.dtype())
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
    if rows == 0 {
        return gradient.add_nothing();
    }
    if fused(dy) && fused(x) && fused(gradient.tensor()) {
        cpu::backward_weight(&dy.contiguous()?, &x.contiguous()?, gradient)
    } else {
        gradient.add(&dy.to_dtype(x.dtype())?.t()?.contiguous()?.matmul(&x.contiguous()?)?)
    }
}

fn check(name: &str, x: &Tensor, weight: &Tensor, weight_dim: usize) -> Result<()> {
    arguments::check(name, &[("x", x), ("weight", weight)])?;
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
    fn a_bias_and_its_gradient_match_the_reference_and_no_thread_count_changes_a_bit() {
        for (t, o) in [(0, 3), (1, 1), (5, 7), (67, 131), (200, 16)] {
            let (y, bias, dy) = (random(&[t, o], 1), random(&[o], 2), random(&[t, o], 3));
            let expected = y.broadcast_add(&bias).unwrap();
            assert_close("y", &add_bias(y.force_contiguous().unwrap(), &bias).unwrap(), &expected, 0.0);
            let sums = |threads| {
                let mut gradient = Gradient::new(o, &Device::Cpu).unwrap();
                with_threads(threads, || backward_bias(&dy, &mut gradient).unwrap());
                let once = gradient.tensor().force_contiguous().unwrap();
                with_threads(threads, || backward_bias(&dy, &mut gradient).unwrap());
                assert_close("twice", gradient.tensor(), &(&once * 2.0).unwrap(), 0.0);
                once
            };
            assert_close("dbias", &sums(1), &dy.sum(0).unwrap(), 1e-6);
            assert_eq!(crate::testing::bits(&sums(1)), crate::testing::bits(&sums(4)));
        }
        let message = add_bias(random(&[2, 3], 1), &random(&[4], 2)).unwrap_err().to_string();
        assert!(message.contains("y [2, 3] doesn't fit bias [4]"), "{message}");
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
