//! `outcrop eval` over every kind of suite on the built-in base, models of different tokenizers, and suites that are
//! refused by file and line.
#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod common;

use common::{Bench, error_of, names};
use serde_json::{Value, json};
use std::process::Output;

const CITIES: [(&str, &str); 8] = [
    ("Ada", "Turin"),
    ("Bo", "Oslo"),
    ("Cy", "Rome"),
    ("Dora", "Paris"),
    ("Emil", "Vienna"),
    ("Fay", "London"),
    ("Gus", "Madrid"),
    ("Hana", "Prague"),
];

fn lines(header: Value, line: impl Fn(&str, &str) -> Value) -> String {
    let items = CITIES.iter().map(|(person, place)| line(person, place));
    std::iter::once(header).filter(|header| !header.is_null()).chain(items).map(|line| format!("{line}\n")).collect()
}

fn prompt(person: &str) -> String {
    format!("{person} lives in")
}

/// A suite of each kind, about what the training data say.
const KINDS: [&str; 8] =
    ["exact", "generate", "extraction", "cloze", "pairs", "classification", "multiple_choice", "text"];

fn bench() -> Bench {
    let bench = Bench::new();
    let pair = |person: &str, place: &str| json!({"prompt": prompt(person), "completion": place});
    let spans = |person: &str, place: &str| {
        let completion = format!("person: {person}\nplace: {place}");
        json!({"prompt": format!("{person} lives in {place}.\nNames:\n"), "completion": completion})
    };
    bench.write("train.jsonl", lines(Value::Null, pair) + &lines(Value::Null, spans));
    let header = |kind: &str| json!({"suite": format!("every {kind}"), "kind": kind});
    let limited =
        |kind: &str| json!({"suite": format!("every {kind}"), "kind": kind, "max_tokens": 24, "stop": ["\n\n"]});
    bench.write("exact.jsonl", lines(limited("exact"), pair));
    bench.write("generate.jsonl", lines(limited("generate"), pair));
    bench.write("extraction.jsonl", lines(limited("extraction"), spans));
    bench.write("cloze.jsonl", lines(header("cloze"), pair));
    bench.write("pairs.jsonl", lines(header("pairs"), pair));
    bench.write("classification.jsonl", lines(header("classification"), pair));
    let question = |person: &str, place: &str| json!({"query": prompt(person), "choices": [place, "Atlantis"], "gold": 0, "group": place.len().to_string()});
    bench.write("multiple_choice.jsonl", lines(header("multiple_choice"), question));
    let text = |person: &str, place: &str| json!({"input": format!("{person} lives in {place}.\nNames:\nperson: {person}\nplace: {place}")});
    bench.write("text.jsonl", lines(header("text"), text));
    bench
}

fn eval(bench: &Bench, arguments: &[&str]) -> Output {
    bench.outcrop().arg("eval").args(arguments).output().unwrap()
}

fn success(output: &Output) -> String {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

fn report(bench: &Bench, folder: &str) -> Value {
    serde_json::from_str(&fs_err::read_to_string(bench.path(folder).join("report.json")).unwrap()).unwrap()
}

fn measure<'a>(suite: &'a Value, kind: &str) -> &'a Value {
    let measures = suite["measures"].as_array().unwrap();
    measures.iter().find(|measure| measure["kind"] == kind).unwrap_or_else(|| panic!("{kind}: {suite}"))
}

/// A model that has learnt where everybody lives, on top of the built-in base.
fn tuned(bench: &Bench) {
    let mut request =
        bench.request(&[("epochCount", "10"), ("batchSize", "1"), ("learningRate", "0.002"), ("trainable", "all")]);
    request["baseModelIdentifier"] = json!("pebble");
    request["customModelName"] = json!("tuned");
    bench.run(&request).expect_success();
}

#[test]
fn r32_every_kind_is_evaluated_on_the_built_in_base() {
    let bench = bench();
    tuned(&bench);
    let files: Vec<String> = KINDS.iter().map(|kind| format!("{kind}.jsonl")).collect();
    let suites: Vec<&str> = files.iter().map(String::as_str).collect();
    let run = |models: &[&str], output: &str| {
        let arguments =
            [&["--base", "pebble", "--model"], models, &["--output", output, "--general", "none", "--suite"]];
        success(&eval(&bench, &[&arguments.concat()[..], &suites].concat()))
    };
    let text = run(&["tuned"], "out");
    let report = report(&bench, "out");
    let deciding =
        ["exact_match", "chrf", "micro_f1", "nll_per_token", "nll_per_token", "accuracy", "accuracy", "nll_per_token"];
    let task = report["task"].as_array().unwrap();
    for ((suite, kind), first) in task.iter().zip(KINDS).zip(deciding) {
        assert_eq!((suite["kind"].as_str(), suite["measures"][0]["kind"].as_str()), (Some(kind), Some(first)));
        let measure = &suite["measures"][0];
        let (base, tuned) = (measure["base"].as_f64().unwrap(), measure["tuned"].as_f64().unwrap());
        let better = if first == "nll_per_token" { tuned < base } else { tuned > base || base == 1.0 };
        assert!(better, "{kind}: {first} {base} -> {tuned}");
    }
    assert_eq!(measure(&task[0], "exact_match")["tuned"], 1.0, "all eight are learnt by heart");
    assert_eq!(measure(&task[0], "stop_rate")["tuned"], 1.0, "with their end");
    assert!(measure(&task[2], "malformed_rate")["base"].as_f64().unwrap() > 0.5, "a base of books writes no lists");
    assert!(text.contains("note: malformed answers, which count as no span: "), "{text}");
    assert_eq!(measure(&task[3], "ranked_first")["tuned"], 1.0);
    check_items(&report);
    check_pages(&bench);
    // the same numbers come out of the scores that are kept, and of none
    let scores = names(&bench.path("home/cache/scores")).len();
    assert_eq!(run(&["tuned"], "out"), text);
    assert_eq!(names(&bench.path("home/cache/scores")).len(), scores, "nothing is scored again");
    fs_err::remove_dir_all(bench.path("home/cache/scores")).unwrap();
    let both = run(&["tuned", "pebble"], "both");
    let with_nothing_kept = self::report(&bench, "both/1-tuned");
    for member in ["headline", "task", "suites"] {
        assert_eq!(with_nothing_kept[member], report[member], "{member}");
    }
    assert!(both.contains("pebble against pebble\n"), "{both}");
    let identical = self::report(&bench, "both/2-pebble");
    assert!(identical["task"].as_array().unwrap().iter().all(|suite| suite["identical"] == true));
}

/// Each kind's items say what both models made of them.
fn check_items(report: &Value) {
    let item = |suite: usize, index: usize| &report["suites"][suite]["items"][index];
    let (ada, cloze) = (item(0, 0), item(3, 0));
    assert_eq!((&ada["expected"], ada["tuned"]["answer"].as_str().map(str::trim)), (&json!("Turin"), Some("Turin")));
    assert!(ada["base"]["answer"].is_string() && ada["change"] == "fixed", "{ada}");
    assert_eq!((&ada["tuned"]["end"], &ada["tuned"]["score"]), (&json!("stop"), &json!(1.0)));
    assert!(item(1, 0)["change"].is_null() && item(1, 0)["base"]["score"].is_number());
    assert_eq!((&cloze["tuned"]["rank"], cloze["tuned"]["right"].as_bool()), (&json!(1), Some(true)));
    let types = report["suites"][2]["types"].as_array().unwrap();
    let known: Vec<&str> =
        types.iter().filter(|found| found["spans"] == 8).map(|found| found["type"].as_str().unwrap()).collect();
    assert_eq!(known, ["person", "place"]);
    assert!(report["suites"][0]["types"].is_null());
    let micro = measure(&report["task"][2], "micro_f1")["tuned"].as_f64().unwrap();
    let sum = |side: &str| types.iter().map(|found| found["tuned"][side].as_f64().unwrap()).sum::<f64>();
    assert!((2.0 * sum("right") / (sum("given") + 16.0) - micro).abs() < 1e-12, "{types:?}");
}

/// Both answers stand side by side in the page and in the Markdown.
fn check_pages(bench: &Bench) {
    let page = fs_err::read_to_string(bench.path("out/report.html")).unwrap();
    let markdown = fs_err::read_to_string(bench.path("out/report.md")).unwrap();
    for shown in ["exact match", "chrF", "ROUGE-L", "micro F1", "malformed rate", "ranked first", "stop rate"] {
        assert!(page.contains(shown) && markdown.contains(&format!("| {shown} | ")), "{shown}");
    }
    assert!(page.contains("By type") && page.contains("nearer to the right answer") && page.contains("rank 1"));
    assert!(markdown.contains("every extraction: by type") && markdown.contains("| person | 8 | "), "{markdown}");
    assert!(markdown.contains("every generate: nearer to the right answer, "), "{markdown}");
    let row = markdown.lines().find(|line| line.contains("exact.jsonl:2 | Ada lives in | Turin | ")).unwrap();
    assert!(row.ends_with(" | Turin |"), "{row}");
}

#[test]
fn models_of_different_tokenizers_are_compared_by_what_does_not_count_tokens() {
    let bench = bench();
    bench.write("prose.jsonl", lines(Value::Null, |person, place| json!({"input": format!("{person} saw {place}.")})));
    let mut train = bench.outcrop();
    train
        .args(["tokenizer", "train", "--vocab-size", "300", "--output", "small.json", "train.jsonl"])
        .assert()
        .success();
    let mut init = bench.outcrop();
    init.args(["models", "init", "foreign", "--config", "config.json", "--tokenizer", "small.json"]).assert().success();
    let suites = ["--suite", "classification.jsonl", "exact.jsonl", "pairs.jsonl", "--general", "prose.jsonl"];
    let base = ["--base", "base", "--model", "foreign", "--output", "out"];
    let text = success(&eval(&bench, &[&base[..], &suites].concat()));
    assert!(
        text.split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
            .contains("the models have different tokenizers: NLL per token and perplexity are left out"),
        "{text}"
    );
    let report = report(&bench, "out");
    let kinds = |suite: &Value| -> Vec<String> {
        let measures = suite["measures"].as_array().unwrap();
        measures.iter().map(|measure| measure["kind"].as_str().unwrap().to_owned()).collect()
    };
    let (task, general) = (&report["task"], &report["general"][0]);
    assert_eq!(kinds(&task[0]), ["accuracy", "bits_per_byte", "macro_f1"]);
    assert!(kinds(&task[1]).contains(&"exact_match".to_owned()) && !kinds(&task[1]).contains(&"nll_per_token".into()));
    assert_eq!((kinds(&task[2]), kinds(general)), (vec!["bits_per_byte".to_owned()], vec!["bits_per_byte".to_owned()]));
    assert!(task[2]["measures"][0]["per_item"]["interval"].is_object() && general["tokenizers_differ"] == true);
    // each model's own sums, over its own tokens
    let items = report["suites"][2]["items"].as_array().unwrap();
    for side in ["base", "tuned"] {
        let sum = |member: &str| items.iter().map(|item| item[side][member].as_f64().unwrap()).sum::<f64>();
        let bits = sum("nll") / sum("bytes") / std::f64::consts::LN_2;
        assert!((bits - task[2]["measures"][0][side].as_f64().unwrap()).abs() < 1e-9, "{side}");
    }
    let margin = general["margin"].as_f64().unwrap();
    let items = report["suites"][3]["items"].as_array().unwrap();
    let sum = |member: &str| items.iter().map(|item| item["base"][member].as_f64().unwrap()).sum::<f64>();
    assert!((margin - 0.02 * sum("targets") / sum("bytes") / std::f64::consts::LN_2).abs() < 1e-9, "{margin}");
    let page = fs_err::read_to_string(bench.path("out/report.html")).unwrap();
    assert!(page.contains("bits per byte") && !page.contains("nats per token"), "R13");
}

#[test]
fn bad_suites_are_refused_in_one_line_with_file_and_line() {
    let bench = Bench::new();
    let pair = r#"{"prompt": "a", "completion": "b", "id": "1"}"#;
    let long = format!(r#"{{"prompt": "{}", "completion": "b"}}"#, "word ".repeat(300));
    for (content, expected) in [
        (String::new(), "the file is empty"),
        (r#"{"suite": "s", "kind": "exact"}"#.into(), "there is a header and no item; add the items, one a line"),
        (format!("{pair}\n{pair}"), "bad.jsonl:2:1: `id` is \"1\", which line 1 has already"),
        (r#"{"query": "q", "choices": ["a", "b"], "gold": 2}"#.into(), "bad.jsonl:1:1: `gold` is 2; it counts from 0"),
        (
            "{\"suite\": \"s\", \"kind\": \"exact\"}\n{\"prompt\": \"\", \"completion\": \"b\"}".into(),
            "bad.jsonl:2:1: `prompt` is blank",
        ),
        (
            "{\"suite\": \"s\", \"kind\": \"extraction\"}\n{\"prompt\": \"a\", \"completion\": \"b\"}".into(),
            "bad.jsonl:2:1: `completion` has no typed spans",
        ),
        (format!("{{\"suite\": \"s\", \"kind\": \"generate\"}}\n{long}"), "bad.jsonl:2: the item is "),
        (format!("{pair}\nnot json"), "bad.jsonl:2:"),
        (r#"{"suite": "s", "kind": "cloze", "max_tokens": 3}"#.into(), "bad.jsonl:1:1: `max_tokens` and `stop`"),
    ] {
        bench.write("bad.jsonl", &content);
        let output = eval(&bench, &["--base", "base", "--model", "base", "--suite", "bad.jsonl", "--general", "none"]);
        assert_eq!(output.status.code(), Some(1), "{content}");
        let error = error_of(&String::from_utf8(output.stderr).unwrap());
        assert!(error.contains(expected) && !error.contains('\n'), "`{error}` lacks `{expected}`");
    }
    // equal choices are named, and scored
    bench.write("twice.jsonl", r#"{"query": "q", "choices": ["a", "a"], "gold": 0}"#);
    let text =
        success(&eval(&bench, &["--base", "base", "--model", "base", "--suite", "twice.jsonl", "--general", "none"]));
    assert!(text.contains("note: line 1: choice `a` is given twice"), "{text}");
}
