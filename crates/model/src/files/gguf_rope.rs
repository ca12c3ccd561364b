//! `rope_freqs.weight`: a divisor for each rotary frequency, as llama.cpp's converter writes them for Llama 3.1 and later, whose
//! scaling no metadata says. Left out: `rope_factors_long` and `rope_factors_short`, Phi 3's.

use super::gguf::{Metadata, first_line};
use crate::Result;
use crate::rotary::{Rope, RopeScaling};
use candle_core::{Device, Tensor};
use serde_json::{Value, json};
use std::io::BufReader;

/// The tensor's name.
pub(super) const TENSOR: &str = "rope_freqs.weight";
/// How far two ways to the same frequency may round apart, as a share of it.
const NEAR: f64 = 1e-6;

/// What Meta's models have beside the factor: `low_freq_factor`, `high_freq_factor`, `original_max_position_embeddings`.
const LLAMA3: (f64, f64, f64) = (1.0, 4.0, 8192.0);

/// The divisor of each frequency, for a scaling that doesn't depend on the document's length.
pub(super) fn divisors(rope: &Rope) -> Vec<f64> {
    let plain = Rope::plain(rope.dim, rope.theta).inverse_frequencies(1);
    plain.iter().zip(rope.inverse_frequencies(1)).map(|(plain, scaled)| plain / scaled).collect()
}

/// The tensor of these divisors. Shape: (D/2).
pub(super) fn tensor(rope: &Rope) -> Result<Tensor> {
    let divisors: Vec<f32> = divisors(rope).into_iter().map(|divisor| divisor as f32).collect();
    Ok(Tensor::new(divisors, &Device::Cpu)?)
}

/// Whether two rotations turn every position alike but for the rounding of f32.
pub(crate) fn same(a: &Rope, b: &Rope, context: usize) -> bool {
    let near = |(a, b): (&f64, &f64)| (a - b).abs() <= NEAR * a.abs();
    let alike = |length| a.inverse_frequencies(length).iter().zip(&b.inverse_frequencies(length)).all(near);
    a.dim == b.dim && a.attention_factor() == b.attention_factor() && [1, context].into_iter().all(alike)
}

/// The `rope_parameters` that the file's tensor says: `llama3` where it is that of Meta's models, else `longrope` with these divisors at
/// every length. Errors: a tensor of another size, or with values that are no divisors.
pub(super) fn parameters(metadata: &Metadata, theta: f64, dim: usize, context: u64) -> Result<Value> {
    let wrong = |what: &str| metadata.wrong(format!("`{TENSOR}` {what}"));
    let mut reader = BufReader::new(fs_err::File::open(metadata.path)?);
    let values = metadata.content.tensor(&mut reader, TENSOR, &Device::Cpu);
    let values = values.and_then(|tensor| tensor.dequantize(&Device::Cpu)?.flatten_all()?.to_vec1::<f32>());
    let values = values.map_err(|error| wrong(&format!("can't be read: {}", first_line(&error))))?;
    if values.len() != dim / 2 {
        return Err(wrong(&format!(
            "has {} values, one for each of {} frequencies is expected",
            values.len(),
            dim / 2
        )));
    }
    if !values.iter().all(|value| value.is_finite() && *value > 0.0) {
        return Err(wrong("has a value that isn't a positive number"));
    }
    let values: Vec<f64> = values.into_iter().map(f64::from).collect();
    let factor = values.iter().copied().fold(1.0, f64::max);
    let (low, high, original) = LLAMA3;
    let known = Rope {
        dim,
        theta,
        scaling: RopeScaling::Llama3 {
            factor,
            low_freq_factor: low,
            high_freq_factor: high,
            original_max_position_embeddings: original,
        },
    };
    if values.iter().zip(divisors(&known)).all(|(value, divisor)| (value - divisor).abs() <= NEAR * divisor) {
        return Ok(json!({"rope_theta": theta, "rope_type": "llama3", "factor": factor, "low_freq_factor": low,
            "high_freq_factor": high, "original_max_position_embeddings": original as u64}));
    }
    Ok(
        json!({"rope_theta": theta, "rope_type": "longrope", "short_factor": values, "long_factor": values, "factor": 1.0,
        "attention_factor": 1.0, "original_max_position_embeddings": context}),
    )
}
