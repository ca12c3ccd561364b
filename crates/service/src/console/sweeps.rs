//! The page of sweeps: how far each is, and the page that a finished one has, with its pictures.

use minijinja::{Value, context};
use outcrop_job::sweep::{SweepFolder, TrialStatus};

use super::{Answer, file_of_home, templates, time};
use crate::{ApiError, AppState};

pub(super) fn list(state: &AppState) -> Result<Answer, ApiError> {
    let mut rows = Vec::new();
    for id in SweepFolder::list(state.home()).map_err(ApiError::internal)? {
        if let Some(sweep) = row(state, &id)? {
            rows.push(sweep);
        }
    }
    rows.sort_by_key(|row| std::cmp::Reverse(row.0));
    let rows: Vec<Value> = rows.into_iter().map(|(_, row)| row).collect();
    let body = templates::render("sweeps.html", context! { rows })?;
    Ok(Answer::Page { section: "sweeps", title: "Sweeps".to_string(), body, live: None })
}

/// When a sweep was made, and its values; None before its plan stands.
fn row(state: &AppState, id: &str) -> Result<Option<(jiff::Timestamp, Value)>, ApiError> {
    let sweep = SweepFolder::open(state.home(), id).map_err(ApiError::internal)?;
    if !sweep.plan_path().exists() {
        return Ok(None);
    }
    let plan = sweep.read_plan().map_err(ApiError::internal)?;
    let results = sweep.read_results().map_err(ApiError::internal)?;
    let count = |status| results.iter().filter(|result| result.status == status).count();
    let (word, tone) = match results.len() == plan.trials.len() {
        _ if sweep.is_locked().map_err(ApiError::internal)? => ("in progress", "busy"),
        true => ("completed", "good"),
        false => ("stopped: outcrop sweep --resume goes on", "open"),
    };
    let row = context! {
        id, name => plan.name, word, tone, selection => plan.selection,
        began => time(plan.created), done => results.len(), trials => plan.trials.len(),
        diverged => count(TrialStatus::Diverged), stopped => count(TrialStatus::Stopped),
        has_report => sweep.report_dir().join("sweep.html").is_file(),
    };
    Ok(Some((plan.created, row)))
}

/// The page of a sweep, as it was written.
pub(super) fn report(state: &AppState, id: &str) -> Result<Answer, ApiError> {
    let missing = || ApiError::not_found("The sweep has no page yet.");
    let sweep = SweepFolder::open(state.home(), id).map_err(|_| missing())?;
    let page = file_of_home(state, &sweep.report_dir().join("sweep.html"), &missing().message)?;
    Ok(Answer::Report(page))
}
