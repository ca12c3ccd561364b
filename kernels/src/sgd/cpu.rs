//! SGD on the CPU: chunks in parallel, 20 bytes moved per weight (read p, b, g; write p, b), and 2 more where a
//! 16-bit weight is written beside its master.

use super::Update;
use crate::parameter::{CHUNK, Parameter};
use crate::storage::{update, view};
use candle_core::{Result, Tensor};
use rayon::prelude::*;

pub(super) fn step(parameter: Parameter, momentum: &Tensor, gradient: &Tensor, numbers: &Update) -> Result<()> {
    let (rate, keep) = (numbers.learning_rate as f32, numbers.momentum as f32);
    let (decay, scale) = (numbers.weight_decay as f32, numbers.gradient_scale as f32);
    let g = view(gradient)?;
    let g: &[f32] = &g;
    update("sgd momentum", momentum, |b| {
        let state = b.par_chunks_mut(CHUNK).zip(g.par_chunks(CHUNK));
        parameter.update(
            "sgd weight",
            state,
            #[inline(always)]
            |p, (b, g)| {
                let len = p.len();
                let (b, g) = (&mut b[..len], &g[..len]);
                for i in 0..len {
                    b[i] = keep * b[i] + (g[i] * scale + decay * p[i]);
                    p[i] -= rate * b[i];
                }
            },
        )
    })
}
