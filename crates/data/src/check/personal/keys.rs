//! Secrets: private keys, and API keys of well-known services by the shapes that the services document.

use std::sync::LazyLock;

use regex::{Regex, RegexSet};

use super::{Found, Kind, ascii_boundaries, regex};

/// Name and shape of each key.
const SHAPES: [(&str, &str); 19] = [
    ("AWS access key", r"\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}\b"),
    ("AWS secret key", r"(?i)aws.{0,20}secret.{0,20}[\s'\x22=:]([A-Za-z0-9/+]{40})\b"),
    ("Bedrock API key", r"\bABSK[A-Za-z0-9+/]{100,}={0,2}"),
    ("GitHub token", r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{60,})\b"),
    ("GitLab token", r"\bglpat-[A-Za-z0-9_-]{20,}"),
    ("Slack token", r"\bxox[abprs]-[A-Za-z0-9-]{10,}"),
    ("Slack webhook", r"https://hooks\.slack\.com/services/T[A-Z0-9]+/B[A-Z0-9]+/[A-Za-z0-9]{20,}"),
    ("Google API key", r"\bAIza[A-Za-z0-9_-]{35}\b"),
    ("Stripe key", r"\b[sr]k_live_[A-Za-z0-9]{20,}\b"),
    ("Anthropic key", r"\bsk-ant-[A-Za-z0-9_-]{20,}"),
    ("OpenAI key", r"\bsk-(?:proj-|svcacct-)?[A-Za-z0-9_-]{32,}"),
    ("Hugging Face token", r"\bhf_[A-Za-z]{34}\b"),
    ("npm token", r"\bnpm_[A-Za-z0-9]{36}\b"),
    ("PyPI token", r"\bpypi-[A-Za-z0-9_-]{50,}"),
    ("SendGrid key", r"\bSG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}\b"),
    ("Telegram bot token", r"\b\d{8,10}:AA[A-Za-z0-9_-]{33}\b"),
    ("JSON Web Token", r"\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{20,}"),
    ("password in a URL", r"\b[a-z][a-z0-9+.-]{2,12}://[^\s/:@]{1,64}:([^\s/:@]{3,64})@[A-Za-z0-9.-]+"),
    ("Azure storage key", r"AccountKey=([A-Za-z0-9+/]{86}==)"),
];

/// All shapes at once: most texts match none.
static ANY: LazyLock<RegexSet> = LazyLock::new(|| {
    RegexSet::new(SHAPES.iter().map(|(_, shape)| ascii_boundaries(shape)))
        .expect("the patterns are constants that the tests compile")
});
static EACH: LazyLock<Vec<Regex>> = LazyLock::new(|| SHAPES.iter().map(|(_, shape)| regex(shape)).collect());
/// The whole block, or from its beginning where the end is missing.
static PRIVATE_KEY: LazyLock<Regex> = LazyLock::new(|| {
    regex(
        r"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----(?:[\s\S]{0,8192}?-----END [A-Z0-9 ]{0,40}-----|[A-Za-z0-9+/=\s\\]*)",
    )
});

pub(super) fn find(text: &str, found: &mut Vec<Found>) {
    if text.contains("-----BEGIN ") {
        found.extend(PRIVATE_KEY.find_iter(text).map(|hit| Found {
            kind: Kind::PrivateKey,
            name: "private key",
            range: hit.range(),
        }));
    }
    for index in ANY.matches(text) {
        for hit in EACH[index].captures_iter(text) {
            // a shape with a group means the group; the rest of it is context
            let Some(secret) = hit.get(1).or(hit.get(0)) else { continue };
            if looks_random(secret.as_str()) {
                found.push(Found { kind: Kind::ApiKey, name: SHAPES[index].0, range: secret.range() });
            }
        }
    }
}

/// Not a placeholder such as `xxxx`, `your_key_here` or `EXAMPLE`.
fn looks_random(text: &str) -> bool {
    let mut seen: Vec<char> = text.chars().collect();
    seen.sort_unstable();
    seen.dedup();
    let lower = text.to_ascii_lowercase();
    seen.len() >= 5.min(text.len())
        && !["example", "your_", "your-", "xxxx", "placeholder", "<"].iter().any(|word| lower.contains(word))
}
