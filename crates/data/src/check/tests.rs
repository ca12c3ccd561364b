//! Every finding with a file that shows it and one that doesn't.

use super::*;
use crate::fixtures::{self, write};
use std::collections::BTreeMap;
use std::path::Path;

/// A file by its name and content.
type File = (&'static str, Vec<u8>);

struct Case {
    id: &'static str,
    shows: Vec<File>,
    shows_not: Vec<File>,
    /// What is asked for beside the files.
    change: Box<dyn Fn(&mut CheckOptions<'static>)>,
}

impl Case {
    fn with(self, change: impl Fn(&mut CheckOptions<'static>) + 'static) -> Self {
        Self { change: Box::new(change), ..self }
    }

    /// With the tokens of a tokenizer, in rows of 300.
    fn tokens(self, tokenizer: crate::TextTokenizer) -> Self {
        let tokenizer: &'static _ = Box::leak(Box::new(tokenizer));
        self.with(move |options| options.tokens = Some(TokenCheck { tokenizer, max_length: 300 }))
    }

    fn profile(self, model: &'static str) -> Self {
        self.with(move |options| options.profile = Some(find_profile(model).unwrap()))
    }
}

fn pair(prompt: &str, completion: &str) -> String {
    format!("{}\n", serde_json::json!({"prompt": prompt, "completion": completion}))
}

fn input(text: &str) -> String {
    format!("{}\n", serde_json::json!({"input": text}))
}

fn bedrock(roles: &[&str]) -> String {
    let messages: Vec<_> = roles
        .iter()
        .map(|role| serde_json::json!({"role": role, "content": [{"text": format!("from {role}")}]}))
        .collect();
    format!("{}\n", serde_json::json!({"schemaVersion": "bedrock-conversation-2024", "messages": messages}))
}

fn claude(system: serde_json::Value, turns: &[(&str, &str)]) -> String {
    let messages: Vec<_> =
        turns.iter().map(|(role, text)| serde_json::json!({"role": role, "content": text})).collect();
    format!("{}\n", serde_json::json!({"system": system, "messages": messages}))
}

/// `n` words that don't repeat, of a text that begins at `from`.
fn words(from: usize, n: usize) -> String {
    const SYLLABLES: [&str; 16] =
        ["ba", "co", "di", "fu", "ge", "ha", "ki", "lo", "mu", "ne", "pa", "ri", "so", "tu", "ve", "wi"];
    let word = |index: usize| (0..4).map(|place| SYLLABLES[(index >> (4 * place)) & 15]).collect::<String>();
    (from..from + n).map(|index| word(index * 7919 % 65536)).collect::<Vec<_>>().join(" ")
}

/// Prose of some sixty words, another one for each number.
fn prose(number: usize) -> String {
    (0..8).map(|line| format!("{} the wall.\n", words(number * 997 + line * 9, 8))).collect()
}

fn good() -> String {
    pair("Where is the wall?", "It stands behind the house") + &pair("Who reads the level?", "The mason reads it twice")
}

fn labelled(counts: &[(&str, usize)]) -> String {
    let mut number = 0;
    let mut rows = String::new();
    for (label, count) in counts {
        for _ in 0..*count {
            number += 1;
            rows += &pair(&words(number * 31, 12), label);
        }
    }
    rows
}

fn case(id: &'static str, shows: String, shows_not: String) -> Case {
    named(id, "a.jsonl", shows, shows_not)
}

fn named(id: &'static str, name: &'static str, shows: impl Into<Vec<u8>>, shows_not: impl Into<Vec<u8>>) -> Case {
    files(id, vec![(name, shows.into())], vec![(name, shows_not.into())])
}

fn files(id: &'static str, shows: Vec<File>, shows_not: Vec<File>) -> Case {
    Case { id, shows, shows_not, change: Box::new(|_| ()) }
}

/// Both with the same evaluation file.
fn against(id: &'static str, eval: String, shows: String, shows_not: String) -> Case {
    let both = |training: String| vec![("a.jsonl", training.into()), ("eval.jsonl", eval.clone().into())];
    files(id, both(shows), both(shows_not))
}

fn structure_cases() -> Vec<Case> {
    let turns = ["user", "assistant"];
    vec![
        case("empty-file", String::new(), good()),
        case("blank-line", good() + "\n" + &good(), good()),
        case("not-json", "{\"prompt\": \"a\"\n".into(), good()),
        case("double-key", "{\"prompt\":\"a\",\"prompt\":\"b\",\"completion\":\"c\"}\n".into(), good()),
        case("wrong-keys", "{\"text\": \"a\"}\n".into(), input("a")),
        case("wrong-type", "{\"prompt\": 1, \"completion\": \"a\"}\n".into(), good()),
        case("schema-version", bedrock(&turns).replace("2024", "2023"), bedrock(&turns)),
        case(
            "system",
            claude(serde_json::json!([]), &[("user", "a"), ("assistant", "b")]),
            claude("be brief".into(), &[("user", "a"), ("assistant", "b")]),
        ),
        case("roles", bedrock(&["user", "user"]), bedrock(&["user", "assistant", "user", "assistant"])),
        case("empty-content", bedrock(&turns).replace("from user", " "), bedrock(&turns)),
        case(
            "turn-marker",
            claude("s".into(), &[("user", "a\nHuman: b"), ("assistant", "b")]),
            claude("s".into(), &[("user", "a Human: b"), ("assistant", "b")]),
        ),
        case("mixed-formats", good() + &input("raw"), good()),
        case("empty-prompt", pair("", "a"), good()),
        case("empty-completion", pair("a", " "), good()),
        case("extra-keys", "{\"prompt\":\"a\",\"completion\":\"b\",\"id\":1}\n".into(), good()),
        named("named-as-text", "a.txt", good(), prose(1)),
        case("long-line", pair(&"a ".repeat(17 << 20), "b") + &good(), pair(&"a ".repeat(1 << 20), "b")),
        named("unreadable", "a.jsonl.gz", half(&fixtures::gzip(good().as_bytes())), fixtures::gzip(good().as_bytes())),
        case("byte-order-mark", format!("\u{feff}{}", good()), good()),
    ]
}

fn half(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.len() / 2]
}

fn relation_cases() -> Vec<Case> {
    let row = words(5, 20);
    let near = format!("{row} extra");
    let eval = pair(&row, "an answer of some words");
    let shared = format!("{} {}", words(9000, 30), words(5, 13));
    vec![
        case("duplicate", good() + &good(), good()),
        case(
            "near-duplicate",
            pair(&row, "yes") + &pair(&near, "yes"),
            pair(&row, "yes") + &pair(&words(500, 20), "yes"),
        ),
        case("two-completions", pair("a", "b") + &pair("a", "c"), pair("a", "b") + &pair("d", "c")),
        case("completion-is-prompt", pair("Say it again", "say it again."), good()),
        against("leak-prompt", eval.clone(), pair(&row, "another answer"), good()),
        against("leak-13-gram", eval.clone(), pair(&shared, "b"), pair(&words(9000, 40), "b")),
        files(
            "leak-limit",
            vec![("a.jsonl", good().into()), ("eval.jsonl", (eval.clone() + &pair(&words(700, 20), "b")).into())],
            vec![("a.jsonl", good().into()), ("eval.jsonl", eval.clone().into())],
        )
        .with(|options| options.most_grams = 15),
        case(
            "near-limit",
            (0..100).map(|number| pair(&words(number * 50, 12), "b")).collect(),
            (0..20).map(|number| pair(&words(number * 50, 12), "b")).collect(),
        )
        .with(|options| options.near_bytes = 2000),
        against("leak-near", eval, pair(&near, "an answer of some words"), good()),
        case("label-balance", labelled(&[("yes", 60), ("no", 6)]), labelled(&[("yes", 30), ("no", 20)])),
        case("label-rare", labelled(&[("yes", 20), ("no", 20), ("well", 2)]), labelled(&[("yes", 20), ("no", 20)])),
        case(
            "label-look-alike",
            labelled(&[("Positive", 20), ("Negative", 20), ("Positive ", 6)]),
            labelled(&[("Positive", 20), ("Negative", 20)]),
        ),
        case(
            "label-disagrees",
            labelled(&[("yes", 20), ("no", 20)]) + &pair(&row, "yes") + &pair(&near, "no"),
            labelled(&[("yes", 20), ("no", 20)]) + &pair(&row, "yes") + &pair(&near, "yes"),
        ),
    ]
}

fn personal_cases() -> Vec<Case> {
    let with = |id, what: &str, not: &str| case(id, pair(what, "b"), pair(not, "b"));
    let key = format!("{}{}", "AKIA", "Q3EGRPLAT6YHN2BV");
    let pem = format!("-----BEGIN {} KEY-----", "PRIVATE");
    vec![
        with("personal-email", "ask ann@mail.org", "ask ann at mail"),
        with("personal-phone", "call +44 20 7946 0018", "call 4711"),
        with("personal-card", "pay 4111111111111111", "pay 4111111111111112"),
        with("personal-iban", "to DE89370400440532013000", "to DE88370400440532013000"),
        with("personal-ip", "from 203.0.114.7", "from 127.0.0.1"),
        with("personal-id", "no. 536-22-8726", "no. 536-00-8726"),
        with("secret-private-key", &pem, "-----BEGIN PUBLIC KEY-----"),
        with("secret-api-key", &key, "AKIA"),
    ]
}

fn quality_cases() -> Vec<Case> {
    let text = |id, shows: String, shows_not: String| named(id, "a.txt", shows, shows_not);
    let english = "The level is set on the wall and the bubble is read twice by the mason, who writes the reading down in his book before he goes home to eat.";
    let german = "Die Wasserwaage wird an die Wand gehalten, und der Maurer liest die Blase zweimal ab, bevor er das Ergebnis in sein Buch schreibt und nach Hause geht.";
    let documents = |line: &str| {
        (0..12)
            .map(|number| {
                input(&format!(
                    "{}{line} {}",
                    prose(number),
                    if line.is_empty() { number.to_string() } else { String::new() }
                ))
            })
            .collect::<String>()
    };
    vec![
        text("text-damaged", prose(1) + "caf\u{c3}\u{a9}", prose(1) + "café"),
        text("text-control", prose(1) + "a\u{1b}b", prose(1)),
        case("text-boilerplate", documents("All rights reserved by the house of the level"), documents("")),
        text("text-repeats", "the same line of seven words again\n".repeat(20), prose(1)),
        case("text-language", input(english) + &input(english) + &input(german), input(english)),
        text("text-short", "three words only".into(), prose(1)),
        text("text-very-long", words(0, 50_000) + " " + &words(0, 50_001), prose(1)),
        text("text-word-length", "a b ".repeat(60), prose(1)),
        text("text-symbols", "word # ".repeat(60), prose(1)),
        text("text-bullets", (0..60).map(|number| format!("- item {}\n", words(number, 1))).collect(), prose(1)),
        text("text-ellipses", (0..30).map(|number| format!("{}...\n", words(number * 3, 3))).collect(), prose(1)),
        text("text-few-letters", (0..80).map(|number| format!("{} \n", number * 1001)).collect(), prose(1)),
        named("not-utf8", "a.txt", b"\x89PNG\x00\xff\xfe", prose(1)),
    ]
}

fn token_cases() -> Vec<Case> {
    let mut cases = vec![
        case("moved-space", pair("Where? ", "There"), good()),
        case("too-long", pair(&words(0, 400), "b"), good()),
        case("no-stop", pair(&words(0, 400), "b"), good()),
        named("cut-text", "a.txt", prose(1) + &prose(2) + &prose(3), prose(1)[..60].to_owned()),
        case("spelled-stop", pair("a", "b</s>"), good()),
        case("spelled-bos", pair("<s>a", "b"), good()),
        case("missing-bos", pair("<s>a", "b") + &pair("c", "d"), pair("<s>a", "b") + &pair("<s>c", "d")),
        case("few-targets", pair(&words(0, 30), "b"), good()),
        case("boundary", pair("a\n", "\n\nb"), good()),
        named("long-word", "a.txt", prose(1) + &"x".repeat(600 << 10), prose(1) + &"x".repeat(300 << 10)),
    ];
    cases = cases.into_iter().map(|case| case.tokens(fixtures::tokenizer_that_knows_bos())).collect();
    cases.extend([
        case("double-bos", pair("<s><s>a", "b"), pair("<s>a", "b")).tokens(fixtures::tokenizer_with_bos()),
        case("outside-vocabulary", pair("the level is read", "twice"), pair("q", "z"))
            .tokens(fixtures::tokenizer_of_rows(300)),
        case("no-target", input("\u{200b}"), input("a\u{200b}")).tokens(fixtures::tokenizer_that_drops("\u{200b}")),
        case("not-tokenized", pair("a", "zebra"), pair("a", "b")).tokens(fixtures::tokenizer_of_words(&["a", "b"])),
    ]);
    cases
}

fn profile_cases() -> Vec<Case> {
    let turns = ["user", "assistant"];
    let eval = |bytes: usize| vec![("a.jsonl", good().into()), ("eval.jsonl", vec![b' '; bytes])];
    vec![
        case("profile-format", good(), bedrock(&turns)).profile("meta.llama3-3-70b"),
        case("profile-records", good(), good().repeat(50)).profile("meta.llama3-1-8b"),
        case("profile-tokens", pair(&"a ".repeat(13_000), "b"), pair(&"a ".repeat(12_000), "b"))
            .profile("amazon.titan-text-express-v1"),
        files("profile-bytes", eval((100 << 20) + 1), eval(100 << 20)).profile("amazon.titan-text-premier-v1"),
    ]
}

fn options(root: &Path, files: &[File]) -> CheckOptions<'static> {
    let mut options = CheckOptions::new(Vec::new());
    for (name, content) in files {
        let path = write(root, name, content);
        if name.starts_with("eval") { options.evaluation.push(path) } else { options.training.push(path) }
    }
    options
}

fn ids(options: &CheckOptions<'_>) -> Vec<&'static str> {
    let report = check(options, &mut |_, _| ()).unwrap();
    let mut ids = Vec::new();
    for finding in &report.findings {
        assert!(finding.count >= finding.rows.len() as u64 && !finding.rows.is_empty(), "{finding:?}");
        ids.push(finding.id);
    }
    ids
}

fn found(files: &[File], change: &dyn Fn(&mut CheckOptions<'static>)) -> Vec<&'static str> {
    let root = tempfile::tempdir().unwrap();
    let mut options = options(root.path(), files);
    change(&mut options);
    ids(&options)
}

#[test]
fn r20_every_finding_has_a_file_that_shows_it_and_one_that_does_not() {
    // a setting and a template are no files; `profiles_hold_settings_to_a_models_ranges` flips the one,
    // `r6_conversations_are_counted_as_the_chat_template_lays_them_out` the other
    let mut covered = vec!["profile-setting", "chat-template"];
    let cases =
        [structure_cases(), relation_cases(), personal_cases(), quality_cases(), token_cases(), profile_cases()];
    for case in cases.into_iter().flatten() {
        let (shown, not) = (found(&case.shows, &case.change), found(&case.shows_not, &case.change));
        assert!(shown.contains(&case.id), "`{}` isn't found; found: {shown:?}", case.id);
        assert!(!not.contains(&case.id), "`{}` is a false alarm; found: {not:?}", case.id);
        covered.push(case.id);
    }
    let missing: Vec<_> = RULES.iter().map(|rule| rule.id).filter(|id| !covered.contains(id)).collect();
    assert!(missing.is_empty(), "no case for {missing:?}");
}

#[test]
fn r6_conversations_are_counted_as_the_chat_template_lays_them_out() {
    let root = tempfile::tempdir().unwrap();
    let source = "{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}";
    let special = BTreeMap::from([("eos_token".to_owned(), "</s>".to_owned())]);
    let template = crate::ChatTemplate::new(source, special).unwrap();
    let with = fixtures::tokenizer().with_chat_template(Some(template));
    let report = |tokenizer: &crate::TextTokenizer, max_length| {
        let files = [("a.jsonl", bedrock(&["user", "assistant"]).into_bytes())];
        let options =
            CheckOptions { tokens: Some(TokenCheck { tokenizer, max_length }), ..options(root.path(), &files) };
        (ids(&options), check(&options, &mut |_, _| ()).unwrap())
    };
    let (ids, found) = report(&with, 300);
    assert!(!ids.contains(&"chat-template") && !ids.contains(&"too-long"), "{ids:?}");
    let tokens = |text: &str| with.encode(text).unwrap().len() as u64;
    let counts = found.tokens.as_ref().unwrap();
    assert_eq!(counts.tokens, tokens("from user</s>from assistant</s>"));
    assert_eq!(counts.target_tokens, tokens("from assistant</s>"));
    assert!(report(&with, 8).0.contains(&"too-long"));
    assert!(report(&fixtures::tokenizer(), 300).0.contains(&"chat-template"));
}

#[test]
fn profiles_hold_settings_to_a_models_ranges() {
    let held = |epochs: &'static str| {
        found(&[("a.jsonl", good().into())], &|options| {
            options.profile = Some(find_profile("amazon.titan-text-express-v1").unwrap());
            options.settings = vec![("epochCount".into(), epochs.into())];
        })
    };
    assert_eq!(held("99"), ["profile-setting"]);
    assert!(held("9").is_empty());
}

#[test]
fn a_damaged_gzip_file_is_a_finding_and_a_whole_one_is_read() {
    let root = tempfile::tempdir().unwrap();
    let whole = fixtures::gzip(
        (0..3000).map(|number| pair(&words(number, 12), &words(number + 40_000, 5))).collect::<String>().as_bytes(),
    );
    let path = write(root.path(), "a.jsonl.gz", &whole);
    let report = check(&CheckOptions::new(vec![path]), &mut |_, _| ()).unwrap();
    assert_eq!((report.records, report.errors), (3000, 0));
    let path = write(root.path(), "b.jsonl.gz", &whole[..whole.len() / 2]);
    assert!(ids(&CheckOptions::new(vec![path])).contains(&"unreadable"));
}

#[test]
fn the_report_does_not_depend_on_the_number_of_threads() {
    let root = tempfile::tempdir().unwrap();
    let rows: String = (0..4000).map(|number| pair(&words(number % 1500 * 3, 12), ["yes", "no"][number % 2])).collect();
    let path = write(root.path(), "a.jsonl", rows);
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| check(&CheckOptions::new(vec![path.clone()]), &mut |_, _| ()).unwrap())
    };
    let one = run(1);
    assert_eq!(one, run(4));
    assert!(one.repetition.exact > 0);
    let _: BTreeMap<_, _> = one.languages;
}

#[test]
fn personal_data_are_masked_in_every_excerpt() {
    let root = tempfile::tempdir().unwrap();
    let path = write(root.path(), "a.jsonl", pair("ask ann@mail.org", "b").repeat(3));
    let report = check(&CheckOptions::new(vec![path]), &mut |_, _| ()).unwrap();
    let text = serde_json::to_string(&report).unwrap();
    assert!(!text.contains("ann@mail.org") && text.contains("[EMAIL]"), "{text}");
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(48))]
    #[test]
    fn no_bytes_make_a_check_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..400), jsonl: bool) {
        let root = tempfile::tempdir().unwrap();
        let path = write(root.path(), if jsonl { "a.jsonl" } else { "a.txt" }, bytes);
        check(&CheckOptions::new(vec![path]), &mut |_, _| ()).unwrap();
    }
}
