//! The page of the disk: what the home takes, what of it can go, and the button that lets it go. What is chosen is looked
//! at again before it goes, so that a page that was open for a day removes nothing that is needed meanwhile.

use minijinja::context;
use outcrop_job::describe::bytes;
use outcrop_job::prune::{self, Survey};

use super::{Answer, templates};
use crate::{ApiError, AppState};

pub(super) fn show(state: &AppState) -> Result<Answer, ApiError> {
    page(state, None)
}

/// The survey as a page; `told` is what has just been done.
fn page(state: &AppState, told: Option<String>) -> Result<Answer, ApiError> {
    let survey = prune::survey(state.home()).map_err(ApiError::internal)?;
    let Survey { removable, kept, usage } = &survey;
    let items = removable.iter().map(|item| {
        context! { path => &item.path, kind => item.kind.as_str(), size => bytes(item.bytes), why => &item.why }
    });
    let values = context! {
        used => bytes(survey.used()), reclaimable => bytes(survey.reclaimable()), told, kept,
        usage => usage.iter().map(|(name, size)| (*name, bytes(*size))).collect::<Vec<_>>(),
        items => items.collect::<Vec<_>>(),
    };
    let body = templates::render("disk.html", values)?;
    Ok(Answer::Page { section: "disk", title: "Disk".to_string(), body, live: None })
}

/// Removes what was chosen, and says what became of it.
pub(super) fn prune(state: &AppState, form: &[(String, String)]) -> Result<Answer, ApiError> {
    let chosen: Vec<String> = form.iter().filter(|(name, _)| name == "path").map(|(_, path)| path.clone()).collect();
    if chosen.is_empty() {
        return page(state, Some("Nothing was chosen, and nothing is gone.".to_string()));
    }
    let removed = prune::remove(state.home(), &chosen).map_err(ApiError::internal)?;
    let kept = match removed.passed_over.len() {
        0 => String::new(),
        number => format!(" {number} stayed: something needs them meanwhile, or they were gone."),
    };
    let told = format!("{} removed, {} free.{kept}", removed.items.len(), bytes(removed.bytes()));
    page(state, Some(told))
}
