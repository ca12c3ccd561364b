//! `report.html`: the verdict first, then the suites with their measures, what became of the items, the curves, the job.
//! No script, no network. Its size is bounded: long lists and long texts are cut, and the page says by how much.

use super::curves::Curves;
use super::facts::{facts, lineage, settings};
use super::rows::{Row, rows, tone};
use super::suites::SuiteItems;
use super::{Context, warnings};
use crate::Result;
use crate::pages::bars::Tone;
use crate::pages::render as render_page;
use minijinja::context;
use minijinja::value::Serde;
use outcrop_eval::items::{Change, Confusion, ItemResult, ModelResult};
use outcrop_eval::kinds::extraction::TypeScore;
use outcrop_eval::score::ReplyEnd;
use outcrop_eval::{Comparison, Contamination, report};
use outcrop_job::timestamp;
use serde::Serialize;

const TEMPLATE: &str = include_str!("page.html");
/// Items shown of each change of a suite.
const ITEMS: usize = 40;
/// Items shown at either end of a suite that has no right and wrong.
const ENDS: usize = 10;
/// Characters of a text.
const LENGTH: usize = 600;
/// Labels of a confusion matrix.
const LABELS: usize = 20;

#[derive(Serialize)]
struct SuiteView<'a> {
    list: &'a str,
    name: &'a str,
    hash: &'a str,
    path: &'a str,
    size: String,
    verdict: String,
    detail: String,
    tone: &'static str,
    rows: Vec<Row>,
    facts: Vec<String>,
    warnings: &'a [String],
    confusion: Option<ConfusionView>,
    types: Option<TypesView<'a>>,
    groups: Vec<Group>,
}

#[derive(Serialize)]
struct SharedView<'a> {
    name: &'a str,
    count: usize,
    items: usize,
    /// Item and training record, the first [`ITEMS`].
    places: Vec<(&'a str, &'a str)>,
    rows: Vec<Row>,
}

#[derive(Serialize)]
struct ConfusionView {
    labels: Vec<String>,
    /// Base, then tuned: its name, and a row for each right label.
    sides: Vec<(&'static str, Vec<Vec<Count>>)>,
    left_out: usize,
}

/// Types of spans.
#[derive(Serialize)]
struct TypesView<'a> {
    rows: Vec<TypeRow<'a>>,
    left_out: usize,
    /// Types that are only given, and spans of them by the base and by the tuned model.
    unknown: Option<(usize, [usize; 2])>,
}

#[derive(Serialize)]
struct TypeRow<'a> {
    name: &'a str,
    spans: usize,
    /// Of the base, then of the tuned model.
    f1: [String; 2],
    given: [usize; 2],
}

#[derive(Serialize)]
struct Count {
    count: usize,
    /// Percent of the row's items.
    share: usize,
    right: bool,
}

#[derive(Serialize)]
struct Group {
    title: &'static str,
    tone: &'static str,
    total: usize,
    items: Vec<ItemView>,
}

#[derive(Serialize)]
struct ItemView {
    place: String,
    prompt: Option<String>,
    expected: Option<String>,
    /// Base, then tuned.
    sides: [SideView; 2],
}

/// What a model makes of an item.
#[derive(Serialize)]
struct SideView {
    /// None where it answers nothing.
    answer: Option<String>,
    right: Option<bool>,
    /// Whether the answer is a text that the model wrote.
    generated: bool,
    /// Numbers of it, in words.
    detail: String,
}

pub(super) fn render(comparison: &Comparison, suites: &[SuiteItems], context: &Context) -> Result<String> {
    let views: Vec<SuiteView> = suites.iter().map(view).collect();
    let curves = context.job.map(|job| Curves::of(job.records));
    let values = context! {
        headline => arrows(&comparison.headline),
        parts => headline_parts(&comparison.headline),
        title => context.title,
        base => context.base,
        tuned => context.tuned,
        task_source => context.task_source,
        gate => context.gate,
        created => context.job.map(|job| minute(&timestamp::to_text(job.model.created))),
        suites => Serde(&views),
        contamination => Serde(context.contamination.iter().map(shared_view).collect::<Vec<_>>()),
        method => report::method(comparison),
        legend => curves.as_ref().map(Curves::legend),
        losses => curves.as_ref().map(Curves::losses),
        pictures => Serde(curves.as_ref().map(Curves::forgetting).unwrap_or_default()),
        facts => context.job.as_ref().map(facts),
        settings => context.job.map(settings),
        lineage => context.job.map(lineage),
        warnings => warnings(context),
        length => LENGTH,
    };
    render_page("report.html", TEMPLATE, values)
}

/// The parts of a headline, which semicolons divide; the first weighs most.
fn headline_parts(headline: &str) -> Vec<String> {
    arrows(headline).split("; ").map(str::to_owned).collect()
}

/// `2026-11-26T18:49:05.895Z` as `2026-11-26 18:49 UTC`.
fn minute(time: &str) -> String {
    format!("{} UTC", time.chars().take(16).collect::<String>().replace('T', " "))
}

fn arrows(text: &str) -> String {
    text.replace("->", "→")
}

fn view<'a>(suite: &'a SuiteItems) -> SuiteView<'a> {
    let compared = suite.compared;
    let words = report::verdict(compared);
    let (verdict, detail) = words.split_once(" (").unwrap_or((&words, ""));
    // the first fact is the verdict, the last are the warnings, which stand apart
    let mut facts = report::facts(compared);
    facts.truncate(facts.len() - compared.warnings.len());
    facts.remove(0);
    SuiteView {
        list: suite.list,
        name: suite.name,
        hash: suite.hash,
        path: &compared.path,
        size: report::size(compared),
        verdict: verdict.to_owned(),
        detail: detail.trim_end_matches(')').to_owned(),
        tone: tone(compared).class(),
        rows: rows(compared),
        facts,
        warnings: &compared.warnings,
        confusion: suite.confusion.as_ref().map(confusion_view),
        types: suite.types.as_deref().map(types_view),
        groups: groups(&suite.items),
    }
}

fn shared_view(suite: &Contamination) -> SharedView<'_> {
    SharedView {
        name: &suite.suite,
        count: suite.shared.len(),
        items: suite.items,
        places: suite.shared.iter().take(ITEMS).map(|item| (item.place.as_str(), item.training.as_str())).collect(),
        rows: suite.clean.as_ref().map(rows).unwrap_or_default(),
    }
}

/// The types with most spans, at most [`LABELS`] of them; those that are only given are counted.
fn types_view<'a>(types: &'a [TypeScore]) -> TypesView<'a> {
    let (mut kept, unknown): (Vec<&TypeScore>, Vec<&TypeScore>) = types.iter().partition(|found| found.spans > 0);
    let all = kept.len();
    kept.sort_by_key(|found| std::cmp::Reverse(found.spans));
    kept.truncate(LABELS);
    let row = |found: &'a TypeScore| TypeRow {
        name: &found.kind,
        spans: found.spans,
        f1: [found.base, found.tuned].map(|side| format!("{:.4}", side.f1)),
        given: [found.base.given, found.tuned.given],
    };
    let given = |of: fn(&TypeScore) -> usize| unknown.iter().map(|found| of(found)).sum::<usize>();
    let counts = [given(|found| found.base.given), given(|found| found.tuned.given)];
    TypesView {
        left_out: all - kept.len(),
        rows: kept.into_iter().map(row).collect(),
        unknown: (!unknown.is_empty()).then_some((unknown.len(), counts)),
    }
}

/// The labels with most items, at most [`LABELS`] of them.
fn confusion_view(confusion: &Confusion) -> ConfusionView {
    let total = |label: &usize| confusion.base[*label].iter().sum::<usize>();
    let mut kept: Vec<usize> = (0..confusion.labels.len()).collect();
    kept.sort_by_key(|label| std::cmp::Reverse(total(label)));
    kept.truncate(LABELS);
    kept.sort_unstable();
    let side = |counts: &Vec<Vec<usize>>| {
        let row = |&gold: &usize| {
            let count = |&answered: &usize| {
                let count = counts[gold][answered];
                Count { count, share: (100 * count).div_ceil(total(&gold).max(1)), right: gold == answered }
            };
            kept.iter().map(count).collect()
        };
        kept.iter().map(row).collect()
    };
    ConfusionView {
        labels: kept.iter().map(|label| clipped(&confusion.labels[*label], 24)).collect(),
        sides: vec![("base", side(&confusion.base)), ("tuned", side(&confusion.tuned))],
        left_out: confusion.labels.len() - kept.len(),
    }
}

/// Items by what became of them; where nothing is right or wrong, those whose NLL changed most.
fn groups(items: &[ItemResult]) -> Vec<Group> {
    let group = |title: &'static str, tone: Tone, total: usize, items: Vec<&ItemResult>| Group {
        title,
        tone: tone.class(),
        total,
        items: items.into_iter().map(item_view).collect(),
    };
    if items.iter().any(|item| item.change.is_some()) {
        let with = |change: Change| -> Vec<&ItemResult> { items.iter().filter(|i| i.change == Some(change)).collect() };
        let of = |title: &'static str, tone: Tone, change: Change| {
            let found = with(change);
            group(title, tone, found.len(), found.into_iter().take(ITEMS).collect())
        };
        return vec![
            of("broke: the base was right, the tuned model is wrong", Tone::Bad, Change::Broke),
            of("fixed: the base was wrong, the tuned model is right", Tone::Good, Change::Fixed),
            of("both wrong", Tone::Open, Change::BothWrong),
        ];
    }
    let mut sorted: Vec<&ItemResult> = items.iter().filter(|item| item.gain().is_finite()).collect();
    sorted.sort_by(|one, other| one.gain().total_cmp(&other.gain()));
    let worse: Vec<&ItemResult> = sorted.iter().copied().take_while(|item| item.gain() < 0.0).collect();
    let better: Vec<&ItemResult> = sorted.iter().rev().copied().take_while(|item| item.gain() > 0.0).collect();
    let ends = |items: &[&'_ ItemResult]| items.len().min(ENDS);
    let scored = items.iter().any(|item| item.base.score.is_some());
    let [bad, good] = match scored {
        true => [
            "further from the right answer than before, the largest change first",
            "nearer to the right answer than before, the largest change first",
        ],
        false => {
            ["less likely than before, the largest change first", "likelier than before, the largest change first"]
        }
    };
    vec![
        group(bad, Tone::Bad, worse.len(), worse[..ends(&worse)].to_vec()),
        group(good, Tone::Good, better.len(), better[..ends(&better)].to_vec()),
    ]
}

fn item_view(item: &ItemResult) -> ItemView {
    let side = |result: &ModelResult| SideView {
        answer: result.answer.as_deref().map(|answer| clipped(answer.trim(), LENGTH)),
        right: result.right,
        generated: result.end.is_some(),
        detail: detail(item, result),
    };
    ItemView {
        place: item.place.rsplit(['/', '\\']).next().unwrap_or_default().to_owned(),
        prompt: item.prompt.as_deref().map(|prompt| clipped(prompt, LENGTH)),
        expected: item.expected.as_deref().map(|expected| clipped(expected, LENGTH)),
        sides: [side(&item.base), side(&item.tuned)],
    }
}

/// Rank, own score, and how likely the right answer is.
fn detail(item: &ItemResult, result: &ModelResult) -> String {
    let mut parts: Vec<String> = result.rank.map(|rank| format!("rank {rank}")).into_iter().collect();
    if item.change.is_none() || result.right == Some(false) {
        parts.extend(result.score.filter(|score| *score > 0.0).map(|score| format!("score {score:.4}")));
    }
    parts.extend(result.end.filter(|end| *end != ReplyEnd::Stop).map(|_| "cut off".to_owned()));
    let nll = match item.tokenizers_differ {
        true => format!("{:.4} bits per byte", result.bits_per_byte()),
        false => format!("{:.4} nats per token", result.nll_per_token()),
    };
    parts.push(if item.expected.is_some() { format!("right answer {nll}") } else { nll });
    parts.join(", ")
}

/// At most so many characters, the last an ellipsis where there were more.
pub(super) fn clipped(text: &str, length: usize) -> String {
    match text.char_indices().nth(length) {
        None => text.to_owned(),
        Some(_) => text.chars().take(length - 1).chain(['…']).collect(),
    }
}
