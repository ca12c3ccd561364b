//! An op against its reference: the reference runs on the CPU in f64, its backward pass by candle's autograd.

use super::OpCase;
use crate::autograd;
use crate::gradient::Gradient;
use candle_core::{DType, Device, Result, Tensor, bail};

/// What an op gave, on the CPU in f64.
#[derive(Clone, Debug)]
pub struct Results {
    /// The outputs of the forward pass.
    pub outputs: Vec<Tensor>,
    /// A gradient per input; empty where there is no backward pass.
    pub gradients: Vec<Tensor>,
    /// Whether the forward and the backward pass ran kernels of their own.
    pub fused: [bool; 2],
}

/// The largest differences from the reference, as shares of each tensor's largest value (of 0.01 at least).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Differences {
    /// Of the outputs.
    pub forward: f64,
    /// Of the gradients; None where there is no backward pass.
    pub backward: Option<f64>,
}

/// The largest difference of an op's result in that type from its definition that isn't a defect.
///
/// f32: sums of up to some thousand products, in another order. 16 bits: half a last digit is 2^-9 (f16: 2^-12) of a
/// value; references on a GPU round between their products too.
pub fn tolerance(dtype: DType) -> f64 {
    match dtype {
        DType::BF16 => 2e-2,
        DType::F16 => 4e-3,
        _ => 2e-5,
    }
}

/// A view of the same values that isn't contiguous.
pub fn strided(tensor: &Tensor) -> Result<Tensor> {
    match tensor.rank() {
        0 => Ok(tensor.clone()),
        1 => Tensor::stack(&[tensor, tensor], 1)?.narrow(1, 0, 1)?.squeeze(1),
        rank => tensor.transpose(rank - 2, rank - 1)?.contiguous()?.transpose(rank - 2, rank - 1),
    }
}

/// The case's inputs, on a device, those that may have 16 bits in `dtype`.
pub fn inputs(case: &dyn OpCase, device: &Device, dtype: DType) -> Result<Vec<Tensor>> {
    let place = |(index, input): (usize, Tensor)| {
        let dtype = if case.is_narrowed(index) { dtype } else { DType::F32 };
        input.to_dtype(dtype)?.to_device(device)
    };
    case.inputs()?.into_iter().enumerate().map(place).collect()
}

/// Runs the op forwards and backwards on these inputs, as its callers do.
pub fn run(case: &dyn OpCase, x: &[Tensor]) -> Result<Results> {
    let Some(device) = x.first().map(Tensor::device) else { bail!("{}: a case without inputs", case.op()) };
    let outputs = case.forward(x)?;
    let forward_fused = case.is_fused(device);
    if !case.is_differentiable() {
        return Ok(Results { outputs: on_cpu(&outputs)?, gradients: Vec::new(), fused: [forward_fused; 2] });
    }
    let Some(y) = outputs.first() else { bail!("{}: no output", case.op()) };
    let dy = case.dy(y.dims())?.to_device(device)?;
    let mut places = x.iter().map(|x| Gradient::new(x.shape(), device)).collect::<Result<Vec<_>>>()?;
    let before = autograd::calls();
    let returned = case.backward(x, &outputs, &dy, &mut places)?;
    let backward_fused = device.is_cpu() && autograd::calls() == before;
    if returned.len() != x.len() {
        bail!("{}: {} gradients of {} inputs", case.op(), returned.len(), x.len())
    }
    let gradients: Vec<Tensor> =
        returned.into_iter().zip(&places).map(|(own, place)| own.unwrap_or_else(|| place.tensor().clone())).collect();
    Ok(Results { outputs: on_cpu(&outputs)?, gradients: on_cpu(&gradients)?, fused: [forward_fused, backward_fused] })
}

/// What the reference gives for the values of these inputs, in f64 on the CPU.
pub fn expected(case: &dyn OpCase, x: &[Tensor]) -> Result<Results> {
    let wide = on_cpu(x)?;
    let outputs = case.reference(&wide)?;
    let mut gradients = Vec::new();
    if let (true, Some(y)) = (case.is_differentiable(), outputs.first()) {
        let dy = case.dy(y.dims())?.to_dtype(DType::F64)?;
        let inputs: Vec<&Tensor> = wide.iter().collect();
        gradients = autograd::backward(&inputs, &dy, |x| Ok(case.reference(x)?.swap_remove(0)))?;
    }
    Ok(Results { outputs: on_cpu(&outputs)?, gradients, fused: [false; 2] })
}

/// How far apart two results are. Errors: shapes that differ.
pub fn differences(case: &dyn OpCase, actual: &Results, expected: &Results) -> Result<Differences> {
    let largest = |actual: &[Tensor], expected: &[Tensor]| -> Result<f64> {
        let pairs = actual.iter().zip(expected);
        pairs.map(|(a, e)| difference(case.op(), a, e)).try_fold(0f64, |most, next| Ok(most.max(next?)))
    };
    Ok(Differences {
        forward: largest(&actual.outputs, &expected.outputs)?,
        backward: case.is_differentiable().then(|| largest(&actual.gradients, &expected.gradients)).transpose()?,
    })
}

/// A case on a device in a type, against its reference on the CPU; and whether forward and backward were fused.
pub fn compare(case: &dyn OpCase, device: &Device, dtype: DType) -> Result<(Differences, [bool; 2])> {
    let x = inputs(case, device, dtype)?;
    let actual = run(case, &x)?;
    Ok((differences(case, &actual, &expected(case, &x)?)?, actual.fused))
}

fn on_cpu(tensors: &[Tensor]) -> Result<Vec<Tensor>> {
    // f64 only there: Metal has none
    tensors.iter().map(|tensor| tensor.detach().to_device(&Device::Cpu)?.to_dtype(DType::F64)).collect()
}

/// Infinite where one has a NaN and the other hasn't.
fn difference(op: &str, actual: &Tensor, expected: &Tensor) -> Result<f64> {
    if actual.dims() != expected.dims() {
        bail!("{op}: {:?} but the reference has {:?}", actual.shape(), expected.shape())
    }
    let flat = |tensor: &Tensor| tensor.flatten_all()?.to_vec1::<f64>();
    let (actual, expected) = (flat(actual)?, flat(expected)?);
    let scale = expected.iter().fold(1e-2f64, |most, value| most.max(value.abs()));
    let apart = |(a, e): (&f64, &f64)| match (a.is_nan(), e.is_nan()) {
        (true, true) => 0.0,
        (false, false) if a == e => 0.0, // infinite alike
        (false, false) => (a - e).abs() / scale,
        _ => f64::INFINITY,
    };
    Ok(actual.iter().zip(&expected).map(apart).fold(0.0, f64::max))
}
