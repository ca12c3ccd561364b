//! Writing GGUF: a spec as metadata, tensors under llama.cpp's names and in its layout, the tokenizer. What the reader makes
//! of the metadata is compared with the spec by who writes it (`export::gguf`), so that what a key can't say is an error.
//!
//! Sources: llama.cpp's convert_hf_to_gguf.py and its `conversion` folder. Left out: rotary scalings but `linear` and Llama's `llama3`,
//! which llama.cpp keeps under keys or in tensors that are not read here either.

use super::chat_template::SPECIAL_TOKENS;
use super::gguf_architecture::{self, Change};
use super::gguf_rope;
use super::gguf_tokenizer_writer;
use crate::base::Base;
use crate::decoder::Decoder;
use crate::rotary::{Rope, RopeScaling};
use crate::spec::Spec;
use crate::{ModelError, Result};
use candle_core::quantized::gguf_file::{self, Content, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Device, Tensor};
use std::io::{BufReader, BufWriter, Write};
use std::path::Path;

/// Values in a block of Q8_0, which share a factor.
const BLOCK: usize = 32;

/// Writes the whole file. `template` is the chat template, where there is one. Errors: a family, a rotary scaling or a
/// tokenizer that GGUF can't hold; the disk.
pub(crate) fn write(
    file: &Path,
    decoder: &Decoder,
    base: &Base,
    name: &str,
    dtype: GgmlDType,
    template: Option<&str>,
) -> Result<()> {
    let mut metadata = model(decoder.spec(), name, dtype).map_err(ModelError::Unsupported)?;
    metadata.extend(tokenizer(decoder.spec(), base)?);
    if let Some(template) = template {
        metadata.push(("tokenizer.chat_template".into(), Value::String(template.into())));
    }
    let frequencies = decoder.spec().ropes.first().filter(|rope| in_tensor(decoder.spec(), rope));
    let frequencies =
        frequencies.map(|rope| Ok::<_, ModelError>((gguf_rope::TENSOR.to_string(), gguf_rope::tensor(rope)?)));
    let tensors = tensors(decoder)?
        .into_iter()
        .chain(frequencies.transpose()?)
        .map(|(name, tensor)| Ok((QTensor::quantize(&tensor, stored_as(&name, &tensor, dtype))?, name)))
        .collect::<Result<Vec<_>>>()?;
    let metadata: Vec<(&str, &Value)> = metadata.iter().map(|(key, value)| (key.as_str(), value)).collect();
    let tensors: Vec<(&str, &QTensor)> = tensors.iter().map(|(tensor, name)| (name.as_str(), tensor)).collect();
    let mut writer = BufWriter::new(fs_err::File::create(file)?);
    gguf_file::write(&mut writer, &metadata, &tensors)?;
    writer.flush()?;
    Ok(writer.get_ref().sync_all()?)
}

/// The share of the values that were rounded. Errors: one is further from the weight than rounding to its type can take it.
pub(crate) fn check(file: &Path, content: &Content, decoder: &Decoder, dtype: GgmlDType) -> Result<f64> {
    let (mut rounded, mut all) = (0.0, 0);
    let mut reader = BufReader::new(fs_err::File::open(file)?);
    for (name, tensor) in tensors(decoder)? {
        let read = content.tensor(&mut reader, &name, &Device::Cpu)?.dequantize(&Device::Cpu)?;
        let difference = (&read - &tensor)?.abs()?;
        let over = difference.le(&largest_rounding(&tensor, stored_as(&name, &tensor, dtype))?)?;
        // a NaN or an infinity is within no bound
        if over.to_dtype(DType::U32)?.min_all()?.to_scalar::<u32>()? == 0 {
            let message = format!(
                "`{name}` read back differs from the weight by up to {}, more than {dtype:?} rounds; not kept",
                difference.max_all()?.to_scalar::<f32>()?
            );
            return Err(ModelError::invalid(file, message));
        }
        let differs = difference.ne(0f32)?.to_dtype(DType::F32)?.mean_all()?.to_scalar::<f32>()?;
        rounded += f64::from(differs) * tensor.elem_count() as f64;
        all += tensor.elem_count();
    }
    Ok(rounded / all.max(1) as f64)
}

/// Whether the scaling of these frequencies is written as a tensor.
fn in_tensor(spec: &Spec, rope: &Rope) -> bool {
    spec.family == "llama" && matches!(rope.scaling, RopeScaling::Llama3 { .. })
}

/// True where reading a tensor of this family undoes an addition, which rounds even f32.
pub(crate) fn adds(spec: &Spec) -> bool {
    let architecture = gguf_architecture::of_family(&spec.family);
    let changes = |architecture: &gguf_architecture::Architecture| {
        spec.tensors().iter().any(|(name, _)| architecture.written_name(name).is_some_and(|w| w.1 == Change::MinusOne))
    };
    architecture.is_some_and(changes)
}

/// What a tensor is stored as, as llama.cpp's converter does: vectors and positions stay f32, and so do matrices whose rows
/// aren't whole blocks.
fn stored_as(name: &str, tensor: &Tensor, dtype: GgmlDType) -> GgmlDType {
    let columns = tensor.dims().last().copied().unwrap_or_default();
    let whole = dtype != GgmlDType::Q8_0 || columns.is_multiple_of(BLOCK);
    if tensor.rank() == 2 && whole && name != "position_embd.weight" { dtype } else { GgmlDType::F32 }
}

/// How far rounding to the nearest value of a type takes each value. Of Q8_0: half a step of the block's largest value
/// divided by 127, and the f16 rounding of that factor, 127 times at most.
fn largest_rounding(tensor: &Tensor, dtype: GgmlDType) -> Result<Tensor> {
    let magnitude = tensor.abs()?;
    Ok(match dtype {
        GgmlDType::F16 => magnitude.affine(2f64.powi(-11), 2f64.powi(-25))?,
        GgmlDType::BF16 => magnitude.affine(2f64.powi(-8), 0.0)?,
        GgmlDType::Q8_0 => {
            let blocks = magnitude.reshape(((), BLOCK))?;
            let factor = (1.0 + 1e-5) / 254.0 + 2f64.powi(-11);
            let bound = blocks.max_keepdim(1)?.affine(factor, 127.0 * 2f64.powi(-25))?;
            bound.broadcast_as(blocks.shape())?.reshape(tensor.shape())?
        }
        _ => magnitude.zeros_like()?,
    })
}

/// All tensors as f32 on the CPU, under GGUF's names and in its layout. Errors: a family that isn't written.
fn tensors(decoder: &Decoder) -> Result<Vec<(String, Tensor)>> {
    let spec = decoder.spec();
    let architecture = gguf_architecture::of_family(&spec.family).ok_or_else(|| unknown(spec))?;
    let written = decoder.weights().into_iter().map(|(name, tensor)| {
        let (written, change) = architecture.written_name(name).ok_or_else(|| {
            ModelError::Unsupported(format!(
                "`{name}` has no name in a GGUF file of architecture `{}`",
                architecture.name
            ))
        })?;
        let tensor = tensor.to_device(&Device::Cpu)?.to_dtype(DType::F32)?;
        Ok((written, redo(&tensor, change, spec)?.contiguous()?))
    });
    written.collect()
}

fn unknown(spec: &Spec) -> ModelError {
    let known = gguf_architecture::families();
    ModelError::Unsupported(format!(
        "models of family `{}` can't be written as GGUF; supported are {known}",
        spec.family
    ))
}

fn redo(tensor: &Tensor, change: Change, spec: &Spec) -> candle_core::Result<Tensor> {
    match change {
        Change::None => Ok(tensor.clone()),
        Change::PermuteQueries => permute(tensor, spec.num_attention_heads, spec.head_dim),
        Change::PermuteKeys => permute(tensor, spec.num_key_value_heads, spec.head_dim),
        Change::Transpose => tensor.t()?.contiguous(),
        Change::MinusOne => tensor.affine(1.0, 1.0),
    }
}

/// Rows in halves (i, i + D/2) to pairs (2i, 2i+1). Shapes: (heads * D, ...) -> the same.
fn permute(w: &Tensor, heads: usize, head_dim: usize) -> candle_core::Result<Tensor> {
    let columns = w.elem_count() / w.dim(0)?.max(1);
    let split = w.reshape((heads, 2, head_dim / 2, columns))?;
    split.transpose(1, 2)?.contiguous()?.reshape(w.dims())
}

/// What the spec says, under the architecture's keys.
fn model(spec: &Spec, name: &str, dtype: GgmlDType) -> std::result::Result<Vec<(String, Value)>, String> {
    let architecture = gguf_architecture::of_family(&spec.family).ok_or_else(|| unknown(spec).to_string())?;
    let whole = |number: usize| Value::U32(number as u32); // sizes are below 2^24
    let text = |text: &str| Value::String(text.into());
    let file_type = match dtype {
        GgmlDType::F16 => 1,
        GgmlDType::Q8_0 => 7,
        GgmlDType::BF16 => 32,
        _ => 0,
    };
    let general = [
        ("architecture", text(architecture.name)),
        ("type", text("model")),
        ("name", text(name)),
        ("file_type", whole(file_type)),
        ("quantization_version", whole(2)),
    ];
    let mut values: Vec<(String, Value)> = general.into_iter().map(|(k, v)| (format!("general.{k}"), v)).collect();
    let mut own = vec![
        ("vocab_size", whole(spec.vocab_size)),
        ("context_length", whole(spec.max_position_embeddings)),
        ("embedding_length", whole(spec.hidden_size)),
        ("feed_forward_length", whole(spec.intermediate_size)),
        ("block_count", whole(spec.num_hidden_layers)),
        ("attention.head_count", whole(spec.num_attention_heads)),
        ("attention.head_count_kv", whole(spec.num_key_value_heads)),
    ];
    match spec.ropes.first() {
        None => own.push(("attention.layer_norm_epsilon", Value::F32(spec.norm_eps))),
        Some(rope) => {
            own.push(("attention.layer_norm_rms_epsilon", Value::F32(spec.norm_eps)));
            own.push(("attention.key_length", whole(spec.head_dim)));
            own.push(("attention.value_length", whole(spec.head_dim)));
            own.push(("rope.dimension_count", whole(rope.dim)));
            own.push(("rope.freq_base", Value::F32(rope.theta as f32)));
            match &rope.scaling {
                RopeScaling::Default => {}
                RopeScaling::Linear { factor } => {
                    own.push(("rope.scaling.type", text("linear")));
                    own.push(("rope.scaling.factor", Value::F32(*factor as f32)));
                }
                RopeScaling::Llama3 { .. } if in_tensor(spec, rope) => {}
                other => {
                    let kind = format!("{other:?}").split([' ', '{']).next().unwrap_or_default().to_lowercase();
                    return Err(format!(
                        "rotary scaling `{kind}` can't be written as GGUF (only `linear` can, and Llama's `llama3`)"
                    ));
                }
            }
        }
    }
    if let Some(local) = spec.ropes.get(1) {
        own.push(("rope.freq_base_swa", Value::F32(local.theta as f32)));
    }
    // only these architectures have the key; of others the check of what was written says that it's lost
    let has_key = matches!(architecture.name, "gemma3" | "phi3");
    if let Some(window) = spec.layers.iter().find_map(|layer| layer.window).filter(|_| has_key) {
        own.push(("attention.sliding_window", whole(window)));
    }
    values.extend(own.into_iter().map(|(key, value)| (format!("{}.{key}", architecture.name), value)));
    Ok(values)
}

/// The tokenizer with its special tokens. Errors: GGUF can't hold it; an id beyond the embedding (R29).
fn tokenizer(spec: &Spec, base: &Base) -> Result<Vec<(String, Value)>> {
    let tokenizer = base.tokenizer()?;
    let bos = base.begin_token(&tokenizer)?;
    let failed =
        |message| ModelError::invalid(base.path(), format!("its tokenizer can't be written as GGUF: {message}"));
    let mut values = gguf_tokenizer_writer::metadata(&tokenizer, bos, spec.vocab_size).map_err(failed)?;
    let named = base.special_tokens(&tokenizer)?;
    for (name, key) in SPECIAL_TOKENS {
        let id = match name {
            "bos_token" => bos,
            "eos_token" => Some(base.end_token(&tokenizer)?),
            _ => named.get(name).and_then(|token| tokenizer.token_to_id(token)),
        };
        values.extend(id.map(|id| (key, Value::U32(id))));
    }
    Ok(values.into_iter().map(|(key, value)| (key.to_string(), value)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::gguf;

    #[test]
    fn r30_a_weight_further_from_its_value_than_rounding_takes_it_is_named() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/base/pebble");
        let base = Base::open(&folder).unwrap();
        let decoder = base.load(DType::F32, &Device::Cpu).unwrap();
        let temporary = tempfile::tempdir().unwrap();
        let name = "model.layers.1.mlp.up_proj.weight";
        for dtype in [GgmlDType::F32, GgmlDType::F16, GgmlDType::BF16, GgmlDType::Q8_0] {
            let file = temporary.path().join(format!("{dtype:?}.gguf"));
            write(&file, &decoder, &base, "pebble", dtype, None).unwrap();
            let content = gguf::header(&file).unwrap();
            let rounded = check(&file, &content, &decoder, dtype).unwrap();
            // pebble's weights are bf16, some of them below the normal numbers of f16
            let rounds = matches!(dtype, GgmlDType::F16 | GgmlDType::Q8_0);
            assert_eq!(rounded > 0.0, rounds, "{dtype:?} {rounded}");
            let mut weights = base.weights(DType::F32, &Device::Cpu).unwrap();
            let changed = weights.get(name).unwrap().affine(1.02, 0.0).unwrap();
            weights.insert(name, changed);
            let other = Decoder::new(base.spec().clone(), &weights, &Device::Cpu).unwrap();
            let message = check(&file, &content, &other, dtype).unwrap_err().to_string();
            assert!(message.contains("`blk.1.ffn_up.weight` read back differs from the weight by up to"), "{message}");
        }
    }
}
