//! The bodies of InvokeModel, one form for each provider, chosen by the id of the model's base: what a request says, and
//! the settings that it leaves out. Sources: the providers' pages of Bedrock's user guide; `seed` is Outcrop's own.

mod answer;
mod chunks;

use serde_json::Value;

pub(super) use answer::answer;
pub(super) use chunks::Chunks;

use super::conversation;
use super::members::Members;
use super::protocol::{Ask, Finish, Prompt};
use crate::ApiError;
use crate::validation::Problems;

/// A provider's form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Amazon Titan; bases that have no Bedrock provider too.
    Titan,
    /// Amazon Nova.
    Nova,
    /// Meta Llama.
    Llama,
    /// Anthropic's messages.
    Claude,
    /// Anthropic's former text completions.
    ClaudeText,
    /// Cohere Command.
    Cohere,
    /// Mistral AI.
    Mistral,
}

/// A text that was generated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) text: String,
    pub(super) finish: Finish,
    pub(super) input_tokens: u64,
    pub(super) output_tokens: u64,
}

/// Choices where a request leaves them open.
pub(super) struct Defaults {
    pub(super) max_tokens: u64,
    pub(super) temperature: f64,
    pub(super) top_p: f64,
}

impl Form {
    /// The form of models with this base.
    pub(super) fn of(base_id: &str) -> Self {
        let (provider, model) = base_id.split_once('.').unwrap_or((base_id, ""));
        match provider {
            "meta" => Self::Llama,
            "anthropic" => Self::Claude,
            "cohere" => Self::Cohere,
            "mistral" => Self::Mistral,
            "amazon" if model.starts_with("nova") => Self::Nova,
            _ => Self::Titan,
        }
    }

    /// The form of this body: Anthropic's has two.
    pub(super) fn of_body(self, body: &Value) -> Self {
        let has_prompt = body.get("prompt").is_some() && body.get("messages").is_none();
        if self == Self::Claude && has_prompt { Self::ClaudeText } else { self }
    }

    /// Bedrock's defaults for the provider.
    pub(super) fn defaults(self) -> Defaults {
        let (max_tokens, temperature, top_p) = match self {
            Self::Titan | Self::Nova => (512, 0.7, 0.9),
            Self::Llama | Self::Mistral => (512, 0.5, 0.9),
            Self::Claude | Self::ClaudeText => (4096, 1.0, 1.0),
            Self::Cohere => (20, 0.9, 0.75),
        };
        Defaults { max_tokens, temperature, top_p }
    }

    /// What a body asks for. Errors: all that is wrong with it.
    pub(super) fn read(self, body: &Value) -> Result<Ask, ApiError> {
        let mut problems = Problems::default();
        let mut members = Members::of(body)?;
        let ask = match self {
            Self::Titan => titan(&mut members, &mut problems),
            Self::Nova => nova(&mut members, &mut problems),
            Self::Llama => self.plain(&mut members, &mut problems, &LLAMA),
            Self::Claude => claude(&mut members, &mut problems),
            Self::ClaudeText => self.plain(&mut members, &mut problems, &CLAUDE_TEXT),
            Self::Cohere => self.plain(&mut members, &mut problems, &COHERE),
            Self::Mistral => self.plain(&mut members, &mut problems, &MISTRAL),
        };
        members.end(&mut problems);
        problems.finish()?;
        Ok(ask)
    }

    /// A body with `prompt` and settings beside it.
    fn plain(self, members: &mut Members, problems: &mut Problems, names: &Names) -> Ask {
        let prompt = Prompt::Text(members.required_text(problems, "prompt").to_string());
        for ignored in names.ignored {
            members.value(ignored);
        }
        settings(members, problems, prompt, self.defaults(), names)
    }
}

/// A provider's words for the settings.
struct Names {
    max_tokens: &'static str,
    temperature: &'static str,
    top_p: &'static str,
    top_k: Option<&'static str>,
    stop: Option<&'static str>,
    /// Most that `temperature` may be.
    hottest: f64,
    /// Members without an effect on the text.
    ignored: &'static [&'static str],
}

const TITAN: Names = Names {
    max_tokens: "maxTokenCount",
    temperature: "temperature",
    top_p: "topP",
    top_k: None,
    stop: Some("stopSequences"),
    hottest: 1.0,
    ignored: &[],
};
const NOVA: Names = Names { max_tokens: "maxTokens", top_k: Some("topK"), ..TITAN };
const LLAMA: Names = Names { max_tokens: "max_gen_len", top_p: "top_p", stop: None, ..TITAN };
const CLAUDE: Names = Names {
    max_tokens: "max_tokens",
    top_p: "top_p",
    top_k: Some("top_k"),
    stop: Some("stop_sequences"),
    ignored: &["anthropic_version", "metadata"],
    ..TITAN
};
const CLAUDE_TEXT: Names = Names { max_tokens: "max_tokens_to_sample", ..CLAUDE };
const COHERE: Names = Names {
    max_tokens: "max_tokens",
    top_p: "p",
    top_k: Some("k"),
    stop: Some("stop_sequences"),
    hottest: 5.0,
    ignored: &["stream"],
    ..TITAN
};
const MISTRAL: Names =
    Names { max_tokens: "max_tokens", top_p: "top_p", top_k: Some("top_k"), stop: Some("stop"), ..TITAN };

/// The settings of one object. `top_k` and `topP` of 0 mean what they mean at the provider: all tokens, and one.
fn settings(members: &mut Members, problems: &mut Problems, prompt: Prompt, defaults: Defaults, names: &Names) -> Ask {
    let least = u64::from(names.max_tokens != "maxTokenCount"); // Titan's may be 0
    let top_k = names.top_k.and_then(|name| members.count(problems, name, 0)).filter(|most| *most > 0);
    Ask {
        prompt,
        max_tokens: members.count(problems, names.max_tokens, least).unwrap_or(defaults.max_tokens),
        temperature: members.number(problems, names.temperature, 0.0..=names.hottest).unwrap_or(defaults.temperature),
        top_p: nucleus(members.number(problems, names.top_p, 0.0..=1.0).unwrap_or(defaults.top_p)),
        top_k,
        seed: members.count(problems, "seed", 0).unwrap_or_else(new_seed),
        stop: names.stop.map(|name| members.texts(problems, name)).unwrap_or_default(),
    }
}

/// A nucleus of no probability still has the likeliest token.
pub(super) fn nucleus(top_p: f64) -> f64 {
    top_p.max(f64::MIN_POSITIVE)
}

/// Another text each time, as Bedrock gives, unless the request has a seed.
pub(super) fn new_seed() -> u64 {
    let mut bytes = [0_u8; 8];
    // Without random bytes the texts of one prompt are equal; they are no worse.
    let _ = getrandom::fill(&mut bytes);
    u64::from_le_bytes(bytes) >> 12 // a number that JSON's readers keep
}

fn titan(members: &mut Members, problems: &mut Problems) -> Ask {
    let prompt = Prompt::Text(members.required_text(problems, "inputText").to_string());
    let mut inner = members.inner(problems, "textGenerationConfig");
    let ask = settings(&mut inner, problems, prompt, Form::Titan.defaults(), &TITAN);
    inner.end(problems);
    ask
}

fn nova(members: &mut Members, problems: &mut Problems) -> Ask {
    members.value("schemaVersion");
    let prompt = conversation::read(members.value("messages"), members.value("system"), problems);
    let mut inner = members.inner(problems, "inferenceConfig");
    // `max_new_tokens` is its older name
    let older = inner.count(problems, "max_new_tokens", 1);
    let mut ask = settings(&mut inner, problems, prompt, Form::Nova.defaults(), &NOVA);
    ask.max_tokens = older.unwrap_or(ask.max_tokens);
    inner.end(problems);
    ask
}

fn claude(members: &mut Members, problems: &mut Problems) -> Ask {
    let prompt = conversation::read(members.value("messages"), members.value("system"), problems);
    for ignored in CLAUDE.ignored {
        members.value(ignored);
    }
    if members.value(CLAUDE.max_tokens).is_none() {
        problems.add(CLAUDE.max_tokens, None, "Member must not be null");
    }
    settings(members, problems, prompt, Form::Claude.defaults(), &CLAUDE)
}

#[cfg(test)]
mod tests;
