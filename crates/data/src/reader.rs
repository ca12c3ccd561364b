//! Streams the files of an input as pieces of work for the tokenizer, a bounded number of bytes at a time (R21).
//!
//! JSONL gives its lines. A text file gives pieces that are cut where the tokenizer is seen to give the same tokens with and
//! without the cut, so that a large file is neither held in memory nor tokenised on one core. What the pieces hold is checked elsewhere.

use std::io::{BufRead, BufReader, Read};

use crate::error::{DataError, Problem};
use crate::record::{column, not_utf8};
use crate::source::{SourceKind, Sources};
use crate::tokenizer::{TextTokenizer, TokenizerError};

/// Bytes handed out at once; the tokenizer needs some thirty times as much while it works on its share of them.
const CHUNK_BYTES: usize = 4 << 20;
/// Aimed-at length of a piece of text.
const PIECE_BYTES: usize = 64 << 10;
/// Bytes on either side of a cut on which the tokenizer is tried.
const WINDOW_BYTES: usize = 512;
/// Bytes in front of a piece that it is tokenised after.
const CONTEXT_BYTES: usize = 64;
/// Cuts tried before a piece grows.
const TRIED_CUTS: usize = 32;
/// Longest line of JSONL. A longer one is no record but some other file, and reading on would fill the memory.
const MAX_LINE_BYTES: u64 = 256 << 20;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Something to tokenise, and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Work {
    pub(crate) file: u32,
    pub(crate) line: u64,
    pub(crate) part: Part,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    /// A line of JSONL without its line end.
    Line(Vec<u8>),
    /// A piece of a text file, to be tokenised as what follows `context`.
    Text { context: String, text: String, first: bool, last: bool },
}

/// A file being read.
struct Open {
    input: BufReader<fs_err::File>,
    hasher: blake3::Hasher,
    /// Lines handed out (JSONL), or line ends before the buffer (text).
    lines: u64,
    /// Bytes of the last line before the buffer (text), for the column of an error.
    line_start: Vec<u8>,
    /// Text read ahead.
    buffer: Vec<u8>,
    context: String,
    first: bool,
    at_end: bool,
}

/// Reads the sources once, in order.
pub(crate) struct Reader<'a> {
    sources: &'a Sources,
    tokenizer: &'a TextTokenizer,
    /// Content hashes of the files as they were when the cache key was made.
    hashes: &'a [blake3::Hash],
    records_left: u64,
    next_file: usize,
    open: Option<Open>,
    piece_bytes: usize,
    max_line_bytes: u64,
    /// Bytes read so far, for the progress.
    pub(crate) done_bytes: u64,
    /// Files that began with a byte order mark.
    pub(crate) byte_order_marks: u64,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(
        sources: &'a Sources,
        tokenizer: &'a TextTokenizer,
        hashes: &'a [blake3::Hash],
        limit: Option<u64>,
    ) -> Self {
        Self {
            sources,
            tokenizer,
            hashes,
            records_left: limit.unwrap_or(u64::MAX),
            next_file: 0,
            open: None,
            piece_bytes: PIECE_BYTES,
            max_line_bytes: MAX_LINE_BYTES,
            done_bytes: 0,
            byte_order_marks: 0,
        }
    }

    /// The next pieces of work and problems, in order; empty at the end.
    pub(crate) fn next_chunk(&mut self) -> Result<Vec<Result<Work, Problem>>, DataError> {
        let mut chunk = Vec::new();
        let start = self.done_bytes;
        while self.done_bytes - start < CHUNK_BYTES as u64 {
            if self.open.is_none() && !self.open_next()? {
                break;
            }
            let work = if self.sources.kind() == SourceKind::Text { self.next_piece()? } else { self.next_line()? };
            chunk.extend(work);
        }
        Ok(chunk)
    }

    fn open_next(&mut self) -> Result<bool, DataError> {
        if self.records_left == 0 || self.next_file == self.sources.files().len() {
            return Ok(false);
        }
        let file = fs_err::File::open(&self.sources.files()[self.next_file].path)?;
        self.next_file += 1;
        self.open = Some(Open {
            input: BufReader::with_capacity(1 << 16, file),
            hasher: blake3::Hasher::new(),
            lines: 0,
            line_start: Vec::new(),
            buffer: Vec::new(),
            context: String::new(),
            first: true,
            at_end: false,
        });
        Ok(true)
    }

    /// Number of the file that is open.
    fn file(&self) -> usize {
        self.next_file - 1
    }

    fn problem(&self, line: Option<u64>, column: Option<u64>, message: String) -> Problem {
        Problem { path: self.sources.files()[self.file()].path.clone(), line, column, message }
    }

    /// Ends a file that was read whole. The shard must hold what its key says.
    fn close(&mut self, open: Open) -> Result<(), DataError> {
        if open.hasher.finalize() != self.hashes[self.file()] {
            let path = &self.sources.files()[self.file()].path;
            return Err(DataError::Source(format!(
                "`{}` changed while it was read; start again when it is whole",
                path.display()
            )));
        }
        Ok(())
    }

    fn next_line(&mut self) -> Result<Option<Result<Work, Problem>>, DataError> {
        let Some(mut open) = self.open.take() else { return Ok(None) };
        let mut line = Vec::new();
        let count = open.input.by_ref().take(self.max_line_bytes + 1).read_until(b'\n', &mut line)?;
        self.done_bytes += count as u64;
        if count as u64 > self.max_line_bytes {
            let message = format!("the line is longer than {} bytes; write one record a line", self.max_line_bytes);
            return Ok(Some(Err(self.problem(Some(open.lines + 1), None, message))));
        }
        open.hasher.update(&line);
        if open.lines == 0 && line.starts_with(BYTE_ORDER_MARK) {
            self.byte_order_marks += 1;
            line.drain(..BYTE_ORDER_MARK.len());
        }
        if open.lines == 0 && line.is_empty() {
            return Ok(Some(Err(self.problem(None, None, "the file holds no records; fill it or take it out".into()))));
        }
        if count == 0 {
            self.close(open)?;
            return Ok(None);
        }
        for end in [b'\n', b'\r'] {
            if line.last() == Some(&end) {
                line.pop();
            }
        }
        open.lines += 1;
        let work = Work { file: self.file() as u32, line: open.lines, part: Part::Line(line) };
        self.records_left -= 1;
        if self.records_left > 0 {
            self.open = Some(open);
        }
        Ok(Some(Ok(work)))
    }

    fn next_piece(&mut self) -> Result<Option<Result<Work, Problem>>, DataError> {
        let Some(mut open) = self.open.take() else { return Ok(None) };
        let mut wanted = self.piece_bytes;
        let (end, last) = loop {
            self.fill(&mut open, wanted.saturating_add(WINDOW_BYTES))?;
            let valid = match std::str::from_utf8(&open.buffer) {
                Ok(text) => text,
                // A character may be cut where the buffer ends.
                Err(error) if error.error_len().is_none() && !open.at_end => {
                    std::str::from_utf8(&open.buffer[..error.valid_up_to()]).unwrap_or_default()
                }
                Err(error) => return Ok(Some(Err(self.bad_byte(&open, error.valid_up_to())))),
            };
            if open.at_end && valid.len() <= wanted.saturating_add(WINDOW_BYTES) {
                break (valid.len(), true);
            }
            match find_cut(self.tokenizer, valid, wanted)? {
                Some(end) => break (end, false),
                None => wanted = wanted.saturating_mul(2),
            }
        };
        let rest = open.buffer.split_off(end);
        let text = String::from_utf8(std::mem::replace(&mut open.buffer, rest))
            .expect("the bytes up to `end` were just validated");
        if open.first && last && text.trim().is_empty() {
            return Ok(Some(Err(self.problem(
                None,
                None,
                "the file holds only white space; fill it or take it out".into(),
            ))));
        }
        let context = std::mem::replace(&mut open.context, tail(&text, CONTEXT_BYTES).to_owned());
        let part = Part::Text { context, first: open.first, last, text };
        let Part::Text { text, .. } = &part else { unreachable!("just made") };
        open.lines += text.bytes().filter(|byte| *byte == b'\n').count() as u64;
        match text.rfind('\n') {
            Some(index) => open.line_start = text.as_bytes()[index + 1..].to_vec(),
            None => open.line_start.extend(text.as_bytes()),
        }
        open.first = false;
        let work = Work { file: self.file() as u32, line: 1, part };
        if last {
            self.records_left -= 1;
            self.close(open)?;
        } else {
            self.open = Some(open);
        }
        Ok(Some(Ok(work)))
    }

    /// Reads until the buffer holds `wanted` bytes or the file ends.
    fn fill(&mut self, open: &mut Open, wanted: usize) -> Result<(), DataError> {
        let missing = wanted.saturating_sub(open.buffer.len());
        if open.at_end || missing == 0 {
            return Ok(());
        }
        let at_start = open.hasher.count() == 0;
        let before = open.buffer.len();
        // One byte more than wanted, so that the end of the file is seen.
        let limit = missing as u64 + 1;
        let count = open.input.by_ref().take(limit).read_to_end(&mut open.buffer)?;
        self.done_bytes += count as u64;
        open.hasher.update(&open.buffer[before..]);
        open.at_end = (count as u64) < limit;
        if at_start && open.buffer.starts_with(BYTE_ORDER_MARK) {
            self.byte_order_marks += 1;
            open.buffer.drain(..BYTE_ORDER_MARK.len());
        }
        Ok(())
    }

    fn bad_byte(&self, open: &Open, index: usize) -> Problem {
        let before = &open.buffer[..index];
        let line = open.lines + before.iter().filter(|byte| **byte == b'\n').count() as u64 + 1;
        let column = match before.iter().rposition(|byte| *byte == b'\n') {
            Some(start) => column(&before[start + 1..], index),
            None => column(&[open.line_start.as_slice(), before].concat(), usize::MAX),
        };
        self.problem(Some(line), Some(column), not_utf8(&open.buffer, index))
    }
}

/// The last place in the second half of `text[..wanted]` where a cut changes no token: between a letter and the white space in
/// front of the next word, and only where the tokenizer agrees. `text` goes on behind `wanted`.
fn find_cut(tokenizer: &TextTokenizer, text: &str, wanted: usize) -> Result<Option<usize>, TokenizerError> {
    let is_candidate = |index: &usize| {
        matches!(text.as_bytes().get(*index), Some(b' ' | b'\n'))
            && text[..*index].chars().next_back().is_some_and(char::is_alphabetic)
            && text[*index + 1..].chars().next().is_some_and(char::is_alphabetic)
    };
    for index in (wanted / 2..wanted).rev().filter(is_candidate).take(TRIED_CUTS) {
        let left = tail(&text[..index], WINDOW_BYTES);
        let right = &text[index..text.floor_char_boundary(index.saturating_add(WINDOW_BYTES))];
        let joint = tokenizer.encode(&format!("{left}{right}"))?;
        let mut apart = tokenizer.encode(left)?;
        if let Some(right) = tokenizer.encode_after(tail(left, CONTEXT_BYTES), right)? {
            apart.extend(right);
            if apart == joint {
                return Ok(Some(index));
            }
        }
    }
    Ok(None)
}

/// At most the last `bytes` bytes of a text.
fn tail(text: &str, bytes: usize) -> &str {
    &text[text.ceil_char_boundary(text.len().saturating_sub(bytes))..]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{self, write};
    use crate::source::FormatHint;
    use std::path::Path;

    fn read(
        path: &Path,
        hint: FormatHint,
        tokenizer: &TextTokenizer,
        piece_bytes: usize,
    ) -> (Vec<Result<Work, Problem>>, u64) {
        let sources = Sources::discover(&[path.to_owned()], hint).unwrap();
        let hashes: Vec<_> =
            sources.files().iter().map(|file| blake3::hash(&fs_err::read(&file.path).unwrap())).collect();
        let mut reader = Reader { piece_bytes, ..Reader::new(&sources, tokenizer, &hashes, None) };
        let mut all = Vec::new();
        loop {
            let chunk = reader.next_chunk().unwrap();
            if chunk.is_empty() {
                assert_eq!(reader.done_bytes, sources.bytes());
                return (all, reader.byte_order_marks);
            }
            all.extend(chunk);
        }
    }

    fn lines(path: &Path) -> Vec<(u64, String)> {
        let (work, _) = read(path, FormatHint::FineTuning, &fixtures::tokenizer(), PIECE_BYTES);
        let line = |work: Result<Work, Problem>| match work.unwrap() {
            Work { line, part: Part::Line(text), .. } => (line, String::from_utf8(text).unwrap()),
            other => panic!("{other:?}"),
        };
        work.into_iter().map(line).collect()
    }

    #[test]
    fn lines_end_with_newline_or_crlf_or_the_file() {
        let root = tempfile::tempdir().unwrap();
        let path = write(root.path(), "a.jsonl", "\u{feff}one\r\ntwo\n\nfour \r");
        let expected = [(1, "one"), (2, "two"), (3, ""), (4, "four ")].map(|(line, text)| (line, text.to_owned()));
        assert_eq!(lines(&path), expected);
    }

    #[test]
    fn a_line_of_a_megabyte_is_one_line() {
        let root = tempfile::tempdir().unwrap();
        let long = "x".repeat(1 << 20);
        let path = write(root.path(), "a.jsonl", format!("{long}\nshort"));
        let found = lines(&path);
        assert_eq!((found.len(), found[0].1.len(), found[1].1.as_str()), (2, 1 << 20, "short"));
    }

    #[test]
    fn a_file_without_line_ends_doesnt_fill_the_memory() {
        let root = tempfile::tempdir().unwrap();
        let path = write(root.path(), "a.jsonl", format!("12345678\n{}", "x".repeat(100)));
        let sources = Sources::discover(std::slice::from_ref(&path), FormatHint::FineTuning).unwrap();
        let tokenizer = fixtures::tokenizer();
        let mut reader = Reader { max_line_bytes: 9, ..Reader::new(&sources, &tokenizer, &[], None) };
        let chunk = reader.next_chunk().unwrap();
        assert!(chunk[0].is_ok() && chunk.len() == 2);
        let expected = format!("{}:2: the line is longer than 9 bytes; write one record a line", path.display());
        assert_eq!(chunk[1].as_ref().unwrap_err().to_string(), expected);
    }

    #[test]
    fn r20_a_byte_that_isnt_utf8_is_found_anywhere_in_a_text() {
        let root = tempfile::tempdir().unwrap();
        for repeats in [0, 1, 2, 7] {
            let mut bytes = fixtures::PROSE.repeat(repeats).into_bytes();
            bytes.extend("é wall ".as_bytes());
            bytes.push(0xe9);
            bytes.extend(" that leans".repeat(100).as_bytes());
            let path = write(root.path(), "a.txt", bytes);
            let (work, _) = read_until_problem(&path);
            let line = 1 + repeats * fixtures::PROSE.matches('\n').count();
            assert_eq!(
                work.to_string(),
                format!("{}:{line}:8: byte 0xe9 is not UTF-8; save the file as UTF-8", path.display())
            );
        }
        let path = write(root.path(), "b.txt", b"ends early \xe2\x82");
        assert_eq!(read_until_problem(&path).0.column, Some(12));
    }

    fn read_until_problem(path: &Path) -> (Problem, usize) {
        let sources = Sources::discover(&[path.to_owned()], FormatHint::ContinuedPreTraining).unwrap();
        let tokenizer = fixtures::tokenizer();
        let mut reader = Reader { piece_bytes: 300, ..Reader::new(&sources, &tokenizer, &[], None) };
        let chunk = reader.next_chunk().unwrap();
        let count = chunk.len();
        (chunk.into_iter().find_map(Result::err).unwrap(), count)
    }

    #[test]
    fn text_in_pieces_has_the_tokens_of_the_whole() {
        let root = tempfile::tempdir().unwrap();
        let text = format!(
            "{}  café\t—  naïve\r\n\r\n{}",
            fixtures::PROSE.repeat(9),
            fixtures::PROSE.repeat(9).replace('\n', "\r\n")
        );
        let path = write(root.path(), "a.txt", &text);
        for tokenizer in [fixtures::tokenizer(), fixtures::prefix_space()] {
            for piece_bytes in [40, 200, 1000, 1 << 20] {
                let (work, _) = read(&path, FormatHint::ContinuedPreTraining, &tokenizer, piece_bytes);
                assert!(piece_bytes > 1000 || work.len() > text.len() / piece_bytes / 4, "{} pieces", work.len());
                let (mut tokens, mut joined) = (Vec::new(), String::new());
                for (index, piece) in work.iter().enumerate() {
                    let Ok(Work { part: Part::Text { context, text, first, last }, .. }) = piece else {
                        panic!("{piece:?}")
                    };
                    assert_eq!((*first, *last), (index == 0, index + 1 == work.len()));
                    tokens.extend(tokenizer.encode_after(context, text).unwrap().unwrap());
                    joined += text;
                }
                assert_eq!(joined, text);
                assert!(tokens == tokenizer.encode(&text).unwrap(), "pieces of {piece_bytes} bytes");
            }
        }
    }

    #[test]
    fn a_text_without_words_is_one_piece_and_a_byte_order_mark_is_skipped() {
        let root = tempfile::tempdir().unwrap();
        let path = write(root.path(), "a.txt", format!("\u{feff}{}", "0123456789".repeat(500)));
        let (work, marks) = read(&path, FormatHint::ContinuedPreTraining, &fixtures::tokenizer(), 300);
        assert_eq!((work.len(), marks), (1, 1));
        let Ok(Work { part: Part::Text { text, .. }, .. }) = &work[0] else { panic!() };
        assert_eq!(text.len(), 5000);
    }

    #[test]
    fn files_that_hold_nothing_or_change_are_errors() {
        let root = tempfile::tempdir().unwrap();
        let blank = write(root.path(), "blank.txt", " \n\n");
        let (work, _) = read(&blank, FormatHint::ContinuedPreTraining, &fixtures::tokenizer(), 300);
        assert_eq!(work[0].as_ref().unwrap_err().message, "the file holds only white space; fill it or take it out");
        let mark = write(root.path(), "mark.jsonl", "\u{feff}");
        let (work, _) = read(&mark, FormatHint::FineTuning, &fixtures::tokenizer(), 300);
        assert_eq!(work[0].as_ref().unwrap_err().message, "the file holds no records; fill it or take it out");
        let path = write(root.path(), "a.txt", "new text");
        let sources = Sources::discover(std::slice::from_ref(&path), FormatHint::ContinuedPreTraining).unwrap();
        let (tokenizer, hashes) = (fixtures::tokenizer(), [blake3::hash(b"old text")]);
        let error = Reader::new(&sources, &tokenizer, &hashes, None).next_chunk().unwrap_err().to_string();
        assert_eq!(error, format!("`{}` changed while it was read; start again when it is whole", path.display()));
    }
}
