//! Names for jobs and models whose request gives none.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Bedrock's longest job or model name.
const LONGEST: usize = 63;
/// `-20261122-072000`.
const TIME_LENGTH: usize = 16;

/// A job name from a request file's stem and the time (UTC, to the second): `titan-20261122-072000`. Characters that
/// Bedrock's pattern doesn't allow become `-`.
pub fn default_job_name(file_stem: &str, now: Timestamp) -> String {
    let plain: String = file_stem
        .chars()
        .map(|character| if character.is_ascii_alphanumeric() || "+-.".contains(character) { character } else { '-' })
        .collect();
    let stem = plain.trim_matches(|character: char| !character.is_ascii_alphanumeric());
    let stem = &stem[..stem.len().min(LONGEST - TIME_LENGTH)];
    let stem = if stem.is_empty() { "job" } else { stem };
    let time = now.to_zoned(TimeZone::UTC).strftime("%Y%m%d-%H%M%S");
    format!("{stem}-{time}")
}

/// A model name from a job name: `+` and `.` become `-`, doubled separators collapse to their first.
pub fn default_model_name(job_name: &str) -> String {
    let mut name = String::new();
    for character in job_name.chars() {
        let character = if character.is_ascii_alphanumeric() || character == '_' { character } else { '-' };
        let separator = matches!(character, '-' | '_');
        if separator && (name.is_empty() || name.ends_with(['-', '_'])) {
            continue;
        }
        name.push(character);
    }
    name.truncate(LONGEST);
    let name = name.trim_end_matches(['-', '_']);
    if name.is_empty() { "model".to_string() } else { name.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::{is_job_name, is_model_name};

    #[test]
    fn a_job_name_is_the_stem_and_the_second() {
        let now: Timestamp = "2026-11-22T07:20:00.123Z".parse().unwrap();
        assert_eq!(default_job_name("titan", now), "titan-20261122-072000");
        assert_eq!(default_job_name("my job_2", now), "my-job-2-20261122-072000");
        assert_eq!(default_job_name("_.", now), "job-20261122-072000");
        assert_eq!(default_job_name("日本", now), "job-20261122-072000");
    }

    #[test]
    fn a_model_name_maps_and_collapses() {
        assert_eq!(default_model_name("a+b.c"), "a-b-c");
        assert_eq!(default_model_name("a--b+.c-"), "a-b-c");
        assert_eq!(default_model_name("a_-b"), "a_b");
        assert_eq!(default_model_name("..."), "model");
    }

    #[test]
    fn any_stem_gives_names_that_bedrock_accepts() {
        let now: Timestamp = "2026-11-22T07:20:00Z".parse().unwrap();
        let long = "x+.".repeat(60);
        for stem in ["a", "", "-", "a b", "...a..b", "ünï", "a__b", "9", "a/b\\c", long.as_str()] {
            let job = default_job_name(stem, now);
            assert!(is_job_name(&job), "{job}");
            for name in [default_model_name(&job), default_model_name(stem)] {
                assert!(is_model_name(&name), "{name}");
            }
        }
    }
}
