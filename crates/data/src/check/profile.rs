//! Limits of Bedrock's own models, for those who rehearse a job that will run there. Nothing here binds a run on this machine.
//!
//! Source: the Bedrock user guide's pages on training data and custom model hyperparameters (July 2025). A token counts as 6
//! characters there, so a record's limit is one of characters.

use serde::Serialize;

use super::files::{CheckedFile, Role};
use super::findings::{Findings, Hit, Place};
use super::rules;
use super::structure::Format;

/// Characters that Bedrock's quotas count as one token.
const CHARACTERS_PER_TOKEN: u64 = 6;
const MB: u64 = 1 << 20;
const GB: u64 = 1 << 30;

/// A number's range: name, least, most.
type Range = (&'static str, f64, f64);

/// What a Bedrock model takes.
#[derive(Debug, PartialEq, Serialize)]
pub struct Profile {
    /// Its ids begin with this.
    pub id: &'static str,
    /// Its formats.
    pub formats: &'static [Format],
    /// Most tokens of a record, prompt and completion together, in a batch of one.
    pub max_tokens: u64,
    /// Most tokens of a prompt and of a completion, where they have limits of their own.
    pub max_prompt_completion: Option<(u64, u64)>,
    /// Fewest and most training records.
    pub training_records: Option<(u64, u64)>,
    /// Fewest and most validation records.
    pub validation_records: Option<(u64, u64)>,
    /// Fewest and most records of both together.
    pub all_records: Option<(u64, u64)>,
    /// Largest training and validation file, in bytes.
    pub max_bytes: Option<(u64, u64)>,
    /// Hyperparameters with their ranges.
    pub settings: &'static [Range],
}

const PAIRS: &[Format] = &[Format::Pair];
const PAIRS_OR_RAW: &[Format] = &[Format::Pair, Format::Input];
const CONVERSATIONS: &[Format] = &[Format::BedrockConversation];
const LLAMA: &[Range] = &[("epochCount", 1.0, 10.0), ("batchSize", 1.0, 1.0), ("learningRate", 5e-6, 0.1)];
const TITAN: &[Range] = &[
    ("epochCount", 1.0, 10.0),
    ("batchSize", 1.0, 64.0),
    ("learningRate", 0.0, 1.0),
    ("learningRateWarmupSteps", 0.0, 250.0),
];
const NOVA: &[Range] =
    &[("epochCount", 1.0, 5.0), ("learningRate", 1e-6, 1e-4), ("learningRateWarmupSteps", 0.0, 100.0)];

const fn cohere(settings: &'static [Range], id: &'static str) -> Profile {
    Profile {
        max_tokens: 6144,
        max_prompt_completion: Some((4096, 2048)),
        training_records: Some((1, 10_000)),
        validation_records: Some((0, 1000)),
        ..profile(id, PAIRS, 6144, settings)
    }
}

const fn profile(id: &'static str, formats: &'static [Format], max_tokens: u64, settings: &'static [Range]) -> Profile {
    Profile {
        id,
        formats,
        max_tokens,
        max_prompt_completion: None,
        training_records: None,
        validation_records: None,
        all_records: None,
        max_bytes: None,
        settings,
    }
}

const fn llama(id: &'static str, formats: &'static [Format], max_tokens: u64) -> Profile {
    Profile { all_records: Some((100, 10_000)), ..profile(id, formats, max_tokens, LLAMA) }
}

static PROFILES: [Profile; 15] = [
    Profile {
        max_bytes: Some((GB, 100 * MB)),
        ..profile(
            "amazon.titan-text-premier",
            PAIRS,
            4096,
            &[
                ("epochCount", 1.0, 5.0),
                ("batchSize", 1.0, 1.0),
                ("learningRate", 1e-7, 1e-5),
                ("learningRateWarmupSteps", 0.0, 20.0),
            ],
        )
    },
    Profile { max_bytes: Some((10 * GB, 100 * MB)), ..profile("amazon.titan-text-express", PAIRS_OR_RAW, 4096, TITAN) },
    Profile { max_bytes: Some((10 * GB, 100 * MB)), ..profile("amazon.titan-text-lite", PAIRS_OR_RAW, 4096, TITAN) },
    profile("amazon.nova-micro", CONVERSATIONS, 32_000, NOVA),
    profile("amazon.nova-lite", CONVERSATIONS, 32_000, NOVA),
    profile("amazon.nova-pro", CONVERSATIONS, 32_000, NOVA),
    llama("meta.llama3-1-8b", PAIRS, 16_000),
    llama("meta.llama3-1-70b", PAIRS, 16_000),
    llama("meta.llama3-2-1b", CONVERSATIONS, 16_000),
    llama("meta.llama3-2-3b", CONVERSATIONS, 16_000),
    llama("meta.llama3-2-11b", CONVERSATIONS, 16_000),
    llama("meta.llama3-2-90b", CONVERSATIONS, 10_000),
    llama("meta.llama3-3-70b", CONVERSATIONS, 16_000),
    Profile {
        training_records: Some((32, 10_000)),
        validation_records: Some((32, 1000)),
        all_records: Some((32, 10_000)),
        max_bytes: Some((10 * GB, GB)),
        ..profile(
            "anthropic.claude-3-haiku",
            &[Format::ClaudeMessages],
            32_000,
            &[
                ("epochCount", 1.0, 10.0),
                ("batchSize", 4.0, 256.0),
                ("learningRateMultiplier", 0.1, 2.0),
                ("earlyStoppingThreshold", 0.0, 0.1),
                ("earlyStoppingPatience", 1.0, 10.0),
            ],
        )
    },
    cohere(COHERE, "cohere.command-text"),
];
static COHERE_LIGHT_PROFILE: Profile = cohere(COHERE_LIGHT, "cohere.command-light-text");

const COHERE: &[Range] = &[
    ("epochCount", 1.0, 100.0),
    ("batchSize", 8.0, 8.0),
    ("learningRate", 5e-6, 0.1),
    ("earlyStoppingThreshold", 0.0, 0.1),
    ("earlyStoppingPatience", 1.0, 10.0),
    ("evalPercentage", 5.0, 50.0),
];
const COHERE_LIGHT: &[Range] = &[
    ("epochCount", 1.0, 100.0),
    ("batchSize", 8.0, 32.0),
    ("learningRate", 5e-6, 0.1),
    ("earlyStoppingThreshold", 0.0, 0.1),
    ("earlyStoppingPatience", 1.0, 10.0),
    ("evalPercentage", 5.0, 50.0),
];

/// The profile of a Bedrock model id (an ARN's last part too). Errors: none has the id; the message lists those there are.
pub fn find(id: &str) -> Result<&'static Profile, String> {
    let name = id.rsplit('/').next().unwrap_or(id).trim_start_matches("us.").trim_start_matches("eu.");
    let all = || PROFILES.iter().chain([&COHERE_LIGHT_PROFILE]);
    all().filter(|profile| name.starts_with(profile.id)).max_by_key(|profile| profile.id.len()).ok_or_else(|| {
        let known: Vec<_> = all().map(|profile| profile.id).collect();
        format!("no profile is known for `{id}`; there are: {}", known.join(", "))
    })
}

impl Profile {
    /// What is wrong with one record: its format, or its length in characters.
    pub(crate) fn check_record(
        &self,
        format: Format,
        prompt_chars: u64,
        chars: u64,
        place: Place,
        excerpt: &str,
    ) -> Vec<Hit> {
        let mut hits = Vec::new();
        if !self.formats.contains(&format) {
            let wanted: Vec<_> = self.formats.iter().map(|format| format.name()).collect();
            let message = format!("it is {}; {} takes {}", format.name(), self.id, wanted.join(" or "));
            hits.push(Hit::new(&rules::PROFILE_FORMAT, place, message, excerpt));
        }
        let mut limit = |what: &str, chars: u64, tokens: u64| {
            if chars > tokens * CHARACTERS_PER_TOKEN {
                let message =
                    format!("{what} of {chars} characters; {tokens} tokens are {}", tokens * CHARACTERS_PER_TOKEN);
                hits.push(Hit::new(&rules::PROFILE_TOKENS, place, message, excerpt));
            }
        };
        match self.max_prompt_completion {
            Some((prompt, completion)) => {
                limit("a prompt", prompt_chars, prompt);
                limit("a completion", chars - prompt_chars, completion);
            }
            None => limit("a record", chars, self.max_tokens),
        }
        hits
    }

    /// What is wrong with the whole: counts of records, sizes of files, settings.
    pub(crate) fn check_whole(
        &self,
        files: &[CheckedFile],
        (training, validation): (u64, u64),
        settings: &[(String, String)],
        findings: &mut Findings,
    ) {
        let nowhere = Place { file: 0, line: 0 };
        let mut records = |what: &str, count: u64, range: Option<(u64, u64)>| {
            if let Some((least, most)) = range
                && !(least..=most).contains(&count)
            {
                let message = format!("{count} {what}records; {} takes {least} to {most}", self.id);
                findings.add(Hit::new(&rules::PROFILE_RECORDS, nowhere, message, "-"));
            }
        };
        records("training ", training, self.training_records);
        let has_validation = files.iter().any(|file| file.role == Role::Evaluation);
        records("validation ", validation, self.validation_records.filter(|_| has_validation));
        records("", training + validation, self.all_records);
        for (index, file) in files.iter().enumerate() {
            let Some((for_training, for_validation)) = self.max_bytes else { break };
            let most = if file.role == Role::Training { for_training } else { for_validation };
            if file.source.bytes > most {
                let message = format!("{} bytes; {} takes {most}", file.source.bytes, self.id);
                findings.add(Hit::new(&rules::PROFILE_BYTES, Place { file: index as u32, line: 0 }, message, "-"));
            }
        }
        for (key, value) in settings {
            if let Some(message) = self.setting(key, value) {
                findings.add(Hit::new(&rules::PROFILE_SETTING, nowhere, message, "-"));
            }
        }
    }

    fn setting(&self, key: &str, value: &str) -> Option<String> {
        let Some((_, least, most)) = self.settings.iter().find(|(name, ..)| *name == key) else {
            let known: Vec<_> = self.settings.iter().map(|(name, ..)| *name).collect();
            return Some(format!("`{key}` is no setting of {}; it has {}", self.id, known.join(", ")));
        };
        let inside = value.parse::<f64>().is_ok_and(|value| (*least..=*most).contains(&value));
        (!inside).then(|| format!("`{key}` is `{value}`; {} takes {least} to {most}", self.id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_are_found_by_model_ids() {
        assert_eq!(find("anthropic.claude-3-haiku-20240307-v1:0:200k").unwrap().id, "anthropic.claude-3-haiku");
        assert_eq!(
            find("arn:aws:bedrock:us-east-1::foundation-model/meta.llama3-2-90b-instruct-v1:0").unwrap().max_tokens,
            10_000
        );
        assert_eq!(find("cohere.command-light-text-v14:7:4k").unwrap().id, "cohere.command-light-text");
        assert!(
            find("meta.llama9").unwrap_err().starts_with("no profile is known for `meta.llama9`; there are: amazon.")
        );
    }

    #[test]
    fn settings_are_held_to_the_models_ranges() {
        let nova = find("amazon.nova-lite-v1:0").unwrap();
        assert_eq!(nova.setting("learningRate", "0.00001"), None);
        assert_eq!(nova.setting("epochCount", "9").unwrap(), "`epochCount` is `9`; amazon.nova-lite takes 1 to 5");
        assert!(nova.setting("batchSize", "1").unwrap().starts_with("`batchSize` is no setting of amazon.nova-lite"));
    }
}
