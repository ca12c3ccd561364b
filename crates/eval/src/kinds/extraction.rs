//! Typed spans, such as named entities, that an answer gives: how they are written, and the F1 over them.
//!
//! An answer is JSON, `{"person": ["Ada"], "place": "Turin"}` or `[{"type": "person", "value": "Ada"}]`, or lines of
//! `type: value`, with `none` alone where there is nothing to find. A span is right where its type and its value (single
//! spaces for any white space) are given; given twice it has to be right twice. An answer that is none of this gives no
//! span, so that all that it should have found counts as missed, and is counted as malformed.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::bootstrap::Tally;
use crate::comparison::Scored;
use crate::kinds::generated::{Reply, rates};
use crate::measures::{Evidence, Measure, MeasureKind, Paired};
use crate::metrics::f1::{COUNTS, macro_f1, micro_f1};
use crate::score::ItemScore;
use crate::suite::{Items, JudgedBy, PairItem};

/// Type and value.
pub(crate) type Span = (String, String);

/// The spans of an answer, sorted. Errors: what it is none of, in words.
pub(crate) fn spans(answer: &str) -> Result<Vec<Span>, String> {
    let answer = answer.trim();
    let mut spans = match answer.starts_with(['{', '[']) {
        true => match serde_json::from_str(answer).map_err(|error| format!("not JSON: {error}"))? {
            Value::Object(types) => of_object(&types)?,
            Value::Array(list) => list.iter().map(of_element).collect::<Result<_, _>>()?,
            _ => return Err("neither an object nor a list".into()),
        },
        false if answer == "none" => Vec::new(),
        false if answer.is_empty() => return Err("empty; write `none` where there is nothing to find".into()),
        false => answer.lines().filter(|line| !line.trim().is_empty()).map(of_line).collect::<Result<_, _>>()?,
    };
    spans.sort_unstable();
    Ok(spans)
}

fn span(kind: &str, value: &str) -> Result<Span, String> {
    let single = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (kind, value) = (single(kind), single(value));
    if kind.is_empty() || value.is_empty() {
        return Err("a span without type or value".into());
    }
    Ok((kind, value))
}

fn of_line(line: &str) -> Result<Span, String> {
    let (kind, value) =
        line.split_once(':').ok_or_else(|| format!("a line without `type: value`: `{}`", line.trim()))?;
    span(kind, value)
}

fn of_object(types: &Map<String, Value>) -> Result<Vec<Span>, String> {
    let mut spans = Vec::new();
    for (kind, values) in types {
        match values {
            Value::Null => {}
            Value::Array(values) => {
                for value in values {
                    spans.push(span(kind, &plain(value)?)?);
                }
            }
            value => spans.push(span(kind, &plain(value)?)?),
        }
    }
    Ok(spans)
}

fn of_element(element: &Value) -> Result<Span, String> {
    let missing = || "an element without `type` and `value`".to_owned();
    let members = element.as_object().ok_or_else(missing)?;
    let value = plain(members.get("value").ok_or_else(missing)?)?;
    span(members.get("type").and_then(Value::as_str).ok_or_else(missing)?, &value)
}

/// A value as text: an amount may be a number.
fn plain(value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(_) | Value::Bool(_) => Ok(value.to_string()),
        _ => Err("a value that is neither text nor number".into()),
    }
}

/// Counts of each type: given and right, given, right.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SpanMatch {
    counts: BTreeMap<String, [f64; COUNTS]>,
    /// Whether the answer could be read.
    pub(crate) well_formed: bool,
}

impl SpanMatch {
    pub(crate) fn of(item: &PairItem, reply: &Reply) -> Self {
        let right = spans(&item.completion).unwrap_or_default(); // a suite with others isn't loaded
        let given = spans(&reply.text);
        let mut counts: BTreeMap<String, [f64; COUNTS]> = BTreeMap::new();
        for (kind, _) in &right {
            counts.entry(kind.clone()).or_default()[2] += 1.0;
        }
        let mut left = right;
        for (kind, value) in given.iter().flatten() {
            let count = counts.entry(kind.clone()).or_default();
            count[1] += 1.0;
            if let Some(at) = left.iter().position(|span| (&span.0, &span.1) == (kind, value)) {
                left.swap_remove(at);
                count[0] += 1.0;
            }
        }
        Self { counts, well_formed: given.is_ok() }
    }

    /// The item's own F1, over all types.
    pub(crate) fn f1(&self) -> f64 {
        micro_f1(&self.counts.values().flatten().copied().collect::<Vec<_>>())
    }

    /// Whether all is found and nothing else given.
    pub(crate) fn whole(&self) -> bool {
        self.well_formed && self.counts.values().all(|[both, given, right]| both == given && both == right)
    }
}

fn matches(items: &[PairItem], paired: &Paired<'_>) -> Option<Vec<[SpanMatch; 2]>> {
    let of = |score: &ItemScore| Some(SpanMatch::of(items.get(score.item)?, score.reply.as_ref()?));
    paired.items().map(|(base, tuned)| Some([of(base)?, of(tuned)?])).collect()
}

/// The measures of typed spans, the micro F1, which decides, apart; `None` where an item has no answer.
pub(crate) fn measures(items: &[PairItem], paired: &Paired<'_>) -> Option<(Evidence, Vec<Measure>)> {
    let matches = matches(items, paired)?;
    let mut places: BTreeMap<&str, usize> = BTreeMap::new();
    for kind in matches.iter().flatten().flat_map(|found| found.counts.keys()) {
        let next = places.len();
        places.entry(kind).or_insert(next);
    }
    let width = COUNTS * places.len();
    let sums = matches.iter().map(|[base, tuned]| {
        let of = |first: usize, found: &SpanMatch| {
            let counts = found.counts.iter().flat_map(|(kind, counts)| {
                let place = first + COUNTS * places[kind.as_str()];
                (place..).zip(*counts)
            });
            counts.collect::<Vec<_>>()
        };
        [of(0, base), of(width, tuned)].concat()
    });
    let tally = Tally::new(2 * width, paired.clusters, sums);
    let own: Vec<(f64, f64)> = matches.iter().map(|[base, tuned]| (base.f1(), tuned.f1())).collect();
    let micro = paired.of_sums_and_items(MeasureKind::MicroF1, &tally, micro_f1, &own);
    let whole: Vec<(bool, bool)> = matches.iter().map(|[base, tuned]| (base.whole(), tuned.whole())).collect();
    let malformed: Vec<(bool, bool)> =
        matches.iter().map(|[base, tuned]| (!base.well_formed, !tuned.well_formed)).collect();
    let mut rest = vec![
        paired.of_sums(MeasureKind::MacroF1, &tally, macro_f1),
        paired.shares(MeasureKind::AllSpans, &whole)?.measure,
        paired.rate(MeasureKind::MalformedRate, &malformed),
    ];
    rest.extend(rates(paired)?);
    Some((micro, rest))
}

/// How many answers couldn't be read, where there are any.
pub(crate) fn malformed_note(items: &[PairItem], paired: &Paired<'_>) -> Option<String> {
    let matches = matches(items, paired)?;
    let count = |side: usize| matches.iter().filter(|sides| !sides[side].well_formed).count();
    let (base, tuned, all) = (count(0), count(1), matches.len());
    (base + tuned > 0).then(|| {
        format!(
            "malformed answers, which count as no span: {base} of {all} by the base, {tuned} of {all} by the tuned model"
        )
    })
}

/// A type under both models.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TypeScore {
    /// The type, as answers write it.
    #[serde(rename = "type")]
    pub kind: String,
    /// Spans of it that are right.
    pub spans: usize,
    /// Of the untouched base.
    pub base: TypeSide,
    /// Of the tuned model.
    pub tuned: TypeSide,
}

/// A type under one model.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct TypeSide {
    /// Spans given.
    pub given: usize,
    /// Given and right.
    pub right: usize,
    /// F1 of the type.
    pub f1: f64,
}

/// Every type that is right or given somewhere, sorted; `None` for other kinds of suites.
#[must_use]
pub fn type_scores(scored: &Scored) -> Option<Vec<TypeScore>> {
    let Items::Generated { items, judged: JudgedBy::Extraction, .. } = &scored.suite.items else { return None };
    let paired = Paired { base: &scored.base, tuned: &scored.tuned, clusters: &[], resamples: 0, seed: 0 };
    let mut types: BTreeMap<String, [[f64; COUNTS]; 2]> = BTreeMap::new();
    for sides in matches(items, &paired)? {
        for (side, found) in sides.iter().enumerate() {
            for (kind, counts) in &found.counts {
                let sums = &mut types.entry(kind.clone()).or_default()[side];
                sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
            }
        }
    }
    let side = |counts: &[f64; COUNTS]| TypeSide {
        given: counts[1] as usize,
        right: counts[0] as usize,
        f1: micro_f1(counts),
    };
    let score = |(kind, sides): (String, [[f64; COUNTS]; 2])| TypeScore {
        kind,
        spans: sides[0][2] as usize,
        base: side(&sides[0]),
        tuned: side(&sides[1]),
    };
    Some(types.into_iter().map(score).collect())
}

#[cfg(test)]
#[path = "extraction_tests.rs"]
mod tests;
