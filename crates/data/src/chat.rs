//! Conversations as tokens and targets: the text of the base's chat template, the assistant's turns counted by position (R6, R8).
//!
//! A turn's targets begin where the generation prompt ends, since there generation begins, and end with the special token that the
//! template puts behind the assistant's words. Both places are found by rendering the conversation again: with fewer messages, and
//! with one character more at the end of the turn. Nothing is searched for by what a turn says. Where a template shows a turn
//! otherwise in a longer conversation, so that there is no such place, the conversation is refused.
//! One function serves training, validation and generation (R5, R9). What it leaves out: which of the turns count; all do.

use crate::chat_template::{ChatTemplate, ChatTemplateError, Message};
use crate::conversation::{Conversation, Role, Turn};
use crate::example::{Example, differing_tokens, with_bos};
use crate::tokenizer::{TextTokenizer, TokenizerError};

/// What stands between the texts of a message that has several.
const BETWEEN_TEXTS: &str = "\n";

/// Why a conversation has no tokens that training and generation would agree on.
#[derive(Debug, thiserror::Error)]
pub enum ChatError {
    /// The tokenizer refused the text.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The template refused the conversation.
    #[error(transparent)]
    Template(#[from] ChatTemplateError),
    /// There is no template.
    #[error(
        "the base has no chat template; name a template file (`chatTemplate`, `--chat-template`), or write the records as `prompt` and `completion`"
    )]
    NoTemplate,
    /// What generation would begin with isn't what training has in front of the turn.
    #[error(
        "the chat template puts other text in front of `messages[{message}]` than generation would see there (from {place} on); \
         write a record for each of the assistant's turns"
    )]
    Start {
        /// Index of the assistant's message, a system prompt not counted.
        message: usize,
        /// The text from where the two differ.
        place: String,
    },
    /// The template doesn't show the turn.
    #[error(
        "the chat template leaves the words of `messages[{message}]` out; use another template or remove the message"
    )]
    Missing {
        /// Index of the assistant's message.
        message: usize,
    },
    /// Generation would not stop.
    #[error(
        "the chat template puts no special token behind `messages[{message}]`, so that generation would not know where to stop; \
         let the template end the assistant's turns with `eos_token`"
    )]
    End {
        /// Index of the assistant's message.
        message: usize,
    },
    /// A token would straddle the turn's beginning or end (R6).
    #[error(
        "`messages[{message}]` shares a token with the text around it: alone that ends with {alone}, together they have {joint}; \
         use a template that ends its generation prompt with a special token or a line end"
    )]
    Boundary {
        /// Index of the assistant's message.
        message: usize,
        /// The last tokens of the text before the place, from where the two differ.
        alone: String,
        /// The tokens of the whole text at the same place.
        joint: String,
    },
}

/// Tokens and targets of a conversation; the targets are the assistant's turns, each with what ends it.
///
/// Errors: no template, or one that refuses the conversation; a turn whose place can't be found; a token across a turn's edge (R6);
/// a token outside the model's vocabulary (R29).
pub fn encode_conversation(tokenizer: &TextTokenizer, conversation: &Conversation) -> Result<Example, ChatError> {
    let template = tokenizer.chat_template().ok_or(ChatError::NoTemplate)?;
    let messages = messages(conversation.system.as_deref(), &conversation.turns);
    let first = messages.len() - conversation.turns.len();
    let whole = Rendered { template, messages: &messages, text: template.render(&messages, false)? };
    let tokens = tokenizer.encode(&whole.text)?;
    let mut targets = Vec::new();
    let replies = (first..).zip(&conversation.turns).filter(|(_, turn)| turn.role == Role::Assistant);
    for (index, _) in replies {
        let message = index - first;
        let start = whole.start(index, message)?;
        let end = whole.end(index, message, start, tokenizer.special_texts())?;
        let count = |end: usize| -> Result<u32, ChatError> {
            let alone = tokenizer.encode(&whole.text[..end])?;
            if !tokens.starts_with(&alone) {
                let (alone, joint) = differing_tokens(tokenizer, &alone, &tokens);
                return Err(ChatError::Boundary { message, alone, joint });
            }
            Ok(alone.len() as u32) // lengths beyond u32 are refused where documents enter a shard
        };
        targets.push((count(start)?, count(end)?));
    }
    let length = tokens.len();
    let tokens = with_bos(tokenizer, tokens);
    let shift = (tokens.len() - length) as u32;
    // nobody predicts a document's first token (R2)
    let targets = targets.into_iter().map(|(start, end)| ((start + shift).max(1), end + shift));
    Ok(Example { tokens, targets: targets.filter(|(start, end)| start < end).collect() })
}

/// The tokens that the assistant's next turn is generated from: exactly the prefix that [`encode_conversation`] gives the same turns.
/// Errors: as there; the turns end with the assistant.
pub fn encode_chat_prompt(
    tokenizer: &TextTokenizer,
    system: Option<&str>,
    turns: &[Turn],
) -> Result<Vec<u32>, ChatError> {
    let template = tokenizer.chat_template().ok_or(ChatError::NoTemplate)?;
    let text = conversation_text(template, system, turns, true)?;
    Ok(with_bos(tokenizer, tokenizer.encode(&text)?))
}

/// The text of a conversation, before it is tokenized; with the generation prompt it ends where the assistant's next turn begins.
/// Errors: the template refuses the conversation, or doesn't come to an end.
pub fn conversation_text(
    template: &ChatTemplate,
    system: Option<&str>,
    turns: &[Turn],
    add_generation_prompt: bool,
) -> Result<String, ChatTemplateError> {
    template.render(&messages(system, turns), add_generation_prompt)
}

/// The token that ends an assistant's turn: generation stops there.
/// Errors: as [`encode_conversation`]'s, of a conversation of two words.
pub fn end_of_turn(tokenizer: &TextTokenizer) -> Result<u32, ChatError> {
    let turn = |role, text: &str| Turn { role, texts: vec![text.to_owned()] };
    let turns = vec![turn(Role::User, "Hello"), turn(Role::Assistant, "Hello")];
    let form = crate::conversation::ConversationForm::Claude;
    let example = encode_conversation(tokenizer, &Conversation { form, system: None, turns })?;
    let last = example.targets.last().and_then(|(_, end)| example.tokens.get(*end as usize - 1));
    last.copied().ok_or(ChatError::Missing { message: 1 })
}

fn messages(system: Option<&str>, turns: &[Turn]) -> Vec<Message> {
    let system = system.map(|system| Message { role: "system", content: system.to_owned() });
    let turns = turns.iter().map(|turn| Message {
        role: match turn.role {
            Role::User => "user",
            Role::Assistant => "assistant",
        },
        content: turn.texts.join(BETWEEN_TEXTS),
    });
    system.into_iter().chain(turns).collect()
}

/// A conversation as text.
struct Rendered<'a> {
    template: &'a ChatTemplate,
    messages: &'a [Message],
    text: String,
}

impl Rendered<'_> {
    /// The byte where message `index` begins to be generated: the length of the prompt that generation would get.
    fn start(&self, index: usize, message: usize) -> Result<usize, ChatError> {
        let prompt = self.template.render(&self.messages[..index], true)?;
        if !self.text.starts_with(&prompt) {
            let same = common_prefix(&prompt, &self.text);
            let place: String = self.text[same..].chars().take(20).collect();
            return Err(ChatError::Start { message, place: format!("{place:?}") });
        }
        Ok(prompt.len())
    }

    /// The byte behind the first special token that ends the turn of message `index`.
    fn end(&self, index: usize, message: usize, start: usize, special_texts: &[String]) -> Result<usize, ChatError> {
        let words = words_end(self.template, self.messages, index, &self.text)?;
        if words <= start {
            return Err(ChatError::Missing { message });
        }
        let behind = &self.text[words..];
        let is_last = index + 1 == self.messages.len();
        // what belongs to the next message isn't the end of this one
        let own = if is_last { behind.len() } else { self.own_tail(index, words)? };
        let first = special_texts.iter().filter_map(|text| Some((behind.find(text.as_str())?, text.len())));
        // the longest of those that begin first
        let first = first.min_by_key(|(at, length)| (*at, usize::MAX - length));
        match first {
            Some((at, length)) if at + length <= own => Ok(words + at + length),
            _ => Err(ChatError::End { message }),
        }
    }

    /// How many bytes behind the words of message `index` are there without the next message, too.
    fn own_tail(&self, index: usize, words: usize) -> Result<usize, ChatError> {
        let behind = &self.text[words..];
        let shorter = &self.messages[..=index];
        let text = self.template.render(shorter, false)?;
        // where the words stand at the same place in both, they end there in both
        let end = if text.get(..words) == Some(&self.text[..words]) {
            words
        } else {
            words_end(self.template, shorter, index, &text)?
        };
        Ok(common_prefix(&text[end..], behind))
    }
}

/// The byte where the words of message `index` end in `text`.
fn words_end(
    template: &ChatTemplate,
    messages: &[Message],
    index: usize,
    text: &str,
) -> Result<usize, ChatTemplateError> {
    let mut longer = messages.to_vec();
    let words = &mut longer[index].content;
    let last = words.trim_end().chars().last();
    words.push(if last == Some('x') || words.ends_with('x') { 'y' } else { 'x' });
    let other = template.render(&longer, false)?;
    let same = text.bytes().rev().zip(other.bytes().rev()).take_while(|(one, other)| one == other).count();
    let mut end = text.len() - same;
    while !text.is_char_boundary(end) {
        end += 1;
    }
    Ok(end)
}

/// Bytes that both begin with, whole characters.
fn common_prefix(one: &str, other: &str) -> usize {
    let pairs = one.chars().zip(other.chars());
    pairs.take_while(|(one, other)| one == other).map(|(character, _)| character.len_utf8()).sum()
}
