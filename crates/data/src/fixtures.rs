//! Small tokenizers and files for this crate's tests and fuzz targets, made in memory.
#![allow(dead_code, clippy::unwrap_used)] // the fuzz targets use a part; helpers of tests are tests

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::models::wordlevel::WordLevel;
use tokenizers::normalizers::Replace;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::metaspace::{Metaspace, PrependScheme};
use tokenizers::pre_tokenizers::whitespace::Whitespace;
use tokenizers::{AddedToken, Tokenizer};

use crate::tokenizer::{SpecialTokens, TextTokenizer};

pub(crate) const PROSE: &str = "The level is set on the wall and the bubble is read twice. A wall that leans is read from below,\n\
    and the reading is written down.\n\nThe second reading says how far the wall has moved since the first; what the user wants\n\
    is the difference, not the number. World records, words and worlds: the plumb line hangs from the beam.\n";

fn trained(tokenizer: &mut Tokenizer, alphabet: bool) {
    let mut trainer = BpeTrainer::builder().show_progress(false).vocab_size(420).special_tokens(vec![
        AddedToken::from("</s>", true),
        AddedToken::from("<s>", true),
        AddedToken::from("<unk>", true),
    ]);
    if alphabet {
        trainer = trainer.initial_alphabet(ByteLevel::alphabet().into_iter().collect());
    }
    let mut trainer: TrainerWrapper = trainer.build().into();
    let texts = vec![PROSE.to_owned(); 8];
    tokenizer.train(&mut trainer, texts.into_iter()).unwrap();
}

/// A byte-level BPE of about 420 tokens, as GPT-2 has it; `</s>` is 0, `<s>` is 1. It adds no special tokens.
pub(crate) fn byte_level() -> Tokenizer {
    static ONCE: OnceLock<Tokenizer> = OnceLock::new();
    ONCE.get_or_init(|| {
        let mut tokenizer = Tokenizer::new(BPE::default());
        tokenizer.with_pre_tokenizer(Some(ByteLevel::new(false, true, true)));
        tokenizer.with_decoder(Some(ByteLevel::default()));
        trained(&mut tokenizer, true);
        tokenizer
    })
    .clone()
}

/// A BPE that marks the start of a text like SentencePiece does.
pub(crate) fn prefix_space() -> TextTokenizer {
    let mut tokenizer = Tokenizer::new(BPE::builder().unk_token("<unk>".into()).build().unwrap());
    tokenizer.with_pre_tokenizer(Some(Metaspace::new('▁', PrependScheme::First, true)));
    trained(&mut tokenizer, false);
    TextTokenizer::from_tokenizer(tokenizer, SpecialTokens { bos: None, add_bos: false, eos: 0 }, 1000).unwrap()
}

/// [`byte_level`] without BOS.
pub(crate) fn tokenizer() -> TextTokenizer {
    TextTokenizer::from_tokenizer(byte_level(), SpecialTokens { bos: None, add_bos: false, eos: 0 }, 1000).unwrap()
}

/// The same tokens by the library alone, as any tokenizer has them that isn't known to work by words.
pub(crate) fn tokenizer_by_library() -> TextTokenizer {
    let mut held = tokenizer();
    held.forget_words();
    held
}

/// [`byte_level`] with BOS in front of every text.
pub(crate) fn tokenizer_with_bos() -> TextTokenizer {
    TextTokenizer::from_tokenizer(byte_level(), SpecialTokens { bos: Some(1), add_bos: true, eos: 0 }, 1000).unwrap()
}

/// Writes a file into a folder, making folders on the way.
pub(crate) fn write(folder: &Path, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
    let path = folder.join(name);
    fs_err::create_dir_all(path.parent().unwrap()).unwrap();
    fs_err::write(&path, content).unwrap();
    path
}

/// The bytes, compressed as a gzip member.
pub(crate) fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut encoder, content).unwrap();
    encoder.finish().unwrap()
}

/// The bytes, compressed as a zstd frame.
pub(crate) fn zstd(content: &[u8]) -> Vec<u8> {
    zstd::stream::encode_all(content, 0).unwrap()
}

/// Bytes of a model that knows a begin token but whose tokenizer doesn't add it; two line ends are one token.
pub(crate) fn tokenizer_that_knows_bos() -> TextTokenizer {
    let mut tokenizer = byte_level();
    let mut vocabulary: Vec<_> = tokenizer.get_vocab(false).into_iter().collect();
    vocabulary.sort_by_key(|(_, id)| *id);
    vocabulary.push(("ĊĊ".to_owned(), vocabulary.len() as u32));
    tokenizer.with_model(BPE::new(vocabulary.into_iter().collect(), vec![("Ċ".into(), "Ċ".into())]));
    TextTokenizer::from_tokenizer(tokenizer, SpecialTokens { bos: Some(1), add_bos: false, eos: 0 }, 1000).unwrap()
}

/// [`byte_level`] that passes over a text.
pub(crate) fn tokenizer_that_drops(text: &str) -> TextTokenizer {
    let mut tokenizer = byte_level();
    tokenizer.with_normalizer(Some(Replace::new(text, "").unwrap())).unwrap();
    TextTokenizer::from_tokenizer(tokenizer, SpecialTokens { bos: None, add_bos: false, eos: 0 }, 1000).unwrap()
}

/// Whole words, of which it knows these alone; it fails on any other.
pub(crate) fn tokenizer_of_words(words: &[&str]) -> TextTokenizer {
    let ids = ["</s>"].iter().chain(words).zip(0..).map(|(word, id)| ((*word).to_owned(), id));
    let mut tokenizer = Tokenizer::new(WordLevel::builder().vocab(ids.collect()).build().unwrap());
    tokenizer.with_pre_tokenizer(Some(Whitespace {}));
    TextTokenizer::from_tokenizer(tokenizer, SpecialTokens { bos: None, add_bos: false, eos: 0 }, 1000).unwrap()
}

/// [`byte_level`] of a model with so many embedding rows.
pub(crate) fn tokenizer_of_rows(rows: usize) -> TextTokenizer {
    TextTokenizer::from_tokenizer(byte_level(), SpecialTokens { bos: None, add_bos: false, eos: 0 }, rows).unwrap()
}
