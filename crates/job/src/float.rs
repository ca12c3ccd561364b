//! Floats in JSON: a value that isn't finite is written as the string `"NaN"`, `"inf"` or `"-inf"`, since JSON has no
//! number for it. Use with `#[serde(with = "outcrop_job::float")]`; for `Option<f64>` `outcrop_job::float::optional`.

use std::fmt;

use serde::de::{self, Deserializer, Visitor};
use serde::ser::Serializer;

/// Writes a finite value as a number, others as their name.
///
/// # Errors
/// Only the serializer's own.
pub fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    if value.is_finite() { serializer.serialize_f64(*value) } else { serializer.serialize_str(name(*value)) }
}

/// Reads a number, or `"NaN"`, `"inf"`, `"-inf"`.
///
/// # Errors
/// Any other string or type.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    deserializer.deserialize_any(Float)
}

fn name(value: f64) -> &'static str {
    if value.is_nan() {
        "NaN"
    } else if value > 0.0 {
        "inf"
    } else {
        "-inf"
    }
}

struct Float;

impl Visitor<'_> for Float {
    type Value = f64;

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str("a number, `NaN`, `inf` or `-inf`")
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<f64, E> {
        Ok(value)
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<f64, E> {
        Ok(value as f64)
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<f64, E> {
        Ok(value as f64)
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<f64, E> {
        match value {
            "NaN" => Ok(f64::NAN),
            "inf" => Ok(f64::INFINITY),
            "-inf" => Ok(f64::NEG_INFINITY),
            other => Err(E::invalid_value(de::Unexpected::Str(other), &self)),
        }
    }
}

/// The same for a value that may be absent; use with `#[serde(default, with = "outcrop_job::float::optional")]`.
pub mod optional {
    use serde::de::{Deserialize, Deserializer};
    use serde::ser::Serializer;

    #[derive(serde::Deserialize)]
    struct Wrapped(#[serde(with = "super")] f64);

    /// Writes `null` for None.
    ///
    /// # Errors
    /// Only the serializer's own.
    pub fn serialize<S: Serializer>(value: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => super::serialize(value, serializer),
            None => serializer.serialize_none(),
        }
    }

    /// Reads `null` as None.
    ///
    /// # Errors
    /// As for a plain float.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
        Ok(Option::<Wrapped>::deserialize(deserializer)?.map(|Wrapped(value)| value))
    }
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    #[derive(Serialize, Deserialize)]
    struct Two {
        #[serde(with = "crate::float")]
        a: f64,
        #[serde(default, with = "crate::float::optional")]
        b: Option<f64>,
    }

    #[test]
    fn every_float_survives_bit_for_bit() {
        let mut values = vec![0.0, -0.0, 1.0, 1e-5, f64::MIN_POSITIVE, f64::MAX, f64::INFINITY, f64::NEG_INFINITY];
        // Seventeen-digit values are the ones that a parser without exact rounding gets wrong by one unit.
        values.extend((1..2000).map(|index| (index as f64).sqrt() / 7.0));
        for a in values {
            let text = serde_json::to_string(&Two { a, b: Some(a) }).unwrap();
            let back: Two = serde_json::from_str(&text).unwrap();
            assert_eq!(back.a.to_bits(), a.to_bits(), "{text}");
            assert_eq!(back.b.unwrap().to_bits(), a.to_bits(), "{text}");
        }
    }

    #[test]
    fn not_a_number_is_a_string_and_comes_back() {
        let text = serde_json::to_string(&Two { a: f64::NAN, b: None }).unwrap();
        assert_eq!(text, r#"{"a":"NaN","b":null}"#);
        let back: Two = serde_json::from_str(&text).unwrap();
        assert!(back.a.is_nan() && back.b.is_none());
        assert!(serde_json::from_str::<Two>(r#"{"a":3}"#).unwrap().b.is_none());
    }

    #[test]
    fn other_strings_are_refused() {
        let error = serde_json::from_str::<Two>(r#"{"a":"1.5"}"#).err().unwrap();
        assert!(error.to_string().contains("expected a number, `NaN`, `inf` or `-inf`"), "{error}");
    }
}
