//! What is found and what isn't. Keys are put together here, so that no scanner takes this file for a leak.

use super::*;

fn kinds(text: &str) -> Vec<(Kind, &str)> {
    find(text).into_iter().map(|found| (found.kind, &text[found.range])).collect()
}

fn one(text: &str, kind: Kind, what: &str) {
    assert_eq!(kinds(text), [(kind, what)], "{text}");
}

fn none(text: &str) {
    assert_eq!(kinds(text), [], "{text}");
}

#[test]
fn emails_but_not_handles_files_or_examples() {
    one("write to Ann.Lee+x@mail.co.uk.", Kind::Email, "Ann.Lee+x@mail.co.uk");
    ["@handle said", "a@b", "logo@2x.png", "someone@example.com", "x @ y.com"].into_iter().for_each(none);
}

#[test]
fn phone_numbers_of_a_numbering_plan() {
    one("call +44 20 7946 0018 now", Kind::Phone, "+44 20 7946 0018");
    one("call +49 30 901820", Kind::Phone, "+49 30 901820");
    one("call (212) 736-5000", Kind::Phone, "(212) 736-5000");
    one("or 212-736-5000!", Kind::Phone, "212-736-5000");
    ["order 4711-0815", "555-0123", "(212) 555-0123", "1999-2005", "part 123-456-7890", "+1 234", "12.5 + 300 4000"]
        .into_iter()
        .for_each(none);
}

#[test]
fn cards_by_network_and_luhn() {
    one("pay 4111 1111 1111 1111 please", Kind::Card, "4111 1111 1111 1111");
    one("5555-5555-5555-4444", Kind::Card, "5555-5555-5555-4444");
    one("378282246310005", Kind::Card, "378282246310005");
    ["4111 1111 1111 1112", "1234567890123452", "1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6", "41111111111111111111111"]
        .into_iter()
        .for_each(none);
}

#[test]
fn ibans_by_checksum() {
    one("to DE89 3704 0044 0532 0130 00 today", Kind::Iban, "DE89 3704 0044 0532 0130 00");
    one("GB82WEST12345698765432", Kind::Iban, "GB82WEST12345698765432");
    ["DE88 3704 0044 0532 0130 00", "AB12 CDEF 3456 GHIJ"].into_iter().for_each(none);
}

#[test]
fn public_addresses_but_not_private_ones_or_versions() {
    one("from 203.0.114.7:443", Kind::Ip, "203.0.114.7");
    one("2a00:1450:4001:82a::200e answers", Kind::Ip, "2a00:1450:4001:82a::200e");
    for text in ["127.0.0.1", "10.1.2.3", "192.168.0.1", "version 1.2.3.4", "1.2.3.4.5", "300.1.2.3", "203.0.113.9"] {
        none(text);
    }
    ["std::fs::read", "12:30:45", "a::b", "2001:db8::1", "at 10:20"].into_iter().for_each(none);
}

#[test]
fn national_identifiers_by_checksum() {
    let cases = [
        ("536-22-8726", "536-00-8726"),
        ("AB 12 34 56 C", "GB 12 34 56 C"),
        ("12345678Z", "12345678A"),
        ("X1234567L", "X1234567A"),
        ("RSSMRA85T10A562S", "RSSMRA85T10A562T"),
        ("1 84 12 76 451 089 46", "1 84 12 76 451 089 47"),
        ("111.444.777-35", "111.444.777-36"),
        ("131052-308T", "131052-308U"),
        ("811228-9874", "811228-9875"),
        ("11010519491231002X", "110105194912310021"),
        ("PESEL 44051401359", "PESEL 44051401358"),
    ];
    for (right, wrong) in cases {
        one(&format!("no. {right}."), Kind::NationalId, right);
        none(&format!("no. {wrong}."));
    }
    ["123-45-6789", "page 111-22-33334"].into_iter().for_each(none);
}

#[test]
fn secrets_by_their_shapes() {
    let random = "aB3dE5fG7hJ9kL2mN4pQ6rS8tU1vW3xY5zA7bC9dE2fG4hJ6kL8mN1pQ3rS5tU7v";
    let cases = [
        ("AWS access key", format!("{}{}", "AKIA", "Q3EGRPLAT6YHN2BV")),
        ("GitHub token", format!("{}{}", "ghp_", &random[..36])),
        ("Slack token", format!("{}{}", "xoxb-", &random[..24])),
        ("Google API key", format!("{}{}", "AIza", &random[..35])),
        ("Stripe key", format!("{}{}", "sk_live_", &random[..24])),
        ("Anthropic key", format!("{}{}", "sk-ant-", &random[..40])),
        ("OpenAI key", format!("{}{}", "sk-", &random[..48])),
        ("Hugging Face token", format!("{}{}", "hf_", "aBcDeFgHiJkLmNoPqRsTuVwXyZaBcDeFgH")),
        ("JSON Web Token", format!("{}.{}.{}", "eyJhbGciOiJI", "eyJzdWIiOiIx", &random[..30])),
    ];
    for (name, key) in &cases {
        let text = format!("key: {key} end");
        let found = find(&text);
        assert_eq!((found.len(), found[0].name, found[0].kind), (1, *name, Kind::ApiKey), "{text}");
        assert_eq!(&text[found[0].range.clone()], key);
    }
    none(&format!("AKIA{}", "IOSFODNN7EXAMPLE"));
    none("sk-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx");
    none("ghp_short");
    one("postgres://app:s3cr3tpw@db.internal/x", Kind::ApiKey, "s3cr3tpw");
    let pem = format!("-----BEGIN {0} KEY-----\nMIIEow\n-----END {0} KEY-----", "RSA PRIVATE");
    one(&format!("here\n{pem}\nthere"), Kind::PrivateKey, &pem);
    none("-----BEGIN PUBLIC KEY-----\nMIIE\n-----END PUBLIC KEY-----");
}

#[test]
fn redacted_texts_have_typed_placeholders_and_nothing_left() {
    let text = "Ann, ann@mail.org, pays with 4111111111111111 from 203.0.114.7";
    let (redacted, found) = redact(text).unwrap();
    assert_eq!(redacted, "Ann, [EMAIL], pays with [CARD] from [IP]");
    assert_eq!(found.len(), 3);
    assert_eq!(redact(&redacted), None);
    assert_eq!(mask(Kind::Email, "ann@mail.org"), "a…@mail.org");
    assert_eq!(mask(Kind::Card, "4111111111111111"), "41…11");
}
