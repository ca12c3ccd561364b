//! Tests of `suite`: the kinds, the label rule, hashes, and the message of every refusal.

use super::*;

fn parse(content: &str) -> Result<Suite, EvalError> {
    Suite::from_bytes(Path::new("data/test.jsonl"), content.as_bytes())
}

fn message(content: &str) -> String {
    parse(content).unwrap_err().to_string()
}

fn pair_lines(labels: &[(&str, usize)]) -> String {
    let mut lines = String::new();
    for &(label, count) in labels {
        for i in 0..count {
            lines += &format!("{{\"prompt\": \"item {i}\", \"completion\": \"{label}\"}}\n");
        }
    }
    lines
}

#[test]
fn completions_that_are_a_small_label_set_make_a_classification() {
    let suite = parse(&pair_lines(&[("good", 4), ("bad", 2)])).unwrap();
    assert_eq!(suite.kind(), SuiteKind::Classification);
    let Items::Pairs { labels, items } = &suite.items else { panic!("not pairs") };
    assert_eq!(labels.as_deref().unwrap(), ["bad", "good"]);
    assert_eq!((items.len(), suite.place(5)), (6, "data/test.jsonl:6".to_owned()));
    assert!((suite.chance().unwrap() - 4.0 / 6.0).abs() < 1e-12);
    assert_eq!(suite.name, "data/test");
}

#[test]
fn each_part_of_the_label_rule_is_needed() {
    let many: Vec<(String, usize)> = (0..21).map(|i| (format!("label {i}"), 3)).collect();
    let many: Vec<(&str, usize)> = many.iter().map(|(name, n)| (name.as_str(), *n)).collect();
    assert_eq!(parse(&pair_lines(&many[..20])).unwrap().kind(), SuiteKind::Classification);
    for labels in [
        &many[..],                               // more than 20 labels
        &[("good", 8), ("bad", 1)],              // a label that occurs once
        &[("good", 2), ("bad", 2), ("ugly", 2)], // fewer than 3 items a label
        &[("good", 9)],                          // one label only
    ] {
        let suite = parse(&pair_lines(labels)).unwrap();
        assert_eq!((suite.kind(), suite.chance()), (SuiteKind::Pairs, None), "{labels:?}");
    }
    let blank = pair_lines(&[("good", 4), ("bad", 4)]).replace("item 0", " ");
    assert_eq!(parse(&blank).unwrap().kind(), SuiteKind::Pairs);
}

#[test]
fn a_prompt_dataset_of_bedrocks_is_read_as_pairs() {
    let pairs = pair_lines(&[("good", 4), ("bad", 2)]);
    let bedrock = parse(&pairs.replace("completion", "referenceResponse")).unwrap();
    assert_eq!(bedrock.items, parse(&pairs).unwrap().items);
    assert_eq!(bedrock.notes, [""; 0]);
}

#[test]
fn questions_are_read_with_their_groups() {
    let suite = parse(concat!(
        r#"{"id": "a", "query": "Sky?", "answer": "blue", "choices": ["red", "blue"], "gold": 1, "group": "g"}"#,
        "\n",
        r#"{"query": "Grass?", "choices": ["green", "red", "blue", "grey"], "gold": 0}"#,
    ))
    .unwrap();
    assert_eq!(suite.kind(), SuiteKind::MultipleChoice);
    assert_eq!((suite.group(0), suite.group(1)), (Some("g"), None));
    assert_eq!(suite.chance(), Some((0.5 + 0.25) / 2.0));
}

#[test]
fn faulty_questions_are_refused_by_line() {
    let ask = |fields: &str| message(&format!("{{{fields}}}"));
    for (fields, expected) in [
        (r#""query": " ", "choices": ["a", "b"], "gold": 0"#, "data/test.jsonl:1:1: `query` is blank"),
        (r#""query": "q", "choices": ["a"], "gold": 0"#, ":1:1: 1 in `choices`; give two or more"),
        (r#""query": "q", "choices": ["a", "b"], "gold": 2"#, "`gold` is 2; it counts from 0, so at most 1"),
        (r#""query": "q", "choices": ["a", "b"], "gold": -1"#, ":1:48: invalid value: integer `-1`"),
        (r#""query": "q", "choices": ["a", ""], "gold": 0"#, "choice 1 is blank"),
        (
            r#""query": "q", "choices": ["a", "b"], "gold": 0, "answer": "b""#,
            "`answer` is `b`, but `gold` points to `a`",
        ),
        (r#""query": "q", "choices": ["a", "b"]"#, "missing field `gold`; found keys `query`, `choices`"),
        (r#""query": "q", "choices": ["a", "b"], "gold": 0, "gloss": 1"#, "unknown field `gloss`"),
    ] {
        let message = ask(fields);
        assert!(message.contains(expected), "`{message}` lacks `{expected}`");
    }
    let line = r#"{"id": "x", "query": "q", "choices": ["a", "b"], "gold": 0}"#;
    let twice = message(&format!("{line}\n{line}\n"));
    assert_eq!(twice, "data/test.jsonl:2:1: `id` is `x`, which line 1 has already");
}

#[test]
fn equal_choices_are_named_and_kept() {
    let suite = parse(concat!(
        r#"{"query": "q", "choices": ["a", "b"], "gold": 0}"#,
        "\n",
        r#"{"query": "q", "choices": ["a", "b", "a"], "gold": 2}"#,
    ))
    .unwrap();
    assert_eq!(suite.notes, ["line 2: choice `a` is given twice"]);
    assert_eq!(suite.len(), 2);
}

#[test]
fn other_faults_are_refused_by_line_and_column() {
    for (content, expected) in [
        ("", "suite `data/test.jsonl`: the file is empty"),
        ("{\"prompt\": \"a\", \"completion\": \"b\"}\n\n", "data/test.jsonl:2:1: blank line"),
        ("{\"prompt\": \"a\"}", "missing field `completion`; found keys `prompt`"),
        ("{\"prompt\": \"a\", \"completion\": 3}", ":1:31: invalid type: integer `3`, expected a string"),
        ("{\"prompt\": \"a\", \"completion\": \"\"}", ":1:1: `completion` is empty"),
        ("{\"input\": \"a\"}\n{\"input\": \"\"}", ":2:1: `input` is empty"),
        ("{\"input\": \"a\"}\n{\"prompt\": \"b\", \"completion\": \"c\"}", ":2:34: missing field `input`"),
        ("{\"input\": \"a\", \"output\": \"b\"}", ":1:1: found `input`, `output`; a suite needs"),
        ("{}", "found no keys; a suite needs"),
        ("[1]", ":1:1: not a JSON object"),
        ("{\"input\": \"a\"} x", ":1:16: not JSON: trailing characters"),
    ] {
        let message = message(content);
        assert!(message.contains(expected), "`{message}` lacks `{expected}`");
    }
    let json = Suite::from_bytes(Path::new("a.json"), b"[]").unwrap_err().to_string();
    assert!(json.contains("suite `a.json`: a suite is JSON Lines"), "{json}");
}

#[test]
fn keys_that_are_not_read_are_named_and_counted() {
    let suite = parse("{\"input\": \"a\", \"source\": 1}\n{\"input\": \"b\", \"source\": 2}").unwrap();
    assert_eq!(suite.notes, ["key `source` is not read; it stands in 2 lines"]);
}

#[test]
fn a_folder_of_texts_is_one_suite_in_sorted_order() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs_err::write(folder.path().join(name), text).unwrap();
    fs_err::create_dir(folder.path().join("b")).unwrap();
    write("b/two.txt", "second");
    write("c.md", "third");
    write("a.txt", "first");
    write(".hidden", "never");
    let suite = Suite::load(folder.path()).unwrap();
    let Items::Text(items) = &suite.items else { panic!("not text") };
    let texts: Vec<&str> = items.iter().map(|item| item.text.as_str()).collect();
    assert_eq!(texts, ["first", "second", "third"]);
    assert!(suite.place(1).ends_with("two.txt"));

    write("d.jsonl", "{}");
    let error = Suite::load(folder.path()).unwrap_err().to_string();
    assert!(error.contains("d.jsonl`: a folder is a suite of text files"), "{error}");
}

#[test]
fn missing_paths_and_empty_folders_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let error = Suite::load(folder.path()).unwrap_err().to_string();
    assert!(error.contains("the folder has no files"), "{error}");
    let error = Suite::load(&folder.path().join("none.txt")).unwrap_err().to_string();
    assert!(error.contains("none.txt"), "{error}");
}

#[test]
fn the_hash_follows_content_and_kind_but_not_the_name() {
    let hash = |path: &str, content: &str| Suite::from_bytes(Path::new(path), content.as_bytes()).unwrap().hash;
    let line = "{\"input\": \"a\"}";
    assert_eq!(hash("a.jsonl", line), hash("other/b.jsonl", line));
    assert_ne!(hash("a.jsonl", line), hash("a.jsonl", "{\"input\": \"b\"}"));
    assert_ne!(hash("a.jsonl", line), hash("a.txt", line));

    let folder_hash = |texts: [&str; 2]| {
        let folder = tempfile::tempdir().unwrap();
        fs_err::write(folder.path().join("a.txt"), texts[0]).unwrap();
        fs_err::write(folder.path().join("b.txt"), texts[1]).unwrap();
        Suite::load(folder.path()).unwrap().hash
    };
    assert_ne!(folder_hash(["ab", "c"]), folder_hash(["a", "bc"]));
}

#[test]
fn a_text_file_is_one_document_without_its_byte_order_mark() {
    let suite = Suite::from_bytes(Path::new("prose.txt"), b"\xef\xbb\xbfOnce\n").unwrap();
    let Items::Text(items) = &suite.items else { panic!("not text") };
    assert_eq!((items.len(), items[0].text.as_str()), (1, "Once\n"));
    assert_eq!((suite.place(0), suite.name.as_str()), ("prose.txt".to_owned(), "prose"));
}

#[test]
fn the_datasets_of_this_project_are_suites() {
    let load =
        |path: &str| Suite::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets").join(path)).unwrap();
    let items = load("general/items.jsonl");
    assert_eq!((items.kind(), items.len(), items.name.as_str()), (SuiteKind::MultipleChoice, 168, "general/items"));
    assert!((items.chance().unwrap() - (166.0 / 4.0 + 2.0 / 3.0) / 168.0).abs() < 1e-12);
    assert_eq!(load("general/prose.txt").kind(), SuiteKind::Text);
    let cloze = load("handbook/items.jsonl");
    assert_eq!((cloze.kind(), cloze.len(), cloze.group(0)), (SuiteKind::MultipleChoice, 112, Some("ferrow_bath")));
    assert_eq!(load("handbook/test").len(), 2);
    assert_eq!(load("sentiment/test.jsonl").kind(), SuiteKind::Classification);
}
