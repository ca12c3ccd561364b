//! `outcrop generate-worker`: a model in memory that `outcrop serve` asks, in the protocol of
//! `outcrop_service::inference::protocol`. It ends when its input does, in the middle of a text too.

use std::io::{BufRead, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};

use anyhow::bail;
use clap::Args;
use outcrop_data::{Role, Turn};
use outcrop_model::generate::{Finish as Ended, Options};
use outcrop_service::inference::protocol::{self, Ask, Finish, Order, Told};

use super::Loaded;
use super::text::{Prompt, Stops, stream};
use crate::message;

/// Arguments of `generate-worker`.
#[derive(Args)]
pub(crate) struct GenerateWorker {
    /// As `generate` takes it
    #[arg(long)]
    model: String,
    /// cpu, cuda:0 or metal
    #[arg(long, default_value = "cpu")]
    device: String,
}

/// Orders as they come in, and whether the one at work is still wanted.
struct Orders {
    orders: Receiver<(u64, Order)>,
    /// Orders up to this number were cancelled.
    cancelled: Arc<AtomicU64>,
    is_closed: Arc<AtomicBool>,
}

impl Orders {
    /// Reads standard input on a thread of its own, so that a text can be cancelled while it is made.
    fn of_input() -> Self {
        let (sender, orders) = channel();
        let (cancelled, is_closed) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (cancel, close) = (cancelled.clone(), is_closed.clone());
        std::thread::spawn(move || {
            let mut number = 0;
            for line in std::io::stdin().lock().lines().map_while(Result::ok) {
                match serde_json::from_str(&line) {
                    Ok(Order::Cancel) => cancel.store(number, Ordering::Relaxed),
                    Ok(order) => {
                        number += 1;
                        if sender.send((number, order)).is_err() {
                            break;
                        }
                    }
                    Err(_) => break, // whoever speaks another language gets no answer it could take for one
                }
            }
            close.store(true, Ordering::Relaxed);
        });
        Self { orders, cancelled, is_closed }
    }

    fn is_wanted(&self, number: u64) -> bool {
        self.cancelled.load(Ordering::Relaxed) < number && !self.is_closed.load(Ordering::Relaxed)
    }
}

/// Tells the service one thing.
fn tell(told: &Told) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(told)?)?;
    Ok(out.flush()?)
}

impl GenerateWorker {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let orders = Orders::of_input();
        let loaded = match self.load() {
            Ok(loaded) => loaded,
            Err(error) => {
                tell(&Told::Failed(message(&error)))?;
                return Err(error);
            }
        };
        tell(&Told::Loaded)?;
        while let Ok((number, order)) = orders.orders.recv() {
            let result = match order {
                Order::Generate(ask) => answer(&loaded, &ask, &mut || orders.is_wanted(number)),
                Order::Count(prompt) => count(&loaded, &prompt),
                Order::Cancel => Ok(()),
            };
            if let Err(error) = result {
                tell(&Told::Failed(message(&error)))?;
            }
        }
        Ok(())
    }

    fn load(&self) -> anyhow::Result<Loaded> {
        let device = outcrop_kernels::device::open(&self.device)?;
        super::load(&self.model, &super::home()?, &device, None)
    }
}

/// The prompt as tokens. Errors: the caller's fault, in words for them.
fn tokens(loaded: &Loaded, prompt: &protocol::Prompt) -> Result<Prompt, String> {
    let read = match prompt {
        protocol::Prompt::Text(text) => Prompt::plain(loaded, text),
        protocol::Prompt::Conversation { system, turns } => conversation(loaded, system.as_deref(), turns),
    };
    let prompt = read.map_err(|error| message(&error))?;
    if prompt.tokens.is_empty() { Err("The prompt is empty; give a text.".into()) } else { Ok(prompt) }
}

/// A conversation by the model's template. A model without one was trained on prompts, and a user's one message is that.
fn conversation(loaded: &Loaded, system: Option<&str>, turns: &[protocol::Turn]) -> anyhow::Result<Prompt> {
    let turns: Vec<Turn> = turns
        .iter()
        .map(|turn| Turn {
            role: match turn.role {
                protocol::Role::User => Role::User,
                protocol::Role::Assistant => Role::Assistant,
            },
            texts: turn.texts.clone(),
        })
        .collect();
    match (Prompt::chat(loaded, system, &turns), turns.as_slice(), system) {
        (Err(error), [turn], None) if Prompt::has_no_template(&error) => Prompt::plain(loaded, &turn.texts.join("\n")),
        (Err(error), ..) if Prompt::has_no_template(&error) => {
            bail!("The model has no chat template, so it takes a single user message without a system prompt.")
        }
        (result, ..) => result,
    }
}

fn count(loaded: &Loaded, prompt: &protocol::Prompt) -> anyhow::Result<()> {
    match tokens(loaded, prompt) {
        Ok(prompt) => tell(&Told::Begun { input_tokens: prompt.tokens.len() as u64 }),
        Err(refused) => tell(&Told::Refused(refused)),
    }
}

fn answer(loaded: &Loaded, ask: &Ask, is_wanted: &mut dyn FnMut() -> bool) -> anyhow::Result<()> {
    let prompt = match tokens(loaded, &ask.prompt) {
        Ok(prompt) => prompt,
        Err(refused) => return tell(&Told::Refused(refused)),
    };
    let (length, context) = (prompt.tokens.len(), loaded.decoder.spec().max_position_embeddings);
    if length >= context {
        return tell(&Told::Refused(format!(
            "The prompt has {length} tokens, which leaves no room in the model's context of {context}; shorten it."
        )));
    }
    tell(&Told::Begun { input_tokens: length as u64 })?;
    let options = Options {
        max_tokens: usize::try_from(ask.max_tokens).unwrap_or(usize::MAX),
        temperature: ask.temperature,
        top_p: ask.top_p,
        top_k: ask.top_k.map(|most| usize::try_from(most).unwrap_or(usize::MAX)),
        seed: ask.seed,
        ..Options::default()
    };
    let end = stream(loaded, &prompt, &options, &Stops(ask.stop.clone()), &mut |text| {
        if !text.is_empty() {
            tell(&Told::Text(text.to_string()))?;
        }
        Ok(is_wanted())
    })?;
    let finish = match (end.stop_text, end.finish) {
        (Some(text), _) => Finish::StopText(text),
        (None, Ended::Stop) => Finish::End,
        (None, Ended::Length) => Finish::Length,
        (None, Ended::Context) => Finish::Context,
        (None, Ended::Cancelled) => Finish::Cancelled,
    };
    tell(&Told::Done { finish, output_tokens: end.tokens as u64 })
}
