//! The backward pass of a reference by candle's autograd, for that op alone.
//!
//! Used on devices that have no fused kernel, and in tests as the oracle.

use crate::device::empty;
use candle_core::{DType, Result, Tensor, Var};
use std::cell::Cell;

thread_local! {
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

/// How often this thread has run a reference's backward pass: by it one sees whether an op was fused.
pub fn calls() -> u64 {
    CALLS.get()
}

/// The tensor in the type that references compute with: 16-bit values in f32, others as they are.
pub(crate) fn widened(tensor: &Tensor) -> Result<Tensor> {
    match tensor.dtype() {
        DType::BF16 | DType::F16 => tensor.to_dtype(DType::F32),
        _ => Ok(tensor.clone()),
    }
}

/// Gradients of `sum(reference(inputs) * dy)` with respect to each input. 16-bit inputs are widened first, so that the
/// reference, its sums, and the gradients are f32. Inputs that the reference doesn't use get zeros.
pub fn backward(
    inputs: &[&Tensor],
    dy: &Tensor,
    reference: impl Fn(&[Tensor]) -> Result<Tensor>,
) -> Result<Vec<Tensor>> {
    CALLS.set(CALLS.get() + 1);
    let wide_type = |x: &Tensor| if x.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
    if dy.elem_count() == 0 || inputs.iter().any(|x| x.elem_count() == 0) {
        return inputs.iter().map(|x| empty(x.dims(), wide_type(x), x.device())).collect(); // CUDA launches nothing
    }
    let vars = inputs.iter().map(|x| Var::from_tensor(&widened(&x.detach())?)).collect::<Result<Vec<_>>>()?;
    let tracked: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
    let y = reference(&tracked)?;
    let dy = widened(&dy.detach())?.to_dtype(y.dtype())?;
    let grads = (y * dy)?.sum_all()?.backward()?;
    vars.iter()
        .map(|v| match grads.get(v) {
            Some(gradient) => Ok(gradient.detach()),
            None => v.as_tensor().zeros_like(),
        })
        .collect()
}
