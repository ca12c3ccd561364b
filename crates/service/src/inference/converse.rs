//! The bodies of Converse and ConverseStream, which are the same for every provider; and CountTokens'.

use serde_json::{Value, json};

use super::bodies::{Answer, Form, new_seed, nucleus};
use super::conversation;
use super::members::Members;
use super::protocol::{Ask, Finish, Prompt};
use crate::ApiError;
use crate::validation::Problems;

/// Members that change nothing here: what a caller notes, or wants of AWS's machines.
const WITHOUT_EFFECT: [&str; 4] =
    ["requestMetadata", "performanceConfig", "serviceTier", "additionalModelResponseFieldPaths"];

/// What a body asks for; the settings that it leaves out are the provider's. Errors: all that is wrong with it.
pub(super) fn read(body: &Value, form: Form) -> Result<Ask, ApiError> {
    let mut problems = Problems::default();
    let mut members = Members::of(body)?;
    let prompt = conversation::read(members.value("messages"), members.value("system"), &mut problems);
    for name in WITHOUT_EFFECT {
        members.value(name);
    }
    let defaults = form.defaults();
    let mut inner = members.inner(&mut problems, "inferenceConfig");
    let max_tokens = inner.count(&mut problems, "maxTokens", 1).unwrap_or(defaults.max_tokens);
    let temperature = inner.number(&mut problems, "temperature", 0.0..=1.0).unwrap_or(defaults.temperature);
    let top_p = nucleus(inner.number(&mut problems, "topP", 0.0..=1.0).unwrap_or(defaults.top_p));
    let stop = inner.texts(&mut problems, "stopSequences");
    inner.end(&mut problems);
    let mut more = members.inner(&mut problems, "additionalModelRequestFields");
    let seed = more.count(&mut problems, "seed", 0).unwrap_or_else(new_seed);
    let snake = more.count(&mut problems, "top_k", 0);
    let top_k = more.count(&mut problems, "topK", 0).or(snake).filter(|most| *most > 0);
    more.end(&mut problems);
    members.end(&mut problems);
    problems.finish()?;
    Ok(Ask { prompt, max_tokens, temperature, top_p, top_k, seed, stop })
}

/// Converse's answer.
pub(super) fn answer(answer: &Answer, milliseconds: u64) -> Value {
    json!({
        "output": {"message": {"role": "assistant", "content": [{"text": answer.text}]}},
        "stopReason": stop_reason(&answer.finish),
        "usage": usage(answer),
        "metrics": {"latencyMs": milliseconds},
    })
}

/// The events of ConverseStream before the first text.
pub(super) fn begin() -> Vec<(&'static str, Value)> {
    vec![("messageStart", json!({"role": "assistant"}))]
}

/// One piece of text.
pub(super) fn text(text: &str) -> (&'static str, Value) {
    ("contentBlockDelta", json!({"contentBlockIndex": 0, "delta": {"text": text}}))
}

/// The events after the last text.
pub(super) fn end(answer: &Answer, milliseconds: u64) -> Vec<(&'static str, Value)> {
    vec![
        ("contentBlockStop", json!({"contentBlockIndex": 0})),
        ("messageStop", json!({"stopReason": stop_reason(&answer.finish)})),
        ("metadata", json!({"usage": usage(answer), "metrics": {"latencyMs": milliseconds}})),
    ]
}

fn usage(answer: &Answer) -> Value {
    let Answer { input_tokens, output_tokens, .. } = answer;
    json!({"inputTokens": input_tokens, "outputTokens": output_tokens, "totalTokens": input_tokens + output_tokens})
}

fn stop_reason(finish: &Finish) -> &'static str {
    match finish {
        Finish::End | Finish::Cancelled => "end_turn",
        Finish::StopText(_) => "stop_sequence",
        Finish::Length => "max_tokens",
        Finish::Context => "model_context_window_exceeded",
    }
}

/// The prompt of CountTokens: the body of one of the other operations. Errors: neither or both, or one that is wrong.
pub(super) fn counted(body: &Value, form: Form) -> Result<Prompt, ApiError> {
    let input = &body["input"];
    match (input.get("invokeModel"), input.get("converse")) {
        (Some(invoke), None) => {
            let encoded = invoke["body"].as_str().unwrap_or_default();
            let inner = base64_simd::STANDARD.decode_to_vec(encoded).ok();
            let inner: Option<Value> = inner.and_then(|bytes| serde_json::from_slice(&bytes).ok());
            let inner = inner.ok_or_else(|| ApiError::validation("input.invokeModel.body is not JSON in base64."))?;
            Ok(form.of_body(&inner).read(&inner)?.prompt)
        }
        (None, Some(converse)) => Ok(read(converse, form)?.prompt),
        _ => Err(ApiError::validation("The member input must have one of invokeModel and converse.")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r34_every_setting_is_read_and_others_are_the_providers() {
        let messages = json!([{"role": "user", "content": [{"text": "a"}]}]);
        let body = json!({
            "messages": messages, "inferenceConfig": {"maxTokens": 3, "temperature": 0.0, "topP": 0.5, "stopSequences": ["x"]},
            "additionalModelRequestFields": {"top_k": 4, "seed": 7}, "requestMetadata": {"a": "b"}
        });
        let ask = read(&body, Form::Titan).unwrap();
        assert_eq!((ask.max_tokens, ask.temperature, ask.top_p, ask.top_k, ask.seed), (3, 0.0, 0.5, Some(4), 7));
        assert_eq!(ask.stop, ["x"]);
        let ask = read(&json!({"messages": messages}), Form::Llama).unwrap();
        assert_eq!((ask.max_tokens, ask.temperature, ask.top_p, ask.top_k), (512, 0.5, 0.9, None));
        for (change, member) in [
            (json!({"toolConfig": {}}), "toolConfig"),
            (json!({"guardrailConfig": {}}), "guardrailConfig"),
            (json!({"inferenceConfig": {"maxTokens": 0}}), "inferenceConfig.maxTokens"),
            (json!({"inferenceConfig": {"temperature": 2}}), "inferenceConfig.temperature"),
            (json!({"additionalModelRequestFields": {"min_q": 1}}), "additionalModelRequestFields.min_q"),
        ] {
            let mut body = json!({"messages": messages});
            body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            let message = read(&body, Form::Titan).unwrap_err().message;
            assert!(message.contains(&format!("'{member}'")), "{message}");
        }
    }

    #[test]
    fn counting_reads_the_other_operations_bodies() {
        let encoded = base64_simd::STANDARD.encode_to_string(r#"{"inputText": "a"}"#);
        let invoke = json!({"input": {"invokeModel": {"body": encoded}}});
        assert_eq!(counted(&invoke, Form::Titan).unwrap(), Prompt::Text("a".into()));
        let converse = json!({"input": {"converse": {"messages": [{"role": "user", "content": [{"text": "a"}]}]}}});
        assert!(matches!(counted(&converse, Form::Titan).unwrap(), Prompt::Conversation { .. }));
        for wrong in [json!({}), json!({"input": {"invokeModel": {"body": "!"}}})] {
            assert_eq!(counted(&wrong, Form::Titan).unwrap_err().code, "ValidationException");
        }
    }
}
