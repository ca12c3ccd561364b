//! The definition of AdamW with quantized moments: widen, update as AdamW's reference, narrow.

use super::Quantized;
use crate::adamw::{self, Update};
use crate::parameter::Parameter;
use candle_core::{Result, Tensor};

/// One update; see [`super::step`].
pub fn step<'a>(
    parameter: impl Into<Parameter<'a>>,
    first: &mut Quantized,
    second: &mut Quantized,
    gradient: &Tensor,
    update: &Update,
) -> Result<()> {
    let (mut m, mut v) = (first.dequantize()?, second.dequantize()?);
    adamw::reference::step(parameter, &mut m, &mut v, gradient, update)?;
    first.quantize(&m)?;
    second.quantize(&v)
}
