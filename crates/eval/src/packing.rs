//! Rows into batches: best fit, the longest rows first, some at a time so that memory stays bounded. The model returns
//! NLLs only, so no logits are ever kept here (R17).

use outcrop_data::{Batch, Example, Fullness, RowPacker};

use crate::error::EvalError;
use crate::score::Scorer;
use crate::suite::{Suite, SuiteKind};

/// Tokens of rows that are sorted and packed together: 4 MB of them.
const HELD_TOKENS: usize = 1 << 20;

/// A row that waits: its number, its item, its tokens.
struct Waiting {
    row: usize,
    item: usize,
    example: Example,
}

/// What a row comes to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct RowScore {
    /// Sum of the targets' NLLs.
    pub(crate) nll: f64,
    /// The largest of the targets' ranks, where they are ranked.
    pub(crate) rank: Option<u32>,
}

/// Collects rows, scores them packed, and keeps what each comes to in the order they came.
pub(crate) struct Packer<'a> {
    suite: &'a Suite,
    max_batch_tokens: usize,
    waiting: Vec<Waiting>,
    waiting_tokens: usize,
    scores: Vec<RowScore>,
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
        self.scores.push(RowScore { nll: f64::NAN, rank: None });
        self.waiting.push(Waiting { row, item, example });
        Ok(())
    }

    /// What the rows come to in the order they came, and how full the batches were.
    pub(crate) fn finish(
        mut self,
        scorer: &mut dyn Scorer,
        done: &mut dyn FnMut(usize),
    ) -> Result<(Vec<RowScore>, Fullness), EvalError> {
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
        let values: Vec<(f32, Option<u32>)> = match self.suite.kind() {
            SuiteKind::Cloze => scorer.ranks(&batch)?.into_iter().map(|(nll, rank)| (nll, Some(rank))).collect(),
            _ => scorer.nll(&batch)?.into_iter().map(|nll| (nll, None)).collect(),
        };
        given(values.len(), &batch)?;
        let mut first = 0;
        for row in rows {
            let end = first + row.example.target_tokens() as usize;
            let own = &values[first..end];
            if let Some((value, _)) = own.iter().find(|(value, _)| !value.is_finite()) {
                let message = format!("the model gives a target the NLL {value}; its weights or its input are broken");
                return Err(EvalError::Item { place: self.suite.place(row.item), message });
            }
            let nll = own.iter().map(|&(value, _)| f64::from(value)).sum();
            self.scores[row.row] = RowScore { nll, rank: own.iter().filter_map(|&(_, rank)| rank).max() };
            first = end;
            done(row.item);
        }
        Ok(())
    }
}

/// One value a target. Errors: another number of them.
fn given(given: usize, batch: &Batch) -> Result<(), EvalError> {
    let wanted = batch.targets.len();
    match given == wanted {
        true => Ok(()),
        false => Err(EvalError::scorer(format!("it gave {given} values for {wanted} targets"))),
    }
}
