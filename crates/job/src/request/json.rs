//! From JSON text to a `Request`: every problem of the file at once, each with its line and column. Checks the shape
//! only (members and JSON types); Bedrock's patterns and lengths are in `constraints`.

use serde_json::{Map, Value};

use super::{CustomizationType, Origin, Request};
use crate::json_tree::{Kind, Node, parse};
use crate::wording::{nearest, quote};

/// One thing wrong with the text of a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}:{column}: {message}")]
pub struct Problem {
    /// The file's name as the caller gave it.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong and what to do, on one line.
    pub message: String,
}

/// Everything wrong with the text of a request, in order; displayed as one line each.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct RequestError {
    /// At least one.
    pub problems: Vec<Problem>,
}

/// A hyperparameter that the file of a sweep gives as a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct List {
    pub(crate) key: String,
    pub(crate) values: Vec<String>,
    /// Where the list begins.
    pub(crate) line: usize,
    pub(crate) column: usize,
}

/// What a member of the request may hold.
enum Shape {
    Text,
    CustomizationType,
    Object(&'static [Member]),
    List(&'static Shape),
    /// An object of strings; a file may write numbers and booleans, kept as their text.
    Strings,
    /// Known to Bedrock, not to this engine: the reason.
    Refused(&'static str),
}

struct Member {
    name: &'static str,
    shape: Shape,
    required: bool,
}

const fn optional(name: &'static str, shape: Shape) -> Member {
    Member { name, shape, required: false }
}

const fn required(name: &'static str, shape: Shape) -> Member {
    Member { name, shape, required: true }
}

const ONLY: &str = "is not supported: this engine runs `FINE_TUNING` and `CONTINUED_PRE_TRAINING` jobs on files";
const LOCATION: Shape = Shape::Object(&[required("s3Uri", Shape::Text)]);
const TAG: Shape = Shape::Object(&[required("key", Shape::Text), required("value", Shape::Text)]);

/// Bedrock's request, from the service model of botocore 1.43.11. Members that the root requires are checked by
/// `validate`, since `--set` may still give them.
const REQUEST: &[Member] = &[
    optional("jobName", Shape::Text),
    optional("customModelName", Shape::Text),
    optional("roleArn", Shape::Text),
    optional("clientRequestToken", Shape::Text),
    optional("baseModelIdentifier", Shape::Text),
    optional("customizationType", Shape::CustomizationType),
    optional("customModelKmsKeyId", Shape::Text),
    optional("jobTags", Shape::List(&TAG)),
    optional("customModelTags", Shape::List(&TAG)),
    optional(
        "trainingDataConfig",
        Shape::Object(&[optional("s3Uri", Shape::Text), optional("invocationLogsConfig", Shape::Refused(ONLY))]),
    ),
    optional("validationDataConfig", Shape::Object(&[required("validators", Shape::List(&LOCATION))])),
    optional("outputDataConfig", LOCATION),
    optional("hyperParameters", Shape::Strings),
    optional(
        "vpcConfig",
        Shape::Object(&[
            required("subnetIds", Shape::List(&Shape::Text)),
            required("securityGroupIds", Shape::List(&Shape::Text)),
        ]),
    ),
    optional(
        "customizationConfig",
        Shape::Object(&[
            optional("distillationConfig", Shape::Refused(ONLY)),
            optional("rftConfig", Shape::Refused(ONLY)),
        ]),
    ),
];

/// Values of Bedrock's enum that this engine doesn't run.
const OTHER_TYPES: [&str; 3] = ["DISTILLATION", "REINFORCEMENT_FINE_TUNING", "IMPORTED"];

impl Request {
    /// Reads a request file's text; `file` is its name in messages. Unknown members, duplicate members and wrong JSON
    /// types are errors (R33); numbers and booleans in `hyperParameters` are kept as their text. Call `validate` next.
    ///
    /// # Errors
    /// All problems of the file at once, each as `file:line:column: message`.
    pub fn from_json_file(file: &str, text: &str) -> Result<Self, RequestError> {
        read(file, text, Origin::File)
    }

    /// Reads an HTTP body. As for a file, but unknown members and nulls are ignored, as Bedrock does.
    ///
    /// # Errors
    /// All problems at once, each as `request:line:column: message`.
    pub fn from_json_body(text: &str) -> Result<Self, RequestError> {
        read("request", text, Origin::Network)
    }
}

fn read(file: &str, text: &str, origin: Origin) -> Result<Request, RequestError> {
    read_lists(file, text, origin, false).map(|(request, _)| request)
}

/// Reads a request; where `lists`, its hyperparameters may be lists, which are left out of it and given beside it.
pub(crate) fn read_lists(
    file: &str,
    text: &str,
    origin: Origin,
    lists: bool,
) -> Result<(Request, Vec<List>), RequestError> {
    let one = |line, column, message: String| RequestError {
        problems: vec![Problem { file: file.to_string(), line, column, message }],
    };
    let tree = parse(text).map_err(|error| one(error.line, error.column, error.message))?;
    let mut reader = Reader { file, text, origin, problems: Vec::new(), lists: lists.then(Vec::new) };
    let value = reader.object(&tree, REQUEST, "");
    if !reader.problems.is_empty() {
        return Err(RequestError { problems: reader.problems });
    }
    // The walk above has checked what serde checks; its own error is kept for a member that the two see differently.
    let request = serde_json::from_value(value.unwrap_or_default()).map_err(|error| one(1, 1, error.to_string()))?;
    Ok((request, reader.lists.unwrap_or_default()))
}

struct Reader<'a> {
    file: &'a str,
    text: &'a str,
    origin: Origin,
    problems: Vec<Problem>,
    /// The lists so far, where hyperparameters may be lists.
    lists: Option<Vec<List>>,
}

impl Reader<'_> {
    fn problem(&mut self, offset: usize, message: String) {
        let (line, column) = crate::json_tree::position(self.text, offset);
        self.problems.push(Problem { file: self.file.to_string(), line, column, message });
    }

    /// Reports that `node` isn't what `path` takes, and what it should be.
    fn wrong_type(&mut self, node: &Node, path: &str, expected: &str) {
        let subject = if path.is_empty() { "the request" } else { path };
        let found = node.kind.name();
        self.problem(node.start, format!("{subject} is {found}; it must be {expected}"));
    }

    fn value(&mut self, node: &Node, shape: &Shape, path: &str) -> Option<Value> {
        match shape {
            Shape::Text => match &node.kind {
                Kind::Text(text) => Some(Value::String(text.clone())),
                _ => {
                    self.wrong_type(node, path, "a string");
                    None
                }
            },
            Shape::CustomizationType => self.customization_type(node, path),
            Shape::Object(members) => self.object(node, members, path),
            Shape::List(item) => self.list(node, item, path),
            Shape::Strings => self.strings(node, path),
            Shape::Refused(reason) => {
                self.problem(node.start, format!("{path} {reason}; remove it"));
                None
            }
        }
    }

    fn customization_type(&mut self, node: &Node, path: &str) -> Option<Value> {
        let Kind::Text(text) = &node.kind else {
            self.wrong_type(node, path, "`FINE_TUNING` or `CONTINUED_PRE_TRAINING`");
            return None;
        };
        match parse_customization_type(text) {
            Ok(known) => Some(Value::String(known.as_str().to_string())),
            Err(message) => {
                self.problem(node.start, message);
                None
            }
        }
    }

    fn object(&mut self, node: &Node, members: &[Member], path: &str) -> Option<Value> {
        let Kind::Object(entries) = &node.kind else {
            self.wrong_type(node, path, "a JSON object");
            return None;
        };
        let mut object = Map::new();
        let mut seen: Vec<&str> = Vec::new();
        for (key, key_start, child) in entries {
            if seen.contains(&key.as_str()) {
                self.problem(*key_start, format!("{} is given twice; keep one", quote(&join(path, key))));
                continue;
            }
            seen.push(key);
            let Some(member) = members.iter().find(|member| member.name == key) else {
                if self.origin == Origin::File {
                    let near = nearest(key, members.iter().map(|member| member.name)).unwrap_or_default();
                    let path = quote(&join(path, key));
                    self.problem(*key_start, format!("unknown member {path}; the nearest known one is `{near}`"));
                }
                continue;
            };
            if self.origin == Origin::Network && matches!(child.kind, Kind::Null) {
                continue;
            }
            if let Some(value) = self.value(child, &member.shape, &join(path, key)) {
                object.insert(key.clone(), value);
            }
        }
        for member in members.iter().filter(|member| member.required && !seen.contains(&member.name)) {
            self.problem(node.start, format!("{path} has no `{}`; add it", member.name));
        }
        // Only refused members: the union's known keys never reach the request.
        object.remove("customizationConfig");
        Some(Value::Object(object))
    }

    fn list(&mut self, node: &Node, item: &Shape, path: &str) -> Option<Value> {
        let Kind::Array(nodes) = &node.kind else {
            self.wrong_type(node, path, "a JSON array");
            return None;
        };
        let values =
            nodes.iter().enumerate().filter_map(|(index, node)| self.value(node, item, &format!("{path}[{index}]")));
        Some(Value::Array(values.collect()))
    }

    fn strings(&mut self, node: &Node, path: &str) -> Option<Value> {
        let Kind::Object(entries) = &node.kind else {
            self.wrong_type(node, path, "a JSON object of strings");
            return None;
        };
        let mut object = Map::new();
        let mut seen: Vec<&str> = Vec::new();
        for (key, key_start, child) in entries {
            if seen.contains(&key.as_str()) {
                self.problem(*key_start, format!("{} is given twice; keep one", quote(&join(path, key))));
            }
            seen.push(key);
            match &child.kind {
                Kind::Array(items) if self.lists.is_some() => self.values(key, child.start, items, path),
                _ => {
                    if let Some(text) = self.string(child, &join(path, key)) {
                        object.insert(key.clone(), Value::String(text));
                    }
                }
            }
        }
        Some(Value::Object(object))
    }

    /// A string, or a number or boolean as its text: `0.00001` stays `0.00001`.
    fn string(&mut self, node: &Node, path: &str) -> Option<String> {
        match &node.kind {
            Kind::Text(text) => Some(text.clone()),
            Kind::Number | Kind::Flag => Some(self.text[node.start..node.end].to_string()),
            _ => {
                self.wrong_type(node, path, "a string");
                None
            }
        }
    }

    /// The values of a sweep's list.
    fn values(&mut self, key: &str, start: usize, items: &[Node], path: &str) {
        let each = items.iter().enumerate();
        let values = each.filter_map(|(index, item)| self.string(item, &format!("{}[{index}]", join(path, key))));
        let values = values.collect();
        let (line, column) = crate::json_tree::position(self.text, start);
        if let Some(lists) = &mut self.lists {
            lists.push(List { key: key.to_string(), values, line, column });
        }
    }
}

/// Bedrock's enum, less what this engine doesn't run; the error is a whole message.
pub(super) fn parse_customization_type(text: &str) -> Result<CustomizationType, String> {
    let known = [CustomizationType::FineTuning, CustomizationType::ContinuedPreTraining];
    if let Some(found) = known.into_iter().find(|known| known.as_str() == text) {
        return Ok(found);
    }
    if OTHER_TYPES.contains(&text) {
        return Err(format!(
            "customizationType `{text}` is not supported; use `FINE_TUNING` or `CONTINUED_PRE_TRAINING`"
        ));
    }
    let near = nearest(text, known.map(CustomizationType::as_str)).unwrap_or_default();
    Err(format!("customizationType {} is unknown; the nearest known one is `{near}`", quote(text)))
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_string() } else { format!("{path}.{key}") }
}
