//! chrF, ROUGE-L, SQuAD's normalisation and the F1 of spans against their reference implementations.
//! `tests/reference_texts.py` made `tests/reference_texts.json` with sacrebleu, rouge_score, SQuAD's own functions and
//! seqeval.

use serde::Deserialize;

use super::{chrf, f1, rouge, squad};
use crate::bootstrap::Tally;
use crate::measures::{Measure, MeasureKind, Paired};
use crate::score::Scores;

#[derive(Deserialize)]
struct Reference {
    texts: Vec<Text>,
    /// sacrebleu's corpus chrF of all texts.
    corpus_chrf: f64,
    normalised: Vec<(String, String)>,
    spans: Vec<Spans>,
    bootstrap: Drawn,
}

/// Two models on the same items, in groups that are drawn whole.
#[derive(Deserialize)]
struct Drawn {
    references: Vec<String>,
    base: Vec<String>,
    tuned: Vec<String>,
    groups: Vec<usize>,
    chrf: [f64; 2],
    chrf_interval: [f64; 2],
    base_counts: Vec<[f64; 3]>,
    tuned_counts: Vec<[f64; 3]>,
    micro_interval: [f64; 2],
}

#[derive(Deserialize)]
struct Text {
    answer: String,
    references: Vec<String>,
    chrf: f64,
    rouge_l: f64,
}

/// Type triples of counts (given and right, given, right) and what seqeval says of them.
#[derive(Deserialize)]
struct Spans {
    counts: Vec<[f64; 3]>,
    micro: f64,
    #[serde(rename = "macro")]
    macro_mean: f64,
}

fn reference() -> Reference {
    serde_json::from_str(include_str!("../../tests/reference_texts.json")).unwrap()
}

fn texts(text: &Text) -> impl Iterator<Item = &str> {
    text.references.iter().map(String::as_str)
}

#[test]
fn r32_chrf_is_sacrebleus_for_a_sentence_and_for_a_corpus() {
    let Reference { texts: all, corpus_chrf, .. } = reference();
    assert!(all.len() > 100);
    let mut sums = [0.0; chrf::STATISTICS];
    for text in &all {
        let statistics = chrf::statistics(&text.answer, texts(text));
        let score = 100.0 * chrf::score(&statistics);
        assert!((score - text.chrf).abs() < 1e-9, "{score} for {}: {:?} {:?}", text.chrf, text.answer, text.references);
        sums.iter_mut().zip(statistics).for_each(|(sum, value)| *sum += value);
    }
    let corpus = 100.0 * chrf::score(&sums);
    assert!((corpus - corpus_chrf).abs() < 1e-9, "{corpus} for {corpus_chrf}");
    assert_eq!(chrf::score(&chrf::statistics("", ["a"])), 0.0);
}

#[test]
fn r32_rouge_l_is_rouge_scores() {
    for text in reference().texts {
        let score = rouge::rouge_l(&text.answer, texts(&text));
        assert!((score - text.rouge_l).abs() < 1e-12, "{score} for {}: {:?}", text.rouge_l, text.answer);
    }
}

#[test]
fn r32_answers_are_normalised_as_squads_script_does() {
    let Reference { normalised, .. } = reference();
    assert!(normalised.len() >= 12);
    for (text, expected) in normalised {
        assert_eq!(squad::normalised(&text), expected, "{text:?}");
    }
}

#[test]
fn r32_micro_and_macro_f1_of_spans_are_seqevals() {
    for Spans { counts, micro, macro_mean } in reference().spans {
        let counts = counts.concat();
        assert!((f1::micro_f1(&counts) - micro).abs() < 1e-12, "{counts:?}");
        assert!((f1::macro_f1(&counts) - macro_mean).abs() < 1e-12, "{counts:?}");
    }
}

#[test]
fn r32_the_bootstrap_of_chrf_and_micro_f1_draws_groups_as_numpy_does() {
    let Drawn { references, base, tuned, groups, chrf, chrf_interval, base_counts, tuned_counts, micro_interval } =
        reference().bootstrap;
    let none = Scores::default();
    let of = |tally: &Tally, value: fn(&[f64]) -> f64, seed: u64| -> Measure {
        let paired = Paired { base: &none, tuned: &none, clusters: &groups, resamples: 20_000, seed };
        paired.of_sums(MeasureKind::ChrF, tally, value)
    };
    let close = |measure: &Measure, expected: [f64; 2], tolerance: f64| {
        let found = measure.difference.interval.unwrap();
        for (found, expected) in [found.low, found.high].into_iter().zip(expected) {
            assert!((found - expected).abs() < tolerance, "{found} for {expected}");
        }
    };
    let statistics = |answers: &[String]| -> Vec<[f64; chrf::STATISTICS]> {
        answers.iter().zip(&references).map(|(answer, right)| chrf::statistics(answer, [right.as_str()])).collect()
    };
    let sums = statistics(&base).into_iter().zip(statistics(&tuned));
    let sums = sums.map(|(base, tuned)| base.into_iter().chain(tuned).enumerate());
    let tally = Tally::new(2 * chrf::STATISTICS, &groups, sums);
    let measure = of(&tally, chrf::score, 1);
    assert!((100.0 * measure.base - chrf[0]).abs() < 1e-9 && (100.0 * measure.tuned - chrf[1]).abs() < 1e-9);
    // a few Monte Carlo errors of 20,000 resamples
    close(&measure, chrf_interval.map(|end| end / 100.0), 0.004);
    assert_eq!(measure, of(&tally, chrf::score, 1), "a seed fixes the result");
    assert_ne!(measure, of(&tally, chrf::score, 2));

    let sums = base_counts.iter().zip(&tuned_counts);
    let sums = sums.map(|(base, tuned)| base.iter().chain(tuned).copied().enumerate());
    close(&of(&Tally::new(6, &groups, sums), f1::micro_f1, 1), micro_interval, 0.006);
}
