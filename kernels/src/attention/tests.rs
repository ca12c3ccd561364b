//! Attention against its reference, against central differences, and its invariances.

use super::*;
use crate::testing::{assert_central_differences, assert_close, random, with_threads};

const SHAPES: [(usize, usize, usize); 4] = [(1, 1, 16), (4, 2, 8), (3, 3, 5), (6, 1, 64)];

fn heads(query: usize, key_value: usize, dim: usize) -> Heads {
    Heads { query, key_value, dim, scale: 1.0 / (dim as f32).sqrt(), window: None, softcap: None }
}

/// The same heads with every option that the scores have.
fn options(h: Heads) -> Vec<Heads> {
    let windows = [1, 3, 64, 70].map(|window| Heads { window: Some(window), ..h });
    let softcap = Heads { softcap: Some(0.7), ..h };
    [vec![h, softcap, Heads { window: Some(9), ..softcap }], windows.to_vec()].concat()
}

fn inputs(t: usize, h: Heads) -> [Tensor; 4] {
    let (wide, narrow) = ([t, h.query * h.dim], [t, h.key_value * h.dim]);
    [random(&wide, 1), random(&narrow, 2), random(&narrow, 3), random(&wide, 4)]
}

#[test]
fn attention_and_its_gradients_match_the_reference() {
    for h in SHAPES.iter().flat_map(|&(query, key_value, dim)| options(heads(query, key_value, dim))) {
        for offsets in [vec![0, 1], vec![0, 7, 8, 31], vec![0, 64, 193]] {
            let documents = Documents::new(offsets).unwrap();
            let [q, k, v, dy] = inputs(documents.num_tokens(), h);
            let (o, lse) = forward(&q, &k, &v, h, &documents).unwrap();
            let (o_expected, lse_expected) = reference::forward(&q, &k, &v, h, &documents).unwrap();
            assert_close("o", &o, &o_expected, 1e-6);
            assert_close("lse", &lse, &lse_expected, 1e-6);
            let saved = Saved { q: &q, k: &k, v: &v, o: &o, lse: &lse };
            let (dq, dk, dv) = backward(&dy, &saved, h, &documents).unwrap();
            let expected = crate::autograd::backward(&[&q, &k, &v], &dy, |x| {
                Ok(reference::forward(&x[0], &x[1], &x[2], h, &documents)?.0)
            })
            .unwrap();
            assert_close("dq", &dq, &expected[0], 1e-5);
            assert_close("dk", &dk, &expected[1], 1e-5);
            assert_close("dv", &dv, &expected[2], 1e-5);
        }
    }
}

#[test]
fn attention_gradient_matches_central_differences_in_f64() {
    let (t, dim) = (5, 3);
    // with a window of one token dq and dk are 0, and there is nothing that f32 could be compared with
    for h in options(heads(1, 1, dim)).into_iter().filter(|h| h.window != Some(1)) {
        let documents = Documents::new(vec![0, 2, t]).unwrap();
        let [q, k, v, dy] = inputs(t, h);
        let flat = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let wide = |t: &Tensor| flat(t).iter().map(|&x| f64::from(x)).collect::<Vec<f64>>();
        let (q64, k64, v64, dy64) = (wide(&q), wide(&k), wide(&v), wide(&dy));
        let starts = [0, 0, 2, 2, 2];
        let loss = |q: &[f64], k: &[f64], v: &[f64]| {
            let mut sum = 0.0;
            for i in 0..t {
                let dot = |j: usize| {
                    let score = (0..dim).map(|d| q[i * dim + d] * k[j * dim + d]).sum::<f64>() * f64::from(h.scale);
                    h.softcap.map_or(score, |cap| f64::from(cap) * (score / f64::from(cap)).tanh())
                };
                let first = h.window.map_or(0, |window| (i + 1).saturating_sub(window)).max(starts[i]);
                let weights: Vec<f64> = (first..=i).map(|j| dot(j).exp()).collect();
                let total: f64 = weights.iter().sum();
                for (w, j) in weights.iter().zip(first..=i) {
                    sum += (0..dim).map(|d| w / total * v[j * dim + d] * dy64[i * dim + d]).sum::<f64>();
                }
            }
            sum
        };
        let (o, lse) = forward(&q, &k, &v, h, &documents).unwrap();
        let saved = Saved { q: &q, k: &k, v: &v, o: &o, lse: &lse };
        let (dq, dk, dv) = backward(&dy, &saved, h, &documents).unwrap();
        assert_central_differences("attention dq", &q64, &flat(&dq), |q| loss(q, &k64, &v64));
        assert_central_differences("attention dk", &k64, &flat(&dk), |k| loss(&q64, k, &v64));
        assert_central_differences("attention dv", &v64, &flat(&dv), |v| loss(&q64, &k64, v));
    }
}

#[test]
fn r10_a_document_has_the_same_bits_whatever_shares_its_row() {
    for h in options(heads(4, 2, 16)) {
        let documents = Documents::new(vec![0, 70, 83, 200]).unwrap();
        let [q, k, v, _] = inputs(200, h);
        let (o, _) = forward(&q, &k, &v, h, &documents).unwrap();
        for range in documents.ranges() {
            let part = |x: &Tensor| x.narrow(0, range.start, range.len()).unwrap();
            let alone = Documents::single(range.len()).unwrap();
            let alone = forward(&part(&q), &part(&k), &part(&v), h, &alone).unwrap().0;
            assert_eq!(alone.to_vec2::<f32>().unwrap(), part(&o).to_vec2::<f32>().unwrap(), "{range:?}");
        }
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let h = heads(4, 2, 16);
    let documents = Documents::new(vec![0, 150, 180]).unwrap();
    let [q, k, v, dy] = inputs(180, h);
    let run = || {
        let (o, lse) = forward(&q, &k, &v, h, &documents).unwrap();
        let (dq, dk, dv) = backward(&dy, &Saved { q: &q, k: &k, v: &v, o: &o, lse: &lse }, h, &documents).unwrap();
        [o, dq, dk, dv].map(|x| x.to_vec2::<f32>().unwrap())
    };
    assert_eq!(with_threads(1, run), with_threads(4, run));
}

#[test]
fn one_token_over_a_cache_equals_the_last_row_of_the_whole() {
    for h in options(heads(4, 2, 16)) {
        let documents = Documents::single(33).unwrap();
        let [q, k, v, _] = inputs(33, h);
        let (o, _) = forward(&q, &k, &v, h, &documents).unwrap();
        let token = q.narrow(0, 32, 1).unwrap();
        let last = decode(&token, &k, &v, h).unwrap();
        assert_close("last row", &last, &o.narrow(0, 32, 1).unwrap(), 1e-6);
        if h.window.is_none() {
            assert_close("plain ops", &last, &decode::plain(&token, &k, &v, h).unwrap(), 1e-6);
        }
    }
}

#[test]
fn r10_one_token_over_a_long_cache_has_the_same_bits_for_every_number_of_threads() {
    let h = heads(9, 3, 64);
    let [q, k, v, _] = inputs(1300, h);
    let token = q.narrow(0, 1299, 1).unwrap();
    let run = || decode(&token, &k, &v, h).unwrap().to_vec2::<f32>().unwrap();
    assert_eq!(with_threads(1, run), with_threads(4, run));
    assert_close("plain ops", &decode(&token, &k, &v, h).unwrap(), &decode::plain(&token, &k, &v, h).unwrap(), 1e-6);
    let message = decode(&q, &k, &v, h).unwrap_err().to_string();
    assert!(message.starts_with("attention: [1300, 576], [1300, 192] and [1300, 192] for one token of "), "{message}");
}

#[test]
fn a_window_and_a_softcap_change_the_result_and_one_that_is_not_above_0_is_refused() {
    let h = heads(2, 1, 8);
    let documents = Documents::single(12).unwrap();
    let [q, k, v, _] = inputs(12, h);
    let run = |h| forward(&q, &k, &v, h, &documents).map(|(o, _)| o.to_vec2::<f32>().unwrap());
    let plain = run(h).unwrap();
    assert_eq!(run(Heads { window: Some(12), ..h }).unwrap(), plain);
    assert_ne!(run(Heads { window: Some(11), ..h }).unwrap(), plain);
    assert_ne!(run(Heads { softcap: Some(1.0), ..h }).unwrap(), plain);
    let message = run(Heads { window: Some(0), ..h }).unwrap_err().to_string();
    assert!(message.contains("a window and a soft-cap are above 0, got Heads"), "{message}");
    assert!(run(Heads { softcap: Some(0.0), ..h }).is_err() && run(Heads { softcap: Some(f32::NAN), ..h }).is_err());
}

#[test]
fn a_nan_is_not_hidden() {
    let h = heads(1, 1, 4);
    let documents = Documents::single(3).unwrap();
    let [_, k, v, _] = inputs(3, h);
    let q = Tensor::full(f32::NAN, (3, 4), k.device()).unwrap();
    let (o, lse) = forward(&q, &k, &v, h, &documents).unwrap();
    assert!(o.flatten_all().unwrap().to_vec1::<f32>().unwrap().iter().all(|x| x.is_nan()));
    assert!(lse.flatten_all().unwrap().to_vec1::<f32>().unwrap().iter().all(|x| x.is_nan()));
}
