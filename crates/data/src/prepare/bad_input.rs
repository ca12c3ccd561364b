//! Files that are no data, or not the data they seem: an error with its place, never a panic, a full memory or a changed text.

use super::tests::{Case, examples, pair};
use super::*;
use crate::example::encode_document;
use crate::fixtures::{self, write};
use crate::source::FormatHint;
use std::path::Path;

fn options() -> PrepareOptions {
    PrepareOptions::new(64)
}

#[test]
fn a_lone_surrogate_is_told_by_its_column() {
    let error = Case::new().error(r#"{"prompt": "a\ud800", "completion": "b"}"#, &options());
    assert!(error.starts_with("a.jsonl:1:"), "{error}");
    assert!(error.contains("not a JSON record: ") && error.contains("hex escape"), "{error}");
    let both = r#"{"prompt": "a\ud83d\ude00", "completion": "b"}"#;
    assert!(Case::new().prepare(&Case::new().pairs(both), &options()).is_ok(), "a pair of surrogates is a character");
}

#[test]
fn nul_bytes_are_kept_in_text_and_refused_in_json_strings() {
    let case = Case::new();
    let text = "the wall\0 leans\0\0";
    let sources = case.sources("a.txt", text, FormatHint::ContinuedPreTraining);
    let prepared = case.prepare(&sources, &options()).unwrap();
    assert_eq!(examples(&prepared.shard), [encode_document(&fixtures::tokenizer(), text).unwrap()]);
    let error = case.error("{\"prompt\": \"a\0\", \"completion\": \"b\"}", &options());
    assert!(error.starts_with("a.jsonl:1:14: not a JSON record: control character"), "{error}");
    assert!(case.error("\0\0\0\n", &options()).starts_with("a.jsonl:1:1: not a JSON record"));
    let escaped = case.prepare(&case.pairs(r#"{"prompt": "a\u0000", "completion": "b"}"#), &options()).unwrap();
    assert_eq!(escaped.shard.len(), 1);
}

#[test]
fn nested_and_wide_json_bombs_take_no_memory() {
    let case = Case::new();
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let deep = format!("{{\"prompt\": {}1{}}}", open.repeat(100_000), close.repeat(100_000));
        let error = case.error(&deep, &options());
        assert!(error.contains("a.jsonl:1:") && error.contains("recursion limit exceeded"), "{error}");
    }
    // What isn't read is passed over, whatever it holds.
    let wide = format!("{{\"prompt\": \"a\", \"completion\": \"b\", \"x\": [{}[]]}}\n", "[],".repeat(1 << 20));
    assert_eq!(case.prepare(&case.pairs(wide), &options()).unwrap().shard.len(), 1);
    let keys: String = (0..200_000).map(|number| format!("\"key{number}\":0,")).collect();
    let many = format!("{{{keys}\"prompt\": \"a\", \"completion\": \"b\"}}\n");
    let summary = case.prepare(&case.pairs(many), &options()).unwrap().shard.summary().clone();
    assert_eq!((summary.extra_keys.len(), summary.extra_keys["(other keys)"]), (1001, 199_000));
    let error = case.error(format!("{{{keys}\"prompt\": \"a\"}}\n"), &options());
    assert!(error.len() < 1000 && error.contains(" and 199991 more; "), "{error}");
}

#[test]
fn a_key_of_a_hundred_megabytes_is_an_error_with_its_line() {
    let case = Case::new();
    let key = |bytes: usize| format!("{}{{\"{}\": 1}}\n", pair("a", "b"), "k".repeat(bytes));
    let error = case.error(key(100 << 20), &options());
    let expected = "a.jsonl:2: the line is longer than 33554432 bytes; write one record a line, or long texts as files";
    assert_eq!(error, expected);
    let error = case.error(key(1 << 20), &options());
    assert!(error.starts_with("a.jsonl:2: found key `kkk") && error.len() < 300, "{}", error.len());
}

#[test]
fn one_word_as_long_as_a_file_is_an_error_and_long_lines_of_words_are_none() {
    let case = Case::new();
    let word = "x".repeat(600 << 10);
    let text = case.sources("a.txt", format!("one\ntwo {word}"), FormatHint::ContinuedPreTraining);
    let error = case.prepare(&text, &options()).unwrap_err().to_string();
    assert!(error.contains("a.txt:2: a word of 6144") && error.ends_with("take it out or break it up"), "{error}");
    let error = case.error(pair(&word, "b"), &options());
    assert!(error.starts_with("a.jsonl:1: a word of 614400 bytes without a break is no text"), "{error}");
    let line = "wall and ".repeat(200 << 10);
    let text = case.sources("a.txt", &line, FormatHint::ContinuedPreTraining);
    assert_eq!(case.prepare(&text, &options()).unwrap().shard.summary().records, 1);
}

#[test]
fn a_gzip_bomb_is_read_in_bounded_memory() {
    let case = Case::new();
    let bomb = fixtures::gzip(&vec![b' '; 64 << 20]);
    assert!(bomb.len() < 100 << 10);
    let lines = case.sources("a.jsonl.gz", &bomb, FormatHint::FineTuning);
    let error = case.prepare(&lines, &options()).unwrap_err().to_string();
    assert!(error.ends_with(
        "a.jsonl.gz:1: the line is longer than 33554432 bytes; write one record a line, or long texts as files"
    ));
    let text = case.sources("a.txt.gz", &bomb, FormatHint::ContinuedPreTraining);
    let error = case.prepare(&text, &options()).unwrap_err().to_string();
    assert!(error.contains("a.txt.gz:1:1: in 4194304 bytes from here on there is no place between words"), "{error}");
}

#[test]
fn compressed_data_that_end_early_are_told_by_their_line_and_leave_nothing() {
    let case = Case::new();
    for (name, bytes) in [
        ("a.jsonl.gz", fixtures::gzip(pair("the wall", "b").repeat(90_000).as_bytes())),
        ("a.jsonl.zst", fixtures::zstd((0..90_000).map(|n| pair(&n.to_string(), "b")).collect::<String>().as_bytes())),
    ] {
        let sources = case.sources(name, &bytes[..bytes.len() - 9], FormatHint::FineTuning);
        let error = case.prepare(&sources, &options()).unwrap_err().to_string();
        assert!(error.contains(&format!("{name}:")) && error.contains(" data end early ("), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }
    assert_eq!(fs_err::read_dir(case.root.path().join("cache")).unwrap().count(), 0);
}

/// Prepares a file that `change` changes once its first part was read, when its hash is known already.
fn changed_meanwhile(case: &Case, sources: &Sources, change: &dyn Fn(&Path)) -> String {
    let path = sources.files()[0].path.clone();
    let mut told = 0;
    let mut tell = |_, _| {
        told += 1;
        if told == 1 {
            change(&path);
        }
    };
    let cache = case.root.path().join("cache");
    let error = prepare(sources, &fixtures::tokenizer(), &options(), &cache, &mut tell).unwrap_err().to_string();
    assert!(told > 0 && !error.contains('\n'), "{error}");
    assert_eq!(fs_err::read_dir(&cache).unwrap().count(), 0);
    error
}

#[test]
fn a_file_that_changes_while_it_is_read_is_an_error_though_it_is_good_still() {
    let text = "The wall leans and the level is read.\n".repeat(300_000);
    let lines = pair("a", "b").repeat(300_000);
    for (name, content, hint) in
        [("a.txt", &text, FormatHint::ContinuedPreTraining), ("a.jsonl", &lines, FormatHint::FineTuning)]
    {
        let case = Case::new();
        let sources = case.sources(name, content, hint);
        assert!(sources.bytes() > 8 << 20, "several chunks");
        // one letter of the last line, and a whole line more
        let other = content[..content.len() - 40].to_owned() + &content[content.len() - 40..].replace(['a', 'v'], "o");
        for changed in [other, content.clone() + content.lines().next().unwrap() + "\n"] {
            fs_err::write(&sources.files()[0].path, content).unwrap();
            let error = changed_meanwhile(&case, &sources, &|path| {
                use std::io::{Seek, Write};
                let mut file = fs_err::OpenOptions::new().write(true).open(path).unwrap();
                let start = changed.len() - 200;
                file.seek(std::io::SeekFrom::Start(start as u64)).unwrap();
                file.write_all(&changed.as_bytes()[start..]).unwrap();
            });
            assert!(
                error.ends_with(&format!("{name}` changed while it was read; start again when it is whole")),
                "{error}"
            );
        }
    }
}

#[test]
fn a_file_that_gets_shorter_while_it_is_read_is_an_error() {
    let case = Case::new();
    let sources = case.pairs(pair("a", "b").repeat(300_000));
    let shorter =
        |path: &Path| fs_err::OpenOptions::new().append(true).open(path).unwrap().set_len((5 << 20) + 7).unwrap();
    let error = changed_meanwhile(&case, &sources, &shorter);
    // the last line is no record any more, but that isn't what is wrong
    assert!(error.ends_with("a.jsonl` changed while it was read; start again when it is whole"), "{error}");
}

#[cfg(unix)]
#[test]
fn links_in_a_circle_and_what_is_no_file_are_named() {
    let case = Case::new();
    let folder = case.root.path().join("data");
    write(&folder, "a.txt", "the wall");
    let discover = || Sources::discover(std::slice::from_ref(&folder), FormatHint::ContinuedPreTraining);
    let refused = || {
        let error = discover().unwrap_err().to_string();
        assert!(!error.contains('\n'), "{error}");
        error
    };
    std::os::unix::fs::symlink("circle", folder.join("circle")).unwrap();
    assert!(refused().contains("circle"));
    fs_err::remove_file(folder.join("circle")).unwrap();
    std::os::unix::fs::symlink("../data", folder.join("up")).unwrap();
    assert!(refused().contains("up"));
    fs_err::remove_file(folder.join("up")).unwrap();
    let _open = std::os::unix::net::UnixListener::bind(folder.join("socket.txt")).unwrap();
    assert!(refused().ends_with("socket.txt` is neither a file nor a folder; name one of these"));
}

/// Also for one who may read everything: what was a file when it was found is a folder, or a circle, when it is read.
#[cfg(unix)]
#[test]
fn a_file_that_cant_be_read_is_named() {
    let unreadable: [&dyn Fn(&Path); 2] = [&|path| fs_err::create_dir(path).unwrap(), &|path| {
        std::os::unix::fs::symlink(path.file_name().unwrap(), path).unwrap()
    }];
    for (name, hint) in [("a.txt", FormatHint::ContinuedPreTraining), ("a.jsonl", FormatHint::FineTuning)] {
        for put in unreadable {
            let case = Case::new();
            let sources = case.sources(name, pair("a", "b"), hint);
            let path = &sources.files()[0].path;
            fs_err::remove_file(path).unwrap();
            put(path);
            let error = case.prepare(&sources, &options()).unwrap_err().to_string();
            assert!(error.contains(name) && !error.contains('\n'), "{error}");
        }
    }
}
