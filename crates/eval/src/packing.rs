//! Rows into batches: best fit, the longest rows first, some at a time so that memory stays bounded. The model returns
//! NLLs only, so no logits are ever kept here (R17).

use outcrop_data::{Batch, Example, Fullness, RowPacker};

use crate::error::EvalError;
use crate::score::Scorer;
use crate::suite::Suite;

/// Tokens of rows that are sorted and packed together: 4 MB of them.
const HELD_TOKENS: usize = 1 << 20;

/// A row that waits: its number, its item, its tokens.
struct Waiting {
    row: usize,
    item: usize,
    example: Example,
}

/// Collects rows, scores them packed, and keeps the sum of each one's NLLs in the order they came.
pub(crate) struct Packer<'a> {
    suite: &'a Suite,
    max_batch_tokens: usize,
    waiting: Vec<Waiting>,
    waiting_tokens: usize,
    scores: Vec<f64>,
    /// How full the batches are.
    pub(crate) fullness: Fullness,
}

impl<'a> Packer<'a> {
    pub(crate) fn new(suite: &'a Suite, max_batch_tokens: usize) -> Self {
        let fullness = Fullness::default();
        Self { suite, max_batch_tokens, waiting: Vec::new(), waiting_tokens: 0, scores: Vec::new(), fullness }
    }

    /// Adds a row of item `item`; `done` hears of rows that were scored.
    pub(crate) fn push(
        &mut self,
        item: usize,
        example: Example,
        scorer: &mut dyn Scorer,
        done: &mut dyn FnMut(usize),
    ) -> Result<(), EvalError> {
        if self.waiting_tokens + example.tokens.len() > HELD_TOKENS {
            self.flush(scorer, done)?;
        }
        self.waiting_tokens += example.tokens.len();
        let row = self.scores.len();
        self.scores.push(f64::NAN);
        self.waiting.push(Waiting { row, item, example });
        Ok(())
    }

    /// The sums of the rows' NLLs in the order they came, and how full the batches were.
    pub(crate) fn finish(
        mut self,
        scorer: &mut dyn Scorer,
        done: &mut dyn FnMut(usize),
    ) -> Result<(Vec<f64>, Fullness), EvalError> {
        self.flush(scorer, done)?;
        Ok((self.scores, self.fullness))
    }

    fn flush(&mut self, scorer: &mut dyn Scorer, done: &mut dyn FnMut(usize)) -> Result<(), EvalError> {
        let mut waiting = std::mem::take(&mut self.waiting);
        self.waiting_tokens = 0;
        // a stable sort, so that equal lengths keep their order and runs are the same
        waiting.sort_by_key(|waiting| std::cmp::Reverse(waiting.example.tokens.len()));
        // all of what waits may be open: a window would close the long rows' batches before the short ones come
        let mut packer = RowPacker::new(self.max_batch_tokens, waiting.len());
        for row in waiting {
            if let Some(batch) = packer.push(row.example.tokens.len(), row) {
                self.score(&batch, scorer, done)?;
            }
        }
        for batch in packer.finish() {
            self.score(&batch, scorer, done)?;
        }
        Ok(())
    }

    fn score(
        &mut self,
        rows: &[Waiting],
        scorer: &mut dyn Scorer,
        done: &mut dyn FnMut(usize),
    ) -> Result<(), EvalError> {
        let batch = Batch::from_examples(rows.iter().map(|row| &row.example))?;
        let tokens = batch.tokens.len() as u64;
        self.fullness.tokens += tokens;
        self.fullness.capacity += tokens.max(self.max_batch_tokens as u64);
        let values = given(scorer.nll(&batch)?, &batch)?;
        let mut first = 0;
        for row in rows {
            let end = first + row.example.target_tokens() as usize;
            let own = &values[first..end];
            if let Some(value) = own.iter().find(|value| !value.is_finite()) {
                let message = format!("the model gives a target the NLL {value}; its weights or its input are broken");
                return Err(EvalError::Item { place: self.suite.place(row.item), message });
            }
            self.scores[row.row] = own.iter().map(|&value| f64::from(value)).sum();
            first = end;
            done(row.item);
        }
        Ok(())
    }
}

/// One value a target. Errors: another number of them.
fn given(values: Vec<f32>, batch: &Batch) -> Result<Vec<f32>, EvalError> {
    let (given, wanted) = (values.len(), batch.targets.len());
    match given == wanted {
        true => Ok(values),
        false => Err(EvalError::scorer(format!("it gave {given} values for {wanted} targets"))),
    }
}
