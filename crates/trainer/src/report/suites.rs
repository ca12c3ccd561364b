//! The suites of a comparison with what became of each item.

use crate::{Result, TrainError};
use outcrop_eval::items::{Confusion, ItemResult, confusion, item_results};
use outcrop_eval::kinds::extraction::{TypeScore, type_scores};
use outcrop_eval::{Comparison, Scored, SuiteComparison};
use serde::Serialize;

/// A suite's verdict and its items.
#[derive(Debug, Serialize)]
pub(crate) struct SuiteItems<'a> {
    #[serde(skip)]
    pub(crate) compared: &'a SuiteComparison,
    /// `task` or `general`.
    pub(crate) list: &'static str,
    pub(crate) name: &'a str,
    pub(crate) hash: &'a str,
    pub(crate) confusion: Option<Confusion>,
    pub(crate) types: Option<Vec<TypeScore>>,
    pub(crate) items: Vec<ItemResult>,
}

/// Task suites first, as in the comparison. Errors: other suites than the comparison's.
pub(crate) fn suites<'a>(comparison: &'a Comparison, scored: &[Scored]) -> Result<Vec<SuiteItems<'a>>> {
    let task = comparison.task.iter().map(|suite| ("task", suite));
    let listed: Vec<_> = task.chain(comparison.general.iter().map(|suite| ("general", suite))).collect();
    let hashes = listed.iter().map(|(_, suite)| suite.hash.as_str());
    if !hashes.eq(scored.iter().map(|scored| scored.suite.hash.as_str())) {
        return Err(TrainError::Plan("a report needs the scores of every suite that was compared, in order".into()));
    }
    let items = |((list, compared), scored): ((&'static str, &'a SuiteComparison), &Scored)| {
        Ok(SuiteItems {
            compared,
            list,
            name: &compared.name,
            hash: &compared.hash,
            confusion: confusion(scored),
            types: type_scores(scored),
            items: item_results(scored)?,
        })
    };
    listed.into_iter().zip(scored).map(items).collect()
}
