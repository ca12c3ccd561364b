//! Messages as Converse, Nova and Claude write them: turns that alternate, the user's first and last. Texts alone: images,
//! documents and tools are refused by name.

use serde_json::Value;

use super::protocol::{Prompt, Role, Turn};
use crate::validation::Problems;

/// Reads `messages` and `system`.
pub(super) fn read(messages: Option<&Value>, system: Option<&Value>, problems: &mut Problems) -> Prompt {
    let mut turns: Vec<Turn> = Vec::new();
    match messages.and_then(Value::as_array).filter(|messages| !messages.is_empty()) {
        None => problems.add("messages", None, "Member must have length greater than or equal to 1"),
        Some(messages) => {
            for (index, message) in messages.iter().enumerate() {
                let place = format!("messages.{}.member", index + 1);
                let role = match message["role"].as_str() {
                    Some("user") => Role::User,
                    Some("assistant") => Role::Assistant,
                    other => {
                        let set = "Member must satisfy enum value set: [user, assistant]";
                        problems.add(&format!("{place}.role"), other, set);
                        continue;
                    }
                };
                let texts = texts(&message["content"], &format!("{place}.content"), problems);
                turns.push(Turn { role, texts });
            }
            order(&turns, problems);
        }
    }
    let system = system.map(|system| texts(system, "system", problems).join("\n"));
    Prompt::Conversation { system: system.filter(|system| !system.is_empty()), turns }
}

/// The user speaks first, the two take turns, the user speaks last.
fn order(turns: &[Turn], problems: &mut Problems) {
    if turns.first().is_some_and(|turn| turn.role == Role::Assistant) {
        problems.add("messages", None, "A conversation must start with a user message");
    }
    if turns.windows(2).any(|pair| pair[0].role == pair[1].role) {
        problems.add("messages", None, "Roles must alternate between user and assistant");
    }
    if turns.last().is_some_and(|turn| turn.role == Role::Assistant) {
        problems.add("messages", None, "A conversation must end with a user message");
    }
}

/// A string, or a list of blocks `{"text": ...}` that may say `"type": "text"`.
fn texts(content: &Value, place: &str, problems: &mut Problems) -> Vec<String> {
    if let Some(text) = content.as_str() {
        return vec![text.to_string()];
    }
    let Some(blocks) = content.as_array().filter(|blocks| !blocks.is_empty()) else {
        problems.add(place, None, "Member must have length greater than or equal to 1");
        return Vec::new();
    };
    let mut texts = Vec::new();
    for (index, block) in blocks.iter().enumerate() {
        let is_text = block.get("type").is_none_or(|kind| kind == "text");
        match block["text"].as_str().filter(|_| is_text) {
            Some(text) => texts.push(text.to_string()),
            None => {
                let kind = block.get("type").and_then(Value::as_str);
                let kind = kind.or_else(|| block.as_object()?.keys().next().map(String::as_str));
                let constraint = "Member must be a text block: models on this machine read and write text alone";
                problems.add(&format!("{place}.{}.member", index + 1), kind, constraint);
            }
        }
    }
    texts
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn problem(messages: Value) -> String {
        let mut problems = Problems::default();
        read(Some(&messages), None, &mut problems);
        problems.finish().unwrap_err().message
    }

    #[test]
    fn texts_in_both_spellings_are_turns() {
        let mut problems = Problems::default();
        let messages = json!([
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": [{"type": "text", "text": "b"}]},
            {"role": "user", "content": [{"text": "c"}, {"text": "d"}]}
        ]);
        let read = read(Some(&messages), Some(&json!([{"text": "s"}])), &mut problems);
        problems.finish().unwrap();
        let turn = |role, texts: &[&str]| Turn { role, texts: texts.iter().map(ToString::to_string).collect() };
        let turns = vec![turn(Role::User, &["a"]), turn(Role::Assistant, &["b"]), turn(Role::User, &["c", "d"])];
        assert_eq!(read, Prompt::Conversation { system: Some("s".into()), turns });
    }

    #[test]
    fn what_is_no_conversation_is_refused() {
        let user = json!({"role": "user", "content": [{"text": "a"}]});
        let assistant = json!({"role": "assistant", "content": [{"text": "a"}]});
        assert!(problem(json!([])).contains("length greater than or equal to 1"));
        assert!(problem(json!([assistant.clone(), user.clone()])).contains("must start with a user message"));
        assert!(problem(json!([user.clone(), user.clone()])).contains("must alternate"));
        assert!(problem(json!([user.clone(), assistant])).contains("must end with a user message"));
        assert!(problem(json!([{"role": "system", "content": [{"text": "a"}]}])).contains("[user, assistant]"));
        let image = problem(json!([{"role": "user", "content": [{"image": {"format": "png"}}]}]));
        assert!(image.contains("Value 'image' at 'messages.1.member.content.1.member'"), "{image}");
        let tool = problem(json!([{"role": "user", "content": [{"type": "tool_result", "text": "a"}]}]));
        assert!(tool.contains("'tool_result'"), "{tool}");
    }
}
