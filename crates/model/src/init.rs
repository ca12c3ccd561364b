//! A model with random weights, from a config and a tokenizer: where a base of one's own begins.

use crate::files::safetensors;
use crate::spec::{NormKind, Parameter, Role};
use crate::{ModelError, Result, families};
use candle_core::{DType, Device, Tensor};
use rand::SeedableRng;
use rand::distr::Distribution;
use serde_json::Value;
use std::path::Path;

/// Writes a Hugging Face folder with the config, the tokenizer and weights drawn from `seed`: norms 1, biases 0, matrices
/// normal with the config's `initializer_range`, the two that end a residual branch divided by sqrt(2 * layers)
/// (Radford et al. 2019). Stored as the config's `dtype`: `float32` (also where there is none), `bfloat16`, `float16`.
/// Errors: the config or its dtype isn't supported, the folder exists, the vocabulary is smaller than the tokenizer's
/// ids (R29).
pub fn write(folder: &Path, config: &Value, tokenizer: &Path, seed: u64) -> Result<()> {
    let spec = families::spec(config)?;
    if folder.exists() {
        return Err(ModelError::invalid(folder, "exists already; choose another folder"));
    }
    let loaded =
        tokenizers::Tokenizer::from_file(tokenizer).map_err(|e| ModelError::invalid(tokenizer, e.to_string()))?;
    let ids = loaded.get_vocab(true).values().max().map_or(0, |id| *id as usize + 1);
    if ids > spec.vocab_size {
        let message = format!("has ids up to {}, but config.json's vocab_size is {}", ids - 1, spec.vocab_size);
        return Err(ModelError::invalid(tokenizer, message));
    }
    let dtype = match config.get("dtype").or_else(|| config.get("torch_dtype")).and_then(Value::as_str) {
        Some("bfloat16") => DType::BF16,
        Some("float16") => DType::F16,
        Some("float32") | None => DType::F32,
        Some(other) => {
            let message = format!("config.json: `dtype` is `{other}`, expected `float32`, `bfloat16` or `float16`");
            return Err(ModelError::Unsupported(message));
        }
    };
    let mut stream = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    let depth = (2.0 * spec.num_hidden_layers as f64).sqrt();
    let mut tensors = Vec::new();
    for Parameter { name, shape, role } in spec.parameters() {
        let constant = |value: f32| Tensor::full(value, shape.as_slice(), &Device::Cpu);
        let tensor = match role {
            Role::Norm if spec.norm == NormKind::RmsOffset => constant(0.0)?, // the factor is 1 + w
            Role::Norm => constant(1.0)?,
            Role::Bias => constant(0.0)?,
            Role::Matrix => normal(&shape, spec.initializer_range, &mut stream)?,
            Role::BranchEnd => normal(&shape, spec.initializer_range / depth, &mut stream)?,
        };
        tensors.push((name, tensor.to_dtype(dtype)?));
    }
    fs_err::create_dir_all(folder)?;
    safetensors::write(&folder.join("model.safetensors"), &tensors, None)?;
    fs_err::copy(tokenizer, folder.join("tokenizer.json"))?;
    let mut text = serde_json::to_string_pretty(config).map_err(|e| ModelError::invalid(folder, e.to_string()))?;
    text.push('\n');
    fs_err::write(folder.join("config.json"), text)?;
    Ok(())
}

/// Normal values by Box and Muller's transform of a ChaCha stream: the same on every platform but for libm's last bit.
fn normal(shape: &[usize], deviation: f64, stream: &mut rand_chacha::ChaCha8Rng) -> Result<Tensor> {
    let count: usize = shape.iter().product();
    let uniform = rand::distr::Uniform::new(0.0f64, 1.0).map_err(|e| ModelError::Unsupported(e.to_string()))?;
    let mut values = Vec::with_capacity(count + 1);
    while values.len() < count {
        let (u, v) = (1.0 - uniform.sample(stream), uniform.sample(stream));
        let (radius, angle) = ((-2.0 * u.ln()).sqrt() * deviation, std::f64::consts::TAU * v);
        values.push((radius * angle.cos()) as f32);
        values.push((radius * angle.sin()) as f32);
    }
    values.truncate(count);
    Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
}
