//! AdamW's cases with quantized moments: one update in the middle of a run.

use super::{Codebook, Quantized, step};
use crate::adamw::{self, Update};
use crate::case::{Cost, OpCase, Set, boxed, random};
use crate::parameter::Parameter;
use candle_core::{DType, Result, Tensor};

const UPDATE: Update = Update {
    learning_rate: 1e-2,
    beta1: 0.9,
    beta2: 0.999,
    epsilon: 1e-8,
    weight_decay: 0.1,
    step: 3,
    gradient_scale: 0.3,
};

struct Case {
    values: usize,
}

/// The weight, its moments, copied: updates work in place.
struct State {
    weight: Tensor,
    master: Option<Tensor>,
    first: Quantized,
    second: Quantized,
}

fn quantized(values: &Tensor, codebook: Codebook) -> Result<Quantized> {
    let mut moment = Quantized::zeros(values.shape(), codebook, values.device())?;
    moment.quantize(values)?;
    Ok(moment)
}

impl State {
    fn new(x: &[Tensor]) -> Result<Self> {
        let weight = x[0].force_contiguous()?;
        let master = match weight.dtype() {
            DType::BF16 | DType::F16 => Some(weight.to_dtype(DType::F32)?),
            _ => None,
        };
        Ok(Self {
            weight,
            master,
            first: quantized(&x[1], Codebook::Signed)?,
            second: quantized(&x[2], Codebook::Unsigned)?,
        })
    }

    fn step(&mut self, gradient: &Tensor) -> Result<()> {
        let parameter = Parameter::new(&self.weight, self.master.as_ref());
        step(parameter, &mut self.first, &mut self.second, gradient, &UPDATE)
    }
}

impl OpCase for Case {
    fn op(&self) -> &'static str {
        "adamw_8bit"
    }

    fn shape(&self) -> String {
        format!("({})", self.values)
    }

    fn inputs(&self) -> Result<Vec<Tensor>> {
        let values = |seed| random(&[self.values], seed);
        Ok(vec![values(1)?, values(2)?, values(3)?.sqr()?, values(4)?])
    }

    fn forward(&self, x: &[Tensor]) -> Result<Vec<Tensor>> {
        let mut state = State::new(x)?;
        state.step(&x[3])?;
        Ok(vec![state.weight])
    }

    fn reference(&self, x: &[Tensor]) -> Result<Vec<Tensor>> {
        // moments are quantized from f32, whatever the rest is computed in
        let narrow = x.iter().map(|x| x.to_dtype(DType::F32)).collect::<Result<Vec<_>>>()?;
        let (first, second) = (quantized(&narrow[1], Codebook::Signed)?, quantized(&narrow[2], Codebook::Unsigned)?);
        let weight = x[0].force_contiguous()?;
        let wide = |moment: &Quantized| moment.dequantize()?.to_dtype(weight.dtype());
        adamw::reference::step(&weight, &mut wide(&first)?, &mut wide(&second)?, &x[3], &UPDATE)?;
        Ok(vec![weight]) // the codes' own tests are in tests.rs: a rounding away from f64, a code may be the next one
    }

    fn is_differentiable(&self) -> bool {
        false
    }

    fn is_narrowed(&self, input: usize) -> bool {
        input == 0
    }

    fn takes_strided(&self) -> bool {
        false
    }

    fn cost(&self) -> [Cost; 2] {
        [Cost { bytes: 16 * self.values as u64, flops: 0 }, Cost::default()] // p, g and both codes read; p and codes written
    }

    fn timed<'a>(&'a self, x: &'a [Tensor]) -> Result<Box<dyn FnMut() -> Result<()> + 'a>> {
        let mut state = State::new(x)?;
        Ok(Box::new(move || state.step(&x[3])))
    }
}

pub(crate) fn cases(set: Set) -> Vec<Box<dyn OpCase>> {
    let values: &[usize] = match set {
        Set::Small => &[5],
        Set::Odd => &[1, 257, 100_003],
        Set::Empty => &[0],
        Set::Model => &[1 << 23],
    };
    boxed(values.iter().map(|&values| Case { values }))
}
