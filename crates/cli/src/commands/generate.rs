//! `outcrop generate`: text from a custom model or a base.

use anyhow::{Context, bail};
use clap::Args;
use outcrop_data::encode_prompt;
use outcrop_model::generate::{Finish, Options, generate};
use std::io::Write;

/// Arguments of `generate`.
#[derive(Args)]
pub(crate) struct Generate {
    /// Custom model (name or id), base folder, GGUF file, or `pebble`
    #[arg(long)]
    model: String,
    /// Text to go on from
    #[arg(long)]
    prompt: String,
    /// Most new tokens
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u64).range(1..))]
    max_tokens: u64,
    /// 0 takes the likeliest token each time
    #[arg(long, default_value_t = 0.0, value_parser = temperature)]
    temperature: f64,
    /// Choose among the likeliest tokens that together hold this probability
    #[arg(long, default_value_t = 1.0, value_parser = probability)]
    top_p: f64,
    /// Seed of the choices
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// cpu, cuda:0 or metal
    #[arg(long, default_value = "cpu")]
    device: String,
}

fn temperature(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "a number from 0 to 10 is expected".to_string())?;
    if (0.0..=10.0).contains(&number) { Ok(number) } else { Err("allowed are numbers from 0 to 10".into()) }
}

fn probability(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "a number over 0, at most 1, is expected".to_string())?;
    if number > 0.0 && number <= 1.0 { Ok(number) } else { Err("allowed are numbers over 0, at most 1".into()) }
}

impl Generate {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let home = super::home()?;
        let device = outcrop_kernels::device::open(&self.device)?;
        if let Some(notice) = outcrop_kernels::device::notice(&device) {
            eprintln!("{notice}");
        }
        let loaded = super::load(&self.model, &home, &device)?;
        let tokenizer = &loaded.tokenizer;
        let prompt = encode_prompt(tokenizer, &self.prompt)?;
        if prompt.is_empty() {
            bail!("--prompt is empty and the tokenizer begins no text by itself; give a prompt");
        }
        let options = Options {
            max_tokens: self.max_tokens as usize,
            temperature: self.temperature,
            top_p: self.top_p,
            seed: self.seed,
            stop: loaded.base.stop_tokens(&loaded.base.tokenizer()?)?,
        };
        // a character may be spread over tokens: print what decodes whole
        let (mut tokens, mut printed) = (Vec::new(), 0);
        let mut out = std::io::stdout().lock();
        let mut failure = None;
        let finish = generate(&loaded.decoder, &prompt, &options, |token| {
            tokens.push(token);
            let result = tokenizer.decode(&tokens).map_err(anyhow::Error::from).and_then(|text| {
                let whole = text.trim_end_matches('\u{fffd}');
                if whole.len() > printed {
                    out.write_all(&whole.as_bytes()[printed..])?;
                    out.flush()?;
                    printed = whole.len();
                }
                Ok(())
            });
            failure = result.err();
            failure.is_none()
        })?;
        if let Some(error) = failure {
            return Err(error).context("writing the text");
        }
        let text = tokenizer.decode(&tokens)?;
        writeln!(out, "{}", &text[printed..])?;
        if finish == Finish::Context {
            eprintln!("stopped: the context of {} tokens is full", loaded.decoder.spec().max_position_embeddings);
        }
        Ok(())
    }
}
