//! Several jobs side by side: the settings in which they differ, each verdict, each suite's measures, the curves over one
//! another. Every number is a job against its own base; jobs are not tested against each other.

use super::curves::{Curves, MonitorPoint, course, line, loss_axis};
use super::rows::{Row, reach, row, tone};
use crate::pages::charts::{Axis, Series, plot};
use crate::pages::render as render_page;
use crate::{Result, TrainError};
use minijinja::context;
use minijinja::value::Serde;
use outcrop_eval::{Comparison, SuiteComparison, report};
use outcrop_job::{Event, JobFolder, JobStatus, Plan, Record, atomic};
use serde::Serialize;
use std::path::{Path, PathBuf};

const TEMPLATE: &str = include_str!("across.html");
const HEIGHT: f64 = 300.0;

/// A job as it is compared with others.
pub struct Entry {
    /// Its name, with its id where others have the same.
    pub name: String,
    /// What ran.
    pub plan: Plan,
    /// How far it came.
    pub status: JobStatus,
    /// Against its base; None where it didn't come to its end.
    pub comparison: Option<Comparison>,
    curves: Curves,
    failure: Option<String>,
}

/// Jobs side by side.
pub struct Across {
    /// The jobs in the order they were given.
    pub entries: Vec<Entry>,
}

/// One measure of one suite over the jobs that were judged on it.
#[derive(Serialize)]
pub struct MeasureTable {
    /// `task` or `general`.
    pub list: &'static str,
    /// Name of the suite.
    pub suite: String,
    hash: String,
    /// Name of the measure.
    pub measure: String,
    rows: Vec<MeasureRow>,
}

#[derive(Serialize)]
struct MeasureRow {
    /// Index of the job.
    job: usize,
    row: Row,
    verdict: String,
    tone: &'static str,
}

impl Entry {
    /// Reads a job's plan and log. Errors: it was never planned; a file is damaged.
    pub fn read(folder: &JobFolder) -> Result<Self> {
        let plan = folder.read_plan()?;
        let records = folder.read_events()?;
        let comparison = last(&records, |event| match event {
            Event::Comparison { comparison } => Some(comparison),
            _ => None,
        });
        let damaged = |error: serde_json::Error| {
            let log = folder.events_path();
            TrainError::Plan(format!("`{}`: the comparison can't be read: {error}", log.display()))
        };
        let comparison = comparison.map(|value| serde_json::from_value(value.clone())).transpose().map_err(damaged)?;
        let failure = last(&records, |event| match event {
            Event::Failed { message } => Some(message.clone()),
            _ => None,
        });
        let (name, status) = (plan.job_name.clone(), folder.status()?);
        Ok(Self { name, plan, status, comparison, curves: Curves::of(&records), failure })
    }

    /// The verdict in one line, or why there is none.
    #[must_use]
    pub fn headline(&self) -> String {
        match (&self.comparison, &self.failure) {
            (Some(comparison), _) => comparison.headline.clone(),
            (None, Some(message)) if self.status == JobStatus::Failed => format!("no verdict: failed: {message}"),
            (None, _) => format!("no verdict: {}", self.status),
        }
    }

    fn suites(&self) -> impl Iterator<Item = (&'static str, &SuiteComparison)> {
        let comparison = self.comparison.as_ref();
        let task = comparison.into_iter().flat_map(|comparison| &comparison.task).map(|suite| ("task", suite));
        let general = comparison.into_iter().flat_map(|comparison| &comparison.general);
        task.chain(general.map(|suite| ("general", suite)))
    }

    /// Everything that can differ, by name.
    fn settings(&self) -> Vec<(String, String)> {
        let plan = &self.plan;
        let files: Vec<&str> =
            plan.data.training.files.iter().map(|file| &file.hash[..file.hash.len().min(8)]).collect();
        let base = (&plan.base.identifier, &plan.base.hash[..plan.base.hash.len().min(8)]);
        let mut settings = vec![
            ("base".to_string(), format!("{} ({})", base.0, base.1)),
            ("data".to_string(), format!("{} ({})", plan.data.training.location, files.join(", "))),
            ("device".to_string(), plan.device.clone()),
            ("engine".to_string(), plan.engine_version.clone()),
        ];
        let all = plan.hyperparameters.effective();
        settings.extend(all.iter().map(|(key, value)| (key.to_string(), value.to_string())));
        settings
    }

    fn epochs(&self, step: u64) -> f64 {
        step as f64 / self.plan.steps.per_epoch.max(1) as f64
    }
}

fn last<'a, T>(records: &'a [Record], read: impl Fn(&'a Event) -> Option<T>) -> Option<T> {
    records.iter().rev().find_map(|record| read(&record.event))
}

impl Across {
    /// Reads the jobs. Errors: as [`Entry::read`].
    pub fn read(folders: &[JobFolder]) -> Result<Self> {
        let mut entries = folders.iter().map(Entry::read).collect::<Result<Vec<_>>>()?;
        let names: Vec<String> = entries.iter().map(|entry| entry.name.clone()).collect();
        for entry in &mut entries {
            if names.iter().filter(|name| **name == entry.name).count() > 1 {
                entry.name = format!("{} ({})", entry.name, entry.plan.job_id);
            }
        }
        Ok(Self { entries })
    }

    /// Names of the settings in which jobs differ, and a row of them for each job; `-` where a job hasn't one.
    #[must_use]
    pub fn settings(&self) -> (Vec<String>, Vec<Vec<String>>) {
        let all: Vec<Vec<(String, String)>> = self.entries.iter().map(Entry::settings).collect();
        let mut keys: Vec<String> = Vec::new();
        for (key, _) in all.iter().flatten() {
            if !keys.contains(key) {
                keys.push(key.clone());
            }
        }
        let value = |settings: &Vec<(String, String)>, key: &String| {
            settings.iter().find(|(known, _)| known == key).map_or("-".to_string(), |(_, value)| value.clone())
        };
        keys.retain(|key| all.iter().any(|settings| value(settings, key) != value(&all[0], key)));
        let rows = all.iter().map(|settings| keys.iter().map(|key| value(settings, key)).collect()).collect();
        (keys, rows)
    }

    /// A table for each measure of each suite, task suites first. Suites are the same where their content is.
    #[must_use]
    pub fn tables(&self) -> Vec<MeasureTable> {
        let mut found: Vec<(&'static str, &SuiteComparison, usize)> = Vec::new();
        for list in ["task", "general"] {
            for (_, suite) in self.entries.iter().flat_map(Entry::suites).filter(|(own, _)| *own == list) {
                for index in 0..suite.measures.len() {
                    let kind = suite.measures[index].kind;
                    let known = found.iter().any(|(other_list, other, at)| {
                        (*other_list, &other.hash, other.measures[*at].kind) == (list, &suite.hash, kind)
                    });
                    if !known {
                        found.push((list, suite, index));
                    }
                }
            }
        }
        found.into_iter().map(|(list, suite, index)| self.table(list, suite, index)).collect()
    }

    fn table(&self, list: &'static str, suite: &SuiteComparison, index: usize) -> MeasureTable {
        let kind = suite.measures[index].kind;
        let own = |(job, entry): (usize, &Entry)| {
            let (_, suite) = entry.suites().find(|(own, other)| *own == list && other.hash == suite.hash)?;
            let index = suite.measures.iter().position(|measure| measure.kind == kind)?;
            Some((job, suite.clone(), index))
        };
        let judged: Vec<(usize, SuiteComparison, usize)> = self.entries.iter().enumerate().filter_map(own).collect();
        // one scale for all rows, so that they can be compared
        let end = judged.iter().map(|(_, suite, index)| reach(suite, *index)).fold(0.0, f64::max);
        let rows = judged.iter().map(|(job, suite, index)| MeasureRow {
            job: *job,
            row: row(suite, *index, end),
            verdict: if *index == 0 { report::verdict(suite) } else { String::new() },
            tone: tone(suite).class(),
        });
        MeasureTable {
            list,
            suite: suite.name.clone(),
            hash: suite.hash.clone(),
            measure: kind.name().to_string(),
            rows: rows.collect(),
        }
    }

    /// Header and rows of a table as text, with verdicts where the measure decides.
    #[must_use]
    pub fn text_rows(&self, table: &MeasureTable) -> (Vec<String>, Vec<Vec<String>>) {
        let mut header = ["job", "base", "tuned", "difference", "95 % interval"].map(String::from).to_vec();
        let decides = table.rows.iter().any(|row| !row.verdict.is_empty());
        header.extend(decides.then(|| "verdict".to_string()));
        let cells = |measured: &MeasureRow| {
            let Row { base, tuned, difference, interval, .. } = &measured.row;
            let name = self.entries[measured.job].name.clone();
            let mut row = vec![name, base.clone(), tuned.clone(), difference.clone(), interval.clone()];
            row.extend(decides.then(|| measured.verdict.clone()));
            row
        };
        (header, table.rows.iter().map(cells).collect())
    }

    /// Writes `compare.html` into a folder, which is made where it is missing, and gives its path. Errors: the disk.
    pub fn write(&self, folder: &Path) -> Result<PathBuf> {
        fs_err::create_dir_all(folder)?;
        let path = folder.join("compare.html");
        atomic::write_atomic(&path, self.render()?.as_bytes())?;
        Ok(path)
    }

    fn render(&self) -> Result<String> {
        let (keys, settings) = self.settings();
        let job = |entry: &Entry| {
            let headline = entry.headline().replace("->", "→");
            let loss = entry.curves.training.last().map(|(_, loss, _)| format!("{loss:.4}"));
            context! { name => &entry.name, id => &entry.plan.job_id, headline, status => entry.status.as_str(), loss }
        };
        let values = context! {
            jobs => self.entries.iter().map(job).collect::<Vec<_>>(),
            keys,
            settings,
            tables => Serde(self.tables()),
            pictures => self.pictures(),
        };
        render_page("compare.html", TEMPLATE, values)
    }

    /// What the jobs' curves are over their epochs, those that were measured.
    fn pictures(&self) -> Vec<(&'static str, String)> {
        let axis = || Axis { name: "epochs", logarithmic: false, holds: Some(0.0), whole: true };
        let training = self.entries.iter().enumerate().map(|(index, entry)| {
            let points = course(&entry.curves.training_points(|step| entry.epochs(step)));
            line(format!("{}: training loss", entry.name), index, "", points)
        });
        let training: Vec<Series> = training.collect();
        let mut validation: Vec<Series> = Vec::new();
        for (index, entry) in self.entries.iter().enumerate() {
            for curve in &entry.curves.validation {
                let points = curve.losses.iter().map(|(step, loss)| (entry.epochs(*step), *loss)).collect();
                let title = format!("{}: validation set {}", entry.name, curve.set + 1);
                validation.push(Series { marked: true, ..line(title, index, "", points) });
            }
        }
        let mut forgetting: Vec<Series> = Vec::new();
        for (index, entry) in self.entries.iter().enumerate().filter(|(_, entry)| !entry.curves.monitor.is_empty()) {
            let rise = |point: &MonitorPoint| (entry.epochs(point.step), point.nll - point.nll_base);
            let points = entry.curves.monitor.iter().map(rise).collect();
            forgetting
                .push(Series { marked: true, ..line(format!("{}: general text", entry.name), index, "", points) });
        }
        let rise = Axis { name: "rise of the NLL, nats per token", logarithmic: false, holds: Some(0.0), whole: false };
        let pictures = [
            ("Training loss", "training loss of the jobs", training, loss_axis()),
            ("Validation loss", "validation loss of the jobs", validation, loss_axis()),
            ("Forgetting: general text", "rise of the NLL on general text", forgetting, rise),
        ];
        let measured = pictures.into_iter().filter(|(_, _, series, _)| !series.is_empty());
        measured.map(|(title, name, series, y)| (title, plot(name, &axis(), &y, &series, HEIGHT))).collect()
    }
}
