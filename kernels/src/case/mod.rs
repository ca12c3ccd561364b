//! One case per op and shape: what its tests, its benchmark and `outcrop doctor` run.
//!
//! An op's `case.rs` says how to call it, what it is defined by, and what its work costs. All else follows from that:
//! the comparison with the reference ([`check`]), and times as shares of what the machine can do ([`timing`]).

pub mod check;
pub mod timing;

use crate::gradient::Gradient;
use candle_core::{Device, Result, Tensor, bail};
use rand::{Rng, SeedableRng};

/// An op on one set of shapes.
///
/// `x` are always this case's inputs, on some device and of some type: f32, or for [`OpCase::is_narrowed`] ones bf16 or
/// f16; the reference is run in f64 too.
pub trait OpCase: Send + Sync {
    /// The op's name, as its folder has it.
    fn op(&self) -> &'static str;

    /// Shapes and variant, for people: `(512, 576)`.
    fn shape(&self) -> String;

    /// Seeded inputs, f32 on the CPU. Those of a differentiable op are what it is differentiated by.
    fn inputs(&self) -> Result<Vec<Tensor>>;

    /// The op as its callers run it. The first output is what is differentiated; further ones are compared where the
    /// reference has them, and given to the backward pass.
    fn forward(&self, x: &[Tensor]) -> Result<Vec<Tensor>>;

    /// The definition, in differentiable tensor code.
    fn reference(&self, x: &[Tensor]) -> Result<Vec<Tensor>>;

    /// The gradients of `sum(outputs[0] * dy)` by the op's own backward pass, one per input; None stands for one that
    /// was added to the input's place in `gradients`. Nothing at all for an op without a backward pass.
    fn backward(
        &self,
        _x: &[Tensor],
        _outputs: &[Tensor],
        _dy: &Tensor,
        _gradients: &mut [Gradient],
    ) -> Result<Vec<Option<Tensor>>> {
        Ok(Vec::new())
    }

    /// Whether there is a backward pass.
    fn is_differentiable(&self) -> bool {
        true
    }

    /// Bytes and operations of the forward and of the backward pass, in f32: what has to be read and written once.
    fn cost(&self) -> [Cost; 2];

    /// The weights of the first output in what is differentiated; f32 on the CPU, of that output's shape.
    fn dy(&self, shape: &[usize]) -> Result<Tensor> {
        random(shape, 99)
    }

    /// Whether an input has 16 bits where weights and activations do; the rest stays f32.
    fn is_narrowed(&self, _input: usize) -> bool {
        true
    }

    /// Whether inputs may be views that aren't contiguous. Where not, the op refuses them by name.
    fn takes_strided(&self) -> bool {
        true
    }

    /// Whether the forward pass has a kernel of its own there; else it is tensor code.
    fn is_fused(&self, device: &Device) -> bool {
        device.is_cpu()
    }

    /// What a time is taken of, over and over: by default the forward pass. An op that works in place prepares its
    /// copies before.
    fn timed<'a>(&'a self, x: &'a [Tensor]) -> Result<Box<dyn FnMut() -> Result<()> + 'a>> {
        Ok(Box::new(move || self.forward(x).map(drop)))
    }

    /// The same of the backward pass; gradients of weights add up in place, as over micro-batches.
    fn timed_backward<'a>(&'a self, x: &'a [Tensor]) -> Result<Box<dyn FnMut() -> Result<()> + 'a>> {
        let outputs = self.forward(x)?;
        let Some(y) = outputs.first() else { bail!("{}: no output", self.op()) };
        let dy = self.dy(y.dims())?.to_device(y.device())?;
        let mut places = x.iter().map(|x| Gradient::new(x.shape(), y.device())).collect::<Result<Vec<_>>>()?;
        Ok(Box::new(move || self.backward(x, &outputs, &dy, &mut places).map(drop)))
    }
}

/// What an op has to do at least.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Bytes read and written, each once.
    pub bytes: u64,
    /// Floating-point operations of its matrix products.
    pub flops: u64,
}

impl Cost {
    /// Values of four bytes, moved.
    pub(crate) fn values(count: usize) -> Self {
        Self { bytes: 4 * count as u64, flops: 0 }
    }

    /// With matrix products besides.
    pub(crate) fn and_flops(self, count: usize) -> Self {
        Self { flops: count as u64, ..self }
    }
}

/// Which shapes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Set {
    /// Some tens of values: every one of them can be moved to see what changes.
    Small,
    /// One row, primes, a vocabulary of 151,936, heads of 16 to 256 channels, more rows than one task takes.
    Odd,
    /// No row at all.
    Empty,
    /// A block, the head or the weights of SmolLM2-135M, in a row of 512 tokens: what times are taken of.
    Model,
}

/// The cases of every op.
pub fn all(set: Set) -> Vec<Box<dyn OpCase>> {
    [
        crate::embedding::case::cases(set),
        crate::linear::case::cases(set),
        crate::rms_norm::case::cases(set),
        crate::layer_norm::case::cases(set),
        crate::rope::case::cases(set),
        crate::attention::case::cases(set),
        crate::gated_mlp::case::cases(set),
        crate::gelu::case::cases(set),
        crate::residual::case::cases(set),
        crate::rows::case::cases(set),
        crate::head_loss::case::cases(set),
        crate::global_norm::case::cases(set),
        crate::adamw::case::cases(set),
        crate::adamw_8bit::case::cases(set),
        crate::sgd::case::cases(set),
        crate::lion::case::cases(set),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Boxes the cases of an op.
pub(crate) fn boxed<C: OpCase + 'static>(cases: impl IntoIterator<Item = C>) -> Vec<Box<dyn OpCase>> {
    cases.into_iter().map(|case| Box::new(case) as Box<dyn OpCase>).collect()
}

/// A tensor of values in -1..1, f32 on the CPU, the same for the same seed on every platform.
pub fn random(shape: &[usize], seed: u64) -> Result<Tensor> {
    let mut stream = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| stream.random_range(-1.0f32..1.0)).collect();
    Tensor::from_vec(values, shape, &Device::Cpu)
}
