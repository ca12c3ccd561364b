//! chrF: the F score of character n-grams, recall counting twice as much as precision (Popović 2015), as sacrebleu has it
//! by default: n-grams of one to six characters without white space, `beta` 2, no words. Here from 0 to 1, there from 0
//! to 100. With several references the one that scores best counts.

use std::collections::HashMap;

/// Longest n-gram.
const ORDER: usize = 6;
/// How much more recall counts than precision.
const BETA: f64 = 2.0;

/// Numbers that [`statistics`] gives: for each n the n-grams of the answer, of the reference, and those in both.
pub(crate) const STATISTICS: usize = 3 * ORDER;

/// What an answer adds to the sums of a corpus, against the reference that scores best.
pub(crate) fn statistics<'a>(answer: &str, references: impl IntoIterator<Item = &'a str>) -> [f64; STATISTICS] {
    let answer = characters(answer);
    let of = |reference: &'a str| {
        let statistics = against(&answer, &characters(reference));
        (score(&statistics), statistics)
    };
    // of equals the first
    let best = references.into_iter().map(of).reduce(|best, next| if next.0 > best.0 { next } else { best });
    best.map_or([0.0; STATISTICS], |(_, statistics)| statistics)
}

/// chrF of statistics, an answer's own or a corpus's sums. Only the n that both have n-grams of count.
pub(crate) fn score(statistics: &[f64]) -> f64 {
    let (mut precision, mut recall, mut orders) = (0.0, 0.0, 0.0);
    for triple in statistics.chunks_exact(3) {
        let &[answer, reference, both] = triple else { continue };
        if answer > 0.0 && reference > 0.0 {
            precision += both / answer;
            recall += both / reference;
            orders += 1.0;
        }
    }
    if precision + recall == 0.0 {
        return 0.0;
    }
    let (precision, recall, factor) = (precision / orders, recall / orders, BETA * BETA);
    (1.0 + factor) * precision * recall / (factor * precision + recall)
}

/// What Python's `str.split` takes out, which knows four separators that aren't white space by Unicode.
fn characters(text: &str) -> Vec<char> {
    text.chars().filter(|letter| !letter.is_whitespace() && !('\u{1c}'..='\u{1f}').contains(letter)).collect()
}

fn against(answer: &[char], reference: &[char]) -> [f64; STATISTICS] {
    let mut statistics = [0.0; STATISTICS];
    for (n, triple) in (1..=ORDER).zip(statistics.chunks_exact_mut(3)) {
        let mut left: HashMap<&[char], usize> = HashMap::new();
        for gram in reference.windows(n) {
            *left.entry(gram).or_default() += 1;
        }
        let mut both = 0;
        for gram in answer.windows(n) {
            if let Some(count) = left.get_mut(gram).filter(|count| **count > 0) {
                *count -= 1;
                both += 1;
            }
        }
        let count = |text: &[char]| (text.len() + 1).saturating_sub(n);
        let answered = if reference.len() < n { 0 } else { count(answer) }; // no reference, no miss
        triple.copy_from_slice(&[answered as f64, count(reference) as f64, f64::from(both)]);
    }
    statistics
}
