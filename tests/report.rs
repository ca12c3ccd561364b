//! The report of a job and `outcrop compare` from outside: every form begins with the verdict, says the same, documents
//! itself, and stays bounded and whole whatever is in the data.
#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod common;

use common::{Bench, Run, records, repository};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;

/// Questions of two labels; prompt and labels would be markup if they weren't escaped.
fn labelled(number: usize) -> String {
    let line = |index: usize| {
        let label = if index.is_multiple_of(3) { "<b>yes" } else { "no & no" };
        format!(
            "{}\n",
            json!({"prompt": format!("Is <script>alert({index})</script> odd? \"{index}\""), "completion": label})
        )
    };
    (0..number).map(line).collect()
}

fn bench() -> Bench {
    let bench = Bench::new();
    bench.write("labels.jsonl", labelled(24));
    bench.write("prose.txt", "the river and the stone, the winter and the house\n".repeat(20));
    bench.write("validation.jsonl", records(4));
    bench
}

/// A job whose tasks are a classification and a set of pairs, with general texts.
fn job(bench: &Bench, name: &str, settings: &[(&str, &str)]) -> Run {
    let mut all = vec![("evaluationData", "labels.jsonl, validation.jsonl"), ("generalData", "prose.txt")];
    all.extend(settings);
    let mut request = bench.request(&all);
    request["jobName"] = json!(name);
    request["validationDataConfig"] = json!({"validators": [{"s3Uri": "validation.jsonl"}]});
    bench.run(&request).expect_success()
}

fn report(run: &Run, name: &str) -> String {
    fs_err::read_to_string(run.job().folder.join("report").join(name)).unwrap()
}

fn report_json(run: &Run) -> Value {
    serde_json::from_str(&report(run, "report.json")).unwrap()
}

/// Paths of all members: `measures[].base`.
fn paths(value: &Value, at: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            for (key, value) in members {
                let path = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
                found.insert(path.clone());
                paths(value, &path, found);
            }
        }
        Value::Array(elements) => elements.iter().for_each(|element| paths(element, &format!("{at}[]"), found)),
        _ => {}
    }
}

/// The table of docs/report.md that tells of a top-level member.
fn section<'a>(docs: &'a str, member: &str) -> &'a str {
    let heading = format!("`{member}`");
    let mut sections = docs.split("\n### ").skip(1);
    sections
        .find(|section| section.lines().next().unwrap().split(", ").any(|name| name == heading))
        .unwrap_or_else(|| panic!("docs/report.md has no section for {heading}"))
}

#[test]
fn every_member_of_a_report_is_documented() {
    let bench = bench();
    let spans = json!({"prompt": "Ada came", "completion": "person: Ada"});
    bench.write("spans.jsonl", format!("{}\n{spans}\n", json!({"suite": "s", "kind": "extraction", "max_tokens": 4})));
    let last = json!({"prompt": "Ada came", "completion": "home"});
    bench.write("cloze.jsonl", format!("{}\n{last}\n", json!({"suite": "c", "kind": "cloze"})));
    let all = [("evaluationData", "labels.jsonl, validation.jsonl, spans.jsonl, cloze.jsonl")];
    let whole = report_json(&job(&bench, "documented", &all));
    let docs = fs_err::read_to_string(repository().join("docs/report.md")).unwrap();
    let mut found = BTreeSet::new();
    paths(&whole, "", &mut found);
    assert!(found.len() > 150, "{}", found.len());
    let undocumented: Vec<&String> = found
        .iter()
        .filter(|path| {
            let end = path.find(['.', '[']).unwrap_or(path.len());
            let (member, rest) = path.split_at(end);
            let rest = rest.strip_prefix("[].").or(rest.strip_prefix('.')).unwrap_or(rest);
            let section = section(&docs, member);
            // the elements of `suites` are written `[].name`
            let names = [rest.to_string(), format!("[].{rest}")];
            let family = rest.rsplit_once('.').map(|(family, _)| format!("`{family}.*`"));
            !rest.is_empty()
                && !names.iter().any(|name| section.contains(&format!("`{name}`")))
                && !family.is_some_and(|family| section.contains(&family))
        })
        .collect();
    assert!(undocumented.is_empty(), "not in docs/report.md: {undocumented:?}");
}

#[test]
fn r32_every_form_begins_with_the_verdict() {
    let bench = bench();
    let run = job(&bench, "verdict", &[]);
    let whole = report_json(&run);
    let headline = whole["headline"].as_str().unwrap();
    assert!(report(&run, "report.json").starts_with(&format!("{{\n  \"headline\": {}", whole["headline"])));
    assert!(report(&run, "report.md").lines().next().unwrap().replace('\\', "").starts_with(headline));
    let page = report(&run, "report.html").replace("&#x2f;", "/");
    let (_, body) = page.split_once("<body>").unwrap();
    let first = headline.split("; ").next().unwrap().replace("->", "→");
    assert!(body.trim_start().starts_with(&format!("<h1><span>{first};</span>")), "{}", &body[..400]);
    assert!(run.stdout().contains("report.html"), "{}", run.stdout());
}

#[test]
fn r24_the_plans_error_is_recorded_and_shown() {
    let bench = bench();
    let run = job(&bench, "planned", &[]);
    let error = &report_json(&run)["plan_error"];
    let number = |name: &str| error[name].as_f64().unwrap();
    let seconds: f64 = run.job().steps("seconds").iter().sum();
    assert!((number("seconds") - seconds).abs() < 1e-9 && number("secondsRatio") > 0.0, "{error}");
    let most = run.job().steps("memory_bytes").into_iter().fold(0.0, f64::max);
    assert_eq!((number("memoryBytes"), number("memoryRatio")), (most, most / number("plannedMemoryBytes")));
    let shown = bench.outcrop().args(["jobs", "show", run.id()]).output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert_eq!(shown.matches("against the plan: ").count(), 2, "{shown}");
    assert!(report(&run, "report.html").contains("time against plan"));
    let ends = [("earlyStoppingPatience", "1"), ("earlyStoppingThreshold", "0.1"), ("epochCount", "6")];
    let ends = [&ends[..], &[("learningRate", "0.000001")]].concat();
    let stopped = job(&bench, "stopped", &ends);
    assert!(!stopped.job().events_of("stopped_early").is_empty() && report_json(&stopped)["plan_error"].is_null());
}

#[test]
fn items_and_their_counts_agree_in_every_form() {
    let bench = bench();
    let run = job(&bench, "items", &[]);
    let whole = report_json(&run);
    let changes = &whole["task"][0]["measures"][0]["changes"];
    let items = whole["suites"][0]["items"].as_array().unwrap();
    assert_eq!((whole["suites"][0]["name"].as_str(), items.len()), (whole["task"][0]["name"].as_str(), 24));
    let count = |change: &str| items.iter().filter(|item| item["change"] == change).count();
    assert_eq!((json!(count("fixed")), json!(count("broke"))), (changes["fixed"].clone(), changes["broke"].clone()));
    let right = |model: &str| items.iter().filter(|item| item[model]["right"] == true).count() as f64 / 24.0;
    for model in ["base", "tuned"] {
        assert_eq!(json!(right(model)), whole["task"][0]["measures"][0][model], "{model}'s accuracy");
        let confusion = &whole["suites"][0]["confusion"];
        let diagonal = confusion[model][0][0].as_f64().unwrap() + confusion[model][1][1].as_f64().unwrap();
        assert!((diagonal / 24.0 - right(model)).abs() < 1e-12);
    }
    let nll = items.iter().map(|item| item["tuned"]["nll"].as_f64().unwrap()).sum::<f64>()
        / items.iter().map(|item| item["tuned"]["targets"].as_f64().unwrap()).sum::<f64>();
    assert!((nll - whole["task"][0]["measures"][1]["tuned"].as_f64().unwrap()).abs() < 1e-9);
    let (page, markdown) = (report(&run, "report.html"), report(&run, "report.md"));
    for change in ["fixed", "broke"].into_iter().filter(|change| count(change) > 0) {
        assert!(page.contains(&format!(">{}</b> {change}", count(change))), "{change}");
        assert!(
            markdown.contains(&format!(": {change}, {} of {}\n", count(change).min(10), count(change))),
            "{change}"
        );
    }
    assert_eq!(whole["curves"]["training"].as_array().unwrap().len(), 6);
    assert_eq!(whole["curves"]["validation"][0]["losses"].as_array().unwrap().len(), 3);
    assert_eq!(whole["model"]["comparison"], Value::Null);
}

#[test]
fn what_stands_in_data_is_text_in_the_page_and_nothing_comes_from_elsewhere() {
    let bench = bench();
    let run = job(&bench, "escaped", &[]);
    let page = report(&run, "report.html");
    assert!(page.contains("&lt;script&gt;alert(") && page.contains("no &amp; no"), "prompt and label");
    assert!(!page.contains("<script") && !page.contains("<b>yes"));
    for outside in ["http:", "https:", "url(", "src=", "@import", "<link"] {
        assert!(!page.contains(outside), "{outside}");
    }
    for tag in ["section", "table", "details", "svg", "div", "tr", "td", "dl", "ul", "p", "span", "a"] {
        let opened = page.matches(&format!("<{tag}>")).count() + page.matches(&format!("<{tag} ")).count();
        assert_eq!(opened, page.matches(&format!("</{tag}>")).count(), "<{tag}>");
    }
}

#[test]
fn a_page_stays_small_and_says_what_it_leaves_out() {
    let bench = Bench::new();
    let line = |index: usize| {
        let label = ["yes", "no"][index % 2];
        format!("{}\n", json!({"prompt": format!("{index} {}", "long ".repeat(15)), "completion": label}))
    };
    bench.write("labels.jsonl", (0..300).map(line).collect::<String>());
    let run = bench.completed(&[("evaluationData", "labels.jsonl"), ("maxSteps", "1"), ("learningRate", "1e-6")]);
    let page = report(&run, "report.html");
    let whole = report_json(&run);
    assert_eq!(whole["suites"][0]["items"].as_array().unwrap().len(), 300);
    let both_wrong =
        whole["suites"][0]["items"].as_array().unwrap().iter().filter(|item| item["change"] == "both_wrong");
    let both_wrong = both_wrong.count();
    assert!(both_wrong > 40, "{both_wrong}");
    assert!(page.contains(&format!("40 of {both_wrong} are shown; report.json has all.")));
    assert!(page.matches(r#"<div class="item">"#).count() <= 3 * 40);
    assert!(page.len() < 200_000, "{}", page.len());
}

#[test]
fn a_job_without_suites_has_a_report_too() {
    let bench = Bench::new();
    let run = bench.completed(&[]);
    let page = report(&run, "report.html");
    assert!(page.contains("No suite was scored") && page.contains("loss over the steps"));
    assert_eq!(report_json(&run)["suites"], json!([]));
    assert!(Path::new(&run.job().folder).join("report/loss.svg").is_file());
}

/// `outcrop compare` with these arguments.
fn compare(bench: &Bench, arguments: &[&str]) -> std::process::Output {
    bench.outcrop().arg("compare").args(arguments).output().unwrap()
}

#[test]
fn jobs_side_by_side_show_what_differs_and_each_verdict() {
    let bench = bench();
    let slow = job(&bench, "slow", &[("learningRate", "1e-4")]);
    let fast = job(&bench, "fast", &[("learningRate", "0.05"), ("epochCount", "3")]);
    let output = compare(&bench, &[slow.id(), "fast", "--output", "both"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let (slow_report, fast_report) = (report_json(&slow), report_json(&fast));
    let mut lines = text.lines();
    assert_eq!(lines.next().unwrap(), format!("slow: {}", slow_report["headline"].as_str().unwrap()));
    assert_eq!(lines.next().unwrap(), format!("fast: {}", fast_report["headline"].as_str().unwrap()));
    assert_eq!(lines.nth(1).unwrap().split_whitespace().collect::<Vec<_>>(), ["job", "epochCount", "learningRate"]);
    assert_eq!(lines.next().unwrap().split_whitespace().collect::<Vec<_>>(), ["slow", "2", "0.0001"]);
    let measure = &fast_report["general"][0]["measures"][0];
    let (_, table) = text.split_once("prose, NLL per token\n").unwrap();
    let row: Vec<&str> = table.lines().nth(2).unwrap().split_whitespace().collect();
    let number = |name: &str| format!("{:.4}", measure[name].as_f64().unwrap());
    assert_eq!(row[..3], ["fast", &number("base"), &number("tuned")]);
    let page = fs_err::read_to_string(bench.path("both/compare.html")).unwrap().replace("&#x2f;", "/");
    let (_, body) = page.split_once("<body>").unwrap();
    let first = body.find(&slow_report["headline"].as_str().unwrap().replace("->", "→")).unwrap();
    assert!(first < 400, "the verdicts come first: {first}");
    assert!(page.contains("training loss of the jobs") && page.contains("validation loss of the jobs"));
    assert_eq!(page.matches("<title>fast: training loss</title>").count(), 1);
    for outside in ["http:", "https:", "url(", "src=", "@import", "<link", "<script"] {
        assert!(!page.contains(outside), "{outside}");
    }
}

#[test]
fn jobs_of_the_same_settings_and_one_without_verdict() {
    let bench = bench();
    let one = job(&bench, "twin", &[]);
    let other = job(&bench, "twin", &[]);
    let output = compare(&bench, &[one.id(), other.id()]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("the jobs have the same base, data and settings"), "{text}");
    assert!(text.starts_with(&format!("twin ({}): ", one.id())), "{text}");
    // the log of a job that was killed ends before the comparison
    let events = other.job().folder.join("events.jsonl");
    let log = fs_err::read_to_string(&events).unwrap();
    let before: String =
        log.lines().take_while(|line| !line.contains("\"comparison\"")).map(|l| format!("{l}\n")).collect();
    fs_err::write(&events, before).unwrap();
    let text = String::from_utf8(compare(&bench, &[one.id(), other.id()]).stdout).unwrap();
    assert!(text.contains(&format!("twin ({}): no verdict: InProgress\n", other.id())), "{text}");
}

#[test]
fn what_cannot_be_compared_is_refused_in_one_line() {
    let bench = bench();
    let one = job(&bench, "one", &[]);
    let folder = one.job().folder;
    let error = |arguments: &[&str]| {
        let output = compare(&bench, arguments);
        assert_eq!(output.status.code(), Some(1));
        common::error_of(&String::from_utf8(output.stderr).unwrap())
    };
    let unknown = error(&["one", "two"]);
    assert_eq!(unknown, "no job has the id, the name or the folder `two`; `outcrop jobs list` shows them");
    let twice = error(&["one", &folder.display().to_string()]);
    assert!(twice.contains("is given twice; name different jobs"), "{twice}");
    let ambiguous = job(&bench, "one", &[]);
    let error = error(&["one", ambiguous.id()]);
    assert!(error.starts_with("2 jobs are named `one`; give an id: ") && error.contains(one.id()), "{error}");
    assert_eq!(compare(&bench, &["one"]).status.code(), Some(2), "one job is nothing to compare");
}
