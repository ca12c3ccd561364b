//! Pieces of an answer as InvokeModelWithResponseStream sends them, in each provider's form. The last one has Bedrock's
//! own figures of the call.

use serde_json::{Value, json};

use super::answer::{reason, stop_text};
use super::{Answer, Form};
use crate::call::request_id;

/// Makes the chunks of one answer.
pub(in crate::inference) struct Chunks {
    pub(in crate::inference) form: Form,
    pub(in crate::inference) model: String,
    pub(in crate::inference) input_tokens: u64,
}

impl Chunks {
    /// Before the first text.
    pub(in crate::inference) fn begin(&self) -> Vec<Value> {
        match self.form {
            Form::Claude => vec![
                json!({"type": "message_start", "message": {
                    "id": format!("msg_{}", request_id()), "type": "message", "role": "assistant", "model": self.model,
                    "content": [], "stop_reason": null, "stop_sequence": null,
                    "usage": {"input_tokens": self.input_tokens, "output_tokens": 0},
                }}),
                json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
            ],
            Form::Nova => vec![json!({"messageStart": {"role": "assistant"}})],
            _ => Vec::new(),
        }
    }

    /// A piece of text.
    pub(in crate::inference) fn text(&self, text: &str) -> Value {
        match self.form {
            Form::Titan => json!({
                "outputText": text, "index": 0, "totalOutputTextTokenCount": null, "completionReason": null,
                "inputTextTokenCount": null,
            }),
            Form::Nova => json!({"contentBlockDelta": {"delta": {"text": text}, "contentBlockIndex": 0}}),
            Form::Llama => json!({
                "generation": text, "prompt_token_count": null, "generation_token_count": null, "stop_reason": null,
            }),
            Form::Claude => json!({
                "type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text},
            }),
            Form::ClaudeText => json!({"type": "completion", "completion": text, "stop_reason": null, "stop": null}),
            Form::Cohere => json!({"text": text, "is_finished": false}),
            Form::Mistral => json!({"outputs": [{"text": text, "stop_reason": null}]}),
        }
    }

    /// After the last text.
    pub(in crate::inference) fn end(&self, answer: &Answer, milliseconds: u64) -> Vec<Value> {
        let Answer { finish, input_tokens, output_tokens, .. } = answer;
        let reason = reason(self.form, finish);
        let mut chunks = match self.form {
            Form::Titan => vec![json!({
                "outputText": "", "index": 0, "totalOutputTextTokenCount": output_tokens, "completionReason": reason,
                "inputTextTokenCount": input_tokens,
            })],
            Form::Nova => vec![
                json!({"contentBlockStop": {"contentBlockIndex": 0}}),
                json!({"messageStop": {"stopReason": reason}}),
                json!({"metadata": {"usage": {"inputTokens": input_tokens, "outputTokens": output_tokens}}}),
            ],
            Form::Llama => vec![json!({
                "generation": "", "prompt_token_count": input_tokens, "generation_token_count": output_tokens,
                "stop_reason": reason,
            })],
            Form::Claude => vec![
                json!({"type": "content_block_stop", "index": 0}),
                json!({
                    "type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": stop_text(finish)},
                    "usage": {"output_tokens": output_tokens},
                }),
                json!({"type": "message_stop"}),
            ],
            Form::ClaudeText => {
                let stop = stop_text(finish);
                vec![json!({"type": "completion", "completion": "", "stop_reason": reason, "stop": stop})]
            }
            Form::Cohere => vec![json!({"text": "", "is_finished": true, "finish_reason": reason})],
            Form::Mistral => vec![json!({"outputs": [{"text": "", "stop_reason": reason}]})],
        };
        if let Some(Value::Object(last)) = chunks.last_mut() {
            let figures = json!({
                "inputTokenCount": input_tokens, "outputTokenCount": output_tokens, "invocationLatency": milliseconds,
            });
            last.insert("amazon-bedrock-invocationMetrics".into(), figures);
        }
        chunks
    }
}
