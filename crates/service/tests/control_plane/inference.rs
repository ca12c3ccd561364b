//! The runtime's operations with a worker that is a script: bodies, error codes, queue, eviction, crashes, clients that go
//! away. What real models say is in tests/service.rs.

use aws_smithy_eventstream::frame::{DecodedFrame, MessageFrameDecoder};
use axum::body::Body;
use axum::http::{Request, Response};
use futures_util::StreamExt;
use outcrop_service::inference::{Limits, Program};
use outcrop_service::{Settings, app};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;
use tower::ServiceExt;

use super::{Answer, Bench};

/// Notes its start, then answers by what the prompt says. `slow` waits for the cancel that a lost client causes.
const WORKER: &str = r#"#!/bin/sh
cd "$(dirname "$0")"
echo "$$ $3" >>starts
case "$3" in *nowhere*) echo '{"failed":"the base has moved"}'; exit 1;; esac
echo '"loaded"'
while read -r line; do
    echo "$line" >>orders
    case "$line" in
    *dies*) echo 'error: out of memory' >&2; exit 3 ;;
    *breaks*) echo '{"begun":{"input_tokens":4}}'; echo '{"text":"né"}'; kill -9 $$ ;;
    *long*) echo '{"refused":"The prompt has 9 tokens, the context 8."}' ;;
    *fails*) echo '{"begun":{"input_tokens":4}}'; echo '{"failed":"not finite"}' ;;
    *slow*) echo '{"begun":{"input_tokens":4}}'; echo '{"text":"a"}'; read -r cancel; echo "$cancel" >>orders
        echo '{"done":{"finish":"cancelled","output_tokens":1}}' ;;
    *'"count"'*) echo '{"begun":{"input_tokens":5}}' ;;
    *) echo '{"begun":{"input_tokens":4}}'; echo '{"text":"né"}'; echo '{"text":"w"}'
        echo '{"done":{"finish":{"stop_text":"."},"output_tokens":3}}' ;;
    esac
done
"#;

/// A service whose worker is the script.
struct Asked {
    bench: Bench,
    folder: PathBuf,
}

impl Asked {
    fn new(limits: Limits) -> Self {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().to_path_buf();
        let path = folder.join("worker");
        fs_err::write(&path, WORKER).unwrap();
        fs_err::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        let inference = Some((Program { path, device: None }, limits));
        Self { bench: Bench::with(place, Settings { inference, ..Settings::default() }), folder }
    }

    async fn post(&self, path: &str, body: Value) -> Answer {
        self.bench.post(path, &body).await
    }

    async fn invoke(&self, text: &str) -> Answer {
        self.post("/model/amazon.titan-text-express-v1/invoke", json!({"inputText": text})).await
    }

    async fn open(&self, operation: &str, body: Value) -> Response<Body> {
        let path = format!("/model/amazon.titan-text-express-v1/{operation}");
        let request = Request::builder().method("POST").uri(path).body(Body::from(body.to_string())).unwrap();
        app(self.bench.state.clone()).oneshot(request).await.unwrap()
    }

    /// Lines that workers wrote into a file.
    fn lines(&self, file: &str) -> Vec<String> {
        let text = fs_err::read_to_string(self.folder.join(file)).unwrap_or_default();
        text.lines().map(str::to_string).collect()
    }
}

fn limits() -> Limits {
    Limits { models: 2, queue: 8, idle: Duration::from_secs(600) }
}

/// Name and payload of every event of an answer.
async fn events(response: Response<Body>) -> Vec<(String, Value)> {
    let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
    let (mut decoder, mut bytes, mut events) = (MessageFrameDecoder::new(), body.clone(), Vec::new());
    while let DecodedFrame::Complete(message) = decoder.decode_frame(&mut bytes).unwrap() {
        let kind = message.headers().iter().find(|header| header.name().as_str().ends_with("-type"));
        let name = message.headers()[1].value().as_string().unwrap().as_str().to_string();
        assert!(kind.is_some());
        events.push((name, serde_json::from_slice(message.payload()).unwrap()));
    }
    assert!(!events.is_empty(), "{body:?}");
    events
}

async fn wait(mut is: impl FnMut() -> bool) {
    let begin = std::time::Instant::now();
    while !is() {
        assert!(begin.elapsed() < Duration::from_secs(120), "waited too long");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn one_text_in_all_four_operations() {
    let asked = Asked::new(limits());
    let answer = asked.invoke("a").await;
    let results = json!([{"tokenCount": 3, "outputText": "néw", "completionReason": "STOP_CRITERIA_MET"}]);
    assert_eq!(answer.body, json!({"inputTextTokenCount": 4, "results": results}));
    assert_eq!(answer.headers["content-type"], "application/json");
    assert_eq!(answer.headers["x-amzn-bedrock-output-token-count"], "3");
    let messages = json!([{"role": "user", "content": [{"text": "a"}]}]);
    let converse =
        json!({"messages": messages, "inferenceConfig": {"maxTokens": 9, "temperature": 0, "stopSequences": ["."]}});
    let answer = asked.post("/model/amazon.titan-text-express-v1/converse", converse.clone()).await;
    assert_eq!(answer.body["output"]["message"], json!({"role": "assistant", "content": [{"text": "néw"}]}));
    assert_eq!(answer.body["stopReason"], "stop_sequence");
    assert_eq!(answer.body["usage"], json!({"inputTokens": 4, "outputTokens": 3, "totalTokens": 7}));
    assert!(answer.body["metrics"]["latencyMs"].is_u64());
    let order: Value = serde_json::from_str(asked.lines("orders").last().unwrap()).unwrap();
    let turns = json!([{"role": "user", "texts": ["a"]}]);
    assert_eq!(order["generate"]["prompt"], json!({"conversation": {"system": null, "turns": turns}}));
    assert_eq!((&order["generate"]["max_tokens"], &order["generate"]["stop"]), (&json!(9), &json!(["."])));

    let response = asked.open("converse-stream", converse).await;
    assert_eq!(response.headers()["content-type"], "application/vnd.amazon.eventstream");
    let events = events(response).await;
    let names: Vec<&str> = events.iter().map(|(name, _)| name.as_str()).collect();
    let expected =
        ["messageStart", "contentBlockDelta", "contentBlockDelta", "contentBlockStop", "messageStop", "metadata"];
    assert_eq!(names, expected);
    assert_eq!(events[1].1["delta"]["text"], "né");
    assert_eq!(events[5].1["usage"]["totalTokens"], 7);
    let response = asked.open("invoke-with-response-stream", json!({"inputText": "a"})).await;
    assert_eq!(response.headers()["x-amzn-bedrock-content-type"], "application/json");
    let chunks = self::events(response).await;
    let texts: String = chunks
        .iter()
        .map(|(name, payload)| {
            assert_eq!(name, "chunk");
            let bytes = base64_simd::STANDARD.decode_to_vec(payload["bytes"].as_str().unwrap()).unwrap();
            serde_json::from_slice::<Value>(&bytes).unwrap()["outputText"].as_str().unwrap().to_string()
        })
        .collect();
    assert_eq!(texts, "néw");
    let body = json!({"input": {"converse": {"messages": messages}}});
    let counted = asked.post("/model/amazon.titan-text-express-v1/count-tokens", body).await;
    assert_eq!(counted.body, json!({"inputTokens": 5}));
    assert_eq!(asked.lines("starts").len(), 1, "the model stays in memory");
}

#[tokio::test]
async fn deployments_and_custom_models_are_asked_by_every_name() {
    let asked = Asked::new(limits());
    asked.bench.model("abcdefghijk1", "mine", "nojob0000001");
    let model = asked.bench.get("/custom-models/mine").await.body;
    let arn = model["modelArn"].as_str().unwrap();
    let made = json!({"modelDeploymentName": "deployed", "modelArn": arn});
    let made = asked.post("/model-customization/custom-model-deployments", made).await.body;
    let deployment = made["customModelDeploymentArn"].as_str().unwrap();
    let made = json!({"modelUnits": 1, "provisionedModelName": "through", "modelId": "mine"});
    let made = asked.post("/provisioned-model-throughput", made).await.body;
    let provisioned = made["provisionedModelArn"].as_str().unwrap();
    for name in ["mine", arn, deployment, provisioned] {
        let path = format!("/model/{}/invoke", super::encoded(name));
        let answer = asked.post(&path, json!({"inputText": "a"})).await;
        assert_eq!(answer.status, 200, "{name}: {}", answer.body);
    }
    let starts = asked.lines("starts");
    assert_eq!(starts.len(), 1, "{starts:?}");
    assert!(starts[0].ends_with(" abcdefghijk1"), "{starts:?}");
    // the built-in base isn't a custom model that has its short name
    asked.bench.model("abcdefghijk2", "pebble", "nojob0000002");
    asked.invoke("a").await;
    assert!(asked.lines("starts")[1].ends_with(" s3://outcrop-examples/base/pebble"));
}

#[tokio::test]
async fn errors_have_bedrocks_codes() {
    let asked = Asked::new(limits());
    for (text, status, code, part) in [
        ("dies", 424, "ModelErrorException", "(exit status: 3): out of memory"),
        ("long", 400, "ValidationException", "The prompt has 9 tokens, the context 8."),
        ("fails", 424, "ModelErrorException", "not finite"),
        ("breaks", 424, "ModelErrorException", "signal: 9"),
    ] {
        let answer = asked.invoke(text).await;
        let (found_status, found_code, message) = answer.error();
        assert_eq!((found_status, found_code), (status, code), "{text}: {message}");
        assert!(message.contains(part), "{text}: {message}");
        assert_eq!(asked.invoke("a").await.status, 200, "after {text} the next one is answered");
    }
    for (path, body, status, code) in [
        ("/model/nobody/invoke", json!({}), 404, "ResourceNotFoundException"),
        ("/model/pebble/nothing", json!({}), 404, "UnknownOperationException"),
        ("/model/pebble/invoke", json!({"inputText": 3}), 400, "ValidationException"),
        ("/model/pebble/invoke", json!([]), 400, "ValidationException"),
        ("/model/pebble/converse", json!({"messages": []}), 400, "ValidationException"),
        ("/model/pebble/converse-stream", json!({}), 400, "ValidationException"),
        ("/model/pebble/count-tokens", json!({}), 400, "ValidationException"),
    ] {
        let answer = asked.post(path, body).await;
        let (found_status, found_code, message) = answer.error();
        assert_eq!((found_status, found_code), (status, code), "{path}: {message}");
    }
    assert_eq!(asked.bench.get("/model/pebble/invoke").await.status, 404);
    let mut aliases = outcrop_job::Aliases::read(&asked.bench.home).unwrap();
    aliases.set("local.gone", "/nowhere");
    aliases.write(&asked.bench.home).unwrap();
    let answer = asked.post("/model/local.gone/invoke", json!({"inputText": "a"})).await;
    let message = "The model can't answer: the base has moved";
    assert_eq!(answer.error(), (424, "ModelErrorException", message));
    // 25 MB are read, not the control plane's four
    let answer = asked.post("/model/pebble/invoke", json!({"inputText": "a", "x": "a".repeat(5 << 20)})).await;
    assert!(answer.error().2.contains("at 'x' failed"), "{}", answer.body);
}

#[tokio::test]
async fn without_workers_nothing_is_generated() {
    let bench = Bench::new();
    let answer = bench.post("/model/pebble/invoke", &json!({"inputText": "a"})).await;
    assert_eq!(answer.error(), (400, "ValidationException", "This process generates no text: `outcrop serve` does."));
}

#[tokio::test]
async fn a_stream_that_breaks_off_says_so() {
    let asked = Asked::new(limits());
    let events = events(
        asked.open("converse-stream", json!({"messages": [{"role": "user", "content": [{"text": "breaks"}]}]})).await,
    )
    .await;
    let (name, payload) = events.last().unwrap();
    assert_eq!((events[1].0.as_str(), name.as_str()), ("contentBlockDelta", "modelStreamErrorException"));
    assert!(payload["message"].as_str().unwrap().contains("signal: 9"), "{payload}");
    let refused =
        asked.open("converse-stream", json!({"messages": [{"role": "user", "content": [{"text": "long"}]}]})).await;
    assert_eq!(refused.status(), 400, "what is known before the first text is no event");
}

#[tokio::test]
async fn a_client_that_goes_away_cancels_its_text_and_leaves_the_model() {
    let asked = Asked::new(limits());
    let mut stream =
        asked.open("invoke-with-response-stream", json!({"inputText": "slow"})).await.into_body().into_data_stream();
    stream.next().await.unwrap().unwrap();
    drop(stream);
    assert_eq!(asked.invoke("a").await.status, 200);
    assert!(asked.lines("orders").contains(&"\"cancel\"".to_string()));
    assert_eq!(asked.lines("starts").len(), 1, "one process did both");
}

#[tokio::test]
async fn r34_more_than_the_queue_holds_is_throttled_and_the_others_wait() {
    let asked = Asked::new(Limits { queue: 1, ..limits() });
    let slow = asked.open("invoke-with-response-stream", json!({"inputText": "slow"})).await;
    let other = |text: &'static str| {
        let state = asked.bench.state.clone();
        async move {
            let body = Body::from(json!({"inputText": text}).to_string());
            let request = Request::builder().method("POST").uri("/model/pebble/invoke").body(body).unwrap();
            app(state).oneshot(request).await.unwrap()
        }
    };
    let (mut one, mut two) = (tokio::spawn(other("one")), tokio::spawn(other("two")));
    // the later of them is turned away while the model is busy; which one that is, is theirs to settle
    let (refused, waiting) = tokio::select! {
        answer = &mut one => (answer.unwrap(), two),
        answer = &mut two => (answer.unwrap(), one),
    };
    assert_eq!(refused.status(), 429);
    assert_eq!(refused.headers()["x-amzn-errortype"], "ThrottlingException");
    drop(slow);
    assert_eq!(waiting.await.unwrap().status(), 200);
}

#[tokio::test]
async fn r34_only_so_many_models_stay_in_memory() {
    for (models, starts) in [(1, 4), (2, 2)] {
        let asked = Asked::new(Limits { models, ..limits() });
        asked.bench.model("abcdefghijk1", "mine", "nojob0000001");
        for name in ["mine", "pebble", "mine", "pebble"] {
            let answer = asked.post(&format!("/model/{name}/invoke"), json!({"inputText": "a"})).await;
            assert_eq!(answer.status, 200, "{}", answer.body);
        }
        assert_eq!(asked.lines("starts").len(), starts, "room for {models}");
    }
}

#[tokio::test]
async fn r34_a_model_that_nobody_asks_leaves_memory() {
    let asked = Asked::new(Limits { idle: Duration::from_millis(1), ..limits() });
    asked.invoke("a").await;
    let process = asked.lines("starts")[0].split(' ').next().unwrap().to_string();
    let proc = PathBuf::from("/proc").join(&process);
    let is_gone = || !proc.exists() || fs_err::read_to_string(proc.join("stat")).is_ok_and(|stat| stat.contains(") Z"));
    if cfg!(target_os = "linux") {
        wait(is_gone).await;
    }
    assert_eq!(asked.invoke("a").await.status, 200, "and comes back");
}
