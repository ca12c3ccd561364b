//! A sweep in rows: the table of the terminal and the page, and `sweep.csv`. One row a trial.

use super::SweepOutcome;
use crate::Result;
use outcrop_eval::measures::MeasureKind;
use outcrop_eval::statistics::mean;
use outcrop_job::atomic;
use outcrop_job::sweep::{Change, TrialPlan, TrialResult};

/// What a trial gained and what it cost, in nats per token.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Balance {
    /// Fall of the selecting set's loss against the untouched base.
    pub(crate) gain: f64,
    /// Rise of the NLL on the general texts, their mean, or where there are none on all general suites: what a model
    /// gives to the choices of a question depends more on their form. None without general suites.
    pub(crate) general: Option<f64>,
}

/// None where the trial has no end.
pub(crate) fn balance(result: &TrialResult) -> Option<Balance> {
    let end = result.final_loss()?;
    let begin = result.validation.first().filter(|first| first.step == 0)?.loss;
    let texts = result.general.iter().any(|change| change.measure == MeasureKind::NllPerToken.name());
    let counts = |change: &&Change| !texts || change.measure == MeasureKind::NllPerToken.name();
    let rises = result.general.iter().filter(counts).map(|change| change.nll_rise);
    let rises: Vec<f64> = rises.filter(|rise| rise.is_finite()).collect();
    Some(Balance { gain: begin - end, general: (!rises.is_empty()).then(|| mean(&rises)) })
}

/// The plan of a result's trial.
pub(crate) fn planned<'a>(outcome: &'a SweepOutcome, result: &TrialResult) -> &'a TrialPlan {
    &outcome.plan.trials[result.trial - 1]
}

/// Header and rows for people, the best validation loss first; trials without an end come last.
pub fn table(outcome: &SweepOutcome) -> (Vec<String>, Vec<Vec<String>>) {
    let varied: Vec<&str> = outcome.plan.varied.iter().map(|varied| varied.key.as_str()).collect();
    let mut header = vec!["trial".to_string()];
    header.extend(varied.iter().map(ToString::to_string));
    header.extend(["validation loss", "gain", "general loss", "status"].map(String::from));
    let mut results: Vec<&TrialResult> = outcome.results.iter().collect();
    let key = |result: &TrialResult| result.final_loss().unwrap_or(f64::INFINITY);
    results.sort_by(|one, other| key(one).total_cmp(&key(other)).then(one.trial.cmp(&other.trial)));
    let rows = results.into_iter().map(|result| {
        let settings = &planned(outcome, result).settings;
        let mut row = vec![result.trial.to_string()];
        row.extend(varied.iter().map(|key| settings.get(key).unwrap_or_default().to_string()));
        let balance = balance(result);
        row.push(result.final_loss().map_or("-".into(), |loss| format!("{loss:.4}")));
        row.push(balance.map_or("-".into(), |balance| format!("{:+.4}", balance.gain)));
        row.push(balance.and_then(|balance| balance.general).map_or("-".into(), |rise| format!("{rise:+.4}")));
        let chosen = outcome.selection.as_ref().is_some_and(|selection| selection.winner == result.trial);
        row.push(if chosen { "selected".into() } else { status(result) });
        row
    });
    (header, rows.collect())
}

/// The status, with the step where it isn't the end.
pub(crate) fn status(result: &TrialResult) -> String {
    match result.status {
        outcrop_job::sweep::TrialStatus::Completed => "completed".into(),
        status => format!("{} at step {}", status.as_str().trim_end_matches(" early"), result.steps),
    }
}

/// Writes `sweep.csv`.
pub(crate) fn write(outcome: &SweepOutcome) -> Result<()> {
    fs_err::create_dir_all(&outcome.report)?;
    Ok(atomic::write_atomic(&outcome.report.join("sweep.csv"), csv(outcome).as_bytes())?)
}

/// A header and a line a trial, by number. Numbers have every digit.
fn csv(outcome: &SweepOutcome) -> String {
    let varied: Vec<&str> = outcome.plan.varied.iter().map(|varied| varied.key.as_str()).collect();
    let mut suites: Vec<&str> = Vec::new();
    for change in outcome.results.iter().flat_map(|result| result.task.iter().chain(&result.general)) {
        if !suites.contains(&change.suite.as_str()) {
            suites.push(&change.suite);
        }
    }
    let mut header: Vec<String> = vec!["trial".into()];
    header.extend(varied.iter().map(ToString::to_string));
    let fixed =
        ["status", "selected", "steps", "epochs", "validationLoss", "validationGain", "generalRise", "trainingLoss"];
    header.extend(fixed.map(String::from));
    for suite in &suites {
        header.extend(["measure", "base", "tuned", "nllRise"].map(|name| format!("{suite} {name}")));
    }
    header.extend(["seconds", "jobId", "model", "deltaHash", "reason"].map(String::from));
    let mut text = line(&header);
    for result in &outcome.results {
        let trial = planned(outcome, result);
        let mut row = vec![result.trial.to_string()];
        row.extend(varied.iter().map(|key| trial.settings.get(key).unwrap_or_default().to_string()));
        row.push(result.status.as_str().into());
        let chosen = outcome.selection.as_ref().is_some_and(|selection| selection.winner == result.trial);
        row.push(chosen.to_string());
        row.extend([result.steps.to_string(), trial.epochs.to_string()]);
        let balance = balance(result);
        row.push(number(result.final_loss()));
        row.push(number(balance.map(|balance| balance.gain)));
        row.push(number(balance.and_then(|balance| balance.general)));
        row.push(number(Some(result.training_loss)));
        for suite in &suites {
            let change = result.task.iter().chain(&result.general).find(|change| change.suite == *suite);
            row.push(change.map(|change| change.measure.clone()).unwrap_or_default());
            row.extend([change.map(|c| c.base), change.map(|c| c.tuned), change.map(|c| c.nll_rise)].map(number));
        }
        row.extend([number(Some(result.seconds)), trial.job_id.clone(), result.model.clone().unwrap_or_default()]);
        row.extend([result.delta_hash.clone().unwrap_or_default(), result.reason.clone().unwrap_or_default()]);
        text.push_str(&line(&row));
    }
    text
}

/// Empty where there is none.
fn number(value: Option<f64>) -> String {
    value.filter(|value| value.is_finite()).map_or(String::new(), |value| value.to_string())
}

/// A line of RFC 4180.
fn line(fields: &[String]) -> String {
    let quoted = |field: &String| match field.contains(['"', ',', '\n', '\r']) {
        true => format!("\"{}\"", field.replace('"', "\"\"")),
        false => field.clone(),
    };
    fields.iter().map(quoted).collect::<Vec<_>>().join(",") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_with_commas_are_quoted_and_missing_numbers_empty() {
        assert_eq!(line(&["a,b".into(), "say \"x\"".into(), "c".into()]), "\"a,b\",\"say \"\"x\"\"\",c\n");
        assert_eq!([number(None), number(Some(f64::NAN)), number(Some(0.1))], ["", "", "0.1"]);
    }
}
