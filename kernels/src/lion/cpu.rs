//! Lion on the CPU: chunks in parallel, 20 bytes moved per weight (read p, m, g; write p, m), and 2 more where a
//! 16-bit weight is written beside its master.

use super::Update;
use crate::parameter::{CHUNK, Parameter};
use crate::storage::{update, view};
use candle_core::{Result, Tensor};
use rayon::prelude::*;

pub(super) fn step(parameter: Parameter, momentum: &Tensor, gradient: &Tensor, numbers: &Update) -> Result<()> {
    let (rate, scale) = (numbers.learning_rate as f32, numbers.gradient_scale as f32);
    let keep = (1.0 - numbers.learning_rate * numbers.weight_decay) as f32;
    let (beta1, one_minus_beta1) = (numbers.beta1 as f32, (1.0 - numbers.beta1) as f32);
    let (beta2, one_minus_beta2) = (numbers.beta2 as f32, (1.0 - numbers.beta2) as f32);
    let g = view(gradient)?;
    let g: &[f32] = &g;
    update("lion momentum", momentum, |m| {
        let state = m.par_chunks_mut(CHUNK).zip(g.par_chunks(CHUNK));
        parameter.update(
            "lion weight",
            state,
            #[inline(always)]
            |p, (m, g)| {
                let len = p.len();
                let (m, g) = (&mut m[..len], &g[..len]);
                for i in 0..len {
                    let g = g[i] * scale;
                    p[i] = p[i] * keep - rate * sign(beta1 * m[i] + one_minus_beta1 * g);
                    m[i] = beta2 * m[i] + one_minus_beta2 * g;
                }
            },
        )
    })
}

/// 1, -1, or the value itself where it is 0 or NaN.
#[inline(always)]
fn sign(x: f32) -> f32 {
    let negative = if x < 0.0 { -1.0 } else { x };
    if x > 0.0 { 1.0 } else { negative }
}
