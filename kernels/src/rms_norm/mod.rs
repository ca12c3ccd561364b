//! RMS normalisation over the last dimension, with the reciprocal root kept for the backward pass; in a variant it also
//! makes the residual sum that it normalises.

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
        let (_, y, rstd) = cpu::forward(&x.contiguous()?, None, weight, eps)?;
        Ok((y, rstd))
    } else {
        reference::forward(x, weight, eps)
    }
}

/// `sum = x + residual`, and the norm of the sum. Shapes: x, residual (T, C) -> sum (T, C) and the norm's.
/// Memory: two reads, two writes; apart, the norm would read the sum once more. Errors: shapes that differ.
pub fn forward_residual(x: &Tensor, residual: &Tensor, weight: &Tensor, eps: f32) -> Result<(Tensor, Tensor, Tensor)> {
    check(x, weight)?;
    check_residual(x, residual)?;
    if fused(x) && fused(weight) && fused(residual) && x.elem_count() > 0 {
        let (Some(sum), y, rstd) = cpu::forward(&x.contiguous()?, Some(&residual.contiguous()?), weight, eps)? else {
            bail!("rms_norm: no residual sum came back")
        };
        return Ok((sum, y, rstd));
    }
    let sum = crate::residual::add(x, residual)?;
    let (y, rstd) = forward(&sum, weight, eps)?;
    Ok((sum, y, rstd))
}

/// The gradients: dx is returned, f32 where x has 16 bits, dw is added where a gradient is given.
/// Shapes: dy, x (T, C), weight (C), rstd (T) from [`forward`], residual (T, C) -> dx (T, C).
/// With n = x * rstd: dx = rstd * (dy * w - n * mean(dy * w * n)), dw = sum over rows of dy * n. `residual` is the gradient
/// that reaches x past the norm, added in the same pass. Errors: shapes that don't fit.
pub fn backward(
    dy: &Tensor,
    x: &Tensor,
    weight: &Tensor,
    rstd: &Tensor,
    eps: f32,
    residual: Option<&Tensor>,
    gradient: Option<&mut Gradient>,
) -> Result<Tensor> {
    check(x, weight)?;
    if let Some(residual) = residual {
        check_residual(x, residual)?;
    }
    if narrow(dy) || narrow(x) || narrow(weight) || residual.is_some_and(narrow) {
        let residual = residual.map(wide).transpose()?;
        return backward(&wide(dy)?, &wide(x)?, &wide(weight)?, rstd, eps, residual.as_ref(), gradient);
    }
    if fused(x) && fused(weight) && fused(dy) && residual.is_none_or(fused) {
        let residual = residual.map(Tensor::contiguous).transpose()?;
        return cpu::backward(&dy.contiguous()?, &x.contiguous()?, weight, rstd, residual.as_ref(), gradient);
    }
    let grads = crate::autograd::backward(&[x, weight], dy, |v| Ok(reference::forward(&v[0], &v[1], eps)?.0))?;
    if let Some(gradient) = gradient {
        gradient.add(&grads[1].to_dtype(DType::F32)?)?;
    }
    match residual {
        Some(residual) => crate::residual::add(&grads[0], &residual.to_dtype(grads[0].dtype())?),
        None => Ok(grads[0].clone()),
    }
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

fn check_residual(x: &Tensor, residual: &Tensor) -> Result<()> {
    arguments::check("rms_norm", &[("x", x), ("residual", residual)])?;
    match x.shape() == residual.shape() {
        true => Ok(()),
        false => bail!("rms_norm: x {:?} and residual {:?}", x.shape(), residual.shape()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_central_differences, assert_close, bits, random, with_threads};
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
            let dx = backward(&dy, &x, &w, &rstd, EPS, None, Some(&mut gradient)).unwrap();
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
        let dx = backward(&dy, &x, &w, &rstd, EPS, None, None).unwrap();
        assert_central_differences("rms_norm dx", &wide(&x), &flat(&dx), loss);
    }

    #[test]
    fn the_residual_variants_have_the_bits_of_the_sum_and_the_norm_apart() {
        for (t, c) in [(0, 4), (1, 17), (33, 64), (131, 33)] {
            let (x, residual, w, dy) = (random(&[t, c], 1), random(&[t, c], 2), random(&[c], 3), random(&[t, c], 4));
            let (sum, y, rstd) = forward_residual(&x, &residual, &w, EPS).unwrap();
            let expected = crate::residual::add(&x, &residual).unwrap();
            let (expected_y, expected_rstd) = forward(&expected, &w, EPS).unwrap();
            for (name, got, expected) in
                [("sum", &sum, &expected), ("y", &y, &expected_y), ("rstd", &rstd, &expected_rstd)]
            {
                assert_eq!(bits(got), bits(expected), "{name} ({t}, {c})");
            }
            let apart = backward(&dy, &sum, &w, &rstd, EPS, None, None).unwrap();
            let together = backward(&dy, &sum, &w, &rstd, EPS, Some(&residual), None).unwrap();
            assert_eq!(bits(&together), bits(&crate::residual::add(&apart, &residual).unwrap()), "dx ({t}, {c})");
        }
        let message =
            forward_residual(&random(&[2, 3], 1), &random(&[3, 3], 2), &random(&[3], 3), EPS).unwrap_err().to_string();
        assert!(message.contains("x [2, 3] and residual [3, 3]"), "{message}");
    }

    #[test]
    fn the_number_of_threads_changes_no_bit() {
        let (x, w, dy) = (random(&[300, 48], 7), random(&[48], 8), random(&[300, 48], 9));
        let run = || {
            let (_, rstd) = forward(&x, &w, EPS).unwrap();
            let mut gradient = Gradient::new(48, &Device::Cpu).unwrap();
            backward(&dy, &x, &w, &rstd, EPS, None, Some(&mut gradient)).unwrap();
            gradient.tensor().to_vec1::<f32>().unwrap()
        };
        assert_eq!(with_threads(1, run), with_threads(4, run));
    }
}
