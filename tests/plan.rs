//! `outcrop plan` from outside: it says what a job would, leaves nothing of it, and a rehearsal really trains (R24).
#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod common;

use common::{Bench, error_of, names, records};

/// A job of 60 steps.
fn bench() -> Bench {
    let bench = Bench::new();
    bench.write("train.jsonl", records(20));
    bench.write("job.json", bench.request(&[("epochCount", "6"), ("batchSize", "2")]).to_string());
    bench
}

fn plan(bench: &Bench, arguments: &[&str]) -> String {
    let output = bench.outcrop().args(["plan", "job.json"]).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(bench.jobs().is_empty() && names(&bench.path("home/models")).is_empty(), "nothing of a job stays");
    assert!(names(&bench.path("home")).iter().all(|name| !name.starts_with('.')), "{:?}", names(&bench.path("home")));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn r24_a_plan_says_what_the_job_would_and_leaves_nothing_of_it() {
    let bench = bench();
    let text = plan(&bench, &[]);
    for part in ["60 (10 an epoch, batch 2)", "memory", "measured on three of them"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("cost") && !text.contains("rehearsed"), "{text}");
    assert!(plan(&bench, &["--price-per-hour", "3600 EUR"]).contains("EUR for the steps, at 3600 EUR an hour"));
    assert!(plan(&bench, &["--set", "batchSize=5"]).contains("24 (4 an epoch, batch 5)"));
    assert!(plan(&bench, &["--no-feature-cache"]).contains("the trunk runs in every epoch"));
    assert!(plan(&bench, &["--device", "cpu"]).contains("on cpu"));
    let output = bench.outcrop().args(["plan", "job.json", "--set", "learningRate=x"]).output().unwrap();
    assert!(error_of(&String::from_utf8(output.stderr).unwrap()).contains("learningRate"));
    let run = bench.train(&["job.json"]).expect_success();
    assert_eq!(run.job().plan()["steps"]["total"], 60);
}

#[test]
fn r24_a_rehearsal_trains_its_share_and_warns_of_a_rate_that_diverges() {
    let bench = bench();
    let text = plan(&bench, &["--rehearse", "1%"]);
    assert!(text.contains("rehearsed 20 of 60 steps") && text.contains("(95 % interval)"), "at least twenty: {text}");
    assert!(text.contains("no sign that 0.01 diverges"), "{text}");
    let text = plan(&bench, &["--rehearse", "50%", "--price-per-hour", "2"]);
    assert!(text.contains("rehearsed 30 of 60 steps") && text.contains("cost "), "{text}");
    assert!(plan(&bench, &["--rehearse", "100%"]).contains("rehearsed 60 of 60 steps"));
    let text = plan(&bench, &["--rehearse", "100%", "--set", "learningRate=1"]);
    assert!(text.contains("warning: learning rate 1 diverges: "), "{text}");
    for share in ["0%", "101%", "-1%", "some"] {
        let output = bench.outcrop().args(["plan", "job.json", &format!("--rehearse={share}")]).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{share}");
    }
}
