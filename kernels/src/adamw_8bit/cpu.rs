//! AdamW with quantized moments on the CPU: chunks in parallel, block by block through 2 KiB of f32 moments. 16 bytes
//! moved per weight (read p, g and both codes; write p and both codes), and 2 more where a 16-bit weight is written
//! beside its master.

use super::quantized::{BLOCK, Codebook, Quantized, Table};
use crate::adamw::{self, Factors, Update};
use crate::parameter::{CHUNK, Parameter};
use crate::storage::{update, update_as, view};
use candle_core::{Result, Tensor};
use rayon::prelude::*;

/// Blocks of a chunk.
const BLOCKS: usize = CHUNK / BLOCK;

/// One moment's part of a chunk.
struct Part<'a> {
    codes: &'a mut [u8],
    absmax: &'a mut [f32],
    table: &'static Table,
}

pub(super) fn step(
    parameter: Parameter,
    first: &Quantized,
    second: &Quantized,
    gradient: &Tensor,
    numbers: &Update,
) -> Result<()> {
    let factors = numbers.factors();
    let g = view(gradient)?;
    let g: &[f32] = &g;
    parts(first, |first_codes, first_absmax| {
        parts(second, |second_codes, second_absmax| {
            let first = first_codes.par_chunks_mut(CHUNK).zip(first_absmax.par_chunks_mut(BLOCKS));
            let second = second_codes.par_chunks_mut(CHUNK).zip(second_absmax.par_chunks_mut(BLOCKS));
            let part = |(codes, absmax), codebook: Codebook| Part { codes, absmax, table: codebook.table() };
            let state = first
                .zip(second)
                .zip(g.par_chunks(CHUNK))
                .map(|((first, second), g)| (part(first, Codebook::Signed), part(second, Codebook::Unsigned), g));
            parameter.update(
                "adamw_8bit weight",
                state,
                #[inline(always)]
                |p, (first, second, g)| chunk(p, first, second, g, factors),
            )
        })
    })
}

/// Codes and magnitudes of a moment, to be changed.
fn parts(moment: &Quantized, function: impl FnOnce(&mut [u8], &mut [f32]) -> Result<()>) -> Result<()> {
    update_as::<u8>("adamw_8bit codes", &moment.codes, |codes| {
        update("adamw_8bit magnitudes", &moment.absmax, |absmax| function(codes, absmax))
    })
}

#[inline(always)]
fn chunk(p: &mut [f32], first: Part, second: Part, g: &[f32], factors: Factors) {
    let (mut m, mut v) = ([0f32; BLOCK], [0f32; BLOCK]);
    let moments = first.codes.chunks_mut(BLOCK).zip(first.absmax);
    let moments = moments.zip(second.codes.chunks_mut(BLOCK).zip(second.absmax));
    for ((p, g), ((m_codes, m_absmax), (v_codes, v_absmax))) in p.chunks_mut(BLOCK).zip(g.chunks(BLOCK)).zip(moments) {
        let (m, v) = (&mut m[..p.len()], &mut v[..p.len()]);
        first.table.dequantize(m_codes, *m_absmax, m);
        second.table.dequantize(v_codes, *v_absmax, v);
        adamw::cpu::chunk(p, m, v, g, factors);
        *m_absmax = first.table.quantize(m, m_codes);
        *v_absmax = second.table.quantize(v, v_codes);
    }
}
