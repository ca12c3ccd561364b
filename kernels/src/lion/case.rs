//! Lion's cases: one update in the middle of a run.

use super::{Update, reference, step};
use crate::case::{Cost, OpCase, Set, boxed, random};
use crate::parameter::Parameter;
use candle_core::{DType, Result, Tensor};

const UPDATE: Update = Update { learning_rate: 0.01, beta1: 0.9, beta2: 0.99, weight_decay: 0.1, gradient_scale: 0.3 };

struct Case {
    values: usize,
}

/// The weight, its momentum, copied: updates work in place.
struct State {
    weight: Tensor,
    master: Option<Tensor>,
    momentum: Tensor,
}

impl State {
    fn new(x: &[Tensor]) -> Result<Self> {
        let weight = x[0].force_contiguous()?;
        let master = match weight.dtype() {
            DType::BF16 | DType::F16 => Some(weight.to_dtype(DType::F32)?),
            _ => None,
        };
        Ok(Self { weight, master, momentum: x[1].force_contiguous()? })
    }

    fn step(&mut self, gradient: &Tensor) -> Result<()> {
        let parameter = Parameter::new(&self.weight, self.master.as_ref());
        step(parameter, &mut self.momentum, gradient, &UPDATE)
    }
}

impl OpCase for Case {
    fn op(&self) -> &'static str {
        "lion"
    }

    fn shape(&self) -> String {
        format!("({})", self.values)
    }

    fn inputs(&self) -> Result<Vec<Tensor>> {
        let values = |seed| random(&[self.values], seed);
        Ok(vec![values(1)?, values(2)?, values(3)?])
    }

    fn forward(&self, x: &[Tensor]) -> Result<Vec<Tensor>> {
        let mut state = State::new(x)?;
        state.step(&x[2])?;
        Ok(vec![state.weight, state.momentum])
    }

    fn reference(&self, x: &[Tensor]) -> Result<Vec<Tensor>> {
        let (weight, mut momentum) = (x[0].force_contiguous()?, x[1].clone());
        reference::step(&weight, &mut momentum, &x[2], &UPDATE)?;
        Ok(vec![weight, momentum])
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
        [Cost::values(5 * self.values), Cost::default()] // p, m, g read; p, m written
    }

    fn timed<'a>(&'a self, x: &'a [Tensor]) -> Result<Box<dyn FnMut() -> Result<()> + 'a>> {
        let mut state = State::new(x)?;
        Ok(Box::new(move || state.step(&x[2])))
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
