//! Tokens as training will have them: built by the crate's one builder (`example`), then looked at.

use std::collections::BTreeMap;

use serde::Serialize;

use super::findings::{Hit, Place};
use super::rules;
use super::structure::{Format, Structure};
use crate::chat::{ChatError, encode_conversation};
use crate::conversation::{Conversation, ConversationForm, Role, Turn};
use crate::example::{Example, PairError, encode_document, encode_pair, with_bos};
use crate::summary::LengthPercentiles;
use crate::tokenizer::{TextTokenizer, TokenizerError};

/// Share of targets below which a data set is said to have few.
pub(crate) const FEW_TARGETS: f64 = 0.05;
/// Bars of the histogram.
const BINS: u64 = 32;

/// What the tokens of a check are measured with.
#[derive(Debug, Clone, Copy)]
pub struct TokenCheck<'a> {
    /// The base's tokenizer.
    pub tokenizer: &'a TextTokenizer,
    /// Most tokens of a record, or of a row of raw text.
    pub max_length: usize,
}

/// Spellings of special tokens that a text could hold.
#[derive(Debug, Clone)]
pub(crate) struct Spelled {
    stop: Option<String>,
    begin: Option<String>,
}

impl Spelled {
    /// The spellings that the tokenizer takes for the token itself.
    pub(crate) fn of(tokenizer: &TextTokenizer) -> Self {
        let spelled = |id: u32| {
            let text = tokenizer.token(id);
            tokenizer.encode(&text).is_ok_and(|ids| ids == [id]).then_some(text)
        };
        Self { stop: spelled(tokenizer.eos()), begin: tokenizer.special().bos.and_then(spelled) }
    }
}

/// What is known of the tokens of a record, or of a piece of a text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TokenFacts {
    pub(crate) tokens: u64,
    pub(crate) targets: u64,
    /// Whether it is a record that must not be cut.
    pub(crate) whole: bool,
    /// The last token is the end token and counts.
    pub(crate) ends: bool,
    /// The text spells the begin token out in front.
    pub(crate) begins_spelled: bool,
    pub(crate) hits: Vec<Hit>,
}

/// The tokens of a sound record.
pub(crate) fn of_record(check: TokenCheck<'_>, spelled: &Spelled, record: &Structure, place: Place) -> TokenFacts {
    let excerpt = record.fields.first().map_or("", |field| field.text.as_str());
    let mut facts = TokenFacts::default();
    let built = match record.format {
        Some(Format::Input) => encode_document(check.tokenizer, record.completion()).map_err(PairError::from),
        Some(Format::Pair) => {
            facts.whole = true;
            if record.prompt().ends_with(' ') {
                facts.hits.push(Hit::new(&rules::MOVED_SPACE, place, "", excerpt));
            }
            encode_pair(check.tokenizer, &record.prompt(), record.completion()).map(|pair| pair.example)
        }
        Some(Format::BedrockConversation | Format::ClaudeMessages) => {
            facts.conversation(check, record, place, excerpt);
            facts.look_at_texts(spelled, record.fields.iter().map(|field| field.text.as_str()), place);
            return facts;
        }
        _ => return facts,
    };
    match built {
        Ok(example) => facts.look_at(check, &example, place, excerpt),
        Err(error) => facts.hits.push(refused(&error, place, excerpt)),
    }
    facts.look_at_texts(spelled, record.fields.iter().map(|field| field.text.as_str()), place);
    facts
}

/// The tokens of a piece of a text file. Pieces end with lines, so that their tokens are those of the whole but for a token that
/// spans a line end, which some tokenizers have.
pub(crate) fn of_piece(
    check: TokenCheck<'_>,
    spelled: &Spelled,
    text: &str,
    (first, last): (bool, bool),
    place: Place,
) -> TokenFacts {
    let mut facts = TokenFacts::default();
    match check.tokenizer.encode(text) {
        Ok(tokens) => {
            let mut tokens = if first { with_bos(check.tokenizer, tokens) } else { tokens };
            if last {
                tokens.push(check.tokenizer.eos());
            }
            facts.tokens = tokens.len() as u64;
            facts.targets = facts.tokens - u64::from(first);
            facts.ends = last;
        }
        Err(error) => facts.hits.push(refused(&error.into(), place, text)),
    }
    facts.look_at_texts(spelled, [text], place);
    facts
}

fn refused(error: &PairError, place: Place, excerpt: &str) -> Hit {
    let rule = match error {
        PairError::Boundary { .. } => &rules::BOUNDARY,
        PairError::Tokenizer(TokenizerError::OutsideVocabulary { .. }) => &rules::OUTSIDE_VOCABULARY,
        PairError::Tokenizer(TokenizerError::LongWord { .. }) => &rules::LONG_WORD,
        PairError::Tokenizer(_) => &rules::NOT_TOKENIZED,
    };
    Hit::new(rule, place, error.to_string(), excerpt)
}

/// The turns of a sound record of `messages`.
fn conversation_of(record: &Structure) -> Conversation {
    let (mut system, mut turns) = (None, Vec::<Turn>::new());
    for field in &record.fields {
        let index = field.name.strip_prefix("messages[").and_then(|rest| rest.split(']').next()?.parse().ok());
        let Some(index) = index else {
            system = Some(field.text.clone());
            continue;
        };
        let index: usize = index;
        if turns.len() <= index {
            let role = if index.is_multiple_of(2) { Role::User } else { Role::Assistant };
            turns.push(Turn { role, texts: Vec::new() });
        }
        if let Some(turn) = turns.last_mut() {
            turn.texts.push(field.text.clone());
        }
    }
    Conversation { form: ConversationForm::Claude, system, turns }
}

impl TokenFacts {
    fn conversation(&mut self, check: TokenCheck<'_>, record: &Structure, place: Place, excerpt: &str) {
        match encode_conversation(check.tokenizer, &conversation_of(record)) {
            Ok(example) => {
                self.look_at(check, &example, place, excerpt);
                self.whole = true;
                // its last target is what ends its last turn
                let fits = example.tokens.len() <= check.max_length;
                self.ends = fits && !example.targets.is_empty();
                if !fits {
                    let (len, max) = (example.tokens.len(), check.max_length);
                    let message = format!("{len} tokens, of which {} are targets; the maximum is {max}", self.targets);
                    self.hits.push(Hit::new(&rules::TOO_LONG, place, message, excerpt));
                }
            }
            Err(ChatError::Tokenizer(error)) => self.hits.push(refused(&error.into(), place, excerpt)),
            Err(error @ ChatError::Boundary { .. }) => {
                self.hits.push(Hit::new(&rules::BOUNDARY, place, error.to_string(), excerpt));
            }
            Err(error) => self.hits.push(Hit::new(&rules::CHAT_TEMPLATE, place, error.to_string(), excerpt)),
        }
    }

    fn look_at(&mut self, check: TokenCheck<'_>, example: &Example, place: Place, excerpt: &str) {
        let len = example.tokens.len();
        self.tokens = len as u64;
        self.targets = example.target_tokens();
        let is_target = example.targets.last().is_some_and(|(_, end)| *end as usize == len);
        let fits = !self.whole || len <= check.max_length;
        self.ends = is_target && example.tokens.last() == Some(&check.tokenizer.eos()) && fits;
        if self.targets == 0 {
            self.hits.push(Hit::new(&rules::NO_TARGET, place, "", excerpt));
        }
        if !fits {
            let message =
                format!("{len} tokens, of which {} are targets; the maximum is {}", self.targets, check.max_length);
            self.hits.push(Hit::new(&rules::TOO_LONG, place, message, excerpt));
        }
        if self.whole && !self.ends {
            let message = if fits { "" } else { "the end lies beyond the maximum" };
            self.hits.push(Hit::new(&rules::NO_STOP, place, message, excerpt));
        }
        if let Some(bos) = check.tokenizer.bos()
            && example.tokens.starts_with(&[bos, bos])
        {
            self.hits.push(Hit::new(&rules::DOUBLE_BOS, place, "", excerpt));
        }
    }

    fn look_at_texts<'t>(&mut self, spelled: &Spelled, texts: impl IntoIterator<Item = &'t str>, place: Place) {
        let mut told = [false; 2];
        for (index, text) in texts.into_iter().enumerate() {
            if let Some(begin) = &spelled.begin {
                self.begins_spelled |= index == 0 && text.starts_with(begin.as_str());
            }
            let rules = [(&spelled.stop, &rules::SPELLED_STOP), (&spelled.begin, &rules::SPELLED_BOS)];
            for (told, (token, rule)) in told.iter_mut().zip(rules) {
                if let Some(token) = token
                    && !*told
                    && let Some(at) = text.find(token.as_str())
                {
                    *told = true;
                    let start = text.floor_char_boundary(at.saturating_sub(40));
                    self.hits.push(Hit::new(rule, place, format!("`{token}`"), &text[start..]));
                }
            }
        }
    }
}

/// How many records have how many tokens.
#[derive(Debug, Default)]
pub(crate) struct Lengths(BTreeMap<u64, u64>);

impl Lengths {
    pub(crate) fn add(&mut self, length: u64) {
        *self.0.entry(length).or_default() += 1;
    }

    pub(crate) fn longest(&self) -> u64 {
        self.0.last_key_value().map_or(0, |(length, _)| *length)
    }

    /// Nearest-rank percentiles.
    pub(crate) fn percentiles(&self) -> LengthPercentiles {
        let mut histogram = crate::summary::LengthHistogram::default();
        self.0.iter().for_each(|(length, count)| histogram.add_many(*length, *count));
        histogram.percentiles()
    }

    /// Bars of one width, a round number, that hold all lengths.
    pub(crate) fn bins(&self) -> Vec<Bin> {
        let Some((shortest, _)) = self.0.first_key_value() else { return Vec::new() };
        let longest = self.longest();
        let least = (longest / BINS).max(1);
        let power = 10u64.pow(least.ilog10());
        let width = [1, 2, 5, 10].into_iter().map(|step| step * power).find(|width| *width >= least).unwrap_or(least);
        let start = shortest / width * width;
        let mut bins: Vec<Bin> = (start / width..=longest / width)
            .map(|index| Bin { from: index * width, to: (index + 1) * width, records: 0 })
            .collect();
        for (length, count) in &self.0 {
            bins[(length / width - start / width) as usize].records += count;
        }
        bins
    }
}

/// A bar of a histogram: records of `from` to under `to` tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Bin {
    /// Least.
    pub from: u64,
    /// One more than the most.
    pub to: u64,
    /// How many records.
    pub records: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_have_one_round_width_and_hold_every_record() {
        let mut lengths = Lengths::default();
        (0..1000).for_each(|index| lengths.add(20 + index % 97));
        let bins = lengths.bins();
        assert_eq!(bins.iter().map(|bin| bin.records).sum::<u64>(), 1000);
        assert!(bins.iter().all(|bin| bin.to - bin.from == 5) && bins[0].from == 20, "{bins:?}");
        let mut one = Lengths::default();
        one.add(1);
        assert_eq!(one.bins(), [Bin { from: 1, to: 2, records: 1 }]);
        assert!(Lengths::default().bins().is_empty());
    }
}
