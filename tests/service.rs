//! `outcrop serve` from outside, over plain HTTP: jobs run to their end, wait, stop and fail; the service is killed and
//! started again while they run, and no job is lost or run twice. Real clients are in tests/interop/service.py.
#![cfg(unix)]
#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod common;

use common::service::{Service, bench, request, wait};
use common::{BINARY, Bench, Job, error_of, names, records};
use serde_json::{Value, json};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Thousands of steps, a checkpoint every twenty.
fn long_request(name: &str) -> Value {
    let mut request = request(name);
    request["trainingDataConfig"]["s3Uri"] = json!("s3://bucket/long.jsonl");
    request["hyperParameters"] = json!({
        "epochCount": "10", "batchSize": "1", "learningRate": "0.001", "generalData": "none", "trainable": "all",
        "checkpointSteps": "20"
    });
    request
}

/// Waits until a job has a checkpoint and a few steps more.
fn under_way(bench: &Bench, id: &str) -> Job {
    let job = bench.job(id);
    wait(|| (job.events_of("checkpoint").len() > 1).then_some(()));
    job
}

fn pid(job: &Job) -> u64 {
    job.events_of("started").last().unwrap()["pid"].as_u64().unwrap()
}

fn signal(name: &str, pid: u64) {
    let status = Command::new("sh").arg("-c").arg(format!("kill -{name} {pid}")).status();
    assert!(status.unwrap().success());
}

/// Every step of a job once, in order.
fn assert_each_step_once(job: &Job) {
    let steps: Vec<u64> = job.events_of("step").iter().map(|event| event["step"].as_u64().unwrap()).collect();
    let expected: Vec<u64> = (1..=steps.len() as u64).collect();
    assert_eq!(steps, expected);
    assert_eq!(job.events_of("completed").len(), 1);
}

#[test]
fn a_job_is_trained_and_its_model_lives_and_dies() {
    let bench = bench();
    let service = Service::start(&bench, &[]);
    let mut body = request("first");
    body["customModelTags"] = json!([{"key": "team", "value": "a"}]);
    let id = service.create(&body);
    let begun = service.job("first");
    assert_eq!(begun["status"], "InProgress");
    assert!(begun.get("outputModelArn").is_none() && begun.get("endTime").is_none(), "{begun}");
    let job = service.ended("first");
    assert_eq!(job["status"], "Completed", "{job}");
    for phase in ["validationDetails", "dataProcessingDetails", "trainingDetails"] {
        assert_eq!(job["statusDetails"][phase]["status"], "Completed", "{job}");
    }
    let steps = bench.job(&id).steps("loss");
    assert_eq!(steps.len(), 9);
    assert_eq!(job["trainingMetrics"]["trainingLoss"].as_f64().unwrap(), *steps.last().unwrap());
    assert_eq!(job["validationMetrics"].as_array().unwrap().len(), 1);
    let artifacts = bench.path("home/s3/bucket/out").join(format!("model-customization-job-{id}"));
    let csv = fs_err::read_to_string(artifacts.join("training_artifacts/step_wise_training_metrics.csv")).unwrap();
    assert_eq!(csv.lines().count(), 10, "{csv}");
    assert!(
        artifacts.join("validation_artifacts/post_fine_tuning_validation/validation/validation_metrics.csv").is_file()
    );

    let arn = job["outputModelArn"].as_str().unwrap();
    let model = service.get(&format!("/custom-models/{}", arn.replace(':', "%3A").replace('/', "%2F")));
    assert_eq!((&model["modelName"], &model["jobArn"]), (&json!("first-model"), &job["jobArn"]));
    assert_eq!(model["hyperParameters"], body["hyperParameters"]);
    let (_, tags) = service.send("POST", "/listTagsForResource", Some(&json!({"resourceARN": arn})));
    assert_eq!(tags["tags"], json!([{"key": "team", "value": "a"}]));
    let summary = service.get("/model-customization-jobs")["modelCustomizationJobSummaries"][0].clone();
    assert_eq!(summary["customModelArn"], arn);
    assert_eq!(service.get("/custom-models")["modelSummaries"][0]["baseModelName"], "alias of base");
    assert_eq!(service.send("DELETE", "/custom-models/first-model", None).0, 200);
    assert!(names(&bench.path("home/models")).iter().all(|name| name == "lock"));
    assert_eq!(service.job("first")["outputModelArn"], arn, "the job keeps it");
    // made again from what the job left in its output location
    let artifacts = format!("s3://bucket/out/model-customization-job-{id}/model_artifacts");
    bench.outcrop().args(["models", "restore", &artifacts]).assert().success();
    let restored =
        wait(|| Some(service.send("GET", "/custom-models/first-model", None)).filter(|(status, _)| *status == 200));
    assert_eq!(restored.1["trainingMetrics"], job["trainingMetrics"]);
    bench
        .outcrop()
        .args(["generate", "--model", "first-model", "--prompt", "a", "--max-tokens", "1"])
        .assert()
        .success();
    // the stand-in is said where the run is recorded
    let warnings = bench.job(&id).events_of("warning");
    assert!(
        warnings.iter().any(|event| event["message"].as_str().unwrap().contains("is an alias here")),
        "{warnings:?}"
    );
}

#[test]
fn a_running_job_stops_with_a_checkpoint_and_others_wait_for_its_slot() {
    let bench = bench();
    let service = Service::start(&bench, &["--slots", "1"]);
    let id = service.create(&long_request("long"));
    let next = service.create(&request("next"));
    let job = under_way(&bench, &id);
    let waiting = service.job("next");
    assert_eq!(waiting["status"], "InProgress");
    assert_eq!(waiting["statusDetails"]["dataProcessingDetails"]["status"], "NotStarted");
    assert!(!bench.job(&next).folder.join("lock").exists(), "nothing runs there");
    service.stop("long");
    let status = service.job("long")["status"].clone();
    assert!(status == "Stopping" || status == "Stopped", "{status}");
    let stopped = service.ended("long");
    assert_eq!(stopped["status"], "Stopped", "{stopped}");
    assert!(stopped.get("outputModelArn").is_none() && stopped["endTime"].is_string());
    assert!(!job.checkpoints().is_empty());
    assert_eq!(job.events_of("interrupted").len(), 1);
    assert_eq!(service.send("POST", "/model-customization-jobs/long/stop", None).0, 400);
    assert_eq!(service.ended("next")["status"], "Completed");
}

#[test]
fn two_slots_run_two_jobs_at_a_time() {
    let bench = bench();
    let service = Service::start(&bench, &["--slots", "2"]);
    let ids = [service.create(&long_request("one")), service.create(&long_request("two"))];
    ids.iter().for_each(|id| drop(under_way(&bench, id)));
    assert!(["one", "two"].iter().all(|name| service.job(name)["status"] == "InProgress"));
    for name in ["one", "two"] {
        service.stop(name);
        assert_eq!(service.ended(name)["status"], "Stopped");
    }
}

#[test]
fn a_killed_service_finds_its_running_job_again() {
    let bench = bench();
    let service = Service::start(&bench, &[]);
    let id = service.create(&long_request("long"));
    let waiting = service.create(&request("waiting"));
    let job = under_way(&bench, &id);
    let process = pid(&job);
    service.kill();
    let service = Service::start(&bench, &[]);
    assert_eq!(service.job("long")["status"], "InProgress");
    assert_eq!(service.job("waiting")["status"], "InProgress");
    assert_eq!(service.ended("long")["status"], "Completed");
    assert_eq!(service.ended("waiting")["status"], "Completed");
    assert_eq!(job.events_of("started").len(), 1, "the same process went on");
    assert_eq!(pid(&job), process);
    assert_each_step_once(&job);
    assert_each_step_once(&bench.job(&waiting));
    assert_eq!(service.get("/custom-models")["modelSummaries"].as_array().unwrap().len(), 2);
}

#[test]
fn a_job_that_died_with_the_service_goes_on_from_its_checkpoint() {
    let bench = bench();
    let service = Service::start(&bench, &[]);
    let id = service.create(&long_request("long"));
    let job = under_way(&bench, &id);
    let process = pid(&job);
    service.kill();
    signal("KILL", process);
    // it lets go of its folder in its own time, which may be under the next service
    let service = Service::start(&bench, &[]);
    let ended = service.ended("long");
    assert_eq!(ended["status"], "Completed", "{ended}");
    assert!(job.events_of("resumed")[0]["step"].as_u64().unwrap() >= 20);
    assert_each_step_once(&job);
    assert_eq!(service.get("/custom-models")["modelSummaries"].as_array().unwrap().len(), 1);
}

#[test]
fn a_job_that_dies_under_a_service_that_did_not_start_it_goes_on() {
    let bench = bench();
    let service = Service::start(&bench, &[]);
    let id = service.create(&long_request("long"));
    let job = under_way(&bench, &id);
    service.kill();
    let service = Service::start(&bench, &[]);
    assert_eq!(service.job("long")["status"], "InProgress");
    signal("KILL", pid(&job));
    let ended = service.ended("long");
    assert_eq!(ended["status"], "Completed", "{ended}");
    assert_eq!(job.events_of("resumed").len(), 1);
    assert_each_step_once(&job);
    // a child of its own is another matter: how that one ended is known
    let id = service.create(&long_request("own"));
    signal("KILL", pid(&under_way(&bench, &id)));
    assert_eq!(service.ended("own")["status"], "Failed");
}

#[test]
fn a_job_that_ended_without_the_service_is_known_to_the_next() {
    let bench = bench();
    let service = Service::start(&bench, &[]);
    let id = service.create(&long_request("long"));
    let job = under_way(&bench, &id);
    service.kill();
    bench.outcrop().args(["jobs", "stop", "long"]).assert().success();
    wait(|| (!job.events_of("interrupted").is_empty()).then_some(()));
    let service = Service::start(&bench, &[]);
    assert_eq!(service.ended("long")["status"], "Stopped");
    assert_eq!(job.events_of("started").len(), 1, "it wasn't run again");
}

#[test]
fn a_killed_job_fails_and_says_by_what() {
    let bench = bench();
    let service = Service::start(&bench, &[]);
    let id = service.create(&long_request("long"));
    let job = under_way(&bench, &id);
    signal("KILL", pid(&job));
    let failed = service.ended("long");
    assert_eq!(failed["status"], "Failed");
    let message = failed["failureMessage"].as_str().unwrap();
    assert!(message.contains("killed by signal 9 (SIGKILL), as the system does when memory runs out"), "{message}");
    // the folder says it without the service
    let shown = bench.outcrop().args(["jobs", "show", "long"]).output().unwrap();
    assert!(String::from_utf8(shown.stdout).unwrap().contains("killed by signal 9"));
    // and its user may go on with it by hand: the service believes the folder
    bench.outcrop().args(["train", "--resume", &id]).assert().success();
    assert_eq!(service.ended("long")["status"], "Completed");
}

#[test]
fn bad_data_fail_the_job_with_their_place() {
    let bench = bench();
    bench.write("home/s3/bucket/train.jsonl", "{\"prompt\": \"a\"}\n");
    let service = Service::start(&bench, &[]);
    service.create(&request("bad"));
    let failed = service.ended("bad");
    assert_eq!(failed["status"], "Failed");
    let message = failed["failureMessage"].as_str().unwrap();
    assert!(message.contains("train.jsonl:1"), "{message}");
    assert_eq!(failed["statusDetails"]["dataProcessingDetails"]["status"], "Failed");
    assert_eq!(failed["statusDetails"]["trainingDetails"]["status"], "NotStarted");
}

#[test]
fn jobs_and_models_of_outcrop_train_are_listed_too() {
    let bench = bench();
    let mut by_hand = bench.request(&[]);
    by_hand["jobName"] = json!("by-hand");
    by_hand["customModelName"] = json!("by-hand-model");
    let service = Service::start(&bench, &[]);
    let run = bench.run(&by_hand).expect_success();
    std::thread::sleep(Duration::from_millis(250));
    let job = service.job("by-hand");
    assert_eq!(job["status"], "Completed");
    assert!(job["jobArn"].as_str().unwrap().ends_with(run.id()), "{job}");
    let model = service.get("/custom-models/by-hand-model");
    assert_eq!((&model["modelArn"], &model["jobName"]), (&job["outputModelArn"], &json!("by-hand")));
    bench.outcrop().args(["models", "delete", "by-hand-model"]).assert().success();
    std::thread::sleep(Duration::from_millis(250));
    assert_eq!(service.get("/custom-models")["modelSummaries"], json!([]));
}

#[test]
fn one_service_has_a_home_and_only_loopback() {
    let bench = bench();
    let _service = Service::start(&bench, &[]);
    let second = bench.outcrop().args(["serve", "--listen", "127.0.0.1:0"]).output().unwrap();
    let message = error_of(&String::from_utf8(second.stderr).unwrap());
    assert!(message.starts_with("another service runs on"), "{message}");
    let open = bench.outcrop().args(["serve", "--listen", "0.0.0.0:0"]).output().unwrap();
    let message = error_of(&String::from_utf8(open.stderr).unwrap());
    assert!(message.contains("would let other machines in"), "{message}");
}

#[test]
fn the_service_ends_on_ctrl_c_and_its_job_goes_on() {
    let bench = bench();
    let service = Service::start(&bench, &[]);
    let id = service.create(&long_request("long"));
    let job = under_way(&bench, &id);
    service.process.signal("INT");
    assert_eq!(service.process.code(), Some(0));
    let steps = job.events_of("step").len();
    wait(|| (job.events_of("step").len() > steps).then_some(()));
    let mut log = Command::new(BINARY);
    log.env("OUTCROP_HOME", bench.path("home")).args(["jobs", "logs", "-f", "long"]).stdout(Stdio::piped());
    let log = log.spawn().unwrap();
    bench.outcrop().args(["jobs", "stop", "long"]).assert().success();
    let lines = log.wait_with_output().unwrap();
    let text = String::from_utf8(lines.stdout).unwrap();
    assert!(
        text.contains("step 1: loss ") && text.trim_end().lines().last().unwrap().contains("stopped after step"),
        "{text}"
    );
    let listed = bench.outcrop().args(["jobs", "list"]).output().unwrap();
    assert!(String::from_utf8(listed.stdout).unwrap().contains("Stopped"));
}

#[test]
fn region_account_and_device_are_the_services() {
    let bench = bench();
    let arguments = ["--region", "eu-west-3", "--account", "210987654321", "--device", "cuda:7"];
    let service = Service::start(&bench, &arguments);
    service.create(&request("first"));
    let job = service.ended("first");
    let arn = job["jobArn"].as_str().unwrap();
    assert!(arn.starts_with("arn:aws:bedrock:eu-west-3:210987654321:model-customization-job/"), "{arn}");
    assert_eq!(job["status"], "Failed", "no machine has it: {job}");
    assert!(job["failureMessage"].as_str().unwrap().contains("cuda"), "{job}");
    let wrong = bench.outcrop().args(["serve", "--account", "12"]).output().unwrap();
    assert!(String::from_utf8(wrong.stderr).unwrap().contains("an account is twelve digits"));
}

const ARTICLE: [&str; 12] = [
    "bedrock",
    "create-model-customization-job",
    "--customization-type",
    "FINE_TUNING",
    "--role-arn",
    "arn:aws:iam::123456789012:role/BedrockFineTuningRole",
    "--base-model-id",
    "amazon.titan-text-express-v1",
    "--training-data-config",
    r#"{"s3Uri": "s3://bucket/train.jsonl"}"#,
    "--output-data-config",
    r#"{"s3Uri": "s3://bucket/output/"}"#,
];

/// The article's command with our own binary, word for word but for the bucket and the settings that keep it short.
fn article(bench: &Bench, name: &str) -> Value {
    let settings = r#"{"epochCount": "1", "batchSize": "1", "learningRate": "0.00001", "generalData": "none"}"#;
    let mut command = bench.outcrop();
    let output = command.args(ARTICLE).args(["--job-name", name, "--hyper-parameters", settings]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn the_articles_command_runs_without_a_service_and_without_a_model_name() {
    let bench = bench();
    let made = article(&bench, "my-classification-job");
    let arn = made["jobArn"].as_str().unwrap();
    let job = bench.outcrop().args(["bedrock", "get-model-customization-job", "--job-id", arn]).output().unwrap();
    let job: Value = serde_json::from_slice(&job.stdout).unwrap();
    assert_eq!((&job["status"], &job["outputModelName"]), (&json!("Completed"), &json!("my-classification-job")));
    let elsewhere = ["bedrock", "get-foundation-model", "--model-id", "pebble", "--region", "eu-west-3"];
    let base = bench.outcrop().args(elsewhere).output().unwrap();
    let base: Value = serde_json::from_slice(&base.stdout).unwrap();
    assert_eq!(base["modelDetails"]["modelArn"], "arn:aws:bedrock:eu-west-3::foundation-model/outcrop.pebble-v1:0");
    let again = bench.outcrop().args(ARTICLE).args(["--job-name", "my-classification-job"]).output().unwrap();
    assert_eq!(
        error_of(&String::from_utf8(again.stderr).unwrap()),
        "An error occurred (ValidationException) when calling the CreateModelCustomizationJob operation: The provided job name is currently in use."
    );
}

#[test]
fn the_articles_command_leaves_the_job_to_a_service_that_runs() {
    let bench = bench();
    let service = Service::start(&bench, &[]);
    article(&bench, "my-classification-job");
    let job = service.ended("my-classification-job");
    assert_eq!(job["status"], "Completed", "{job}");
}

/// An evaluation of the tiny base and, where there is one, a model on it.
fn evaluation(name: &str, models: &[&str], metrics: &[&str]) -> Value {
    let models: Vec<Value> = models.iter().map(|id| json!({"bedrockModel": {"modelIdentifier": id}})).collect();
    let dataset = json!({"name": "mine", "datasetLocation": {"s3Uri": "s3://bucket/labels.jsonl"}});
    let config = json!({"taskType": "Classification", "dataset": dataset, "metricNames": metrics});
    json!({
        "jobName": name, "roleArn": "arn:aws:iam::123456789012:role/R",
        "outputDataConfig": {"s3Uri": "s3://bucket/scores/"},
        "evaluationConfig": {"automated": {"datasetMetricConfigs": [config]}},
        "inferenceConfig": {"models": models}
    })
}

fn labels(bench: &Bench) {
    let line = |index: usize| {
        let label = if index.is_multiple_of(3) { "yes" } else { "no" };
        format!(
            "{}\n",
            json!({"prompt": format!("Is {index} a multiple?"), "referenceResponse": label, "category": "c"})
        )
    };
    bench.write("home/s3/bucket/labels.jsonl", (0..24).map(line).collect::<String>());
}

fn evaluate(service: &Service, body: &Value) -> Value {
    let (status, made) = service.send("POST", "/evaluation-jobs", Some(body));
    assert_eq!(status, 202, "{made}");
    let arn = made["jobArn"].as_str().unwrap().replace(':', "%3A").replace('/', "%2F");
    wait(|| Some(service.get(&format!("/evaluation-jobs/{arn}"))).filter(|job| job["status"] != "InProgress"))
}

#[test]
fn an_evaluation_scores_models_and_leaves_its_results_in_s3() {
    let bench = bench();
    labels(&bench);
    let service = Service::start(&bench, &[]);
    service.create(&request("first"));
    assert_eq!(service.ended("first")["status"], "Completed");
    let metrics = ["Builtin.Accuracy", "Outcrop.NegativeLogLikelihood"];
    let models = ["first-model", "amazon.titan-text-express-v1"];
    let job = evaluate(&service, &evaluation("both", &models, &metrics));
    assert_eq!(job["status"], "Completed", "{job}");
    let id = job["jobArn"].as_str().unwrap().rsplit('/').next().unwrap();
    let place = bench.path("home/s3/bucket/scores/both").join(id).join("models");
    assert_eq!(names(&place), ["1-first-model", "2-amazon.titan-text-express-v1"]);
    for (model, identifier) in names(&place).iter().zip(models) {
        let folder = place.join(model);
        let file = folder.join(format!("taskTypes/Classification/datasets/mine/{id}_output.jsonl"));
        let text = fs_err::read_to_string(file).unwrap();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 24);
        assert_eq!(lines[0]["inputRecord"], json!({"prompt": "Is 0 a multiple?", "referenceResponse": "yes"}));
        assert_eq!(lines[0]["modelResponses"][0]["modelIdentifier"], identifier);
        let mean = |index: usize| {
            let score = |line: &Value| line["automatedEvaluationResult"]["scores"][index]["result"].as_f64().unwrap();
            lines.iter().map(score).sum::<f64>() / 24.0
        };
        let report: Value =
            serde_json::from_str(&fs_err::read_to_string(folder.join("report/report.json")).unwrap()).unwrap();
        assert_eq!(report["task"][0]["measures"][0]["kind"], "accuracy");
        let accuracy = report["task"][0]["measures"][0]["tuned"].as_f64().unwrap();
        assert!((mean(0) - accuracy).abs() < 1e-12 && mean(1) > 0.0, "{} {accuracy}", mean(0));
    }
    // one that can't be scored fails with the line of `outcrop eval`
    bench.write("home/s3/bucket/labels.jsonl", "{\"prompt\": \"a\"}\n");
    let failed = evaluate(&service, &evaluation("bad", &["first-model"], &metrics));
    assert_eq!(failed["status"], "Failed");
    assert!(failed["failureMessages"][0].as_str().unwrap().contains("labels.jsonl:1"), "{failed}");
    // and so does one whose metric the data don't have
    bench.write("home/s3/bucket/labels.jsonl", records(6));
    let failed = evaluate(&service, &evaluation("no-labels", &["first-model"], &metrics));
    assert!(failed["failureMessages"][0].as_str().unwrap().contains("has no Builtin.Accuracy"), "{failed}");
    assert!(!bench.path("home/s3/bucket/scores/no-labels").join("models").exists());
}

#[test]
fn an_evaluation_outlives_its_service() {
    let bench = bench();
    labels(&bench);
    let service = Service::start(&bench, &[]);
    let body = evaluation("one", &["amazon.titan-text-express-v1"], &["Builtin.Accuracy"]);
    let (_, made) = service.send("POST", "/evaluation-jobs", Some(&body));
    let arn = made["jobArn"].as_str().unwrap();
    let folder = bench.path("home/evaluations").join(arn.rsplit('/').next().unwrap());
    wait(|| folder.join("lock").exists().then_some(()));
    service.kill();
    let service = Service::start(&bench, &[]);
    let path = format!("/evaluation-jobs/{}", arn.replace(':', "%3A").replace('/', "%2F"));
    let job = wait(|| Some(service.get(&path)).filter(|job| job["status"] != "InProgress"));
    assert_eq!(job["status"], "Completed", "{job}");
}
