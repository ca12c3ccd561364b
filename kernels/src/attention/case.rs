//! Attention's cases: heads of 16 to 256 channels, grouped and not, several documents in a row, windows and soft-caps.

use super::{Heads, Saved, backward, forward, reference};
use crate::case::{Cost, OpCase, Set, boxed, random};
use crate::documents::Documents;
use crate::gradient::Gradient;
use candle_core::{Result, Tensor};

struct Case {
    heads: Heads,
    /// Where documents begin and end.
    offsets: Vec<usize>,
}

impl Case {
    fn documents(&self) -> Result<Documents> {
        Documents::new(self.offsets.clone())
    }

    fn tokens(&self) -> usize {
        self.offsets.last().copied().unwrap_or(0)
    }

    /// Pairs of a query and a key that it sees.
    fn pairs(&self) -> usize {
        let window = self.heads.window.unwrap_or(usize::MAX);
        let lengths = self.offsets.windows(2).map(|pair| pair[1] - pair[0]);
        lengths.map(|len| (1..=len).map(|seen| seen.min(window)).sum::<usize>()).sum()
    }
}

impl OpCase for Case {
    fn op(&self) -> &'static str {
        "attention"
    }

    fn shape(&self) -> String {
        let Heads { query, key_value, dim, window, softcap, .. } = self.heads;
        let documents = self.offsets.len() - 1;
        let documents = if documents > 1 { format!(", {documents} docs") } else { String::new() };
        let window = window.map_or_else(String::new, |window| format!(", window {window}"));
        let softcap = softcap.map_or_else(String::new, |cap| format!(", cap {cap}"));
        format!("({}, {query}/{key_value} x {dim}){documents}{window}{softcap}", self.tokens())
    }

    fn inputs(&self) -> Result<Vec<Tensor>> {
        let (t, Heads { query, key_value, dim, .. }) = (self.tokens(), self.heads);
        let keys = [t, key_value * dim];
        Ok(vec![random(&[t, query * dim], 1)?, random(&keys, 2)?, random(&keys, 3)?])
    }

    fn forward(&self, x: &[Tensor]) -> Result<Vec<Tensor>> {
        let (o, lse) = forward(&x[0], &x[1], &x[2], self.heads, &self.documents()?)?;
        Ok(vec![o, lse])
    }

    fn reference(&self, x: &[Tensor]) -> Result<Vec<Tensor>> {
        let (o, lse) = reference::forward(&x[0], &x[1], &x[2], self.heads, &self.documents()?)?;
        Ok(vec![o, lse])
    }

    fn backward(
        &self,
        x: &[Tensor],
        outputs: &[Tensor],
        dy: &Tensor,
        _: &mut [Gradient],
    ) -> Result<Vec<Option<Tensor>>> {
        let saved = Saved { q: &x[0], k: &x[1], v: &x[2], o: &outputs[0], lse: &outputs[1] };
        let (dq, dk, dv) = backward(dy, &saved, self.heads, &self.documents()?)?;
        Ok(vec![Some(dq), Some(dk), Some(dv)])
    }

    fn cost(&self) -> [Cost; 2] {
        let (queries, keys) = (self.heads.query * self.heads.dim, self.heads.key_value * self.heads.dim);
        let product = 2 * self.pairs() * queries; // of the part that the mask leaves
        let forward = Cost::values(self.tokens() * 2 * (queries + keys)).and_flops(2 * product);
        [forward, Cost::values(self.tokens() * 4 * (queries + keys)).and_flops(5 * product)]
    }
}

pub(crate) fn cases(set: Set) -> Vec<Box<dyn OpCase>> {
    type Shape = (usize, usize, usize, &'static [usize], Option<usize>, Option<f32>);
    let case = |(query, key_value, dim, offsets, window, softcap): Shape| {
        let heads = Heads { query, key_value, dim, scale: 1.0 / (dim as f32).sqrt(), window, softcap };
        Case { heads, offsets: offsets.to_vec() }
    };
    let shapes: &[Shape] = match set {
        Set::Small => &[(2, 1, 3, &[0, 2, 5], None, None), (2, 1, 3, &[0, 2, 6], Some(2), Some(0.7))],
        Set::Odd => &[
            (1, 1, 16, &[0, 1], None, None),
            (4, 2, 16, &[0, 7, 8, 31], None, None),
            (3, 3, 5, &[0, 64, 193], None, None),
            (3, 3, 5, &[0, 64, 193], Some(17), None),
            (6, 1, 64, &[0, 67], None, Some(2.0)),
            (2, 1, 128, &[0, 3, 70], None, None),
            (1, 1, 256, &[0, 37], None, None),
        ],
        Set::Empty => &[(2, 1, 4, &[0], None, None)],
        Set::Model => &[(9, 3, 64, &[0, 512], None, None), (9, 3, 64, &[0, 100, 256, 512], None, None)],
    };
    boxed(shapes.iter().copied().map(case))
}
