use super::*;
use crate::inference::protocol::{Role, Turn};
use serde_json::json;

const FORMS: [Form; 7] =
    [Form::Titan, Form::Nova, Form::Llama, Form::Claude, Form::ClaudeText, Form::Cohere, Form::Mistral];

fn problem(form: Form, body: Value) -> String {
    form.read(&body).unwrap_err().message
}

#[test]
fn the_provider_of_the_base_chooses_the_form() {
    for (base, form) in [
        ("amazon.titan-text-express-v1:0:8k", Form::Titan),
        ("amazon.nova-micro-v1:0", Form::Nova),
        ("meta.llama3-1-8b-instruct-v1:0", Form::Llama),
        ("anthropic.claude-3-haiku-20240307-v1:0", Form::Claude),
        ("cohere.command-text-v14", Form::Cohere),
        ("mistral.mistral-7b-instruct-v0:2", Form::Mistral),
        ("outcrop.pebble-v1:0", Form::Titan),
        ("local.mine", Form::Titan),
    ] {
        assert_eq!(Form::of(base), form, "{base}");
    }
    assert_eq!(Form::Claude.of_body(&json!({"prompt": "a"})), Form::ClaudeText);
    assert_eq!(Form::Claude.of_body(&json!({"messages": []})), Form::Claude);
}

#[test]
fn r34_every_setting_of_every_form_is_read() {
    let user = || vec![Turn { role: Role::User, texts: vec!["a".into()] }];
    let conversation = Prompt::Conversation { system: Some("s".into()), turns: user() };
    let messages = json!([{"role": "user", "content": [{"text": "a"}]}]);
    let text = Prompt::Text("a".into());
    let bodies = [
        (
            Form::Titan,
            json!({"inputText": "a", "textGenerationConfig":
            {"maxTokenCount": 7, "temperature": 0.25, "topP": 0.5, "stopSequences": ["x"], "seed": 9}}),
            &text,
            None,
        ),
        (
            Form::Nova,
            json!({"messages": messages, "system": [{"text": "s"}], "inferenceConfig":
            {"maxTokens": 7, "temperature": 0.25, "topP": 0.5, "topK": 3, "stopSequences": ["x"], "seed": 9}}),
            &conversation,
            Some(3),
        ),
        (
            Form::Llama,
            json!({"prompt": "a", "max_gen_len": 7, "temperature": 0.25, "top_p": 0.5, "seed": 9}),
            &text,
            None,
        ),
        (
            Form::Claude,
            json!({"anthropic_version": "bedrock-2023-05-31", "messages": messages, "system": "s",
            "max_tokens": 7, "temperature": 0.25, "top_p": 0.5, "top_k": 3, "stop_sequences": ["x"], "seed": 9}),
            &conversation,
            Some(3),
        ),
        (
            Form::ClaudeText,
            json!({"prompt": "a", "max_tokens_to_sample": 7, "temperature": 0.25, "top_p": 0.5,
            "top_k": 3, "stop_sequences": ["x"], "seed": 9}),
            &text,
            Some(3),
        ),
        (
            Form::Cohere,
            json!({"prompt": "a", "max_tokens": 7, "temperature": 0.25, "p": 0.5, "k": 3,
            "stop_sequences": ["x"], "seed": 9}),
            &text,
            Some(3),
        ),
        (
            Form::Mistral,
            json!({"prompt": "a", "max_tokens": 7, "temperature": 0.25, "top_p": 0.5, "top_k": 3,
            "stop": ["x"], "seed": 9}),
            &text,
            Some(3),
        ),
    ];
    for (form, body, prompt, top_k) in bodies {
        let stop = if form == Form::Llama { vec![] } else { vec!["x".to_string()] };
        let expected =
            Ask { prompt: prompt.clone(), max_tokens: 7, temperature: 0.25, top_p: 0.5, top_k, seed: 9, stop };
        assert_eq!(form.read(&body).unwrap(), expected, "{form:?}");
    }
}

#[test]
fn what_is_left_out_is_the_providers_default() {
    let titan = Form::Titan.read(&json!({"inputText": "a"})).unwrap();
    assert_eq!((titan.max_tokens, titan.temperature, titan.top_p, titan.top_k), (512, 0.7, 0.9, None));
    assert!(titan.stop.is_empty());
    let again = Form::Titan.read(&json!({"inputText": "a"})).unwrap();
    assert_ne!(titan.seed, again.seed, "another text each time");
    let one = Form::Llama.read(&json!({"prompt": "a", "top_p": 0})).unwrap();
    assert!(one.top_p > 0.0 && one.top_p < 1e-300, "the likeliest token alone");
    assert_eq!(Form::Cohere.read(&json!({"prompt": "a", "k": 0})).unwrap().top_k, None, "all tokens");
}

#[test]
fn r33_unknown_members_and_values_out_of_range_are_refused_by_name() {
    let unknown = problem(Form::Titan, json!({"inputText": "a", "textGenerationConfig": {"maxTokens": 3}, "x": 1}));
    assert!(unknown.starts_with("2 validation errors detected"), "{unknown}");
    assert!(unknown.contains("'textGenerationConfig.maxTokens'") && unknown.contains("'x'"), "{unknown}");
    for (form, body, member) in [
        (Form::Titan, json!({}), "'inputText'"),
        (Form::Titan, json!({"inputText": 3}), "'inputText'"),
        (Form::Titan, json!({"inputText": "a", "textGenerationConfig": {"temperature": 1.5}}), "temperature'"),
        (Form::Titan, json!({"inputText": "a", "textGenerationConfig": 3}), "'textGenerationConfig'"),
        (Form::Llama, json!({"prompt": "a", "max_gen_len": 0}), "'max_gen_len'"),
        (Form::Llama, json!({"prompt": "a", "max_gen_len": 1.5}), "'max_gen_len'"),
        (Form::Claude, json!({"messages": [{"role": "user", "content": "a"}]}), "'max_tokens'"),
        (Form::Mistral, json!({"prompt": "a", "stop": [""]}), "'stop'"),
        (Form::Cohere, json!({"prompt": "a", "seed": -1}), "'seed'"),
    ] {
        let message = problem(form, body);
        assert!(message.contains(member), "{form:?}: {message}");
    }
    assert!(Form::Titan.read(&json!([1])).unwrap_err().message.contains("not a JSON object"));
}

#[test]
fn answers_and_chunks_say_the_same() {
    let whole =
        Answer { text: "né\n".into(), finish: Finish::StopText("x".into()), input_tokens: 4, output_tokens: 3 };
    let texts = |form: Form, chunks: &[Value]| -> String {
        let path = match form {
            Form::Titan => "/outputText",
            Form::Nova => "/contentBlockDelta/delta/text",
            Form::Llama => "/generation",
            Form::Claude => "/delta/text",
            Form::ClaudeText => "/completion",
            Form::Cohere => "/text",
            Form::Mistral => "/outputs/0/text",
        };
        chunks.iter().filter_map(|chunk| chunk.pointer(path)?.as_str()).collect()
    };
    for form in FORMS {
        let chunks = Chunks { form, model: "m".into(), input_tokens: 4 };
        let mut all = chunks.begin();
        all.extend(["n", "é\n"].map(|text| chunks.text(text)));
        all.extend(chunks.end(&whole, 12));
        assert_eq!(texts(form, &all), "né\n", "{form:?}: {all:?}");
        let figures = &all.last().unwrap()["amazon-bedrock-invocationMetrics"];
        assert_eq!(figures, &json!({"inputTokenCount": 4, "outputTokenCount": 3, "invocationLatency": 12}));
        let said = answer(form, "m", &whole).to_string();
        let reason = answer::reason(form, &whole.finish);
        assert!(said.contains(r#""né\n""#) && said.contains(reason), "{form:?}: {said}");
        assert!(Value::from(all).to_string().contains(reason), "{form:?}");
    }
    let titan = answer(Form::Titan, "m", &Answer { finish: Finish::Length, ..whole.clone() });
    assert_eq!(
        titan,
        json!({"inputTextTokenCount": 4, "results": [{"tokenCount": 3, "outputText": "né\n", "completionReason": "LENGTH"}]})
    );
    assert_eq!(
        answer(Form::Titan, "m", &Answer { finish: Finish::End, ..whole })["results"][0]["completionReason"],
        "FINISHED"
    );
}
