//! Encodes the records of an input on all cores and lays them out in a shard, in the order of the input and in bounded memory (R21).
//!
//! Nothing is lost silently: a record that can't be used is a problem, or is counted in the summary under the policy that was named
//! (R7, R11). Keys and the cache are the business of `prepare`.

use std::path::Path;

use rayon::prelude::*;

use crate::error::{DataError, MAX_LISTED, Problem, Problems};
use crate::example::{Example, Pair, cut, encode_document, encode_pair, with_bos};
use crate::options::{LongRecords, PrepareOptions};
use crate::reader::{Part, Reader, Work};
use crate::record::{self, Record};
use crate::source::Sources;
use crate::summary::{LengthHistogram, Summary};
use crate::tokenizer::TextTokenizer;
use crate::writer::ShardWriter;

/// Largest vocabulary whose ids fit 16 bits.
const NARROW_ROWS: u32 = 1 << 16;

/// What a worker makes of a piece of work.
enum Encoded {
    Pair { pair: Pair, blank: Option<&'static str>, extra_keys: Vec<String> },
    Document { example: Example, extra_keys: Vec<String> },
    Piece { tokens: Vec<u32>, first: bool, last: bool },
}

/// Where a record stands.
#[derive(Clone, Copy)]
struct Place {
    file: u32,
    line: u64,
}

/// Takes encoded records in the order of the input and writes the shard.
pub(crate) struct Builder<'a> {
    sources: &'a Sources,
    tokenizer: &'a TextTokenizer,
    options: &'a PrepareOptions,
    writer: ShardWriter,
    summary: Summary,
    lengths: LengthHistogram,
    /// Problems and records with empty completions, each with the number of its record.
    problems: Vec<(u64, Problem)>,
    num_problems: u64,
    blank: Vec<(u64, Problem)>,
    /// Records kept, and those of them whose end token is a target.
    kept: u64,
    ended: u64,
    /// Tokens in the row being filled.
    row_tokens: usize,
    /// Tokens of the document being read that aren't in a row yet, how many it has in all, and its rows so far.
    pending: Vec<u32>,
    document_tokens: u64,
    document_rows: u64,
}

impl<'a> Builder<'a> {
    pub(crate) fn new(
        sources: &'a Sources,
        tokenizer: &'a TextTokenizer,
        options: &'a PrepareOptions,
        folder: &Path,
    ) -> Result<Self, DataError> {
        Ok(Self {
            sources,
            tokenizer,
            options,
            writer: ShardWriter::new(folder, tokenizer.vocabulary_rows() > NARROW_ROWS)?,
            summary: Summary::default(),
            lengths: LengthHistogram::default(),
            problems: Vec::new(),
            num_problems: 0,
            blank: Vec::new(),
            kept: 0,
            ended: 0,
            row_tokens: 0,
            pending: Vec::new(),
            document_tokens: 0,
            document_rows: 0,
        })
    }

    pub(crate) fn build(
        mut self,
        hashes: &[blake3::Hash],
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(ShardWriter, Summary), DataError> {
        let total = self.sources.bytes();
        let mut reader = Reader::new(self.sources, self.tokenizer, hashes, self.options.limit);
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
            progress(reader.done_bytes.min(total), total);
        }
        self.summary.byte_order_marks = reader.byte_order_marks;
        self.finish()
    }

    fn add(&mut self, item: Result<(Place, Encoded), Problem>) -> Result<(), DataError> {
        if !matches!(item, Ok((_, Encoded::Piece { first: false, .. }))) {
            self.summary.records += 1;
        }
        match item {
            Err(problem) => self.refuse(problem),
            Ok((place, Encoded::Pair { pair, blank, extra_keys })) => {
                self.count_keys(extra_keys);
                if let Some(blank) = blank {
                    self.summary.empty_completions += 1;
                    let allowed = self.options.allow_empty_completions;
                    let message = format!(
                        "the completion is {blank} (allowed: {allowed}); remove the record or allow more of them"
                    );
                    if self.blank.len() < MAX_LISTED {
                        self.blank.push((self.summary.records, self.problem(place, message)));
                    }
                }
                self.add_pair(place, pair)?;
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
        self.lengths.add(length as u64);
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
                    self.summary.dropped_records += 1;
                    self.summary.dropped_target_tokens += example.target_tokens();
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
                    self.summary.truncated_records += 1;
                    self.summary.truncated_tokens += (length - shorter.tokens.len()) as u64;
                    example = shorter;
                }
            }
        }
        self.summary.untargeted_first_tokens += u64::from(pair.prompt_length == 0);
        self.kept += 1;
        self.ended += u64::from(ends_in_target(&example));
        self.push(&example, place)?;
        self.writer.end_unit()?;
        self.summary.units += 1;
        Ok(())
    }

    /// Adds tokens to the document being read and writes the rows that are full.
    fn add_piece(&mut self, place: Place, tokens: Vec<u32>, first: bool, last: bool) -> Result<(), DataError> {
        let max = self.options.max_length;
        if first {
            (self.document_tokens, self.document_rows) = (0, 0);
            self.pending.clear();
            self.summary.untargeted_first_tokens += u64::from(!self.tokenizer.adds_bos());
        }
        self.document_tokens += tokens.len() as u64;
        self.pending.extend(tokens);
        // Until the document ends at least one token stays, so that its last row isn't empty.
        let full = if last { self.pending.len() } else { self.pending.len().saturating_sub(1) / max * max };
        let rest = self.pending.split_off(full);
        let ready = Example::with_targets_from(std::mem::replace(&mut self.pending, rest), 1);
        let rows = cut(&ready, max).rows;
        self.document_rows += rows.len() as u64;
        for row in &rows {
            if self.row_tokens > 0 && self.row_tokens + row.tokens.len() > max {
                self.end_row()?;
            }
            self.row_tokens += row.tokens.len();
            self.push(row, place)?;
        }
        if last {
            self.lengths.add(self.document_tokens);
            self.summary.cut_targets += self.document_rows.saturating_sub(1);
            self.kept += 1;
            self.ended += u64::from(rows.last().is_some_and(ends_in_target));
        }
        Ok(())
    }

    fn end_row(&mut self) -> Result<(), DataError> {
        self.row_tokens = 0;
        self.summary.units += 1;
        self.writer.end_unit()
    }

    fn push(&mut self, document: &Example, place: Place) -> Result<(), DataError> {
        let length = document.tokens.len() as u64;
        self.summary.tokens += length;
        self.summary.target_tokens += document.target_tokens();
        self.summary.longest = self.summary.longest.max(length);
        self.writer.push(document, place.file, place.line)
    }

    fn count_keys(&mut self, keys: Vec<String>) {
        for key in keys {
            *self.summary.extra_keys.entry(key).or_default() += 1;
        }
    }

    fn problem(&self, place: Place, message: String) -> Problem {
        problem(self.sources, place, None, message)
    }

    fn refuse(&mut self, problem: Problem) {
        self.num_problems += 1;
        if self.problems.len() < MAX_LISTED {
            self.problems.push((self.summary.records, problem));
        }
    }

    fn finish(mut self) -> Result<(ShardWriter, Summary), DataError> {
        let mut total = self.num_problems;
        if self.summary.empty_completions > self.options.allow_empty_completions {
            total += self.summary.empty_completions;
            self.problems.append(&mut self.blank);
            self.problems.sort_by_key(|(record, _)| *record);
            self.problems.truncate(MAX_LISTED);
        }
        if total > 0 {
            let listed = self.problems.into_iter().map(|(_, problem)| problem).collect();
            return Err(DataError::Records(Problems { total, listed }));
        }
        if self.row_tokens > 0 {
            self.end_row()?;
        }
        let mut summary = self.summary;
        if summary.target_tokens == 0 {
            return Err(DataError::Source(format!(
                "nothing is left to train on: of {} records {} were dropped as longer than {} tokens, and no other has a target; \
                 raise the maximum length or check the data",
                summary.records, summary.dropped_records, self.options.max_length
            )));
        }
        summary.documents = self.writer.num_documents();
        summary.lengths = self.lengths.percentiles();
        summary.end_token_share = self.ended as f64 / self.kept as f64;
        Ok((self.writer, summary))
    }
}

/// R8, by position: the last token of an example is its end token.
fn ends_in_target(example: &Example) -> bool {
    example.targets.last().is_some_and(|(_, end)| *end as usize == example.tokens.len())
}

fn problem(sources: &Sources, place: Place, column: Option<u64>, message: String) -> Problem {
    Problem { path: sources.files()[place.file as usize].path.clone(), line: Some(place.line), column, message }
}

/// The work of one core on one record or piece.
fn encode(sources: &Sources, tokenizer: &TextTokenizer, work: Work) -> Result<(Place, Encoded), Problem> {
    let place = Place { file: work.file, line: work.line };
    let refuse = |message: String| problem(sources, place, None, message);
    let encoded = match work.part {
        Part::Line(line) => {
            let parsed = record::parse(&line, sources.kind())
                .map_err(|error| problem(sources, place, error.column, error.message))?;
            encode_record(tokenizer, parsed).map_err(refuse)?
        }
        Part::Text { context, text, first, last } => {
            let tokens = tokenizer.encode_after(&context, &text).map_err(|error| refuse(error.to_string()))?;
            let tokens =
                tokens.ok_or_else(|| refuse("the tokenizer can't read this text in pieces; split the file".into()))?;
            Encoded::Piece { tokens, first, last }
        }
    };
    Ok((place, encoded))
}

fn encode_record(tokenizer: &TextTokenizer, parsed: record::Parsed) -> Result<Encoded, String> {
    let extra_keys = parsed.extra_keys;
    match parsed.record {
        Record::Pair { prompt, completion } => {
            let blank = match (completion.is_empty(), completion.trim().is_empty()) {
                (true, _) => Some("empty"),
                (false, true) => Some("only white space"),
                (false, false) => None,
            };
            let pair = encode_pair(tokenizer, &prompt, &completion).map_err(|error| error.to_string())?;
            Ok(Encoded::Pair { pair, blank, extra_keys })
        }
        Record::Input(text) if text.trim().is_empty() => Err("`input` holds no text; remove the record".into()),
        Record::Input(text) => {
            let example = encode_document(tokenizer, &text).map_err(|error| error.to_string())?;
            Ok(Encoded::Document { example, extra_keys })
        }
    }
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
