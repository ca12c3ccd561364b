//! AdamW on the CPU: chunks in parallel, 28 bytes moved per weight (read p, m, v, g; write p, m, v), and 2 more where
//! a 16-bit weight is written beside its master.

use super::{Factors, Update};
use crate::parameter::{CHUNK, Parameter};
use crate::storage::{update, view};
use candle_core::{Result, Tensor};
use rayon::prelude::*;

pub(super) fn step(
    parameter: Parameter,
    first: &Tensor,
    second: &Tensor,
    gradient: &Tensor,
    numbers: &Update,
) -> Result<()> {
    let factors = numbers.factors();
    let g = view(gradient)?;
    let g: &[f32] = &g;
    update("adamw first moment", first, |m| {
        update("adamw second moment", second, |v| {
            let state = m.par_chunks_mut(CHUNK).zip(v.par_chunks_mut(CHUNK)).zip(g.par_chunks(CHUNK));
            parameter.update(
                "adamw weight",
                state,
                #[inline(always)]
                |p, ((m, v), g)| chunk(p, m, v, g, factors),
            )
        })
    })
}

/// The update of slices of equal length.
#[inline(always)]
pub(crate) fn chunk(p: &mut [f32], m: &mut [f32], v: &mut [f32], g: &[f32], f: Factors) {
    let len = p.len();
    let (m, v, g) = (&mut m[..len], &mut v[..len], &g[..len]);
    for i in 0..len {
        let g = g[i] * f.scale;
        m[i] += f.one_minus_beta1 * (g - m[i]);
        v[i] = f.beta2 * v[i] + f.one_minus_beta2 * g * g;
        p[i] = p[i] * f.keep - f.step_size * (m[i] / (v[i].sqrt() * f.root_factor + f.epsilon));
    }
}
