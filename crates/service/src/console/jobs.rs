//! The pages of jobs: the list, one job with its curves, its report, and the button that stops it.

use std::collections::BTreeMap;

use axum::body::Bytes;
use axum::http::{HeaderMap, Method};
use jiff::Timestamp;
use minijinja::context;
use outcrop_job::describe::{bytes, counted, describe, duration, plan};
use outcrop_job::event::Step;
use outcrop_job::{Aliases, Event, JobFolder, JobStatus, Plan, Record};
use outcrop_pages::charts::{Axis, Series, plot};

use super::live::{Parts, Subject};
use super::run::{Follower, Run};
use super::{Answer, file_of_home, templates, time};
use crate::call::{Call, Caller};
use crate::operations::jobs;
use crate::store::{JobRow, Phase};
use crate::{ApiError, AppState};

/// Points of a curve; of more steps each point is the mean of several.
const POINTS: usize = 300;
const HEIGHT: f64 = 240.0;

/// The job with this id. Errors: there is none.
fn find(state: &AppState, id: &str) -> Result<JobRow, ApiError> {
    state.sync()?;
    let found = state.store().read(|store| JobRow::find(store, id))?;
    found.ok_or_else(|| ApiError::not_found("There is no such job."))
}

fn follower(state: &AppState, job: &JobRow) -> Result<Follower, ApiError> {
    // Its folder may be gone: it then has no log.
    Ok(Follower::new(state.home().job_dir(&job.id)?.join("events.jsonl")))
}

/// A status in words, and its tone in the style.
fn status(job: &JobRow) -> (&'static str, &'static str) {
    match job.status {
        JobStatus::InProgress if job.phase == Phase::Waiting => ("waits for a slot", "open"),
        JobStatus::InProgress => ("in progress", "busy"),
        JobStatus::Stopping => ("stopping", "busy"),
        JobStatus::Completed => ("completed", "good"),
        JobStatus::Failed => ("failed", "bad"),
        JobStatus::Stopped => ("stopped", "open"),
    }
}

/// Whether a process is at it.
fn runs(job: &JobRow) -> bool {
    !job.status.is_final() && job.phase != Phase::Waiting
}

/// The list of jobs as it changes.
#[derive(Default)]
pub(super) struct Listing {
    followers: BTreeMap<String, Follower>,
}

impl Subject for Listing {
    fn look(&mut self, state: &AppState) -> Result<(Parts, bool), ApiError> {
        Ok((vec![("rows", self.rows(state)?)], false))
    }
}

impl Listing {
    fn rows(&mut self, state: &AppState) -> Result<String, ApiError> {
        state.sync()?;
        let mut jobs = state.store().read(JobRow::all)?;
        jobs.reverse();
        let models = state.models().list()?;
        let mut rows = Vec::new();
        for job in &jobs {
            let (word, tone) = status(job);
            let model = models.iter().find(|model| model.job_id == job.id);
            let headline =
                model.and_then(|model| model.comparison.as_ref()?.get("headline")?.as_str().map(str::to_string));
            let result = if runs(job) { self.progress(state, job)? } else { job.failure.clone().or(headline) };
            rows.push(context! {
                id => &job.id, name => &job.name, word, tone, result, base => &job.base_id,
                began => time(crate::store::time(job.created)),
            });
        }
        self.followers.retain(|id, _| jobs.iter().any(|job| job.id == *id && runs(job)));
        templates::render("job_rows.html", context! { rows })
    }

    /// How far a running job is.
    fn progress(&mut self, state: &AppState, job: &JobRow) -> Result<Option<String>, ApiError> {
        let follower = match self.followers.entry(job.id.clone()) {
            std::collections::btree_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::btree_map::Entry::Vacant(new) => new.insert(follower(state, job)?),
        };
        let run = follower.run()?;
        Ok(run.planned.as_ref().map(|planned| {
            let done = run.last.as_ref().map_or(0, |step| step.step);
            let left = run.seconds_left().map_or_else(String::new, |left| format!(", {} left", duration(left)));
            format!("{done} of {}{left}", counted(planned.steps, "step"))
        }))
    }
}

pub(super) fn list(state: &AppState) -> Result<Answer, ApiError> {
    let rows = Listing::default().rows(state)?;
    let body = templates::render("jobs.html", context! { rows })?;
    let live = Some("/console/events".to_string());
    Ok(Answer::Page { section: "jobs", title: "Jobs".to_string(), body, live })
}

/// One job as it changes.
pub(super) struct Watched {
    id: String,
    follower: Follower,
    /// A plan doesn't change once it stands.
    plan: Option<Box<Plan>>,
}

impl Watched {
    pub(super) fn open(state: &AppState, id: &str) -> Result<Self, ApiError> {
        let job = find(state, id)?;
        Ok(Self { id: job.id.clone(), follower: follower(state, &job)?, plan: None })
    }

    fn parts(&mut self, state: &AppState) -> Result<(JobRow, Parts), ApiError> {
        let job = find(state, &self.id)?;
        if self.plan.is_none() {
            self.plan = folder(state, &job).and_then(|folder| folder.read_plan().ok()).map(Box::new);
        }
        let run = self.follower.run()?;
        let parts = vec![
            ("head", head(state, &job)?),
            ("facts", facts(state, &job, run)?),
            ("loss", losses(run)),
            ("rate", rates(run)),
            ("plan", pairs(self.plan.as_deref().map(plan).unwrap_or_default())?),
            ("log", log(run)),
        ];
        Ok((job, parts))
    }
}

impl Subject for Watched {
    fn look(&mut self, state: &AppState) -> Result<(Parts, bool), ApiError> {
        let (job, parts) = self.parts(state)?;
        Ok((parts, job.status.is_final()))
    }
}

fn folder(state: &AppState, job: &JobRow) -> Option<JobFolder> {
    state.home().job(&job.id).ok()
}

pub(super) fn show(state: &AppState, id: &str) -> Result<Answer, ApiError> {
    let (job, parts) = Watched::open(state, id)?.parts(state)?;
    let parts: BTreeMap<&str, String> = parts.into_iter().collect();
    let body = templates::render("job.html", context! { name => &job.name, parts })?;
    let live = (!job.status.is_final()).then(|| format!("/console/jobs/{}/events", job.id));
    Ok(Answer::Page { section: "jobs", title: job.name, body, live })
}

/// Status, verdict or failure, what can be done.
fn head(state: &AppState, job: &JobRow) -> Result<String, ApiError> {
    let (word, tone) = status(job);
    let model = state.models().list()?.into_iter().find(|model| model.job_id == job.id);
    let headline = model.as_ref().and_then(|model| model.comparison.as_ref()?.get("headline")?.as_str());
    let has_report = state.home().job_dir(&job.id)?.join("report/report.html").is_file();
    templates::render(
        "job_head.html",
        context! {
            id => &job.id, word, tone, headline, failure => &job.failure, has_report,
            base => &job.base_id, note => Aliases::read(state.home())?.note(&job.request.base_model_identifier),
            model => model.as_ref().map(|model| model.name.clone()),
            can_stop => job.status == JobStatus::InProgress,
            began => time(crate::store::time(job.created)),
        },
    )
}

/// Rows of names and values.
fn pairs(rows: Vec<[String; 2]>) -> Result<String, ApiError> {
    templates::render("job_facts.html", context! { rows })
}

fn facts(state: &AppState, job: &JobRow, run: &Run) -> Result<String, ApiError> {
    let mut rows = Vec::new();
    let mut add = |name: &str, value: String| rows.push([name.to_string(), value]);
    let running = runs(job);
    if let Some(planned) = &run.planned {
        let done = run.last.as_ref().map_or(0, |step| step.step);
        let epoch = run.last.as_ref().map_or(1, |step| step.epoch + 1);
        add("progress", format!("{done} of {}, epoch {epoch} of {}", counted(planned.steps, "step"), planned.epochs));
    }
    if let Some(step) = &run.last {
        add("loss", format!("{:.4} nats per target", step.loss));
        add("learning rate", format!("{:.2e}", step.learning_rate));
        add("speed", format!("{} tokens/s", outcrop_job::describe::count(step.tokens_per_second.round() as u64)));
        add("memory", format!("{} in use, {} at most", bytes(step.memory_bytes), bytes(run.peak_memory)));
    }
    if let Some((step, _, loss)) = run.validation.iter().rev().find(|(_, set, _)| *set == 0) {
        add("validation", format!("loss {loss:.4} after step {step}"));
    }
    let left = run.seconds_left().filter(|_| running);
    if let Some(left) = left {
        add("time left", format!("{} of steps, then the comparison with the base", duration(left)));
    }
    let seconds = run.seconds(running.then(Timestamp::now));
    if run.planned.is_some() {
        add("took", format!("{}{}", duration(seconds), if running { " so far" } else { "" }));
        match &state.settings().price_per_hour {
            Some(price) => {
                let to_come = left.map_or_else(String::new, |left| format!(", about {} to come", price.of(left)));
                add(
                    "cost",
                    format!(
                        "{}{} at {price} an hour{to_come}",
                        price.of(seconds),
                        if running { " so far" } else { "" }
                    ),
                );
            }
            None => add("cost", "no price: `outcrop serve --price-per-hour` sets one".to_string()),
        }
    }
    if run.unread > 0 {
        add("note", format!("{} of events.jsonl can't be read by this version", counted(run.unread, "line")));
    }
    if rows.is_empty() {
        rows.push(["progress".to_string(), "not planned yet".to_string()]);
    }
    pairs(rows)
}

/// A curve of at most [`POINTS`] points.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let size = points.len().div_ceil(POINTS).max(1);
    let mean = |group: &[(f64, f64)]| {
        let sum = group.iter().fold((0.0, 0.0), |sum, point| (sum.0 + point.0, sum.1 + point.1));
        (sum.0 / group.len() as f64, sum.1 / group.len() as f64)
    };
    points.chunks(size).map(mean).collect()
}

fn losses(run: &Run) -> String {
    let training: Vec<(f64, f64)> = run.steps.iter().map(|(step, loss, _)| (*step as f64, *loss)).collect();
    let mut series = vec![line("training loss", 0, thinned(&training), false)];
    let sets = run.validation.iter().map(|(_, set, _)| *set).max().map_or(0, |last| last as usize + 1);
    for set in 0..sets {
        let points = run.validation.iter().filter(|(_, of, _)| *of as usize == set);
        let points = points.map(|(step, _, loss)| (*step as f64, *loss)).collect();
        series.push(line(&format!("validation loss {set}"), set + 1, points, true));
    }
    let positive = series.iter().flat_map(|series| &series.points).all(|(_, loss)| *loss > 0.0);
    let loss = Axis { name: "nats per target", logarithmic: positive, holds: None, whole: false };
    plot(&summary("Loss by step", run, |step| format!("{:.4}", step.loss)), &STEPS, &loss, &series, HEIGHT)
}

fn rates(run: &Run) -> String {
    let points: Vec<(f64, f64)> = run.steps.iter().map(|(step, _, rate)| (*step as f64, *rate)).collect();
    let rate = Axis { name: "learning rate", logarithmic: false, holds: points.first().map(|_| 0.0), whole: false };
    let name = summary("Learning rate by step", run, |step| format!("{:.2e}", step.learning_rate));
    plot(&name, &STEPS, &rate, &[line("learning rate", 2, thinned(&points), false)], HEIGHT)
}

const STEPS: Axis = Axis { name: "step", logarithmic: false, holds: Some(0.0), whole: true };

/// What a picture says to who doesn't see it.
fn summary(name: &str, run: &Run, value: impl Fn(&Step) -> String) -> String {
    match &run.last {
        Some(step) => format!("{name}, {} at step {}", value(step), step.step),
        None => format!("{name}, no step yet"),
    }
}

fn line(title: &str, color: usize, points: Vec<(f64, f64)>, marked: bool) -> Series {
    Series { title: title.to_string(), color, class: "", points, joined: true, marked }
}

/// The log, escaped: its events, and of the steps the last one.
fn log(run: &Run) -> String {
    let mut lines: Vec<String> = run.lines.iter().cloned().collect();
    if let (Some(step), Some(time)) = (&run.last, run.last_step_time) {
        // Lines begin with their time, so that they sort by it.
        let line = describe(&Record { time, event: Event::Step(step.clone()) });
        let at = lines.iter().rposition(|earlier| *earlier < line).map_or(0, |index| index + 1);
        lines.insert(at, line);
    }
    if lines.is_empty() { "nothing yet".to_string() } else { outcrop_pages::charts::escaped(&lines.join("\n")) }
}

/// The job's report, as it was written.
pub(super) fn report(state: &AppState, id: &str) -> Result<Answer, ApiError> {
    let path = state.home().job_dir(&find(state, id)?.id)?.join("report/report.html");
    Ok(Answer::Report(file_of_home(state, &path, "The job has no report yet.")?))
}

/// Asks a job to stop, as Bedrock's operation does.
pub(super) fn stop(state: &AppState, id: &str, headers: &HeaderMap) -> Result<Answer, ApiError> {
    let job = find(state, id)?;
    let segments = vec!["model-customization-jobs".to_string(), jobs::job_arn(&job), "stop".to_string()];
    jobs::stop(state, &call(state, Method::POST, segments, headers))?;
    Ok(Answer::redirect(format!("/console/jobs/{}", job.id)))
}

/// A call of one of Bedrock's operations.
pub(super) fn call(state: &AppState, method: Method, segments: Vec<String>, headers: &HeaderMap) -> Call {
    Call { method, segments, query: Vec::new(), body: Bytes::new(), caller: Caller::of(headers, state.settings()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_curve_has_few_points_and_the_same_mean() {
        let points: Vec<(f64, f64)> = (0..1000).map(|step| (f64::from(step), f64::from(step % 2))).collect();
        let few = thinned(&points);
        assert!(few.len() <= POINTS, "{}", few.len());
        assert!(few.iter().all(|(_, loss)| *loss == 0.5));
        assert_eq!(thinned(&points[..3]), points[..3]);
        assert!(thinned(&[]).is_empty());
    }
}
