//! The backward pass of a reference by candle's autograd, for that op alone.
//!
//! Used on devices that have no fused kernel, and in tests as the oracle.

use candle_core::{DType, Result, Tensor, Var};

/// Gradients of `sum(reference(inputs) * dy)` with respect to each input. 16-bit inputs are widened first, so that the
/// reference, its sums, and the gradients are f32. Inputs that the reference doesn't use get zeros.
pub fn backward(
    inputs: &[&Tensor],
    dy: &Tensor,
    reference: impl Fn(&[Tensor]) -> Result<Tensor>,
) -> Result<Vec<Tensor>> {
    let widened = |x: &Tensor| match x.dtype() {
        DType::BF16 | DType::F16 => x.detach().to_dtype(DType::F32),
        _ => Ok(x.detach()),
    };
    let vars = inputs.iter().map(|x| Var::from_tensor(&widened(x)?)).collect::<Result<Vec<_>>>()?;
    let tracked: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
    let y = reference(&tracked)?;
    if y.elem_count() == 0 {
        return vars.iter().map(|v| v.as_tensor().zeros_like()).collect(); // CUDA refuses to launch over nothing
    }
    let grads = (y * widened(dy)?)?.sum_all()?.backward()?;
    vars.iter()
        .map(|v| match grads.get(v) {
            Some(gradient) => Ok(gradient.detach()),
            None => v.as_tensor().zeros_like(),
        })
        .collect()
}
