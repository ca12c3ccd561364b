//! What `generate` and `generate-worker` share: prompts as tokens, and a text that is given on while it is made.

use anyhow::Context;
use outcrop_data::{ChatError, Turn, encode_chat_prompt, encode_prompt, end_of_turn};
use outcrop_model::generate::{Finish, Options, generate, generate_batch};
use std::cell::RefCell;

use super::Loaded;

/// A prompt as tokens, and the tokens that end the text after it.
pub(super) struct Prompt {
    pub(super) tokens: Vec<u32>,
    pub(super) stop: Vec<u32>,
}

impl Prompt {
    /// A text as it is. Errors: the tokenizer refuses it.
    pub(super) fn plain(loaded: &Loaded, text: &str) -> anyhow::Result<Self> {
        let stop = loaded.base.stop_tokens(&loaded.base.tokenizer()?)?;
        Ok(Self { tokens: encode_prompt(&loaded.tokenizer, text)?, stop })
    }

    /// A conversation, laid out by the model's chat template. Errors: there is none, or it refuses the conversation.
    pub(super) fn chat(loaded: &Loaded, system: Option<&str>, turns: &[Turn]) -> anyhow::Result<Self> {
        let mut stop = loaded.base.stop_tokens(&loaded.base.tokenizer()?)?;
        stop.push(end_of_turn(&loaded.tokenizer)?);
        Ok(Self { tokens: encode_chat_prompt(&loaded.tokenizer, system, turns)?, stop })
    }

    /// Whether [`Prompt::chat`] failed for want of a template.
    pub(super) fn has_no_template(error: &anyhow::Error) -> bool {
        matches!(error.downcast_ref(), Some(ChatError::NoTemplate))
    }
}

/// Why a text ended.
pub(super) struct End {
    pub(super) finish: Finish,
    /// The stop text that ended it; it wasn't given on.
    pub(super) stop_text: Option<String>,
    /// Tokens that were made.
    pub(super) tokens: usize,
}

/// Generates a text and gives it to `each`, whole characters at a time; false ends it. A stop text isn't given on, nor
/// what may become one until it is known not to. Errors: generation's, and those of `each`.
pub(super) fn stream(
    loaded: &Loaded,
    prompt: &Prompt,
    options: &Options,
    stops: &Stops,
    each: &mut dyn FnMut(&str) -> anyhow::Result<bool>,
) -> anyhow::Result<End> {
    let options = Options { stop: prompt.stop.clone(), ..options.clone() };
    let mut text = Growing::default();
    let (mut failure, mut goes_on) = (None, true);
    let finish = generate(&loaded.decoder, &prompt.tokens, &options, |token| {
        let result = text.push(loaded, stops, token).and_then(|new| each(&new));
        match result {
            Ok(more) => goes_on = more,
            Err(error) => failure = Some(error),
        }
        failure.is_none() && text.stop_text.is_none() && goes_on
    })?;
    if let Some(error) = failure {
        return Err(error).context("writing the text");
    }
    if goes_on {
        let rest = text.rest(loaded)?;
        if !rest.is_empty() {
            each(&rest)?;
        }
    }
    Ok(End { finish, stop_text: text.stop_text, tokens: text.tokens.len() })
}

/// Generates a text after each prompt, `at_once` of them together; the same texts as [`stream`] gives for each alone.
/// Errors: generation's.
pub(super) fn batch(
    loaded: &Loaded,
    prompts: &[Prompt],
    options: &Options,
    stops: &Stops,
    at_once: usize,
    each: &mut dyn FnMut(usize, String, End) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let stop = prompts.first().map(|prompt| prompt.stop.clone()).unwrap_or_default(); // the model's, so the same for all
    let options = Options { stop, ..options.clone() };
    let texts = RefCell::new(prompts.iter().map(|_| (Growing::default(), String::new())).collect::<Vec<_>>());
    let failure = RefCell::new(None);
    let on_token = |index: usize, token| {
        let mut all = texts.borrow_mut();
        let (text, so_far) = &mut all[index];
        match text.push(loaded, stops, token) {
            Ok(new) => so_far.push_str(&new),
            Err(error) => *failure.borrow_mut() = Some(error),
        }
        failure.borrow().is_none() && text.stop_text.is_none()
    };
    let on_end = |index: usize, finish| {
        let (mut text, mut so_far) = std::mem::take(&mut texts.borrow_mut()[index]);
        let ended = text.rest(loaded).and_then(|rest| {
            so_far.push_str(&rest);
            each(index, so_far, End { finish, tokens: text.tokens.len(), stop_text: text.stop_text })
        });
        if let Err(error) = ended {
            failure.borrow_mut().get_or_insert(error);
        }
    };
    let tokens: Vec<&[u32]> = prompts.iter().map(|prompt| prompt.tokens.as_slice()).collect();
    generate_batch(&loaded.decoder, &tokens, &options, at_once, on_token, on_end)?;
    match failure.into_inner() {
        Some(error) => Err(error).context("writing the texts"),
        None => Ok(()),
    }
}

/// A text in the making. A character may be spread over tokens: what decodes whole is given on.
#[derive(Default)]
struct Growing {
    tokens: Vec<u32>,
    given: usize,
    /// The stop text that ended it.
    stop_text: Option<String>,
}

impl Growing {
    /// What can be given on once there is one more token. Errors: the tokenizer's.
    fn push(&mut self, loaded: &Loaded, stops: &Stops, token: u32) -> anyhow::Result<String> {
        self.tokens.push(token);
        let text = loaded.tokenizer.decode(&self.tokens)?;
        let (length, ends) = stops.printable(text.trim_end_matches('\u{fffd}'));
        self.stop_text = ends;
        Ok(self.up_to(&text, length))
    }

    /// What was held back and is part of the text after all. Errors: the tokenizer's.
    fn rest(&mut self, loaded: &Loaded) -> anyhow::Result<String> {
        if self.stop_text.is_some() {
            return Ok(String::new());
        }
        let text = loaded.tokenizer.decode(&self.tokens)?;
        Ok(self.up_to(&text, text.len()))
    }

    fn up_to(&mut self, text: &str, length: usize) -> String {
        let new = text.get(self.given..length).unwrap_or_default().to_string();
        self.given = self.given.max(length);
        new
    }
}

/// How much of a growing text may be given on: a stop text ends it, and what may become one is held back.
pub(super) struct Stops(pub(super) Vec<String>);

impl Stops {
    /// Bytes of `text` that may be given on, and the stop text that ends it there.
    fn printable(&self, text: &str) -> (usize, Option<String>) {
        let stops = || self.0.iter().filter(|stop| !stop.is_empty());
        let found = stops().filter_map(|stop| Some((text.find(stop.as_str())?, stop)));
        if let Some((at, stop)) = found.min_by_key(|(at, _)| *at) {
            return (at, Some(stop.clone()));
        }
        let held = |stop: &String| {
            (1..stop.len()).rev().find(|length| stop.is_char_boundary(*length) && text.ends_with(&stop[..*length]))
        };
        (text.len() - stops().filter_map(held).max().unwrap_or(0), None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r34_a_stop_text_ends_the_text_and_its_beginning_is_held_back() {
        let stops = Stops(vec!["User:".into(), "é\n".into()]);
        assert_eq!(stops.printable("Hello U"), (6, None));
        assert_eq!(stops.printable("Hello Us x"), (10, None));
        assert_eq!(stops.printable("Hello User: more"), (6, Some("User:".into())));
        assert_eq!(stops.printable("caf\u{e9}"), (3, None));
        assert_eq!(stops.printable("caf\u{e9}\nUser:"), (3, Some("é\n".into())));
        assert_eq!(Stops(vec![]).printable("User:"), (5, None));
    }
}
