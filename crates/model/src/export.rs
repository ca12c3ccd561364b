//! A model as a Hugging Face folder that `transformers` and everything behind it loads, checked by reading it back; as a GGUF
//! file in [`gguf`].

pub mod gguf;
mod shards;

use crate::base::{Base, COMPANIONS};
use crate::decoder::Decoder;
use crate::row::Row;
use crate::{ModelError, Result};
use candle_core::{DType, Device, IndexOp, Tensor};
use serde_json::{Value, json};
use shards::Written;
use std::path::{Path, PathBuf};

/// Files of a tokenizer that nothing is read from here and other software may read.
const ALSO_COPIED: [&str; 2] = ["tokenizer.model", "added_tokens.json"];

/// What reading an export back showed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RoundTrip {
    /// Largest absolute difference of a logit between the model in memory and the exported files.
    pub largest_difference: f32,
    /// Prompts on which logits, greedy choice and NLL were compared.
    pub prompts: usize,
    /// Prompts behind which the greedy choice is the same: all of them where the files hold the weights exactly; a
    /// rounded weight may turn a near tie.
    pub same_choice: usize,
    /// Share of the weights' values that the files' type can't hold and were rounded; 0 where they are exact.
    pub rounded: f64,
}

/// Largest relative change of a prompt's NLL that an export may show: none where f32 weights on the CPU are read back
/// on the CPU; another device sums in another order; 16 bits round every weight.
fn tolerance(decoder: &Decoder, dtype: DType) -> f32 {
    match (dtype, decoder.device().is_cpu() && decoder.embedding.tensor.dtype() == DType::F32) {
        (DType::F32, true) => 0.0,
        (DType::F32, false) => 0.005,
        _ => 0.02,
    }
}

/// Most bytes of tensors in one file where nothing else is asked for.
pub const MAX_SHARD_BYTES: u64 = 5_000_000_000;

/// How the weights of a folder are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Storage {
    /// Their type.
    pub dtype: DType,
    /// Most bytes of tensors in one file; a larger tensor has a file of its own.
    pub max_shard_bytes: u64,
}

impl From<DType> for Storage {
    fn from(dtype: DType) -> Self {
        Self { dtype, max_shard_bytes: MAX_SHARD_BYTES }
    }
}

/// A folder that was written and read back, not yet in its place.
pub struct Export {
    temporary: tempfile::TempDir,
    target: PathBuf,
    /// What reading it back showed.
    pub round_trip: RoundTrip,
    /// Files that hold the weights.
    pub weight_files: usize,
}

impl Export {
    /// Adds a text file, or writes over one. Errors: the disk.
    pub fn add(&self, name: &str, text: &str) -> Result<()> {
        Ok(fs_err::write(self.temporary.path().join(name), text)?)
    }

    /// Puts the folder in its place. Errors: the disk.
    pub fn keep(self) -> Result<RoundTrip> {
        fs_err::rename(self.temporary.path(), &self.target)?;
        let _ = self.temporary.keep(); // it is the result now, nothing to delete
        Ok(self.round_trip)
    }
}

/// [`prepare`] and [`Export::keep`] in one.
pub fn write(
    decoder: &Decoder,
    base: &Base,
    folder: &Path,
    storage: impl Into<Storage>,
    prompts: &[Vec<u32>],
) -> Result<RoundTrip> {
    prepare(decoder, base, folder, storage, prompts)?.keep()
}

/// Writes `decoder`, trained on `base`, beside `folder`, then loads what it wrote and compares (R30, R31). Tokenizer files are
/// copied byte for byte (R29); a GGUF base's tokenizer is written as tokenizer.json.
/// Errors: the folder exists, can't be written, or gives other results than the model in memory, or there is no prompt to tell by.
pub fn prepare(
    decoder: &Decoder,
    base: &Base,
    folder: &Path,
    storage: impl Into<Storage>,
    prompts: &[Vec<u32>],
) -> Result<Export> {
    let storage = storage.into();
    free(folder, prompts)?;
    let temporary = temporary_beside(folder)?;
    let written = write_files(decoder, base, temporary.path(), storage)?;
    let read_back = Base::open(temporary.path())?.load(DType::F32, &Device::Cpu)?;
    let compared = compare(decoder, &read_back, folder, tolerance(decoder, storage.dtype), prompts)?;
    let round_trip = RoundTrip { rounded: written.rounded, ..compared };
    Ok(Export { temporary, target: folder.to_path_buf(), round_trip, weight_files: written.files })
}

/// Errors: `out` is there already, or there is no prompt to compare by.
fn free(out: &Path, prompts: &[Vec<u32>]) -> Result<()> {
    if out.exists() {
        let kind = if out.is_dir() { "folder" } else { "name" };
        return Err(ModelError::invalid(out, format!("exists already; choose another {kind}")));
    }
    if prompts.is_empty() {
        return Err(ModelError::invalid(out, "can't be checked without a prompt; give one of two tokens or more"));
    }
    Ok(())
}

/// A temporary folder where `out` will be, which is made ready for it.
fn temporary_beside(out: &Path) -> Result<tempfile::TempDir> {
    let parent = out.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs_err::create_dir_all(parent)?;
    let temporary = tempfile::Builder::new().prefix(".outcrop-export-").tempdir_in(parent);
    temporary.map_err(|e| ModelError::invalid(parent, format!("can't be written: {e}")))
}

fn write_files(decoder: &Decoder, base: &Base, folder: &Path, storage: Storage) -> Result<Written> {
    let written = shards::write(folder, &decoder.weights(), storage.dtype, storage.max_shard_bytes)?;
    let mut config = base.config().clone();
    config["tie_word_embeddings"] = json!(decoder.spec().tie_word_embeddings);
    if let Some(fields) = config.as_object_mut() {
        fields.remove("torch_dtype"); // the name of `dtype` before transformers 5
        fields.insert("dtype".into(), json!(dtype_name(storage.dtype)));
    }
    write_json(folder, "config.json", &config)?;
    write_tokenizer(base, folder)?;
    write_generation(base, folder)?;
    Ok(written)
}

fn write_json(folder: &Path, name: &str, json: &Value) -> Result<()> {
    let text = serde_json::to_string_pretty(json).map_err(|e| ModelError::invalid(folder, e.to_string()))?;
    Ok(fs_err::write(folder.join(name), text + "\n")?)
}

/// Where the base has no `generation_config.json` to copy: the tokens that begin and end its texts, as transformers derives one
/// from a config. A text ends at every token that ends one in `outcrop generate`.
fn write_generation(base: &Base, folder: &Path) -> Result<()> {
    if folder.join("generation_config.json").is_file() || !folder.join("tokenizer.json").is_file() {
        return Ok(());
    }
    let tokenizer = base.tokenizer()?;
    let mut json = json!({"_from_model_config": true});
    if let Some(bos) = base.begin_token(&tokenizer)? {
        json["bos_token_id"] = json!(bos);
    }
    // a base that names no end token can be exported all the same
    match base.stop_tokens(&tokenizer).unwrap_or_default().as_slice() {
        [] => {}
        [eos] => json["eos_token_id"] = json!(eos),
        several => json["eos_token_id"] = json!(several),
    }
    if let Some(pad) = base.config().get("pad_token_id").filter(|pad| pad.is_u64()) {
        json["pad_token_id"] = pad.clone();
    }
    write_json(folder, "generation_config.json", &json)
}

/// Copies the tokenizer's files, or writes what the base lacks: a GGUF file has none, and a folder without a
/// tokenizer_config.json would leave transformers' tokenizer without an end token (R30).
fn write_tokenizer(base: &Base, folder: &Path) -> Result<()> {
    if base.is_folder() {
        for name in COMPANIONS.into_iter().chain(ALSO_COPIED) {
            if base.path().join(name).is_file() {
                fs_err::copy(base.path().join(name), folder.join(name))?;
            }
        }
    } else {
        let file = folder.join("tokenizer.json");
        base.tokenizer()?.save(&file, true).map_err(|e| ModelError::invalid(&file, e.to_string()))?;
        if let Some(template) = base.chat_template()? {
            fs_err::write(folder.join("chat_template.jinja"), template)?;
        }
    }
    let file = folder.join("tokenizer_config.json");
    if file.is_file() || !folder.join("tokenizer.json").is_file() || base.spec().eos_token_ids.is_empty() {
        return Ok(());
    }
    let tokenizer = base.tokenizer()?;
    let end = tokenizer.id_to_token(base.end_token(&tokenizer)?);
    let mut json = json!({"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": end});
    if let Some(bos) = base.spec().bos_token_id.and_then(|id| tokenizer.id_to_token(id)) {
        json["bos_token"] = json!(bos);
    }
    write_json(folder, "tokenizer_config.json", &json)
}

fn dtype_name(dtype: DType) -> &'static str {
    match dtype {
        DType::BF16 => "bfloat16",
        DType::F16 => "float16",
        _ => "float32",
    }
}

/// Logits and NLL of each prompt's own tokens and the greedy choice at its end, in memory and from the files.
fn compare(
    decoder: &Decoder,
    read_back: &Decoder,
    folder: &Path,
    tolerance: f32,
    prompts: &[Vec<u32>],
) -> Result<RoundTrip> {
    let (mut largest, mut same_choice) = (0f32, 0);
    for prompt in prompts {
        let row = Row::single(prompt.clone())?;
        let logits = |decoder: &Decoder| {
            Ok::<_, ModelError>(decoder.logits(&row)?.to_device(&Device::Cpu)?.to_dtype(DType::F32)?)
        };
        let (ours, theirs) = (logits(decoder)?, logits(read_back)?);
        let difference = (&ours - &theirs)?.abs()?.max_all()?.to_scalar::<f32>()?;
        let choice = |logits: &Tensor| logits.i(prompt.len() - 1)?.argmax(0)?.to_scalar::<u32>();
        let same = choice(&ours)? == choice(&theirs)?;
        let (ours, theirs) = (prompt_nll(&ours, prompt)?, prompt_nll(&theirs, prompt)?);
        let change = (ours - theirs).abs();
        // a NaN on either side is a failure, too
        if change.is_nan() || change > tolerance * ours.abs() || (tolerance == 0.0 && difference != 0.0) {
            let message = format!(
                "the exported files give NLL {theirs} on a prompt where the model gave {ours} (logits differ by \
                 {difference}); not kept"
            );
            return Err(ModelError::invalid(folder, message));
        }
        largest = largest.max(difference);
        same_choice += usize::from(same);
    }
    Ok(RoundTrip { largest_difference: largest, prompts: prompts.len(), same_choice, rounded: 0.0 })
}

fn prompt_nll(logits: &Tensor, prompt: &[u32]) -> Result<f32> {
    let next = &prompt[1..]; // a row has one token at least
    if next.is_empty() {
        return Ok(0.0);
    }
    let rows = logits.narrow(0, 0, next.len())?;
    Ok(outcrop_kernels::head_loss::reference::nll(&rows, next, Default::default())?.sum_all()?.to_scalar()?)
}
