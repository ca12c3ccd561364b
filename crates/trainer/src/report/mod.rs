//! The report of a comparison: `report.json` (everything, its members in docs/report.md), `report.md` (the verdict with
//! its tables) and `report.html` (a page that needs nothing else). Every form begins with the headline (R32). What the
//! numbers mean is decided in `outcrop-eval`; here they are only shown.

pub mod across;
mod curves;
mod facts;
mod json;
mod markdown;
mod page;
mod rows;
mod suites;

use crate::Result;
use outcrop_eval::{Comparison, Contamination, Scored};
use outcrop_job::{ModelRecord, Plan, Record, atomic};
use std::path::Path;

/// What a report tells beside the comparison.
#[derive(Debug, Clone, Copy, Default)]
pub struct Context<'a> {
    /// Name of what is judged, such as the job's.
    pub title: &'a str,
    /// Name of the untouched base.
    pub base: &'a str,
    /// Name of the tuned model.
    pub tuned: &'a str,
    /// Where the task suites come from, in words; may be empty.
    pub task_source: &'a str,
    /// What a reader should know before trusting the numbers, beside what the suites and the job say.
    pub warnings: &'a [String],
    /// Why the model failed its gate, where it did.
    pub gate: Option<&'a str>,
    /// What the task suites share with the training data, where these are known.
    pub contamination: &'a [Contamination],
    /// The job that made the model, where the report is of one.
    pub job: Option<JobPart<'a>>,
}

/// What a job's report tells of the job.
#[derive(Debug, Clone, Copy)]
pub struct JobPart<'a> {
    /// What ran.
    pub plan: &'a Plan,
    /// What happened.
    pub records: &'a [Record],
    /// What came of it.
    pub model: &'a ModelRecord,
}

impl<'a> Context<'a> {
    /// Of a job that has made its model.
    #[must_use]
    pub fn of_job(job: JobPart<'a>, task_source: &'a str) -> Self {
        let (title, base, tuned) = (&job.plan.job_name, &job.plan.base.identifier, &job.model.name);
        let gate = job.model.gate.as_deref();
        Self { title, base, tuned, task_source, warnings: &[], gate, contamination: &[], job: Some(job) }
    }
}

/// Writes `report.json`, `report.md` and `report.html` into `folder`, which is made where it is missing. `scored` are the
/// suites of `comparison` with their scores, the task suites first.
/// Errors: the disk; other suites than the comparison's.
pub fn write_report(folder: &Path, comparison: &Comparison, scored: &[Scored], context: &Context) -> Result<()> {
    let suites = suites::suites(comparison, scored)?;
    fs_err::create_dir_all(folder)?;
    let write = |name: &str, text: String| atomic::write_atomic(&folder.join(name), text.as_bytes());
    write("report.json", json::render(comparison, &suites, context)?)?;
    write("report.md", markdown::render(comparison, &suites, context))?;
    write("report.html", page::render(comparison, &suites, context)?)?;
    Ok(())
}

/// The members of a job's warnings: what the log warned of, then what the data say, each once, in order.
fn warnings(context: &Context) -> Vec<String> {
    let mut all = context.warnings.to_vec();
    if let Some(job) = &context.job {
        let logged = job.records.iter().filter_map(|record| match &record.event {
            outcrop_job::Event::Warning { message } => Some(message.clone()),
            _ => None,
        });
        let sets = std::iter::once(&job.plan.data.training).chain(&job.plan.data.validation);
        let notes = sets.flat_map(|set| set.notes.iter().map(move |note| format!("{}: {note}", set.location)));
        all.extend(logged.chain(notes));
    }
    let mut seen = std::collections::HashSet::new();
    all.retain(|warning| seen.insert(warning.clone()));
    all
}

#[cfg(test)]
mod tests;
