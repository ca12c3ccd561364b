//! What a reader hands out: lines and pieces whose tokens are those of the whole, problems with their places, positions.

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
    let hashes: Vec<_> = sources.files().iter().map(|file| blake3::hash(&fs_err::read(&file.path).unwrap())).collect();
    let limits = Limits { piece_bytes, ..Limits::of(tokenizer) };
    let mut reader = Reader::new(&sources, tokenizer, &hashes, None, limits);
    let mut all = Vec::new();
    loop {
        let chunk = reader.next_chunk().unwrap();
        if chunk.is_empty() {
            assert_eq!(reader.done_bytes(), sources.bytes());
            return (all, reader.byte_order_marks());
        }
        all.extend(chunk);
    }
}

fn lines(path: &Path) -> Vec<(u64, String)> {
    let (work, _) = read(path, FormatHint::FineTuning, &fixtures::tokenizer(), 64 << 10);
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
    let limits = Limits { max_line_bytes: 9, ..Limits::of(&tokenizer) };
    let mut reader = Reader::new(&sources, &tokenizer, &[], None, limits);
    let chunk = reader.next_chunk().unwrap();
    assert!(chunk[0].is_ok() && chunk.len() == 2);
    let expected = format!(
        "{}:2: the line is longer than 9 bytes; write one record a line, or long texts as files",
        path.display()
    );
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
    let limits = Limits { piece_bytes: 300, ..Limits::of(&tokenizer) };
    let mut reader = Reader::new(&sources, &tokenizer, &[], None, limits);
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
fn a_text_without_words_is_one_piece_up_to_a_limit_and_a_byte_order_mark_is_skipped() {
    let root = tempfile::tempdir().unwrap();
    let path = write(root.path(), "a.txt", format!("\u{feff}{}", "0123456789".repeat(500)));
    let tokenizer = fixtures::tokenizer();
    let (work, marks) = read(&path, FormatHint::ContinuedPreTraining, &tokenizer, 300);
    assert_eq!((work.len(), marks), (1, 1));
    let Ok(Work { part: Part::Text { text, .. }, .. }) = &work[0] else { panic!() };
    assert_eq!(text.len(), 5000);

    let path = write(root.path(), "b.txt", format!("one\ntwo words and more words of it {}", "0123456789".repeat(500)));
    let sources = Sources::discover(std::slice::from_ref(&path), FormatHint::ContinuedPreTraining).unwrap();
    for tokenizer in [tokenizer, fixtures::prefix_space()] {
        let limits = Limits { piece_bytes: 16, max_piece_bytes: 64, max_line_bytes: 64 };
        let mut reader = Reader::new(&sources, &tokenizer, &[], None, limits);
        let chunk = reader.next_chunk().unwrap();
        let problem = chunk.iter().find_map(|work| work.as_ref().err()).unwrap().to_string();
        let place = format!("{}:2:", path.display());
        assert!(problem.starts_with(&place), "{problem}");
        let message = "in 64 bytes from here on there is no place between words where the text could be cut; break it up or take it out";
        assert!(problem.ends_with(message), "{problem}");
    }
}

#[test]
fn any_position_goes_on_with_what_would_have_followed() {
    let root = tempfile::tempdir().unwrap();
    let text = format!("\u{feff}café {}", fixtures::PROSE.repeat(8));
    let lines = "\u{feff}one\r\ntwo\n\nfour";
    for (name, content, hint) in [
        ("a.txt", fixtures::zstd(text.as_bytes()), FormatHint::ContinuedPreTraining),
        ("a.txt", text.clone().into_bytes(), FormatHint::ContinuedPreTraining),
        ("a.jsonl", lines.as_bytes().to_vec(), FormatHint::FineTuning),
    ] {
        let name = if content.starts_with(&[0x28, 0xb5]) { format!("{name}.zst") } else { name.to_owned() };
        let paths = [write(root.path(), &name, &content), write(root.path(), &format!("b{name}"), &content)];
        let sources = Sources::discover(&paths, hint).unwrap();
        let hashes = [blake3::hash(&content); 2];
        for tokenizer in [fixtures::tokenizer(), fixtures::prefix_space()] {
            let limits = Limits { piece_bytes: 100, ..Limits::of(&tokenizer) };
            let new = || Reader::new(&sources, &tokenizer, &hashes, None, limits);
            let next = |reader: &mut Reader| {
                let open = reader.take_open().unwrap()?;
                Some(
                    if hint == FormatHint::FineTuning { reader.next_line(open) } else { reader.next_piece(open) }
                        .unwrap(),
                )
            };
            let (mut all, mut positions, mut reader) = (Vec::new(), vec![new().position()], new());
            while let Some(work) = next(&mut reader) {
                all.push(work);
                positions.push(reader.position());
            }
            assert!(all.len() > 6, "{}", all.len());
            for (start, position) in positions.iter().enumerate() {
                let position = serde_json::from_str(&serde_json::to_string(position).unwrap()).unwrap();
                let mut reader = new().resume(position).unwrap();
                let rest: Vec<_> = std::iter::from_fn(|| next(&mut reader)).collect();
                assert_eq!(rest, all[start..], "{name} {start}");
                assert_eq!((reader.done_bytes(), reader.byte_order_marks()), (sources.bytes(), 2));
            }
        }
    }
}

#[test]
fn compressed_data_that_end_early_are_a_problem_with_its_line() {
    let root = tempfile::tempdir().unwrap();
    let tokenizer = fixtures::tokenizer();
    let content: String = (0..20_000).map(|number| format!("{{\"input\": \"wall {number}\"}}\n")).collect();
    for (name, bytes) in
        [("a.jsonl.gz", fixtures::gzip(content.as_bytes())), ("b.txt.gz", fixtures::gzip(content.as_bytes()))]
    {
        let path = write(root.path(), name, &bytes[..bytes.len() / 2]);
        let sources = Sources::discover(std::slice::from_ref(&path), FormatHint::ContinuedPreTraining).unwrap();
        let mut reader = Reader::new(&sources, &tokenizer, &[], None, Limits::of(&tokenizer));
        let chunk = reader.next_chunk().unwrap();
        let problem = chunk.last().unwrap().as_ref().unwrap_err();
        assert!(problem.line.unwrap() > 5000, "{problem}");
        assert!(problem.message.starts_with("the gzip data end early ("), "{problem}");
        assert!(reader.next_chunk().unwrap().is_empty());
    }
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
    let error =
        Reader::new(&sources, &tokenizer, &hashes, None, Limits::of(&tokenizer)).next_chunk().unwrap_err().to_string();
    assert_eq!(error, format!("`{}` changed while it was read; start again when it is whole", path.display()));
}
