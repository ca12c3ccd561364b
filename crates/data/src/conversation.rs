//! Conversation records: Bedrock's `bedrock-conversation-2024` and the `messages` of Claude, checked and with their places.
//!
//! What is checked, for both: a conversation begins with the user, ends with the assistant, and the two alternate; every message
//! has text. Bedrock's has `content` as an array of text blocks and a `system` of one; Claude's has strings, and no text with the
//! markers that the model's own format uses. Texts are kept as they stand. How a conversation becomes tokens is the business of a
//! chat template. Source of the rules: Bedrock's user guide, "prepare your training datasets".

use serde_json::{Map, Value};

use crate::json_place::{Step, offset};
use crate::record::shown_key;

/// The value of `schemaVersion`.
pub const BEDROCK_SCHEMA: &str = "bedrock-conversation-2024";
/// Different keys that training doesn't use which are told of one record.
const MAX_EXTRA_KEYS: usize = 1000;
/// What no text of a Claude record may hold.
const MARKERS: [&str; 2] = ["\nHuman:", "\nAssistant:"];

/// Which of the two forms a record has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConversationForm {
    /// `schemaVersion` is `bedrock-conversation-2024`.
    Bedrock,
    /// Anthropic's: `system` and `content` are strings.
    Claude,
}

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The user, whose words are context.
    User,
    /// The assistant, whose words are learnt.
    Assistant,
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// Who speaks.
    pub role: Role,
    /// The texts of its content blocks, in order; at least one.
    pub texts: Vec<String>,
}

/// A checked conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conversation {
    /// The form it was written in.
    pub form: ConversationForm,
    /// The system prompt.
    pub system: Option<String>,
    /// The messages: user and assistant in turn, beginning with the user and ending with the assistant.
    pub turns: Vec<Turn>,
}

impl Conversation {
    /// How often the assistant speaks.
    pub fn num_replies(&self) -> usize {
        self.turns.len() / 2
    }
}

/// What is wrong and where: a byte offset into the line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConversationError {
    pub(crate) offset: usize,
    pub(crate) message: String,
}

/// Reads the entries of a record that has `messages`. Gives the conversation and the names of keys that aren't used, those inside
/// messages as `messages[].key`. `line` is the JSON that the entries were parsed from.
pub(crate) fn parse(
    line: &str,
    entries: &Map<String, Value>,
) -> Result<(Conversation, Vec<String>), ConversationError> {
    let parser = Parser { line };
    let form = match entries.get("schemaVersion") {
        None => ConversationForm::Claude,
        Some(Value::String(version)) if version == BEDROCK_SCHEMA => ConversationForm::Bedrock,
        Some(other) => {
            let message = format!("`schemaVersion` is {}; it must be \"{BEDROCK_SCHEMA}\"", shown(other));
            return Err(parser.error(&[Step::Key("schemaVersion")], message));
        }
    };
    let mut extra_keys: Vec<String> = entries
        .keys()
        .filter(|key| !["schemaVersion", "system", "messages"].contains(&key.as_str()))
        .map(|key| shown_key(key))
        .collect();
    let system = entries.get("system").map(|system| parser.system(form, system)).transpose()?;
    let path = [Step::Key("messages")];
    let Some(Value::Array(messages)) = entries.get("messages") else {
        return Err(parser.error(&path, "`messages` must be an array".into()));
    };
    let mut turns = Vec::with_capacity(messages.len());
    for (index, message) in messages.iter().enumerate() {
        turns.push(parser.turn(form, index, message, &mut extra_keys)?);
    }
    match turns.last() {
        None => Err(parser.error(&path, "`messages` is empty; a conversation has at least two".into())),
        Some(Turn { role: Role::User, .. }) => {
            let last = [path[0], Step::Index(turns.len() - 1)];
            Err(parser
                .error(&last, "the conversation ends with the user; its last message must be the assistant's".into()))
        }
        Some(_) => Ok((Conversation { form, system, turns }, extra_keys)),
    }
}

struct Parser<'a> {
    line: &'a str,
}

impl Parser<'_> {
    fn error(&self, path: &[Step<'_>], message: String) -> ConversationError {
        ConversationError { offset: offset(self.line, path), message }
    }

    fn system(&self, form: ConversationForm, system: &Value) -> Result<String, ConversationError> {
        let path = [Step::Key("system")];
        match (form, system) {
            (ConversationForm::Claude, Value::String(text)) => {
                self.text(form, &path, "system", text)?;
                Ok(text.clone())
            }
            (ConversationForm::Claude, other) => {
                Err(self.error(&path, format!("`system` is {}; it must be a string", shown(other))))
            }
            (ConversationForm::Bedrock, Value::Array(blocks)) if blocks.len() == 1 => {
                let inner = [path[0], Step::Index(0)];
                self.block(&inner, "system[0]", &blocks[0], &mut Vec::new())
            }
            (ConversationForm::Bedrock, _) => {
                Err(self.error(&path, "`system` must be an array of exactly one `{\"text\": ..}`".into()))
            }
        }
    }

    fn turn(
        &self,
        form: ConversationForm,
        index: usize,
        message: &Value,
        extra_keys: &mut Vec<String>,
    ) -> Result<Turn, ConversationError> {
        let path = [Step::Key("messages"), Step::Index(index)];
        let Value::Object(entries) = message else {
            let what = shown(message);
            return Err(self.error(&path, format!("`messages[{index}]` is {what}; it must be an object")));
        };
        for key in entries.keys().filter(|key| !["role", "content"].contains(&key.as_str())) {
            note(extra_keys, format!("messages[].{}", shown_key(key)));
        }
        let inner = |key: &'static str| [path[0], path[1], Step::Key(key)];
        let role = match entries.get("role") {
            Some(Value::String(role)) if role == "user" => Role::User,
            Some(Value::String(role)) if role == "assistant" => Role::Assistant,
            Some(other) => {
                let what = shown(other);
                let message = format!("`messages[{index}].role` is {what}; it must be \"user\" or \"assistant\"");
                return Err(self.error(&inner("role"), message));
            }
            None => return Err(self.error(&path, format!("`messages[{index}]` has no `role`"))),
        };
        let expected = if index.is_multiple_of(2) { Role::User } else { Role::Assistant };
        if role != expected {
            let (is, must) = if role == Role::User { ("user", "assistant") } else { ("assistant", "user") };
            let message = format!(
                "`messages[{index}].role` is \"{is}\", but \"{must}\" must speak here; roles alternate, the user begins"
            );
            return Err(self.error(&inner("role"), message));
        }
        let content = entries.get("content");
        let content = content.ok_or_else(|| self.error(&path, format!("`messages[{index}]` has no `content`")))?;
        let name = format!("messages[{index}].content");
        let texts = match (form, content) {
            (ConversationForm::Claude, Value::String(text)) => {
                self.text(form, &inner("content"), &name, text)?;
                vec![text.clone()]
            }
            (ConversationForm::Claude, other) => {
                let hint = if other.is_array() {
                    format!("; for text blocks give `schemaVersion` \"{BEDROCK_SCHEMA}\"")
                } else {
                    String::new()
                };
                let message = format!("`{name}` is {}; it must be a string{hint}", shown(other));
                return Err(self.error(&inner("content"), message));
            }
            (ConversationForm::Bedrock, Value::Array(blocks)) if !blocks.is_empty() => {
                let mut texts = Vec::with_capacity(blocks.len());
                for (number, block) in blocks.iter().enumerate() {
                    let path = [path[0], path[1], Step::Key("content"), Step::Index(number)];
                    texts.push(self.block(&path, &format!("{name}[{number}]"), block, extra_keys)?);
                }
                texts
            }
            (ConversationForm::Bedrock, _) => {
                let message = format!("`{name}` must be an array of at least one `{{\"text\": ..}}`");
                return Err(self.error(&inner("content"), message));
            }
        };
        Ok(Turn { role, texts })
    }

    /// A content block of Bedrock's: `{"text": ..}`.
    fn block(
        &self,
        path: &[Step<'_>],
        name: &str,
        block: &Value,
        extra_keys: &mut Vec<String>,
    ) -> Result<String, ConversationError> {
        let Some(entries) = block.as_object() else {
            return Err(self.error(path, format!("`{name}` is {}; it must be `{{\"text\": ..}}`", shown(block))));
        };
        if let Some(kind) = ["image", "video", "document"].into_iter().find(|kind| entries.contains_key(*kind)) {
            return Err(self.error(path, format!("`{name}` is of kind `{kind}`; only text can be trained on")));
        }
        let at = [path, &[Step::Key("text")]].concat();
        match entries.get("text") {
            Some(Value::String(text)) => {
                self.text(ConversationForm::Bedrock, &at, &format!("{name}.text"), text)?;
                for key in entries.keys().filter(|key| *key != "text") {
                    note(extra_keys, format!("messages[].content[].{}", shown_key(key)));
                }
                Ok(text.clone())
            }
            Some(other) => Err(self.error(&at, format!("`{name}.text` is {}; it must be a string", shown(other)))),
            None => Err(self.error(path, format!("`{name}` has no `text`"))),
        }
    }

    fn text(&self, form: ConversationForm, path: &[Step<'_>], name: &str, text: &str) -> Result<(), ConversationError> {
        if text.trim().is_empty() {
            return Err(self.error(path, format!("`{name}` holds no text; remove the record or fill it")));
        }
        let marker = MARKERS.into_iter().find(|marker| form == ConversationForm::Claude && text.contains(marker));
        match marker {
            None => Ok(()),
            Some(marker) => {
                let marker = marker.trim_start();
                Err(self.error(
                    path,
                    format!("`{name}` has a line that begins with `{marker}`, which marks turns; reword it"),
                ))
            }
        }
    }
}

fn note(keys: &mut Vec<String>, key: String) {
    if keys.len() < MAX_EXTRA_KEYS && !keys.contains(&key) {
        keys.push(key);
    }
}

/// A value in a message: short strings as they are, anything else by its type.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) if text.len() <= 40 => format!("{text:?}"),
        other => crate::record::type_name(other).to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Record, parse as parse_line};
    use crate::source::SourceKind;

    fn conversation(line: &str) -> (Conversation, Vec<String>) {
        let parsed = parse_line(line.as_bytes(), SourceKind::Pairs).unwrap();
        let Record::Conversation(conversation) = parsed.record else { panic!("{:?}", parsed.record) };
        (conversation, parsed.extra_keys)
    }

    fn turn(role: Role, texts: &[&str]) -> Turn {
        Turn { role, texts: texts.iter().map(|text| (*text).to_owned()).collect() }
    }

    #[test]
    fn both_forms_are_read_with_one_turn_or_more() {
        let bedrock = r#"{"schemaVersion": "bedrock-conversation-2024", "id": 7, "system": [{"text": "Be brief."}],
            "messages": [{"role": "user", "content": [{"text": "one"}, {"text": "two "}]}, {"role": "assistant", "content": [{"text": "three"}], "name": "x"}]}"#;
        let (found, extra) = conversation(&bedrock.replace('\n', " "));
        let turns = vec![turn(Role::User, &["one", "two "]), turn(Role::Assistant, &["three"])];
        let expected = Conversation { form: ConversationForm::Bedrock, system: Some("Be brief.".into()), turns };
        assert_eq!((found, extra), (expected, vec!["id".to_owned(), "messages[].name".to_owned()]));

        let claude = r#"{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"},
            {"role": "user", "content": "c"}, {"role": "assistant", "content": "d\n"}], "system": "s"}"#;
        let (found, extra) = conversation(&claude.replace('\n', " "));
        assert_eq!((found.form, found.system.as_deref()), (ConversationForm::Claude, Some("s")));
        assert_eq!((found.num_replies(), found.turns[3].texts[0].as_str()), (2, "d\n"));
        assert_eq!(extra, Vec::<String>::new());
    }

    const USER: &str = r#"{"role": "user", "content": "é"}"#;
    const REPLY: &str = r#"{"role": "assistant", "content": "b"}"#;

    /// Each line breaks one rule and nothing else; the column is where the value stands that breaks it.
    fn assert_told(cases: &[(String, &str, &str)]) {
        for (line, place, message) in cases {
            let error = parse_line(line.as_bytes(), SourceKind::Pairs).unwrap_err();
            assert_eq!(error.message, *message, "{line}");
            let byte = place.strip_prefix("LAST ").map_or_else(|| line.find(place), |place| line.rfind(place)).unwrap();
            assert_eq!(error.column, Some(line[..byte].chars().count() as u64 + 1), "{line}");
        }
    }

    #[test]
    fn what_breaks_a_rule_of_messages_is_told_with_its_column() {
        let claude = |messages: &str| format!(r#"{{"messages": {messages}}}"#);
        assert_told(&[
            (claude("3"), "3", "`messages` must be an array"),
            (claude("[]"), "[]", "`messages` is empty; a conversation has at least two"),
            (
                claude(&format!("[{USER}]")),
                "{\"role\"",
                "the conversation ends with the user; its last message must be the assistant's",
            ),
            (
                claude(&format!("[{REPLY}]")),
                "\"assistant\"",
                "`messages[0].role` is \"assistant\", but \"user\" must speak here; roles alternate, the user begins",
            ),
            (
                claude(&format!("[{USER}, {USER}, {REPLY}]")),
                "LAST \"user\"",
                "`messages[1].role` is \"user\", but \"assistant\" must speak here; roles alternate, the user begins",
            ),
            (claude(&format!("[{USER}, 7]")), "7]", "`messages[1]` is a number; it must be an object"),
            (claude(r#"[{"content": "a"}]"#), "{\"content\"", "`messages[0]` has no `role`"),
            (
                claude(r#"[{"role": "system", "content": "a"}]"#),
                "\"system\"",
                "`messages[0].role` is \"system\"; it must be \"user\" or \"assistant\"",
            ),
            (claude(r#"[{"role": "user"}]"#), "{\"role\"", "`messages[0]` has no `content`"),
            (
                claude(r#"[{"role": "user", "content": " \n"}]"#),
                "\" \\n\"",
                "`messages[0].content` holds no text; remove the record or fill it",
            ),
            (
                claude(r#"[{"role": "user", "content": "x\nHuman: y"}]"#),
                "\"x",
                "`messages[0].content` has a line that begins with `Human:`, which marks turns; reword it",
            ),
            (
                claude(r#"[{"role": "user", "content": [{"text": "a"}]}]"#),
                "[{\"text\"",
                "`messages[0].content` is an array; it must be a string; for text blocks give `schemaVersion` \"bedrock-conversation-2024\"",
            ),
        ]);
    }

    #[test]
    fn what_breaks_a_rule_of_bedrocks_conversations_is_told_with_its_column() {
        let block = |content: &str| {
            format!(
                r#"{{"schemaVersion": "bedrock-conversation-2024", "messages": [{{"role": "user", "content": {content}}}, {{"role": "assistant", "content": [{{"text": "b"}}]}}]}}"#
            )
        };
        assert_told(&[
            (block("[]"), "[]", "`messages[0].content` must be an array of at least one `{\"text\": ..}`"),
            (block("\"a\""), "\"a\"", "`messages[0].content` must be an array of at least one `{\"text\": ..}`"),
            (
                block(r#"[{"text": "a"}, {"image": {}}]"#),
                "{\"image\"",
                "`messages[0].content[1]` is of kind `image`; only text can be trained on",
            ),
            (block(r#"[{"txt": "a"}]"#), "{\"txt\"", "`messages[0].content[0]` has no `text`"),
            (block(r#"[{"text": null}]"#), "null", "`messages[0].content[0].text` is null; it must be a string"),
            (block(r#"["a"]"#), "\"a\"", "`messages[0].content[0]` is \"a\"; it must be `{\"text\": ..}`"),
            (
                format!(r#"{{"schemaVersion": "2023", "messages": [{USER}, {REPLY}]}}"#),
                "\"2023\"",
                "`schemaVersion` is \"2023\"; it must be \"bedrock-conversation-2024\"",
            ),
            (
                format!(r#"{{"system": [], "messages": [{USER}, {REPLY}]}}"#),
                "[]",
                "`system` is an array; it must be a string",
            ),
            (
                block(r#"[{"text": "a"}]"#)
                    .replace("\"messages\"", "\"system\": [{\"text\": \"a\"}, {\"text\": \"b\"}], \"messages\""),
                "[{\"text\": \"a\"}, ",
                "`system` must be an array of exactly one `{\"text\": ..}`",
            ),
        ]);
    }

    #[test]
    fn a_pair_with_messages_beside_it_is_refused() {
        let line = r#"{"prompt": "a", "completion": "b", "messages": []}"#;
        let error = parse_line(line.as_bytes(), SourceKind::Pairs).unwrap_err();
        assert_eq!(error.message, "the record has both `prompt` and `messages`; keep one form");
    }
}
