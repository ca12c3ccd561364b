//! The sweep as one HTML file that needs nothing else: pictures inline, no script, light or dark as its reader has it.

use super::report::{Balance, balance, planned, status, table};
use super::{Group, SweepOutcome};
use crate::Result;
use crate::pages::charts::{Axis, Cell, Series, heatmap, plot};
use crate::pages::render as render_page;
use minijinja::context;
use outcrop_eval::report;
use outcrop_job::sweep::TrialResult;
use outcrop_job::{Event, JobFolder, StringMap, atomic, timestamp};

const TEMPLATE: &str = include_str!("page.html");
/// Points of a training curve at most.
const CURVE_POINTS: usize = 160;

/// Writes `sweep.html`.
pub(crate) fn write(outcome: &SweepOutcome) -> Result<()> {
    fs_err::create_dir_all(&outcome.report)?;
    Ok(atomic::write_atomic(&outcome.report.join("sweep.html"), render(outcome)?.as_bytes())?)
}

fn render(outcome: &SweepOutcome) -> Result<String> {
    let plan = &outcome.plan;
    let (header, rows) = table(outcome);
    let winner = outcome.selection.as_ref().and_then(|s| outcome.results.iter().find(|r| r.trial == s.winner));
    let ended = outcome.results.iter().filter(|result| result.final_loss().is_some()).count();
    let reasons: Vec<_> = outcome.results.iter().filter_map(|r| Some((r.trial, r.reason.clone()?))).collect();
    let values = context! {
        name => &plan.name,
        id => &plan.sweep_id,
        created => timestamp::to_text(plan.created),
        trials => plan.trials.len(),
        ended => ended,
        selection => &plan.selection,
        test => &plan.test,
        saving => saving(outcome),
        winner => winner.map(|winner| context! {
            trial => winner.trial,
            settings => words(&planned(outcome, winner).settings),
            loss => winner.final_loss().map(|loss| format!("{loss:.4}")),
            model => &winner.model,
        }),
        headline => outcome.verdict.as_ref().map(|verdict| &verdict.headline),
        verdict => outcome.verdict.as_ref().map(report::text),
        heatmaps => heatmaps(outcome),
        colors => color_key(outcome),
        validation => validation_curves(outcome),
        training => training_curves(outcome),
        pareto => pareto(outcome),
        seeds => seed_spread(outcome),
        seed_deviation => outcome.selection.as_ref().and_then(|s| s.seed_deviation).map(|sd| format!("{sd:.4}")),
        header => header,
        rows => rows,
        reasons => reasons,
    };
    render_page("sweep.html", TEMPLATE, values)
}

/// What sharing saved, in a sentence.
pub(crate) fn saving(outcome: &SweepOutcome) -> String {
    let plan = &outcome.plan;
    let number = |epochs: f64| format!("{epochs:.2}").trim_end_matches('0').trim_end_matches('.').to_string();
    format!("{} epochs trained for {} trial-epochs", number(plan.trained_epochs), number(plan.trial_epochs))
}

/// `learningRate 1e-3, epochCount 2`
fn words(settings: &StringMap) -> String {
    settings.iter().map(|(key, value)| format!("{key} {value}")).collect::<Vec<_>>().join(", ")
}

/// What colours stand for: the learning rate where it varies, else the first key that does.
fn color_key(outcome: &SweepOutcome) -> Option<(String, Vec<String>)> {
    let varied = &outcome.plan.varied;
    let key = varied.iter().find(|varied| varied.key == "learningRate").or(varied.first())?;
    Some((key.key.clone(), key.values.clone()))
}

fn color(outcome: &SweepOutcome, settings: &StringMap) -> usize {
    let Some((key, values)) = color_key(outcome) else { return 0 };
    values.iter().position(|value| Some(value.as_str()) == settings.get(&key)).unwrap_or(0)
}

fn values(outcome: &SweepOutcome, key: &str) -> Vec<String> {
    let found = outcome.plan.varied.iter().find(|varied| varied.key == key);
    found.map_or_else(Vec::new, |varied| varied.values.clone())
}

/// A title and a picture.
type Picture = (String, String);

/// Learning rate by epochs, one picture for each combination of what else varies (seeds apart, which are averaged).
fn heatmaps(outcome: &SweepOutcome) -> Vec<Picture> {
    let Some(selection) = &outcome.selection else { return Vec::new() };
    let own = |key: &str| key == "learningRate" || key == "epochCount";
    let rest = |group: &Group| group.settings.iter().filter(|(key, _)| !own(key)).collect::<StringMap>();
    let mut others: Vec<StringMap> = Vec::new();
    for group in &selection.groups {
        if !others.contains(&rest(group)) {
            others.push(rest(group));
        }
    }
    let (rates, epochs) = (values(outcome, "learningRate"), values(outcome, "epochCount"));
    let or_all = |values: &[String]| if values.is_empty() { vec!["all".to_string()] } else { values.to_vec() };
    let picture = |other: StringMap| {
        let cell = |rate: &String, epoch: &String| {
            let is = |group: &&Group, key: &str, value: &String| group.settings.get(key).is_none_or(|own| own == value);
            let mut groups = selection.groups.iter().filter(|group| rest(group) == other);
            let group = groups.find(|group| is(group, "learningRate", rate) && is(group, "epochCount", epoch));
            let Some(group) = group else { return Cell { value: None, note: String::new(), selected: false } };
            let notes = group.trials.iter().filter_map(|number| outcome.results.iter().find(|r| r.trial == *number));
            let notes: Vec<String> = notes.map(|result| describe(outcome, result)).collect();
            Cell { value: group.mean, note: notes.join("\n"), selected: group.trials.contains(&selection.winner) }
        };
        let (rows, columns) = (or_all(&rates), or_all(&epochs));
        let cells: Vec<Vec<Cell>> =
            rows.iter().map(|rate| columns.iter().map(|epoch| cell(rate, epoch)).collect()).collect();
        let svg = heatmap("validation loss", &rows, &columns, ("learning rate", "epochs"), &cells);
        (words(&other), svg)
    };
    others.into_iter().map(picture).collect()
}

fn describe(outcome: &SweepOutcome, result: &TrialResult) -> String {
    let loss = result.final_loss().map_or_else(|| status(result), |loss| format!("validation loss {loss:.4}"));
    format!("trial {}: {}: {loss}", result.trial, words(&planned(outcome, result).settings))
}

fn epochs_of(outcome: &SweepOutcome, result: &TrialResult, step: u64) -> f64 {
    let trial = planned(outcome, result);
    step as f64 * trial.epochs / trial.steps.max(1) as f64
}

fn epoch_axis() -> Axis {
    Axis { name: "epochs", logarithmic: false, holds: Some(0.0), whole: true }
}

fn loss_axis(name: &'static str) -> Axis {
    Axis { name, logarithmic: true, holds: None, whole: false }
}

fn validation_curves(outcome: &SweepOutcome) -> String {
    let curve = |result: &TrialResult| Series {
        title: describe(outcome, result),
        color: color(outcome, &planned(outcome, result).settings),
        class: if outcome.selection.as_ref().is_some_and(|s| s.winner == result.trial) { "chosen" } else { "" },
        points: result.validation.iter().map(|loss| (epochs_of(outcome, result, loss.step), loss.loss)).collect(),
        joined: true,
        marked: true,
    };
    let series: Vec<Series> = outcome.results.iter().map(curve).collect();
    plot(
        "validation loss of every trial",
        &epoch_axis(),
        &loss_axis("validation loss, nats per target"),
        &series,
        300.0,
    )
}

/// Losses of the steps, each point the mean of some.
fn training_curves(outcome: &SweepOutcome) -> String {
    let curve = |result: &TrialResult| {
        let folder = result.job.as_ref().and_then(|job| JobFolder::open(job).ok());
        let records = folder.and_then(|folder| folder.read_events().ok()).unwrap_or_default();
        let steps = records.iter().filter_map(|record| match &record.event {
            Event::Step(step) => Some((epochs_of(outcome, result, step.step), step.loss)),
            _ => None,
        });
        let steps: Vec<(f64, f64)> = steps.collect();
        let window = steps.len().div_ceil(CURVE_POINTS).max(1);
        let middle = |chunk: &[(f64, f64)]| {
            let count = chunk.len() as f64;
            (
                chunk.iter().map(|point| point.0).sum::<f64>() / count,
                chunk.iter().map(|point| point.1).sum::<f64>() / count,
            )
        };
        Series {
            title: describe(outcome, result),
            color: color(outcome, &planned(outcome, result).settings),
            class: "thin",
            points: steps.chunks(window).map(middle).collect(),
            joined: true,
            marked: false,
        }
    };
    let series: Vec<Series> = outcome.results.iter().map(curve).collect();
    plot("training loss of every trial", &epoch_axis(), &loss_axis("training loss, nats per target"), &series, 300.0)
}

/// What was learnt against what was forgotten, and the trials that none other beats in both; None without general suites.
fn pareto(outcome: &SweepOutcome) -> Option<String> {
    let points: Vec<(&TrialResult, f64, f64)> = outcome
        .results
        .iter()
        .filter_map(|result| match balance(result)? {
            Balance { gain, general: Some(rise) } => Some((result, rise, gain)),
            Balance { general: None, .. } => None,
        })
        .collect();
    if points.is_empty() {
        return None;
    }
    let mut front = Vec::new();
    let mut sorted: Vec<(f64, f64)> = points.iter().map(|(_, rise, gain)| (*rise, *gain)).collect();
    sorted.sort_by(|one, other| one.0.total_cmp(&other.0).then(other.1.total_cmp(&one.1)));
    for (rise, gain) in sorted {
        if front.last().is_none_or(|(_, best)| gain > *best) {
            front.push((rise, gain));
        }
    }
    let line = Series {
        title: "none is better in both".into(),
        color: 0,
        class: "front",
        points: front,
        joined: true,
        marked: false,
    };
    let point = |(result, rise, gain): &(&TrialResult, f64, f64)| Series {
        title: format!("{}; general loss {rise:+.4}, gain {gain:+.4}", describe(outcome, result)),
        color: color(outcome, &planned(outcome, result).settings),
        class: if outcome.selection.as_ref().is_some_and(|s| s.winner == result.trial) { "chosen" } else { "" },
        points: vec![(*rise, *gain)],
        joined: false,
        marked: true,
    };
    let series: Vec<Series> = std::iter::once(line).chain(points.iter().map(point)).collect();
    let x_axis =
        Axis { name: "forgotten: rise of the general loss", logarithmic: false, holds: Some(0.0), whole: false };
    let y_axis = Axis { name: "learnt: fall of the validation loss", logarithmic: false, holds: None, whole: false };
    Some(plot("learnt against forgotten", &x_axis, &y_axis, &series, 320.0))
}

/// The settings with several seeds: each seed's loss, the mean, and the spread.
fn seed_spread(outcome: &SweepOutcome) -> Vec<(String, String, String, String)> {
    let Some(selection) = &outcome.selection else { return Vec::new() };
    let loss = |number: &usize| outcome.results.iter().find(|r| r.trial == *number).and_then(TrialResult::final_loss);
    let repeated = selection.groups.iter().filter(|group| group.trials.len() > 1);
    let row = |group: &Group| {
        let losses: Vec<f64> = group.trials.iter().filter_map(loss).collect();
        let (low, high) = losses.iter().fold((f64::INFINITY, 0f64), |(l, h), &x| (l.min(x), h.max(x)));
        let number = |value: Option<f64>| value.map_or("–".into(), |value| format!("{value:.4}"));
        let range = if losses.is_empty() { "–".into() } else { format!("{low:.4} to {high:.4}") };
        let settings = if group.settings.is_empty() { "all".into() } else { words(&group.settings) };
        (settings, number(group.mean), number(group.deviation), range)
    };
    repeated.map(row).collect()
}
