//! What a decoder reads: a packed row of documents.

use crate::{ModelError, Result};
use outcrop_kernels::Documents;

/// Tokens of several documents, packed; attention stays inside each, positions restart.
#[derive(Clone, Debug)]
pub struct Row {
    pub(crate) tokens: Vec<u32>,
    pub(crate) documents: Documents,
    pub(crate) positions: Vec<u32>,
}

impl Row {
    /// A row from its tokens and the documents' offsets (one more than documents, from 0 to the number of tokens).
    /// Errors: offsets that don't fit.
    pub fn new(tokens: Vec<u32>, offsets: &[u32]) -> Result<Self> {
        let documents = Documents::new(offsets.iter().map(|&o| o as usize).collect())?;
        if documents.num_tokens() != tokens.len() {
            let (tokens, end) = (tokens.len(), documents.num_tokens());
            return Err(ModelError::Unsupported(format!("row: {tokens} tokens but the offsets end at {end}")));
        }
        let positions = documents.positions();
        Ok(Self { tokens, documents, positions })
    }

    /// A row that is one document.
    pub fn single(tokens: Vec<u32>) -> Result<Self> {
        let len = tokens.len() as u32;
        Self::new(tokens, &[0, len])
    }

    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Never true: a document has at least one token.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Errors: a target without a next token in its own document, named: the last token of a document predicts none.
    pub fn check_targets(&self, targets: &[u32]) -> Result<()> {
        let has_next = |&target: &u32| self.positions.get(target as usize + 1).is_some_and(|&position| position > 0);
        match targets.iter().find(|target| !has_next(target)) {
            None => Ok(()),
            Some(target) => Err(ModelError::Unsupported(format!(
                "row: target {target} has no next token in its document (the row has {} tokens)",
                self.len()
            ))),
        }
    }

    /// The tokens that follow `positions`: what is predicted there.
    ///
    /// # Panics
    /// Where a position is the row's last or beyond; [`Row::check_targets`] tells beforehand.
    pub fn next_tokens(&self, positions: &[u32]) -> Vec<u32> {
        positions.iter().map(|&p| self.tokens[p as usize + 1]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_restart_and_the_next_tokens_are_those_behind() {
        let row = Row::new(vec![5, 6, 7, 8, 9], &[0, 3, 5]).unwrap();
        assert_eq!(row.positions, [0, 1, 2, 0, 1]);
        assert_eq!(row.next_tokens(&[0, 1, 3]), [6, 7, 9]);
        assert_eq!((row.len(), row.is_empty()), (5, false));
    }

    #[test]
    fn r2_the_last_token_of_a_document_is_no_target() {
        let row = Row::new(vec![5, 6, 7, 8, 9], &[0, 3, 5]).unwrap();
        row.check_targets(&[]).unwrap();
        row.check_targets(&[0, 1, 3]).unwrap();
        for target in [2, 4, 5, u32::MAX] {
            let message = row.check_targets(&[0, target]).unwrap_err().to_string();
            assert_eq!(
                message,
                format!("row: target {target} has no next token in its document (the row has 5 tokens)")
            );
        }
    }
}
