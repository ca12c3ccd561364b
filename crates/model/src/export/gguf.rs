//! A model as one GGUF file that llama.cpp and what is built on it load, checked by reading it back: metadata, tokenizer, every
//! tensor, NLL and greedy choice. Left out: llama.cpp's smaller quantizations, which it makes of these files itself.

use super::{RoundTrip, compare, free, temporary_beside};
use crate::base::Base;
use crate::decoder::Decoder;
use crate::files::{gguf, gguf_rope, gguf_writer};
use crate::spec::Spec;
use crate::{ModelError, Result};
use candle_core::quantized::GgmlDType;
use candle_core::{DType, Device};
use std::path::Path;

/// Types of the weights in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GgufType {
    /// 32 bits, exact.
    F32,
    /// IEEE's 16 bits.
    F16,
    /// The upper 16 bits of f32.
    Bf16,
    /// 8 bits and an f16 factor for every 32 values.
    Q8_0,
}

impl GgufType {
    fn ggml(self) -> GgmlDType {
        match self {
            Self::F32 => GgmlDType::F32,
            Self::F16 => GgmlDType::F16,
            Self::Bf16 => GgmlDType::BF16,
            Self::Q8_0 => GgmlDType::Q8_0,
        }
    }

    /// Largest relative change of a prompt's NLL. f32 is read back exactly, but for norms far below 0 that are stored with one added, and
    /// for rotary frequencies that are stored as divisors.
    /// Q8_0's step is 1/127 of the largest of 32 values: an error of some 0.7 % of a usual weight, four times that of bf16
    /// (2^-9 on average), whose tolerance it has fourfold. That each weight is within half a step is checked beside it.
    fn tolerance(self, decoder: &Decoder, read: &Spec) -> f32 {
        let exact = decoder.device().is_cpu() && decoder.embedding.tensor.dtype() == DType::F32;
        let rounded = gguf_writer::adds(decoder.spec()) || decoder.spec().ropes != read.ropes;
        match self {
            Self::F32 if exact && !rounded => 0.0,
            Self::F32 if exact => 1e-4,
            Self::F32 => 0.005,
            Self::F16 | Self::Bf16 => 0.02,
            Self::Q8_0 => 0.08,
        }
    }
}

/// Texts in which tokenizers differ: spaces, lines, digits, contractions, signs, scripts beyond ASCII.
const TEXTS: [&str; 6] = [
    "",
    " a  b   c\n\n d\t\te \r\n  f\n",
    "1 12 123 1234 12345 3.14 3..5 1,000,000",
    "I've been 'told he's there, 'RE you sure? We'Ve a'lL ------======= ''''''``````\"\"\"\"......!!!!!!??????",
    "Größe 4 µm, нещо на Български, 我想在apple工作1314151天～ かな 한국어 العربية",
    "🚀 (normal) 😶\u{200d}🌫️ ✅ 🦙🦙 e\u{301} \u{e9} \u{a0}x\u{2003}y",
];

/// Writes `decoder`, trained on `base`, to the file `out` with matrices as `dtype` and `template` as its chat template, then
/// reads it back and compares (R30, R31). Errors: the file exists or can't be written; GGUF can't hold the family, the
/// rotary scaling or the tokenizer; what is read back differs by more than the type's rounding.
pub fn write(
    decoder: &Decoder,
    base: &Base,
    out: &Path,
    dtype: GgufType,
    template: Option<&str>,
    prompts: &[Vec<u32>],
) -> Result<RoundTrip> {
    free(out, prompts)?;
    let folder = temporary_beside(out)?;
    let file = folder.path().join("model.gguf");
    let name = out.file_stem().unwrap_or_default().to_string_lossy();
    gguf_writer::write(&file, decoder, base, &name, dtype.ggml(), template)?;
    let result = read_back(decoder, base, &file, out, dtype, template, prompts)?;
    fs_err::rename(&file, out)?;
    Ok(result)
}

fn read_back(
    decoder: &Decoder,
    base: &Base,
    file: &Path,
    out: &Path,
    dtype: GgufType,
    template: Option<&str>,
    prompts: &[Vec<u32>],
) -> Result<RoundTrip> {
    let wrong = |message: String| ModelError::invalid(out, format!("{message}; not kept"));
    let read = Base::open(file)?;
    if let Some(what) = difference(decoder.spec(), read.spec()) {
        return Err(wrong(format!("GGUF's keys for `{}` can't say this model's {what}", decoder.spec().family)));
    }
    if read.chat_template()?.as_deref() != template {
        return Err(wrong("another chat template is read back".into()));
    }
    let (ours, theirs) = (base.tokenizer()?, read.tokenizer()?);
    for text in TEXTS {
        let ids = |tokenizer: &tokenizers::Tokenizer| {
            tokenizer.encode(text, true).map(|e| e.get_ids().to_vec()).map_err(|e| wrong(e.to_string()))
        };
        let (ours, theirs) = (ids(&ours)?, ids(&theirs)?);
        if ours != theirs {
            return Err(wrong(format!(
                "the tokenizer that is read back gives {text:?} the ids {theirs:?}, not {ours:?}"
            )));
        }
    }
    if read.end_token(&theirs)? != base.end_token(&ours)? {
        return Err(wrong("another end token is read back".into()));
    }
    let rounded = gguf_writer::check(file, &gguf::header(file)?, decoder, dtype.ggml())?;
    let loaded = read.load(DType::F32, &Device::Cpu)?;
    Ok(RoundTrip { rounded, ..compare(decoder, &loaded, out, dtype.tolerance(decoder, read.spec()), prompts)? })
}

/// What the spec that is read back has otherwise, but for special tokens and the spread of initial weights.
fn difference(ours: &Spec, theirs: &Spec) -> Option<&'static str> {
    let mut theirs = theirs.clone();
    theirs.bos_token_id = ours.bos_token_id;
    theirs.eos_token_ids.clone_from(&ours.eos_token_ids);
    theirs.initializer_range = ours.initializer_range;
    let alike = |(a, b)| gguf_rope::same(a, b, ours.max_position_embeddings);
    if ours.ropes.len() == theirs.ropes.len() && ours.ropes.iter().zip(&theirs.ropes).all(alike) {
        theirs.ropes.clone_from(&ours.ropes);
    }
    if theirs == *ours {
        return None;
    }
    Some(match () {
        () if ours.ropes != theirs.ropes => "rotary embedding (`rope_parameters`)",
        () if ours.layers != theirs.layers => "windows of attention (`layer_types`, `sliding_window`)",
        () if ours.attention_scale != theirs.attention_scale => "factor of the attention scores",
        () if ours.final_softcap != theirs.final_softcap => "soft-cap of the logits (`final_logit_softcapping`)",
        () if ours.names != theirs.names => "activation",
        () => "sizes or constants",
    })
}
