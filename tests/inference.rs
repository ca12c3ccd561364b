//! Texts from `outcrop serve`, of custom models that it trained and of bases: the same as `outcrop generate`'s, whole and
//! streamed, in conversations too; processes that die. Real clients are in tests/interop/service.py.
#![cfg(unix)]
#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod common;

use common::Bench;
use common::service::{Service, bench, request, wait};
use serde_json::{Value, json};
use std::io::Read;
use std::process::Command;

const PROMPT: &str = "line 3: the river";

/// Text from the binary, without the line end behind it.
fn generate(bench: &Bench, model: &str, more: &[&str]) -> String {
    let output = bench.outcrop().args(["generate", "--model", model]).args(more).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().strip_suffix('\n').unwrap().to_string()
}

fn invoke(service: &Service, model: &str, config: Value) -> (u16, Value) {
    let body = json!({"inputText": PROMPT, "textGenerationConfig": config});
    service.send("POST", &format!("/model/{model}/invoke"), Some(&body))
}

fn text(service: &Service, model: &str, config: Value) -> String {
    let (status, body) = invoke(service, model, config);
    assert_eq!(status, 200, "{body}");
    body["results"][0]["outputText"].as_str().unwrap().to_string()
}

fn greedy() -> Value {
    json!({"temperature": 0, "maxTokenCount": 24})
}

/// Headers and payload of every frame of an answer.
fn frames(service: &Service, path: &str, body: &Value) -> Vec<(String, Value)> {
    let mut answer = Vec::new();
    service.open("POST", path, Some(body)).read_to_end(&mut answer).unwrap();
    let head = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let mut rest = &answer[head + 4..];
    let number = |bytes: &[u8]| u32::from_be_bytes(bytes[..4].try_into().unwrap()) as usize;
    let mut frames = Vec::new();
    while !rest.is_empty() {
        let (length, headers) = (number(rest), number(&rest[4..]));
        let head = String::from_utf8_lossy(&rest[12..12 + headers]).into_owned();
        frames.push((head, serde_json::from_slice(&rest[12 + headers..length - 4]).unwrap()));
        rest = &rest[length..];
    }
    frames
}

/// Processes of a parent.
fn children(parent: u32) -> Vec<u32> {
    let output = Command::new("ps").args(["-A", "-o", "pid=,ppid=,args="]).output().unwrap();
    let lines = String::from_utf8(output.stdout).unwrap();
    let pair = |line: &str| {
        let mut words = line.split_whitespace();
        let (pid, of): (u32, u32) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        (of == parent && line.contains("generate-worker")).then_some(pid)
    };
    lines.lines().filter_map(pair).collect()
}

#[test]
fn a_trained_model_says_what_generate_says() {
    let bench = bench();
    let service = Service::start(&bench, &[]);
    let mut job = request("first");
    job["hyperParameters"]["epochCount"] = json!("10");
    job["hyperParameters"]["learningRate"] = json!("0.05");
    service.create(&job);
    assert_eq!(service.ended("first")["status"], "Completed");
    let arguments = ["--prompt", PROMPT, "--max-tokens", "24"];
    let expected = generate(&bench, "first-model", &arguments);
    assert_eq!(text(&service, "first-model", greedy()), expected);
    assert_ne!(text(&service, "amazon.titan-text-express-v1", greedy()), expected, "training shows");
    let (_, body) = invoke(&service, "first-model", greedy());
    let result = &body["results"][0];
    assert!(body["inputTextTokenCount"].as_u64().unwrap() > 3);
    assert!(["FINISHED", "LENGTH"].contains(&result["completionReason"].as_str().unwrap()), "{body}");
    // a deployment is the model
    let arn = service.get("/custom-models/first-model")["modelArn"].clone();
    let deployment = json!({"modelDeploymentName": "mine", "modelArn": arn});
    let (_, made) = service.send("POST", "/model-customization/custom-model-deployments", Some(&deployment));
    let arn = made["customModelDeploymentArn"].as_str().unwrap().replace(':', "%3A").replace('/', "%2F");
    assert_eq!(text(&service, &arn, greedy()), expected);
    // streamed, it is the same text in pieces
    let body = json!({"messages": [{"role": "user", "content": [{"text": PROMPT}]}],
        "inferenceConfig": {"temperature": 0, "maxTokens": 24}});
    let events = frames(&service, "/model/first-model/converse-stream", &body);
    let pieces: Vec<&str> = events.iter().filter_map(|(_, event)| event["delta"]["text"].as_str()).collect();
    assert!(pieces.len() > 1, "{events:?}");
    assert_eq!(pieces.concat(), expected, "the base has no template: one message is the prompt");
    let (status, whole) = service.send("POST", "/model/first-model/converse", Some(&body));
    assert_eq!((status, &whole["output"]["message"]["content"][0]["text"]), (200, &json!(expected)));
    let count = json!({"input": {"converse": body}});
    let (_, counted) = service.send("POST", "/model/first-model/count-tokens", Some(&count));
    assert_eq!(counted["inputTokens"], whole["usage"]["inputTokens"]);
}

#[test]
fn r34_settings_reach_the_model() {
    let bench = bench();
    let service = Service::start(&bench, &[]);
    let ask = |config: Value| text(&service, "amazon.titan-text-express-v1", config);
    let warm = |seed: u64| ask(json!({"temperature": 1, "topP": 1, "maxTokenCount": 24, "seed": seed}));
    assert_eq!(warm(1), warm(1));
    assert_ne!(warm(1), warm(2));
    let arguments = ["--prompt", PROMPT, "--max-tokens", "24", "--temperature", "1", "--seed", "1"];
    assert_eq!(warm(1), generate(&bench, "base", &arguments));
    assert_eq!(ask(json!({"temperature": 1, "topP": 0, "maxTokenCount": 24})), ask(greedy()), "a nucleus of one");
    let whole = ask(greedy());
    let stop: String = whole.chars().skip(3).take(3).collect();
    let (_, body) = invoke(
        &service,
        "amazon.titan-text-express-v1",
        json!({"temperature": 0, "maxTokenCount": 24, "stopSequences": [stop]}),
    );
    assert_eq!(body["results"][0]["completionReason"], "STOP_CRITERIA_MET", "{body}");
    assert_eq!(body["results"][0]["outputText"], whole[..whole.find(&stop).unwrap()]);
    assert_eq!(ask(json!({"temperature": 0, "maxTokenCount": 0})), "");
    let (_, body) = invoke(&service, "amazon.titan-text-express-v1", json!({"temperature": 0, "maxTokenCount": 1000}));
    let reason = body["results"][0]["completionReason"].clone();
    assert!(reason == "LENGTH" || reason == "FINISHED", "the context's end is one: {body}");
}

#[test]
fn r34_models_in_memory_are_as_many_as_asked_for() {
    let bench = bench();
    bench.base("other", &common::tiny_config());
    bench.outcrop().args(["models", "alias", "amazon.titan-text-lite-v1", "other"]).assert().success();
    for (models, processes) in [("1", 1), ("2", 2)] {
        let service = Service::start(&bench, &["--models", models]);
        for model in ["amazon.titan-text-express-v1", "amazon.titan-text-lite-v1"] {
            text(&service, model, greedy());
        }
        // one that was let go of is killed, and goes in its own time
        wait(|| (children(service.process.pid()).len() == processes).then_some(()));
    }
}

#[test]
fn r9_conversations_are_laid_out_as_generate_does() {
    let bench = bench();
    let template = "{% for m in messages %}{{ m.role }}|{{ m.content }}{{ eos_token }}{% endfor %}{% if add_generation_prompt %}assistant|{% endif %}";
    bench.write("base/chat_template.jinja", template);
    bench.outcrop().args(["models", "alias", "meta.llama3-8b-instruct-v1:0", "base"]).assert().success();
    let service = Service::start(&bench, &[]);
    let body = json!({"messages": [{"role": "user", "content": [{"text": "line 3"}]}], "system": [{"text": "short"}],
        "inferenceConfig": {"temperature": 0, "maxTokens": 12}});
    let (status, answer) = service.send("POST", "/model/meta.llama3-8b-instruct-v1%3A0/converse", Some(&body));
    assert_eq!(status, 200, "{answer}");
    let arguments = ["--chat", "--system", "short", "--prompt", "line 3", "--max-tokens", "12"];
    let expected = generate(&bench, "base", &arguments);
    assert_eq!(answer["output"]["message"]["content"][0]["text"], expected);
    // what the template makes of several turns is the prompt of the same text
    let turn = |role: &str, text: &str| json!({"role": role, "content": [{"text": text}]});
    let body = json!({"messages": [turn("user", "a"), turn("assistant", "b"), turn("user", "c")],
        "inferenceConfig": {"temperature": 0, "maxTokens": 12}});
    let (_, several) = service.send("POST", "/model/meta.llama3-8b-instruct-v1%3A0/converse", Some(&body));
    let prompt = "user|a<|endoftext|>assistant|b<|endoftext|>user|c<|endoftext|>assistant|";
    let body = json!({"prompt": prompt, "max_gen_len": 12, "temperature": 0});
    let (_, plain) = service.send("POST", "/model/meta.llama3-8b-instruct-v1%3A0/invoke", Some(&body));
    assert_eq!(plain["generation"], several["output"]["message"]["content"][0]["text"]);
    assert_eq!(plain["prompt_token_count"], several["usage"]["inputTokens"]);
}

#[test]
fn what_can_not_be_answered_says_why() {
    let bench = bench();
    let service = Service::start(&bench, &[]);
    let long = json!({"inputText": "river ".repeat(200)});
    let (status, body) = service.send("POST", "/model/amazon.titan-text-express-v1/invoke", Some(&long));
    let message = body["message"].as_str().unwrap();
    assert_eq!(status, 400, "{message}");
    let (length, rest) = message.strip_prefix("The prompt has ").unwrap().split_once(' ').unwrap();
    assert!(length.parse::<u32>().unwrap() > 128 && rest.contains("context of 128"), "{message}");
    let turn = |role: &str| json!({"role": role, "content": [{"text": "a"}]});
    let body = json!({"messages": [turn("user"), turn("assistant"), turn("user")]});
    let (status, body) = service.send("POST", "/model/amazon.titan-text-express-v1/converse", Some(&body));
    assert_eq!(status, 400);
    assert!(body["message"].as_str().unwrap().contains("a single user message"), "{body}");
    let (status, body) =
        service.send("POST", "/model/amazon.titan-text-express-v1/invoke", Some(&json!({"inputText": ""})));
    assert_eq!((status, &body["message"]), (400, &json!("The prompt is empty; give a text.")));
    let (status, _) = service.send("POST", "/model/nobody/invoke", Some(&json!({"inputText": "a"})));
    assert_eq!(status, 404);
}

#[test]
fn a_model_that_dies_is_started_again_and_none_outlives_the_service() {
    let bench = bench();
    let service = Service::start(&bench, &[]);
    let expected = text(&service, "amazon.titan-text-express-v1", greedy());
    let first = children(service.process.pid());
    assert_eq!(first.len(), 1);
    Command::new("sh").arg("-c").arg(format!("kill -KILL {}", first[0])).status().unwrap();
    wait(|| (children(service.process.pid()) != first).then_some(()));
    assert_eq!(text(&service, "amazon.titan-text-express-v1", greedy()), expected);
    let second = children(service.process.pid());
    assert!(second.len() == 1 && second != first, "{first:?} {second:?}");
    service.kill();
    let is_there =
        |pid: u32| Command::new("sh").arg("-c").arg(format!("kill -0 {pid} 2>/dev/null")).status().unwrap().success();
    wait(|| (!is_there(second[0])).then_some(()));
}
