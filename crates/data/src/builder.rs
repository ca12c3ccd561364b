//! Encodes the records of an input on all cores and lays them out in a shard, in bounded memory (R21): pairs in the order of the
//! input, raw text packed into rows.
//!
//! Nothing is lost silently: a record that can't be used is a problem, or is counted in the summary under the policy that was named
//! (R7, R11). What is done so far can be saved between two chunks, and gone on with after a kill. Keys and the cache are the
//! business of `prepare`.

use std::path::Path;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::chat::ChatError;
use crate::encode::{Encoded, Place, encode, problem};
use crate::error::{DataError, MAX_LISTED, Problem, Problems};
use crate::example::{Example, Pair, with_bos};
use crate::journal::Journal;
use crate::options::{LongRecords, PrepareOptions};
use crate::packing::{PACKING_WINDOW, RowPacker};
use crate::reader::{Limits, Position, Reader, Work};
use crate::source::Sources;
use crate::summary::{LengthHistogram, Summary};
use crate::tokenizer::TextTokenizer;
use crate::writer::{Mark, ShardWriter, Spool};

/// Largest vocabulary whose ids fit 16 bits.
const NARROW_ROWS: u32 = 1 << 16;
/// Most tokens that open rows may hold, beyond which the window gets smaller.
const OPEN_TOKENS: usize = 1 << 19;

/// Most different extra keys that are counted one by one.
const MAX_EXTRA_KEYS: usize = 1000;
const OTHER_KEYS: &str = "(other keys)";

/// A piece of raw text on its way into a row.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct RowPiece {
    tokens: Vec<u32>,
    place: Place,
}

/// What was done, between two chunks of the input.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Progress {
    summary: Summary,
    lengths: LengthHistogram,
    /// Records with empty completions, each with its number, its place and what it is.
    blank: Vec<(u64, Place, String)>,
    /// Records kept, and those of them whose end token is a target.
    kept: u64,
    ended: u64,
    /// Conversations without a template to lay them out, and the place of the first.
    untold_conversations: u64,
    first_untold: Option<Place>,
    /// Rows of text being filled.
    rows: RowPacker<RowPiece>,
    /// Tokens of the document being read that aren't in a row yet, how many it has in all, and its rows so far.
    pending: Vec<u32>,
    document_tokens: u64,
    document_rows: u64,
}

/// What is saved of a preparation.
#[derive(Serialize, Deserialize)]
struct Saved {
    progress: Progress,
    position: Position,
    mark: Mark,
    done_bytes: u64,
}

/// What is made of an input.
pub(crate) struct Built {
    pub(crate) writer: ShardWriter,
    pub(crate) summary: Summary,
    /// Bytes that a killed preparation had done before.
    pub(crate) resumed_bytes: u64,
}

/// Takes encoded records in the order of the input and writes the shard.
pub(crate) struct Builder<'a> {
    sources: &'a Sources,
    tokenizer: &'a TextTokenizer,
    options: &'a PrepareOptions,
    writer: ShardWriter,
    progress: Progress,
    /// Problems, each with the number of its record.
    problems: Vec<(u64, Problem)>,
    num_problems: u64,
    /// Where to go on, with the bytes that are done.
    resumed: Option<(Position, u64)>,
}

impl<'a> Builder<'a> {
    /// Begins, or goes on with what the journal holds. Errors: the columns can't be made; the journal can't be read or doesn't
    /// fit them.
    pub(crate) fn new(
        sources: &'a Sources,
        tokenizer: &'a TextTokenizer,
        options: &'a PrepareOptions,
        folder: &Path,
        journal: Option<&Journal>,
    ) -> Result<Self, DataError> {
        let wide = tokenizer.vocabulary_rows() > NARROW_ROWS;
        let new = |spool: Spool<'_>, progress: Progress| {
            Ok(Self {
                sources,
                tokenizer,
                options,
                writer: ShardWriter::new(folder, spool, wide)?,
                progress,
                problems: Vec::new(),
                num_problems: 0,
                resumed: None,
            })
        };
        let saved = journal.map(|journal| journal.load::<Saved>()).transpose()?.flatten();
        match (journal, saved) {
            (Some(journal), Some(saved)) => {
                let mut builder = new(Spool::Resumed(journal.folder(), &saved.mark), saved.progress)?;
                builder.resumed = Some((saved.position, saved.done_bytes));
                Ok(builder)
            }
            (Some(journal), None) => new(Spool::Kept(journal.folder()), Progress::new(options.max_length)),
            (None, _) => new(Spool::Unnamed(folder), Progress::new(options.max_length)),
        }
    }

    /// Reads the input to its end. Every `save_bytes` of it the journal is brought up to date.
    pub(crate) fn build(
        mut self,
        hashes: &[blake3::Hash],
        journal: Option<&Journal>,
        save_bytes: u64,
        tell: &mut dyn FnMut(u64, u64),
    ) -> Result<Built, DataError> {
        let total = self.sources.bytes();
        let limits = Limits::of(self.tokenizer);
        let mut reader = Reader::new(self.sources, self.tokenizer, hashes, self.options.limit, limits);
        let mut resumed_bytes = 0;
        if let Some((position, done_bytes)) = self.resumed.take() {
            reader = reader.resume(position)?;
            resumed_bytes = done_bytes;
        }
        let mut saved_bytes = resumed_bytes;
        loop {
            let chunk = reader.next_chunk()?;
            if chunk.is_empty() {
                break;
            }
            let (sources, tokenizer) = (self.sources, self.tokenizer);
            let encode = |work: Result<Work, Problem>| work.and_then(|work| encode(sources, tokenizer, work));
            let encoded: Vec<_> = chunk.into_par_iter().map(encode).collect();
            for item in encoded {
                self.add(item)?;
            }
            let done = reader.done_bytes().min(total);
            tell(done, total);
            // What has problems fails in the end: there is nothing to go on with.
            if let Some(journal) =
                journal.filter(|_| self.num_problems == 0 && done - saved_bytes.min(done) >= save_bytes)
            {
                self.save(journal, reader.position(), done)?;
                saved_bytes = done;
            }
        }
        self.progress.summary.byte_order_marks = reader.byte_order_marks();
        let (writer, summary) = self.finish()?;
        Ok(Built { writer, summary, resumed_bytes })
    }

    fn save(&mut self, journal: &Journal, position: Position, done_bytes: u64) -> Result<(), DataError> {
        let mark = self.writer.mark()?;
        let saved = Saved { progress: self.progress.clone(), position, mark, done_bytes };
        journal.save(&saved).map_err(|source| DataError::Cache { path: journal.folder().to_owned(), source })
    }

    fn add(&mut self, item: Result<(Place, Encoded), Problem>) -> Result<(), DataError> {
        if !matches!(item, Ok((_, Encoded::Piece { first: false, .. }))) {
            self.progress.summary.records += 1;
        }
        match item {
            Err(problem) => self.refuse(problem),
            Ok((place, Encoded::Pair { pair, blank, extra_keys })) => {
                self.count_keys(extra_keys);
                if let Some(blank) = blank {
                    self.progress.summary.empty_completions += 1;
                    let allowed = self.options.allow_empty_completions;
                    let message = format!(
                        "the completion is {blank} (allowed: {allowed}); remove the record or allow more of them"
                    );
                    if self.progress.blank.len() < MAX_LISTED {
                        self.progress.blank.push((self.progress.summary.records, place, message));
                    }
                }
                self.add_pair(place, pair)?;
            }
            Ok((place, Encoded::Conversation { example, extra_keys })) => {
                self.count_keys(extra_keys);
                self.add_conversation(place, example)?;
            }
            Ok((place, Encoded::Untold)) => {
                self.progress.untold_conversations += 1;
                self.progress.first_untold.get_or_insert(place);
            }
            Ok((place, Encoded::Document { example, extra_keys })) => {
                self.count_keys(extra_keys);
                self.add_piece(place, example.tokens, true, true)?;
            }
            Ok((place, Encoded::Piece { tokens, first, last })) => {
                let mut tokens = if first { with_bos(self.tokenizer, tokens) } else { tokens };
                if last {
                    tokens.push(self.tokenizer.eos());
                }
                self.add_piece(place, tokens, first, last)?;
            }
        }
        Ok(())
    }

    fn add_pair(&mut self, place: Place, pair: Pair) -> Result<(), DataError> {
        let (length, max) = (pair.example.tokens.len(), self.options.max_length);
        self.progress.lengths.add(length as u64);
        let mut example = pair.example;
        if length > max {
            match self.options.long_records {
                LongRecords::Error => {
                    let (prompt, completion) = (pair.prompt_length, length - pair.prompt_length);
                    self.refuse(self.problem(
                        place,
                        format!(
                            "{length} tokens (prompt {prompt}, completion {completion}) are more than the maximum of {max}; \
                             shorten the record, raise the maximum, or choose to drop or truncate long records"
                        ),
                    ));
                    return Ok(());
                }
                LongRecords::Drop => {
                    self.progress.summary.dropped_records += 1;
                    self.progress.summary.dropped_target_tokens += example.target_tokens();
                    return Ok(());
                }
                LongRecords::Truncate => {
                    let completion = length - pair.prompt_length;
                    let Some(shorter) = truncate(&example, pair.prompt_length, self.tokenizer.adds_bos(), max) else {
                        self.refuse(self.problem(
                            place,
                            format!(
                                "the completion alone has {completion} tokens, which leaves no room for a prompt in the maximum of {max}; \
                                 shorten it or raise the maximum"
                            ),
                        ));
                        return Ok(());
                    };
                    self.progress.summary.truncated_records += 1;
                    self.progress.summary.truncated_tokens += (length - shorter.tokens.len()) as u64;
                    example = shorter;
                }
            }
        }
        self.progress.summary.untargeted_first_tokens += u64::from(pair.prompt_length == 0);
        self.progress.kept += 1;
        self.progress.ended += u64::from(ends_in_target(&example));
        self.push(&example, place)?;
        self.writer.end_unit()?;
        self.progress.summary.units += 1;
        Ok(())
    }

    /// A conversation is kept whole, dropped or refused: cut anywhere it would be another one.
    fn add_conversation(&mut self, place: Place, example: Example) -> Result<(), DataError> {
        let (length, max) = (example.tokens.len(), self.options.max_length);
        self.progress.lengths.add(length as u64);
        match self.options.long_records {
            _ if length <= max => {}
            LongRecords::Drop => {
                self.progress.summary.dropped_records += 1;
                self.progress.summary.dropped_target_tokens += example.target_tokens();
                return Ok(());
            }
            LongRecords::Error | LongRecords::Truncate => {
                let message = format!(
                    "the conversation's {length} tokens ({} of the assistant) are more than the maximum of {max}, and conversations are \
                     not truncated; shorten it, raise the maximum, or choose to drop long records",
                    example.target_tokens()
                );
                self.refuse(self.problem(place, message));
                return Ok(());
            }
        }
        self.progress.kept += 1;
        self.progress.ended += 1; // its last target is what ends the last turn (R8)
        self.push(&example, place)?;
        self.writer.end_unit()?;
        self.progress.summary.units += 1;
        Ok(())
    }

    /// Adds tokens to the document being read and packs the rows that are full.
    fn add_piece(&mut self, place: Place, tokens: Vec<u32>, first: bool, last: bool) -> Result<(), DataError> {
        let max = self.options.max_length;
        let progress = &mut self.progress;
        if first {
            (progress.document_tokens, progress.document_rows) = (0, 0);
            progress.pending.clear();
            progress.summary.untargeted_first_tokens += u64::from(!self.tokenizer.adds_bos());
        }
        progress.document_tokens += tokens.len() as u64;
        progress.pending.extend(tokens);
        // Until the document ends at least one token stays, so that its last row isn't empty.
        let pending = progress.pending.len();
        let full = if last { pending } else { pending.saturating_sub(1) / max * max };
        let rest = progress.pending.split_off(full);
        let ready = std::mem::replace(&mut progress.pending, rest);
        let rows = ready.len().div_ceil(max) as u64;
        progress.document_rows += rows;
        if last {
            progress.lengths.add(progress.document_tokens);
            progress.summary.cut_targets += progress.document_rows.saturating_sub(1);
            progress.kept += 1;
            // Its end token is predicted unless it begins a row (R8).
            progress.ended += u64::from(ready.len() % max != 1);
        }
        for tokens in ready.chunks(max) {
            let piece = RowPiece { tokens: tokens.to_vec(), place };
            if let Some(row) = self.progress.rows.push(tokens.len(), piece) {
                self.push_row(row)?;
            }
        }
        Ok(())
    }

    /// Writes a packed row, which is a unit.
    fn push_row(&mut self, row: Vec<RowPiece>) -> Result<(), DataError> {
        let mut length = 0;
        for RowPiece { tokens, place } in row {
            length += tokens.len();
            self.push(&Example::with_targets_from(tokens, 1), place)?;
        }
        self.progress.summary.units += 1;
        self.progress.summary.unfilled_tokens += (self.options.max_length - length) as u64;
        self.writer.end_unit()
    }

    fn push(&mut self, document: &Example, place: Place) -> Result<(), DataError> {
        let length = document.tokens.len() as u64;
        self.progress.summary.tokens += length;
        self.progress.summary.target_tokens += document.target_tokens();
        self.progress.summary.longest = self.progress.summary.longest.max(length);
        self.writer.push(document, place.file, place.line)
    }

    fn count_keys(&mut self, keys: Vec<String>) {
        let counts = &mut self.progress.summary.extra_keys;
        for key in keys {
            // Beyond so many different ones they are data, not keys, and would fill the memory.
            let key = if counts.len() < MAX_EXTRA_KEYS || counts.contains_key(&key) { key } else { OTHER_KEYS.into() };
            *counts.entry(key).or_default() += 1;
        }
    }

    fn problem(&self, place: Place, message: String) -> Problem {
        problem(self.sources, place, None, message)
    }

    fn refuse(&mut self, problem: Problem) {
        self.num_problems += 1;
        if self.problems.len() < MAX_LISTED {
            self.problems.push((self.progress.summary.records, problem));
        }
    }

    fn finish(mut self) -> Result<(ShardWriter, Summary), DataError> {
        self.refuse_what_cant_be_used()?;
        let max_length = self.options.max_length;
        let rows = std::mem::replace(&mut self.progress.rows, RowPacker::new(max_length, 1));
        for row in rows.finish() {
            self.push_row(row)?;
        }
        let Progress { mut summary, lengths, kept, ended, .. } = self.progress;
        if summary.target_tokens == 0 {
            return Err(DataError::Source(format!(
                "nothing is left to train on: of {} records {} were dropped as longer than {max_length} tokens, and no other has a target; \
                 raise the maximum length or check the data",
                summary.records, summary.dropped_records
            )));
        }
        summary.documents = self.writer.num_documents();
        summary.lengths = lengths.percentiles();
        summary.end_token_share = ended as f64 / kept as f64;
        Ok((self.writer, summary))
    }

    fn refuse_what_cant_be_used(&mut self) -> Result<(), DataError> {
        let mut total = self.num_problems;
        let empty = self.progress.summary.empty_completions;
        if empty > self.options.allow_empty_completions {
            total += empty;
            for (record, place, message) in std::mem::take(&mut self.progress.blank) {
                self.problems.push((record, self.problem(place, message)));
            }
            self.problems.sort_by_key(|(record, _)| *record);
            self.problems.truncate(MAX_LISTED);
        }
        if total > 0 {
            let listed = std::mem::take(&mut self.problems).into_iter().map(|(_, problem)| problem).collect();
            return Err(DataError::Records(Problems { total, listed }));
        }
        let Some(place) = self.progress.first_untold else { return Ok(()) };
        let (first, count) = (self.problem(place, String::new()), self.progress.untold_conversations);
        let records = self.progress.summary.records;
        Err(DataError::Source(format!(
            "{first}{count} of {records} records are conversations, but {}",
            ChatError::NoTemplate
        )))
    }
}

impl Progress {
    fn new(max_length: usize) -> Self {
        let window = (OPEN_TOKENS / max_length.max(1)).clamp(8, PACKING_WINDOW);
        Self {
            summary: Summary::default(),
            lengths: LengthHistogram::default(),
            blank: Vec::new(),
            kept: 0,
            ended: 0,
            untold_conversations: 0,
            first_untold: None,
            rows: RowPacker::new(max_length, window),
            pending: Vec::new(),
            document_tokens: 0,
            document_rows: 0,
        }
    }
}

/// R8, by position: the last token of an example is its end token.
fn ends_in_target(example: &Example) -> bool {
    example.targets.last().is_some_and(|(_, end)| *end as usize == example.tokens.len())
}

/// Shortens a pair to `max` tokens from the left of its prompt, keeping BOS; `None` where a target would be lost.
fn truncate(example: &Example, prompt_length: usize, has_bos: bool, max: usize) -> Option<Example> {
    let (prompt, completion) = example.tokens.split_at(prompt_length);
    // One token must stay in front of the first target, or nobody would predict it.
    let room = max.checked_sub(completion.len()).filter(|room| *room >= 1 && prompt_length >= 1)?;
    let bos = &prompt[..usize::from(has_bos)];
    let tail = &prompt[prompt.len() - (room - bos.len())..];
    Some(Example::with_targets_from([bos, tail, completion].concat(), room))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn truncation_never_takes_the_first_target_or_the_token_before_it() {
        let example = Example::with_targets_from((0..10).collect(), 6);
        let tokens =
            |has_bos, max| truncate(&example, 6, has_bos, max).map(|example| (example.tokens, example.targets));
        assert_eq!(tokens(false, 6), Some((vec![4, 5, 6, 7, 8, 9], vec![(2, 6)])));
        assert_eq!(tokens(true, 6), Some((vec![0, 5, 6, 7, 8, 9], vec![(2, 6)])));
        assert_eq!(tokens(true, 5), Some((vec![0, 6, 7, 8, 9], vec![(1, 5)])));
        assert_eq!(tokens(false, 4), None);
        assert_eq!(truncate(&Example::with_targets_from((0..10).collect(), 0), 0, false, 9), None);
    }
}
