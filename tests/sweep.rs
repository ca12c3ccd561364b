//! `outcrop sweep` from outside: every trial is the job it would be alone, bit for bit; kills, stops, losers, bad input.
#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod common;

use common::weights::break_token;
use common::{BINARY, Bench, Job, PATIENCE, Running, command, error_of, names, records, repository, tiny_config};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Output, Stdio};

/// A finished `outcrop sweep`.
struct Swept {
    folder: PathBuf,
    output: Output,
}

impl Swept {
    fn expect_success(self) -> Self {
        assert!(self.output.status.success(), "{}\n{}", self.stdout(), self.stderr());
        self
    }

    fn stdout(&self) -> String {
        String::from_utf8(self.output.stdout.clone()).unwrap()
    }

    fn stderr(&self) -> String {
        String::from_utf8(self.output.stderr.clone()).unwrap()
    }

    fn plan(&self) -> Value {
        read_json(&self.folder.join("plan.json"))
    }

    /// The results, by number.
    fn results(&self) -> Vec<Value> {
        results(&self.folder)
    }

    fn report(&self, name: &str) -> String {
        fs_err::read_to_string(self.folder.join("report").join(name)).unwrap()
    }

    /// The values of what varies of each trial, and the hash of its model.
    fn hashes(&self) -> BTreeMap<String, String> {
        let plan = self.plan();
        let settings = |result: &Value| plan["trials"][number(result) - 1]["settings"].to_string();
        self.results().iter().map(|result| (settings(result), result["deltaHash"].as_str().unwrap().into())).collect()
    }
}

fn number(result: &Value) -> usize {
    result["trial"].as_u64().unwrap() as usize
}

fn read_json(path: &std::path::Path) -> Value {
    serde_json::from_str(&fs_err::read_to_string(path).unwrap()).unwrap()
}

fn results(folder: &std::path::Path) -> Vec<Value> {
    let text = fs_err::read_to_string(folder.join("trials.jsonl")).unwrap_or_default();
    let mut results: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    results.sort_by_key(number);
    results
}

/// A bench with a validation and a test set of their own.
fn bench() -> Bench {
    let bench = Bench::new();
    let lines: Vec<String> = records(36).lines().map(|line| format!("{line}\n")).collect();
    bench.write("validation.jsonl", lines[12..24].concat());
    bench.write("test.jsonl", lines[24..].concat());
    bench
}

/// A sweep of the tiny base with these hyperparameters beside the bench's.
fn request(bench: &Bench, hyper_parameters: &Value) -> Value {
    let mut request = bench.request(&[]);
    request["validationDataConfig"] = json!({"validators": [{"s3Uri": "validation.jsonl"}]});
    for (key, value) in hyper_parameters.as_object().unwrap() {
        request["hyperParameters"][key] = value.clone();
    }
    request
}

fn sweep(bench: &Bench, request: &Value, arguments: &[&str]) -> Swept {
    bench.write("sweep.json", request.to_string());
    run(bench, &[&["sweep.json"], arguments].concat())
}

fn run(bench: &Bench, arguments: &[&str]) -> Swept {
    let output = bench.outcrop().arg("sweep").args(arguments).output().unwrap();
    let id = names(&bench.path("home/sweeps")).pop().unwrap_or_default();
    Swept { folder: bench.path("home/sweeps").join(id), output }
}

/// The error of a sweep that must leave nothing behind.
fn refused(bench: &Bench, request: &Value, arguments: &[&str]) -> String {
    let swept = sweep(bench, request, arguments);
    assert_eq!(swept.output.status.code(), Some(1), "{}\n{}", swept.stdout(), swept.stderr());
    assert!(names(&bench.path("home/sweeps")).is_empty(), "{}", swept.stderr());
    assert!(bench.jobs().is_empty() && names(&bench.path("home/models")).is_empty(), "{}", swept.stderr());
    error_of(&swept.stderr())
}

fn start(bench: &Bench, arguments: &[&str]) -> Running {
    let mut command = std::process::Command::new(BINARY);
    command.env("OUTCROP_HOME", bench.path("home")).env("HOME", bench.path("nobody")).env("HF_HOME", bench.path("hub"));
    command.env_remove("RUST_BACKTRACE").current_dir(bench.path(""));
    command.arg("sweep").args(arguments).stdout(Stdio::null()).stderr(Stdio::piped());
    Running::of(command.spawn().unwrap())
}

/// Prefixes of a constant rate, branches of `wsd`, runs apart of `linear`; two batch sizes.
#[test]
fn every_trial_is_the_job_alone_bit_for_bit_and_side_by_side_too() {
    let bench = bench();
    let lists = json!({
        "schedule": ["constant", "wsd", "linear"], "epochCount": ["1", "2", "3"], "batchSize": ["2", "5"],
        "learningRateWarmupSteps": "2"
    });
    let request = request(&bench, &lists);
    let swept = sweep(&bench, &request, &["--at-a-time", "1"]).expect_success();
    let plan = swept.plan();
    let runs = plan["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 2 + 2 + 6, "{runs:?}");
    assert!(plan["trainedEpochs"].as_f64().unwrap() < plan["trialEpochs"].as_f64().unwrap());
    assert_eq!(plan["trialEpochs"], json!(3.0 * 2.0 * 6.0));
    let hashes = swept.hashes();
    assert_eq!(hashes.len(), 18);
    for trial in plan["trials"].as_array().unwrap() {
        let mut alone = request.clone();
        for (key, value) in trial["settings"].as_object().unwrap() {
            alone["hyperParameters"][key] = value.clone();
        }
        let job = bench.run(&alone).expect_success();
        let settings = trial["settings"].to_string();
        assert_eq!(hashes[&settings], job.delta_hash(), "{settings}");
        let own = bench.job(trial["jobId"].as_str().unwrap());
        assert_eq!(own.steps("loss"), job.job().steps("loss"), "{settings}: the whole curve is in its log");
        assert_eq!(own.steps("learning_rate"), job.job().steps("learning_rate"), "{settings}");
        let losses =
            |job: &Job| -> Vec<Value> { job.events_of("validation").iter().map(|e| e["loss"].clone()).collect() };
        assert_eq!(losses(&own), losses(&job.job()), "{settings}");
        assert!(own.checkpoints().is_empty(), "a finished trial keeps none");
    }
    let beside = bench_again(&bench, &request, &["--at-a-time", "3"]);
    assert_eq!(beside.hashes(), hashes, "side by side");
    bench.assert_nothing_half_written();
}

/// The same sweep in another home.
fn bench_again(bench: &Bench, request: &Value, arguments: &[&str]) -> Swept {
    let home = bench.path("other");
    bench.write("again.json", request.to_string());
    let mut command = bench.outcrop();
    let output = command.env("OUTCROP_HOME", &home).args(["sweep", "again.json"]).args(arguments).output().unwrap();
    let id = names(&home.join("sweeps")).pop().unwrap();
    Swept { folder: home.join("sweeps").join(id), output }.expect_success()
}

#[test]
fn the_winner_alone_is_judged_on_the_test_set_and_every_trial_is_an_ordinary_job() {
    let bench = bench();
    let lists = json!({
        "learningRate": ["0.0001", "0.01"], "seed": ["1", "2"], "evaluationData": "test.jsonl", "schedule": "constant",
        "generalData": repository().join("datasets/general/prose.txt").to_str().unwrap()
    });
    let swept = sweep(&bench, &request(&bench, &lists), &[]).expect_success();
    let (stdout, results) = (swept.stdout(), swept.results());
    assert_eq!(results.len(), 4);
    let best = results.iter().min_by(|a, b| last_loss(a).total_cmp(&last_loss(b))).unwrap();
    assert!(stdout.starts_with(" sweep "), "{stdout}");
    assert!(stdout.contains(&format!("selected: trial {}, learningRate 0.01", best["trial"])), "{stdout}");
    assert!(stdout.contains("the lowest, on validation.jsonl"), "{stdout}");
    assert!(stdout.contains("task measured on test.jsonl, which selection never saw"), "{stdout}");
    assert!(stdout.contains("between seeds the validation loss has a standard deviation of"), "{stdout}");
    let verdict = read_json(&swept.folder.join("report/verdict.json"));
    assert_eq!(verdict["task"].as_array().unwrap().len(), 1);
    assert!(verdict["task"][0]["path"].as_str().unwrap().ends_with("test.jsonl"));
    let winner = read_json(&swept.folder.join("report/winner/report.json"));
    assert_eq!(
        (&winner["headline"], &winner["task"]),
        (&verdict["headline"], &verdict["task"]),
        "R32: the full report"
    );
    assert_eq!(winner["model"]["name"], best["model"]);
    assert!(winner["suites"][0]["items"].as_array().is_some_and(|items| !items.is_empty()));
    assert!(winner["curves"]["training"].as_array().is_some_and(|steps| !steps.is_empty()));
    let page = fs_err::read_to_string(swept.folder.join("report/winner/report.html")).unwrap();
    assert!(page.contains("task measured on evaluationData, which selection never saw"), "{page}");
    assert!(stdout.contains("winner/report.html"), "{stdout}");
    for result in &results {
        let job = Job { folder: result["job"].as_str().unwrap().into() };
        let request = read_json(&job.folder.join("request.json"));
        assert_eq!(request["hyperParameters"]["evaluationData"], Value::Null, "no trial sees the test set");
        let comparison = &job.events_of("comparison")[0]["comparison"];
        assert!(comparison["task"][0]["path"].as_str().unwrap().ends_with("validation.jsonl"), "{comparison}");
    }
    let model = best["model"].as_str().unwrap();
    bench.outcrop().args(["generate", "--max-tokens", "3", "--prompt", "line", "--model", model]).assert().success();
    bench.outcrop().args(["models", "export", model, "exported"]).assert().success();
    check_files(&swept, &results);
    let list = |arguments: &[&str]| {
        let output = bench.outcrop().args(["jobs", "list"]).args(arguments).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(list(&[]).lines().count(), 2, "{}", list(&[]));
    assert!(list(&[]).contains("4/4 trials") && list(&[]).contains("Completed"), "{}", list(&[]));
    assert_eq!(list(&["--trials"]).lines().count(), 6, "{}", list(&["--trials"]));
}

fn last_loss(result: &Value) -> f64 {
    result["validation"].as_array().unwrap().last().unwrap()["loss"].as_f64().unwrap()
}

/// The table has a line a trial; the page needs nothing from elsewhere.
fn check_files(swept: &Swept, results: &[Value]) {
    let csv = swept.report("sweep.csv");
    let header: Vec<&str> = csv.lines().next().unwrap().split(',').collect();
    assert_eq!(csv.lines().count(), 1 + results.len(), "{csv}");
    let column =
        |name: &str| header.iter().position(|column| *column == name).unwrap_or_else(|| panic!("{name}: {csv}"));
    let (loss, selected) = (column("validationLoss"), column("selected"));
    let rows: Vec<Vec<&str>> = csv.lines().skip(1).map(|line| line.split(',').collect()).collect();
    for (row, result) in rows.iter().zip(results) {
        assert_eq!(row[loss].parse::<f64>().unwrap(), last_loss(result), "every digit");
    }
    assert_eq!(rows.iter().filter(|row| row[selected] == "true").count(), 1);
    let page = swept.report("sweep.html");
    assert_eq!(page.matches("<svg").count(), 4, "heatmap, two curves, learnt against forgotten");
    assert!(page.contains("Spread between seeds") && page.contains("over all settings"), "{page}");
    for outside in ["http:", "https:", "<script", "src=", "@import", "url("] {
        assert!(!page.contains(outside), "the page needs {outside}");
    }
    let models = swept.plan()["modelsBytes"].as_u64().unwrap();
    assert_eq!(models, results.len() as u64 * 512 * 32 * 4);
}

#[test]
fn r25_a_killed_sweep_goes_on_with_finished_trials_kept() {
    let bench = bench();
    let lists = json!({
        "learningRate": ["0.001", "0.003", "0.01"], "epochCount": ["1", "2", "4"], "batchSize": "1",
        "schedule": "constant"
    });
    let request = request(&bench, &lists);
    let whole = bench_again(&bench, &request, &["--at-a-time", "1"]);
    bench.write("sweep.json", request.to_string());
    let mut running = start(&bench, &["sweep.json", "--at-a-time", "1"]);
    let folder = || bench.path("home/sweeps").join(names(&bench.path("home/sweeps")).pop().unwrap_or_default());
    running.wait_until(|| results(&folder()).len() >= 4);
    assert!(running.kill(), "it was still at work");
    let kept = results(&folder());
    assert!((4..9).contains(&kept.len()), "{}", kept.len());
    let list = bench.outcrop().args(["jobs", "list"]).output().unwrap();
    assert!(String::from_utf8(list.stdout).unwrap().contains("resume it"));
    let models = |results: &[Value]| -> Vec<Value> {
        let record = |result: &Value| {
            let name = result["model"].as_str().unwrap();
            let models = bench.path("home/models");
            let all = names(&models).into_iter().filter(|name| name != "lock");
            let records: Vec<Value> = all
                .map(|id| models.join(id).join("model.json"))
                .filter(|p| p.is_file())
                .map(|p| read_json(&p))
                .collect();
            let record = records.into_iter().find(|record| record["name"] == name).unwrap();
            json!([record["id"], record["created"], record["deltaHash"]])
        };
        results.iter().map(record).collect()
    };
    let before = models(&kept);
    let id = folder().file_name().unwrap().to_str().unwrap().to_string();
    let swept = run(&bench, &["--resume", &id]).expect_success();
    assert_eq!(swept.hashes(), whole.hashes());
    let after: Vec<Value> = kept.iter().map(|kept| swept.results()[number(kept) - 1].clone()).collect();
    assert_eq!(after, kept, "finished trials stay as they are");
    assert_eq!(models(&after), before);
    assert_eq!(bench.jobs().len(), 9, "no job is left over");
    bench.assert_nothing_half_written();
    let again = run(&bench, &["--resume", &id]).expect_success();
    assert_eq!(again.hashes(), whole.hashes(), "a finished sweep trains nothing more");
    bench.write("train.jsonl", records(11));
    let changed = run(&bench, &["--resume", &id]);
    let message = error_of(&changed.stderr());
    assert!(message.starts_with("the sweep can't go on with another plan"), "R27: {message}");
}

#[test]
fn a_stopped_sweep_says_how_to_go_on() {
    let bench = bench();
    let lists = json!({"learningRate": ["0.001", "0.01"], "epochCount": ["5", "10"], "batchSize": "1"});
    let request = request(&bench, &lists);
    let whole = bench_again(&bench, &request, &[]);
    bench.write("sweep.json", request.to_string());
    let mut running = start(&bench, &["sweep.json"]);
    let folder = || bench.path("home/sweeps").join(names(&bench.path("home/sweeps")).pop().unwrap_or_default());
    running.wait_until(|| !results(&folder()).is_empty());
    running.signal("INT");
    let (code, stderr) = running.end();
    assert_eq!(code, Some(130), "{stderr}");
    let id = folder().file_name().unwrap().to_str().unwrap().to_string();
    assert!(stderr.contains(&format!("of 4 trials done; `outcrop sweep --resume {id}` goes on")), "{stderr}");
    assert!(results(&folder()).len() < 4);
    let swept = run(&bench, &["--resume", &id]).expect_success();
    assert_eq!(swept.hashes(), whole.hashes());
}

#[test]
fn losers_stop_early_where_asked_and_only_there() {
    let bench = bench();
    let lists = json!({"learningRate": ["0.01", "0.000001"], "epochCount": "4"});
    let request = request(&bench, &lists);
    let all = bench_again(&bench, &request, &[]);
    assert!(all.results().iter().all(|result| result["status"] == "completed"), "off by default");
    let swept = sweep(&bench, &request, &["--stop-losers", "0.05"]).expect_success();
    let results = swept.results();
    assert_eq!((&results[0]["status"], &results[1]["status"]), (&json!("completed"), &json!("stopped")));
    assert_eq!(results[0]["deltaHash"], all.results()[0]["deltaHash"]);
    let reason = results[1]["reason"].as_str().unwrap();
    assert!(reason.starts_with("stopped early at step 3: behind trial 1 by"), "{reason}");
    assert!(reason.contains("over 12 validation items (Wilcoxon signed-rank, one-sided p ="), "{reason}");
    let job = Job { folder: results[1]["job"].as_str().unwrap().into() };
    assert_eq!(job.steps("loss").len(), 3, "one epoch of four");
    assert!(job.events_of("warning").iter().any(|event| event["message"] == reason), "it is logged");
    assert!(swept.stdout().contains(reason) && swept.report("sweep.html").contains("behind trial 1"));
}

/// The trials whose first steps hold a record that the base can't take.
#[test]
fn r12_a_trial_that_diverges_is_recorded_and_the_sweep_goes_on() {
    let bench = bench();
    fs_err::remove_dir_all(bench.path("base")).unwrap();
    let mut config = tiny_config();
    config["tie_word_embeddings"] = json!(false); // the broken row is no output's
    bench.base("base", &config);
    let tokenizer = read_json(&bench.path("base/tokenizer.json"));
    let tilde = tokenizer["model"]["vocab"]["~"].as_u64().unwrap() as usize;
    break_token(&bench.path("base"), tilde);
    let poison = json!({"prompt": "~", "completion": "stone"}).to_string();
    bench.write("train.jsonl", format!("{}{poison}\n", records(11)));
    let lists = json!({"seed": ["0", "1", "2", "3", "4", "5"], "batchSize": "2", "maxSteps": "3"});
    let swept = sweep(&bench, &request(&bench, &lists), &[]).expect_success();
    let results = swept.results();
    let of = |status: &str| results.iter().filter(|result| result["status"] == status).count();
    assert!(of("completed") > 0 && of("diverged") > 0 && of("completed") + of("diverged") == 6, "{results:?}");
    let diverged = results.iter().find(|result| result["status"] == "diverged").unwrap();
    let reason = diverged["reason"].as_str().unwrap();
    assert!(reason.contains("loss NaN") && reason.contains("train.jsonl:12"), "{reason}");
    assert_eq!(diverged["model"], Value::Null);
    assert!(swept.stdout().contains("diverged at step"), "{}", swept.stdout());
    let chosen = swept.report("sweep.csv").lines().filter(|line| line.contains(",completed,true,")).count();
    assert_eq!(chosen, 1, "the winner is one that came to its end");
}

#[test]
fn what_cannot_be_swept_is_refused_in_one_line_and_leaves_nothing() {
    let bench = bench();
    let with = |lists: Value| request(&bench, &lists);
    let rates = json!({"learningRate": ["0.001", "0.01"]});
    let mut blind = with(rates.clone());
    blind.as_object_mut().unwrap().remove("validationDataConfig");
    for (request, part) in [
        (blind, "a sweep selects its winner on validation data; give validationDataConfig, or evalPercentage"),
        (with(json!({"learningRate": ["0.01", "1e-2"]})), "hyperParameters.learningRate has a value twice"),
        (with(json!({"learningRate": ["0.01", "0"]})), "a sweep's learning rates are above 0"),
        (with(json!({"epochCount": []})), "hyperParameters.epochCount is an empty list"),
        (with(json!({"trainable": ["head", "all"]})), "hyperParameters.trainable can't be a list"),
        (with(json!({"epochCount": ["1", "99"]})), "hyperParameters.epochCount is `99`, allowed are"),
        (with(json!({"seed": "1"})), "the sweep varies nothing"),
        (
            with(json!({"learningRate": ["0.001", "0.01"], "evaluationData": "validation.jsonl"})),
            "which selection sees",
        ),
        (with(json!({"learningRate": ["0.001", "0.01"], "evaluationData": "missing.jsonl"})), "missing.jsonl"),
        (with(json!({"learningRate": ["0.001", "0.01"], "customModelName": "x"})), "unknown hyperparameter"),
    ] {
        let message = refused(&bench, &request, &[]);
        assert!(message.contains(part) && !message.contains('\n'), "{message}");
    }
    let message = refused(&bench, &with(rates), &["--set", "learningRate=0.1,0.10"]);
    assert!(message.contains("has a value twice"), "{message}");
    let unknown = run(&bench, &["--resume", "abcdefghijkl"]);
    assert!(error_of(&unknown.stderr()).contains("there is no sweep `abcdefghijkl`"));
}

#[test]
fn a_held_out_share_selects_too() {
    let bench = bench();
    let mut request = request(&bench, &json!({"learningRate": ["0.001", "0.01"], "evalPercentage": "25"}));
    request.as_object_mut().unwrap().remove("validationDataConfig");
    let swept = sweep(&bench, &request, &[]).expect_success();
    assert!(swept.stdout().contains("the lowest, on 25 % of train.jsonl"), "{}", swept.stdout());
    assert!(swept.stdout().contains("no verdict: without evaluationData"), "{}", swept.stdout());
    assert!(swept.report("sweep.html").contains("No test set"));
}

/// Two steps of each trial of the example, from a folder that is not the repository.
#[test]
fn the_example_runs_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = command(folder.path());
    command.arg("sweep").arg(repository().join("configs/sweep.json")).args(["--set", "maxSteps=2"]);
    let output = command.timeout(PATIENCE).output().unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{stdout}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(stdout.contains("12: 4 learningRate x 3 epochCount"), "{stdout}");
    assert_eq!(names(folder.path()), ["home"]);
}
