//! Pages, filters and tags.

use super::{Bench, encoded};
use axum::http::StatusCode;
use serde_json::{Value, json};

fn names(body: &Value) -> Vec<&str> {
    let jobs = body["modelCustomizationJobSummaries"].as_array().unwrap();
    jobs.iter().map(|job| job["jobName"].as_str().unwrap()).collect()
}

async fn five(bench: &Bench) {
    for number in 1..=5 {
        bench.create(&Bench::request(&format!("job-{number}"))).await;
        std::thread::sleep(std::time::Duration::from_millis(3));
    }
}

#[tokio::test]
async fn pages_cover_everything_once_in_either_order() {
    let bench = Bench::new();
    five(&bench).await;
    for (order, expected) in [
        ("Descending", ["job-5", "job-4", "job-3", "job-2", "job-1"]),
        ("Ascending", ["job-1", "job-2", "job-3", "job-4", "job-5"]),
    ] {
        let mut found = Vec::new();
        let mut token = String::new();
        loop {
            let path = format!("/model-customization-jobs?sortOrder={order}&maxResults=2{token}");
            let body = bench.get(&path).await.body;
            found.extend(names(&body).into_iter().map(str::to_string));
            match body.get("nextToken") {
                Some(next) => token = format!("&nextToken={}", next.as_str().unwrap()),
                None => break,
            }
        }
        assert_eq!(found, expected, "{order}");
    }
    assert_eq!(names(&bench.get("/model-customization-jobs").await.body)[0], "job-5", "newest first where not said");
}

#[tokio::test]
async fn filters_are_bedrocks() {
    let bench = Bench::new();
    five(&bench).await;
    let job = bench.get("/model-customization-jobs/job-3").await.body;
    let time = job["creationTime"].as_str().unwrap().replace(':', "%3A");
    bench.send("POST", "/model-customization-jobs/job-2/stop", None).await;
    let count = async |query: &str| {
        let answer = bench.get(&format!("/model-customization-jobs?{query}")).await;
        names(&answer.body).len()
    };
    assert_eq!(count(&format!("creationTimeAfter={time}")).await, 2);
    assert_eq!(count(&format!("creationTimeBefore={time}")).await, 2);
    assert_eq!(count("nameContains=b-4").await, 1);
    assert_eq!(count("statusEquals=Stopped").await, 1);
    assert_eq!(count("statusEquals=InProgress&nameContains=job").await, 4);
    for wrong in [
        "statusEquals=Gone",
        "maxResults=0",
        "maxResults=x",
        "sortOrder=Up",
        "sortBy=Name",
        "nextToken=x",
        "creationTimeAfter=soon",
    ] {
        let answer = bench.get(&format!("/model-customization-jobs?{wrong}")).await;
        assert_eq!(answer.error().1, "ValidationException", "{wrong}");
    }
}

#[tokio::test]
async fn tags_are_put_changed_and_taken_away() {
    let bench = Bench::new();
    let mut body = Bench::request("a-job");
    body["jobTags"] = json!([{"key": "team", "value": "a"}]);
    let arn = bench.create(&body).await;
    let list = async || {
        let answer = bench.post("/listTagsForResource", &json!({"resourceARN": arn})).await;
        answer.body["tags"].clone()
    };
    assert_eq!(list().await, json!([{"key": "team", "value": "a"}]));
    let tags = json!({"resourceARN": arn, "tags": [{"key": "team", "value": "b"}, {"key": "x", "value": ""}]});
    let answer = bench.post("/tagResource", &tags).await;
    assert_eq!((answer.status, answer.body), (StatusCode::OK, json!({})));
    assert_eq!(list().await, json!([{"key": "team", "value": "b"}, {"key": "x", "value": ""}]));
    bench.post("/untagResource", &json!({"resourceARN": arn, "tagKeys": ["team", "unknown"]})).await;
    assert_eq!(list().await, json!([{"key": "x", "value": ""}]));
    let many: Vec<Value> = (0..50).map(|number| json!({"key": format!("k{number}"), "value": ""})).collect();
    let answer = bench.post("/tagResource", &json!({"resourceARN": arn, "tags": many})).await;
    assert_eq!(answer.error().1, "TooManyTagsException");
    assert_eq!(answer.body["resourceName"], arn.as_str());
    assert_eq!(list().await.as_array().unwrap().len(), 1, "a refused call changes nothing");
    let unknown = arn.replace(arn.rsplit('/').next().unwrap(), "abcdefghijk1");
    let answer = bench.post("/listTagsForResource", &json!({"resourceARN": unknown})).await;
    assert_eq!(answer.error().1, "ResourceNotFoundException");
    let answer = bench.post("/tagResource", &json!({"resourceARN": "x"})).await;
    assert_eq!(answer.error().1, "ValidationException");
}

#[tokio::test]
async fn more_than_fifty_tags_in_a_request_make_no_job() {
    let bench = Bench::new();
    let mut body = Bench::request("a-job");
    let tags: Vec<Value> = (0..51).map(|number| json!({"key": format!("k{number}"), "value": ""})).collect();
    body["jobTags"] = json!(tags);
    let answer = bench.post("/model-customization-jobs", &body).await;
    assert_eq!(answer.error().1, "TooManyTagsException");
    assert!(names(&bench.get("/model-customization-jobs").await.body).is_empty());
    let arn = encoded("arn:aws:bedrock:us-east-1:123456789012:custom-model/a.bc/abcdefghijk1");
    assert_eq!(bench.get(&format!("/custom-models/{arn}")).await.error().0, 404);
}
