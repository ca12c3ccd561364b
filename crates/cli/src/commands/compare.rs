//! `outcrop compare`: jobs side by side, on the terminal and as a page.

use crate::terminal;
use anyhow::bail;
use clap::Args;
use outcrop_job::{Home, JobFolder};
use outcrop_trainer::report::across::Across;
use std::path::{Path, PathBuf};

/// Arguments of `compare`.
#[derive(Args)]
pub(crate) struct Compare {
    /// Ids, names or folders of the jobs, two or more
    #[arg(required = true, num_args = 2.., value_name = "JOB")]
    jobs: Vec<String>,
    /// Folder for the page `compare.html`
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
}

impl Compare {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let home = super::home()?;
        let folders = self.jobs.iter().map(|job| find(job, &home)).collect::<anyhow::Result<Vec<_>>>()?;
        for (index, folder) in folders.iter().enumerate() {
            if folders[..index].contains(folder) {
                bail!("job `{}` is given twice; name different jobs", self.jobs[index]);
            }
        }
        let across = Across::read(&folders)?;
        let mut text = text(&across);
        if let Some(output) = &self.output {
            text.push_str(&format!("\npage  {}\n", across.write(output)?.display()));
        }
        terminal::print(&text)
    }
}

/// The job of an id, a folder, or a name that one job has.
fn find(job: &str, home: &Home) -> anyhow::Result<JobFolder> {
    if let Ok(folder) = home.job(job) {
        return Ok(folder);
    }
    let path = Path::new(job);
    if path.is_dir() {
        return Ok(JobFolder::open(&std::path::absolute(path)?)?);
    }
    let mut found = Vec::new();
    if home.jobs_dir().is_dir() {
        for entry in fs_err::read_dir(home.jobs_dir())? {
            let id = entry?.file_name().to_string_lossy().into_owned();
            let Ok(folder) = home.job(&id) else { continue };
            if folder.read_plan().is_ok_and(|plan| plan.job_name == job) {
                found.push((id, folder));
            }
        }
    }
    found.sort_by(|one, other| one.0.cmp(&other.0));
    match found.as_slice() {
        [(_, folder)] => Ok(folder.clone()),
        [] => bail!("no job has the id, the name or the folder `{job}`; `outcrop jobs list` shows them"),
        several => {
            let ids: Vec<&str> = several.iter().map(|(id, _)| id.as_str()).collect();
            bail!("{} jobs are named `{job}`; give an id: {}", several.len(), ids.join(", "))
        }
    }
}

/// Each verdict, the settings that differ, then a table for each measure.
fn text(across: &Across) -> String {
    let mut text = String::new();
    for entry in &across.entries {
        text.push_str(&format!("{}: {}\n", entry.name, entry.headline()));
    }
    let (keys, values) = across.settings();
    text.push('\n');
    if keys.is_empty() {
        text.push_str("the jobs have the same base, data and settings\n");
    } else {
        let header: Vec<String> = std::iter::once("job".to_string()).chain(keys).collect();
        let row = |(index, values): (usize, Vec<String>)| {
            std::iter::once(across.entries[index].name.clone()).chain(values).collect()
        };
        let rows: Vec<Vec<String>> = values.into_iter().enumerate().map(row).collect();
        text.push_str(&terminal::columns(&header, &rows));
    }
    for table in across.tables() {
        text.push_str(&format!("\n{}: {}, {}\n", table.list, table.suite, table.measure));
        let (header, rows) = across.text_rows(&table);
        text.push_str(&terminal::columns(&header, &rows));
    }
    text
}
