//! `outcrop jobs`: what ran, what runs, and one job's plan and progress.

use clap::{Args, Subcommand};
use outcrop_job::sweep::{SweepFolder, TrialStatus};
use outcrop_job::{Event, Home, JobFolder, Record};

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
        /// The job's id
        id: String,
    },
}

impl Jobs {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let home = super::home()?;
        match self.verb {
            Verb::List { trials } => {
                let mut rows = sweeps(&home)?;
                if home.jobs_dir().is_dir() {
                    for entry in fs_err::read_dir(home.jobs_dir())? {
                        let id = entry?.file_name().to_string_lossy().into_owned();
                        let Ok(job) = home.job(&id) else { continue };
                        if !trials && SweepFolder::of_job(&job).is_some_and(|sweep| is_there(&home, &sweep)) {
                            continue;
                        }
                        let records = job.read_events()?;
                        let began =
                            records.first().map(|r| outcrop_job::timestamp::to_text(r.time)).unwrap_or_default();
                        let name = job.read_plan().map(|plan| plan.job_name).unwrap_or_else(|_| "(not planned)".into());
                        rows.push([began, id, name, state(&job, &records)?, progress(&records)]);
                    }
                }
                rows.sort();
                let table = crate::terminal::table(["began", "id", "name", "status", "progress"], rows);
                crate::terminal::print(&table)
            }
            Verb::Show { id } => {
                let job = home.job(&id)?;
                let records = job.read_events()?;
                let mut text = String::new();
                if let Ok(plan) = job.read_plan() {
                    text.push_str(&crate::terminal::plan(&plan));
                }
                text.push_str(&format!("status    {}\nprogress  {}\n", state(&job, &records)?, progress(&records)));
                if let Some(Event::Failed { message }) = records.last().map(|record| &record.event) {
                    text.push_str(&format!("failure   {message}\n"));
                }
                text.push_str(&format!("folder    {}\n", job.root().display()));
                crate::terminal::print(&text)
            }
        }
    }
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
        let began = outcrop_job::timestamp::to_text(plan.created);
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
