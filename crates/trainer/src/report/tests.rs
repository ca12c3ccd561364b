//! Tests of a report that is of no job, as an evaluation of finished models writes it. Jobs' are in tests/report.rs.

use super::*;
use outcrop_data::Fullness;
use outcrop_eval::score::{Answer, ItemScore};
use outcrop_eval::{CompareOptions, Scores, Suite, compare};

/// A suite of two labels that its name keeps apart, and scores that answer `yes` to every item or what is right.
fn scored(name: &str, length: usize) -> Scored {
    let line = |index: usize| {
        let label = ["no", "yes"][index % 2];
        format!("{{\"prompt\": \"{name} {index}\", \"completion\": \"{label}\"}}\n")
    };
    let text: String = (0..length).map(line).collect();
    let suite = Suite::from_bytes(Path::new(&format!("{name}.jsonl")), text.as_bytes()).unwrap();
    let scores = |right: bool| Scores {
        suite_hash: suite.hash.clone(),
        tokenizer_hash: "t".into(),
        context: 64,
        items: (0..length).map(|item| score(item, if right { item % 2 } else { 1 })).collect(),
        lost_targets: 0,
        packing: Fullness::default(),
    };
    Scored { base: scores(false), tuned: scores(true), suite }
}

fn score(item: usize, choice: usize) -> ItemScore {
    let candidates: Vec<f64> = (0..2).map(|label| if label == choice { 1.0 } else { 3.0 }).collect();
    let nll = candidates[item % 2];
    let answer =
        Answer { candidates, choice, right: choice == item % 2, right_per_character: None, right_per_byte: None };
    ItemScore { item, nll, targets: 2, bytes: 4.0, answer: Some(answer), ..ItemScore::default() }
}

#[test]
fn r32_a_report_of_no_job_has_the_three_files_and_what_it_was_told() {
    let suites = [scored("mood", 40), scored("general", 20)];
    let comparison = compare(&suites[..1], &suites[1..], &CompareOptions::default()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("new/report");
    let warnings = ["the <b>base</b> moved".to_string()];
    let context =
        Context { title: "two models", base: "pebble", tuned: "mine", warnings: &warnings, ..Context::default() };
    write_report(&folder, &comparison, &suites, &context).unwrap();
    let read = |name: &str| fs_err::read_to_string(folder.join(name)).unwrap();
    let json: serde_json::Value = serde_json::from_str(&read("report.json")).unwrap();
    assert_eq!(json["headline"], comparison.headline.as_str());
    assert_eq!(
        (json["suites"][0]["list"].as_str(), json["suites"][1]["list"].as_str()),
        (Some("task"), Some("general"))
    );
    assert_eq!(json["suites"][0]["confusion"]["base"], serde_json::json!([[0, 20], [0, 20]]));
    assert_eq!(json["suites"][0]["confusion"]["tuned"], serde_json::json!([[20, 0], [0, 20]]));
    for absent in ["plan", "curves", "model"] {
        assert!(json[absent].is_null(), "{absent}");
    }
    let page = read("report.html");
    assert!(page.contains("two models: mine against its untouched base pebble</p>"), "{page}");
    assert!(page.contains("the &lt;b&gt;base&lt;&#x2f;b&gt; moved") && !page.contains("Lineage"));
    assert!(page.contains(r#"<b class="good">20</b> fixed"#), "half of 40 items");
    assert!(read("report.md").contains("the \\<b\\>base\\</b\\> moved"), "{}", read("report.md"));
}

#[test]
fn scores_of_other_suites_than_were_compared_are_refused() {
    let suites = [scored("mood", 40), scored("general", 20)];
    let comparison = compare(&suites[..1], &suites[1..], &CompareOptions::default()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let [mood, general] = suites;
    let error = write_report(folder.path(), &comparison, &[general, mood], &Context::default()).unwrap_err();
    assert!(error.to_string().contains("the scores of every suite that was compared, in order"), "{error}");
    assert_eq!(fs_err::read_dir(folder.path()).unwrap().count(), 0, "nothing half written");
}
