//! A Hugging Face tokenizer, held to what training needs: no hidden truncation or padding, no added special tokens,
//! ids inside the model's vocabulary, one decision about BOS.
//!
//! It carries the chat template of its base. What it leaves out: writing tokenizers (a base's files are copied byte for byte into artifacts).

use std::path::{Path, PathBuf};

use rayon::prelude::*;
use tokenizers::Tokenizer;
use tokenizers::models::ModelWrapper;

use crate::chat_template::ChatTemplate;
use crate::words::{self, WordEncoder};

/// The special tokens of a base model, as its configuration names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpecialTokens {
    /// The begin-of-sequence token, where there is one.
    pub bos: Option<u32>,
    /// True where the model's configuration says that BOS is added although the tokenizer file doesn't do it itself
    /// (GGUF metadata, `add_bos_token`).
    pub add_bos: bool,
    /// The token that ends a completion or a document.
    pub eos: u32,
}

/// Why a tokenizer can't be used, or refused a text.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// The file couldn't be read; the message names it.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The file is no tokenizer.
    #[error("`{path}` is not a tokenizer that can be loaded: {reason}")]
    Load {
        /// The file.
        path: PathBuf,
        /// The library's reason.
        reason: String,
    },
    /// The tokenizer and the model's configuration don't fit together.
    #[error("{0}")]
    Mismatch(String),
    /// A text has a token that the model has no embedding for (R29).
    #[error(
        "token `{token}` has id {id}, but the model has only {rows} embedding rows; use the tokenizer that belongs to the model"
    )]
    OutsideVocabulary {
        /// The token's text in the vocabulary.
        token: String,
        /// Its id.
        id: u32,
        /// Rows of the model's embedding.
        rows: u32,
    },
    /// A text has a word that is too long for the merge loop.
    #[error("a word of {bytes} bytes without a break is no text; take it out or break it up")]
    LongWord {
        /// Its length.
        bytes: usize,
    },
    /// The tokenizer library failed.
    #[error("the tokenizer failed: {0}")]
    Failed(String),
}

/// A tokenizer together with the model's special tokens and vocabulary size.
#[derive(Debug)]
pub struct TextTokenizer {
    tokenizer: Tokenizer,
    special: SpecialTokens,
    adds_bos: bool,
    vocabulary_rows: u32,
    hash: String,
    /// Where the tokenizer is known to work by words.
    words: Option<WordEncoder>,
    chat_template: Option<ChatTemplate>,
    /// Spellings of the special tokens and of the end token, as far as they are read back as such.
    special_texts: Vec<String>,
}

impl TextTokenizer {
    /// Loads `tokenizer.json`. `vocabulary_rows` is the number of rows of the model's embedding.
    ///
    /// Errors: the file is missing or no tokenizer; a special token is outside the model; the tokenizer puts another token
    /// than BOS in front of a text.
    pub fn from_file(path: &Path, special: SpecialTokens, vocabulary_rows: usize) -> Result<Self, TokenizerError> {
        let bytes = fs_err::read(path)?;
        let tokenizer = Tokenizer::from_bytes(&bytes)
            .map_err(|error| TokenizerError::Load { path: path.to_owned(), reason: error.to_string() })?;
        Self::from_tokenizer(tokenizer, special, vocabulary_rows)
    }

    /// Takes over a tokenizer, clearing its truncation, padding and merge dropout: they would lose or change tokens silently.
    pub fn from_tokenizer(
        mut tokenizer: Tokenizer,
        special: SpecialTokens,
        vocabulary_rows: usize,
    ) -> Result<Self, TokenizerError> {
        let vocabulary_rows = u32::try_from(vocabulary_rows).map_err(|_| {
            TokenizerError::Mismatch(format!(
                "a vocabulary of {vocabulary_rows} rows is too large; token ids are 32-bit"
            ))
        })?;
        for (name, id) in [("end", Some(special.eos)), ("begin", special.bos)] {
            if let Some(id) = id.filter(|id| *id >= vocabulary_rows) {
                return Err(TokenizerError::Mismatch(format!(
                    "the {name} token has id {id}, but the model has only {vocabulary_rows} embedding rows; check the model's configuration"
                )));
            }
        }
        tokenizer.with_truncation(None).map_err(failed)?;
        tokenizer.with_padding(None);
        if let ModelWrapper::BPE(model) = tokenizer.get_model()
            && model.dropout.is_some()
        {
            let mut model = model.clone();
            model.dropout = None;
            tokenizer.with_model(model);
        }
        let adds_bos = decide_bos(&tokenizer, special)?;
        let json = tokenizer.to_string(false).map_err(failed)?;
        let hash = blake3::hash(json.as_bytes()).to_hex().to_string();
        let words = WordEncoder::new(&tokenizer);
        let mut held = Self {
            tokenizer,
            special,
            adds_bos,
            vocabulary_rows,
            hash,
            words,
            chat_template: None,
            special_texts: Vec::new(),
        };
        held.special_texts = held.find_special_texts();
        Ok(held)
    }

    fn find_special_texts(&self) -> Vec<String> {
        let added = self.tokenizer.get_added_tokens_decoder();
        let special = added.into_values().filter(|token| token.special).map(|token| token.content);
        let mut texts: Vec<String> = special.chain([self.token(self.special.eos)]).collect();
        texts.sort_unstable();
        texts.dedup();
        texts.retain(|text| {
            !text.is_empty() && self.encode(text).is_ok_and(|ids| ids.len() == 1 && self.token(ids[0]) == *text)
        });
        texts
    }

    /// With the template that lays conversations out.
    #[must_use]
    pub fn with_chat_template(self, chat_template: Option<ChatTemplate>) -> Self {
        Self { chat_template, ..self }
    }

    /// The template that lays conversations out, where there is one.
    pub fn chat_template(&self) -> Option<&ChatTemplate> {
        self.chat_template.as_ref()
    }

    /// Spellings of the tokens that may end a turn.
    pub(crate) fn special_texts(&self) -> &[String] {
        &self.special_texts
    }

    /// Token ids of a text, without special tokens, never truncated or padded.
    /// Errors: a token outside the model's vocabulary (R29); the library's own.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        match &self.words {
            Some(words) => words.encode(&self.tokenizer, self.vocabulary_rows, text),
            None => self.encode_by_library(text),
        }
    }

    fn encode_by_library(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        let ids = self.tokenizer.encode_fast(text, false).map_err(failed)?.get_ids().to_vec();
        words::check(&self.tokenizer, self.vocabulary_rows, &ids)?;
        Ok(ids)
    }

    /// What knows places where a text may be cut without a trial, where there is such a thing.
    pub(crate) fn words(&self) -> Option<&WordEncoder> {
        self.words.as_ref()
    }

    #[cfg(any(test, fuzzing))]
    pub(crate) fn forget_words(&mut self) {
        self.words = None;
    }

    /// [`Self::encode`] of many texts on all cores, in their order.
    pub fn encode_batch<T: AsRef<str> + Sync>(&self, texts: &[T]) -> Result<Vec<Vec<u32>>, TokenizerError> {
        texts.par_iter().map(|text| self.encode(text.as_ref())).collect()
    }

    /// Token ids that `text` has when it follows `context`; `None` where the two share a token.
    ///
    /// A tokenizer that marks the start of a text (a SentencePiece prefix space) must not do so in the middle of one.
    pub(crate) fn encode_after(&self, context: &str, text: &str) -> Result<Option<Vec<u32>>, TokenizerError> {
        if context.is_empty() {
            return self.encode(text).map(Some);
        }
        let before = self.encode(context)?;
        let mut joint = self.encode(&format!("{context}{text}"))?;
        if !joint.starts_with(&before) {
            return Ok(None);
        }
        Ok(Some(joint.split_off(before.len())))
    }

    /// Text of token ids, special tokens included: who doesn't want an end token drops it by position, never by id (R8).
    pub fn decode(&self, ids: &[u32]) -> Result<String, TokenizerError> {
        self.tokenizer.decode(ids, false).map_err(failed)
    }

    /// The vocabulary's own spelling of one token, for messages and tables.
    pub fn token(&self, id: u32) -> String {
        self.tokenizer.id_to_token(id).unwrap_or_else(|| format!("<{id}>"))
    }

    /// True where a text that the model sees begins with BOS (R9).
    pub fn adds_bos(&self) -> bool {
        self.adds_bos
    }

    /// The BOS token where one is added, else `None`.
    pub fn bos(&self) -> Option<u32> {
        self.special.bos.filter(|_| self.adds_bos)
    }

    /// The token that ends a completion or a document.
    pub fn eos(&self) -> u32 {
        self.special.eos
    }

    /// The special tokens of the model, added to texts or not.
    pub(crate) fn special(&self) -> SpecialTokens {
        self.special
    }

    /// Rows of the model's embedding; every id is below it.
    pub fn vocabulary_rows(&self) -> u32 {
        self.vocabulary_rows
    }

    /// blake3 of the tokenizer's JSON, in hex; truncation and padding settings don't enter (R22).
    pub fn hash(&self) -> &str {
        &self.hash
    }
}

/// R9: BOS is added where the tokenizer's own rule adds it, or where the configuration says so in its place.
fn decide_bos(tokenizer: &Tokenizer, special: SpecialTokens) -> Result<bool, TokenizerError> {
    if special.add_bos && special.bos.is_none() {
        return Err(TokenizerError::Mismatch(
            "the configuration adds a begin token but names none; set `bos_token_id`".into(),
        ));
    }
    let mut added_to_all = true;
    for text in ["", "a"] {
        let plain = tokenizer.encode_fast(text, false).map_err(failed)?;
        let full = tokenizer.encode_fast(text, true).map_err(failed)?;
        // What stands in front of the text: all of it up to the place where the plain ids begin.
        let (plain, full) = (plain.get_ids(), full.get_ids());
        let start =
            (0..=full.len().saturating_sub(plain.len())).find(|start| full[*start..].starts_with(plain)).unwrap_or(0);
        let front = if plain.is_empty() { &full[..full.len().min(1)] } else { &full[..start] };
        let is_bos = special.bos.is_some_and(|bos| front == [bos]);
        if text == "a" && !front.is_empty() && !is_bos {
            let names: Vec<_> =
                front.iter().map(|id| format!("`{}` ({id})", tokenizer.id_to_token(*id).unwrap_or_default())).collect();
            let configured = special.bos.map_or("none".to_owned(), |bos| bos.to_string());
            return Err(TokenizerError::Mismatch(format!(
                "the tokenizer puts {} in front of every text, but the configured begin token is {configured}; set `bos_token_id` to match",
                names.join(", ")
            )));
        }
        added_to_all &= is_bos;
    }
    Ok(special.add_bos || added_to_all)
}

fn failed(error: tokenizers::Error) -> TokenizerError {
    TokenizerError::Failed(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;
    use tokenizers::processors::template::TemplateProcessing;
    use tokenizers::{PaddingParams, PaddingStrategy, TruncationParams};

    fn special(bos: Option<u32>, eos: u32) -> SpecialTokens {
        SpecialTokens { bos, add_bos: false, eos }
    }

    fn with_template(single: &str, token: &str) -> Tokenizer {
        let mut tokenizer = fixtures::byte_level();
        let id = tokenizer.token_to_id(token).unwrap();
        let template = TemplateProcessing::builder()
            .try_single(single)
            .unwrap()
            .special_tokens(vec![(token, id)])
            .build()
            .unwrap();
        tokenizer.with_post_processor(Some(template));
        tokenizer
    }

    #[test]
    fn r11_truncation_padding_and_dropout_of_the_file_are_cleared() {
        let mut tokenizer = fixtures::byte_level();
        tokenizer.with_truncation(Some(TruncationParams { max_length: 2, ..Default::default() })).unwrap();
        tokenizer.with_padding(Some(PaddingParams { strategy: PaddingStrategy::Fixed(64), ..Default::default() }));
        let ModelWrapper::BPE(model) = tokenizer.get_model() else { panic!("a BPE") };
        let mut model = model.clone();
        model.dropout = Some(1.0);
        tokenizer.with_model(model);
        let held = TextTokenizer::from_tokenizer(tokenizer, special(None, 0), 1000).unwrap();
        let plain = fixtures::tokenizer();
        let text = "the level is set on the wall and the bubble is read";
        assert_eq!(held.encode(text).unwrap(), plain.encode(text).unwrap());
        assert_eq!(held.decode(&held.encode(text).unwrap()).unwrap(), text);
        assert_eq!(held.hash(), plain.hash(), "settings that shape no tokens don't change the key");
    }

    #[test]
    fn r9_bos_is_added_only_where_the_tokenizer_adds_it() {
        let bos = fixtures::byte_level().token_to_id("<s>").unwrap();
        let make = |tokenizer, special| TextTokenizer::from_tokenizer(tokenizer, special, 1000);
        assert!(!make(fixtures::byte_level(), special(Some(bos), 0)).unwrap().adds_bos());
        assert!(make(with_template("<s> $A", "<s>"), special(Some(bos), 0)).unwrap().adds_bos());
        assert!(!make(with_template("$A <s>", "<s>"), special(Some(bos), 0)).unwrap().adds_bos());
        let told = make(fixtures::byte_level(), SpecialTokens { bos: Some(bos), add_bos: true, eos: 0 }).unwrap();
        assert_eq!((told.adds_bos(), told.bos()), (true, Some(bos)));
        let error = make(with_template("<s> $A", "<s>"), special(None, 0)).unwrap_err().to_string();
        assert_eq!(
            error,
            "the tokenizer puts `<s>` (1) in front of every text, but the configured begin token is none; set `bos_token_id` to match"
        );
        let error =
            make(fixtures::byte_level(), SpecialTokens { bos: None, add_bos: true, eos: 0 }).unwrap_err().to_string();
        assert_eq!(error, "the configuration adds a begin token but names none; set `bos_token_id`");
    }

    #[test]
    fn r29_an_id_outside_the_model_is_an_error_that_names_the_token() {
        let tokenizer = fixtures::byte_level();
        let rows = tokenizer.token_to_id("Ġthe").unwrap();
        let held = TextTokenizer::from_tokenizer(tokenizer, special(None, 0), rows as usize).unwrap();
        let error = held.encode(" the").unwrap_err().to_string();
        assert_eq!(
            error,
            format!(
                "token `Ġthe` has id {rows}, but the model has only {rows} embedding rows; use the tokenizer that belongs to the model"
            )
        );
        let error =
            TextTokenizer::from_tokenizer(fixtures::byte_level(), special(None, 5000), 1000).unwrap_err().to_string();
        assert_eq!(
            error,
            "the end token has id 5000, but the model has only 1000 embedding rows; check the model's configuration"
        );
    }

    #[test]
    fn encode_never_adds_special_tokens_and_a_batch_equals_its_parts() {
        let bos = fixtures::byte_level().token_to_id("<s>").unwrap();
        let held = TextTokenizer::from_tokenizer(with_template("<s> $A", "<s>"), special(Some(bos), 0), 1000).unwrap();
        assert!(!held.encode("the wall").unwrap().contains(&bos));
        let texts = ["the wall", "", "a bubble"];
        let batch = held.encode_batch(&texts).unwrap();
        assert_eq!(batch, texts.map(|text| held.encode(text).unwrap()));
    }

    #[test]
    fn a_file_round_trips_and_a_broken_one_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokenizer.json");
        fixtures::byte_level().save(&path, false).unwrap();
        let held = TextTokenizer::from_file(&path, special(None, 0), 1000).unwrap();
        assert_eq!(held.hash(), fixtures::tokenizer().hash());
        fs_err::write(&path, "{").unwrap();
        let error = TextTokenizer::from_file(&path, special(None, 0), 1000).unwrap_err().to_string();
        assert!(error.starts_with(&format!("`{}` is not a tokenizer that can be loaded: ", path.display())), "{error}");
        let error =
            TextTokenizer::from_file(&folder.path().join("none.json"), special(None, 0), 1000).unwrap_err().to_string();
        assert!(error.contains("none.json"), "{error}");
    }
}
