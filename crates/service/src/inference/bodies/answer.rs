//! Whole answers of InvokeModel, in each provider's form.

use serde_json::{Value, json};

use super::{Answer, Form};
use crate::call::request_id;
use crate::inference::protocol::Finish;

/// An answer's body.
pub(in crate::inference) fn answer(form: Form, model: &str, answer: &Answer) -> Value {
    let Answer { text, finish, input_tokens, output_tokens } = answer;
    let reason = reason(form, finish);
    match form {
        Form::Titan => json!({
            "inputTextTokenCount": input_tokens,
            "results": [{"tokenCount": output_tokens, "outputText": text, "completionReason": reason}],
        }),
        Form::Nova => json!({
            "output": {"message": {"content": [{"text": text}], "role": "assistant"}},
            "stopReason": reason,
            "usage": {
                "inputTokens": input_tokens, "outputTokens": output_tokens,
                "totalTokens": input_tokens + output_tokens,
            },
        }),
        Form::Llama => json!({
            "generation": text, "prompt_token_count": input_tokens, "generation_token_count": output_tokens,
            "stop_reason": reason,
        }),
        Form::Claude => json!({
            "id": format!("msg_{}", request_id()), "type": "message", "role": "assistant", "model": model,
            "content": [{"type": "text", "text": text}],
            "stop_reason": reason, "stop_sequence": stop_text(finish),
            "usage": {"input_tokens": input_tokens, "output_tokens": output_tokens},
        }),
        Form::ClaudeText => json!({
            "type": "completion", "completion": text, "stop_reason": reason, "stop": stop_text(finish),
        }),
        Form::Cohere => json!({
            "id": request_id(), "prompt": "",
            "generations": [{"id": request_id(), "text": text, "finish_reason": reason}],
        }),
        Form::Mistral => json!({"outputs": [{"text": text, "stop_reason": reason}]}),
    }
}

/// The text that ended an answer, where one did.
pub(super) fn stop_text(finish: &Finish) -> Option<&str> {
    match finish {
        Finish::StopText(text) => Some(text),
        _ => None,
    }
}

/// The provider's word for why a text ends. A full context is the most tokens there can be.
pub(super) fn reason(form: Form, finish: &Finish) -> &'static str {
    let [end, stop_text, length] = match form {
        Form::Titan => ["FINISHED", "STOP_CRITERIA_MET", "LENGTH"],
        Form::Nova => ["end_turn", "stop_sequence", "max_tokens"],
        Form::Llama | Form::Mistral => ["stop", "stop", "length"],
        Form::Claude => ["end_turn", "stop_sequence", "max_tokens"],
        Form::ClaudeText => ["stop_sequence", "stop_sequence", "max_tokens"],
        Form::Cohere => ["COMPLETE", "COMPLETE", "MAX_TOKENS"],
    };
    match finish {
        Finish::End | Finish::Cancelled => end,
        Finish::StopText(_) => stop_text,
        Finish::Length | Finish::Context => length,
    }
}
