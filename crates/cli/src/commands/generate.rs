//! `outcrop generate`: text from a custom model or a base, after one prompt or after each line of a file ([`prompts`]).

mod prompts;

use super::Loaded;
use super::text::{Prompt, Stops, stream};
use anyhow::{Context, bail};
use clap::Args;
use outcrop_data::{Role, Turn};
use outcrop_model::generate::{Finish, Options, check_prompt};
use outcrop_trainer::base::TemplateFile;
use prompts::Line;
use std::io::Write;
use std::path::PathBuf;

/// Arguments of `generate`.
#[derive(Args)]
pub(crate) struct Generate {
    /// Custom model (name or id), base folder, GGUF file, or `pebble`
    #[arg(long)]
    model: String,
    /// Text to go on from; with --chat what the user says
    #[arg(long, required_unless_present = "prompts", conflicts_with = "prompts")]
    prompt: Option<String>,
    /// A file of prompts, a line each: plain text, or `{"prompt": "..."}` in a `.jsonl` file. Prints a line of JSON for each, in
    /// order, with the text that the prompt alone would give
    #[arg(long, value_name = "FILE")]
    prompts: Option<PathBuf>,
    /// Texts that are made at once with --prompts; more are faster and take more memory
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=1024), requires = "prompts")]
    at_once: u64,
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
        let lines = self.prompts.as_deref().map(prompts::read).transpose()?; // before a model is loaded
        let home = super::home()?;
        let template = self.chat_template.as_deref().map(TemplateFile::read).transpose()?;
        let device = outcrop_kernels::device::open(&self.device)?;
        if let Some(notice) = outcrop_kernels::device::notice(&device) {
            eprintln!("{notice}");
        }
        let loaded = super::load(&self.model, &home, &device, template.as_ref())?;
        let (options, stops) = (self.options(), Stops(self.stop.clone()));
        if let Some(lines) = lines {
            let prompt = |line: &Line| {
                let prompt = self.laid_out(&loaded, &line.text).and_then(|prompt| {
                    check_prompt(&loaded.decoder, &prompt.tokens)?;
                    Ok(prompt)
                });
                prompt.with_context(|| line.place.clone())
            };
            let prompts = lines.iter().map(prompt).collect::<anyhow::Result<Vec<_>>>()?;
            return prompts::write(&loaded, &lines, &prompts, &options, &stops, self.at_once as usize);
        }
        let prompt = self.laid_out(&loaded, self.prompt.as_deref().unwrap_or_default())?;
        if prompt.tokens.is_empty() {
            bail!("--prompt is empty and the tokenizer begins no text by itself; give a prompt");
        }
        let mut out = std::io::stdout().lock();
        let end = stream(&loaded, &prompt, &options, &stops, &mut |text| {
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

    /// A prompt's tokens: the text as it is, or with --chat what the template makes of it.
    fn laid_out(&self, loaded: &Loaded, text: &str) -> anyhow::Result<Prompt> {
        if !self.chat {
            return Prompt::plain(loaded, text);
        }
        let turn = Turn { role: Role::User, texts: vec![text.to_string()] };
        Prompt::chat(loaded, self.system.as_deref(), &[turn])
    }

    fn options(&self) -> Options {
        Options {
            max_tokens: self.max_tokens as usize,
            temperature: self.temperature,
            top_p: self.top_p,
            top_k: self.top_k.map(|number| usize::try_from(number).unwrap_or(usize::MAX)),
            min_p: self.min_p,
            repetition_penalty: self.repetition_penalty,
            seed: self.seed,
            stop: Vec::new(), // the prompt's own
        }
    }
}
