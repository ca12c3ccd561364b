//! `s3://` in a store of objects, which is another `outcrop serve` here: inputs are copied into the job's folder, outputs
//! are sent, errors say in a line what is wrong. moto's S3 is in tests/interop/objects.py.
#![cfg(unix)]
#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod common;

use assert_cmd::Command;
use common::service::{Service, bench, request};
use common::{Bench, error_of, files, records};
use serde_json::{Value, json};
use std::path::Path;

/// The binary with its buckets in the store.
fn outcrop(bench: &Bench, address: &str) -> Command {
    let mut command = bench.outcrop();
    command.env("OUTCROP_S3_ENDPOINT", format!("http://{address}"));
    command.env("AWS_ACCESS_KEY_ID", "x").env("AWS_SECRET_ACCESS_KEY", "y").env("NO_PROXY", "127.0.0.1");
    command
}

fn job(bench: &Bench, name: &str) -> Value {
    let mut job = request(name);
    job["baseModelIdentifier"] = json!(bench.path("base"));
    job["validationDataConfig"] = json!({"validators": [{"s3Uri": "s3://bucket/deep/er/valid.jsonl"}]});
    job
}

fn relative(folder: &Path) -> Vec<String> {
    let name = |path: &std::path::PathBuf| path.strip_prefix(folder).unwrap().display().to_string();
    let mut names: Vec<String> = files(folder).iter().map(name).collect();
    names.sort();
    names
}

#[test]
fn a_job_reads_and_writes_a_store_of_objects() {
    let (store, bench) = (bench(), Bench::new());
    store.write("home/s3/bucket/deep/er/valid.jsonl", records(3));
    let service = Service::start(&store, &[]);
    bench.write("job.json", job(&bench, "far").to_string());
    let output = outcrop(&bench, &service.address).args(["train", "job.json"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!bench.path("home/s3").exists(), "the home's buckets are not used");
    let id = bench.jobs()[0].clone();
    let objects = bench.path("home/jobs").join(&id).join("objects");
    assert_eq!(relative(&objects.join("inputs")), ["bucket/deep/er/valid.jsonl", "bucket/train.jsonl"]);
    let name = format!("model-customization-job-{id}");
    let sent = relative(&store.path("home/s3/bucket/out").join(&name));
    assert_eq!(sent, relative(&objects.join("outputs/bucket/out").join(&name)), "whole");
    assert!(sent.contains(&"training_artifacts/step_wise_training_metrics.csv".to_string()), "{sent:?}");
    // the same job with its files at hand trains the same model
    let mut near = job(&bench, "near");
    near["customModelName"] = json!("near-model");
    near["trainingDataConfig"]["s3Uri"] = json!(store.path("home/s3/bucket/train.jsonl"));
    near["validationDataConfig"]["validators"][0]["s3Uri"] = json!(store.path("home/s3/bucket/deep/er/valid.jsonl"));
    near["outputDataConfig"]["s3Uri"] = json!("out");
    let near = bench.run(&near).expect_success();
    let far = bench.job(&id);
    assert_eq!(far.steps("loss"), near.job().steps("loss"));
    // and a model is made again from the store
    let artifacts = format!("s3://bucket/out/{name}/model_artifacts");
    let mut restore = outcrop(&bench, &service.address);
    restore.args(["models", "restore", &artifacts, "--name", "again"]).assert().success();
    // what an evaluation reads is copied, too
    let mut eval = outcrop(&bench, &service.address);
    eval.args([
        "eval",
        "--base",
        "base",
        "--model",
        "again",
        "--suite",
        "s3://bucket/train.jsonl",
        "--general",
        "none",
    ]);
    eval.assert().success();
    // a folder of objects is a folder
    let base = bench.path("base");
    for file in ["config.json", "model.safetensors", "tokenizer.json"] {
        store.write(&format!("home/s3/bucket/bases/tiny/{file}"), fs_err::read(base.join(file)).unwrap());
    }
    let mut generate = outcrop(&bench, &service.address);
    generate.args(["generate", "--model", "s3://bucket/bases/tiny", "--prompt", "line", "--max-tokens", "2"]);
    generate.assert().success();
}

#[test]
fn what_is_wrong_with_a_store_is_said_in_a_line() {
    let (store, bench) = (bench(), Bench::new());
    let service = Service::start(&store, &[]);
    let refused = |job: &Value, address: &str| {
        bench.write("job.json", job.to_string());
        let output = outcrop(&bench, address).args(["train", "job.json"]).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(bench.jobs(), [""; 0], "nothing stays");
        error_of(&String::from_utf8(output.stderr).unwrap()).to_string()
    };
    let message = refused(&job(&bench, "none"), &service.address);
    let place = format!("http://{}/bucket/deep/er/valid.jsonl", service.address);
    assert_eq!(message, format!("`s3://bucket/deep/er/valid.jsonl` doesn't exist (looked for it at `{place}`)"));
    let mut elsewhere = job(&bench, "elsewhere");
    elsewhere["outputDataConfig"]["s3Uri"] = json!("s3://nowhere/out");
    let message = refused(&elsewhere, &service.address);
    assert!(message.starts_with("`s3://nowhere/out` can't be written at http://"), "{message}");
    let address = service.address.clone();
    service.kill();
    let message = refused(&job(&bench, "gone"), &address);
    assert!(message.ends_with("check that the store runs and that OUTCROP_S3_ENDPOINT is its address"), "{message}");
    let mut command = bench.outcrop();
    command.env("OUTCROP_S3_ENDPOINT", "http://x").env_remove("AWS_ACCESS_KEY_ID");
    let output = command.args(["train", "job.json"]).output().unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(error_of(&message).starts_with("OUTCROP_S3_ENDPOINT is set and AWS_ACCESS_KEY_ID isn't"), "{message}");
}
