//! The definition of AdamW in tensor code; the moments are replaced, the weight is changed in place.

use super::Update;
use crate::parameter::Parameter;
use candle_core::{Result, Tensor};

/// One update; see [`super::step`].
pub fn step<'a>(
    parameter: impl Into<Parameter<'a>>,
    first: &mut Tensor,
    second: &mut Tensor,
    gradient: &Tensor,
    update: &Update,
) -> Result<()> {
    let parameter = parameter.into();
    let g = (gradient * update.gradient_scale)?;
    let (beta1, beta2, steps) = (update.beta1, update.beta2, update.step as f64);
    *first = (&*first + ((&g - &*first)? * (1.0 - beta1))?)?;
    *second = ((&*second * beta2)? + (g.sqr()? * (1.0 - beta2))?)?;
    let root = ((second.sqrt()? / (1.0 - beta2.powf(steps)).sqrt())? + update.epsilon)?;
    let kept = (parameter.values() * (1.0 - update.learning_rate * update.weight_decay))?;
    let moved = (kept - ((&*first / root)? * (update.learning_rate / (1.0 - beta1.powf(steps))))?)?;
    parameter.write(&moved)
}
