//! Checks of data before anything is trained on them: structure, tokens, duplicates, leakage, labels, personal data, quality.
//!
//! One pass over the files, on all cores, in bounded memory: a chunk of 8 MB is read while the one before is worked on; what is
//! compared across records is sorted outside of memory (`spill`) or has a bound of its own (`near`). The report doesn't depend on
//! the number of threads: facts of single records are gathered in the order of the input.
//! What it leaves out: changing the data (`scrub`, `split` write new files), and preparing them.

mod boilerplate;
mod contamination;
mod divide;
mod facts;
mod files;
mod findings;
mod gather;
mod labels;
mod leakage;
mod near;
pub mod personal;
mod profile;
mod quality;
mod relations;
mod report;
mod rules;
mod scrub;
mod spill;
mod structure;
mod tokens;
mod words;

pub use contamination::contaminated;
pub use divide::{DivideOptions, Divided, SIDES, divide, write_sides};
pub use files::Role;
pub use findings::{Finding, MAX_SHOWN, Shown};
pub use labels::LabelCount;
pub use profile::{Profile, find as find_profile};
pub use relations::Repetition;
pub use report::{FileReport, Report, TokenReport};
pub use rules::{Level, RULES, Rule};
pub use scrub::{Change, Scrubbed, scrub};
pub use structure::Format;
pub use tokens::{Bin, TokenCheck};

use std::ops::Range;
use std::path::PathBuf;
use std::sync::mpsc::sync_channel;

use rayon::prelude::*;

use crate::error::DataError;
use crate::reader::{Limits, MAX_LINE_BYTES};
use facts::Work;
use files::{CheckedFile, Item, Pieces};
use gather::Gather;
use leakage::EvalGrams;
use tokens::Spelled;

/// Bound of the near-duplicate search where none is given: some 10 million short records, or 2 million long ones.
pub const NEAR_BYTES: usize = 1 << 30;

/// What to check, and how.
#[derive(Debug, Clone)]
pub struct CheckOptions<'a> {
    /// Files and folders to train on.
    pub training: Vec<PathBuf>,
    /// Files and folders that measure.
    pub evaluation: Vec<PathBuf>,
    /// What tokens are counted with; none for no check of tokens.
    pub tokens: Option<TokenCheck<'a>>,
    /// A Bedrock model's limits.
    pub profile: Option<&'static Profile>,
    /// Hyperparameters to hold to the profile's ranges.
    pub settings: Vec<(String, String)>,
    /// Bytes that the records compared for near-duplicates may take; 0 for no comparison.
    pub near_bytes: usize,
    /// Runs of 13 words of the evaluation files that are kept to find them in the training data, 18 bytes each.
    pub most_grams: usize,
    /// Whether personal data are looked for.
    pub personal: bool,
}

impl<'a> CheckOptions<'a> {
    /// Everything but what needs a base or a profile.
    pub fn new(training: Vec<PathBuf>) -> CheckOptions<'a> {
        Self {
            training,
            evaluation: Vec::new(),
            tokens: None,
            profile: None,
            settings: Vec::new(),
            near_bytes: NEAR_BYTES,
            most_grams: leakage::MOST_GRAMS,
            personal: true,
        }
    }
}

/// Checks files. `progress` is told bytes done and bytes in all.
///
/// Errors: a path is missing, can't be read or changes meanwhile; there is no room for temporary files. What is wrong with the data is a finding.
pub fn check(options: &CheckOptions<'_>, progress: &mut dyn FnMut(u64, u64)) -> Result<Report, DataError> {
    let mut files = Vec::new();
    files::discover(&options.training, Role::Training, &mut files)?;
    let training = files.len();
    files::discover(&options.evaluation, Role::Evaluation, &mut files)?;
    if training == 0 {
        return Err(DataError::Source("no data is given; name a file or a folder".into()));
    }
    let spelled = options.tokens.map(|check| Spelled::of(check.tokenizer));
    let tokens = options.tokens.zip(spelled.as_ref());
    // what training would refuse for its length
    let max_line_bytes = options.tokens.map_or(MAX_LINE_BYTES, |check| Limits::of(check.tokenizer).max_line_bytes);
    let total = files.iter().map(|file| file.source.bytes).sum();
    let mut done = 0;
    let mut gather = Gather::new(&files, training, options);
    let mut grams = EvalGrams::new(options.most_grams);
    for (role, range) in [(Role::Evaluation, training..files.len()), (Role::Training, 0..training)] {
        read(&files, range, max_line_bytes, &mut |items, bytes| {
            let near = options.near_bytes > 0;
            let work = Work { tokens, profile: options.profile, grams: &grams, near, personal: options.personal };
            let facts: Vec<_> = items.par_iter().map(|item| facts::of(item, role, work)).collect();
            for (item, facts) in items.into_iter().zip(facts) {
                if role == Role::Evaluation {
                    gather.eval_grams(item.place, &facts, &mut grams);
                }
                gather.add(item.place, facts)?;
            }
            progress((done + bytes).min(total), total);
            Ok(())
        })?;
        gather.end_files()?;
        done = files[training..].iter().map(|file| file.source.bytes).sum();
    }
    let report = gather.finish(grams)?;
    files.iter().try_for_each(CheckedFile::ensure_unchanged)?;
    Ok(report)
}

/// Reads files on a thread of its own, a chunk ahead, and hands the chunks on in order with the bytes read so far.
fn read(
    files: &[CheckedFile],
    range: Range<usize>,
    max_line_bytes: u64,
    each: &mut dyn FnMut(Vec<Item>, u64) -> Result<(), DataError>,
) -> Result<(), DataError> {
    std::thread::scope(|scope| {
        let (send, receive) = sync_channel(1);
        scope.spawn(move || {
            let mut pieces = Pieces::new(files, range, max_line_bytes);
            loop {
                let chunk = pieces.next_chunk();
                let is_end = !matches!(&chunk, Ok(items) if !items.is_empty());
                // fails where nobody listens any more, after an error
                if send.send((chunk, pieces.done_bytes)).is_err() || is_end {
                    return;
                }
            }
        });
        for (chunk, bytes) in receive {
            let items = chunk?;
            if !items.is_empty() {
                each(items, bytes)?;
            }
        }
        Ok(())
    })
}

#[cfg(test)]
mod bad_input;
#[cfg(test)]
mod tests;
