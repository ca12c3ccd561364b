//! The service from outside its router, without a socket and without jobs running: status codes, error bodies, routing,
//! validation, idempotency, pages, tags, deployments, what the folders of other processes do to listings; inference with a
//! worker of the test's own.
#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod auth;
mod console;
mod evaluations;
#[cfg(unix)]
mod inference;
mod jobs;
mod listings;
mod models;
mod s3;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use outcrop_job::{Home, ModelRecord, ModelStore};
use outcrop_service::{AppState, Settings, app};
use serde_json::{Value, json};
use tempfile::TempDir;
use tower::ServiceExt;

/// A service over a folder of its own, with a training file in its S3.
pub(crate) struct Bench {
    _folder: TempDir,
    pub(crate) home: Home,
    pub(crate) state: AppState,
}

/// An answer.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: axum::http::HeaderMap,
    pub(crate) body: Value,
}

impl Answer {
    pub(crate) fn error(&self) -> (u16, &str, &str) {
        let code = self.headers.get("x-amzn-errortype").unwrap().to_str().unwrap();
        (self.status.as_u16(), code, self.body["message"].as_str().unwrap())
    }
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::with(tempfile::tempdir().unwrap(), Settings::default())
    }

    pub(crate) fn with(folder: TempDir, settings: Settings) -> Self {
        let home = Home::at(folder.path().join("home"));
        let bucket = home.s3_dir().join("bucket");
        fs_err::create_dir_all(&bucket).unwrap();
        fs_err::write(bucket.join("train.jsonl"), "{\"prompt\":\"a\",\"completion\":\"b\"}\n").unwrap();
        let state = AppState::open(home.clone(), settings).unwrap();
        Self { _folder: folder, home, state }
    }

    /// The same home, opened again, as after a restart.
    pub(crate) fn reopened(self) -> Self {
        let Self { _folder, home, state } = self;
        drop(state);
        let state = AppState::open(home.clone(), Settings::default()).unwrap();
        Self { _folder, home, state }
    }

    pub(crate) async fn send(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
        let request = Request::builder().method(method).uri(path).body(body).unwrap();
        let response = app(self.state.clone()).oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        let body = if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap() };
        Answer { status: parts.status, headers: parts.headers, body }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send("POST", path, Some(body)).await
    }

    /// A request that is accepted.
    pub(crate) fn request(name: &str) -> Value {
        json!({
            "jobName": name, "customModelName": format!("{name}-model"),
            "roleArn": "arn:aws:iam::123456789012:role/R", "baseModelIdentifier": "amazon.titan-text-express-v1",
            "trainingDataConfig": {"s3Uri": "s3://bucket/train.jsonl"},
            "outputDataConfig": {"s3Uri": "s3://bucket/out/"},
            "hyperParameters": {"epochCount": "1", "learningRate": ".0001"}
        })
    }

    /// Makes a job; gives its ARN.
    pub(crate) async fn create(&self, body: &Value) -> String {
        let answer = self.post("/model-customization-jobs", body).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.body);
        answer.body["jobArn"].as_str().unwrap().to_string()
    }

    /// What another process's `outcrop train` leaves: a model in the store.
    pub(crate) fn model(&self, id: &str, name: &str, job_id: &str) {
        let record = json!({
            "id": id, "name": name, "created": "2026-11-22T07:20:00.123Z", "jobId": job_id, "jobName": "a-job",
            "base": {"identifier": "pebble", "path": "/nowhere", "hash": "00"}, "customizationType": "FINE_TUNING",
            "tensors": ["a"], "deltaFile": "delta.safetensors", "deltaHash": "00",
            "metrics": {"trainingLoss": 1.5, "validation": [{"validationLoss": 2.5}]},
            "hyperparameters": outcrop_job::Hyperparameters::resolve(
                &outcrop_job::StringMap::new(), outcrop_job::CustomizationType::FineTuning).unwrap(),
            "trainingData": [], "engineVersion": "0.1.0"
        });
        let record: ModelRecord = serde_json::from_value(record).unwrap();
        ModelStore::new(self.home.models_dir()).save(&record).unwrap();
        // Looks at the folders are good for a moment.
        std::thread::sleep(std::time::Duration::from_millis(220));
    }
}

/// An ARN as clients send it: one segment.
pub(crate) fn encoded(arn: &str) -> String {
    arn.replace(':', "%3A").replace('/', "%2F")
}

#[tokio::test]
async fn every_answer_has_a_request_id_and_json() {
    let bench = Bench::new();
    for path in ["/custom-models", "/nothing", "/model-customization-jobs/unknown"] {
        let answer = bench.get(path).await;
        assert_eq!(answer.headers["x-amzn-requestid"].len(), 36, "{path}");
        assert_eq!(answer.headers["content-type"], "application/json", "{path}");
    }
    let answer = bench.get("/nothing/at/all").await;
    assert_eq!(answer.error(), (404, "UnknownOperationException", "No operation is at GET /nothing/at/all."));
    let answer = bench.send("PUT", "/custom-models", None).await;
    assert_eq!(answer.error().1, "UnknownOperationException");
}

#[tokio::test]
async fn known_ids_are_aliases_of_the_embedded_base_and_say_so() {
    let bench = Bench::new();
    let answer = bench.get("/foundation-models/anthropic.claude-3-sonnet-20240229-v1%3A0").await;
    let model = &answer.body["modelDetails"];
    assert_eq!(
        model["modelArn"],
        "arn:aws:bedrock:us-east-1::foundation-model/anthropic.claude-3-sonnet-20240229-v1:0"
    );
    assert_eq!(model["modelName"], "alias of pebble");
    assert_eq!(model["outcrop"]["base"], "pebble");
    assert!(model["outcrop"]["note"].as_str().unwrap().contains("not Bedrock's model"));
    assert_eq!(answer.headers["x-outcrop-base"], "pebble");
    let own = bench.get("/foundation-models/arn%3Aaws%3Abedrock%3Aus-east-1%3A%3Afoundation-model%2Fpebble").await;
    assert_eq!(own.body["modelDetails"]["modelId"], "outcrop.pebble-v1:0");
    assert_eq!(own.body["modelDetails"]["modelName"], "Pebble");
    let unknown = bench.get("/foundation-models/amazon.nothing-v1").await;
    assert_eq!(unknown.error().1, "ResourceNotFoundException");
}

#[tokio::test]
async fn foundation_models_are_filtered_and_fit_bedrocks_limits() {
    let bench = Bench::new();
    let count = |answer: &Answer| answer.body["modelSummaries"].as_array().unwrap().len();
    let all = bench.get("/foundation-models").await;
    for model in all.body["modelSummaries"].as_array().unwrap() {
        for member in ["modelName", "providerName"] {
            assert!(model[member].as_str().unwrap().chars().count() <= 20, "{model}");
        }
    }
    let amazon = bench.get("/foundation-models?byProvider=Amazon").await;
    assert!(0 < count(&amazon) && count(&amazon) < count(&all));
    let raw = bench.get("/foundation-models?byCustomizationType=CONTINUED_PRE_TRAINING").await;
    assert!(0 < count(&raw) && count(&raw) < count(&all));
    assert_eq!(count(&bench.get("/foundation-models?byOutputModality=IMAGE").await), 0);
    let wrong = bench.get("/foundation-models?byInferenceType=FREE").await;
    assert_eq!(wrong.error().1, "ValidationException");
    let mut aliases = outcrop_job::Aliases::read(&bench.home).unwrap();
    aliases.set("local.small", "/models/small");
    aliases.write(&bench.home).unwrap();
    assert_eq!(count(&bench.get("/foundation-models").await), count(&all) + 1);
    assert_eq!(bench.get("/foundation-models/local.small").await.body["modelDetails"]["modelName"], "alias of small");
}
