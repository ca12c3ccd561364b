//! Words that error messages share: quoting a user's value on one line, and the nearest known name.

/// Most characters of a user's value that a message repeats.
const QUOTED_CHARACTERS: usize = 120;

/// `value` in backticks, on one line: control characters escaped, the middle of a long value left out.
pub(crate) fn quote(value: &str) -> String {
    let mut shown = String::new();
    for (index, character) in value.chars().enumerate() {
        if index == QUOTED_CHARACTERS {
            shown.push_str("...");
            break;
        }
        if character.is_control() {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    format!("`{shown}`")
}

/// The known name most like `word`: one that contains it (or is contained in it) before one that merely resembles it.
/// Case and separators don't count. None only where nothing is known.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = plain(word);
    let score = |name: &str| {
        let name = plain(name);
        let part = word.len() >= 3 && (name.contains(&word) || word.contains(&name));
        strsim::jaro_winkler(&word, &name) + if part { 1.0 } else { 0.0 }
    };
    let mut best: Option<(&str, f64)> = None;
    for name in known {
        let score = score(name);
        if best.is_none_or(|(_, highest)| score > highest) {
            best = Some((name, score));
        }
    }
    best.map(|(name, _)| name)
}

fn plain(name: &str) -> String {
    name.chars().filter(|character| character.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_stays_on_one_line_and_short() {
        assert_eq!(quote("a\nb\u{7}"), r"`a\nb\u{7}`");
        let long = quote(&"é".repeat(200));
        assert_eq!(long.chars().count(), QUOTED_CHARACTERS + 5);
        assert!(long.ends_with("...`"));
    }

    #[test]
    fn nearest_forgives_case_separators_and_missing_parts() {
        let known = ["epochCount", "batchSize", "learningRate", "learningRateWarmupSteps", "maxSteps", "seed"];
        for (word, expected) in [
            ("epochs", "epochCount"),
            ("epoch_count", "epochCount"),
            ("BatchSize", "batchSize"),
            ("learninRate", "learningRate"),
            ("warmupSteps", "learningRateWarmupSteps"),
            ("max_steps", "maxSteps"),
            ("sed", "seed"),
        ] {
            assert_eq!(nearest(word, known), Some(expected), "{word}");
        }
        assert_eq!(nearest("x", []), None);
    }
}
