//! Jobs: what is accepted, what is refused and how it is worded, what Get and Stop say.

use super::{Bench, encoded};
use serde_json::{Value, json};

/// A change to a request, and what the refusal says.
type Case = (fn(&mut Value), &'static str);

async fn refused(bench: &Bench, change: impl FnOnce(&mut Value)) -> (u16, String, String) {
    let mut body = Bench::request("a-job");
    change(&mut body);
    let answer = bench.post("/model-customization-jobs", &body).await;
    let (status, code, message) = answer.error();
    (status, code.to_string(), message.to_string())
}

#[tokio::test]
async fn a_job_is_made_and_read_back_by_name_and_arn() {
    let bench = Bench::new();
    let mut body = Bench::request("a-job");
    body["jobName"] = json!("a+b.c");
    body["hyperParameters"]["batchSize"] = json!(1); // a number over HTTP is kept as its text
    body["clientRequestToken"] = json!("token-1");
    let arn = bench.create(&body).await;
    let id = arn.rsplit('/').next().unwrap();
    assert_eq!(
        arn,
        format!("arn:aws:bedrock:us-east-1:123456789012:model-customization-job/amazon.titan-text-express-v1/{id}")
    );
    for path in ["a%2Bb.c".to_string(), encoded(&arn), arn.clone()] {
        let job = bench.get(&format!("/model-customization-jobs/{path}")).await.body;
        assert_eq!(job["jobArn"], arn.as_str(), "{path}: {job}");
    }
    let job = bench.get("/model-customization-jobs/a%2Bb.c").await.body;
    assert_eq!((&job["status"], &job["outputModelName"]), (&json!("InProgress"), &json!("a-job-model")));
    assert_eq!(job["baseModelArn"], "arn:aws:bedrock:us-east-1::foundation-model/amazon.titan-text-express-v1");
    // echoed byte for byte, in order, without defaults
    assert_eq!(job["hyperParameters"].to_string(), r#"{"epochCount":"1","learningRate":".0001","batchSize":"1"}"#);
    assert_eq!(job["clientRequestToken"], "token-1");
    assert_eq!(job["customizationType"], "FINE_TUNING");
    assert_eq!(job["validationMetrics"], json!([]));
    assert_eq!(job["statusDetails"]["trainingDetails"]["status"], "NotStarted");
    for absent in ["outputModelArn", "endTime", "validationDataConfig", "trainingMetrics", "failureMessage"] {
        assert!(job.get(absent).is_none(), "{absent}");
    }
    let time = job["creationTime"].as_str().unwrap();
    assert!(time.len() == 24 && time.ends_with('Z') && &time[10..11] == "T", "{time}");
    let request = fs_err::read_to_string(bench.home.job_dir(id).unwrap().join("request.json")).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&request).unwrap()["hyperParameters"]["batchSize"], "1");
}

#[tokio::test]
async fn a_token_is_answered_again_after_a_restart_and_makes_one_job() {
    let bench = Bench::new();
    let mut body = Bench::request("a-job");
    body["clientRequestToken"] = json!("token-1");
    let arn = bench.create(&body).await;
    let bench = bench.reopened();
    assert_eq!(bench.create(&body).await, arn);
    let listed = bench.get("/model-customization-jobs").await.body;
    assert_eq!(listed["modelCustomizationJobSummaries"].as_array().unwrap().len(), 1);
    let (_, _, message) = refused(&bench, |body| body["clientRequestToken"] = json!("token-2")).await;
    assert_eq!(message, "The provided job name is currently in use.");
}

#[tokio::test]
async fn a_name_that_is_taken_is_refused_in_bedrocks_words() {
    let bench = Bench::new();
    bench.create(&Bench::request("a-job")).await;
    let expected = (400, "ValidationException".to_string(), "The provided job name is currently in use.".to_string());
    assert_eq!(refused(&bench, |_| {}).await, expected);
    let taken = refused(&bench, |body| body["jobName"] = json!("another")).await;
    assert_eq!(taken.2, "The provided model name is currently in use.");
    bench.model("abcdefghijk1", "made-elsewhere", "zzzzzzzzzzz1");
    let taken = refused(&bench, |body| {
        body["jobName"] = json!("another");
        body["customModelName"] = json!("made-elsewhere");
    });
    assert_eq!(taken.await.2, "The provided model name is currently in use.");
}

#[tokio::test]
async fn members_that_break_a_constraint_are_named_together() {
    let bench = Bench::new();
    let (status, code, message) = refused(&bench, |body| {
        body["jobName"] = json!("bad name!");
        body["roleArn"] = json!("testrole");
    })
    .await;
    assert_eq!((status, code.as_str()), (400, "ValidationException"));
    assert!(message.starts_with("2 validation errors detected: Value 'bad name!' at 'jobName' failed to satisfy constraint: Member must satisfy regular expression pattern: [a-zA-Z0-9]"), "{message}");
    let cases: [Case; 9] = [
        (
            |body| body["customizationType"] = json!("BOGUS"),
            "Value 'BOGUS' at 'customizationType' failed to satisfy constraint: Member must satisfy enum value set: [FINE_TUNING,",
        ),
        (|body| body["customizationType"] = json!("DISTILLATION"), "customizationType `DISTILLATION` is not supported"),
        (|body| body["baseModelIdentifier"] = json!("amazon.nothing-v1"), "The provided model identifier is invalid."),
        (
            |body| body["trainingDataConfig"]["s3Uri"] = json!("file:///etc/passwd"),
            "Member must satisfy regular expression pattern: s3://",
        ),
        (
            |body| body["trainingDataConfig"]["s3Uri"] = json!("s3://bucket/none.jsonl"),
            "Could not validate GetObject permissions to access Amazon S3 bucket: bucket at key none.jsonl",
        ),
        (
            |body| body["trainingDataConfig"]["s3Uri"] = json!("s3://bucket/"),
            "Invalid training input data configuration. Check the input data S3 Uris (Uri should be a file, not a directory) and retry request",
        ),
        (|body| body["hyperParameters"]["learning_rate"] = json!("1"), "the nearest known one is `learningRate`"),
        (|body| body["hyperParameters"]["epochCount"] = json!("0"), "hyperParameters.epochCount"),
        (
            |body| drop(body.as_object_mut().unwrap().remove("outputDataConfig")),
            "Value at 'outputDataConfig' failed to satisfy constraint: Member must not be null",
        ),
    ];
    for (change, expected) in cases {
        let (status, code, message) = refused(&bench, change).await;
        assert_eq!((status, code.as_str()), (400, "ValidationException"), "{message}");
        assert!(message.contains(expected), "{message}");
    }
    assert_eq!(bench.get("/model-customization-jobs").await.body["modelCustomizationJobSummaries"], json!([]));
    assert!(!bench.home.jobs_dir().exists(), "a refused request leaves no folder");
}

#[tokio::test]
async fn unknown_members_are_ignored_and_a_missing_model_name_is_derived() {
    let bench = Bench::new();
    let mut body = Bench::request("a.b+c");
    body.as_object_mut().unwrap().remove("customModelName");
    body["somethingNew"] = json!({"a": 1});
    bench.create(&body).await;
    assert_eq!(bench.get("/model-customization-jobs/a.b%2Bc").await.body["outputModelName"], "a-b-c");
}

#[tokio::test]
async fn an_output_that_cannot_be_written_is_refused() {
    let bench = Bench::new();
    fs_err::write(bench.home.s3_dir().join("bucket/file"), "").unwrap();
    let (_, _, message) =
        refused(&bench, |body| body["outputDataConfig"]["s3Uri"] = json!("s3://bucket/file/out")).await;
    assert_eq!(
        message,
        "Amazon S3 perms missing (PutObject): Could not validate PutObject permissions to access S3 bucket: bucket at key file/out/.write_access_check_file.tmp"
    );
    let read_only =
        refused(&bench, |body| body["outputDataConfig"]["s3Uri"] = json!("s3://outcrop-examples/out")).await;
    assert!(read_only.2.starts_with("Amazon S3 perms missing (PutObject)"), "{}", read_only.2);
}

#[tokio::test]
async fn a_waiting_job_is_stopped_at_once_and_cannot_be_stopped_again() {
    let bench = Bench::new();
    let arn = bench.create(&Bench::request("a-job")).await;
    let path = format!("/model-customization-jobs/{}/stop", encoded(&arn));
    let answer = bench.send("POST", &path, None).await;
    assert_eq!((answer.status.as_u16(), answer.body), (200, json!({})));
    let job = bench.get("/model-customization-jobs/a-job").await.body;
    assert_eq!(job["status"], "Stopped");
    assert!(job["endTime"].is_string() && job.get("outputModelArn").is_none(), "{job}");
    assert_eq!(job["statusDetails"]["dataProcessingDetails"]["status"], "Stopped");
    let again = bench.send("POST", &path, None).await;
    assert_eq!(again.error().0, 400);
    assert_eq!(again.error().1, "ConflictException");
    // the folder says it without the index
    let folder = bench.home.job(arn.rsplit('/').next().unwrap()).unwrap();
    assert_eq!(folder.status().unwrap(), outcrop_job::JobStatus::Stopped);
    let unknown = bench.send("POST", "/model-customization-jobs/nobody/stop", None).await;
    assert_eq!(unknown.error(), (404, "ResourceNotFoundException", "Could not find job 'nobody'."));
}

#[tokio::test]
async fn an_empty_identifier_is_no_listing() {
    let bench = Bench::new();
    for path in ["/model-customization-jobs/", "/custom-models/"] {
        let answer = bench.get(path).await;
        assert_eq!(answer.error().1, "ValidationException", "{path}");
    }
}
