//! Bedrock's words for members that break a constraint, all of a request in one message.

use std::sync::LazyLock;

use outcrop_job::request::{Constraint, Violation};
use regex::Regex;
use serde_json::Value;

use crate::ApiError;

/// The constraints that a request breaks.
#[derive(Debug, Default)]
pub(crate) struct Problems(Vec<String>);

impl Problems {
    /// Notes that `member` breaks a constraint, with its value where it has one.
    pub(crate) fn add(&mut self, member: &str, value: Option<&str>, constraint: impl AsRef<str>) {
        let value = value.map_or_else(|| "Value".to_string(), |value| format!("Value '{}'", shortened(value)));
        self.0.push(format!("{value} at '{member}' failed to satisfy constraint: {}", constraint.as_ref()));
    }

    /// Notes a violation that the request's own check found.
    pub(crate) fn add_violation(&mut self, violation: &Violation) {
        let constraint = match violation.constraint {
            Constraint::Required { .. } => "Member must not be null".to_string(),
            Constraint::Pattern { pattern, .. } => must_match(pattern),
            Constraint::Length { min, max } => {
                let length = violation.value.as_deref().unwrap_or_default().chars().count();
                length_constraint(length, min, max)
            }
            Constraint::Items { min, max, found } => length_constraint(found, min, max),
            Constraint::Scheme => must_match("s3://.*"),
            Constraint::Duplicate => "Member must have unique values".to_string(),
        };
        self.add(&violation.member, violation.value.as_deref(), constraint);
    }

    /// Checks a required string of the body.
    pub(crate) fn required<'b>(&mut self, body: &'b Value, member: &str, text: &Text) -> &'b str {
        match body.get(member) {
            None | Some(Value::Null) => self.add(member, None, "Member must not be null"),
            Some(Value::String(value)) => {
                self.text(member, value, text);
                return value;
            }
            Some(_) => self.add(member, None, "Member must be a string"),
        }
        ""
    }

    /// Checks a string of the body that may be absent.
    pub(crate) fn optional<'b>(&mut self, body: &'b Value, member: &str, text: &Text) -> Option<&'b str> {
        match body.get(member) {
            None | Some(Value::Null) => None,
            Some(_) => Some(self.required(body, member, text)),
        }
    }

    /// Checks one of an enum's words.
    pub(crate) fn one_of<'b>(&mut self, body: &'b Value, member: &str, words: &[&str]) -> Option<&'b str> {
        let value = body.get(member)?.as_str();
        match value {
            Some(word) if words.contains(&word) => {}
            other => self.add(member, other, format!("Member must satisfy enum value set: [{}]", words.join(", "))),
        }
        value
    }

    /// Checks a string's length and pattern.
    pub(crate) fn text(&mut self, member: &str, value: &str, text: &Text) {
        let length = value.chars().count();
        if length < text.min || length > text.max {
            self.add(member, Some(value), length_constraint(length, text.min, text.max));
        } else if !text.regex.is_match(value) {
            self.add(member, Some(value), must_match(text.pattern));
        }
    }

    /// Errors: a `ValidationException` with everything that was noted.
    pub(crate) fn finish(self) -> Result<(), ApiError> {
        if self.0.is_empty() { Ok(()) } else { Err(detected(&self.0)) }
    }
}

/// All problems of a request as Bedrock words them together.
pub(crate) fn detected<T: AsRef<str>>(problems: &[T]) -> ApiError {
    let (count, all) = (problems.len(), problems.iter().map(AsRef::as_ref).collect::<Vec<&str>>().join("; "));
    let word = if count == 1 { "error" } else { "errors" };
    ApiError::validation(format!("{count} validation {word} detected: {all}"))
}

fn must_match(pattern: &str) -> String {
    format!("Member must satisfy regular expression pattern: {pattern}")
}

fn length_constraint(length: usize, min: usize, max: usize) -> String {
    if length < min {
        format!("Member must have length greater than or equal to {min}")
    } else {
        format!("Member must have length less than or equal to {max}")
    }
}

/// A value in a message; one of megabytes would be sent back whole.
fn shortened(value: &str) -> String {
    const LONGEST: usize = 256;
    if value.chars().count() <= LONGEST {
        return value.to_string();
    }
    format!("{}...", value.chars().take(LONGEST).collect::<String>())
}

/// A string member's length in characters and pattern.
pub(crate) struct Text {
    min: usize,
    max: usize,
    pattern: &'static str,
    regex: LazyLock<Regex>,
}

macro_rules! text {
    ($name:ident, $min:expr, $max:expr, $pattern:expr) => {
        pub(crate) static $name: Text = Text {
            min: $min,
            max: $max,
            pattern: $pattern,
            regex: LazyLock::new(|| {
                Regex::new(concat!("^(?:", $pattern, ")$")).expect("a constant pattern, compiled by the tests")
            }),
        };
    };
}

text!(MODEL_NAME, 1, 63, r"([0-9a-zA-Z][_-]?){1,63}");
text!(TOKEN, 1, 256, r"[a-zA-Z0-9]([-a-zA-Z0-9]{0,254}[a-zA-Z0-9])?");
text!(RESOURCE_ARN, 20, 1011, r".*arn:aws(-[^:]+)?:bedrock:[a-z0-9-]{1,20}:([0-9]{12})?:.+");
text!(TAG_KEY, 1, 128, r"[a-zA-Z0-9\s._:/=+@-]*");
text!(TAG_VALUE, 0, 256, r"[a-zA-Z0-9\s._:/=+@-]*");
text!(MODEL_ID, 1, 2048, r"[a-zA-Z0-9.:/_-]+");
text!(EVALUATION_NAME, 1, 63, r"[a-z0-9](-*[a-z0-9]){0,62}");
text!(ROLE_ARN, 0, 2048, r"arn:aws(-[^:]+)?:iam::([0-9]{12})?:role/.+");
text!(LABEL, 1, 63, r"[0-9a-zA-Z_.-]+");
text!(DESCRIPTION, 1, 2048, r"[\s\S]*");
text!(S3_URI, 1, 1024, r"s3://[a-z0-9][-.a-z0-9]{1,61}[a-z0-9](?:/[-!_*'().a-z0-9A-Z]+(?:/[-!_*'().a-z0-9A-Z]+)*)?/?");

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn everything_wrong_is_in_one_message() {
        let mut problems = Problems::default();
        let body = json!({"modelName": "a b", "clientRequestToken": 3, "description": "x"});
        problems.required(&body, "modelName", &MODEL_NAME);
        problems.optional(&body, "clientRequestToken", &TOKEN);
        problems.required(&body, "modelArn", &RESOURCE_ARN);
        problems.optional(&body, "description", &DESCRIPTION);
        let error = problems.finish().unwrap_err();
        assert_eq!(
            error.message,
            "3 validation errors detected: Value 'a b' at 'modelName' failed to satisfy constraint: Member must satisfy \
             regular expression pattern: ([0-9a-zA-Z][_-]?){1,63}; Value at 'clientRequestToken' failed to satisfy \
             constraint: Member must be a string; Value at 'modelArn' failed to satisfy constraint: Member must not be null"
        );
        assert!(Problems::default().finish().is_ok());
    }

    #[test]
    fn patterns_hold_their_whole_value() {
        let job = "arn:aws:bedrock:us-east-1:123456789012:model-customization-job/a.bc/abcdefghijk1";
        let good = [
            (&MODEL_NAME, "a_b-c"),
            (&TOKEN, "a-1"),
            (&RESOURCE_ARN, job),
            (&TAG_KEY, "team name"),
            (&TAG_VALUE, ""),
            (&MODEL_ID, job),
            (&EVALUATION_NAME, "a--b"),
            (&ROLE_ARN, "arn:aws:iam::123456789012:role/R"),
            (&LABEL, "a-b_c.d"),
            (&DESCRIPTION, "two\nlines"),
            (&S3_URI, "s3://bucket/key"),
        ];
        for (text, value) in good {
            let mut problems = Problems::default();
            problems.text("member", value, text);
            assert!(problems.finish().is_ok(), "{value}");
        }
        for (text, value) in [(&MODEL_NAME, "a--b"), (&TOKEN, "-a"), (&TAG_KEY, "a#"), (&S3_URI, "s3://bucket/a b")] {
            let mut problems = Problems::default();
            problems.text("member", value, text);
            assert!(problems.finish().is_err(), "{value}");
        }
    }
}
