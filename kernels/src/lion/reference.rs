//! The definition of Lion in tensor code; the momentum is replaced, the weight is changed in place.

use super::Update;
use crate::parameter::Parameter;
use candle_core::{Result, Tensor};

/// One update; see [`super::step`].
pub fn step<'a>(
    parameter: impl Into<Parameter<'a>>,
    momentum: &mut Tensor,
    gradient: &Tensor,
    update: &Update,
) -> Result<()> {
    let parameter = parameter.into();
    let g = (gradient * update.gradient_scale)?;
    let direction = ((&*momentum * update.beta1)? + (&g * (1.0 - update.beta1))?)?;
    // candle's sign of NaN is 0, which would hide it; only NaN differs from itself
    let sign = direction.eq(&direction)?.where_cond(&direction.sign()?, &direction)?;
    let kept = (parameter.values() * (1.0 - update.learning_rate * update.weight_decay))?;
    *momentum = ((&*momentum * update.beta2)? + (g * (1.0 - update.beta2))?)?;
    parameter.write(&(kept - (sign * update.learning_rate)?)?)
}
