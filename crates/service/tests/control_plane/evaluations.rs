//! Evaluation jobs, without their processes: what is accepted, refused, listed, stopped, deleted.

use serde_json::{Value, json};

use super::{Bench, encoded};

fn body(name: &str) -> Value {
    let dataset = json!({"name": "mine", "datasetLocation": {"s3Uri": "s3://bucket/train.jsonl"}});
    let config = json!({"taskType": "Custom", "dataset": dataset, "metricNames": ["Builtin.Accuracy"]});
    json!({
        "jobName": name, "roleArn": "arn:aws:iam::123456789012:role/R", "clientRequestToken": format!("token-{name}"),
        "jobTags": [{"key": "team", "value": "a"}], "jobDescription": "mine",
        "outputDataConfig": {"s3Uri": "s3://bucket/scores/"},
        "evaluationConfig": {"automated": {"datasetMetricConfigs": [config]}},
        "inferenceConfig": {"models": [{"bedrockModel": {"modelIdentifier": "amazon.titan-text-express-v1"}}]}
    })
}

async fn create(bench: &Bench, body: &Value) -> String {
    let answer = bench.post("/evaluation-jobs", body).await;
    assert_eq!(answer.status, 202, "{}", answer.body);
    answer.body["jobArn"].as_str().unwrap().to_string()
}

#[tokio::test]
async fn a_job_is_made_once_found_stopped_and_deleted() {
    let bench = Bench::new();
    let arn = create(&bench, &body("first")).await;
    assert!(arn.starts_with("arn:aws:bedrock:us-east-1:123456789012:evaluation-job/"), "{arn}");
    assert_eq!(create(&bench, &body("first")).await, arn, "one token, one job");
    let mut other = body("first");
    other["clientRequestToken"] = json!("other");
    let taken = bench.post("/evaluation-jobs", &other).await;
    assert_eq!(taken.error(), (400, "ValidationException", "The provided job name is currently in use."));
    let bench = bench.reopened();
    assert_eq!(create(&bench, &body("first")).await, arn, "a restart forgets no token");
    let path = format!("/evaluation-jobs/{}", encoded(&arn));
    let job = bench.get(&path).await.body;
    assert_eq!(
        (&job["status"], &job["jobType"], &job["jobDescription"]),
        (&json!("InProgress"), &json!("Automated"), &json!("mine"))
    );
    assert_eq!(job["evaluationConfig"], body("first")["evaluationConfig"]);
    assert!(job.get("failureMessages").is_none());
    let tags = bench.post("/listTagsForResource", &json!({"resourceARN": arn})).await.body;
    assert_eq!(tags["tags"], json!([{"key": "team", "value": "a"}]));
    // it waits, so it isn't deleted; stopped before its process began, it is Stopped at once
    let delete = json!({"jobIdentifiers": [arn]});
    let refused = bench.post("/evaluation-jobs/batch-delete", &delete).await;
    assert_eq!((refused.status.as_u16(), &refused.body["errors"][0]["code"]), (202, &json!("ConflictException")));
    let stop = format!("/evaluation-job/{}/stop", encoded(&arn));
    assert_eq!(bench.send("POST", &stop, None).await.body, json!({}));
    assert_eq!(bench.get(&path).await.body["status"], "Stopped");
    assert_eq!(bench.send("POST", &stop, None).await.error().1, "ConflictException");
    let deleted = bench.post("/evaluation-jobs/batch-delete", &delete).await;
    assert_eq!(
        deleted.body,
        json!({"errors": [], "evaluationJobs": [{"jobIdentifier": arn, "jobStatus": "Deleting"}]})
    );
    assert_eq!(bench.get(&path).await.error().1, "ResourceNotFoundException");
    assert_eq!(bench.post("/listTagsForResource", &json!({"resourceARN": arn})).await.status, 404);
}

#[tokio::test]
async fn jobs_are_listed_in_pages_and_by_status() {
    let bench = Bench::new();
    let mut arns = Vec::new();
    for name in ["one", "two", "three"] {
        arns.push(create(&bench, &body(name)).await);
    }
    bench.send("POST", &format!("/evaluation-job/{}/stop", encoded(&arns[1])), None).await;
    let names = |page: &Value| -> Vec<String> {
        let jobs = page["jobSummaries"].as_array().unwrap().iter();
        jobs.map(|job| job["jobName"].as_str().unwrap().to_string()).collect()
    };
    let (mut found, mut token) = (Vec::new(), String::new());
    loop {
        let page = bench.get(&format!("/evaluation-jobs?maxResults=1&sortOrder=Ascending{token}")).await.body;
        found.extend(names(&page));
        match page["nextToken"].as_str() {
            Some(next) => token = format!("&nextToken={next}"),
            None => break,
        }
    }
    assert_eq!(found.len(), 3);
    let stopped = bench.get("/evaluation-jobs?statusEquals=Stopped").await.body;
    assert_eq!(names(&stopped), ["two"]);
    let summary = &stopped["jobSummaries"][0];
    assert_eq!(summary["modelIdentifiers"], json!(["amazon.titan-text-express-v1"]));
    assert_eq!(summary["evaluationTaskTypes"], json!(["Custom"]));
    assert_eq!(names(&bench.get("/evaluation-jobs?nameContains=thr").await.body), ["three"]);
    assert_eq!(names(&bench.get("/evaluation-jobs?applicationTypeEquals=RagEvaluation").await.body), [""; 0]);
    assert_eq!(bench.get("/evaluation-jobs?statusEquals=Done").await.error().1, "ValidationException");
}

#[tokio::test]
async fn what_can_not_be_evaluated_is_refused_by_name() {
    let bench = Bench::new();
    let config = "/evaluationConfig/automated/datasetMetricConfigs/0";
    let model = "/inferenceConfig/models";
    let two = json!([{"bedrockModel": {"modelIdentifier": "pebble"}}, {"bedrockModel": {"modelIdentifier": "outcrop.pebble-v1:0"}}]);
    for (place, value, part) in [
        ("/jobName".to_string(), json!("Upper"), "'jobName'"),
        ("/roleArn".into(), json!("role"), "'roleArn'"),
        ("/evaluationConfig".into(), json!({"human": {}}), "'evaluationConfig.human'"),
        ("/evaluationConfig".into(), json!({}), "datasetMetricConfigs'"),
        (format!("{config}/taskType"), json!("Sorting"), "'taskType'"),
        (format!("{config}/metricNames"), json!(["Builtin.Toxicity"]), "Value 'Builtin.Toxicity' at 'metricNames'"),
        (format!("{config}/metricNames"), json!([]), "'metricNames'"),
        (format!("{config}/dataset"), json!({"name": "Builtin.BoolQ"}), "built-in datasets are not on this machine"),
        (
            format!("{config}/dataset/datasetLocation/s3Uri"),
            json!("s3://bucket/none"),
            "Could not validate GetObject permissions",
        ),
        (format!("{config}/dataset/datasetLocation/s3Uri"), json!("s3://bucket"), "Uri should be a file"),
        ("/outputDataConfig/s3Uri".into(), json!("s3://outcrop-examples/x"), "PutObject"),
        (model.into(), json!([]), "'inferenceConfig.models'"),
        (
            model.into(),
            json!([{"precomputedInferenceSource": {"inferenceSourceIdentifier": "x"}}]),
            "precomputedInferenceSource'",
        ),
        (model.into(), two, "given twice"),
        ("/inferenceConfig/ragConfigs".into(), json!([]), "ragConfigs'"),
        ("/applicationType".into(), json!("RagEvaluation"), "'applicationType'"),
    ] {
        let mut body = body("first");
        match body.pointer_mut(&place) {
            Some(member) => *member = value,
            None => {
                let (parent, name) = place.rsplit_once('/').unwrap();
                body.pointer_mut(parent).unwrap()[name] = value;
            }
        }
        let answer = bench.post("/evaluation-jobs", &body).await;
        let (status, code, message) = answer.error();
        assert_eq!((status, code), (400, "ValidationException"), "{place}: {message}");
        assert!(message.contains(part), "{place}: {message}");
    }
    let mut unknown = body("first");
    unknown["inferenceConfig"]["models"][0]["bedrockModel"]["modelIdentifier"] = json!("nobody");
    assert_eq!(bench.post("/evaluation-jobs", &unknown).await.error().1, "ResourceNotFoundException");
    assert_eq!(bench.get("/evaluation-jobs/a-name").await.error().1, "ValidationException");
    let none = "/evaluation-jobs/arn%3Aaws%3Abedrock%3Aus-east-1%3A123456789012%3Aevaluation-job%2Fabcdefghijk1";
    assert_eq!(bench.get(none).await.error().1, "ResourceNotFoundException");
    assert_eq!(bench.post("/evaluation-jobs/batch-delete", &json!({})).await.error().1, "ValidationException");
}
