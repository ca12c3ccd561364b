//! `outcrop prune` from outside: a dry run changes nothing, what goes is made again with the same bits, and what a running
//! or a stopped job, a model or a sweep needs stays.
#![cfg(unix)]
#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod common;

use common::{BINARY, Bench, Running, files, names, records};
use serde_json::{Value, json};
use std::process::Stdio;

fn prune(bench: &Bench, arguments: &[&str]) -> String {
    let output = bench.outcrop().arg("prune").args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Checkpoints every two steps, three of them kept.
const SETTINGS: [(&str, &str); 3] = [("checkpointSteps", "2"), ("keepCheckpoints", "3"), ("batchSize", "2")];

fn listed(bench: &Bench) -> Value {
    serde_json::from_str(&prune(bench, &["--json"])).unwrap()
}

#[test]
fn what_goes_of_a_completed_job_is_made_again_with_the_same_bits() {
    let bench = Bench::new();
    let run = bench.completed(&SETTINGS);
    assert_eq!(run.job().checkpoints().len(), 3);
    let before = files(&bench.path("home"));
    let text = prune(&bench, &[]);
    assert!(text.contains("nothing is removed yet") && text.contains("is completed"), "{text}");
    assert_eq!(files(&bench.path("home")), before, "a dry run");
    let survey = listed(&bench);
    let count = |kind: &str| survey["removable"].as_array().unwrap().iter().filter(|item| item["kind"] == kind).count();
    assert!(count("checkpoint") == 3 && count("cache") == 2, "{survey}");
    let (hash, model) = (run.delta_hash(), run.delta());
    let text = prune(&bench, &["--yes"]);
    assert!(text.contains(" free\n") && !text.contains("meanwhile"), "{text}");
    assert!(run.job().checkpoints().is_empty() && names(&bench.path("home/cache/features")).is_empty());
    assert!(model.exists() && run.job().folder.join("report/report.html").exists(), "the model and the report stay");
    bench.outcrop().args(["generate", "--model", "base", "--prompt", "a", "--max-tokens", "1"]).assert().success();
    assert_eq!(listed(&bench)["removable"], json!([]));
    let again = bench.completed(&SETTINGS);
    assert_eq!(again.delta_hash(), hash);
    assert!(prune(&bench, &["--json"]).contains("checkpoints/step-"), "and it can go again");
}

#[test]
fn a_running_and_a_killed_job_keep_what_they_need() {
    let bench = Bench::new();
    bench.write("train.jsonl", records(40));
    let settings =
        [&SETTINGS[..], &[("maxSequenceLength", "128"), ("longRecords", "drop"), ("epochCount", "6")]].concat();
    let whole = bench.completed(&settings);
    let mut running = bench.start(&["job.json"]);
    let mut id = None;
    running.wait_until(|| {
        let other = |job: &String| *job != whole.id();
        id = id.take().or_else(|| bench.jobs().into_iter().find(other));
        id.as_ref().is_some_and(|id| bench.job(id).checkpoints().len() >= 2)
    });
    let id = id.unwrap();
    let text = prune(&bench, &["--yes"]);
    let was_running = text.contains(&format!("jobs/{id}: its job runs"));
    let killed = running.kill();
    let job = bench.job(&id);
    assert!(!was_running || !names(&bench.path("home/cache/features")).is_empty(), "{text}");
    if killed {
        let newest = job.checkpoints().pop().unwrap();
        let text = prune(&bench, &["--yes"]);
        assert_eq!(job.checkpoints(), [newest], "{text}");
        assert!(names(&bench.path("home/cache/features")).is_empty(), "nothing runs: {text}");
        bench.train(&["--resume", &id]).expect_success();
    }
    assert!(was_running || killed, "no prune met a job that wasn't over");
    assert_eq!(common::hash(&job.delta(&bench.path("home"))), whole.delta_hash());
}

/// The hash of each trial's model, by the trial's number.
fn trials(bench: &Bench, sweep: &str) -> Vec<(u64, String)> {
    let text = fs_err::read_to_string(bench.path("home/sweeps").join(sweep).join("trials.jsonl")).unwrap_or_default();
    let read = |line: &str| serde_json::from_str::<Value>(line).ok();
    let pair = |trial: Value| (trial["trial"].as_u64().unwrap(), trial["deltaHash"].as_str().unwrap_or("").to_string());
    let mut trials: Vec<(u64, String)> = text.lines().filter_map(read).map(pair).collect();
    trials.sort();
    trials
}

#[test]
fn a_sweep_goes_on_after_a_prune_as_if_there_had_been_none() {
    let bench = Bench::new();
    bench.write("validation.jsonl", records(12));
    let mut request = bench.request(&[("schedule", "constant")]);
    request["hyperParameters"]["learningRate"] = json!(["0.001", "0.003", "0.01", "0.03"]);
    request["validationDataConfig"] = json!({"validators": [{"s3Uri": "validation.jsonl"}]});
    // names of their own: those made of the time are the same within a second
    for name in ["whole", "pruned"] {
        request["jobName"] = json!(name);
        bench.write(&format!("{name}.json"), request.to_string());
    }
    bench.outcrop().args(["sweep", "whole.json"]).assert().success();
    let whole = names(&bench.path("home/sweeps")).pop().unwrap();
    let mut command = std::process::Command::new(BINARY);
    command.env("OUTCROP_HOME", bench.path("home")).env("HOME", bench.path("nobody")).env("HF_HOME", bench.path("hub"));
    command.args(["sweep", "pruned.json"]).current_dir(bench.path("")).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut running = Running::of(command.spawn().unwrap());
    let mut sweep = None;
    running.wait_until(|| {
        sweep = sweep.take().or_else(|| names(&bench.path("home/sweeps")).into_iter().find(|id| *id != whole));
        sweep.as_ref().is_some_and(|id| !trials(&bench, id).is_empty())
    });
    let sweep = sweep.unwrap();
    running.kill();
    prune(&bench, &["--yes"]);
    let mut resumed = bench.outcrop();
    resumed.args(["sweep", "--resume", &sweep]);
    let output = resumed.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(trials(&bench, &sweep), trials(&bench, &whole));
}
