//! The definition of GELU.

use super::Form;
use crate::autograd::widened;
use candle_core::{Result, Tensor};

/// `x/2 (1 + erf(x / sqrt 2))`, or `x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))`; computed in f32 at least.
/// candle's own `gelu` has constants of six digits, and `powf(3)` in its gradient.
pub fn forward(x: &Tensor, form: Form) -> Result<Tensor> {
    let wide = widened(x)?;
    let twice = match form {
        Form::Erf => ((&wide * std::f64::consts::FRAC_1_SQRT_2)?.erf()? + 1.0)?,
        Form::Tanh => {
            let inner = (&wide + ((&wide * wide.sqr()?)? * 0.044_715)?)?;
            ((inner * (2.0 / std::f64::consts::PI).sqrt())?.tanh()? + 1.0)?
        }
    };
    ((wide * 0.5)? * twice)?.to_dtype(x.dtype())
}
