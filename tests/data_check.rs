//! `outcrop data` from outside: reports and exit codes, what inspect shows, copies that are divided or scrubbed, bad input.
#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod common;

use common::{Bench, error_of, repository};
use serde_json::{Value, json};
use std::process::Output;

fn data(bench: &Bench, arguments: &[&str]) -> Output {
    bench.outcrop().arg("data").args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The report as JSON, and the exit code.
fn report(bench: &Bench, arguments: &[&str]) -> (Value, Option<i32>) {
    let output = data(bench, &[&["check", "--json"], arguments].concat());
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output.stderr)));
    (report, output.status.code())
}

fn ids(report: &Value) -> Vec<String> {
    report["findings"].as_array().unwrap().iter().map(|finding| finding["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn good_data_pass_and_errors_are_told_with_their_places_and_exit_code_1() {
    let bench = Bench::new();
    let (good, code) = report(&bench, &["train.jsonl", "--base", "base"]);
    assert_eq!((code, &good["errors"], &good["records"]), (Some(0), &json!(0), &json!(12)));
    assert_eq!(good["tokens"]["stopShare"], json!(1.0));
    bench.write("bad.jsonl", "{\"prompt\": \"a\", \"completion\": \"b\"}\n{\"prompt\": \"a\"\n\n");
    let (bad, code) = report(&bench, &["bad.jsonl", "--base", "base"]);
    assert_eq!(code, Some(1));
    let row =
        &bad["findings"].as_array().unwrap().iter().find(|finding| finding["id"] == "not-json").unwrap()["rows"][0];
    assert_eq!((&row["file"], &row["line"], &row["column"]), (&json!("bad.jsonl"), &json!(2), &json!(14)));
    let output = data(&bench, &["check", "bad.jsonl", "--base", "none"]);
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(1), String::new()));
    let out = text(&output.stdout);
    assert!(out.starts_with("2 errors, ") && out.contains("bad.jsonl:2:14: EOF"), "{out}");
    assert!(!out.contains('\u{1b}'), "no colours where there is no terminal");
}

#[test]
fn leaks_profiles_and_settings_are_looked_at_where_they_are_asked_for() {
    let bench = Bench::new();
    let (leaked, code) = report(&bench, &["train.jsonl", "--base", "none", "--eval", "train.jsonl"]);
    assert_eq!(code, Some(1));
    assert!(ids(&leaked).contains(&"leak-prompt".to_owned()));
    bench.write("job.json", bench.request(&[("learningRate", "0.5"), ("epochCount", "2")]).to_string());
    let arguments =
        ["train.jsonl", "--base", "none", "--profile", "meta.llama3-1-8b-instruct-v1:0", "--job", "job.json"];
    let (held, _) = report(&bench, &arguments);
    let found = ids(&held);
    assert!(
        found.contains(&"profile-setting".to_owned()) && found.contains(&"profile-records".to_owned()),
        "{found:?}"
    );
    let output = data(&bench, &["check", "train.jsonl", "--profile", "meta.llama9"]);
    assert!(error_of(&text(&output.stderr)).starts_with("no profile is known for `meta.llama9`; there are: "));
}

#[test]
fn the_page_needs_nothing_else_and_says_the_verdict_first() {
    let bench = Bench::new();
    let sentiment = repository().join("datasets/sentiment/train.jsonl");
    let output = data(&bench, &["check", sentiment.to_str().unwrap(), "--html", "report.html"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
    let page = fs_err::read_to_string(bench.path("report.html")).unwrap();
    let body = page.split_once("<body>").unwrap().1;
    assert!(body.find("0 errors").unwrap() < body.find("<svg").unwrap());
    assert!(body.matches("<svg").count() >= 2 && page.contains("prefers-color-scheme: dark"));
    for outside in ["<script", "src=", "url(", "@import", "<link"] {
        assert!(!page.contains(outside), "the page has {outside}");
    }
}

#[test]
fn the_built_in_data_raise_no_false_alarms() {
    let bench = Bench::new();
    let path = |name: &str| repository().join("datasets").join(name).display().to_string();
    let (train, test) = (path("sentiment/train.jsonl"), path("sentiment/test.jsonl"));
    let (sentiment, code) = report(&bench, &[&train, "--eval", &test, "--base", "none"]);
    assert_eq!((code, sentiment["warnings"].as_u64().unwrap() <= 1), (Some(0), true), "{:?}", ids(&sentiment));
    let (handbook, code) = report(&bench, &[&path("handbook/train"), "--base", "none"]);
    assert_eq!((code, handbook["warnings"].as_u64().unwrap() <= 1), (Some(0), true), "{:?}", ids(&handbook));
}

#[test]
fn r6_inspect_shows_the_tokens_that_training_has() {
    let bench = Bench::new();
    bench.write(
        "two.jsonl",
        "{\"prompt\": \"x\", \"completion\": \"y\"}\n{\"prompt\": \"Where\", \"completion\": \"There\"}\n",
    );
    let output = data(&bench, &["inspect", "two.jsonl", "--base", "base", "--row", "2"]);
    let out = text(&output.stdout);
    assert!(output.status.success() && !out.contains('\u{1b}'), "{}", text(&output.stderr));
    let (before, after): (Vec<&str>, Vec<&str>) = out.lines().skip(1).partition(|line| !line.contains(" target "));
    let shown = |lines: &[&str]| lines.iter().map(|line| line.rsplit(' ').next().unwrap()).collect::<String>();
    assert_eq!((shown(&before), shown(&after)), ("Where".into(), "·There<|endoftext|>".into()), "{out}");
    let error = error_of(&text(&data(&bench, &["inspect", "two.jsonl", "--base", "base", "--row", "3"]).stderr));
    assert_eq!(error, "row 3 is asked for, but `two.jsonl` has 2 lines");
    bench.write("bad.jsonl", "{}\n{\"prompt\": 1, \"completion\": \"b\"}\n");
    let error = error_of(&text(&data(&bench, &["inspect", "bad.jsonl", "--base", "base", "--row", "2"]).stderr));
    assert!(error.starts_with("bad.jsonl:2: ") || error.starts_with("bad.jsonl:2:"), "{error}");
}

#[test]
fn split_and_scrub_write_new_files_only() {
    let bench = Bench::new();
    let before = fs_err::read(bench.path("train.jsonl")).unwrap();
    let split = ["split", "train.jsonl", "--out", "parts", "--validation", "25%"];
    let output = data(&bench, &split);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let part = |name: &str| fs_err::read_to_string(bench.path(name)).unwrap();
    let mut lines: Vec<_> =
        [part("parts/train.jsonl"), part("parts/validation.jsonl")].concat().lines().map(str::to_owned).collect();
    lines.sort();
    let mut all: Vec<_> = text(&before).lines().map(str::to_owned).collect();
    all.sort();
    assert_eq!(lines, all);
    assert!(!bench.path("parts/test.jsonl").exists());
    let error = error_of(&text(&data(&bench, &split).stderr));
    assert_eq!(error, "`parts/train.jsonl` exists already; choose another folder");

    bench.write("personal.jsonl", "{\"prompt\": \"ask ann@mail.org\", \"completion\": \"b\"}\n");
    let scrub = ["scrub", "personal.jsonl", "--out", "clean.jsonl"];
    assert!(data(&bench, &scrub).status.success());
    assert_eq!(part("clean.jsonl"), "{\"prompt\": \"ask [EMAIL]\", \"completion\": \"b\"}\n");
    assert!(part("clean.jsonl.changes.jsonl").contains("\"masked\":\"a…@mail.org\""));
    assert!(part("personal.jsonl").contains("ann@mail.org"));
    let error = error_of(&text(&data(&bench, &scrub).stderr));
    assert_eq!(error, "`clean.jsonl` exists already; choose another file");
    assert_eq!(fs_err::read(bench.path("train.jsonl")).unwrap(), before);
}

#[test]
fn bad_input_is_one_line() {
    let bench = Bench::new();
    bench.write("binary.txt", b"\x89PNG\r\n\x1a\n\0\0\xff\xfe");
    bench.write("empty.jsonl", "");
    let error = error_of(&text(&data(&bench, &["check", "none.jsonl", "--base", "none"]).stderr));
    assert_eq!(error, "`none.jsonl` doesn't exist; check the path");
    for (file, id) in [("binary.txt", "not-utf8"), ("empty.jsonl", "empty-file")] {
        let (report, code) = report(&bench, &[file, "--base", "none"]);
        assert_eq!((code, ids(&report)), (Some(1), vec![id.to_owned()]));
    }
    for verb in [
        &["scrub", "binary.txt", "--out", "x"][..],
        &["split", "empty.jsonl", "--out", "x"],
        &["inspect", "empty.jsonl"],
    ] {
        let output = data(&bench, verb);
        assert_eq!((output.status.code(), error_of(&text(&output.stderr)).lines().count()), (Some(1), 1), "{verb:?}");
        assert!(!bench.path("x").exists());
    }
}
