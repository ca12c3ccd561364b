//! Times on the wire: RFC 3339 in UTC with milliseconds, `2026-11-22T07:20:00.123Z`, the one form that every AWS SDK
//! reads. Use with `#[serde(with = "outcrop_job::timestamp")]`.

use jiff::{Timestamp, TimestampRound, Unit};
use serde::de::{Deserialize, Deserializer, Error};
use serde::ser::Serializer;

/// The present, cut to whole milliseconds so that it survives a round trip.
pub fn now() -> Timestamp {
    to_milliseconds(Timestamp::now())
}

/// `time` cut to whole milliseconds.
pub fn to_milliseconds(time: Timestamp) -> Timestamp {
    let options = TimestampRound::new().smallest(Unit::Millisecond).mode(jiff::RoundMode::Floor);
    // Rounding can only fail by leaving jiff's range of years (-9999 to 9999); such a time is kept as it is.
    time.round(options).unwrap_or(time)
}

/// `time` as text.
pub fn to_text(time: Timestamp) -> String {
    format!("{time:.3}")
}

/// Writes the text.
///
/// # Errors
/// Only the serializer's own.
pub fn serialize<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&to_text(*time))
}

/// Reads the text; any RFC 3339 time is accepted.
///
/// # Errors
/// A string that isn't an RFC 3339 time.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|_| D::Error::custom(format!("`{text}` isn't an RFC 3339 time")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn milliseconds_and_z_always() {
        let time: Timestamp = "2026-11-22T07:20:00Z".parse().unwrap();
        assert_eq!(to_text(time), "2026-11-22T07:20:00.000Z");
        let time: Timestamp = "2026-11-22T09:20:00.123987+02:00".parse().unwrap();
        assert_eq!(to_text(to_milliseconds(time)), "2026-11-22T07:20:00.123Z");
        assert_eq!(to_text(now()).parse::<Timestamp>().unwrap().subsec_nanosecond() % 1_000_000, 0);
    }
}
