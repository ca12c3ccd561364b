//! A base model on disk: a Hugging Face folder or a GGUF file. Read only, never written to; known by the hash of
//! its content.

use crate::decoder::Decoder;
use crate::files::{chat_template, gguf, gguf_tokenizer, inside, safetensors, tokenizer_json};
use crate::spec::Spec;
use crate::weights::Weights;
use crate::{ModelError, Result, families};
use candle_core::quantized::gguf_file::Content;
use candle_core::{DType, Device, Tensor};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tokenizers::Tokenizer;

/// Files that a Hugging Face folder may have beside the weights and that belong to the model; exports copy them.
pub(crate) const COMPANIONS: [&str; 7] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "generation_config.json",
    "chat_template.jinja",
    "vocab.json",
    "merges.txt",
];

/// An opened base: config read and checked, weights not loaded yet.
pub struct Base {
    path: PathBuf,
    config: Value,
    spec: Spec,
    gguf: Option<Content>,
}

impl Base {
    /// Opens a folder or a `.gguf` file. Errors: not there, not a model, or not supported.
    pub fn open(path: &Path) -> Result<Self> {
        if path.is_dir() {
            let file = path.join("config.json");
            if !file.is_file() {
                return Err(ModelError::invalid(
                    path,
                    "has no `config.json`; a base is a Hugging Face folder or a .gguf file",
                ));
            }
            let own = ["config.json", safetensors::INDEX].into_iter().chain(COMPANIONS).map(|name| path.join(name));
            inside::check(path, &own.filter(|file| file.exists()).collect::<Vec<_>>())?;
            let config = inside::json(&file)?;
            let spec = families::spec(&config).map_err(|e| ModelError::invalid(path, e.to_string()))?;
            return Ok(Self { path: path.into(), config, spec, gguf: None });
        }
        if !path.is_file() {
            return Err(ModelError::invalid(path, "doesn't exist; a base is a Hugging Face folder or a .gguf file"));
        }
        let content = gguf::header(path)?;
        let config = gguf::config(path, &content)?;
        let spec = families::spec(&config).map_err(|e| ModelError::invalid(path, e.to_string()))?;
        Ok(Self { path: path.into(), config, spec, gguf: Some(content) })
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its `config.json`, or what a GGUF file's metadata says in that form.
    pub fn config(&self) -> &Value {
        &self.config
    }

    /// Sizes and names.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Whether the tensors that the files hold fit the config, by names and shapes: headers alone are read.
    /// Errors: a header that isn't whole; as for [`Weights::check`].
    pub fn check_tensors(&self) -> Result<()> {
        let shapes = match &self.gguf {
            Some(content) => gguf::shapes(&self.path, content)?,
            None => safetensors::shapes(&safetensors::files(&self.path)?)?,
        };
        let zero = Tensor::zeros((), DType::F32, &Device::Cpu)?; // seen in every shape, stored once
        let named = |(name, shape): (String, Vec<usize>)| Ok((name, zero.broadcast_as(shape)?));
        let mut weights = shapes.into_iter().map(named).collect::<Result<Weights>>()?.with_prefix(&self.spec);
        if self.spec.tie_word_embeddings {
            weights.remove(self.spec.names.head); // whether a second copy differs takes its values
        }
        weights.check(&self.spec).map_err(|error| self.about(error))
    }

    /// An error of the tensors, with where they are.
    fn about(&self, error: ModelError) -> ModelError {
        match error {
            ModelError::Unsupported(message) => ModelError::invalid(&self.path, message),
            other => other,
        }
    }

    /// blake3 over the content of all its files, each after its name and length. Cost: one read of the weights.
    pub fn hash(&self) -> Result<String> {
        let mut hasher = blake3::Hasher::new();
        for file in files(&self.path)? {
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let name = if self.gguf.is_some() { "gguf".into() } else { name }; // a GGUF's own name is no content
            hasher.update(&(name.len() as u64).to_le_bytes());
            hasher.update(name.as_bytes());
            hasher.update(&fs_err::metadata(&file)?.len().to_le_bytes());
            let mut reader = fs_err::File::open(&file)?;
            let mut buffer = vec![0; 1 << 22];
            loop {
                let read = std::io::Read::read(&mut reader, &mut buffer)?;
                if read == 0 {
                    break;
                }
                hasher.update_rayon(&buffer[..read]);
            }
        }
        Ok(hasher.finalize().to_hex().to_string())
    }

    /// All tensors as `dtype` on `device`, not checked against the spec: [`Decoder::new`] does that.
    pub fn weights(&self, dtype: DType, device: &Device) -> Result<Weights> {
        match &self.gguf {
            Some(content) => gguf::read(&self.path, content, &self.config, dtype, device),
            None => Ok(safetensors::read(&safetensors::files(&self.path)?, dtype, device)?.with_prefix(&self.spec)),
        }
    }

    /// The untouched model. Errors: tensors that don't fit the config, named.
    pub fn load(&self, dtype: DType, device: &Device) -> Result<Decoder> {
        let weights = self.weights(dtype, device)?;
        Decoder::new(self.spec.clone(), &weights, device).map_err(|error| self.about(error))
    }

    /// Its tokenizer, as its files have it.
    pub fn tokenizer(&self) -> Result<Tokenizer> {
        if let Some(content) = &self.gguf {
            return gguf_tokenizer::tokenizer(&self.path, content);
        }
        let file = self.path.join("tokenizer.json");
        if !file.is_file() {
            return Err(ModelError::invalid(
                &self.path,
                "has no `tokenizer.json`; convert the tokenizer to the fast format first",
            ));
        }
        tokenizer_json::read(&file)
    }

    /// The token that begins a text, where there is one: `bos_token` of tokenizer_config.json, else the config's.
    pub fn begin_token(&self, tokenizer: &Tokenizer) -> Result<Option<u32>> {
        Ok(self.named_token(tokenizer, "bos_token")?.or(self.spec.bos_token_id))
    }

    /// A token that tokenizer_config.json names. Errors: tokenizer.json doesn't have it.
    fn named_token(&self, tokenizer: &Tokenizer, key: &str) -> Result<Option<u32>> {
        let file = self.path.join("tokenizer_config.json");
        if self.gguf.is_some() || !file.is_file() {
            return Ok(None);
        }
        let json = inside::json(&file)?;
        let Some(token) = json.get(key).and_then(|t| t.as_str().or_else(|| t.get("content")?.as_str())) else {
            return Ok(None);
        };
        let id = tokenizer.token_to_id(token);
        let missing = || ModelError::invalid(&file, format!("`{key}` is `{token}`, which is not in tokenizer.json"));
        Ok(Some(id.ok_or_else(missing)?))
    }

    /// The token that ends a text in training: `eos_token` of tokenizer_config.json, else `eos_token_id` of the
    /// config, the first where there are several (R8). Errors: neither is there, or the embedding has no such row (R29).
    pub fn end_token(&self, tokenizer: &Tokenizer) -> Result<u32> {
        let token = self.named_end_token(tokenizer)?;
        let rows = self.spec.vocab_size;
        if token as usize >= rows {
            let message = format!("its end token has the id {token}, but the embedding has {rows} rows");
            return Err(ModelError::invalid(&self.path, message));
        }
        Ok(token)
    }

    fn named_end_token(&self, tokenizer: &Tokenizer) -> Result<u32> {
        if let Some(id) = self.named_token(tokenizer, "eos_token")? {
            return Ok(id);
        }
        self.spec.eos_token_ids.first().copied().ok_or_else(|| {
            ModelError::invalid(
                &self.path,
                "names no end token: neither `eos_token` in tokenizer_config.json nor `eos_token_id` in config.json",
            )
        })
    }

    /// Every token that ends a generated text: the config's, generation_config.json's and the trained end token.
    pub fn stop_tokens(&self, tokenizer: &Tokenizer) -> Result<Vec<u32>> {
        let mut tokens = self.spec.eos_token_ids.clone();
        tokens.push(self.end_token(tokenizer)?);
        let file = self.path.join("generation_config.json");
        if self.gguf.is_none() && file.is_file() {
            tokens.extend(families::token_ids(&inside::json(&file)?, "eos_token_id")?);
        }
        tokens.sort_unstable();
        tokens.dedup();
        Ok(tokens)
    }

    /// Its chat template, where it has one. Errors: a file that can't be read, or several without a default.
    pub fn chat_template(&self) -> Result<Option<String>> {
        match &self.gguf {
            Some(content) => chat_template::of_gguf(&self.path, content),
            None => chat_template::of_folder(&self.path),
        }
    }

    /// The special tokens that a chat template may name, such as `eos_token`, by the names they have there. Where no file of the
    /// tokenizer's speaks of BOS or the end token, they are the config's.
    pub fn special_tokens(&self, tokenizer: &Tokenizer) -> Result<BTreeMap<String, String>> {
        match &self.gguf {
            Some(content) => chat_template::special_tokens_of_gguf(&self.path, content, tokenizer),
            None => {
                let mut tokens = chat_template::special_tokens_of_folder(&self.path)?;
                let text = |id: Option<u32>| id.and_then(|id| tokenizer.id_to_token(id));
                tokens.entry("bos_token".into()).or_insert_with(|| text(self.spec.bos_token_id));
                tokens.entry("eos_token".into()).or_insert_with(|| text(self.spec.eos_token_ids.first().copied()));
                Ok(tokens.into_iter().filter_map(|(name, token)| Some((name, token?))).collect())
            }
        }
    }

    /// True for a Hugging Face folder.
    pub(crate) fn is_folder(&self) -> bool {
        self.gguf.is_none()
    }
}

/// The files whose content is the base at `path`: a GGUF file itself; of a folder config, weights and what belongs to them.
/// Errors: a folder without weights.
pub fn files(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_path_buf()]);
    }
    let mut files = vec![path.join("config.json")];
    files.extend(safetensors::files(path)?);
    files.extend(COMPANIONS.iter().map(|name| path.join(name)).filter(|file| file.is_file()));
    Ok(files)
}
