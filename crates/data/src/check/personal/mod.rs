//! Personal data and secrets in a text: what kind, and where. Each kind is a shape and, where there is one, a checksum.
//!
//! Sensitivity is kept low on purpose: a number that fails its checksum isn't reported, a phone number must be one of a numbering
//! plan, an address of a private network is nobody's.

mod identifiers;
mod keys;
mod numbers;

use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;
use serde::Serialize;

use super::rules::{self, Rule};

/// Kinds of personal data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// An e-mail address.
    Email,
    /// A phone number.
    Phone,
    /// A payment card number.
    Card,
    /// A bank account.
    Iban,
    /// A public IP address.
    Ip,
    /// A national identifier.
    NationalId,
    /// A private key.
    PrivateKey,
    /// An API key or token.
    ApiKey,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 8] =
        [Self::Email, Self::Phone, Self::Card, Self::Iban, Self::Ip, Self::NationalId, Self::PrivateKey, Self::ApiKey];

    /// What stands in its place after a scrub.
    pub fn placeholder(self) -> &'static str {
        match self {
            Self::Email => "[EMAIL]",
            Self::Phone => "[PHONE]",
            Self::Card => "[CARD]",
            Self::Iban => "[IBAN]",
            Self::Ip => "[IP]",
            Self::NationalId => "[NATIONAL_ID]",
            Self::PrivateKey => "[PRIVATE_KEY]",
            Self::ApiKey => "[API_KEY]",
        }
    }

    pub(crate) fn rule(self) -> &'static Rule {
        match self {
            Self::Email => &rules::PERSONAL_EMAIL,
            Self::Phone => &rules::PERSONAL_PHONE,
            Self::Card => &rules::PERSONAL_CARD,
            Self::Iban => &rules::PERSONAL_IBAN,
            Self::Ip => &rules::PERSONAL_IP,
            Self::NationalId => &rules::PERSONAL_ID,
            Self::PrivateKey => &rules::SECRET_KEY,
            Self::ApiKey => &rules::SECRET_API,
        }
    }
}

/// Something personal in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What it is.
    pub kind: Kind,
    /// Which of its kind: `US Social Security number`, `AWS access key`.
    pub name: &'static str,
    /// Its bytes in the text.
    pub range: Range<usize>,
}

/// All personal data of a text in their order, none overlapping: where two kinds claim the same bytes the earlier wins, then a secret, then the longer.
pub fn find(text: &str) -> Vec<Found> {
    let mut all = Vec::new();
    let bytes = text.as_bytes();
    let has_digits = has_digits(bytes);
    if bytes.contains(&b'@') {
        emails(text, &mut all);
    }
    keys::find(text, &mut all);
    if has_digits {
        identifiers::find(text, &mut all);
        numbers::find(text, &mut all);
    }
    if has_digits || bytes.windows(2).any(|pair| pair == b"::") {
        numbers::addresses(text, &mut all);
    }
    // a password in front of a host looks like an address; it is the secret that counts
    let is_secret = |kind| matches!(kind, Kind::PrivateKey | Kind::ApiKey);
    all.sort_by_key(|found| {
        (found.range.start, !is_secret(found.kind), std::cmp::Reverse(found.range.end), found.kind)
    });
    let mut end = 0;
    all.retain(|found| {
        let keep = found.range.start >= end;
        if keep {
            end = found.range.end;
        }
        keep
    });
    all
}

/// Whether a run of digits, perhaps grouped, is long enough for any of the numbers.
fn has_digits(bytes: &[u8]) -> bool {
    let (mut digits, mut gap) = (0, 0);
    for byte in bytes {
        if byte.is_ascii_digit() {
            (digits, gap) = (digits + 1, 0);
            if digits >= 4 {
                return true;
            }
        } else {
            gap += 1;
            if gap > 3 {
                digits = 0;
            }
        }
    }
    false
}

static EMAIL: LazyLock<Regex> = LazyLock::new(|| {
    regex(r"(?i)[a-z0-9][a-z0-9._%+'-]{0,63}@(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,24}\b")
});

/// Domains that RFC 2606 keeps for examples, and names of files with an `@`.
const NOBODY: [&str; 6] = ["example.com", "example.org", "example.net", ".example", ".invalid", ".test"];

fn emails(text: &str, found: &mut Vec<Found>) {
    for hit in EMAIL.find_iter(text) {
        let domain = hit.as_str().rsplit('@').next().unwrap_or_default().to_ascii_lowercase();
        let is_file = [".png", ".jpg", ".gif", ".svg", ".js", ".css"].iter().any(|end| domain.ends_with(end));
        let is_nobody = NOBODY.iter().any(|end| domain.ends_with(end));
        if !is_file && !is_nobody {
            found.push(Found { kind: Kind::Email, name: "e-mail address", range: hit.range() });
        }
    }
}

/// A pattern of these files; a wrong one fails every test.
fn regex(pattern: &str) -> Regex {
    Regex::new(&ascii_boundaries(pattern)).expect("the pattern is a constant that the tests compile")
}

/// Lets `\b` mean ASCII's words. No automaton knows Unicode's, and without one a text with a single `é` takes six times as long.
fn ascii_boundaries(pattern: &str) -> String {
    pattern.replace(r"\b", r"(?-u:\b)")
}

/// Whether the characters around a range aren't letters or digits, so that the range is a word of its own.
fn stands_alone(text: &str, range: &Range<usize>) -> bool {
    let before = text[..range.start].chars().next_back();
    let after = text[range.end..].chars().next();
    !before.is_some_and(char::is_alphanumeric) && !after.is_some_and(char::is_alphanumeric)
}

/// A text with its personal data replaced, or `None` where there is none.
pub fn redact(text: &str) -> Option<(String, Vec<Found>)> {
    let found = find(text);
    if found.is_empty() {
        return None;
    }
    let mut out = String::with_capacity(text.len());
    let mut end = 0;
    for one in &found {
        out.push_str(&text[end..one.range.start]);
        out.push_str(one.kind.placeholder());
        end = one.range.end;
    }
    out.push_str(&text[end..]);
    Some((out, found))
}

/// What was found, mostly hidden: enough to know it again, not enough to use it.
pub fn mask(kind: Kind, text: &str) -> String {
    let characters: Vec<char> = text.chars().collect();
    match kind {
        Kind::PrivateKey => "-----BEGIN …".into(),
        Kind::Email => {
            let (name, domain) = text.split_once('@').unwrap_or((text, ""));
            format!("{}…@{domain}", name.chars().next().unwrap_or('…'))
        }
        _ if characters.len() < 8 => "…".into(),
        _ => {
            let (start, end) = (&characters[..2], &characters[characters.len() - 2..]);
            format!("{}…{}", start.iter().collect::<String>(), end.iter().collect::<String>())
        }
    }
}

#[cfg(test)]
mod tests;
