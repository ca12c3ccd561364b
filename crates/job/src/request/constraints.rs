//! Bedrock's lengths, counts and patterns, from the service model of botocore 1.43.11, and what each origin requires.
//! Violations are data, so that the service can word them as AWS does; displayed, they are the engine's own one-liners.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::LazyLock;

use regex::Regex;

use super::{Origin, Request, Tag};
use crate::wording::quote;

/// Most tags of one resource; Bedrock's `TooManyTagsException` comes beyond it.
const MOST_TAGS: usize = 50;
const MOST_VALIDATORS: usize = 10;

/// A member that breaks one of Bedrock's constraints.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{member}{}", self.sentence())]
pub struct Violation {
    /// Path of the member, such as `validationDataConfig.validators[0].s3Uri`.
    pub member: String,
    /// The value; None where the member is missing or is a list.
    pub value: Option<String>,
    /// What it breaks.
    pub constraint: Constraint,
}

/// What a member has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Constraint {
    /// It must be there; with what to give.
    Required {
        /// What to do.
        hint: &'static str,
    },
    /// It must match the whole pattern.
    Pattern {
        /// Bedrock's regular expression, without anchors.
        pattern: &'static str,
        /// A value that matches.
        example: &'static str,
    },
    /// Its length in characters.
    Length {
        /// Fewest characters.
        min: usize,
        /// Most characters.
        max: usize,
    },
    /// Its number of items.
    Items {
        /// Fewest items.
        min: usize,
        /// Most items.
        max: usize,
        /// How many there are.
        found: usize,
    },
    /// A location must be `s3://bucket/key` or a path; another scheme is neither.
    Scheme,
    /// A tag key may occur once.
    Duplicate,
}

impl Violation {
    fn sentence(&self) -> String {
        let value = self.value.as_deref().map(quote).unwrap_or_default();
        match self.constraint {
            Constraint::Required { hint } => format!(" is missing; {hint}"),
            Constraint::Pattern { pattern, example } => {
                format!(" is {value}, which doesn't match Bedrock's pattern `{pattern}`; use for example `{example}`")
            }
            Constraint::Length { min, max } => {
                let length = self.value.as_deref().unwrap_or_default().chars().count();
                format!(" is {value}, {length} characters long; allowed are {min} to {max}")
            }
            Constraint::Items { min, max, found } => format!(" has {found} items; allowed are {min} to {max}"),
            Constraint::Scheme => {
                format!(" is {value}, a scheme that isn't read; use `s3://bucket/key` or a path on disk")
            }
            Constraint::Duplicate => format!(" is {value}, which an earlier tag has too; keep one"),
        }
    }
}

/// A text member's length and pattern. The pattern is compiled on first use.
struct Text {
    min: usize,
    max: usize,
    pattern: &'static str,
    example: &'static str,
    regex: LazyLock<Regex>,
}

macro_rules! text {
    ($name:ident, $min:expr, $max:expr, $pattern:expr, $example:expr) => {
        static $name: Text = Text {
            min: $min,
            max: $max,
            pattern: $pattern,
            example: $example,
            regex: LazyLock::new(|| {
                Regex::new(&format!("^(?:{})$", $pattern)).expect("a constant pattern, compiled by the tests")
            }),
        };
    };
}

text!(JOB_NAME, 1, 63, r"[a-zA-Z0-9](-*[a-zA-Z0-9\+\-\.])*", "support-replies-1");
text!(MODEL_NAME, 1, 63, r"([0-9a-zA-Z][_-]?){1,63}", "support-replies-1");
text!(ROLE_ARN, 0, 2048, r"arn:aws(-[^:]+)?:iam::([0-9]{12})?:role/.+", "arn:aws:iam::123456789012:role/customization");
text!(TOKEN, 1, 256, r"[a-zA-Z0-9]([-a-zA-Z0-9]{0,254}[a-zA-Z0-9])?", "request-1");
text!(
    BASE_MODEL,
    1,
    2048,
    r"(arn:aws(-[^:]+)?:bedrock:[a-z0-9-]{1,20}:(([0-9]{12}:custom-model/([a-z0-9-]{1,63}[.]{1}[a-z0-9-]{1,63}([.]?[a-z0-9-]{1,63})([:][a-z0-9-]{1,63}){0,2})/[a-z0-9]{12})|(:foundation-model/[a-z0-9-]{1,63}[.]{1}[a-z0-9-]{1,63}([:][a-z0-9-]{1,63}){0,2})))|([a-z0-9-]{1,63}[.]{1}[a-z0-9-]{1,63}([.]?[a-z0-9-]{1,63})([:][a-z0-9-]{1,63}){0,2})|(([0-9a-zA-Z][_-]?)+)",
    "local.tiny-v1:0"
);
// Two characters behind the dot: with one, requests refuse what ARNs would take.
text!(FOUNDATION_ID, 1, 255, r"[a-z0-9-]{1,63}[.]{1}[a-z0-9-]{2,63}([:][a-z0-9-]{1,63}){0,2}", "local.tiny-v1:0");
text!(S3_URI, 1, 1024, S3_URI_PATTERN, "s3://my-bucket/train.jsonl");
text!(
    KMS_KEY,
    1,
    2048,
    r"(arn:aws(-[^:]+)?:kms:[a-zA-Z0-9-]*:[0-9]{12}:((key/[a-zA-Z0-9-]{36})|(alias/[a-zA-Z0-9-_/]+)))|([a-zA-Z0-9-]{36})|(alias/[a-zA-Z0-9-_/]+)",
    "alias/my-key"
);
text!(TAG_KEY, 1, 128, r"[a-zA-Z0-9\s._:/=+@-]*", "team");
text!(TAG_VALUE, 0, 256, r"[a-zA-Z0-9\s._:/=+@-]*", "research");
text!(NETWORK_ID, 0, 32, r"[-0-9a-zA-Z]+", "subnet-0123456789abcdef0");

/// Bedrock's S3 URI pattern, for messages.
pub(crate) const S3_URI_PATTERN: &str =
    r"s3://[a-z0-9][-.a-z0-9]{1,61}[a-z0-9](?:/[-!_*'().a-z0-9A-Z]+(?:/[-!_*'().a-z0-9A-Z]+)*)?/?";

/// Whether `uri` is an S3 URI that Bedrock accepts.
pub(crate) fn is_s3_uri(uri: &str) -> bool {
    uri.chars().count() <= S3_URI.max && S3_URI.regex.is_match(uri)
}

/// Whether `id` has the form of a foundation model's id, as ARNs have it.
pub(crate) fn is_foundation_id(id: &str) -> bool {
    id.len() <= FOUNDATION_ID.max && FOUNDATION_ID.regex.is_match(id)
}

#[cfg(test)]
pub(crate) fn is_job_name(name: &str) -> bool {
    name.len() <= JOB_NAME.max && JOB_NAME.regex.is_match(name)
}

/// Whether `name` can be a custom model's name.
pub(crate) fn is_model_name(name: &str) -> bool {
    name.chars().count() <= MODEL_NAME.max && MODEL_NAME.regex.is_match(name)
}

impl Request {
    /// Checks members against Bedrock's constraints and for what `origin` requires.
    ///
    /// # Errors
    /// All violations at once, in the order of Bedrock's members.
    pub fn validate(&self, origin: Origin) -> Result<(), Vec<Violation>> {
        let mut checker = Checker { origin, violations: Vec::new() };
        checker.names(self);
        checker.locations(self);
        checker.tags("jobTags", &self.job_tags);
        checker.tags("customModelTags", &self.custom_model_tags);
        checker.resources(self);
        if checker.violations.is_empty() { Ok(()) } else { Err(checker.violations) }
    }
}

struct Checker {
    origin: Origin,
    violations: Vec<Violation>,
}

impl Checker {
    fn add(&mut self, member: impl fmt::Display, value: Option<&str>, constraint: Constraint) {
        let value = value.map(str::to_string);
        self.violations.push(Violation { member: member.to_string(), value, constraint });
    }

    fn text(&mut self, member: impl fmt::Display, value: &str, text: &Text) {
        let length = value.chars().count();
        if length < text.min || length > text.max {
            self.add(member, Some(value), Constraint::Length { min: text.min, max: text.max });
        } else if !text.regex.is_match(value) {
            self.add(member, Some(value), Constraint::Pattern { pattern: text.pattern, example: text.example });
        }
    }

    fn optional(&mut self, member: &str, value: Option<&str>, text: &Text, required: bool) {
        match value {
            Some(value) => self.text(member, value, text),
            None if required => self.add(member, None, Constraint::Required { hint: "Bedrock requires it" }),
            None => {}
        }
    }

    fn names(&mut self, request: &Request) {
        let network = self.origin == Origin::Network;
        self.optional("jobName", request.job_name.as_deref(), &JOB_NAME, network);
        self.optional("customModelName", request.custom_model_name.as_deref(), &MODEL_NAME, false);
        self.optional("roleArn", request.role_arn.as_deref(), &ROLE_ARN, network);
        self.optional("clientRequestToken", request.client_request_token.as_deref(), &TOKEN, false);
        let base = request.base_model_identifier.as_str();
        if base.is_empty() {
            let hint = "name a model folder, a GGUF file or a known model";
            self.add("baseModelIdentifier", None, Constraint::Required { hint });
        } else if network {
            self.text("baseModelIdentifier", base, &BASE_MODEL);
        } else if base.chars().count() > BASE_MODEL.max {
            self.add("baseModelIdentifier", Some(base), Constraint::Length { min: 1, max: BASE_MODEL.max });
        }
    }

    fn locations(&mut self, request: &Request) {
        self.location("trainingDataConfig.s3Uri", &request.training_data_config.s3_uri);
        let validators = request.validators();
        if validators.len() > MOST_VALIDATORS {
            let items = Constraint::Items { min: 0, max: MOST_VALIDATORS, found: validators.len() };
            self.add("validationDataConfig.validators", None, items);
        }
        for (index, validator) in validators.iter().enumerate() {
            self.location(&format!("validationDataConfig.validators[{index}].s3Uri"), &validator.s3_uri);
        }
        match &request.output_data_config {
            Some(output) => self.location("outputDataConfig.s3Uri", &output.s3_uri),
            None if self.origin == Origin::Network => {
                let hint = "name the `s3://` folder that artifacts go to";
                self.add("outputDataConfig", None, Constraint::Required { hint });
            }
            None => {}
        }
    }

    fn location(&mut self, member: &str, uri: &str) {
        if uri.is_empty() {
            let hint = match self.origin {
                Origin::File => "give `s3://bucket/key` or a path",
                Origin::Network => "give `s3://bucket/key`",
            };
            self.add(member, None, Constraint::Required { hint });
        } else if self.origin == Origin::Network || uri.starts_with("s3://") {
            self.text(member, uri, &S3_URI);
        } else if uri.contains("://") {
            self.add(member, Some(uri), Constraint::Scheme);
        }
    }

    fn tags(&mut self, member: &str, tags: &[Tag]) {
        if tags.len() > MOST_TAGS {
            self.add(member, None, Constraint::Items { min: 0, max: MOST_TAGS, found: tags.len() });
        }
        let mut seen = BTreeSet::new();
        for (index, tag) in tags.iter().enumerate() {
            self.text(format!("{member}[{index}].key"), &tag.key, &TAG_KEY);
            self.text(format!("{member}[{index}].value"), &tag.value, &TAG_VALUE);
            if !seen.insert(tag.key.as_str()) {
                self.add(format!("{member}[{index}].key"), Some(&tag.key), Constraint::Duplicate);
            }
        }
    }

    fn resources(&mut self, request: &Request) {
        self.optional("customModelKmsKeyId", request.custom_model_kms_key_id.as_deref(), &KMS_KEY, false);
        let Some(vpc) = &request.vpc_config else { return };
        for (member, ids, max) in
            [("vpcConfig.subnetIds", &vpc.subnet_ids, 16), ("vpcConfig.securityGroupIds", &vpc.security_group_ids, 5)]
        {
            if ids.is_empty() || ids.len() > max {
                self.add(member, None, Constraint::Items { min: 1, max, found: ids.len() });
            }
            for (index, id) in ids.iter().enumerate() {
                self.text(format!("{member}[{index}]"), id, &NETWORK_ID);
            }
        }
    }
}
