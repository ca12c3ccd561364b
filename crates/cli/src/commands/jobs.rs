//! `outcrop jobs`: what ran, what runs, one job's plan and progress, its log; and how to stop one. All of it is read off
//! the jobs' folders, so it works with and without the service.

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use outcrop_job::sweep::{SweepFolder, TrialStatus};
use outcrop_job::{Event, Home, JobFolder, JobStatus, PlanError, Record, home, timestamp};
use std::io::{Read, Seek, SeekFrom};
use std::time::Duration;

/// Job commands.
#[derive(Args)]
pub(crate) struct Jobs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Every job and sweep, newest last; a sweep's trials are counted
    List {
        /// Each trial of a sweep in a row of its own
        #[arg(long)]
        trials: bool,
    },
    /// One job: status, plan, last events
    Show {
        /// The job's id or name
        job: String,
    },
    /// Ask a job to write a checkpoint and stop
    Stop {
        /// The job's id or name
        job: String,
    },
    /// What happened in a job, a line for each event
    Logs {
        /// The job's id or name
        job: String,
        /// Go on until the job ends
        #[arg(long, short)]
        follow: bool,
    },
}

impl Jobs {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let home = super::home()?;
        match self.verb {
            Verb::List { trials } => list(&home, trials),
            Verb::Show { job } => show(&find(&home, &job)?),
            Verb::Stop { job } => stop(&find(&home, &job)?, &job),
            Verb::Logs { job, follow } => {
                let job = find(&home, &job)?;
                let mut log = Follower::new(&job);
                loop {
                    let over = !follow || is_over(&job)?; // asked first: what is written before it is read after
                    for line in log.lines()? {
                        crate::terminal::print(&format!("{line}\n"))?;
                    }
                    if over {
                        return Ok(());
                    }
                    std::thread::sleep(Duration::from_millis(200));
                }
            }
        }
    }
}

fn list(home: &Home, trials: bool) -> anyhow::Result<()> {
    let mut rows = sweeps(home)?;
    for id in ids(home)? {
        let Ok(job) = home.job(&id) else { continue };
        if !trials && SweepFolder::of_job(&job).is_some_and(|sweep| is_there(home, &sweep)) {
            continue;
        }
        let records = job.read_events()?;
        let began = records.first().map(|record| timestamp::to_text(record.time)).unwrap_or_default();
        let name = name(&job).unwrap_or_else(|| "(not planned)".into());
        rows.push([began, id, name, state(&job, &records)?, progress(&records)]);
    }
    rows.sort();
    let table = crate::terminal::table(["began", "id", "name", "status", "progress"], rows);
    crate::terminal::print(&table)
}

fn show(job: &JobFolder) -> anyhow::Result<()> {
    let records = job.read_events()?;
    let mut text = String::new();
    if let Ok(plan) = job.read_plan() {
        text.push_str(&crate::terminal::plan(&plan));
        if let Some(error) = PlanError::of(&plan, &records) {
            let (time, memory) = (error.time_in_words(), error.memory_in_words());
            text.push_str(&format!("against the plan: {time}\nagainst the plan: {memory}\n"));
        }
    }
    text.push_str(&format!("status    {}\nprogress  {}\n", state(job, &records)?, progress(&records)));
    if let Some(Event::Failed { message }) = records.last().map(|record| &record.event) {
        text.push_str(&format!("failure   {message}\n"));
    }
    text.push_str(&format!("folder    {}\n", job.root().display()));
    crate::terminal::print(&text)
}

fn stop(job: &JobFolder, name: &str) -> anyhow::Result<()> {
    let status = job.status()?;
    if status.is_final() {
        bail!("job `{name}` is {status}; there is nothing to stop");
    }
    if !job.is_locked()? && !is_services(job) {
        bail!("job `{name}` isn't running: its process ended; `outcrop train --resume` goes on with it");
    }
    job.request_stop()?;
    crate::terminal::print(&format!("job `{name}` stops after its next step and a checkpoint\n"))
}

/// Names in the jobs' folder, sorted.
pub(super) fn ids(home: &Home) -> anyhow::Result<Vec<String>> {
    if !home.jobs_dir().is_dir() {
        return Ok(Vec::new());
    }
    let mut ids = Vec::new();
    for entry in fs_err::read_dir(home.jobs_dir())? {
        ids.push(entry?.file_name().to_string_lossy().into_owned());
    }
    ids.sort();
    Ok(ids)
}

/// The job with this id, else the newest with this name.
fn find(home: &Home, id_or_name: &str) -> anyhow::Result<JobFolder> {
    if home::is_id(id_or_name)
        && let Ok(job) = home.job(id_or_name)
    {
        return Ok(job);
    }
    let mut found: Option<(std::time::SystemTime, JobFolder)> = None;
    for id in ids(home)? {
        let Ok(job) = home.job(&id) else { continue };
        if name(&job).is_some_and(|name| name == id_or_name) {
            let made = fs_err::metadata(job.request_path())?.modified()?;
            if found.as_ref().is_none_or(|(time, _)| made > *time) {
                found = Some((made, job));
            }
        }
    }
    let found = found.map(|(_, job)| job);
    found.with_context(|| format!("there is no job `{id_or_name}`; `outcrop jobs list` names them"))
}

/// A job's name, from its plan, else from its request.
fn name(job: &JobFolder) -> Option<String> {
    job.read_plan().ok().map(|plan| plan.job_name).or_else(|| job.read_request().ok()?.job_name)
}

/// Whether the service made the job: its request came over the network, so it has no folder that paths start from.
pub(super) fn is_services(job: &JobFolder) -> bool {
    !job.root().join(super::train::START).exists()
}

/// Whether nothing more will come.
fn is_over(job: &JobFolder) -> anyhow::Result<bool> {
    Ok(job.status()?.is_final() || (!job.is_locked()? && !is_services(job)))
}

/// Whether a sweep's folder is there still; trials of one that was deleted are listed by themselves.
fn is_there(home: &Home, sweep: &str) -> bool {
    SweepFolder::open(home, sweep).is_ok()
}

/// A row for each sweep.
fn sweeps(home: &Home) -> anyhow::Result<Vec<[String; 5]>> {
    let mut rows = Vec::new();
    for id in SweepFolder::list(home)? {
        let sweep = SweepFolder::open(home, &id)?;
        let Ok(plan) = sweep.read_plan() else { continue };
        let results = sweep.read_results()?;
        let count = |status| results.iter().filter(|result| result.status == status).count();
        let mut progress = format!("{}/{} trials", results.len(), plan.trials.len());
        for status in [TrialStatus::Diverged, TrialStatus::Stopped] {
            if count(status) > 0 {
                progress.push_str(&format!(", {} {}", count(status), status.as_str()));
            }
        }
        let status = match results.len() == plan.trials.len() {
            _ if sweep.is_locked()? => "InProgress",
            true => "Completed",
            false => "InProgress (its process ended, resume it)",
        };
        let began = timestamp::to_text(plan.created);
        rows.push([began, id, format!("{} (sweep)", plan.name), status.into(), progress]);
    }
    Ok(rows)
}

/// Bedrock's status, and whether a process is at it.
fn state(job: &JobFolder, records: &[Record]) -> anyhow::Result<String> {
    let status = job.status()?;
    if status.is_final() || job.is_locked()? {
        return Ok(status.to_string());
    }
    if is_services(job) {
        return Ok(format!("{status} (waits for `outcrop serve`)"));
    }
    let interrupted = matches!(records.last().map(|record| &record.event), Some(Event::Interrupted { .. }));
    Ok(format!("{status} ({}, resume it)", if interrupted { "stopped by its user" } else { "its process ended" }))
}

fn progress(records: &[Record]) -> String {
    let total = records.iter().find_map(|record| match &record.event {
        Event::Planned(planned) => Some(planned.steps),
        _ => None,
    });
    let done = records.iter().rev().find_map(|record| match &record.event {
        Event::Step(step) => Some(step.step),
        _ => None,
    });
    total.map_or_else(|| "-".into(), |total| format!("{}/{total} steps", done.unwrap_or(0)))
}

/// The lines of a job's log as it grows.
pub(super) struct Follower {
    job: JobFolder,
    /// Bytes of whole lines that were read.
    read: u64,
}

impl Follower {
    pub(super) fn new(job: &JobFolder) -> Self {
        Self { job: job.clone(), read: 0 }
    }

    /// What is new, a line for each event. A log that a resumed run has cut back is followed from there.
    pub(super) fn lines(&mut self) -> anyhow::Result<Vec<String>> {
        let path = self.job.events_path();
        if !path.exists() {
            return Ok(Vec::new());
        }
        let mut file = fs_err::File::open(path)?;
        self.read = self.read.min(file.metadata()?.len());
        file.seek(SeekFrom::Start(self.read))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        self.read += whole as u64;
        let lines = bytes[..whole].split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let records = lines.map(|line| serde_json::from_slice(line).map(|record| crate::terminal::describe(&record)));
        Ok(records.collect::<Result<_, _>>()?)
    }
}

/// What a job's status means for a command that waited for it.
pub(super) fn ended(job: &JobFolder) -> anyhow::Result<()> {
    match job.status()? {
        JobStatus::Failed => {
            let records = job.read_events()?;
            let why = records.iter().rev().find_map(|record| match &record.event {
                Event::Failed { message } => Some(message.clone()),
                _ => None,
            });
            bail!("the job failed: {}", why.unwrap_or_default())
        }
        _ => Ok(()),
    }
}
