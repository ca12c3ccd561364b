//! AdamW's cases: one update in the middle of a run.

use super::{Update, reference, step};
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
    first: Tensor,
    second: Tensor,
}

impl State {
    fn new(x: &[Tensor]) -> Result<Self> {
        let weight = x[0].force_contiguous()?;
        let master = match weight.dtype() {
            DType::BF16 | DType::F16 => Some(weight.to_dtype(DType::F32)?),
            _ => None,
        };
        Ok(Self { weight, master, first: x[1].force_contiguous()?, second: x[2].force_contiguous()? })
    }

    fn step(&mut self, gradient: &Tensor) -> Result<()> {
        let parameter = Parameter::new(&self.weight, self.master.as_ref());
        step(parameter, &mut self.first, &mut self.second, gradient, &UPDATE)
    }
}

impl OpCase for Case {
    fn op(&self) -> &'static str {
        "adamw"
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
        Ok(vec![state.weight, state.first, state.second])
    }

    fn reference(&self, x: &[Tensor]) -> Result<Vec<Tensor>> {
        let (weight, mut first, mut second) = (x[0].force_contiguous()?, x[1].clone(), x[2].clone());
        reference::step(&weight, &mut first, &mut second, &x[3], &UPDATE)?;
        Ok(vec![weight, first, second])
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
        [Cost::values(7 * self.values), Cost::default()] // p, m, v, g read; p, m, v written
    }

    fn timed<'a>(&'a self, x: &'a [Tensor]) -> Result<Box<dyn FnMut() -> Result<()> + 'a>> {
        let mut state = State::new(x)?;
        Ok(Box::new(move || state.step(&x[3])))
    }
}

pub(crate) fn cases(set: Set) -> Vec<Box<dyn OpCase>> {
    let values: &[usize] = match set {
        Set::Small => &[5],
        Set::Odd => &[1, 15, 100_003],
        Set::Empty => &[0],
        Set::Model => &[1 << 23],
    };
    boxed(values.iter().map(|&values| Case { values }))
}
