//! Prompts with their completions: the lines of every kind that is made of them.

use std::collections::HashMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use crate::error::EvalError;
use crate::lines::{Line, fault, record};
use crate::suite::{PairItem, SuiteKind};

/// Keys of a pair; Bedrock's prompt datasets call the completion `referenceResponse`. Further keys are counted in a note,
/// since training files may carry some.
#[derive(Deserialize)]
struct PairRecord {
    prompt: String,
    #[serde(alias = "referenceResponse")]
    completion: String,
    /// Further right answers, where answers are generated and compared as texts.
    #[serde(default)]
    alternatives: Vec<String>,
    id: Option<Value>,
    group: Option<String>,
}

/// The keys that are read of lines of a kind.
pub(crate) fn keys(kind: SuiteKind) -> &'static [&'static str] {
    match kind {
        SuiteKind::Exact | SuiteKind::Generate => {
            &["prompt", "completion", "referenceResponse", "id", "group", "alternatives"]
        }
        _ => &["prompt", "completion", "referenceResponse", "id", "group"],
    }
}

/// The items of lines of a kind that is made of pairs.
/// Errors: no pair; an empty completion; an id that an earlier line has; where an answer is generated or ranked, a blank
/// prompt or answer, since nothing is generated after nothing.
pub(crate) fn pairs(path: &Path, lines: &[Line<'_>], kind: SuiteKind) -> Result<Vec<PairItem>, EvalError> {
    let has_alternatives = keys(kind).contains(&"alternatives");
    let answered = kind.generates() || kind == SuiteKind::Cloze;
    let mut seen: HashMap<String, usize> = HashMap::new();
    let mut items = Vec::with_capacity(lines.len());
    for &line in lines {
        let refuse = |message: &str| Err(fault(path, line.number, 1, message));
        let PairRecord { prompt, completion, mut alternatives, id, group } = record(path, line)?;
        if completion.is_empty() {
            return refuse("`completion` is empty; there is nothing to score, remove the line");
        }
        if let Some(id) = id.filter(|id| !id.is_null())
            && let Some(earlier) = seen.insert(id.to_string(), line.number)
        {
            return refuse(&format!("`id` is {id}, which line {earlier} has already"));
        }
        if answered && prompt.trim().is_empty() {
            return refuse("`prompt` is blank; an answer is what follows the prompt");
        }
        if answered && completion.trim().is_empty() {
            return refuse("`completion` is blank; give the right answer");
        }
        if !has_alternatives {
            alternatives.clear(); // a note says that the key isn't read
        } else if alternatives.iter().any(|answer| answer.trim().is_empty()) {
            return refuse("one of `alternatives` is blank; give right answers or leave it out");
        }
        items.push(PairItem { line: line.number, prompt, completion, alternatives, group });
    }
    Ok(items)
}
