//! SQuAD's normalisation of answers: lower case, no punctuation, no English articles, single spaces. From the evaluation
//! script of SQuAD 1.1 (Rajpurkar et al. 2016), whose punctuation is that of ASCII.

/// The text as it is compared.
pub(crate) fn normalised(text: &str) -> String {
    let lowered = text.to_lowercase();
    let plain: String = lowered.chars().filter(|letter| !letter.is_ascii_punctuation()).collect();
    let mut out = String::with_capacity(plain.len());
    let mut rest = plain.as_str();
    // runs of letters and digits, so that an article is one only between word boundaries
    while !rest.is_empty() {
        let is_word = |letter: char| letter.is_alphanumeric();
        let end = rest.find(|letter| !is_word(letter)).unwrap_or(rest.len());
        let (word, behind) = rest.split_at(end);
        out.push_str(if matches!(word, "a" | "an" | "the") { " " } else { word });
        let next = behind.find(is_word).unwrap_or(behind.len());
        out.push_str(&behind[..next]);
        rest = &behind[next..];
    }
    out.split_whitespace().collect::<Vec<_>>().join(" ")
}
