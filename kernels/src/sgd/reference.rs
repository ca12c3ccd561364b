//! The definition of SGD in tensor code; the momentum is replaced, the weight is changed in place.

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
    let g = ((gradient * update.gradient_scale)? + (parameter.values() * update.weight_decay)?)?;
    *momentum = ((&*momentum * update.momentum)? + g)?;
    parameter.write(&(parameter.values() - (&*momentum * update.learning_rate)?)?)
}
