//! The gate of a gated MLP, `silu(gate) * up`, with a vectorised exponential.

mod cpu;
pub mod reference;

use crate::storage::{fused, narrow, wide};
use candle_core::{Result, Tensor, bail};

/// `silu(gate) * up`. Shapes: gate and up (T, F) -> (T, F).
/// Source: Shazeer 2020, arXiv:2002.05202 (SwiGLU).
pub fn forward(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    check(gate, up)?;
    if narrow(gate) {
        return forward(&wide(gate)?, &wide(up)?)?.to_dtype(gate.dtype());
    }
    if fused(gate) && fused(up) {
        cpu::forward(&gate.contiguous()?, &up.contiguous()?)
    } else {
        reference::forward(gate, up)
    }
}

/// Gradients of gate and up, f32 where these have 16 bits. Shapes: dy, gate, up (T, F) -> (T, F) each.
/// With s = sigmoid(gate): dgate = dy * up * s * (1 + gate * (1 - s)), dup = dy * gate * s.
pub fn backward(dy: &Tensor, gate: &Tensor, up: &Tensor) -> Result<(Tensor, Tensor)> {
    check(gate, up)?;
    check(dy, up)?;
    if narrow(dy) || narrow(gate) {
        return backward(&wide(dy)?, &wide(gate)?, &wide(up)?);
    }
    if fused(dy) && fused(gate) && fused(up) {
        return cpu::backward(&dy.contiguous()?, &gate.contiguous()?, &up.contiguous()?);
    }
    let grads = crate::autograd::backward(&[gate, up], dy, |v| reference::forward(&v[0], &v[1]))?;
    Ok((grads[0].clone(), grads[1].clone()))
}

fn check(a: &Tensor, b: &Tensor) -> Result<()> {
    match a.shape() == b.shape() {
        true => Ok(()),
        false => bail!("gated_mlp: {:?} and {:?}", a.shape(), b.shape()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_central_differences, assert_close, random};

    #[test]
    fn gate_and_its_gradients_match_the_reference() {
        for (t, f) in [(0, 8), (1, 1), (3, 17), (130, 257)] {
            let scaled = |seed| (random(&[t, f], seed) * 6.0).unwrap();
            let (gate, up, dy) = (scaled(1), scaled(2), random(&[t, f], 3));
            assert_close("y", &forward(&gate, &up).unwrap(), &reference::forward(&gate, &up).unwrap(), 1e-6);
            let expected = crate::autograd::backward(&[&gate, &up], &dy, |v| reference::forward(&v[0], &v[1])).unwrap();
            let (dgate, dup) = backward(&dy, &gate, &up).unwrap();
            assert_close("dgate", &dgate, &expected[0], 1e-6);
            assert_close("dup", &dup, &expected[1], 1e-6);
        }
    }

    #[test]
    fn gate_gradient_matches_central_differences_in_f64() {
        let (gate, up, dy) = (random(&[1, 9], 4), random(&[1, 9], 5), random(&[1, 9], 6));
        let flat = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let wide = |t: &Tensor| flat(t).iter().map(|&x| f64::from(x)).collect::<Vec<f64>>();
        let (up64, dy64) = (wide(&up), wide(&dy));
        let (dgate, _) = backward(&dy, &gate, &up).unwrap();
        assert_central_differences("dgate", &wide(&gate), &flat(&dgate), |g| {
            g.iter().zip(&up64).zip(&dy64).map(|((g, u), d)| g / (1.0 + (-g).exp()) * u * d).sum()
        });
    }

    #[test]
    fn a_nan_is_not_hidden() {
        let gate = Tensor::full(f32::NAN, (1, 3), &candle_core::Device::Cpu).unwrap();
        let y = forward(&gate, &random(&[1, 3], 1)).unwrap();
        assert!(y.flatten_all().unwrap().to_vec1::<f32>().unwrap().iter().all(|x| x.is_nan()));
    }
}
