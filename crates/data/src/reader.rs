//! Streams the files of an input as pieces of work for the tokenizer, a bounded number of bytes at a time (R21).
//!
//! JSONL gives its lines. A text file gives pieces that are cut where the tokens are the same with and without the cut, so that a
//! large file is neither held in memory nor tokenised on one core: where the tokenizer works by words the place itself shows it,
//! any other tokenizer is tried on both sides. What the pieces hold is checked elsewhere. Where reading stands is a small value
//! ([`Position`]), so that a preparation that was killed goes on from it.

use std::io;

use serde::{Deserialize, Serialize};

use crate::cuts::{self, find_cut};
use crate::error::{DataError, Problem};
use crate::input::Input;
use crate::record::{column, not_utf8};
use crate::source::{SourceKind, Sources};
use crate::tokenizer::TextTokenizer;

/// Bytes handed out at once.
const CHUNK_BYTES: u64 = 4 << 20;
/// What a piece of work takes beside its bytes.
const WORK_BYTES: u64 = 128;
/// Bytes in front of a piece that it is tokenised after, where the tokenizer is tried.
const CONTEXT_BYTES: usize = 64;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Longest line of JSONL where the tokenizer works by words.
pub(crate) const MAX_LINE_BYTES: u64 = 32 << 20;

/// How much may be held at once. Fixed but in tests.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Aimed-at length of a piece of text.
    pub(crate) piece_bytes: usize,
    /// Longest piece of text, where there is no place to cut.
    pub(crate) max_piece_bytes: usize,
    /// Longest line of JSONL. Reading on would fill the memory: with its values and tokens a line takes up to twenty times its length.
    pub(crate) max_line_bytes: u64,
}

impl Limits {
    /// A tokenizer of any other kind than by words takes some thirty times the length of what it is given.
    pub(crate) fn of(tokenizer: &TextTokenizer) -> Self {
        let max_line_bytes = if tokenizer.words().is_some() { MAX_LINE_BYTES } else { 8 << 20 };
        Self { piece_bytes: 64 << 10, max_piece_bytes: 4 << 20, max_line_bytes }
    }
}

/// Something to tokenise, and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Work {
    pub(crate) file: u32,
    /// Line (from 1) where it begins.
    pub(crate) line: u64,
    pub(crate) part: Part,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    /// A line of JSONL without its line end.
    Line(Vec<u8>),
    /// A piece of a text file, to be tokenised as what follows `context`; as it stands where there is none.
    Text { context: String, text: String, first: bool, last: bool },
}

impl Part {
    fn len(&self) -> usize {
        match self {
            Self::Line(line) => line.len(),
            Self::Text { text, .. } => text.len(),
        }
    }
}

/// Where reading stands, after the last piece of work that was handed out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Position {
    records_left: u64,
    next_file: usize,
    /// Bytes on disk of the files that are done.
    closed_bytes: u64,
    byte_order_marks: u64,
    open: Option<OpenPosition>,
}

/// Where reading stands in the file that is open.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct OpenPosition {
    /// Bytes of content handed out.
    consumed: u64,
    /// Lines handed out (JSONL), or line ends handed out (text).
    lines: u64,
    /// Whether anything but a byte order mark was handed out.
    begun: bool,
    /// The last bytes of text handed out.
    context: String,
    /// Characters handed out of the line that isn't at its end (text), for the column of an error.
    columns: u64,
}

/// A file being read.
struct Open {
    input: Input,
    at: OpenPosition,
    /// Content read ahead.
    buffer: Vec<u8>,
    at_end: bool,
}

/// Reads the sources once, in order.
pub(crate) struct Reader<'a> {
    sources: &'a Sources,
    tokenizer: &'a TextTokenizer,
    /// Content hashes of the files as they were when the cache key was made.
    hashes: &'a [blake3::Hash],
    limits: Limits,
    at: Position,
    open: Option<Open>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(
        sources: &'a Sources,
        tokenizer: &'a TextTokenizer,
        hashes: &'a [blake3::Hash],
        limit: Option<u64>,
        limits: Limits,
    ) -> Self {
        let at = Position {
            records_left: limit.unwrap_or(u64::MAX),
            next_file: 0,
            closed_bytes: 0,
            byte_order_marks: 0,
            open: None,
        };
        Self { sources, tokenizer, hashes, limits, at, open: None }
    }

    /// Goes on from a position that another reader of the same files had. Errors: a file is shorter than that; I/O.
    pub(crate) fn resume(mut self, mut at: Position) -> Result<Self, DataError> {
        if let Some(open) = at.open.take() {
            let file = at.next_file.checked_sub(1).and_then(|file| self.sources.files().get(file));
            let file = file.ok_or_else(|| DataError::Source("the journal names a file that isn't there".into()))?;
            let mut input = Input::open(&file.path, file.compression)?;
            input.skip(open.consumed)?;
            self.open = Some(Open { input, at: open, buffer: Vec::new(), at_end: false });
        }
        self.at = at;
        Ok(self)
    }

    /// Where reading stands.
    pub(crate) fn position(&self) -> Position {
        Position { open: self.open.as_ref().map(|open| open.at.clone()), ..self.at.clone() }
    }

    /// Bytes read from the disk so far, for the progress.
    pub(crate) fn done_bytes(&self) -> u64 {
        self.at.closed_bytes + self.open.as_ref().map_or(0, |open| open.input.raw_bytes())
    }

    /// Files that began with a byte order mark.
    pub(crate) fn byte_order_marks(&self) -> u64 {
        self.at.byte_order_marks
    }

    /// The next pieces of work and problems, in order; empty at the end.
    pub(crate) fn next_chunk(&mut self) -> Result<Vec<Result<Work, Problem>>, DataError> {
        let mut chunk = Vec::new();
        let mut bytes = 0;
        while bytes < CHUNK_BYTES {
            let Some(open) = self.take_open()? else { break };
            let work =
                if self.sources.kind() == SourceKind::Text { self.next_piece(open)? } else { self.next_line(open)? };
            // Whatever it is, it takes memory: that many empty lines don't make one chunk.
            bytes +=
                work.as_ref().map_or(0, |work| WORK_BYTES + work.as_ref().map_or(0, |work| work.part.len() as u64));
            chunk.extend(work);
        }
        Ok(chunk)
    }

    /// The open file, or the next one; `None` at the end of the input.
    fn take_open(&mut self) -> Result<Option<Open>, DataError> {
        if let Some(open) = self.open.take() {
            return Ok(Some(open));
        }
        if self.at.records_left == 0 || self.at.next_file == self.sources.files().len() {
            return Ok(None);
        }
        let file = &self.sources.files()[self.at.next_file];
        let input = Input::open(&file.path, file.compression)?;
        self.at.next_file += 1;
        Ok(Some(Open { input, at: OpenPosition::default(), buffer: Vec::new(), at_end: false }))
    }

    /// Number of the file that is open.
    fn file(&self) -> usize {
        self.at.next_file - 1
    }

    fn problem(&self, line: Option<u64>, column: Option<u64>, message: String) -> Problem {
        Problem { path: self.sources.files()[self.file()].path.clone(), line, column, message }
    }

    /// Leaves a file that can't be used, and says why.
    fn give_up(&mut self, open: &Open, line: Option<u64>, column: Option<u64>, message: String) -> Problem {
        self.at.closed_bytes += open.input.raw_bytes();
        self.problem(line, column, message)
    }

    /// A problem where compressed data are damaged; every other error of reading stops the preparation.
    fn damaged(&mut self, open: &Open, error: io::Error, line: u64) -> Result<Problem, DataError> {
        match open.input.damage(&error) {
            Some(message) => Ok(self.give_up(open, Some(line), None, message)),
            None => Err(error.into()),
        }
    }

    /// Ends a file that was read whole. The shard must hold what its key says.
    fn close(&mut self, open: &Open) -> Result<(), DataError> {
        if open.input.hash() != self.hashes[self.file()] {
            let path = &self.sources.files()[self.file()].path;
            return Err(DataError::Source(format!(
                "`{}` changed while it was read; start again when it is whole",
                path.display()
            )));
        }
        self.at.closed_bytes += open.input.raw_bytes();
        Ok(())
    }

    fn next_line(&mut self, mut open: Open) -> Result<Option<Result<Work, Problem>>, DataError> {
        let (mut line, max) = (Vec::new(), self.limits.max_line_bytes);
        let number = open.at.lines + 1;
        let count = match open.input.read_until(b'\n', max + 1, &mut line) {
            Ok(count) => count,
            Err(error) => return Ok(Some(Err(self.damaged(&open, error, number)?))),
        };
        if count > max {
            let message =
                format!("the line is longer than {max} bytes; write one record a line, or long texts as files");
            return Ok(Some(Err(self.give_up(&open, Some(number), None, message))));
        }
        open.at.consumed += count;
        if number == 1 && line.starts_with(BYTE_ORDER_MARK) {
            self.at.byte_order_marks += 1;
            line.drain(..BYTE_ORDER_MARK.len());
        }
        if number == 1 && line.is_empty() {
            let message = "the file holds no records; fill it or take it out".into();
            return Ok(Some(Err(self.give_up(&open, None, None, message))));
        }
        if count == 0 {
            self.close(&open)?;
            return Ok(None);
        }
        for end in [b'\n', b'\r'] {
            if line.last() == Some(&end) {
                line.pop();
            }
        }
        open.at.lines = number;
        let work = Work { file: self.file() as u32, line: number, part: Part::Line(line) };
        self.at.records_left -= 1;
        if self.at.records_left > 0 {
            self.open = Some(open);
        } else {
            self.at.closed_bytes += open.input.raw_bytes();
        }
        Ok(Some(Ok(work)))
    }

    fn next_piece(&mut self, mut open: Open) -> Result<Option<Result<Work, Problem>>, DataError> {
        let margin = cuts::margin(self.tokenizer);
        let mut wanted = self.limits.piece_bytes;
        let (end, last) = loop {
            if let Err(error) = self.fill(&mut open, wanted.saturating_add(margin)) {
                let line = open.at.lines + 1 + count_lines(&open.buffer);
                return Ok(Some(Err(self.damaged(&open, error, line)?)));
            }
            let valid = match std::str::from_utf8(&open.buffer) {
                Ok(text) => text,
                // A character may be cut where the buffer ends.
                Err(error) if error.error_len().is_none() && !open.at_end => {
                    std::str::from_utf8(&open.buffer[..error.valid_up_to()]).unwrap_or_default()
                }
                Err(error) => return Ok(Some(Err(self.bad_byte(&open, error.valid_up_to())))),
            };
            if open.at_end && valid.len() <= wanted.saturating_add(margin) {
                break (valid.len(), true);
            }
            match find_cut(self.tokenizer, valid, wanted)? {
                Some(end) => break (end, false),
                None if wanted >= self.limits.max_piece_bytes => {
                    let message = format!(
                        "in {wanted} bytes from here on there is no place between words where the text could be cut; break it up or take it out"
                    );
                    let (line, column) = (open.at.lines + 1, open.at.columns + 1);
                    return Ok(Some(Err(self.give_up(&open, Some(line), Some(column), message))));
                }
                None => wanted = wanted.saturating_mul(2).min(self.limits.max_piece_bytes),
            }
        };
        let rest = open.buffer.split_off(end);
        let text = String::from_utf8(std::mem::replace(&mut open.buffer, rest))
            .expect("the bytes up to `end` were just validated");
        let first = !open.at.begun;
        if first && last && text.trim().is_empty() {
            let message = "the file holds only white space; fill it or take it out".into();
            return Ok(Some(Err(self.give_up(&open, None, None, message))));
        }
        let context = match self.tokenizer.words() {
            Some(_) => String::new(),
            None => std::mem::replace(&mut open.at.context, cuts::tail(&text, CONTEXT_BYTES).to_owned()),
        };
        let line = open.at.lines + 1;
        open.at.consumed += end as u64;
        open.at.lines += count_lines(text.as_bytes());
        open.at.columns = match text.rfind('\n') {
            Some(index) => text[index + 1..].chars().count() as u64,
            None => open.at.columns + text.chars().count() as u64,
        };
        open.at.begun = true;
        let work = Work { file: self.file() as u32, line, part: Part::Text { context, text, first, last } };
        if last {
            self.at.records_left -= 1;
            self.close(&open)?;
        } else {
            self.open = Some(open);
        }
        Ok(Some(Ok(work)))
    }

    /// Reads until the buffer holds `wanted` bytes or the file ends.
    fn fill(&mut self, open: &mut Open, wanted: usize) -> io::Result<()> {
        let missing = wanted.saturating_sub(open.buffer.len());
        if open.at_end || missing == 0 {
            return Ok(());
        }
        let at_start = open.at.consumed == 0 && open.buffer.is_empty();
        // One byte more than wanted, so that the end of the file is seen.
        let limit = missing as u64 + 1;
        open.at_end = open.input.read_up_to(limit, &mut open.buffer)? < limit;
        if at_start && open.buffer.starts_with(BYTE_ORDER_MARK) {
            self.at.byte_order_marks += 1;
            open.buffer.drain(..BYTE_ORDER_MARK.len());
            open.at.consumed = BYTE_ORDER_MARK.len() as u64;
        }
        Ok(())
    }

    fn bad_byte(&mut self, open: &Open, index: usize) -> Problem {
        let before = &open.buffer[..index];
        let line = open.at.lines + count_lines(before) + 1;
        let column = match before.iter().rposition(|byte| *byte == b'\n') {
            Some(start) => column(&before[start + 1..], index),
            None => open.at.columns + column(before, index),
        };
        self.give_up(open, Some(line), Some(column), not_utf8(&open.buffer, index))
    }
}

fn count_lines(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|byte| **byte == b'\n').count() as u64
}

#[cfg(test)]
mod tests;
