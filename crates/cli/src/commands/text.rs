//! What `generate` and `generate-worker` share: prompts as tokens, and a text that is given on while it is made.

use anyhow::Context;
use outcrop_data::{ChatError, Turn, encode_chat_prompt, encode_prompt, end_of_turn};
use outcrop_model::generate::{Finish, Options, generate};

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
    // a character may be spread over tokens: give what decodes whole
    let (mut tokens, mut given) = (Vec::new(), 0);
    let (mut failure, mut stop_text, mut goes_on) = (None, None, true);
    let finish = generate(&loaded.decoder, &prompt.tokens, &options, |token| {
        tokens.push(token);
        let result = loaded.tokenizer.decode(&tokens).map_err(anyhow::Error::from).and_then(|text| {
            let whole = text.trim_end_matches('\u{fffd}');
            let (length, ends) = stops.printable(whole);
            if length > given {
                goes_on = each(&whole[given..length])?;
                given = length;
            } else {
                goes_on = each("")?;
            }
            stop_text = ends;
            Ok(())
        });
        failure = result.err();
        failure.is_none() && stop_text.is_none() && goes_on
    })?;
    if let Some(error) = failure {
        return Err(error).context("writing the text");
    }
    if stop_text.is_none() && goes_on {
        let text = loaded.tokenizer.decode(&tokens)?;
        if text.len() > given {
            each(&text[given..])?;
        }
    }
    Ok(End { finish, stop_text, tokens: tokens.len() })
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
