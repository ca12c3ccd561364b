//! The gate on the CPU: chunks in parallel, each input read once.

use crate::simd;
use crate::storage::view;
use candle_core::{Device, Result, Tensor};
use rayon::prelude::*;

/// Values a task takes.
const CHUNK: usize = 8 * 1024;

pub(super) fn forward(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    let (g, u) = (view(gate)?, view(up)?);
    let (g, u): (&[f32], &[f32]) = (&g, &u);
    let mut y = vec![0f32; g.len()];
    y.par_chunks_mut(CHUNK).zip(g.par_chunks(CHUNK)).zip(u.par_chunks(CHUNK)).for_each(|((y, g), u)| {
        simd::run(
            #[inline(always)]
            || {
                for i in 0..y.len() {
                    y[i] = g[i] * simd::sigmoid(g[i]) * u[i];
                }
            },
        );
    });
    Tensor::from_vec(y, gate.shape(), &Device::Cpu)
}

pub(super) fn backward(dy: &Tensor, gate: &Tensor, up: &Tensor) -> Result<(Tensor, Tensor)> {
    let (d, g, u) = (view(dy)?, view(gate)?, view(up)?);
    let (d, g, u): (&[f32], &[f32], &[f32]) = (&d, &g, &u);
    let (mut dgate, mut dup) = (vec![0f32; g.len()], vec![0f32; g.len()]);
    let outputs = dgate.par_chunks_mut(CHUNK).zip(dup.par_chunks_mut(CHUNK));
    let inputs = d.par_chunks(CHUNK).zip(g.par_chunks(CHUNK)).zip(u.par_chunks(CHUNK));
    outputs.zip(inputs).for_each(|((dgate, dup), ((d, g), u))| {
        simd::run(
            #[inline(always)]
            || {
                for i in 0..g.len() {
                    let s = simd::sigmoid(g[i]);
                    dgate[i] = d[i] * u[i] * s * (1.0 + g[i] * (1.0 - s));
                    dup[i] = d[i] * g[i] * s;
                }
            },
        );
    });
    Ok((Tensor::from_vec(dgate, gate.shape(), &Device::Cpu)?, Tensor::from_vec(dup, gate.shape(), &Device::Cpu)?))
}
