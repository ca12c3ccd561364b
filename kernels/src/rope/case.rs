//! The rotation's cases: whole heads and their first channels, several documents, an attention factor.

use super::{Tables, backward, forward, reference};
use crate::case::{Cost, OpCase, Set, boxed, random};
use crate::gradient::Gradient;
use candle_core::{Device, Result, Tensor};

struct Case {
    tokens: usize,
    heads: usize,
    dim: usize,
    /// Pairs of channels that turn.
    half: usize,
    factor: f64,
}

impl Case {
    fn tables(&self, device: &Device) -> Result<Tables> {
        let frequency = |i| 10_000f64.powf(-(i as f64) / self.half as f64);
        let frequencies: Vec<f64> = (0..self.half).map(frequency).collect();
        Tables::new(&frequencies, self.factor, 256, device)
    }

    /// Documents of 200 tokens, so that positions restart.
    fn positions(&self) -> Vec<u32> {
        (0..self.tokens as u32).map(|token| token % 200).collect()
    }
}

impl OpCase for Case {
    fn op(&self) -> &'static str {
        "rope"
    }

    fn shape(&self) -> String {
        let part = if self.dim > 2 * self.half { format!(", {} turn", 2 * self.half) } else { String::new() };
        let factor = if self.factor == 1.0 { String::new() } else { format!(" by {}", self.factor) };
        format!("({}, {} x {}){part}{factor}", self.tokens, self.heads, self.dim)
    }

    fn inputs(&self) -> Result<Vec<Tensor>> {
        Ok(vec![random(&[self.tokens, self.heads * self.dim], 1)?])
    }

    fn forward(&self, x: &[Tensor]) -> Result<Vec<Tensor>> {
        Ok(vec![forward(&x[0], self.heads, &self.positions(), &self.tables(x[0].device())?)?])
    }

    fn reference(&self, x: &[Tensor]) -> Result<Vec<Tensor>> {
        let (cos, sin) = self.tables(x[0].device())?.rows(&self.positions())?;
        Ok(vec![reference::rotate(&x[0], self.heads, &cos, &sin)?])
    }

    fn backward(&self, x: &[Tensor], _: &[Tensor], dy: &Tensor, _: &mut [Gradient]) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(backward(dy, self.heads, &self.positions(), &self.tables(x[0].device())?)?)])
    }

    fn cost(&self) -> [Cost; 2] {
        [Cost::values(2 * self.tokens * self.heads * self.dim); 2]
    }

    fn timed<'a>(&'a self, x: &'a [Tensor]) -> Result<Box<dyn FnMut() -> Result<()> + 'a>> {
        let (positions, tables) = (self.positions(), self.tables(x[0].device())?);
        Ok(Box::new(move || forward(&x[0], self.heads, &positions, &tables).map(drop)))
    }

    fn timed_backward<'a>(&'a self, x: &'a [Tensor]) -> Result<Box<dyn FnMut() -> Result<()> + 'a>> {
        let (positions, tables) = (self.positions(), self.tables(x[0].device())?);
        Ok(Box::new(move || backward(&x[0], self.heads, &positions, &tables).map(drop)))
    }
}

pub(crate) fn cases(set: Set) -> Vec<Box<dyn OpCase>> {
    let case = |(tokens, heads, dim, half, factor)| Case { tokens, heads, dim, half, factor };
    let shapes: &[(usize, usize, usize, usize, f64)] = match set {
        Set::Small => &[(3, 2, 4, 2, 1.0), (2, 1, 6, 2, 1.25)],
        Set::Odd => &[
            (1, 1, 16, 8, 1.0),
            (37, 3, 64, 32, 1.0),
            (211, 5, 128, 16, 1.0),      // GPT-NeoX turns a quarter
            (401, 2, 96, 48, 1.190_238), // longrope's factor of Phi-3
            (17, 1, 256, 128, 1.0),
            (5, 3, 22, 11, 1.0),
        ],
        Set::Empty => &[(0, 2, 4, 2, 1.0)],
        Set::Model => &[(512, 9, 64, 32, 1.0)],
    };
    boxed(shapes.iter().copied().map(case))
}
