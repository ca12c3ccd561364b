//! GELU's cases: both forms.

use super::{Form, backward, forward, reference};
use crate::case::{Cost, OpCase, Set, boxed, random};
use crate::gradient::Gradient;
use candle_core::{Result, Tensor};

struct Case {
    rows: usize,
    channels: usize,
    form: Form,
}

impl OpCase for Case {
    fn op(&self) -> &'static str {
        "gelu"
    }

    fn shape(&self) -> String {
        format!("({}, {}) {}", self.rows, self.channels, format!("{:?}", self.form).to_lowercase())
    }

    fn inputs(&self) -> Result<Vec<Tensor>> {
        Ok(vec![(random(&[self.rows, self.channels], 1)? * 6.0)?])
    }

    fn forward(&self, x: &[Tensor]) -> Result<Vec<Tensor>> {
        Ok(vec![forward(&x[0], self.form)?])
    }

    fn reference(&self, x: &[Tensor]) -> Result<Vec<Tensor>> {
        Ok(vec![reference::forward(&x[0], self.form)?])
    }

    fn backward(&self, x: &[Tensor], _: &[Tensor], dy: &Tensor, _: &mut [Gradient]) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(backward(dy, &x[0], self.form)?)])
    }

    fn cost(&self) -> [Cost; 2] {
        let values = self.rows * self.channels;
        [Cost::values(2 * values), Cost::values(3 * values)]
    }
}

pub(crate) fn cases(set: Set) -> Vec<Box<dyn OpCase>> {
    let shapes: &[(usize, usize)] = match set {
        Set::Small => &[(2, 9)],
        Set::Odd => &[(1, 1), (3, 17), (131, 257)],
        Set::Empty => &[(0, 8)],
        Set::Model => &[(512, 1536)],
    };
    let forms = [Form::Erf, Form::Tanh];
    boxed(shapes.iter().flat_map(|&(rows, channels)| forms.map(|form| Case { rows, channels, form })))
}
