//! Numbers that point at a person: payment cards, bank accounts, phones, IP addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::sync::LazyLock;

use iban::Iban;
use regex::Regex;

use super::{Found, Kind, regex, stands_alone};

static CARD: LazyLock<Regex> = LazyLock::new(|| regex(r"\d(?:[ -]?\d){11,18}"));
static IBAN: LazyLock<Regex> = LazyLock::new(|| regex(r"[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?"));
/// International (`+49 30 1234567`, `0044 20 ...`), and the American forms `(212) 555-0123`, `212-555-0123`.
static PHONE: LazyLock<Regex> = LazyLock::new(|| {
    regex(
        r"(?:\+|\b00)[1-9]\d{0,2}(?:[ ./-]?\(?\d{1,5}\)?){2,6}|\(\d{3}\) ?\d{3}[-. ]\d{4}|\b\d{3}[-.]\d{3}[-.]\d{4}\b",
    )
});

pub(super) fn find(text: &str, found: &mut Vec<Found>) {
    for hit in CARD.find_iter(text) {
        let digits: String = hit.as_str().chars().filter(char::is_ascii_digit).collect();
        if stands_alone(text, &hit.range())
            && let Some(name) = card_network(&digits)
            && luhn::valid(&digits)
            && grouped_as_card(hit.as_str())
        {
            found.push(Found { kind: Kind::Card, name, range: hit.range() });
        }
    }
    for hit in IBAN.find_iter(text) {
        if let Some(length) = iban_length(hit.as_str()) {
            let range = hit.start()..hit.start() + length;
            if stands_alone(text, &range) {
                found.push(Found { kind: Kind::Iban, name: "IBAN", range });
            }
        }
    }
    for hit in PHONE.find_iter(text) {
        if stands_alone(text, &hit.range()) && is_phone(hit.as_str()) {
            found.push(Found { kind: Kind::Phone, name: "phone number", range: hit.range() });
        }
    }
}

/// The network that numbers of this beginning and length belong to.
fn card_network(digits: &str) -> Option<&'static str> {
    let start = |len: usize| digits[..len].parse::<u32>().unwrap_or(0);
    let (two, four) = (start(2), start(4));
    match digits.len() {
        13 | 16 | 19 if digits.starts_with('4') => Some("Visa card"),
        16 if (51..=55).contains(&two) || (2221..=2720).contains(&four) => Some("Mastercard"),
        15 if two == 34 || two == 37 => Some("American Express card"),
        16..=19 if four == 6011 || two == 65 || (644..=649).contains(&start(3)) => Some("Discover card"),
        14 if two == 36 || two == 38 || (300..=305).contains(&start(3)) => Some("Diners Club card"),
        16..=19 if (3528..=3589).contains(&four) => Some("JCB card"),
        16..=19 if two == 62 => Some("UnionPay card"),
        12..=19 if matches!(two, 50 | 56..=58) && digits.len() >= 16 => Some("Maestro card"),
        _ => None,
    }
}

/// Written in one piece or in groups of four (five and six as on American Express and Diners cards), not as a list of numbers.
fn grouped_as_card(text: &str) -> bool {
    let groups: Vec<usize> = text.split([' ', '-']).map(str::len).collect();
    match groups.as_slice() {
        [_] | [4, 6, 4 | 5] => true,
        [groups @ .., last] => groups.iter().all(|len| *len == 4) && *last <= 4,
        [] => false,
    }
}

/// Length of the longest valid IBAN that a text begins with; spaces may group it.
fn iban_length(text: &str) -> Option<usize> {
    let ends = (15..=text.len()).rev().filter(|end| text.is_char_boundary(*end));
    ends.into_iter().find(|end| !text[..*end].ends_with(' ') && Iban::from_str(&text[..*end].replace(' ', "")).is_ok())
}

/// Whether a numbering plan has the number. Numbers kept for fiction (555-01xx) are nobody's.
fn is_phone(text: &str) -> bool {
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    if !(8..=15).contains(&digits.len()) {
        return false;
    }
    let international = text.starts_with('+') || text.starts_with("00");
    let number = if let Some(rest) = text.strip_prefix("00") { format!("+{rest}") } else { text.to_owned() };
    let country = if international { None } else { Some(phonenumber::country::Id::US) };
    let fictional = digits.len() >= 10 && digits[digits.len() - 7..].starts_with("55501");
    !fictional && phonenumber::parse(country, number).is_ok_and(|number| phonenumber::is_valid(&number))
}

static IPV4: LazyLock<Regex> = LazyLock::new(|| regex(r"\d{1,3}(?:\.\d{1,3}){3}"));
static IPV6: LazyLock<Regex> = LazyLock::new(|| regex(r"[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}"));

pub(super) fn addresses(text: &str, found: &mut Vec<Found>) {
    for hit in IPV4.find_iter(text) {
        let Ok(address) = Ipv4Addr::from_str(hit.as_str()) else { continue };
        if whole(text, hit.start(), hit.end()) && !is_version(text, hit.start()) && is_public(address.into()) {
            found.push(Found { kind: Kind::Ip, name: "IPv4 address", range: hit.range() });
        }
    }
    for hit in IPV6.find_iter(text) {
        let Ok(address) = Ipv6Addr::from_str(hit.as_str()) else { continue };
        // `a::b` is a path of Rust or C++; an address has more to it
        let groups = hit.as_str().split(':').filter(|group| !group.is_empty()).count();
        let digits = hit.as_str().bytes().any(|byte| byte.is_ascii_digit());
        if groups >= 3 && digits && stands_alone(text, &hit.range()) && is_public(address.into()) {
            found.push(Found { kind: Kind::Ip, name: "IPv6 address", range: hit.range() });
        }
    }
}

/// Not a part of a longer run of digits and dots, such as the number of a section.
fn whole(text: &str, start: usize, end: usize) -> bool {
    let before = text[..start].chars().next_back();
    let after: Vec<char> = text[end..].chars().take(2).collect();
    let joins = |character: char| character.is_alphanumeric() || matches!(character, '-' | '_');
    let joined_before = before.is_some_and(|before| joins(before) || before == '.');
    let joined_after = match after.as_slice() {
        ['.', digit] => digit.is_ascii_digit(),
        [first, ..] => joins(*first),
        [] => false,
    };
    !joined_before && !joined_after
}

/// `version 1.2.3.4`, `v 1.2.3.4`, `section 1.2.3.4`.
fn is_version(text: &str, start: usize) -> bool {
    let before = text[text.floor_char_boundary(start.saturating_sub(16))..start].to_lowercase();
    let word =
        before.trim_end_matches([' ', ':', '=', '#', '.']).rsplit(|character: char| !character.is_alphabetic()).next();
    matches!(word, Some("version" | "ver" | "v" | "section" | "chapter" | "release" | "build" | "firmware" | "clause"))
}

/// Neither private, loopback, link-local, multicast, kept for documentation, nor unspecified; nor a well-known public resolver.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            let shared = a == 100 && (64..128).contains(&b);
            let resolver =
                matches!(v4.octets(), [8, 8, 8, 8] | [8, 8, 4, 4] | [1, 1, 1, 1] | [1, 0, 0, 1] | [9, 9, 9, 9]);
            !(v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_multicast() || v4.is_documentation())
                && !(a == 0 || a >= 240 || shared || resolver)
        }
        IpAddr::V6(v6) => {
            let first = v6.segments()[0];
            let documentation = v6.segments()[..2] == [0x2001, 0xdb8];
            (0x2000..0x4000).contains(&first) && !documentation
        }
    }
}
