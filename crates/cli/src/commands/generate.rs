//! `outcrop generate`: text from a custom model or a base.

use super::text::{Prompt, Stops, stream};
use anyhow::bail;
use clap::Args;
use outcrop_data::{Role, Turn};
use outcrop_model::generate::{Finish, Options};
use outcrop_trainer::base::TemplateFile;
use std::io::Write;
use std::path::PathBuf;

/// Arguments of `generate`.
#[derive(Args)]
pub(crate) struct Generate {
    /// Custom model (name or id), base folder, GGUF file, or `pebble`
    #[arg(long)]
    model: String,
    /// Text to go on from; with --chat what the user says
    #[arg(long)]
    prompt: String,
    /// Lay the prompt out as a conversation, by the chat template that the model was trained with
    #[arg(long)]
    chat: bool,
    /// System prompt of the conversation
    #[arg(long, requires = "chat")]
    system: Option<String>,
    /// File with a chat template to use in place of the model's own
    #[arg(long, value_name = "FILE", requires = "chat")]
    chat_template: Option<PathBuf>,
    /// Most new tokens
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u64).range(1..))]
    max_tokens: u64,
    /// 0 takes the likeliest token each time
    #[arg(long, default_value_t = 0.0, value_parser = temperature)]
    temperature: f64,
    /// Choose among the likeliest tokens that together hold this probability
    #[arg(long, default_value_t = 1.0, value_parser = probability)]
    top_p: f64,
    /// Choose among so many of the likeliest tokens
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    top_k: Option<u64>,
    /// Leave out tokens with less than this share of the likeliest one's probability
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    min_p: f64,
    /// Above 1 makes tokens that were there already less likely
    #[arg(long, default_value_t = 1.0, value_parser = penalty)]
    repetition_penalty: f64,
    /// A text that ends the generation and isn't printed; may be given several times
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
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

fn share(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "a number from 0 to 1 is expected".to_string())?;
    if (0.0..=1.0).contains(&number) { Ok(number) } else { Err("allowed are numbers from 0 to 1".into()) }
}

fn penalty(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "a number from 0.1 to 10 is expected".to_string())?;
    if (0.1..=10.0).contains(&number) { Ok(number) } else { Err("allowed are numbers from 0.1 to 10".into()) }
}

impl Generate {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let home = super::home()?;
        let template = self.chat_template.as_deref().map(TemplateFile::read).transpose()?;
        let device = outcrop_kernels::device::open(&self.device)?;
        if let Some(notice) = outcrop_kernels::device::notice(&device) {
            eprintln!("{notice}");
        }
        let loaded = super::load(&self.model, &home, &device, template.as_ref())?;
        let prompt = if self.chat {
            let turn = Turn { role: Role::User, texts: vec![self.prompt.clone()] };
            Prompt::chat(&loaded, self.system.as_deref(), &[turn])?
        } else {
            Prompt::plain(&loaded, &self.prompt)?
        };
        if prompt.tokens.is_empty() {
            bail!("--prompt is empty and the tokenizer begins no text by itself; give a prompt");
        }
        let options = Options {
            max_tokens: self.max_tokens as usize,
            temperature: self.temperature,
            top_p: self.top_p,
            top_k: self.top_k.map(|number| usize::try_from(number).unwrap_or(usize::MAX)),
            min_p: self.min_p,
            repetition_penalty: self.repetition_penalty,
            seed: self.seed,
            stop: Vec::new(), // the prompt's own
        };
        let mut out = std::io::stdout().lock();
        let end = stream(&loaded, &prompt, &options, &Stops(self.stop), &mut |text| {
            out.write_all(text.as_bytes())?;
            out.flush()?;
            Ok(true)
        })?;
        writeln!(out)?;
        if end.finish == Finish::Context {
            eprintln!("stopped: the context of {} tokens is full", loaded.decoder.spec().max_position_embeddings);
        }
        Ok(())
    }
}
