//! The backward pass of a reference by candle's autograd, for that op alone.
//!
//! Used on devices that have no fused kernel, and in tests as the oracle.

use candle_core::{Result, Tensor, Var};

/// Gradients of `sum(reference(inputs) * dy)` with respect to each input, in f32 or the input's dtype.
/// Inputs that the reference doesn't use get zeros.
pub fn backward(
    inputs: &[&Tensor],
    dy: &Tensor,
    reference: impl Fn(&[Tensor]) -> Result<Tensor>,
) -> Result<Vec<Tensor>> {
    let vars = inputs.iter().map(|x| Var::from_tensor(&x.detach())).collect::<Result<Vec<_>>>()?;
    let tracked: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
    let y = reference(&tracked)?;
    let grads = (y * dy)?.sum_all()?.backward()?;
    vars.iter()
        .map(|v| match grads.get(v) {
            Some(gradient) => Ok(gradient.detach()),
            None => v.as_tensor().zeros_like(),
        })
        .collect()
}
