//! ROUGE-L: the F1 of the longest common subsequence of words (Lin 2004), as Google's `rouge_score` has it without
//! stemming. Words are runs of the letters a to z and digits after lowering, so that other scripts have none, as there:
//! chrF is the measure for those.

/// The best over the references, from 0 to 1; 0 where a side has no word.
pub(crate) fn rouge_l<'a>(answer: &str, references: impl IntoIterator<Item = &'a str>) -> f64 {
    let answer = words(answer);
    references.into_iter().map(|reference| against(&answer, &words(reference))).fold(0.0, f64::max)
}

fn words(text: &str) -> Vec<String> {
    let lowered = text.to_lowercase();
    let words = lowered.split(|letter: char| !matches!(letter, 'a'..='z' | '0'..='9'));
    words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

fn against(answer: &[String], reference: &[String]) -> f64 {
    let common = longest_common_subsequence(answer, reference) as f64;
    if common == 0.0 {
        return 0.0;
    }
    let (precision, recall) = (common / answer.len() as f64, common / reference.len() as f64);
    2.0 * precision * recall / (precision + recall)
}

/// Its length. Time: the product of the lengths. Memory: one row.
fn longest_common_subsequence(one: &[String], other: &[String]) -> usize {
    let mut row = vec![0; other.len() + 1];
    for word in one {
        let mut diagonal = 0;
        for (at, against) in other.iter().enumerate() {
            let above = row[at + 1];
            row[at + 1] = if word == against { diagonal + 1 } else { above.max(row[at]) };
            diagonal = above;
        }
    }
    row[other.len()]
}
