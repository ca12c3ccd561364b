//! The work of one core on one record or one piece of text: parsed, checked and tokenised. Where it goes is the business of `builder`.

use serde::{Deserialize, Serialize};

use crate::chat::{ChatError, encode_conversation};
use crate::error::Problem;
use crate::example::{Example, Pair, encode_document, encode_pair};
use crate::reader::{Part, Work};
use crate::record::{self, Record};
use crate::source::Sources;
use crate::tokenizer::{TextTokenizer, TokenizerError};

/// What a worker makes of a piece of work.
pub(crate) enum Encoded {
    Pair {
        pair: Pair,
        blank: Option<&'static str>,
        extra_keys: Vec<String>,
    },
    Document {
        example: Example,
        extra_keys: Vec<String>,
    },
    Piece {
        tokens: Vec<u32>,
        first: bool,
        last: bool,
    },
    Conversation {
        example: Example,
        extra_keys: Vec<String>,
    },
    /// A conversation of a base that has no chat template.
    Untold,
}

/// Where a record stands.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Place {
    pub(crate) file: u32,
    pub(crate) line: u64,
}

pub(crate) fn problem(sources: &Sources, place: Place, column: Option<u64>, message: String) -> Problem {
    Problem { path: sources.files()[place.file as usize].path.clone(), line: Some(place.line), column, message }
}

/// The work of one core on one record or piece.
pub(crate) fn encode(sources: &Sources, tokenizer: &TextTokenizer, work: Work) -> Result<(Place, Encoded), Problem> {
    // A text is one document, which begins on line 1; what is wrong with it is told by the line of the piece.
    let line = if matches!(work.part, Part::Text { .. }) { 1 } else { work.line };
    let place = Place { file: work.file, line };
    let at = Place { file: work.file, line: work.line };
    let refuse = |message: String| problem(sources, at, None, message);
    let encoded = match work.part {
        Part::Line(line) => {
            let parsed = record::parse(&line, sources.kind())
                .map_err(|error| problem(sources, place, error.column, error.message))?;
            encode_record(tokenizer, parsed).map_err(refuse)?
        }
        Part::Text { context, text, first, last } => {
            let tokens = tokenizer.encode_after(&context, &text).map_err(|error| {
                let at = Place { line: at.line + lines_before(&error, &text), ..at };
                problem(sources, at, None, error.to_string())
            })?;
            let tokens =
                tokens.ok_or_else(|| refuse("the tokenizer can't read this text in pieces; split the file".into()))?;
            Encoded::Piece { tokens, first, last }
        }
    };
    Ok((place, encoded))
}

/// Lines in front of what an error is about, as far as it can be found again.
fn lines_before(error: &TokenizerError, text: &str) -> u64 {
    let TokenizerError::LongWord { bytes } = error else { return 0 };
    text.split('\n').position(|line| line.len() >= *bytes).unwrap_or(0) as u64
}

fn encode_record(tokenizer: &TextTokenizer, parsed: record::Parsed) -> Result<Encoded, String> {
    let extra_keys = parsed.extra_keys;
    match parsed.record {
        Record::Pair { prompt, completion } => {
            let blank = match (completion.is_empty(), completion.trim().is_empty()) {
                (true, _) => Some("empty"),
                (false, true) => Some("only white space"),
                (false, false) => None,
            };
            let pair = encode_pair(tokenizer, &prompt, &completion).map_err(|error| error.to_string())?;
            Ok(Encoded::Pair { pair, blank, extra_keys })
        }
        Record::Conversation(conversation) => match encode_conversation(tokenizer, &conversation) {
            Ok(example) => Ok(Encoded::Conversation { example, extra_keys }),
            Err(ChatError::NoTemplate) => Ok(Encoded::Untold),
            Err(error) => Err(error.to_string()),
        },
        Record::Input(text) if text.trim().is_empty() => Err("`input` holds no text; remove the record".into()),
        Record::Input(text) => {
            let example = encode_document(tokenizer, &text).map_err(|error| error.to_string())?;
            Ok(Encoded::Document { example, extra_keys })
        }
    }
}
