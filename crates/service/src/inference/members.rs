//! Members of a body, each checked as it is read; what nobody read is an error, since a setting that is passed over is one
//! that its caller believes in.

use std::ops::RangeInclusive;
use std::sync::LazyLock;

use serde_json::{Map, Value};

use crate::ApiError;
use crate::validation::Problems;

/// An object that is being read.
pub(super) struct Members<'b> {
    object: &'b Map<String, Value>,
    /// In front of a member's name in messages: `inferenceConfig.`.
    place: String,
    read: Vec<&'static str>,
}

impl<'b> Members<'b> {
    /// Errors: the body is no JSON object.
    pub(super) fn of(body: &'b Value) -> Result<Self, ApiError> {
        let object = body.as_object().ok_or_else(|| ApiError::validation("The request body is not a JSON object."))?;
        Ok(Self { object, place: String::new(), read: Vec::new() })
    }

    /// A member as it is; null counts as absent.
    pub(super) fn value(&mut self, name: &'static str) -> Option<&'b Value> {
        self.read.push(name);
        self.object.get(name).filter(|value| !value.is_null())
    }

    /// A member's name with where it is.
    pub(super) fn path(&self, name: &str) -> String {
        format!("{}{name}", self.place)
    }

    fn wrong<T>(&self, problems: &mut Problems, name: &str, constraint: &str) -> Option<T> {
        problems.add(&self.path(name), None, constraint);
        None
    }

    /// A string.
    pub(super) fn text(&mut self, problems: &mut Problems, name: &'static str) -> Option<&'b str> {
        let value = self.value(name)?;
        value.as_str().or_else(|| self.wrong(problems, name, "Member must be a string"))
    }

    /// A string that must be there.
    pub(super) fn required_text(&mut self, problems: &mut Problems, name: &'static str) -> &'b str {
        if self.value(name).is_none() {
            self.wrong::<()>(problems, name, "Member must not be null");
        }
        self.text(problems, name).unwrap_or_default()
    }

    /// A number in a range.
    pub(super) fn number(
        &mut self,
        problems: &mut Problems,
        name: &'static str,
        range: RangeInclusive<f64>,
    ) -> Option<f64> {
        let found = self.value(name)?.as_f64().filter(|number| range.contains(number));
        let constraint = || format!("Member must be a number from {} to {}", range.start(), range.end());
        found.or_else(|| self.wrong(problems, name, &constraint()))
    }

    /// A whole number, at least `least`.
    pub(super) fn count(&mut self, problems: &mut Problems, name: &'static str, least: u64) -> Option<u64> {
        let found = self.value(name)?.as_u64().filter(|number| *number >= least);
        let constraint = || format!("Member must have value greater than or equal to {least}");
        found.or_else(|| self.wrong(problems, name, &constraint()))
    }

    /// A list of strings that aren't empty.
    pub(super) fn texts(&mut self, problems: &mut Problems, name: &'static str) -> Vec<String> {
        let Some(value) = self.value(name) else { return Vec::new() };
        let texts: Option<Vec<String>> = value.as_array().and_then(|values| {
            let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_string);
            values.iter().map(text).collect()
        });
        let none = || self.wrong(problems, name, "Member must be a list of strings that aren't empty");
        texts.or_else(none).unwrap_or_default()
    }

    /// An object in the object; an empty one where there is none.
    pub(super) fn inner(&mut self, problems: &mut Problems, name: &'static str) -> Members<'b> {
        static NONE: LazyLock<Map<String, Value>> = LazyLock::new(Map::new);
        let object = self.value(name).and_then(|value| {
            let object = value.as_object();
            object.or_else(|| self.wrong(problems, name, "Member must be an object"))
        });
        Members { object: object.unwrap_or(&NONE), place: format!("{}{name}.", self.place), read: Vec::new() }
    }

    /// Notes what nobody read.
    pub(super) fn end(self, problems: &mut Problems) {
        for name in self.object.keys().filter(|name| !self.read.contains(&name.as_str())) {
            problems.add(&self.path(name), None, "Member is not one of this model's");
        }
    }
}
