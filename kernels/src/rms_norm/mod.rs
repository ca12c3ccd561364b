//! RMS normalisation over the last dimension, with the reciprocal root kept for the backward pass.

pub mod case;
mod cpu;
pub mod reference;

use crate::arguments;
use crate::gradient::Gradient;
use crate::storage::{fused, narrow, wide};
use candle_core::{DType, Result, Tensor, bail};

/// `y = x * w / sqrt(mean(x^2) + eps)`; mean in f32, result in x's dtype.
/// Shapes: x (T, C), weight (C) -> y (T, C), and rstd (T) f32 for the backward pass. Memory: one read, one write of x.
/// Errors: C differs. Source: Zhang & Sennrich 2019, arXiv:1910.07467; matches transformers' LlamaRMSNorm.
pub fn forward(x: &Tensor, weight: &Tensor, eps: f32) -> Result<(Tensor, Tensor)> {
    check(x, weight)?;
    if narrow(x) || narrow(weight) {
        let (y, rstd) = forward(&wide(x)?, &wide(weight)?, eps)?;
        return Ok((y.to_dtype(x.dtype())?, rstd));
    }
    if x.elem_count() == 0 {
        return Ok((x.clone(), crate::device::empty(&[x.dim(0)?], DType::F32, x.device())?));
    }
    if fused(x) && fused(weight) {
        cpu::forward(&x.contiguous()?, weight, eps)
    } else {
        reference::forward(x, weight, eps)
    }
}

/// The gradients: dx is returned, f32 where x has 16 bits, dw is added where a gradient is given.
/// Shapes: dy, x (T, C), weight (C), rstd (T) from [`forward`] -> dx (T, C).
/// With n = x * rstd: dx = rstd * (dy * w - n * mean(dy * w * n)), dw = sum over rows of dy * n.
pub fn backward(
    dy: &Tensor,
    x: &Tensor,
    weight: &Tensor,
    rstd: &Tensor,
    eps: f32,
    gradient: Option<&mut Gradient>,
) -> Result<Tensor> {
    check(x, weight)?;
    if narrow(dy) || narrow(x) || narrow(weight) {
        return backward(&wide(dy)?, &wide(x)?, &wide(weight)?, rstd, eps, gradient);
    }
    if fused(x) && fused(weight) && fused(dy) {
        return cpu::backward(&dy.contiguous()?, &x.contiguous()?, weight, rstd, gradient);
    }
    let grads = crate::autograd::backward(&[x, weight], dy, |v| Ok(reference::forward(&v[0], &v[1], eps)?.0))?;
    if let Some(gradient) = gradient {
        gradient.add(&grads[1].to_dtype(DType::F32)?)?;
    }
    Ok(grads[0].clone())
}

/// The factor of norms whose weight is stored less one (Gemma): `1 + w` in f32, so that a 16-bit weight near zero keeps
/// its digits. Callers pass it as the weight; its gradient is the weight's. Shapes: (C) -> (C).
pub fn offset(weight: &Tensor) -> Result<Tensor> {
    arguments::check("rms_norm", &[("weight", weight)])?;
    wide(weight)? + 1.0
}

fn check(x: &Tensor, weight: &Tensor) -> Result<()> {
    arguments::check("rms_norm", &[("x", x), ("weight", weight)])?;
    match x.dims2()?.1 == weight.dims1()? {
        true => Ok(()),
        false => bail!("rms_norm: x {:?} doesn't fit weight {:?}", x.shape(), weight.shape()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_central_differences, assert_close, random, with_threads};
    use candle_core::Device;

    const EPS: f32 = 1e-5;

    #[test]
    fn rms_norm_and_its_gradients_match_the_reference() {
        for (t, c) in [(1, 1), (1, 17), (5, 64), (131, 33)] {
            let (x, w, dy) = (random(&[t, c], 1), random(&[c], 2), random(&[t, c], 3));
            let (y, rstd) = forward(&x, &w, EPS).unwrap();
            assert_close("y", &y, &reference::forward(&x, &w, EPS).unwrap().0, 1e-6);
            let expected =
                crate::autograd::backward(&[&x, &w], &dy, |v| Ok(reference::forward(&v[0], &v[1], EPS)?.0)).unwrap();
            let mut gradient = Gradient::new(c, &Device::Cpu).unwrap();
            let dx = backward(&dy, &x, &w, &rstd, EPS, Some(&mut gradient)).unwrap();
            assert_close("dx", &dx, &expected[0], 1e-5);
            assert_close("dw", gradient.tensor(), &expected[1], 1e-5);
        }
    }

    #[test]
    fn rms_norm_gradient_matches_central_differences_in_f64() {
        let (t, c) = (3, 7);
        let (x, w, dy) = (random(&[t, c], 4), random(&[c], 5), random(&[t, c], 6));
        let flat = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let wide = |t: &Tensor| flat(t).iter().map(|&v| f64::from(v)).collect::<Vec<_>>();
        let (w64, dy64) = (wide(&w), wide(&dy));
        let loss = |x: &[f64]| {
            let mut sum = 0.0;
            for r in 0..t {
                let row = &x[r * c..(r + 1) * c];
                let rstd = (row.iter().map(|v| v * v).sum::<f64>() / c as f64 + f64::from(EPS)).sqrt().recip();
                sum += (0..c).map(|i| row[i] * rstd * w64[i] * dy64[r * c + i]).sum::<f64>();
            }
            sum
        };
        let (_, rstd) = forward(&x, &w, EPS).unwrap();
        let dx = backward(&dy, &x, &w, &rstd, EPS, None).unwrap();
        assert_central_differences("rms_norm dx", &wide(&x), &flat(&dx), loss);
    }

    #[test]
    fn the_number_of_threads_changes_no_bit() {
        let (x, w, dy) = (random(&[300, 48], 7), random(&[48], 8), random(&[300, 48], 9));
        let run = || {
            let (_, rstd) = forward(&x, &w, EPS).unwrap();
            let mut gradient = Gradient::new(48, &Device::Cpu).unwrap();
            backward(&dy, &x, &w, &rstd, EPS, Some(&mut gradient)).unwrap();
            gradient.tensor().to_vec1::<f32>().unwrap()
        };
        assert_eq!(with_threads(1, run), with_threads(4, run));
    }
}
