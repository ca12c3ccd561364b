//! AdamW whose two moments take a byte a value instead of four, in one pass.
//!
//! Left out: tensors of fewer than [`MIN_VALUES`] values, which gain nothing; callers keep those with `adamw`.

pub mod case;
mod cpu;
mod quantized;
pub mod reference;

use crate::adamw::Update;
use crate::parameter::Parameter;
use crate::storage::fused;
use candle_core::{DType, Device, Result, Tensor, bail};

pub use quantized::{BLOCK, Codebook, Quantized};

/// Tensors with fewer values keep f32 moments, as in bitsandbytes (`min_8bit_size`).
pub const MIN_VALUES: usize = 4096;

/// Updates a weight and its quantized moments in place: both are widened to f32, updated as [`crate::adamw::step`]
/// does, used, and quantized again. Shapes: all equal.
///
/// Errors: shapes or types that don't fit; moments that aren't signed and unsigned.
/// Source: Dettmers et al. 2022, arXiv:2110.02861; codebooks and blocks of 256 as bitsandbytes' `AdamW8bit`. One
/// difference: a moment that isn't zero never rounds to zero, for a second moment of zero makes the step unbounded.
/// On a GPU the reference runs: it copies the moments to the CPU to quantize them.
pub fn step<'a>(
    parameter: impl Into<Parameter<'a>>,
    first: &mut Quantized,
    second: &mut Quantized,
    gradient: &Tensor,
    update: &Update,
) -> Result<()> {
    let parameter = parameter.into();
    parameter.check("adamw_8bit", &[&first.codes, &second.codes], gradient)?;
    if (first.codebook, second.codebook) != (Codebook::Signed, Codebook::Unsigned) {
        bail!("adamw_8bit: moments are {:?} and {:?}, not signed and unsigned", first.codebook, second.codebook)
    }
    first.check("adamw_8bit")?;
    second.check("adamw_8bit")?;
    let is_quantized = |moment: &Quantized| {
        matches!(moment.codes.device(), Device::Cpu) && moment.codes.dtype() == DType::U8 && fused(&moment.absmax)
    };
    if parameter.is_on_cpu() && is_quantized(first) && is_quantized(second) && fused(gradient) {
        cpu::step(parameter, first, second, gradient, update)
    } else {
        reference::step(parameter, first, second, gradient, update)
    }
}

#[cfg(test)]
mod tests;
