//! The files of a check, read leniently: a line or a piece of text at a time, whatever is in them, in bounded memory.

use std::ops::Range;
use std::path::PathBuf;
use std::time::SystemTime;

use super::findings::{Hit, Place};
use super::rules;
use crate::error::DataError;
use crate::input::Input;
use crate::source::{SourceFile, discover_path, is_jsonl};

/// Bytes handed out at once.
const CHUNK_BYTES: usize = 8 << 20;
/// Bytes of a piece of a text file, and of one that has no space to end with: longer than any word that training takes.
const PIECE_BYTES: usize = 256 << 10;
const MAX_PIECE_BYTES: usize = 1 << 20;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// What a file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// It is trained on.
    Training,
    /// It measures, and must not be trained on.
    Evaluation,
}

/// A file to check.
#[derive(Debug, Clone)]
pub(crate) struct CheckedFile {
    pub(crate) source: SourceFile,
    pub(crate) role: Role,
    pub(crate) is_jsonl: bool,
    /// Its path as the user wrote it.
    pub(crate) name: String,
    /// When it was last written, where the system says so.
    modified: Option<SystemTime>,
}

impl CheckedFile {
    /// Errors: it has another size or was written since it was found; what was said of it may be of two contents.
    pub(crate) fn ensure_unchanged(&self) -> Result<(), DataError> {
        let metadata = fs_err::metadata(&self.source.path)?;
        if metadata.len() != self.source.bytes || metadata.modified().ok() != self.modified {
            return Err(DataError::Source(format!(
                "`{}` changed while it was read; start again when it is whole",
                self.name
            )));
        }
        Ok(())
    }
}

/// The files of paths and folders, in order. Errors: a path is missing, is neither file nor folder, or can't be read.
pub(crate) fn discover(paths: &[PathBuf], role: Role, files: &mut Vec<CheckedFile>) -> Result<(), DataError> {
    let mut found = Vec::new();
    for path in paths {
        discover_path(path, &mut found)?;
    }
    for source in found {
        // a file that can't be read is told before anything is
        let modified = fs_err::File::open(&source.path)?.metadata()?.modified().ok();
        let is_jsonl = is_jsonl(&source.path);
        files.push(CheckedFile { name: source.path.display().to_string(), role, is_jsonl, source, modified });
    }
    Ok(())
}

/// Something to look at.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) place: Place,
    pub(crate) body: Body,
}

#[derive(Debug)]
pub(crate) enum Body {
    /// A line of JSONL without its line end.
    Line(Vec<u8>),
    /// A piece of a text file. Pieces end with a line where they can.
    Piece { text: Vec<u8>, first: bool, last: bool },
    /// Something about the file itself.
    Hit(Hit),
}

struct Open {
    input: Input,
    /// Lines handed out, or line ends before the buffer.
    lines: u64,
    buffer: Vec<u8>,
    first: bool,
    raw_before: u64,
}

/// Reads files once, in order.
pub(crate) struct Pieces<'a> {
    files: &'a [CheckedFile],
    next_file: usize,
    end_file: usize,
    open: Option<Open>,
    max_line_bytes: u64,
    /// Bytes read from the disk so far.
    pub(crate) done_bytes: u64,
}

impl<'a> Pieces<'a> {
    /// Reads those of `files` that `range` names, lines of JSONL up to `max_line_bytes` long.
    pub(crate) fn new(files: &'a [CheckedFile], range: Range<usize>, max_line_bytes: u64) -> Self {
        Self { files, next_file: range.start, end_file: range.end, open: None, max_line_bytes, done_bytes: 0 }
    }

    /// The next items; empty at the end.
    pub(crate) fn next_chunk(&mut self) -> Result<Vec<Item>, DataError> {
        let (mut items, mut bytes) = (Vec::new(), 0);
        while bytes < CHUNK_BYTES {
            if self.open.is_none() {
                let Some(file) = self.files.get(self.next_file).filter(|_| self.next_file < self.end_file) else {
                    break;
                };
                let input = Input::open(&file.source.path, file.source.compression)?;
                self.next_file += 1;
                self.open = Some(Open { input, lines: 0, buffer: Vec::new(), first: true, raw_before: 0 });
            }
            let before = items.len();
            if self.files[self.next_file - 1].is_jsonl {
                self.line(&mut items)?
            } else {
                self.piece(&mut items)?
            }
            let size = |item: &Item| match &item.body {
                Body::Line(text) | Body::Piece { text, .. } => text.len() + 64,
                Body::Hit(_) => 64,
            };
            bytes += items[before..].iter().map(size).sum::<usize>();
        }
        Ok(items)
    }

    fn file(&self) -> u32 {
        (self.next_file - 1) as u32
    }

    fn count_bytes(&mut self, open: &mut Open) {
        let raw = open.input.raw_bytes();
        self.done_bytes += raw - open.raw_before;
        open.raw_before = raw;
    }

    /// A file that ends early for its compression is told; any other failure to read is an error that names the file.
    fn damaged(&self, open: &Open, error: std::io::Error) -> Result<Item, DataError> {
        let place = Place { file: self.file(), line: open.lines + 1 };
        match open.input.damage(&error) {
            Some(message) => Ok(item_of(Hit::new(&rules::UNREADABLE, place, message, "-"))),
            None => Err(error.into()),
        }
    }

    fn line(&mut self, items: &mut Vec<Item>) -> Result<(), DataError> {
        let Some(mut open) = self.open.take() else { return Ok(()) };
        let mut line = Vec::new();
        let count = match open.input.read_until(b'\n', self.max_line_bytes + 1, &mut line) {
            Ok(count) => count,
            Err(error) => {
                items.push(self.damaged(&open, error)?);
                return Ok(());
            }
        };
        self.count_bytes(&mut open);
        let place = Place { file: self.file(), line: open.lines + 1 };
        if open.lines == 0 && line.starts_with(BYTE_ORDER_MARK) {
            line.drain(..BYTE_ORDER_MARK.len());
            items.push(item_of(Hit::new(&rules::BYTE_ORDER_MARK, place, "", "-")));
        }
        if open.lines == 0 && line.is_empty() {
            items.push(item_of(Hit::new(&rules::EMPTY_FILE, place, "", "-")));
            return Ok(());
        }
        if count == 0 {
            return Ok(());
        }
        open.lines += 1;
        if line.len() as u64 > self.max_line_bytes {
            let message = format!("longer than {} bytes", self.max_line_bytes);
            let beginning = String::from_utf8_lossy(&line[..line.len().min(200)]);
            items.push(item_of(Hit::new(&rules::LONG_LINE, place, message, &beginning)));
            if let Err(error) = skip_line(&mut open.input) {
                items.push(self.damaged(&open, error)?);
                return Ok(());
            }
            self.count_bytes(&mut open);
            self.open = Some(open);
            return Ok(());
        }
        for end in [b'\n', b'\r'] {
            if line.last() == Some(&end) {
                line.pop();
            }
        }
        self.open = Some(open);
        items.push(Item { place, body: Body::Line(line) });
        Ok(())
    }

    fn piece(&mut self, items: &mut Vec<Item>) -> Result<(), DataError> {
        let Some(mut open) = self.open.take() else { return Ok(()) };
        let place = Place { file: self.file(), line: open.lines + 1 };
        let mut piece_bytes = PIECE_BYTES;
        let mut last;
        loop {
            let wanted = piece_bytes.saturating_sub(open.buffer.len()) as u64;
            match open.input.read_up_to(wanted, &mut open.buffer) {
                Ok(count) => last = count < wanted,
                Err(error) => {
                    items.push(self.damaged(&open, error)?);
                    return Ok(());
                }
            }
            if last || piece_bytes == MAX_PIECE_BYTES || space_in_second_half(&open.buffer).is_some() {
                break;
            }
            piece_bytes = MAX_PIECE_BYTES;
        }
        self.count_bytes(&mut open);
        if open.first && open.buffer.starts_with(BYTE_ORDER_MARK) {
            open.buffer.drain(..BYTE_ORDER_MARK.len());
            items.push(item_of(Hit::new(&rules::BYTE_ORDER_MARK, place, "", "-")));
        }
        if open.first && last && open.buffer.iter().all(u8::is_ascii_whitespace) {
            items.push(item_of(Hit::new(&rules::EMPTY_FILE, place, "", "-")));
            return Ok(());
        }
        let end = if last { open.buffer.len() } else { cut(&open.buffer) };
        let rest = open.buffer.split_off(end);
        let text = std::mem::replace(&mut open.buffer, rest);
        open.lines += text.iter().filter(|byte| **byte == b'\n').count() as u64;
        let first = std::mem::replace(&mut open.first, false);
        if !last {
            self.open = Some(open);
        }
        items.push(Item { place, body: Body::Piece { text, first, last } });
        Ok(())
    }
}

fn item_of(hit: Hit) -> Item {
    Item { place: hit.place, body: Body::Hit(hit) }
}

/// Reads over the rest of a line, a bounded part at a time.
fn skip_line(input: &mut Input) -> std::io::Result<()> {
    let mut part = Vec::new();
    loop {
        part.clear();
        if input.read_until(b'\n', 1 << 20, &mut part)? == 0 || part.last() == Some(&b'\n') {
            return Ok(());
        }
    }
}

/// Where a piece ends that the file goes on behind: after its last line, or its last space, or its last whole character.
fn cut(bytes: &[u8]) -> usize {
    let boundary = || {
        let start = bytes.len().saturating_sub(4);
        (start..bytes.len()).rev().find(|index| bytes[*index] & 0xc0 != 0x80).filter(|index| *index > 0)
    };
    space_in_second_half(bytes).or_else(boundary).unwrap_or(bytes.len())
}

/// The place behind the last line of the second half, or behind its last space.
fn space_in_second_half(bytes: &[u8]) -> Option<usize> {
    let half = bytes.len() / 2;
    let find = |wanted: u8| bytes[half..].iter().rposition(|byte| *byte == wanted).map(|index| half + index + 1);
    find(b'\n').or_else(|| find(b' '))
}

/// The beginnings of some lines, for excerpts. `places` are sorted.
pub(crate) fn lines_at(
    files: &[CheckedFile],
    places: &[Place],
) -> Result<std::collections::BTreeMap<Place, Vec<u8>>, DataError> {
    let mut found = std::collections::BTreeMap::new();
    for group in places.chunk_by(|one, other| one.file == other.file) {
        let Some(file) = files.get(group[0].file as usize) else { continue };
        let mut input = Input::open(&file.source.path, file.source.compression)?;
        let mut line = 0;
        for place in group {
            while line + 1 < place.line {
                if skip_line(&mut input).is_err() {
                    break;
                }
                line += 1;
            }
            let mut bytes = Vec::new();
            if input.read_until(b'\n', 4096, &mut bytes).is_err() {
                break;
            }
            if bytes.last() != Some(&b'\n') && bytes.len() == 4096 && skip_line(&mut input).is_err() {
                break;
            }
            line += 1;
            found.insert(*place, bytes);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::write;
    use crate::reader::MAX_LINE_BYTES;
    use std::path::Path;

    fn items(path: &Path) -> Vec<Item> {
        let mut files = Vec::new();
        discover(&[path.to_owned()], Role::Training, &mut files).unwrap();
        let mut pieces = Pieces::new(&files, 0..files.len(), MAX_LINE_BYTES);
        let mut all = Vec::new();
        loop {
            let chunk = pieces.next_chunk().unwrap();
            if chunk.is_empty() {
                assert_eq!(pieces.done_bytes, files[0].source.bytes);
                return all;
            }
            all.extend(chunk);
        }
    }

    #[test]
    fn lines_and_marks() {
        let root = tempfile::tempdir().unwrap();
        let path = write(root.path(), "a.jsonl", "\u{feff}one\r\ntwo\n\nfour");
        let shown: Vec<_> = items(&path)
            .into_iter()
            .map(|item| match item.body {
                Body::Line(line) => (item.place.line, String::from_utf8(line).unwrap()),
                Body::Hit(hit) => (item.place.line, hit.rule.id.to_owned()),
                Body::Piece { .. } => panic!("a piece"),
            })
            .collect();
        let expected = [(1, "byte-order-mark"), (1, "one"), (2, "two"), (3, ""), (4, "four")];
        assert_eq!(shown, expected.map(|(line, text)| (line, text.to_owned())));
    }

    #[test]
    fn pieces_are_the_text() {
        let root = tempfile::tempdir().unwrap();
        let text = format!("{}\n{}", "a line of text, ä\n".repeat(40_000), "ö".repeat(1 << 20));
        let path = write(root.path(), "a.txt", &text);
        let (mut joined, mut line) = (Vec::new(), 1);
        let all = items(&path);
        let len = all.len();
        for (index, item) in all.into_iter().enumerate() {
            let Body::Piece { text, first, last } = item.body else { panic!("no piece") };
            assert_eq!((item.place.line, first, last), (line, index == 0, index + 1 == len));
            assert!(std::str::from_utf8(&text).is_ok());
            line += text.iter().filter(|byte| **byte == b'\n').count() as u64;
            joined.extend(text);
        }
        assert!(joined == text.as_bytes() && len > 4);
    }

    #[test]
    fn lines_are_found_again() {
        let root = tempfile::tempdir().unwrap();
        let path = write(root.path(), "a.jsonl", format!("one\n{}\nthree\nfour", "x".repeat(10_000)));
        let mut files = Vec::new();
        discover(&[path], Role::Training, &mut files).unwrap();
        let places = [1, 2, 4].map(|line| Place { file: 0, line });
        let found = lines_at(&files, &places).unwrap();
        let lengths: Vec<_> = found.values().map(Vec::len).collect();
        assert_eq!(lengths, [4, 4096, 4]);
    }
}
