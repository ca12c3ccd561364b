//! One line of a JSONL file in any of the formats: which one it is, everything that is wrong with it, and its texts.
//!
//! Training refuses a record at its first mistake; here all mistakes of a record are told. Formats: Bedrock's prompt/completion pair,
//! `bedrock-conversation-2024`, Claude's messages, `input`; for evaluation also items of a suite (`query`).

use std::collections::HashSet;
use std::fmt;

use serde::Serialize;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use super::findings::{Hit, Place};
use super::rules::{self, Rule};
use crate::record::{column, not_utf8, type_name};

/// The only schema version there is.
const SCHEMA_VERSION: &str = "bedrock-conversation-2024";

/// Mistakes of one record that are told.
const MAX_HITS: usize = 20;
/// Keys whose values are looked at. All others are passed over, or a line of nothing but `[],` would take twenty times its length.
const KEYS: [&str; 10] =
    ["prompt", "completion", "schemaVersion", "system", "messages", "input", "query", "gold", "choices", "answer"];

/// What a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// `{"prompt", "completion"}`
    Pair,
    /// `{"schemaVersion": "bedrock-conversation-2024", "messages"}`
    BedrockConversation,
    /// `{"system"?, "messages"}` with texts as contents.
    ClaudeMessages,
    /// `{"input"}`
    Input,
    /// A text file.
    Text,
    /// An item of an evaluation suite.
    Item,
}

impl Format {
    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pair => "prompt/completion",
            Self::BedrockConversation => "bedrock-conversation-2024",
            Self::ClaudeMessages => "Claude messages",
            Self::Input => "input",
            Self::Text => "text",
            Self::Item => "evaluation item",
        }
    }

    /// Whether a record is raw text without a prompt.
    pub(crate) fn is_raw(self) -> bool {
        matches!(self, Self::Input | Self::Text)
    }
}

/// A text of a record and where in it it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) text: String,
}

/// What a line holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Structure {
    /// `None` where the line is of no known format.
    pub(crate) format: Option<Format>,
    pub(crate) hits: Vec<Hit>,
    pub(crate) extra_keys: Vec<String>,
    /// Texts in their order.
    pub(crate) fields: Vec<Field>,
    /// Number of fields that are the prompt; the last field is the completion where there is one.
    pub(crate) prompt_fields: usize,
}

impl Structure {
    /// The prompt as one text: of a conversation all turns before the last.
    pub(crate) fn prompt(&self) -> String {
        let texts: Vec<_> = self.fields[..self.prompt_fields].iter().map(|field| field.text.as_str()).collect();
        texts.join("\n")
    }

    /// What is to be learnt: the completion, the last turn of the assistant, or the raw text.
    pub(crate) fn completion(&self) -> &str {
        self.fields.last().filter(|_| self.fields.len() > self.prompt_fields).map_or("", |field| &field.text)
    }
}

/// A line being taken apart.
struct Parser<'a> {
    line: &'a str,
    place: Place,
    found: Structure,
}

/// Reads one line without its line end.
pub(crate) fn read(line: &[u8], place: Place, is_eval: bool) -> Structure {
    let text = match std::str::from_utf8(line) {
        Ok(text) => text,
        Err(error) => {
            let at = error.valid_up_to();
            let excerpt = String::from_utf8_lossy(&line[at.saturating_sub(40)..line.len().min(at + 80)]).into_owned();
            let hit = Hit::new(&rules::NOT_UTF8, place, not_utf8(line, at), &excerpt).at(column(line, at));
            return Structure { hits: vec![hit], ..Structure::default() };
        }
    };
    let mut parser = Parser { line: text, place, found: Structure::default() };
    if text.trim().is_empty() {
        parser.hit(&rules::BLANK_LINE, "");
        return parser.found;
    }
    match serde_json::from_str::<Entries>(text) {
        Ok(Entries(entries)) => parser.record(entries, is_eval),
        Err(error) => {
            let reason = error.to_string();
            let reason = reason.split(" at line ").next().unwrap_or_default();
            let at = column(line, error.column().saturating_sub(1));
            let hit = Hit::new(&rules::NOT_JSON, place, reason, text).at(at);
            parser.found.hits.push(hit);
        }
    }
    parser.found
}

impl Parser<'_> {
    fn hit(&mut self, rule: &'static Rule, message: impl Into<String>) {
        if self.found.hits.len() < MAX_HITS {
            let hit = Hit::new(rule, self.place, message, self.line);
            self.found.hits.push(hit);
        }
    }

    fn record(&mut self, mut entries: Vec<(String, Value)>, is_eval: bool) {
        let (mut seen, mut double) = (HashSet::new(), None);
        entries.retain(|(key, _)| {
            let is_new = seen.insert(key.clone());
            if !is_new && double.is_none() {
                double = Some(shown_key(key));
            }
            is_new
        });
        if let Some(key) = double {
            self.hit(&rules::DOUBLE_KEY, format!("`{key}`"));
        }
        let has = |key: &str| entries.iter().any(|(found, _)| found == key);
        if has("schemaVersion") || has("messages") {
            self.conversation(entries);
        } else if has("prompt") && has("completion") {
            self.found.format = Some(Format::Pair);
            let prompt = self.text(&mut entries, "prompt");
            let completion = self.text(&mut entries, "completion");
            self.found.prompt_fields = self.found.fields.len() - usize::from(completion);
            let (prompt, completion) =
                (prompt.then(|| self.found.prompt()), completion.then(|| self.found.completion()));
            let (no_prompt, no_completion) = (is_blank(prompt.as_deref()), is_blank(completion));
            if no_prompt {
                self.hit(&rules::EMPTY_PROMPT, "");
            }
            if no_completion {
                self.hit(&rules::EMPTY_COMPLETION, "");
            }
            self.found.extra_keys = entries.into_iter().map(|(key, _)| key).collect();
        } else if has("input") && !has("output") {
            self.found.format = Some(Format::Input);
            let is_text = self.text(&mut entries, "input");
            if is_text && self.found.completion().trim().is_empty() {
                self.hit(&rules::EMPTY_CONTENT, "`input` holds no text");
            }
            self.found.extra_keys = entries.into_iter().map(|(key, _)| key).collect();
        } else if is_eval && has("query") {
            self.item(entries);
        } else {
            let message = unknown_keys(&entries);
            self.hit(&rules::WRONG_KEYS, message);
        }
    }

    /// Takes a string out of the entries; whether there was one.
    fn text(&mut self, entries: &mut Vec<(String, Value)>, key: &str) -> bool {
        let Some(index) = entries.iter().position(|(found, _)| found == key) else { return false };
        match entries.remove(index).1 {
            Value::String(text) => {
                self.found.fields.push(Field { name: key.to_owned(), text });
                true
            }
            other => {
                self.hit(&rules::WRONG_TYPE, format!("`{key}` is {}; it must be a string", type_name(&other)));
                false
            }
        }
    }

    /// An item of an evaluation suite: its query is the prompt, its answer the completion.
    fn item(&mut self, mut entries: Vec<(String, Value)>) {
        self.found.format = Some(Format::Item);
        if self.text(&mut entries, "query") {
            self.found.prompt_fields = self.found.fields.len();
        }
        let get = |key: &str| entries.iter().find(|(found, _)| found == key).map(|(_, value)| value);
        let gold = get("gold").and_then(Value::as_u64).map(|gold| gold as usize);
        let answer = get("choices").and_then(Value::as_array).and_then(|choices| choices.get(gold?)?.as_str());
        if let Some(answer) = answer.or(get("answer").and_then(Value::as_str)) {
            let text = answer.to_owned();
            self.found.fields.push(Field { name: "answer".into(), text });
        }
    }

    fn conversation(&mut self, mut entries: Vec<(String, Value)>) {
        let mut take = |key: &str| {
            let index = entries.iter().position(|(found, _)| found == key)?;
            Some(entries.remove(index).1)
        };
        let (version, system, messages) = (take("schemaVersion"), take("system"), take("messages"));
        let has_blocks = messages
            .as_ref()
            .and_then(Value::as_array)
            .is_some_and(|messages| messages.iter().any(|message| message.get("content").is_some_and(Value::is_array)));
        let is_bedrock = version.is_some() || has_blocks;
        self.found.format = Some(if is_bedrock { Format::BedrockConversation } else { Format::ClaudeMessages });
        self.found.extra_keys = entries.into_iter().map(|(key, _)| key).collect();
        match version {
            Some(Value::String(version)) if version == SCHEMA_VERSION => {}
            Some(other) => {
                let found = serde_json::to_string(&other).unwrap_or_default();
                self.hit(&rules::SCHEMA_VERSION, format!("it is {}", super::findings::excerpt_of(&found)));
            }
            None if is_bedrock => self.hit(&rules::SCHEMA_VERSION, "there is none"),
            None => {}
        }
        match system {
            Some(system) if is_bedrock => self.bedrock_system(system),
            Some(Value::String(text)) => self.found.fields.push(Field { name: "system".into(), text }),
            Some(other) => self
                .hit(&rules::SYSTEM, format!("`system` is {}; in Claude's format it is a string", type_name(&other))),
            None => {}
        }
        match messages {
            Some(Value::Array(messages)) => self.messages(messages, is_bedrock),
            Some(other) => {
                self.hit(&rules::WRONG_TYPE, format!("`messages` is {}; it must be an array", type_name(&other)))
            }
            None => self.hit(&rules::WRONG_KEYS, "`messages` is missing"),
        }
        if !is_bedrock {
            self.turn_markers();
        }
    }

    fn bedrock_system(&mut self, system: Value) {
        let Value::Array(blocks) = system else {
            return self.hit(
                &rules::SYSTEM,
                format!("`system` is {}; it must be an array of one {{\"text\"}}", type_name(&system)),
            );
        };
        if blocks.len() != 1 {
            self.hit(&rules::SYSTEM, format!("`system` has {} items; it must have one", blocks.len()));
        }
        for (index, block) in blocks.into_iter().enumerate() {
            self.block(block, format!("system[{index}]"), &rules::SYSTEM);
        }
    }

    /// One `{"text": ...}` of a content.
    fn block(&mut self, block: Value, name: String, rule: &'static Rule) {
        match block {
            Value::Object(mut block) => match block.remove("text") {
                Some(Value::String(text)) => {
                    if text.trim().is_empty() {
                        self.hit(&rules::EMPTY_CONTENT, format!("`{name}` holds no text"));
                    }
                    self.found.fields.push(Field { name: format!("{name}.text"), text });
                }
                Some(other) => {
                    self.hit(
                        &rules::WRONG_TYPE,
                        format!("`{name}.text` is {}; it must be a string", type_name(&other)),
                    );
                }
                None => {
                    let keys: Vec<_> = block.keys().take(3).map(|key| format!("`{}`", shown_key(key))).collect();
                    let found = if keys.is_empty() { "nothing".into() } else { keys.join(", ") };
                    self.hit(rule, format!("`{name}` holds {found}; only `text` can be trained"));
                }
            },
            other => self.hit(rule, format!("`{name}` is {}; it must be an object with `text`", type_name(&other))),
        }
    }

    fn messages(&mut self, messages: Vec<Value>, is_bedrock: bool) {
        if messages.len() < 2 {
            let message = format!("{} messages; at least one of user and one of assistant are needed", messages.len());
            self.hit(&rules::ROLES, message);
        }
        let last = messages.len().saturating_sub(1);
        let mut told = false;
        for (index, message) in messages.into_iter().enumerate() {
            if index == last {
                self.found.prompt_fields = self.found.fields.len();
            }
            let Value::Object(mut message) = message else {
                self.hit(
                    &rules::WRONG_TYPE,
                    format!("`messages[{index}]` is {}; it must be an object", type_name(&message)),
                );
                continue;
            };
            let role = message.remove("role");
            let content = message.remove("content");
            // the first turn that is out of order is told; the later ones follow from it
            told = told || self.role(role, index, last);
            let name = format!("messages[{index}].content");
            match content {
                Some(Value::Array(blocks)) if is_bedrock => {
                    if blocks.is_empty() {
                        self.hit(&rules::EMPTY_CONTENT, format!("`{name}` has no item"));
                    }
                    for (block, value) in blocks.into_iter().enumerate() {
                        self.block(value, format!("{name}[{block}]"), &rules::WRONG_TYPE);
                    }
                }
                Some(Value::String(text)) if !is_bedrock => {
                    if text.trim().is_empty() {
                        self.hit(&rules::EMPTY_CONTENT, format!("`{name}` holds no text"));
                    }
                    self.found.fields.push(Field { name, text });
                }
                Some(other) => {
                    let needed = if is_bedrock { "an array of {\"text\"}" } else { "a string" };
                    self.hit(&rules::WRONG_TYPE, format!("`{name}` is {}; it must be {needed}", type_name(&other)));
                }
                None => self.hit(&rules::EMPTY_CONTENT, format!("`{name}` is missing")),
            }
        }
    }

    /// Whether a role is out of order, which is told.
    fn role(&mut self, role: Option<Value>, index: usize, last: usize) -> bool {
        let wanted = if index.is_multiple_of(2) { "user" } else { "assistant" };
        let message = match role {
            Some(Value::String(role)) if role == wanted && !(index == last && wanted == "user") => return false,
            Some(Value::String(role)) if role == wanted => {
                "the last message is the user's; it must be the assistant's".into()
            }
            Some(Value::String(role)) if role == "system" => {
                self.hit(
                    &rules::SYSTEM,
                    format!("`messages[{index}]` has the role system; `system` stands beside `messages`"),
                );
                return true;
            }
            Some(Value::String(role)) => {
                format!("`messages[{index}]` is of `{}`; expected is `{wanted}`", shown_key(&role))
            }
            Some(other) => format!("`messages[{index}].role` is {}; it must be a string", type_name(&other)),
            None => format!("`messages[{index}]` has no `role`"),
        };
        self.hit(&rules::ROLES, message);
        true
    }

    fn turn_markers(&mut self) {
        let marker = |field: &Field| {
            ["\nHuman:", "\nAssistant:"]
                .into_iter()
                .find(|marker| field.text.contains(marker))
                .map(|marker| format!("`{}` holds `\\n{}`", field.name, marker.trim_start()))
        };
        if let Some(message) = self.found.fields.iter().find_map(marker) {
            self.hit(&rules::TURN_MARKER, message);
        }
    }
}

fn is_blank(text: Option<&str>) -> bool {
    text.is_some_and(|text| text.trim().is_empty())
}

/// A user's key on one short line.
fn shown_key(key: &str) -> String {
    super::findings::excerpt_of(key).chars().take(40).collect()
}

fn unknown_keys(entries: &[(String, Value)]) -> String {
    let has = |key: &str| entries.iter().any(|(found, _)| found == key);
    let keys: Vec<_> = entries.iter().take(6).map(|(key, _)| format!("`{}`", shown_key(key))).collect();
    let more = if entries.len() > 6 { ", ..." } else { "" };
    let found = if keys.is_empty() { "no keys".into() } else { format!("keys {}{more}", keys.join(", ")) };
    let hint = if has("text") {
        "; `text` is SageMaker's name, Bedrock's is `input`"
    } else if has("input") && has("output") {
        "; pairs are `prompt` and `completion`"
    } else if has("instruction") {
        "; write the instruction into `prompt` and the answer into `completion`"
    } else if has("image-ref") {
        "; images can't be trained on"
    } else if has("prompt") {
        "; `completion` is missing"
    } else if has("completion") {
        "; `prompt` is missing"
    } else {
        ""
    };
    format!("{found}{hint}")
}

/// The entries of an object in their order, the values of [`KEYS`] alone; unlike a map it keeps a key that appears twice.
struct Entries(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EntriesVisitor;
        impl<'de> Visitor<'de> for EntriesVisitor {
            type Value = Entries;
            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a JSON object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut entries = Vec::new();
                while let Some(key) = map.next_key::<String>()? {
                    let value = match KEYS.contains(&key.as_str()) {
                        true => map.next_value()?,
                        false => map.next_value::<IgnoredAny>().map(|_| Value::Null)?,
                    };
                    entries.push((key, value));
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(EntriesVisitor)
    }
}
