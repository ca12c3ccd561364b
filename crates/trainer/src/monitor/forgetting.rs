//! How far the model has moved from its base on general text: NLL, and the mean of KL(base || tuned) over whole
//! vocabularies, at a fixed sample of positions. The base's probabilities are computed once, before any training; of a
//! frozen trunk its output at the positions is kept too, so that a look costs what trains alone.
//!
//! N positions, V vocabulary, C channels.

use crate::Result;
use crate::features::Boundary;
use candle_core::Tensor;
use outcrop_data::Batch;
use outcrop_kernels::{fused, pool, view};
use outcrop_model::{Decoder, Row};
use rayon::prelude::*;

/// Probabilities of the base that are kept, and logits that a look holds: 64 MiB of f32 each.
const MOST_VALUES: usize = 16 * 1024 * 1024;

/// Most positions of a sample for a vocabulary of that size.
pub(crate) fn most_positions(vocabulary: usize) -> u64 {
    (MOST_VALUES / vocabulary.max(1)).clamp(1, 256) as u64
}

/// Bytes that a sample of `positions` takes at a look.
pub(crate) fn bytes(positions: u64, vocabulary: usize) -> u64 {
    positions * vocabulary as u64 * 8
}

/// What a look sees; both means over the positions, nats.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Look {
    pub(crate) nll: f64,
    pub(crate) kl: f64,
}

/// The part of the forward pass that never changes.
#[derive(Debug)]
enum Frozen {
    /// None: all weights train.
    Nothing,
    /// Input of the first block that trains, (T, C).
    Input(Tensor, usize),
    /// What the head reads, (N, C).
    Hidden(Tensor),
}

/// What is known of a position of the base.
#[derive(Clone, Copy, Debug)]
struct BaseRow {
    /// Sum of its probabilities: 1 but for their rounding, which so cancels out.
    mass: f64,
    /// Sum of probability times log-probability.
    negative_entropy: f64,
}

/// The sample, and the base at it.
#[derive(Debug)]
pub(crate) struct Forgetting {
    row: Row,
    positions: Vec<u32>,
    next: Vec<u32>,
    frozen: Frozen,
    /// (N, V).
    probabilities: Vec<f32>,
    base: Vec<BaseRow>,
    pub(crate) nll_base: f64,
}

impl Forgetting {
    /// Runs the base, whose weights the decoder must have, at the targets of `batch`. `boundary` is where training starts.
    /// Memory: [`bytes`].
    pub(crate) fn new(decoder: &Decoder, boundary: Option<Boundary>, batch: &Batch) -> Result<Self> {
        let row = Row::new(batch.tokens.clone(), &batch.offsets)?;
        row.check_targets(&batch.targets)?;
        let positions = batch.targets.clone();
        let next = row.next_tokens(&positions);
        let frozen = pool::run(|| {
            Ok::<_, outcrop_model::ModelError>(match boundary {
                None => Frozen::Nothing,
                Some(Boundary::Head) => Frozen::Hidden(decoder.trunk(&row, &positions)?),
                Some(Boundary::Block(block)) => Frozen::Input(decoder.below(&row, block)?, block),
            })
        })?;
        let mut sample =
            Self { row, positions, next, frozen, probabilities: Vec::new(), base: Vec::new(), nll_base: f64::NAN };
        let logits = sample.logits(decoder)?;
        let vocabulary = decoder.spec().vocab_size;
        let mut probabilities = vec![0f32; logits.len()];
        let rows = probabilities.par_chunks_mut(vocabulary).zip(logits.par_chunks(vocabulary));
        sample.base = rows.map(|(probabilities, logits)| base_row(probabilities, logits)).collect();
        sample.probabilities = probabilities;
        sample.nll_base = sample.compare(&logits, vocabulary).nll;
        Ok(sample)
    }

    /// Positions of the sample.
    pub(crate) fn len(&self) -> usize {
        self.positions.len()
    }

    /// The decoder as it stands against the base. Cost: a forward pass of what trains over the sample's tokens.
    pub(crate) fn look(&self, decoder: &Decoder) -> Result<Look> {
        let logits = self.logits(decoder)?;
        Ok(self.compare(&logits, decoder.spec().vocab_size))
    }

    /// Logits at the positions, f32. Shapes: (N, V).
    fn logits(&self, decoder: &Decoder) -> Result<Vec<f32>> {
        let logits = pool::run(|| {
            let hidden = match &self.frozen {
                Frozen::Hidden(hidden) => hidden.clone(),
                Frozen::Input(x, block) => decoder.trunk_above(x.clone(), *block, &self.row, &self.positions)?,
                Frozen::Nothing => decoder.trunk(&self.row, &self.positions)?,
            };
            decoder.head_logits(&hidden)
        })?;
        if fused(&logits) && logits.is_contiguous() {
            return Ok(view(&logits)?.to_vec());
        }
        Ok(logits.flatten_all()?.to_vec1()?)
    }

    fn compare(&self, logits: &[f32], vocabulary: usize) -> Look {
        let rows = logits.par_chunks(vocabulary).zip(self.probabilities.par_chunks(vocabulary));
        let rows = rows.zip(&self.base).zip(&self.next);
        let pairs: Vec<(f64, f64)> = rows
            .map(|(((logits, probabilities), base), &next)| {
                let lse = log_sum_exp(logits);
                (lse - f64::from(logits[next as usize]), kl(probabilities, base, logits, lse))
            })
            .collect();
        let count = pairs.len() as f64;
        // one after the other: the same bits whatever the threads
        Look {
            nll: pairs.iter().map(|pair| pair.0).sum::<f64>() / count,
            kl: pairs.iter().map(|pair| pair.1).sum::<f64>() / count,
        }
    }
}

/// `sum(p * (log p - log q))`: the base's part is known, and `log q = logit - lse`. Never below 0 but for rounding.
fn kl(probabilities: &[f32], base: &BaseRow, logits: &[f32], lse: f64) -> f64 {
    let cross: f64 = probabilities.iter().zip(logits).map(|(&p, &logit)| f64::from(p) * f64::from(logit)).sum();
    base.negative_entropy - (cross - lse * base.mass)
}

/// Fills in the probabilities of a position of the base.
fn base_row(probabilities: &mut [f32], logits: &[f32]) -> BaseRow {
    let lse = log_sum_exp(logits);
    let (mut mass, mut cross) = (0f64, 0f64);
    for (p, &logit) in probabilities.iter_mut().zip(logits) {
        *p = (f64::from(logit) - lse).exp() as f32;
        mass += f64::from(*p);
        cross += f64::from(*p) * f64::from(logit);
    }
    BaseRow { mass, negative_entropy: cross - lse * mass }
}

/// `ln(sum(exp(logits)))`, the sum in f64.
fn log_sum_exp(logits: &[f32]) -> f64 {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, |a, b| if b > a || b.is_nan() { b } else { a });
    let sum: f64 = logits.iter().map(|&logit| f64::from((logit - largest).exp())).sum();
    f64::from(largest) + sum.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By the definition, in f64 throughout.
    fn by_definition(base: &[f32], tuned: &[f32]) -> f64 {
        let log_softmax = |logits: &[f32]| -> Vec<f64> {
            let sum: f64 = logits.iter().map(|&x| f64::from(x).exp()).sum();
            logits.iter().map(|&x| f64::from(x) - sum.ln()).collect()
        };
        let (p, q) = (log_softmax(base), log_softmax(tuned));
        p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum()
    }

    fn logits(seed: f32) -> Vec<f32> {
        (0..1000).map(|i| 6.0 * ((i as f32 + 1.0) * (seed + 0.37)).sin()).collect()
    }

    fn of(base: &[f32], tuned: &[f32]) -> f64 {
        let mut probabilities = vec![0.0; base.len()];
        let row = base_row(&mut probabilities, base);
        kl(&probabilities, &row, tuned, log_sum_exp(tuned))
    }

    #[test]
    fn r32_the_divergence_is_its_definition_and_zero_of_itself() {
        for (one, other) in [(0.1, 0.2), (1.0, 1.001), (2.0, 5.0)] {
            let (base, tuned) = (logits(one), logits(other));
            let (found, expected) = (of(&base, &tuned), by_definition(&base, &tuned));
            assert!((found - expected).abs() < 1e-6 * expected.max(1.0), "{found} {expected}");
            assert!(found > 0.0);
            assert_eq!(of(&base, &base), 0.0);
        }
        let base = logits(0.5);
        let near: Vec<f32> = base.iter().enumerate().map(|(i, x)| x + 1e-3 * (i as f32).cos()).collect();
        let (found, expected) = (of(&base, &near), by_definition(&base, &near));
        assert!((found - expected).abs() < 0.02 * expected, "a small one isn't lost in rounding: {found} {expected}");
    }

    #[test]
    fn r12_what_is_no_number_shows() {
        let (base, mut tuned) = (logits(0.5), logits(0.6));
        tuned[7] = f32::NAN;
        assert!(log_sum_exp(&tuned).is_nan() && of(&base, &tuned).is_nan());
        assert!((log_sum_exp(&[-500.0, 500.0, 500.0]) - (500.0 + 2f64.ln())).abs() < 1e-9);
    }

    #[test]
    fn r17_a_sample_is_bounded_whatever_the_vocabulary() {
        assert_eq!([512, 49_152, 151_936, 262_144].map(most_positions), [256, 256, 110, 64]);
        assert!([512, 49_152, 151_936, 262_144].iter().all(|&v| bytes(most_positions(v), v) <= 128 << 20));
    }

    #[test]
    fn r32_r5_a_look_is_the_same_from_features_and_agrees_with_the_loss() {
        use candle_core::{DType, Device};
        use outcrop_data::Example;
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/parity/llama");
        let mut decoder = outcrop_model::Base::open(&folder).unwrap().load(DType::F32, &Device::Cpu).unwrap();
        decoder.untie_head().unwrap();
        let example = |first: u32, length: u32| Example {
            tokens: (0..length).map(|i| (first + i * 17) % 90).collect(),
            targets: vec![(1, length)],
        };
        let batch = Batch::from_examples(&[example(3, 20), example(90, 13)]).unwrap();
        let kinds = [None, Some(Boundary::Head), Some(Boundary::Block(1))];
        let samples = kinds.map(|boundary| Forgetting::new(&decoder, boundary, &batch).unwrap());
        let mean_nll = |decoder: &Decoder| {
            let row = Row::new(batch.tokens.clone(), &batch.offsets).unwrap();
            let nll = decoder.nll(&row, &batch.targets).unwrap();
            nll.iter().map(|&value| f64::from(value)).sum::<f64>() / nll.len() as f64
        };
        let row = Row::new(batch.tokens.clone(), &batch.offsets).unwrap();
        let before: Vec<Vec<f32>> = decoder.logits(&row).unwrap().to_vec2().unwrap();
        for sample in &samples {
            assert_eq!(sample.len(), 19 + 12);
            assert_eq!(sample.look(&decoder).unwrap(), Look { nll: sample.nll_base, kl: 0.0 });
            assert!((sample.nll_base - mean_nll(&decoder)).abs() < 1e-6);
        }
        let head = decoder.head_weight();
        head.slice_set(&(head * 1.2).unwrap(), 0, 0).unwrap();
        let after: Vec<Vec<f32>> = decoder.logits(&row).unwrap().to_vec2().unwrap();
        let at = batch.targets.iter().map(|&at| by_definition(&before[at as usize], &after[at as usize]));
        let kl = at.sum::<f64>() / batch.targets.len() as f64;
        let looks = samples.map(|sample| sample.look(&decoder).unwrap());
        assert_eq!((looks[0], looks[0]), (looks[1], looks[2]), "the same bits with and without features");
        assert!((looks[0].nll - mean_nll(&decoder)).abs() < 1e-6);
        assert!(kl > 1e-4 && (looks[0].kl - kl).abs() < 1e-5 * kl.max(1.0), "{} {kl}", looks[0].kl);
    }
}
