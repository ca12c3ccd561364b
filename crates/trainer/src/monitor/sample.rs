//! The positions at which forgetting is measured: windows of the running text in `generalData`, drawn by the seed.

use crate::comparison::Suites;
use crate::{Result, TrainError};
use outcrop_data::{Batch, Example, Order, TextTokenizer, cut, encode_document};
use outcrop_eval::suite::Items;

/// Tokens of a window: context enough that most of its positions read like prose, and cheap to run.
const WINDOW: usize = 128;

/// Windows of the general texts in the order in which they are drawn.
pub(crate) struct Windows(Vec<Example>);

impl Windows {
    /// Cuts the texts of the general suites; None where there is no running text. `context` is the base's.
    pub(crate) fn new(suites: &Suites, tokenizer: &TextTokenizer, context: usize, seed: u64) -> Result<Option<Self>> {
        let mut windows = Vec::new();
        for suite in &suites.general {
            let Items::Text(texts) = &suite.items else { continue };
            for item in texts {
                let document = encode_document(tokenizer, &item.text)
                    .map_err(|error| TrainError::Plan(format!("generalData `{}`: {error}", item.path.display())))?;
                windows
                    .extend(cut(&document, WINDOW.min(context)).rows.into_iter().filter(|row| row.target_tokens() > 0));
            }
        }
        let order = Order::new(windows.len(), seed, true);
        let drawn: Vec<Example> = (0..windows.len()).map(|place| windows[order.index(0, place)].clone()).collect();
        Ok((!drawn.is_empty()).then_some(Self(drawn)))
    }

    /// Positions there are.
    pub(crate) fn positions(&self) -> usize {
        self.0.iter().map(|window| window.target_tokens() as usize).sum()
    }

    /// The first windows, the last one shortened, with `positions` targets; fewer where the texts have no more.
    pub(crate) fn take(&self, positions: usize) -> Result<Batch> {
        let (mut taken, mut left) = (Vec::new(), positions);
        for window in &self.0 {
            if left == 0 {
                break;
            }
            let mut window = window.clone();
            while window.target_tokens() as usize > left {
                window.tokens.pop();
                let length = window.tokens.len() as u32;
                window.targets.iter_mut().for_each(|span| span.1 = span.1.min(length));
                window.targets.retain(|(start, end)| start < end);
            }
            left -= window.target_tokens() as usize;
            taken.push(window);
        }
        Ok(Batch::from_examples(&taken)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn windows() -> Windows {
        let window =
            |first: u32, length: u32| Example { tokens: (first..first + length).collect(), targets: vec![(1, length)] };
        Windows(vec![window(0, 5), window(10, 4), window(20, 8)])
    }

    #[test]
    fn windows_are_taken_in_order_and_the_last_is_shortened() {
        let windows = windows();
        assert_eq!(windows.positions(), 4 + 3 + 7);
        let batch = windows.take(5).unwrap();
        assert_eq!(batch.tokens, [0, 1, 2, 3, 4, 10, 11]);
        assert_eq!(
            (batch.offsets.as_slice(), batch.targets.as_slice()),
            ([0, 5, 7].as_slice(), [0, 1, 2, 3, 5].as_slice())
        );
        assert_eq!(windows.take(7).unwrap().targets.len(), 7, "whole windows");
        assert_eq!(windows.take(99).unwrap().targets.len(), 14, "all there are");
    }
}
