//! `outcrop data prepare` writes what training would write: the job that follows tokenizes nothing.
#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod common;

use common::{Bench, records};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The shards of a home, with when they were written.
fn shards(home: &Path) -> Vec<(PathBuf, SystemTime)> {
    let Ok(folders) = fs_err::read_dir(home.join("cache/shards")) else { return Vec::new() };
    let mut found: Vec<_> = folders
        .map(|folder| folder.unwrap().path().join("shard.safetensors"))
        .map(|path| (path.clone(), fs_err::metadata(&path).unwrap().modified().unwrap()))
        .collect();
    found.sort();
    found
}

#[test]
fn r22_training_after_prepare_tokenizes_nothing() {
    let bench = Bench::new();
    let mut command = bench.outcrop();
    command.args(["data", "prepare", "train.jsonl", "--base", "base"]);
    let output = String::from_utf8(command.assert().success().get_output().stdout.clone()).unwrap();
    assert!(output.starts_with("train.jsonl: prepared, 12 records, "), "{output}");
    let before = shards(&bench.path("home"));
    assert_eq!(before.len(), 1);
    bench.write("job.json", bench.request(&[("epochCount", "1")]).to_string());
    bench.outcrop().args(["train", "job.json"]).assert().success();
    assert_eq!(shards(&bench.path("home")), before, "the same shard, untouched");

    let mut command = bench.outcrop();
    command.args(["data", "prepare", "train.jsonl", "--base", "base", "--set", "maxSequenceLength=100"]);
    command.assert().success();
    assert_eq!(shards(&bench.path("home")).len(), 2, "another length, another shard");
    let mut command = bench.outcrop();
    command.args(["data", "prepare", "train.jsonl", "--base", "base"]);
    let output = String::from_utf8(command.assert().success().get_output().stdout.clone()).unwrap();
    assert!(output.starts_with("train.jsonl: ready already, 12 records, "), "{output}");
}

#[test]
fn what_cant_be_prepared_is_told_as_in_training() {
    let bench = Bench::new();
    bench.write("bad.jsonl", records(2) + "{}\n");
    let refused = |arguments: &[&str]| {
        let mut command = bench.outcrop();
        command.args(["data", "prepare"]).args(arguments).args(["--base", "base"]);
        String::from_utf8(command.assert().failure().get_output().stderr.clone()).unwrap()
    };
    assert!(refused(&["bad.jsonl"]).contains("bad.jsonl:3: found no keys"));
    assert!(refused(&["train.jsonl", "--set", "maxSequenceLenght=9"]).contains("maxSequenceLength"));
    assert!(refused(&["train.jsonl", "--set", "x"]).contains("--set `x` has no `=`; write KEY=VALUE"));
    bench.write("text.txt", "the river in winter");
    assert!(refused(&["text.txt"]).contains("text is for CONTINUED_PRE_TRAINING"));
    let mut command = bench.outcrop();
    command.args(["data", "prepare", "text.txt", "--base", "base", "--type", "CONTINUED_PRE_TRAINING"]);
    let output = String::from_utf8(command.assert().success().get_output().stdout.clone()).unwrap();
    assert!(output.contains(" % unfilled\n"), "{output}");
}
