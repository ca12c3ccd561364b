//! What a check says: counts, findings, and the figures behind the plots. Serialised it is the output of `--json`.

use std::collections::BTreeMap;

use serde::Serialize;

use super::files::Role;
use super::findings::Finding;
use super::labels::LabelCount;
use super::personal::Kind;
use super::relations::Repetition;
use super::rules::Level;
use super::structure::Format;
use super::tokens::Bin;
use crate::summary::LengthPercentiles;

/// A file that was checked.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FileReport {
    /// Its path.
    pub file: String,
    /// What it is for.
    pub role: Role,
    /// Its size on disk.
    pub bytes: u64,
    /// Records: lines, or one for a text file.
    pub records: u64,
    /// Records of each format.
    pub formats: BTreeMap<Format, u64>,
}

/// The tokens of the training records.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenReport {
    /// Most tokens of a record, or of a row of raw text.
    pub max_length: u64,
    /// Tokens, special tokens included.
    pub tokens: u64,
    /// Those of them that count in the loss.
    pub target_tokens: u64,
    /// Tokens of the longest record.
    pub longest: u64,
    /// Lengths of the records.
    pub lengths: LengthPercentiles,
    /// Their histogram.
    pub histogram: Vec<Bin>,
    /// Records longer than the maximum.
    pub over_length: u64,
    /// The token that ends a completion or a document.
    pub stop_token: String,
    /// Its id.
    pub stop_id: u32,
    /// Records that end with it as a target, out of all. 0 to 1 (R8).
    pub stop_share: f64,
}

/// Everything that a check found.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Version of this layout.
    pub version: u32,
    /// Kinds of findings that are errors.
    pub errors: usize,
    /// Kinds of findings that are warnings.
    pub warnings: usize,
    /// Kinds of findings that are notes.
    pub notes: usize,
    /// The files.
    pub files: Vec<FileReport>,
    /// The profile that the data were held to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<&'static super::profile::Profile>,
    /// The findings: errors first.
    pub findings: Vec<Finding>,
    /// Training records.
    pub records: u64,
    /// Evaluation records.
    pub evaluation_records: u64,
    /// Characters of the training records' texts.
    pub characters: u64,
    /// Words of the training records' texts.
    pub words: u64,
    /// Tokens; none where no base was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<TokenReport>,
    /// Labels by falling count; empty where the completions are no labels.
    pub labels: Vec<LabelCount>,
    /// Languages of the training records whose language is clear.
    pub languages: BTreeMap<&'static str, u64>,
    /// Repetition among the records.
    pub repetition: Repetition,
    /// Pieces of personal data of each kind.
    pub personal: BTreeMap<Kind, u64>,
    /// Keys that records have beyond those that are used.
    pub extra_keys: BTreeMap<String, u64>,
}

impl Report {
    pub(crate) fn counted(mut self) -> Self {
        let count = |level| self.findings.iter().filter(|finding| finding.level == level).count();
        (self.errors, self.warnings, self.notes) = (count(Level::Error), count(Level::Warning), count(Level::Note));
        self
    }

    /// The verdict in one line.
    pub fn verdict(&self) -> String {
        let counted = |count: usize, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
        let found =
            [counted(self.errors, "error"), counted(self.warnings, "warning"), counted(self.notes, "note")].join(", ");
        let say = match (self.errors, self.warnings) {
            (0, 0) => "nothing stands in the way of training",
            (0, _) => "training runs, but look at the warnings first",
            _ => "training would refuse the data, or learn from broken ones",
        };
        format!("{found}: {say}")
    }
}
