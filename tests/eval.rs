//! `outcrop eval` from outside: it says what a job's own end says, scores a base once, and refuses in one line what
//! can't be compared.
#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod common;

use common::{Bench, Run, error_of, names, records, tiny_config};
use serde_json::{Value, json};
use std::process::Output;

/// A bench with a task suite of pairs, one with right and wrong, and a general text.
fn bench() -> Bench {
    let bench = Bench::new();
    let label = |index: usize| {
        let label = if index.is_multiple_of(3) { "yes" } else { "no" };
        format!("{}\n", json!({"prompt": format!("Is {index} a multiple?"), "completion": label}))
    };
    bench.write("labels.jsonl", (0..24).map(label).collect::<String>());
    bench.write("pairs.jsonl", records(6));
    bench.write("prose.txt", "the river and the stone, the winter and the house\n".repeat(20));
    bench
}

fn job(bench: &Bench, name: &str, settings: &[(&str, &str)]) -> Run {
    let mut all = vec![("evaluationData", "labels.jsonl, pairs.jsonl"), ("generalData", "prose.txt")];
    all.extend(settings);
    let mut request = bench.request(&all);
    request["customModelName"] = json!(name);
    bench.run(&request).expect_success()
}

fn eval(bench: &Bench, arguments: &[&str]) -> Output {
    bench.outcrop().arg("eval").args(arguments).output().unwrap()
}

const SUITES: [&str; 5] = ["--suite", "labels.jsonl", "pairs.jsonl", "--general", "prose.txt"];

fn success(output: &Output) -> String {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// The one line of an evaluation that is refused.
fn refused(output: &Output) -> String {
    let stderr = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    let error = error_of(&stderr);
    assert!(!error.contains('\n'), "{error}");
    error
}

fn json_of(bench: &Bench, path: &str) -> Value {
    serde_json::from_str(&fs_err::read_to_string(bench.path(path)).unwrap()).unwrap()
}

#[test]
fn r32_an_evaluation_says_what_the_job_said_and_the_base_is_scored_once() {
    let bench = bench();
    for (name, settings) in [("tuned", vec![]), ("half", vec![("dtype", "bfloat16"), ("trainable", "all")])] {
        let run = job(&bench, name, &settings);
        let scores = names(&bench.path("home/cache/scores")).len();
        let dtype = if name == "half" { "bfloat16" } else { "float32" };
        let base = ["--base", "base", "--model", name, "--output", "out", "--dtype", dtype];
        let text = success(&eval(&bench, &[&base[..], &SUITES].concat()));
        assert_eq!(names(&bench.path("home/cache/scores")).len(), scores, "the job's scores are read again");
        // and the same numbers come out where nothing is kept
        fs_err::remove_dir_all(bench.path("home/cache/scores")).unwrap();
        assert_eq!(success(&eval(&bench, &[&base[..], &SUITES].concat())), text);
        let own: Value =
            serde_json::from_str(&fs_err::read_to_string(run.job().folder.join("report/report.json")).unwrap())
                .unwrap();
        let mut report = json_of(&bench, "out/report.json");
        for member in ["headline", "task_outcome", "general_outcome", "options"] {
            assert_eq!(report[member], own[member], "{member}");
        }
        for list in ["task", "general"] {
            for (suite, own) in report[list].as_array_mut().unwrap().iter_mut().zip(own[list].as_array().unwrap()) {
                suite["path"] = own["path"].clone(); // how it was written in the request
                assert_eq!(suite, own);
            }
        }
        assert_eq!(report["suites"][0]["items"].as_array().unwrap().len(), 24);
        assert!(text.contains("report.html"), "{text}");
        let page = fs_err::read_to_string(bench.path("out/report.html")).unwrap();
        assert!(page.contains("<h1>") && fs_err::read_to_string(bench.path("out/report.md")).unwrap().len() > 500);
        bench.outcrop().args(["models", "delete", name]).assert().success();
    }
}

#[test]
fn several_models_each_have_a_verdict_and_a_report() {
    let bench = bench();
    job(&bench, "tuned", &[]);
    let arguments = ["--base", "base", "--model", "tuned", "base", "--output", "out", "--seed", "7"];
    let text = success(&eval(&bench, &[&arguments[..], &SUITES].concat()));
    assert!(text.starts_with("tuned against base\n") && text.contains("\nbase against base\n"), "{text}");
    assert_eq!(names(&bench.path("out")), ["1-tuned", "2-base"]);
    let own = json_of(&bench, "out/2-base/report.json");
    assert_eq!(own["general"][0]["identical"], true, "a base against itself");
    assert_eq!(own["options"]["seed"], 7);
}

#[test]
fn without_general_suites_the_built_in_ones_are_scored_and_none_turns_them_off() {
    let bench = bench();
    let base = ["--base", "base", "--model", "base", "--suite", "pairs.jsonl", "--output", "out"];
    success(&eval(&bench, &base));
    let general = json_of(&bench, "out/report.json")["general"].clone();
    let named: Vec<&str> = general.as_array().unwrap().iter().map(|suite| suite["name"].as_str().unwrap()).collect();
    assert_eq!(named, ["general/items", "general/prose"]);
    success(&eval(&bench, &[&base[..], &["--general", "none"]].concat()));
    assert_eq!(json_of(&bench, "out/report.json")["general"], json!([]));
    let nothing = refused(&eval(&bench, &["--base", "base", "--model", "base", "--general", "none"]));
    assert_eq!(nothing, "there is nothing to score; give --suite or --general");
}

#[test]
fn what_cannot_be_evaluated_is_refused_in_one_line() {
    let bench = bench();
    job(&bench, "tuned", &[]);
    let of = |base: &str, model: &str, suite: &str| {
        refused(&eval(&bench, &["--base", base, "--model", model, "--suite", suite, "--general", "none"]))
    };
    let mut other = tiny_config();
    other["initializer_range"] = json!(0.06);
    bench.base("other", &other);
    let error = of("other", "tuned", "pairs.jsonl");
    assert!(error.starts_with("model `tuned` was trained from `base` with hash "), "{error}");
    assert!(error.ends_with("; give the base it was trained from"), "{error}");
    bench.write("empty.jsonl", "");
    let error = of("base", "tuned", "empty.jsonl");
    assert!(error.contains("empty.jsonl") && error.contains("the file is empty"), "{error}");
    let error = of("base", "tuned", "missing.jsonl");
    assert!(error.starts_with("`missing.jsonl` doesn't exist"), "{error}");
    let error = of("nowhere", "tuned", "pairs.jsonl");
    assert!(error.starts_with("base `nowhere` is not there"), "{error}");
    let error = of("base", "nobody", "pairs.jsonl");
    assert!(error.contains("nobody"), "{error}");
    let error = of("tuned", "base", "pairs.jsonl");
    assert!(error.contains("`tuned` is a custom model"), "{error}");
    let twice = ["--base", "base", "--model", "tuned", "tuned", "--suite", "pairs.jsonl"];
    assert_eq!(refused(&eval(&bench, &twice)), "model `tuned` is given twice; name different models");
}

#[test]
fn r12_scores_that_are_not_finite_stop_the_evaluation() {
    let bench = bench();
    let weights = bench.path("base/model.safetensors");
    let mut bytes = fs_err::read(&weights).unwrap();
    let end = bytes.len();
    let other = bench.base("broken", &tiny_config()).join("model.safetensors");
    for value in bytes[end - 4096..].chunks_exact_mut(4) {
        value.copy_from_slice(&f32::MAX.to_le_bytes()); // a number, but no product with it is one
    }
    fs_err::write(other, bytes).unwrap();
    let arguments = ["--base", "base", "--model", "broken", "--suite", "pairs.jsonl", "--general", "none"];
    let error = refused(&eval(&bench, &arguments));
    assert!(error.contains("pairs.jsonl") && error.to_lowercase().contains("nan"), "{error}");
}

#[test]
fn r32_a_failed_gate_is_exit_code_3_and_the_report_is_whole() {
    let bench = bench();
    let of = |gate: &str, more: &[&str]| {
        let arguments = ["--base", "base", "--model", "base", "--output", "out", "--gate", gate];
        eval(&bench, &[&arguments[..], &SUITES, more].concat())
    };
    assert!(!success(&of("task>=0,general>-0.01", &[])).contains("gate"), "a base against itself loses nothing");
    let failed = of("general>=0,task>0", &[]);
    assert_eq!(failed.status.code(), Some(3));
    let text = String::from_utf8(failed.stdout).unwrap();
    assert!(text.contains("gate: failed: `task>0`: ") && failed.stderr.is_empty(), "{text}");
    let report = json_of(&bench, "out/report.json");
    assert!(report["gate"].as_str().unwrap().starts_with("gate: failed: `task>0`: "), "{}", report["gate"]);
    assert!(refused(&of("nowhere>0", &[])).starts_with("gate `nowhere>0`: no suite is named `nowhere`, only `"));
    assert_eq!(of("task=0", &[]).status.code(), Some(2), "wrong arguments");
}

/// Records whose prompts have 20 words each.
fn long_records(numbers: std::ops::Range<usize>) -> String {
    let line = |index: usize| {
        let prompt = (0..20).map(|word| format!("w{}", index * 7 + word * word)).collect::<Vec<_>>().join(" ");
        format!("{}\n", json!({"prompt": prompt, "completion": format!("is {index}")}))
    };
    numbers.map(line).collect()
}

#[test]
fn items_of_the_training_data_are_named_and_the_others_are_measured_alone() {
    let bench = Bench::new();
    bench.write("train.jsonl", long_records(0..12));
    bench.write("mixed.jsonl", long_records(9..18));
    bench.write("clean.jsonl", long_records(12..18));
    let mut request = bench.request(&[("evaluationData", "mixed.jsonl, clean.jsonl")]);
    request["customModelName"] = json!("tuned");
    let run = bench.run(&request).expect_success();
    let report = |name: &str| fs_err::read_to_string(run.job().folder.join("report").join(name)).unwrap();
    let whole: Value = serde_json::from_str(&report("report.json")).unwrap();
    let found = &whole["contamination"];
    assert_eq!(found[0]["shared"].as_array().unwrap().len(), 3, "{found}");
    assert!(found[0]["shared"][0]["place"].as_str().unwrap().ends_with("mixed.jsonl:1"));
    assert!(found[0]["shared"][0]["training"].as_str().unwrap().ends_with("train.jsonl:10"));
    assert_eq!(found[0]["all"], whole["task"][0]["measures"]);
    // the items of the other suite are those that are left
    assert_eq!(found[0]["clean"]["measures"], whole["task"][1]["measures"]);
    assert_eq!((&found[1]["shared"], &found[1]["clean"]), (&json!([]), &Value::Null));
    let warned = |event: &Value| event["message"].as_str().unwrap().starts_with("3 of 9 items of ");
    assert_eq!(run.job().events_of("warning").iter().filter(|event| warned(event)).count(), 1);
    assert!(
        report("report.html").contains("3 of 9 items share 13 words in a row")
            && report("report.md").contains("clean items")
    );
    // the same without the job, from the model's record; nothing is known of data that are gone
    let arguments =
        ["--base", "base", "--model", "tuned", "--suite", "mixed.jsonl", "--general", "none", "--output", "out"];
    assert!(success(&eval(&bench, &arguments)).contains("warning: 3 of 9 items of "));
    let own = json_of(&bench, "out/report.json")["contamination"].clone();
    assert_eq!((&own[0]["clean"]["measures"], own.as_array().unwrap().len()), (&found[0]["clean"]["measures"], 1));
    bench.write("train.jsonl", "");
    assert!(success(&eval(&bench, &arguments)).contains(" is gone or has changed: items in it aren't found"));
    assert_eq!(json_of(&bench, "out/report.json")["contamination"], json!([]));
}

#[test]
fn records_that_were_held_out_do_not_count_as_training_data() {
    let bench = Bench::new();
    bench.write("train.jsonl", long_records(0..12));
    let run = bench.completed(&[("evalPercentage", "25")]);
    let report = fs_err::read_to_string(run.job().folder.join("report/report.json")).unwrap();
    let found = serde_json::from_str::<Value>(&report).unwrap()["contamination"].clone();
    assert_eq!((&found[0]["items"], &found[0]["shared"]), (&json!(3), &json!([])), "{found}");
}
