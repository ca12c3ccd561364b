//! Tests of `header`: what each setting does, and the message of every refusal.

use super::*;
use crate::fixtures::{Bigram, mixed, mixed_sum, tokenizer};
use crate::kinds::multiple_choice::joined;
use crate::score::{Scores, score};
use crate::suite::{Items, Suite};

const PAIRS: &str = concat!(
    "{\"prompt\": \"a\", \"completion\": \"yes\"}\n",
    "{\"prompt\": \"b\", \"completion\": \"no\"}\n",
    "{\"prompt\": \"c\", \"completion\": \"maybe\"}\n",
);
const QUESTION: &str = "{\"query\": \" Sky? \\n\", \"choices\": [\"red\", \"blue\"], \"gold\": 1}\n";

fn parse(header: &str, items: &str) -> Result<Suite, EvalError> {
    Suite::from_bytes(Path::new("data/test.jsonl"), format!("{header}\n{items}").as_bytes())
}

fn scores(suite: &Suite) -> Scores {
    score(suite, &tokenizer(), 64, &mut Bigram::new(mixed), 100, &mut |_, _| {}).unwrap()
}

#[test]
fn a_header_names_the_suite_and_its_kind() {
    let classification = parse(r#"{"suite": "answers", "kind": "classification"}"#, PAIRS).unwrap();
    assert_eq!((classification.name.as_str(), classification.kind()), ("answers", SuiteKind::Classification));
    let Items::Pairs { labels, items } = &classification.items else { panic!("not pairs") };
    assert_eq!(labels.as_deref().unwrap(), ["maybe", "no", "yes"]);
    assert_eq!((items.len(), classification.place(0)), (3, "data/test.jsonl:2".to_owned()));
    // without a header three labels of one item each are none
    let plain = Suite::from_bytes(Path::new("data/test.jsonl"), PAIRS.as_bytes()).unwrap();
    assert_eq!((plain.name.as_str(), plain.kind()), ("data/test", SuiteKind::Pairs));

    // and the other way: labels that the rule would find are completions
    let repeated = PAIRS.repeat(4);
    assert_eq!(Suite::from_bytes(Path::new("a.jsonl"), repeated.as_bytes()).unwrap().kind(), SuiteKind::Classification);
    let pairs = parse(r#"{"suite": "answers", "kind": "pairs"}"#, &repeated).unwrap();
    assert_eq!(pairs.kind(), SuiteKind::Pairs);
    let text = parse(r#"{"suite": "prose", "kind": "text"}"#, "{\"input\": \"a\"}").unwrap();
    assert_eq!((text.kind(), text.len()), (SuiteKind::Text, 1));
}

#[test]
fn the_delimiter_joins_query_and_choice() {
    let with = |delimiter: &str| {
        let header = format!(r#"{{"suite": "q", "kind": "multiple_choice"{delimiter}}}"#);
        let suite = parse(&header, QUESTION).unwrap();
        scores(&suite).items[0].clone()
    };
    for (delimiter, prompt) in [(r#", "delimiter": "\nAnswer: ""#, "Sky?\nAnswer:"), (r#", "delimiter": " ""#, "Sky?")]
    {
        let item = with(delimiter);
        let sum = |choice: &str| {
            let ids = tokenizer().encode(&format!("{prompt} {choice}")).unwrap();
            mixed_sum(&ids, prompt.len())
        };
        assert_eq!(item.answer.unwrap().candidates, [sum("red"), sum("blue")], "{delimiter}");
        assert_eq!(item.targets, 5, "the space in front belongs to the choice");
    }
    // white space that ends the delimiter is predicted, like in lm-evaluation-harness
    assert_eq!(with(r#", "delimiter": "\n\n""#).targets, 6);
    // without a delimiter the query stays as it is
    let ids = tokenizer().encode(" Sky? \nblue").unwrap();
    assert_eq!(with("").nll, mixed_sum(&ids, 7));
}

#[test]
fn the_split_is_that_of_lm_evaluation_harness() {
    let split = |query, delimiter, choice| {
        let (prompt, continuation) = joined(query, delimiter, choice);
        (prompt, continuation)
    };
    for (query, delimiter, choice, prompt, continuation) in [
        ("Question: Why?\n", "\nAnswer: ", "So.", "Question: Why?\nAnswer:", " So."),
        ("Predators eat ", " ", "  bunnies", "Predators eat", "   bunnies"),
        ("a", " \n", "b", "a", " \nb"),
    ] {
        assert_eq!(split(query, delimiter, choice), (prompt.to_owned(), continuation.to_owned()));
    }
}

#[test]
fn window_and_stride_cut_a_text_and_change_what_is_scored() {
    let with = |settings: &str| {
        let header = format!(r#"{{"suite": "prose", "kind": "text"{settings}}}"#);
        let suite = parse(&header, "{\"input\": \"abcdefghij\"}\n").unwrap();
        let tokens = suite.row_tokens(64).unwrap();
        let scores = score(&suite, &tokenizer(), tokens, &mut Bigram::new(mixed), 100, &mut |_, _| {}).unwrap();
        (tokens, scores.items.len(), scores.items.iter().map(|item| item.targets).sum::<usize>(), scores.lost_targets)
    };
    let (whole, rows, targets, lost) = with("");
    assert_eq!((whole, rows), (64, 1));
    let (tokens, apart, fewer, more) = with(r#", "window": 4"#);
    assert_eq!((tokens, fewer as u64 + more), (4, targets as u64 + lost));
    assert!(apart > 1 && fewer < targets, "the first token of a row has no prediction");
    let (_, overlapping, all, same) = with(r#", "window": 4, "stride": 2"#);
    assert!(overlapping > apart);
    assert_eq!((all, same), (targets, lost), "every token is counted once");
    let long = parse(r#"{"suite": "prose", "kind": "text", "window": 65}"#, "{\"input\": \"a\"}").unwrap();
    let message = long.row_tokens(64).unwrap_err().to_string();
    assert!(message.contains("`window` is 65, the model's context has 64 tokens"), "{message}");
}

#[test]
fn faulty_headers_are_refused() {
    for (header, items, expected) in [
        (r#"{"suite": "q"}"#, QUESTION, "data/test.jsonl:1:14: missing field `kind`; found keys `suite`"),
        (r#"{"suite": "q", "kind": "quiz"}"#, QUESTION, "unknown variant `quiz`"),
        (r#"{"suite": "q", "kind": "text", "windw": 3}"#, "{\"input\": \"a\"}", "unknown field `windw`"),
        (r#"{"suite": " ", "kind": "pairs"}"#, PAIRS, ":1:1: `suite` is blank"),
        (r#"{"suite": "q", "kind": "pairs", "delimiter": " "}"#, PAIRS, "only kind `multiple_choice` has it"),
        (r#"{"suite": "q", "kind": "multiple_choice", "delimiter": ":"}"#, QUESTION, "must end with white space"),
        (r#"{"suite": "q", "kind": "multiple_choice", "delimiter": ""}"#, QUESTION, "must end with white space"),
        (r#"{"suite": "q", "kind": "pairs"}"#, QUESTION, "data/test.jsonl:2:60: missing field `prompt`"),
        (r#"{"suite": "q", "kind": "pairs"}"#, "", "there is a header and no item"),
        (r#"{"suite": "q", "kind": "pairs", "stride": 4}"#, PAIRS, "only kind `text` has them"),
        (r#"{"suite": "q", "kind": "text", "window": 1}"#, "{\"input\": \"a\"}", "`window` must be 2 or more"),
        (r#"{"suite": "q", "kind": "text", "stride": 0}"#, "{\"input\": \"a\"}", "`stride` must be 1 or more"),
        (
            r#"{"suite": "q", "kind": "text", "window": 4, "stride": 5}"#,
            "{\"input\": \"a\"}",
            "`stride` is 5, beyond `window`, 4",
        ),
        (
            r#"{"suite": "q", "kind": "pairs", "max_tokens": 4}"#,
            PAIRS,
            "only kinds `exact`, `generate` and `extraction`",
        ),
        (r#"{"suite": "q", "kind": "cloze", "stop": ["x"]}"#, PAIRS, "only kinds `exact`, `generate` and `extraction`"),
        (r#"{"suite": "q", "kind": "exact", "max_tokens": 0}"#, PAIRS, ":1:1: `max_tokens` must be 1 or more"),
        (r#"{"suite": "q", "kind": "exact", "stop": ["x", ""]}"#, PAIRS, "a text of `stop` is empty"),
        (r#"{"suite": "q", "kind": "exact", "delimiter": " "}"#, PAIRS, "only kind `multiple_choice` has it"),
        (r#"{"suite": "q", "kind": "generate"}"#, "", "there is a header and no item"),
        (
            r#"{"suite": "q", "kind": "classification"}"#,
            "{\"prompt\": \"a\", \"completion\": \"b\"}",
            "all completions are the same label",
        ),
        (
            r#"{"suite": "q", "kind": "classification"}"#,
            "{\"prompt\": \" \", \"completion\": \"b\"}",
            "data/test.jsonl:2:1: `prompt` is blank",
        ),
    ] {
        let message = parse(header, items).unwrap_err().to_string();
        assert!(message.contains(expected), "`{message}` lacks `{expected}`");
    }
}

#[test]
fn the_examples_of_the_documentation_are_suites_of_their_kinds() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/suites.md");
    let text = fs_err::read_to_string(path).unwrap();
    let examples = text.split("```json\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let kinds: Vec<SuiteKind> = examples
        .map(|example| Suite::from_bytes(Path::new("example.jsonl"), example.as_bytes()).unwrap().kind())
        .collect();
    let expected = [
        SuiteKind::Pairs,
        SuiteKind::Classification,
        SuiteKind::MultipleChoice,
        SuiteKind::Text,
        SuiteKind::Exact,
        SuiteKind::Generate,
        SuiteKind::Extraction,
        SuiteKind::Cloze,
    ];
    assert_eq!(kinds, expected);
}

#[test]
fn a_repeated_id_and_a_key_that_is_not_read_are_told_in_every_kind_of_pairs() {
    let lines = |key: &str| format!("{{\"prompt\": \"a\", \"completion\": \"b\", {key}}}\n").repeat(2);
    for kind in ["pairs", "exact", "generate", "cloze"] {
        let header = format!(r#"{{"suite": "q", "kind": "{kind}"}}"#);
        let message = parse(&header, &lines(r#""id": "x""#)).unwrap_err().to_string();
        assert_eq!(message, "data/test.jsonl:3:1: `id` is \"x\", which line 2 has already");
        let alternatives = parse(&header, &lines(r#""alternatives": ["c"]"#)).unwrap();
        let read = alternatives.notes.is_empty();
        assert_eq!(read, kind == "exact" || kind == "generate", "{kind}: {:?}", alternatives.notes);
    }
}
