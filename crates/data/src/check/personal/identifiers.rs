//! National identifiers of a few countries, each by its shape and its checksum, or by the ranges that were never given out.

use std::sync::LazyLock;

use regex::Regex;

use super::{Found, Kind, regex, stands_alone};

/// A kind of identifier: its shape, and whether what has the shape is one.
struct Identifier {
    name: &'static str,
    shape: LazyLock<Regex>,
    is_valid: fn(&str) -> bool,
}

macro_rules! identifier {
    ($name:literal, $shape:literal, $is_valid:expr) => {
        Identifier { name: $name, shape: LazyLock::new(|| regex($shape)), is_valid: $is_valid }
    };
}

static IDENTIFIERS: [Identifier; 10] = [
    identifier!("US Social Security number", r"\d{3}-\d{2}-\d{4}", us_social_security),
    identifier!(
        "UK National Insurance number",
        r"[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?\d{2} ?\d{2} ?\d{2} ?[A-D]",
        uk_insurance
    ),
    identifier!("Spanish DNI or NIE", r"[XYZ0-9]\d{7}-?[A-Z]", spanish),
    identifier!("Italian codice fiscale", r"[A-Z]{6}\d{2}[A-EHLMPRST]\d{2}[A-Z]\d{3}[A-Z]", italian),
    identifier!(
        "French social security number",
        r"[12] ?\d{2} ?(?:0[1-9]|1[0-2]) ?(?:\d{2}|2[AB]) ?\d{3} ?\d{3} ?\d{2}",
        french
    ),
    identifier!("Brazilian CPF", r"\d{3}\.\d{3}\.\d{3}-\d{2}", brazilian),
    identifier!("Finnish personal identity code", r"\d{6}[-+A]\d{3}[0-9A-FHJ-NPR-Y]", finnish),
    identifier!("Swedish personal identity number", r"(?:\d{2})?\d{6}[-+]\d{4}", swedish),
    identifier!("Chinese resident identity number", r"[1-9]\d{5}(?:19|20)\d{9}[0-9X]", chinese),
    identifier!("Polish PESEL", r"PESEL:? ?\d{11}", polish),
];

pub(super) fn find(text: &str, found: &mut Vec<Found>) {
    for identifier in &IDENTIFIERS {
        for hit in identifier.shape.find_iter(text) {
            let next_to_dash = text[..hit.start()].ends_with('-') || text[hit.end()..].starts_with('-');
            if stands_alone(text, &hit.range()) && !next_to_dash && (identifier.is_valid)(hit.as_str()) {
                found.push(Found { kind: Kind::NationalId, name: identifier.name, range: hit.range() });
            }
        }
    }
}

fn digits(text: &str) -> Vec<u32> {
    text.chars().filter_map(|character| character.to_digit(10)).collect()
}

fn us_social_security(text: &str) -> bool {
    let (area, group, serial) = (&text[..3], &text[4..6], &text[7..]);
    // 078-05-1120 was printed on a million sample cards; 219-09-9999 in an advertisement
    !matches!(area, "000" | "666")
        && !area.starts_with('9')
        && group != "00"
        && serial != "0000"
        && !matches!(text, "078-05-1120" | "219-09-9999" | "123-45-6789")
}

fn uk_insurance(text: &str) -> bool {
    !["BG", "GB", "KN", "NK", "NT", "TN", "ZZ"].contains(&&text[..2])
}

fn spanish(text: &str) -> bool {
    let number = text.replace('-', "");
    let (body, letter) = number.split_at(8);
    let body = body.replacen('X', "0", 1).replacen('Y', "1", 1).replacen('Z', "2", 1);
    let rest = body.parse::<usize>().unwrap_or(0) % 23;
    body != "00000000" && letter.as_bytes()[0] == b"TRWAGMYFPDXBNJZSQVHLCKE"[rest]
}

fn italian(text: &str) -> bool {
    const ODD: [u32; 26] =
        [1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23];
    let value = |byte: u8| u32::from(if byte.is_ascii_digit() { byte - b'0' } else { byte - b'A' });
    let bytes = text.as_bytes();
    let sum: u32 = bytes[..15]
        .iter()
        .enumerate()
        .map(|(index, byte)| if index.is_multiple_of(2) { ODD[value(*byte) as usize] } else { value(*byte) })
        .sum();
    u32::from(bytes[15] - b'A') == sum % 26
}

fn french(text: &str) -> bool {
    let number = text.replace(' ', "");
    // Corsica's departments count as 19 and 18
    let number = number.replacen("2A", "19", 1).replacen("2B", "18", 1);
    let (body, key) = number.split_at(13);
    matches!((body.parse::<u64>(), key.parse::<u64>()), (Ok(body), Ok(key)) if 97 - body % 97 == key)
}

fn brazilian(text: &str) -> bool {
    let digits = digits(text);
    let check = |len: usize| {
        let sum: u32 =
            digits[..len].iter().enumerate().map(|(index, digit)| digit * (len as u32 + 1 - index as u32)).sum();
        sum * 10 % 11 % 10 == digits[len]
    };
    digits.iter().any(|digit| *digit != digits[0]) && check(9) && check(10)
}

/// Day, month and year within their ranges.
fn is_date(month: u32, day: u32) -> bool {
    (1..=12).contains(&month) && (1..=31).contains(&day)
}

fn finnish(text: &str) -> bool {
    let digits = digits(&format!("{}{}", &text[..6], &text[7..10]));
    let number = digits.iter().fold(0u64, |number, digit| number * 10 + u64::from(*digit));
    is_date(digits[2] * 10 + digits[3], digits[0] * 10 + digits[1])
        && text.as_bytes()[10] == b"0123456789ABCDEFHJKLMNPRSTUVWXY"[(number % 31) as usize]
}

fn swedish(text: &str) -> bool {
    let digits = digits(text);
    let last: String = digits[digits.len() - 10..].iter().filter_map(|digit| char::from_digit(*digit, 10)).collect();
    let (month, day) = (
        digits[digits.len() - 8] * 10 + digits[digits.len() - 7],
        digits[digits.len() - 6] * 10 + digits[digits.len() - 5],
    );
    is_date(month, day) && luhn::valid(&last)
}

fn chinese(text: &str) -> bool {
    const WEIGHTS: [u32; 17] = [7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2];
    let digits = digits(&text[..17]);
    let sum: u32 = digits.iter().zip(WEIGHTS).map(|(digit, weight)| digit * weight).sum();
    is_date(digits[10] * 10 + digits[11], digits[12] * 10 + digits[13])
        && text.as_bytes()[17] == b"10X98765432"[(sum % 11) as usize]
}

fn polish(text: &str) -> bool {
    const WEIGHTS: [u32; 10] = [1, 3, 7, 9, 1, 3, 7, 9, 1, 3];
    let digits = digits(text);
    let sum: u32 = digits.iter().zip(WEIGHTS).map(|(digit, weight)| digit * weight).sum();
    (10 - sum % 10) % 10 == digits[10]
}
