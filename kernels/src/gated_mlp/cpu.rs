//! The gate on the CPU: chunks in parallel, each input read once.

use super::Activation;
use crate::fresh::Fresh;
use crate::gelu::{Form, scalar};
use crate::simd;
use crate::storage::view;
use candle_core::{Device, Result, Tensor};
use rayon::prelude::*;

/// Values a task takes.
const CHUNK: usize = 8 * 1024;

pub(super) fn forward(gate: &Tensor, up: &Tensor, activation: Activation) -> Result<Tensor> {
    match activation {
        Activation::Silu => map(gate, up, silu_value),
        Activation::Gelu(Form::Erf) => map(gate, up, scalar::erf_value),
        Activation::Gelu(Form::Tanh) => map(gate, up, scalar::tanh_value),
    }
}

pub(super) fn backward(dy: &Tensor, gate: &Tensor, up: &Tensor, activation: Activation) -> Result<(Tensor, Tensor)> {
    match activation {
        Activation::Silu => chunks_backward(
            dy,
            gate,
            up,
            #[inline(always)]
            |out, d, g, u| chunk(out, d, g, u, silu_both),
        ),
        Activation::Gelu(Form::Erf) => chunks_backward(
            dy,
            gate,
            up,
            #[inline(always)]
            |(dgate, dup), d, g, u| {
                for i in 0..g.len() {
                    dup[i] = scalar::erf_below(g[i]);
                }
                for i in 0..g.len() {
                    dgate[i] = d[i] * u[i] * scalar::erf_slope(g[i], dup[i]); // both exponentials in one loop are slow
                    dup[i] = d[i] * (g[i] * dup[i]);
                }
            },
        ),
        Activation::Gelu(Form::Tanh) => chunks_backward(
            dy,
            gate,
            up,
            #[inline(always)]
            |out, d, g, u| chunk(out, d, g, u, scalar::tanh_both),
        ),
    }
}

/// The gradients of the gate and of what it lets through, as they are written.
type Gradients<'a> = (&'a mut [f32], &'a mut [f32]);

/// `both` gives the activation and its derivative.
#[inline(always)]
fn chunk((dgate, dup): Gradients, d: &[f32], g: &[f32], u: &[f32], both: impl Fn(f32) -> (f32, f32)) {
    for i in 0..g.len() {
        let (value, slope) = both(g[i]);
        dgate[i] = d[i] * u[i] * slope;
        dup[i] = d[i] * value;
    }
}

#[inline(always)]
fn silu_value(g: f32) -> f32 {
    g * simd::sigmoid(g)
}

/// `g sigmoid(g)` and its derivative `s (1 + g (1 - s))`.
#[inline(always)]
fn silu_both(g: f32) -> (f32, f32) {
    let s = simd::sigmoid(g);
    (g * s, s * (1.0 + g * (1.0 - s)))
}

#[inline(always)]
fn map(gate: &Tensor, up: &Tensor, value: impl Fn(f32) -> f32 + Sync) -> Result<Tensor> {
    let (g, u) = (view(gate)?, view(up)?);
    let (g, u): (&[f32], &[f32]) = (&g, &u);
    let mut y = Fresh::new(g.len());
    y.par_chunks_mut(CHUNK).zip(g.par_chunks(CHUNK)).zip(u.par_chunks(CHUNK)).for_each(|((y, g), u)| {
        simd::run(
            #[inline(always)]
            || {
                let (g, u) = (&g[..y.len()], &u[..y.len()]); // one length: a bounds check would keep the loop scalar
                for i in 0..y.len() {
                    y[i] = value(g[i]) * u[i];
                }
            },
        );
    });
    Tensor::from_vec(y.into_vec(), gate.shape(), &Device::Cpu)
}

/// `chunk` takes the two gradients, dy, gate and up, equally long, and writes the gradients.
#[inline(always)]
fn chunks_backward(
    dy: &Tensor,
    gate: &Tensor,
    up: &Tensor,
    chunk: impl Fn(Gradients, &[f32], &[f32], &[f32]) + Sync,
) -> Result<(Tensor, Tensor)> {
    let (d, g, u) = (view(dy)?, view(gate)?, view(up)?);
    let (d, g, u): (&[f32], &[f32], &[f32]) = (&d, &g, &u);
    let (mut dgate, mut dup) = (Fresh::new(g.len()), Fresh::new(g.len()));
    let outputs = dgate.par_chunks_mut(CHUNK).zip(dup.par_chunks_mut(CHUNK));
    let inputs = d.par_chunks(CHUNK).zip(g.par_chunks(CHUNK)).zip(u.par_chunks(CHUNK));
    outputs.zip(inputs).for_each(|((dgate, dup), ((d, g), u))| {
        simd::run(
            #[inline(always)]
            || {
                let n = g.len();
                chunk((&mut dgate[..n], &mut dup[..n]), &d[..n], g, &u[..n]);
            },
        );
    });
    let tensor = |values: Fresh| Tensor::from_vec(values.into_vec(), gate.shape(), &Device::Cpu);
    Ok((tensor(dgate)?, tensor(dup)?))
}
