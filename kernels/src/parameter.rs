//! A weight as an optimizer changes it: its own f32 values, or an f32 master that a 16-bit weight is rounded from.
//!
//! A 16-bit weight alone would lose every update below half its last bit; the master keeps them.

use crate::simd;
use crate::storage::{Element, update, update_as};
use candle_core::{DType, Device, Result, Tensor, bail};
use half::{bf16, f16};
use rayon::prelude::*;

/// Values a task takes: 64 KiB of each f32 tensor. A multiple of the blocks of quantized moments.
pub(crate) const CHUNK: usize = 16 * 1024;

/// A weight and, where it has 16 bits, its f32 master.
#[derive(Clone, Copy, Debug)]
pub struct Parameter<'a> {
    weight: &'a Tensor,
    master: Option<&'a Tensor>,
}

impl<'a> From<&'a Tensor> for Parameter<'a> {
    fn from(weight: &'a Tensor) -> Self {
        Self { weight, master: None }
    }
}

impl<'a> Parameter<'a> {
    /// An f32 weight without a master, or a bf16 or f16 weight with one; an update refuses anything else.
    pub fn new(weight: &'a Tensor, master: Option<&'a Tensor>) -> Self {
        Self { weight, master }
    }

    /// The f32 values that an update computes with: the master, else the weight.
    pub fn values(&self) -> &'a Tensor {
        self.master.unwrap_or(self.weight)
    }

    /// Errors: a tensor of another shape than the weight, a type that isn't one of [`Parameter::new`]'s.
    pub(crate) fn check(&self, name: &str, state: &[&Tensor], gradient: &Tensor) -> Result<()> {
        let shape = self.weight.shape();
        if self.values().shape() != shape || gradient.shape() != shape || state.iter().any(|s| s.shape() != shape) {
            let state: Vec<_> = state.iter().map(|s| s.shape()).collect();
            let (values, gradient) = (self.values().shape(), gradient.shape());
            bail!("{name}: weight {shape:?}, its f32 values {values:?}, state {state:?}, gradient {gradient:?}")
        }
        let all = [self.weight, self.values(), gradient];
        if let Some(strided) = all.into_iter().chain(state.iter().copied()).find(|tensor| !tensor.is_contiguous()) {
            bail!("{name}: contiguous tensors are needed, got strides {:?} of {:?}", strided.stride(), strided.shape())
        }
        if shape.rank() == 0 {
            bail!("{name}: a weight needs a dimension")
        }
        if let Some(other) = state.iter().chain([&gradient]).find(|t| !matches!(t.dtype(), DType::F32 | DType::U8)) {
            bail!(
                "{name}: moments and gradient are f32, got {:?} {:?} beside weight {shape:?}",
                other.shape(),
                other.dtype()
            )
        }
        match (self.weight.dtype(), self.master.map(Tensor::dtype)) {
            (DType::F32, None) | (DType::BF16 | DType::F16, Some(DType::F32)) => Ok(()),
            (weight, master) => bail!("{name}: weight {shape:?} of {weight:?} with a master of {master:?}"),
        }
    }

    /// True where the CPU's one pass applies: the types are those that `check` allows.
    pub(crate) fn is_on_cpu(&self) -> bool {
        matches!(self.weight.device(), Device::Cpu) && matches!(self.values().device(), Device::Cpu)
    }

    /// One pass on the CPU: `chunk` changes each chunk of the f32 values with its part of the state, then the 16-bit
    /// weight, where there is one, is written from it. Chunks have [`CHUNK`] values but for the last.
    pub(crate) fn update<S: Send>(
        &self,
        name: &'static str,
        state: impl IndexedParallelIterator<Item = S>,
        chunk: impl Fn(&mut [f32], S) + Sync,
    ) -> Result<()> {
        let Some(master) = self.master else {
            return update(name, self.weight, |p| {
                p.par_chunks_mut(CHUNK).zip(state).for_each(|(p, state)| {
                    simd::run(
                        #[inline(always)]
                        || chunk(p, state),
                    );
                });
                Ok(())
            });
        };
        update(name, master, |p| match self.weight.dtype() {
            DType::BF16 => rounded::<bf16, S>(name, self.weight, p, state, chunk),
            _ => rounded::<f16, S>(name, self.weight, p, state, chunk),
        })
    }

    /// Writes new f32 values to the master and their rounding to the weight: the way of the references.
    pub(crate) fn write(&self, values: &Tensor) -> Result<()> {
        if values.elem_count() == 0 {
            return Ok(()); // candle's products of nothing share storage with their operand
        }
        let values = values.contiguous()?;
        if let Some(master) = self.master {
            master.slice_set(&values, 0, 0)?;
        }
        self.weight.slice_set(&values.to_dtype(self.weight.dtype())?, 0, 0)
    }
}

fn rounded<T: Rounded, S: Send>(
    name: &'static str,
    weight: &Tensor,
    p: &mut [f32],
    state: impl IndexedParallelIterator<Item = S>,
    chunk: impl Fn(&mut [f32], S) + Sync,
) -> Result<()> {
    update_as::<T>(name, weight, |weight| {
        p.par_chunks_mut(CHUNK).zip(weight.par_chunks_mut(CHUNK)).zip(state).for_each(|((p, weight), state)| {
            simd::run(
                #[inline(always)]
                || {
                    chunk(p, state);
                    weight.iter_mut().zip(p.iter()).for_each(|(weight, p)| *weight = T::round(*p));
                },
            );
        });
        Ok(())
    })
}

/// A 16-bit type, rounded to the nearest, ties to even.
trait Rounded: Element + Send {
    fn round(value: f32) -> Self;
}

impl Rounded for bf16 {
    /// As `bf16::from_f32`, without its branch, so that the loop vectorises.
    #[inline(always)]
    fn round(value: f32) -> Self {
        let bits = value.to_bits();
        let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
        let nan = (bits >> 16) | 0x40; // rounding could carry a NaN's bits into infinity
        Self::from_bits(if value.is_nan() { nan as u16 } else { rounded as u16 })
    }
}

impl Rounded for f16 {
    #[inline(always)]
    fn round(value: f32) -> Self {
        Self::from_f32(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::random;

    #[test]
    fn rounding_to_bf16_is_halfs_own() {
        let mut bits = 0u32;
        loop {
            let value = f32::from_bits(bits);
            assert_eq!(bf16::round(value).to_bits(), bf16::from_f32(value).to_bits(), "{value} ({bits:#x})");
            match bits.checked_add(0x1357) {
                Some(next) => bits = next,
                None => break,
            }
        }
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0, f32::MAX, 1.003_906_2, 1.011_718_8] {
            assert_eq!(bf16::round(value).to_bits(), bf16::from_f32(value).to_bits(), "{value}");
        }
    }

    #[test]
    fn an_update_below_the_last_bit_stays_in_the_master_and_reaches_the_weight_in_the_end() {
        for dtype in [DType::BF16, DType::F16] {
            let master = Tensor::ones(40_001, DType::F32, &Device::Cpu).unwrap();
            let weight = master.to_dtype(dtype).unwrap();
            let parameter = Parameter::new(&weight, Some(&master));
            let state = || vec![(); 40_001usize.div_ceil(CHUNK)];
            let step = || {
                let add = |p: &mut [f32], ()| p.iter_mut().for_each(|p| *p += 1e-4);
                parameter.update("test", state().into_par_iter(), add).unwrap();
            };
            let first = |tensor: &Tensor| tensor.to_dtype(DType::F32).unwrap().to_vec1::<f32>().unwrap()[40_000];
            step();
            assert_eq!(first(&weight), 1.0, "{dtype:?}");
            assert_eq!(first(&master), 1.0001);
            (1..100).for_each(|_| step());
            assert!((first(&weight) - 1.01).abs() < 0.004, "{dtype:?}: {}", first(&weight));
            let rounded = master.to_dtype(dtype).unwrap().to_dtype(DType::F32).unwrap().to_vec1::<f32>().unwrap();
            assert_eq!(weight.to_dtype(DType::F32).unwrap().to_vec1::<f32>().unwrap(), rounded);
        }
    }

    #[test]
    fn shapes_and_types_that_do_not_fit_are_named() {
        let (weight, wide) = (random(&[2, 3], 1).to_dtype(DType::BF16).unwrap(), random(&[2, 3], 1));
        let message = |parameter: Parameter, state: &Tensor, gradient: &Tensor| {
            parameter.check("op", &[state], gradient).unwrap_err().to_string()
        };
        let alone = message(Parameter::from(&weight), &wide, &wide);
        assert!(alone.starts_with("op: weight [2, 3] of BF16 with a master of None"), "{alone}");
        let both = message(Parameter::new(&wide, Some(&wide)), &wide, &wide);
        assert!(both.starts_with("op: weight [2, 3] of F32 with a master of Some(F32)"), "{both}");
        let shapes = message(Parameter::from(&wide), &wide, &random(&[3, 2], 1));
        assert!(
            shapes.starts_with("op: weight [2, 3], its f32 values [2, 3], state [[2, 3]], gradient [3, 2]"),
            "{shapes}"
        );
        assert!(message(Parameter::from(&wide), &random(&[6], 1), &wide).contains("state [[6]]"));
        let scalar = Tensor::new(1f32, &Device::Cpu).unwrap();
        assert!(message(Parameter::from(&scalar), &scalar, &scalar).starts_with("op: a weight needs a dimension"));
        assert!(Parameter::new(&weight, Some(&wide)).check("op", &[&wide], &wide).is_ok());
    }
}
