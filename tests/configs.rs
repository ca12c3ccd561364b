//! Every file of configs/ runs as it is, from a folder that is not the repository, and leaves what it says it leaves.
#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod common;

use common::{Bench, Job, can_unshare, command, files, hash, names, repository};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Output;

/// Optimizer steps of each config here; the whole runs take a minute and are what README shows.
const STEPS: u64 = 6;

const TRAINING_CSV: &str = "training_artifacts/step_wise_training_metrics.csv";
const VALIDATION_CSVS: [&str; 2] = [
    "validation_artifacts/post_fine_tuning_validation/validation/validation_metrics.csv",
    "validation_artifacts/post_fine_tuning_validation/validation_metrics.csv",
];

/// The requests of configs/, by name.
fn configs() -> Vec<PathBuf> {
    let folder = repository().join("configs");
    let found: Vec<PathBuf> = names(&folder).iter().map(|name| folder.join(name)).collect();
    assert!(found.iter().any(|path| path.ends_with("sentiment.json")), "{found:?}");
    let found: Vec<PathBuf> = found.into_iter().filter(|path| !path.ends_with("sweep.json")).collect(); // tests/sweep.rs
    found
}

/// Runs a config from an empty folder.
fn train(folder: &Path, config: &Path) -> (Output, Job) {
    let steps = format!("maxSteps={STEPS}");
    let output = command(folder).arg("train").arg(config).args(["--set", &steps]).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{out}\n{err}", config.display());
    let jobs = folder.join("home/jobs");
    let id = names(&jobs).pop().unwrap();
    (output, Job { folder: jobs.join(id) })
}

/// The value of the last line that begins with `name`.
fn last_line<'a>(text: &'a str, name: &str) -> &'a str {
    let line = text.lines().rev().take(6).find_map(|line| line.strip_prefix(name));
    line.unwrap_or_else(|| panic!("no `{name}` among the last lines of\n{text}")).trim()
}

#[test]
fn every_config_runs_from_any_folder_and_leaves_its_report_its_metrics_and_its_model() {
    for config in configs() {
        let folder = tempfile::tempdir().unwrap();
        let (output, job) = train(folder.path(), &config);
        let stdout = String::from_utf8(output.stdout).unwrap();
        let report = Path::new(last_line(&stdout, "report "));
        let curve = Path::new(last_line(&stdout, "curve "));
        let metrics = Path::new(last_line(&stdout, "metrics "));
        let model = last_line(&stdout, "model ");
        assert_eq!(names(folder.path()), ["home"], "everything is below home");
        check_report(&report.with_extension("md"), &stdout);
        let drawing = fs_err::read_to_string(curve).unwrap();
        assert!(drawing.trim_start().starts_with("<?xml") || drawing.trim_start().starts_with("<svg"), "{drawing:.80}");
        let id = job.folder.file_name().unwrap().to_str().unwrap();
        check_metrics(&metrics.join(format!("model-customization-job-{id}")), &job);
        check_tensorboard(&job.folder.join("tensorboard"));
        let (name, model_id) = model.trim_end_matches(')').split_once(" (").unwrap();
        check_model(&folder.path().join("home/models").join(model_id), name, &job);
        let mut generate = command(folder.path());
        generate.args(["generate", "--max-tokens", "4", "--prompt", "The", "--model", name]).assert().success();
    }
}

/// A few steps on the sentiment data with each optimizer: the validation loss falls, and falls the same way again.
#[test]
fn every_optimizer_trains_the_sentiment_config_the_same_way_twice() {
    let config = repository().join("configs/sentiment.json");
    let cases = [("adamw", "0.001"), ("adamw8bit", "0.001"), ("sgd", "0.3"), ("lion", "0.0003")];
    for (optimizer, rate) in cases {
        let losses = || {
            let folder = tempfile::tempdir().unwrap();
            let settings =
                [("optimizer", optimizer), ("learningRate", rate), ("evaluationData", "none"), ("generalData", "none")];
            let settings = settings.map(|(key, value)| format!("{key}={value}"));
            let mut arguments = vec!["--set", "maxSteps=12"];
            settings.iter().for_each(|setting| arguments.extend(["--set", setting]));
            let output = command(folder.path()).arg("train").arg(&config).args(arguments).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            let jobs = folder.path().join("home/jobs");
            let job = Job { folder: jobs.join(names(&jobs).pop().unwrap()) };
            let loss = |event: &Value| event["loss"].as_f64().unwrap();
            let validation: Vec<f64> = job.events_of("validation").iter().map(loss).collect();
            (validation, job.steps("loss"))
        };
        let (validation, steps) = losses();
        println!("{optimizer}: validation loss {validation:?}");
        assert_eq!(validation.len(), 2, "before and behind");
        assert!(validation[1] < 0.97 * validation[0], "{optimizer}: {validation:?} {steps:?}");
        assert_eq!(losses(), (validation, steps), "{optimizer}");
    }
}

/// R32: the verdict comes first, in every form; both the task and general knowledge were measured.
fn check_report(path: &Path, stdout: &str) {
    let markdown = fs_err::read_to_string(path).unwrap();
    let json: Value = serde_json::from_str(&fs_err::read_to_string(path.with_extension("json")).unwrap()).unwrap();
    let headline = json["headline"].as_str().unwrap();
    let plain = |text: &str| text.replace('\\', "");
    assert_eq!(plain(markdown.lines().next().unwrap()), headline);
    let begin: String = headline.chars().take(20).collect();
    assert!(stdout.contains(&format!("\n\n{begin}")), "{begin} begins a paragraph of\n{stdout}");
    assert!(headline.contains("general: ") && !headline.contains("not measured"), "{headline}");
    let suites = |kind: &str| -> Vec<String> {
        json[kind].as_array().unwrap().iter().map(|suite| suite["name"].as_str().unwrap().to_string()).collect()
    };
    assert_eq!(suites("general"), ["general/items", "general/prose"]);
    assert!(!suites("task").is_empty());
    assert!(stdout.contains("task measured on evaluationData"), "{stdout}");
}

fn check_metrics(folder: &Path, job: &Job) {
    let training = fs_err::read_to_string(folder.join(TRAINING_CSV)).unwrap();
    let mut lines = training.lines();
    assert_eq!(lines.next(), Some("step_number,epoch_number,training_loss,perplexity"));
    let losses: Vec<f64> = lines.map(|line| line.split(',').nth(2).unwrap().parse().unwrap()).collect();
    assert_eq!(losses, job.steps("loss"), "one row a step, with the loss of its event");
    assert_eq!(losses.len() as u64, STEPS);
    for file in VALIDATION_CSVS {
        let text = fs_err::read_to_string(folder.join(file)).unwrap();
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some("step_number,epoch_number,validation_loss,perplexity"));
        assert!(lines.count() >= 1, "{file}: {text}");
    }
    assert_eq!(files(folder).len(), 3, "nothing else");
}

fn check_tensorboard(folder: &Path) {
    let file = names(folder).into_iter().find(|name| name.starts_with("events.out.tfevents.")).unwrap();
    let bytes = fs_err::read(folder.join(file)).unwrap();
    let version = b"brain.Event:2";
    assert!(bytes.windows(version.len()).any(|window| window == version), "TensorBoard's first record");
    assert!(bytes.len() > 100 * STEPS as usize);
}

fn check_model(folder: &Path, name: &str, job: &Job) {
    let record: Value = serde_json::from_str(&fs_err::read_to_string(folder.join("model.json")).unwrap()).unwrap();
    assert_eq!(record["name"], name);
    assert_eq!(record["deltaHash"], hash(&folder.join("delta.safetensors")));
    assert_eq!(record["base"]["hash"], job.plan()["base"]["hash"]);
    assert_eq!(record["metrics"]["trainingLoss"].as_f64(), job.steps("loss").last().copied());
    let comparison = job.events_of("comparison").pop().unwrap();
    assert_eq!(record["comparison"]["headline"], comparison["comparison"]["headline"]);
    assert_eq!(job.events().last().unwrap()["event"], "completed");
}

#[test]
fn r36_a_training_needs_no_network() {
    if !can_unshare(&["-r", "-n"]) {
        println!("skipped: `unshare -r -n` is not allowed here");
        return;
    }
    let bench = Bench::new();
    bench.write("job.json", bench.request(&[]).to_string());
    let mut shell = assert_cmd::Command::new("unshare");
    // the loopback interface alone, or this test would show nothing
    let script = "test \"$(grep -c : /proc/net/dev)\" = 1 && exec \"$0\" train job.json";
    shell.args(["-r", "-n", "sh", "-c", script, common::BINARY]);
    shell.env("OUTCROP_HOME", bench.path("home")).current_dir(bench.path(""));
    let output = shell.timeout(common::PATIENCE).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let id = bench.jobs().pop().unwrap();
    assert_eq!(bench.job(&id).steps("loss"), bench.completed(&[]).job().steps("loss"), "and gives the same losses");
}
