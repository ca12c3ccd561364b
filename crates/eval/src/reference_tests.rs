//! The statistics on ten random data sets, against scipy and statsmodels. `tests/reference_values.py` made
//! `tests/random_statistics.json`.

use serde::Deserialize;

use crate::statistics::{clusters, holm, mcnemar, paired_difference};

#[derive(Deserialize)]
struct Cases {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    differences: Vec<f64>,
    groups: Vec<usize>,
    /// Mean, standard error, interval, p value.
    t: [f64; 5],
    cluster: [f64; 5],
    base: Vec<u8>,
    tuned: Vec<u8>,
    mcnemar: f64,
    p_values: Vec<f64>,
    holm: Vec<f64>,
}

fn assert_close(actual: f64, expected: f64) {
    assert!((actual - expected).abs() <= 1e-8 * expected.abs().max(1e-4), "{actual} is not {expected}");
}

fn assert_estimate(differences: &[f64], clusters: &[usize], expected: [f64; 5]) {
    let estimate = paired_difference(differences, clusters).unwrap();
    let interval = estimate.interval();
    let found = [estimate.mean, estimate.standard_error, interval.low, interval.high, estimate.p_value()];
    found.into_iter().zip(expected).for_each(|(found, expected)| assert_close(found, expected));
}

#[test]
fn r32_statistics_match_scipy_and_statsmodels_on_random_data() {
    let Cases { cases } = serde_json::from_str(include_str!("../tests/random_statistics.json")).unwrap();
    assert_eq!(cases.len(), 10);
    for case in cases {
        let own: Vec<usize> = (0..case.differences.len()).collect();
        assert_estimate(&case.differences, &own, case.t);
        let names: Vec<String> = case.groups.iter().map(usize::to_string).collect();
        assert_estimate(&case.differences, &clusters(names.iter().map(|name| Some(name.as_str()))), case.cluster);

        let changed = |from: u8, to: u8| {
            case.base.iter().zip(&case.tuned).filter(|(base, tuned)| **base == from && **tuned == to).count()
        };
        assert_close(mcnemar(changed(1, 0), changed(0, 1)), case.mcnemar);
        holm(&case.p_values).into_iter().zip(&case.holm).for_each(|(found, expected)| assert_close(found, *expected));
    }
}
