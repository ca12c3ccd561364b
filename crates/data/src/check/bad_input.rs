//! Files that are no data, for a check: a finding with its place, or an error of one line; never a panic or a full memory.

use super::*;
use crate::fixtures::{self, write};
use std::path::Path;

fn report(path: &Path) -> Report {
    check(&CheckOptions::new(vec![path.to_owned()]), &mut |_, _| ()).unwrap()
}

/// Id, line, column and message of each finding's first row.
fn first_rows(report: &Report) -> Vec<(&'static str, u64, Option<u64>, &str)> {
    let row = |finding: &'static str, row: &Shown| (finding, row.line, row.column);
    report
        .findings
        .iter()
        .map(|finding| {
            let (id, line, column) = row(finding.id, &finding.rows[0]);
            (id, line, column, finding.rows[0].message.as_str())
        })
        .collect()
}

/// The findings of a JSONL file of this content behind one good record.
fn found(content: &str) -> Report {
    let root = tempfile::tempdir().unwrap();
    let good = "{\"prompt\": \"Where is it\", \"completion\": \"behind the house on the left\"}\n";
    report(&write(root.path(), "a.jsonl", format!("{good}{content}")))
}

#[test]
fn r20_escapes_and_control_characters_that_json_refuses_have_a_place() {
    for (content, column) in [
        ("{\"prompt\": \"a\\ud800\", \"completion\": \"b\"}", 20),
        ("{\"prompt\": \"a\0\", \"completion\": \"b\"}", 14),
        ("\0\0\0", 1),
    ] {
        let report = found(content);
        let rows = first_rows(&report);
        assert_eq!((rows.len(), rows[0].0, rows[0].1, rows[0].2), (1, "not-json", 2, Some(column)), "{rows:?}");
    }
}

#[test]
fn line_ends_of_windows_and_a_byte_order_mark_change_nothing() {
    let root = tempfile::tempdir().unwrap();
    let rows = ["a b", "c d", "e f"].map(|text| format!("{{\"prompt\": \"{text}\", \"completion\": \"{text} too\"}}"));
    let plain = report(&write(root.path(), "a.jsonl", rows.join("\n")));
    let marked = report(&write(root.path(), "b.jsonl", format!("\u{feff}{}\r\n", rows.join("\r\n"))));
    assert!(plain.findings.is_empty(), "{:?}", plain.findings);
    assert_eq!(first_rows(&marked).iter().map(|row| row.0).collect::<Vec<_>>(), ["byte-order-mark"]);
    assert_eq!((plain.records, plain.characters, plain.words), (marked.records, marked.characters, marked.words));
}

#[test]
fn json_bombs_are_told_once_and_take_neither_memory_nor_time() {
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let report = found(&format!("{{\"prompt\": {}1{}}}", open.repeat(100_000), close.repeat(100_000)));
        let rows = first_rows(&report);
        assert!(rows.len() == 1 && rows[0].0 == "not-json" && rows[0].3.contains("recursion limit"), "{rows:?}");
    }
    let with = |more: &str| found(&format!("{{\"prompt\": \"a\", \"completion\": \"b\", {more}}}"));
    assert_eq!(first_rows(&with(&format!("\"x\": [{}[]]", "[],".repeat(1 << 20))))[0].0, "extra-keys");
    let many: Vec<_> = (0..200_000).map(|number| format!("\"key{number}\": 0")).collect();
    let report = with(&many.join(","));
    assert_eq!((report.findings[0].id, report.findings[0].count, report.extra_keys.len()), ("extra-keys", 100, 100));
    let report = with(&vec!["\"a\": 0"; 200_000].join(","));
    assert_eq!((report.findings[0].id, report.findings[0].count), ("double-key", 1));
    let report = found(&format!("{{\"messages\": [{}{{}}]}}", "{},".repeat(100_000)));
    assert!(report.findings.iter().map(|finding| finding.count).sum::<u64>() < 30, "{:?}", report.findings);
}

#[test]
fn a_key_of_a_hundred_megabytes_is_a_long_line_and_one_of_a_megabyte_is_cut_in_the_report() {
    let report = found(&format!("{{\"{}\": 1}}\n{{\"a\": 1}}\n", "k".repeat(100 << 20)));
    let rows = first_rows(&report);
    assert_eq!((rows[0].0, rows[0].1, rows[1].0, rows[1].1), ("long-line", 2, "wrong-keys", 3), "{rows:?}");
    let report = found(&format!("{{\"{}\": 1}}\n", "k".repeat(1 << 20)));
    assert!(serde_json::to_string(&report).unwrap().len() < 10_000);
}

#[test]
fn damaged_compression_is_told_behind_the_lines_in_front_of_it() {
    let root = tempfile::tempdir().unwrap();
    let lines: String =
        (0..20_000).map(|number| format!("{{\"prompt\": \"a{number}\", \"completion\": \"b{number}\"}}\n")).collect();
    for (name, whole) in
        [("a.jsonl.gz", fixtures::gzip(lines.as_bytes())), ("a.jsonl.zst", fixtures::zstd(lines.as_bytes()))]
    {
        let report = report(&write(root.path(), name, &whole[..whole.len() - 9]));
        let rows = first_rows(&report);
        let told = rows.iter().find(|row| row.0 == "unreadable").unwrap();
        assert!(told.1 > 1000 && told.3.contains(" data end early ("), "{told:?}");
    }
    let bomb = write(root.path(), "b.txt.gz", fixtures::gzip(&vec![b' '; 64 << 20]));
    assert!(report(&bomb).findings.iter().all(|finding| finding.count < 1000));
}

#[test]
fn a_file_that_changes_while_it_is_checked_is_an_error() {
    let root = tempfile::tempdir().unwrap();
    for (name, of_one_length) in [("eval.txt", true), ("eval.txt", false), ("a.txt", true), ("a.txt", false)] {
        let (eval, training) = (write(root.path(), "eval.txt", "a b c"), write(root.path(), "a.txt", "d e f"));
        let options = CheckOptions { evaluation: vec![eval], ..CheckOptions::new(vec![training]) };
        assert!(check(&options, &mut |_, _| ()).is_ok());
        let mut tell = |_, _| {
            // a clock of the file system may stand still for some milliseconds
            std::thread::sleep(std::time::Duration::from_millis(30));
            write(root.path(), name, if of_one_length { "x y z" } else { "x y z and more" });
        };
        let error = check(&options, &mut tell).unwrap_err().to_string();
        assert!(
            error.ends_with(&format!("{name}` changed while it was read; start again when it is whole")),
            "{error}"
        );
    }
}

#[cfg(unix)]
#[test]
fn what_is_no_file_or_stops_being_one_is_one_line() {
    let root = tempfile::tempdir().unwrap();
    let refused = |options: &CheckOptions<'_>, tell: &mut dyn FnMut(u64, u64)| {
        let error = check(options, tell).unwrap_err().to_string();
        assert!(!error.contains('\n'), "{error}");
        error
    };
    let circle = root.path().join("circle.jsonl");
    std::os::unix::fs::symlink("circle.jsonl", &circle).unwrap();
    assert!(refused(&CheckOptions::new(vec![circle]), &mut |_, _| ()).contains("circle.jsonl"));
    let socket = root.path().join("socket.jsonl");
    let _open = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let error = refused(&CheckOptions::new(vec![socket]), &mut |_, _| ());
    assert!(error.ends_with("is neither a file nor a folder; name one of these"), "{error}");
    // a file that becomes a folder between finding it and reading it can't be read, whoever asks
    let (eval, training) = (write(root.path(), "eval.txt", "a b c"), write(root.path(), "a.txt", "d e f"));
    let options = CheckOptions { evaluation: vec![eval], ..CheckOptions::new(vec![training.clone()]) };
    let mut tell = |_, _| {
        if training.is_file() {
            fs_err::remove_file(&training).unwrap();
            fs_err::create_dir(&training).unwrap();
        }
    };
    assert!(refused(&options, &mut tell).contains("a.txt"));
}
