//! From the client's words to a request: operations, their members, flags by any unambiguous prefix.

use super::shorthand;
use anyhow::{Context, bail};
use serde_json::{Map, Value, json};

/// What a member is, and so how its words are read.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Text,
    Number,
    /// An object: JSON or shorthand.
    Object,
    /// A list: JSON, or one shorthand object or word each.
    List,
}

/// Where a member goes.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Path,
    Query,
    Body,
}

type Member = (&'static str, Kind, Place);

/// One of Bedrock's operations.
struct Operation {
    command: &'static str,
    name: &'static str,
    method: &'static str,
    /// `{member}` is a member in the path.
    path: &'static str,
    members: &'static [Member],
}

use Kind::{List, Number, Object, Text};
use Place::{Body, Path, Query};

const CREATE_JOB: &[Member] = &[
    ("jobName", Text, Body),
    ("customModelName", Text, Body),
    ("roleArn", Text, Body),
    ("clientRequestToken", Text, Body),
    ("baseModelIdentifier", Text, Body),
    ("customizationType", Text, Body),
    ("customModelKmsKeyId", Text, Body),
    ("jobTags", List, Body),
    ("customModelTags", List, Body),
    ("trainingDataConfig", Object, Body),
    ("validationDataConfig", Object, Body),
    ("outputDataConfig", Object, Body),
    ("hyperParameters", Object, Body),
    ("vpcConfig", Object, Body),
    ("customizationConfig", Object, Body),
];
const LISTING: &[Member] = &[
    ("creationTimeAfter", Text, Query),
    ("creationTimeBefore", Text, Query),
    ("statusEquals", Text, Query),
    ("modelStatus", Text, Query),
    ("nameContains", Text, Query),
    ("baseModelArnEquals", Text, Query),
    ("foundationModelArnEquals", Text, Query),
    ("maxResults", Number, Query),
    ("nextToken", Text, Query),
    ("sortBy", Text, Query),
    ("sortOrder", Text, Query),
];
const JOB: &[Member] = &[("jobIdentifier", Text, Path)];
const MODEL: &[Member] = &[("modelIdentifier", Text, Path)];
const FOUNDATION: &[Member] = &[
    ("byProvider", Text, Query),
    ("byCustomizationType", Text, Query),
    ("byOutputModality", Text, Query),
    ("byInferenceType", Text, Query),
];
const RESOURCE: Member = ("resourceARN", Text, Body);

const fn operation(
    command: &'static str,
    name: &'static str,
    method: &'static str,
    path: &'static str,
    members: &'static [Member],
) -> Operation {
    Operation { command, name, method, path, members }
}

const OPERATIONS: &[Operation] = &[
    operation(
        "create-model-customization-job",
        "CreateModelCustomizationJob",
        "POST",
        "model-customization-jobs",
        CREATE_JOB,
    ),
    operation(
        "get-model-customization-job",
        "GetModelCustomizationJob",
        "GET",
        "model-customization-jobs/{jobIdentifier}",
        JOB,
    ),
    operation(
        "list-model-customization-jobs",
        "ListModelCustomizationJobs",
        "GET",
        "model-customization-jobs",
        LISTING,
    ),
    operation(
        "stop-model-customization-job",
        "StopModelCustomizationJob",
        "POST",
        "model-customization-jobs/{jobIdentifier}/stop",
        JOB,
    ),
    operation("get-custom-model", "GetCustomModel", "GET", "custom-models/{modelIdentifier}", MODEL),
    operation("list-custom-models", "ListCustomModels", "GET", "custom-models", LISTING),
    operation("delete-custom-model", "DeleteCustomModel", "DELETE", "custom-models/{modelIdentifier}", MODEL),
    operation("get-foundation-model", "GetFoundationModel", "GET", "foundation-models/{modelIdentifier}", MODEL),
    operation("list-foundation-models", "ListFoundationModels", "GET", "foundation-models", FOUNDATION),
    operation("tag-resource", "TagResource", "POST", "tagResource", &[RESOURCE, ("tags", List, Body)]),
    operation("untag-resource", "UntagResource", "POST", "untagResource", &[RESOURCE, ("tagKeys", List, Body)]),
    operation("list-tags-for-resource", "ListTagsForResource", "POST", "listTagsForResource", &[RESOURCE]),
];

/// Flags of the client itself: with a value, and whether it has an effect here.
const GLOBAL: [(&str, bool); 9] = [
    ("--region", true),
    ("--cli-input-json", true),
    ("--output", true),
    ("--profile", true),
    ("--endpoint-url", true),
    ("--cli-connect-timeout", true),
    ("--cli-read-timeout", true),
    ("--no-cli-pager", false),
    ("--no-sign-request", false),
];

/// A request for `outcrop_service::perform`.
#[derive(Debug, PartialEq)]
pub(super) struct Request {
    pub(super) operation: &'static str,
    pub(super) method: &'static str,
    pub(super) segments: Vec<String>,
    pub(super) query: Vec<(String, String)>,
    /// Null where the operation has no body.
    pub(super) body: Value,
    pub(super) region: Option<String>,
    /// Flags that were given and change nothing.
    pub(super) without_effect: Vec<String>,
}

/// `jobName` as `--job-name`, `resourceARN` as `--resource-arn`.
fn flag(member: &str) -> String {
    let mut flag = String::from("--");
    let mut before = false;
    for character in member.chars() {
        if character.is_ascii_uppercase() && !before {
            flag.push('-');
        }
        before = character.is_ascii_uppercase();
        flag.push(character.to_ascii_lowercase());
    }
    flag
}

/// Reads the words after `outcrop bedrock`.
pub(super) fn parse(words: &[String]) -> anyhow::Result<Request> {
    let known = || OPERATIONS.iter().map(|operation| operation.command).collect::<Vec<_>>().join(", ");
    let Some((command, words)) = words.split_first() else { bail!("an operation is needed: {}", known()) };
    let operation = OPERATIONS.iter().find(|operation| operation.command == command);
    let operation = operation.with_context(|| format!("no operation `{command}` here; there are {}", known()))?;
    let mut members = Map::new();
    let mut region = None;
    let mut without_effect = Vec::new();
    let mut words = words.iter().map(String::as_str).peekable();
    while let Some(word) = words.next() {
        if !word.starts_with("--") {
            bail!("unexpected `{word}`; a member is given as `--name value`");
        }
        let (name, joined) = word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)));
        let name = full_flag(name, operation)?;
        let global = GLOBAL.iter().find(|(global, _)| *global == name);
        let mut values: Vec<&str> = joined.into_iter().collect();
        if global.is_none_or(|(_, has_value)| *has_value) {
            while joined.is_none() && words.peek().is_some_and(|next| !next.starts_with("--")) {
                values.extend(words.next());
            }
            if values.is_empty() {
                bail!("{name} has no value");
            }
        }
        match (name.as_str(), global) {
            ("--region", _) => region = Some(values.concat()),
            ("--cli-input-json", _) => {
                let json: Value = serde_json::from_str(&text(&values.concat())?).context("--cli-input-json")?;
                let Value::Object(given) = json else { bail!("--cli-input-json holds no JSON object") };
                // What is given as a flag wins, wherever it stands.
                given.into_iter().for_each(|(key, value)| {
                    members.entry(key).or_insert(value);
                });
            }
            (_, Some(_)) => without_effect.push(name),
            _ => {
                let member = operation.members.iter().find(|(member, _, _)| flag(member) == name);
                let (member, kind, _) = member.with_context(|| format!("unknown flag {name}"))?;
                members.insert((*member).to_string(), value(&name, *kind, &values)?);
            }
        }
    }
    request(operation, &members, region, without_effect)
}

/// The flag that `given` is or begins, as the client's own parser completes it.
fn full_flag(given: &str, operation: &Operation) -> anyhow::Result<String> {
    let own = operation.members.iter().map(|(member, _, _)| flag(member));
    let known: Vec<String> = own.chain(GLOBAL.iter().map(|(flag, _)| (*flag).to_string())).collect();
    if known.iter().any(|flag| flag == given) {
        return Ok(given.to_string());
    }
    let matching: Vec<&String> = known.iter().filter(|flag| flag.starts_with(given)).collect();
    match matching.as_slice() {
        [one] => Ok((*one).clone()),
        [] => bail!("unknown flag `{given}`; {} takes {}", operation.command, known.join(", ")),
        several => {
            let names: Vec<&str> = several.iter().map(|flag| flag.as_str()).collect();
            bail!("`{given}` could be {}", names.join(" or "))
        }
    }
}

/// The content of `file://path`, else the words themselves.
fn text(words: &str) -> anyhow::Result<String> {
    match words.strip_prefix("file://") {
        Some(path) => Ok(fs_err::read_to_string(path)?),
        None => Ok(words.to_string()),
    }
}

fn value(name: &str, kind: Kind, words: &[&str]) -> anyhow::Result<Value> {
    if kind != List && words.len() > 1 {
        bail!("{name} takes one value; `{}` is a second", words[1]);
    }
    let texts: Vec<String> = words.iter().map(|word| text(word)).collect::<anyhow::Result<_>>()?;
    let first = texts[0].trim();
    let read = match kind {
        Text => Ok(json!(texts[0])),
        Number => serde_json::from_str(first).map_err(|_| anyhow::anyhow!("`{first}` is no number")),
        Object | List if first.starts_with(['{', '[']) => Ok(serde_json::from_str(first)?),
        Object => shorthand::object(first),
        List => {
            texts.iter().map(|text| shorthand::item(text.trim())).collect::<anyhow::Result<Vec<_>>>().map(Value::from)
        }
    };
    read.with_context(|| name.to_string())
}

fn request(
    operation: &Operation,
    members: &Map<String, Value>,
    region: Option<String>,
    without_effect: Vec<String>,
) -> anyhow::Result<Request> {
    let word = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_string);
    let mut segments = Vec::new();
    for segment in operation.path.split('/') {
        match segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            Some(member) => {
                let value = members.get(member).with_context(|| format!("{} is required", flag(member)))?;
                segments.push(word(value));
            }
            None => segments.push(segment.to_string()),
        }
    }
    let place =
        |name: &str| operation.members.iter().find(|(member, _, _)| *member == name).map(|(_, _, place)| *place);
    let query = members.iter().filter(|(name, _)| place(name) == Some(Query));
    let query = query.map(|(name, value)| (name.clone(), word(value))).collect();
    let has_body = operation.members.iter().any(|(_, _, place)| *place == Body);
    // Members of a JSON file that Bedrock doesn't have are the operation's to ignore.
    let body: Map<String, Value> = members.clone().into_iter().filter(|(name, _)| place(name) != Some(Query)).collect();
    let body = if has_body { Value::Object(body) } else { Value::Null };
    let (name, method) = (operation.name, operation.method);
    Ok(Request { operation: name, method, segments, query, body, region, without_effect })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &[&str]) -> Vec<String> {
        text.iter().map(|word| (*word).to_string()).collect()
    }

    #[test]
    fn the_articles_command_is_read_as_the_client_reads_it() {
        let request = parse(&words(&[
            "create-model-customization-job",
            "--job-name",
            "my-classification-job",
            "--customization-type",
            "FINE_TUNING",
            "--role-arn",
            "arn:aws:iam::123456789012:role/BedrockFineTuningRole",
            "--base-model-id",
            "anthropic.claude-3-sonnet-20240229-v1:0",
            "--training-data-config",
            r#"{"s3Uri": "s3://my-bucket/training-data.jsonl"}"#,
            "--output-data-config",
            "s3Uri=s3://my-bucket/output/",
            "--hyper-parameters",
            r#"{"epochCount": "3", "batchSize": 1, "learningRate": "0.00001"}"#,
            "--job-tags",
            "key=team,value=a b",
            "key=x,value=",
        ]))
        .unwrap();
        assert_eq!(request.segments, ["model-customization-jobs"]);
        assert_eq!(
            request.body,
            json!({
                "jobName": "my-classification-job",
                "customizationType": "FINE_TUNING",
                "roleArn": "arn:aws:iam::123456789012:role/BedrockFineTuningRole",
                "baseModelIdentifier": "anthropic.claude-3-sonnet-20240229-v1:0",
                "trainingDataConfig": {"s3Uri": "s3://my-bucket/training-data.jsonl"},
                "outputDataConfig": {"s3Uri": "s3://my-bucket/output/"},
                "hyperParameters": {"epochCount": "3", "batchSize": 1, "learningRate": "0.00001"},
                "jobTags": [{"key": "team", "value": "a b"}, {"key": "x", "value": ""}]
            })
        );
    }

    #[test]
    fn prefixes_are_completed_where_they_are_unambiguous() {
        let error = parse(&words(&["create-model-customization-job", "--custom-model", "x"])).unwrap_err().to_string();
        assert_eq!(
            error,
            "`--custom-model` could be --custom-model-name or --custom-model-kms-key-id or --custom-model-tags"
        );
        let request = parse(&words(&["list-custom-models", "--max=2", "--region", "eu-west-1", "--output", "json"]));
        let request = request.unwrap();
        assert_eq!(request.query, [("maxResults".to_string(), "2".to_string())]);
        assert_eq!((request.region.as_deref(), request.body), (Some("eu-west-1"), Value::Null));
        assert_eq!(request.without_effect, ["--output"]);
    }

    #[test]
    fn a_member_in_the_path_is_required_and_stays_one_segment() {
        let error = parse(&words(&["get-model-customization-job"])).unwrap_err().to_string();
        assert_eq!(error, "--job-identifier is required");
        let arn = "arn:aws:bedrock:us-east-1:123456789012:model-customization-job/a.bc/abcdefghijk1";
        let request = parse(&words(&["stop-model-customization-job", "--job-identifier", arn])).unwrap();
        assert_eq!(request.segments, ["model-customization-jobs", arn, "stop"]);
    }

    #[test]
    fn flags_are_the_clients() {
        assert_eq!(flag("resourceARN"), "--resource-arn");
        assert_eq!(flag("customModelKmsKeyId"), "--custom-model-kms-key-id");
    }
}
