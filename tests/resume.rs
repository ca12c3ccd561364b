//! A run that is killed or stopped and resumed is the run that never was (R25, R26); a resume under another plan is
//! refused (R27); damaged checkpoints are passed over (R18).
#![cfg(unix)]
#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod common;

use common::{Bench, Job, Run, records, tiny_config};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Steps of the runs here: 40 records, 2 a step, 2 epochs.
const STEPS: usize = 40;

/// A long job: shuffled, two epochs, a validation set, a checkpoint every three steps.
fn request(bench: &Bench, trainable: &str, seed: &str) -> Value {
    bench.write("train.jsonl", records(40));
    bench.write("validation.jsonl", records(45).lines().skip(40).map(|line| format!("{line}\n")).collect::<String>());
    let settings = [("trainable", trainable), ("seed", seed), ("batchSize", "2"), ("checkpointSteps", "3")];
    let mut request = bench.request(&settings);
    request["validationDataConfig"] = json!({"validators": [{"s3Uri": "validation.jsonl"}]});
    request
}

/// A base whose context holds the longest of the records.
fn bench() -> Bench {
    let bench = Bench::new();
    fs_err::remove_dir_all(bench.path("base")).unwrap();
    let mut config = tiny_config();
    config["max_position_embeddings"] = json!(512);
    bench.base("base", &config);
    bench
}

/// Steps of a job that runs.
fn steps_done(job: &Job) -> usize {
    job.events_of("step").len()
}

/// Starts `job.json` and gives the job's folder once it has done `steps` steps.
fn start(bench: &Bench, steps: usize) -> (common::Running, String) {
    let before = bench.jobs();
    let mut running = bench.start(&["job.json"]);
    let mut id = None;
    running.wait_until(|| {
        id = id.take().or_else(|| bench.jobs().into_iter().find(|job| !before.contains(job)));
        id.as_ref().is_some_and(|id| steps_done(&bench.job(id)) >= steps)
    });
    (running, id.unwrap())
}

fn resume(bench: &Bench, id: &str, more: &[&str]) -> Run {
    let mut run = bench.train(&[&["--resume", id], more].concat());
    run.job = Some(id.to_string());
    run
}

fn assert_same(resumed: &Job, whole: &Run, bench: &Bench) {
    let (resumed_measures, whole_measures) = (resumed.measures(), whole.job().measures());
    assert_eq!(resumed_measures, whole_measures);
    let numbers: Vec<f64> = resumed.steps("step");
    assert_eq!(numbers, (1..=STEPS).map(|step| step as f64).collect::<Vec<_>>(), "each step once");
    assert_eq!(common::hash(&resumed.delta(&bench.path("home"))), whole.delta_hash(), "the same model");
    for kind in ["planned", "coverage", "comparison", "completed"] {
        assert_eq!(resumed.events_of(kind).len(), 1, "{kind} once");
    }
    bench.assert_nothing_half_written();
}

/// Kills a run at each of these steps and resumes it to the end.
fn r25_r26_killed(trainable: &str, kills: &[usize]) {
    let bench = bench();
    let whole = bench.run(&request(&bench, trainable, "0")).expect_success();
    assert_eq!(whole.job().measures().iter().filter(|event| event["event"] == "validation").count(), 3);
    let (running, id) = start(&bench, kills[0]);
    let job = bench.job(&id);
    let mut killed = usize::from(running.kill());
    for &step in &kills[1..] {
        let mut running = bench.start(&["--resume", &id]);
        running.wait_until(|| steps_done(&job) >= step && !job.events_of("resumed").is_empty());
        killed += usize::from(running.kill());
    }
    assert!(killed > 0, "no kill met a running process");
    if job.events().last().unwrap()["event"] != "completed" {
        resume(&bench, &id, &[]).expect_success();
    }
    assert_same(&job, &whole, &bench);
    let cold = bench.run(&request(&bench, trainable, "1")).expect_success();
    assert_ne!(cold.delta_hash(), whole.delta_hash(), "another seed is another run");
    assert_ne!(cold.job().steps("loss"), whole.job().steps("loss"));
}

#[test]
fn r25_r26_a_killed_run_of_the_head_ends_as_one_that_was_not() {
    r25_r26_killed("head", &[1, 8, 17, 29]);
}

#[test]
fn r25_r26_a_killed_run_of_the_last_blocks_ends_as_one_that_was_not() {
    r25_r26_killed("last:2", &[3, 10, 20]);
}

#[test]
fn r25_r26_a_killed_run_of_all_weights_ends_as_one_that_was_not() {
    r25_r26_killed("all", &[5, 14, 22, 33]);
}

/// A run that overfits at once and stops early; its checkpoints don't fall on the epochs' ends.
fn overfitting(bench: &Bench, trainable: &str, ends: &[(&str, &str)]) -> Value {
    let mut request = request(bench, trainable, "0");
    let other = |line: &str| line.replace(" is ", " was not ") + "\n";
    bench.write("validation.jsonl", records(45).lines().skip(40).map(other).collect::<String>());
    let both = [("epochCount", "9"), ("learningRate", "0.05")];
    for (key, value) in both.iter().chain(ends) {
        request["hyperParameters"][*key] = json!(value);
    }
    request
}

/// The most that general text cost more than under the base, up to a step.
fn largest_rise(job: &Job, last: u64) -> String {
    let number = |event: &Value, key: &str| event[key].as_f64().unwrap();
    let early = job.events_of("monitor").into_iter().filter(|event| event["step"].as_u64().unwrap() <= last);
    let rises = early.map(|event| number(&event, "nll") - number(&event, "nll_base"));
    (rises.fold(1e-4, f64::max) + 1e-9).to_string()
}

/// What ended a run and what was kept of it.
fn ending(job: &Job) -> Vec<Value> {
    let kind = |event: &Value| ["stopped_early", "kept"].contains(&event["event"].as_str().unwrap());
    let strip = |mut event: Value| {
        event.as_object_mut().unwrap().remove("time");
        event
    };
    job.events().into_iter().filter(kind).map(strip).collect()
}

#[test]
fn r26_r19_a_killed_run_stops_early_and_keeps_what_one_that_was_not_does() {
    for (trainable, limited) in [("head", false), ("all", false), ("head", true), ("all", true)] {
        let bench = bench();
        let whole = match limited {
            false => bench.run(&overfitting(&bench, trainable, &[("earlyStoppingPatience", "2")])),
            true => {
                let prose = ("generalData", "s3://outcrop-examples/general/prose.txt");
                let rate = [("learningRate", "0.003"), ("schedule", "constant"), ("forgettingEvery", "7")];
                let watched = |limit| [&[prose, ("maxForgetting", limit)], &rate[..]].concat();
                let free = bench.run(&overfitting(&bench, trainable, &watched("100"))).expect_success();
                // what no look up to step 25 breaks
                bench.run(&overfitting(&bench, trainable, &watched(&largest_rise(&free.job(), 25))))
            }
        };
        let whole = whole.expect_success();
        let (end, last) = (ending(&whole.job()), steps_done(&whole.job()));
        assert!(end.len() == 2 && (28..180).contains(&last), "stopped and kept, {last} steps: {end:?}");
        let (running, id) = start(&bench, 8);
        assert!(running.kill());
        let job = bench.job(&id);
        for step in [last - 15, last - 5] {
            let mut running = bench.start(&["--resume", &id]);
            running.wait_until(|| steps_done(&job) >= step && !job.events_of("resumed").is_empty());
            running.kill();
        }
        if job.events().last().unwrap()["event"] != "completed" {
            resume(&bench, &id, &[]).expect_success();
        }
        let same = |when: &str| {
            assert_eq!(job.measures(), whole.job().measures(), "{trainable} {when}");
            assert_eq!(ending(&job), end, "{trainable} {when}");
            assert_eq!(common::hash(&job.delta(&bench.path("home"))), whole.delta_hash(), "{trainable} {when}");
        };
        same("killed while it trained");
        // as a kill between the stop and the saved model leaves it
        let model = job.delta(&bench.path("home")).parent().unwrap().to_path_buf();
        fs_err::remove_dir_all(model).unwrap();
        let log = fs_err::read_to_string(job.folder.join("events.jsonl")).unwrap();
        let (kept, _) = log.split_at(log.rfind("\"event\":\"kept\"").unwrap());
        fs_err::write(job.folder.join("events.jsonl"), kept).unwrap();
        resume(&bench, &id, &[]).expect_success();
        same("killed at its end");
    }
}

#[test]
fn r25_a_run_killed_before_its_first_checkpoint_begins_anew() {
    let bench = bench();
    let mut request = request(&bench, "all", "0");
    request["hyperParameters"]["checkpointSteps"] = json!("1000");
    let whole = bench.run(&request).expect_success();
    let (running, id) = start(&bench, 2);
    assert!(running.kill(), "the run was over too soon");
    assert!(bench.job(&id).checkpoints().iter().all(|name| name.starts_with('.')), "no checkpoint yet");
    resume(&bench, &id, &[]).expect_success();
    assert_same(&bench.job(&id), &whole, &bench);
}

#[test]
fn r26_ctrl_c_writes_a_checkpoint_and_the_resumed_run_is_the_same() {
    let bench = bench();
    let whole = bench.run(&request(&bench, "all", "0")).expect_success();
    let (running, id) = start(&bench, 4);
    running.signal("INT");
    let (code, stderr) = running.end();
    assert_eq!(code, Some(130), "{stderr}");
    assert!(stderr.contains("stopping after this step and a checkpoint; Ctrl-C again stops at once"), "{stderr}");
    let job = bench.job(&id);
    let step = steps_done(&job);
    let message = format!("error: stopped at step {step}; `outcrop train --resume {id}` goes on");
    assert!(stderr.trim_end().ends_with(&message), "{stderr}");
    assert_eq!(job.events().last().unwrap()["event"], "interrupted");
    assert!(job.checkpoints().contains(&format!("step-{step:08}")), "{:?}", job.checkpoints());
    let list = bench.outcrop().args(["jobs", "list"]).output().unwrap();
    assert!(String::from_utf8(list.stdout).unwrap().contains("Stopped"));
    let resumed = resume(&bench, &id, &[]).expect_success();
    assert!(resumed.stderr().contains(&format!("resumed after step {step}")), "{}", resumed.stderr());
    assert_same(&job, &whole, &bench);
}

#[test]
fn r25_a_stopped_run_resumes_bit_for_bit_with_every_optimizer_and_in_16_bits() {
    let cases: [(&str, &[(&str, &str)]); 5] = [
        ("adamw8bit", &[]),
        ("sgd", &[("learningRate", "0.1")]),
        ("lion", &[("learningRate", "0.001")]),
        ("adamw", &[("dtype", "bfloat16")]),
        ("adamw8bit", &[("dtype", "bfloat16")]),
    ];
    for (optimizer, more) in cases {
        let bench = bench();
        let mut request = request(&bench, "all", "0");
        request["hyperParameters"]["optimizer"] = json!(optimizer);
        more.iter().for_each(|(key, value)| request["hyperParameters"][*key] = json!(value));
        let whole = bench.run(&request).expect_success();
        let (running, id) = start(&bench, 7);
        running.signal("INT");
        assert_eq!(running.end().0, Some(130), "{optimizer} {more:?}");
        resume(&bench, &id, &[]).expect_success();
        assert_same(&bench.job(&id), &whole, &bench);
    }
}

#[test]
fn a_second_ctrl_c_stops_at_once() {
    let bench = Bench::new();
    // one step of this takes many seconds: the built-in base, all weights, 64 long records
    let line = json!({"prompt": "the river and the stone ".repeat(60), "completion": "winter"}).to_string();
    bench.write("train.jsonl", format!("{line}\n").repeat(64));
    let settings = [("trainable", "all"), ("batchSize", "64"), ("epochCount", "10")];
    let mut request = bench.request(&settings);
    request["baseModelIdentifier"] = json!("pebble");
    bench.write("job.json", request.to_string());
    let mut running = bench.start(&["job.json"]);
    let shards = bench.path("home/cache/shards");
    running.wait_until(|| common::files(&shards).iter().any(|file| file.ends_with("shard.safetensors")));
    running.signal("INT");
    std::thread::sleep(Duration::from_millis(300));
    assert!(!running.ended(), "the first Ctrl-C waits for the step");
    let begin = Instant::now();
    running.signal("INT");
    let (code, stderr) = running.end();
    assert_eq!(code, Some(130), "{stderr}");
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    assert!(!stderr.contains("stopped at step"), "{stderr}");
}

/// A job that Ctrl-C stopped.
fn stopped(bench: &Bench) -> String {
    bench.write("job.json", request(bench, "all", "0").to_string());
    let (running, id) = start(bench, 7);
    running.signal("INT");
    assert_eq!(running.end().0, Some(130));
    id
}

#[test]
fn r27_a_resume_under_another_plan_is_refused_and_changes_nothing() {
    let bench = bench();
    let id = stopped(&bench);
    let log = bench.job(&id).folder.join("events.jsonl");
    let refused = |more: &[&str]| {
        let before = fs_err::read_to_string(&log).unwrap();
        let message = resume(&bench, &id, more).error();
        assert_eq!(fs_err::read_to_string(&log).unwrap(), before, "the log stays");
        message
    };
    let message = refused(&["--set", "learningRate=0.02"]);
    assert_eq!(message, "the run can't go on with another plan: learningRate: `0.01` -> `0.02`");
    let message = refused(&["--set", "seed=3", "--set", "batchSize=4"]);
    assert!(message.contains("seed: `0` -> `3`") && message.contains("batchSize: `2` -> `4`"), "{message}");
    // the same for what lies outside the request: data and base
    let data = fs_err::read_to_string(bench.path("train.jsonl")).unwrap();
    bench.write("train.jsonl", data.replacen("river", "winter", 1));
    assert!(refused(&[]).contains("trainingData: "));
    bench.write("train.jsonl", data);
    bench.write("base/generation_config.json", "{}");
    assert!(refused(&[]).contains("base: "));
    fs_err::remove_file(bench.path("base/generation_config.json")).unwrap();
    resume(&bench, &id, &["--set", "keepCheckpoints=3"]).expect_success();
    assert_eq!(bench.job(&id).steps("step").len(), STEPS);
    let best = bench.job(&id).checkpoints().len();
    assert!((3..=4).contains(&best), "three of the latest, and the best: {:?}", bench.job(&id).checkpoints());
}

#[test]
fn r27_a_killed_run_stays_resumable_after_a_refused_resume() {
    let bench = bench();
    bench.write("job.json", request(&bench, "head", "0").to_string());
    let (running, id) = start(&bench, 7);
    assert!(running.kill(), "the run was over too soon");
    let log = bench.job(&id).folder.join("events.jsonl");
    let before = fs_err::read_to_string(&log).unwrap();
    resume(&bench, &id, &["--set", "learningRate=0.02"]).error();
    assert_eq!(fs_err::read_to_string(&log).unwrap(), before, "the log stays");
    resume(&bench, &id, &[]).expect_success();
}

#[test]
fn r18_a_damaged_checkpoint_is_passed_over_aloud() {
    let bench = bench();
    let whole = bench.run(&request(&bench, "all", "0")).expect_success();
    let id = stopped(&bench);
    let job = bench.job(&id);
    let newest = job.checkpoints().pop().unwrap();
    let file = job.folder.join("checkpoints").join(&newest).join("weights.safetensors");
    let mut bytes = fs_err::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs_err::write(&file, bytes).unwrap();
    let stderr = resume(&bench, &id, &[]).expect_success().stderr();
    let message = format!("{newest}: `weights.safetensors` is damaged: its hash is not the manifest's");
    assert!(stderr.contains("warning: checkpoint passed over: ") && stderr.contains(&message), "{stderr}");
    assert_same(&job, &whole, &bench);
}

#[test]
fn a_completed_job_an_unknown_one_and_a_strange_id_are_told_apart() {
    let bench = Bench::new();
    let mut request = bench.request(&[]);
    request["customModelName"] = json!("done");
    let run = bench.run(&request).expect_success();
    let message = resume(&bench, run.id(), &[]).error();
    assert_eq!(message, format!("job `{}` is completed; its model is `done`", run.id()));
    assert!(resume(&bench, "abcdefghijk1", &[]).error().ends_with("is no job folder: it has no request.json"));
    let message = resume(&bench, "../../etc", &[]).error();
    assert_eq!(message, "`../../etc` is no id; an id is 12 lower-case letters and digits");
}

#[test]
fn a_second_run_in_a_locked_job_folder_is_refused() {
    let bench = bench();
    bench.write("job.json", request(&bench, "all", "0").to_string());
    let (running, id) = start(&bench, 1);
    let pid = running.pid();
    running.signal("STOP"); // it holds the folder for as long as this test looks
    let run = resume(&bench, &id, &[]);
    let folder = bench.job(&id).folder;
    let expected = format!("the job in `{}` is being run by process {pid}; wait for it or stop it", folder.display());
    assert_eq!(
        (run.output.status.code(), common::error_of(&run.stderr())),
        (Some(75), expected),
        "the code of a held job"
    );
    running.signal("CONT");
    assert_eq!(running.end().0, Some(0), "the first run doesn't notice");
}
