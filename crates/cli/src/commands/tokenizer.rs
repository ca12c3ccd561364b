//! `outcrop tokenizer train`: byte-level BPE on text files, for a base of one's own.

use anyhow::{Context, ensure};
use clap::{Args, Subcommand};
use std::path::PathBuf;
use tokenizers::decoders::byte_level::ByteLevel as ByteLevelDecoder;
use tokenizers::models::bpe::{BPE, BpeTrainerBuilder};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, TokenizerBuilder};

/// Tokenizer commands.
#[derive(Args)]
pub(crate) struct TokenizerCommand {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Train a byte-level BPE and write tokenizer.json; token 0 is the end token `<|endoftext|>`
    Train {
        /// Text files
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Number of tokens, the end token and 256 bytes included
        #[arg(long, default_value_t = 4096)]
        vocab_size: usize,
        /// Where to write it
        #[arg(long, default_value = "tokenizer.json")]
        output: PathBuf,
    },
}

impl TokenizerCommand {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let Verb::Train { files, vocab_size, output } = self.verb;
        ensure!(vocab_size > 257, "--vocab-size is {vocab_size}, it must be over 257: 256 bytes and the end token");
        ensure!(!output.exists(), "`{}` exists already; choose another file", output.display());
        let mut trainer = BpeTrainerBuilder::new()
            .show_progress(false)
            .vocab_size(vocab_size)
            .min_frequency(2)
            .special_tokens(vec![AddedToken::from("<|endoftext|>", true)])
            .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
            .build();
        let byte_level = ByteLevel::new(false, true, true);
        let texts = files.iter().map(fs_err::read_to_string).collect::<Result<Vec<_>, _>>()?;
        let mut tokenizer = TokenizerBuilder::<BPE, tokenizers::NormalizerWrapper, _, ByteLevel, _>::new()
            .with_model(BPE::default())
            .with_normalizer(None)
            .with_pre_tokenizer(Some(byte_level))
            .with_post_processor(Some(byte_level))
            .with_decoder(Some(ByteLevelDecoder::default()))
            .build()
            .map_err(anyhow::Error::msg)?;
        tokenizer.train(&mut trainer, texts.iter()).map_err(anyhow::Error::msg).context("training the tokenizer")?;
        tokenizer.save(&output, true).map_err(anyhow::Error::msg)?;
        let size = tokenizer.get_vocab_size(true);
        crate::terminal::print(&format!("{size} tokens in {}\n", output.display()))
    }
}
