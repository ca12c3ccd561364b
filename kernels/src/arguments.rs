//! What every op asks of its tensors beside their shapes: a type that it computes with, and one device.

use candle_core::{DType, Result, Tensor, bail};

/// Errors: a tensor that isn't f32, bf16 or f16; tensors of two devices. Both name the op, every tensor, its shape,
/// type and device. (f64 passes: the definitions are run in it.)
pub(crate) fn check(op: &str, tensors: &[(&str, &Tensor)]) -> Result<()> {
    let wrong = |tensor: &Tensor| !matches!(tensor.dtype(), DType::F32 | DType::BF16 | DType::F16 | DType::F64);
    let apart = |tensor: &Tensor| !tensor.device().same_device(tensors[0].1.device());
    let needed = match tensors.iter().find(|(_, tensor)| wrong(tensor) || apart(tensor)) {
        None => return Ok(()),
        Some((name, tensor)) if wrong(tensor) => format!("{name} must be f32, bf16 or f16"),
        Some((name, _)) => format!("{name} must be where {} is", tensors[0].0),
    };
    let describe = |(name, tensor): &(&str, &Tensor)| {
        format!("{name} {:?} {:?} on {:?}", tensor.shape(), tensor.dtype(), tensor.device().location())
    };
    bail!("{op}: {}: {needed}", tensors.iter().map(describe).collect::<Vec<_>>().join(", "))
}
