//! What of a home can go, and taking it away. What can be made again without loss (caches), what a later state has
//! replaced (checkpoints) and what nobody knows any more (leftovers of a process that was killed) can. Nothing goes that
//! something refers to: what a running process reads, what a stopped job goes on from, what a model is made of. Left
//! out: requests, plans, logs, reports, models and S3's objects, which are the user's own to delete.

mod checkpoints;
mod size;

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::bases::Bases;
use crate::claim::Claim;
use crate::event_log::EventError;
use crate::folder::FolderError;
use crate::home::is_id;
use crate::model_store::ModelError;
use crate::sweep::{SweepError, SweepFolder};
use crate::{Home, JobStatus, ModelStore};

pub use size::bytes_of;

/// A leftover is no older process's work in progress only after this time without a change.
const ABANDONED: Duration = Duration::from_secs(3600);
/// How the temporary folders of sweeps and rehearsals in the home begin.
const TEMPORARY: [&str; 2] = [".sweep-", ".rehearsal-"];

/// Why a survey or a removal failed.
#[derive(Debug, thiserror::Error)]
pub enum PruneError {
    /// The disk.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// A job's folder.
    #[error("{0}")]
    Folder(#[from] FolderError),
    /// A job's log.
    #[error("{0}")]
    Events(#[from] EventError),
    /// A model's record.
    #[error("{0}")]
    Model(#[from] ModelError),
    /// A sweep's folder.
    #[error("{0}")]
    Sweep(#[from] SweepError),
}

/// What something is that can go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// It is made again where it is needed.
    Cache,
    /// A later checkpoint, or the finished model, stands for it.
    Checkpoint,
    /// What a process left that didn't come to its end.
    Leftover,
}

impl Kind {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cache => "cache",
            Self::Checkpoint => "checkpoint",
            Self::Leftover => "leftover",
        }
    }
}

/// Something that can go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Removable {
    /// Its file or folder, relative to the home, with `/` between the names.
    pub path: String,
    /// What it is.
    pub kind: Kind,
    /// Its size on disk.
    pub bytes: u64,
    /// Why it isn't needed, on one line.
    pub why: String,
}

/// What a home holds.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Survey {
    /// What can go, by kind and path.
    pub removable: Vec<Removable>,
    /// What was looked at and stays, a line each: what it is, and what refers to it.
    pub kept: Vec<String>,
    /// Bytes of each part of the home, in a fixed order.
    pub usage: Vec<(&'static str, u64)>,
}

impl Survey {
    /// Bytes that can go.
    #[must_use]
    pub fn reclaimable(&self) -> u64 {
        self.removable.iter().map(|item| item.bytes).sum()
    }

    /// Bytes of the home.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.usage.iter().map(|(_, bytes)| bytes).sum()
    }
}

/// Looks through a home; changes nothing.
///
/// # Errors
/// The disk; a record that can't be read, since what it refers to isn't known then.
pub fn survey(home: &Home) -> Result<Survey, PruneError> {
    let mut survey = Survey { usage: usage(home)?, ..Survey::default() };
    let running = running(home)?;
    jobs(home, &mut survey)?;
    models(home, running.is_some(), &mut survey)?;
    caches(home, running.as_deref(), &mut survey)?;
    temporary(home, running.is_some(), &mut survey)?;
    let referenced = referenced(home)?;
    survey.removable.retain(|item| {
        let path = home.root().join(&item.path);
        let by = referenced.iter().find(|(used, _)| used.starts_with(&path) || path.starts_with(used));
        if let Some((_, by)) = by {
            survey.kept.push(format!("{}: {by} refers to it", item.path));
        }
        by.is_none()
    });
    survey.removable.sort_by(|a, b| (a.kind.as_str(), &a.path).cmp(&(b.kind.as_str(), &b.path)));
    Ok(survey)
}

/// What became of a removal.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Removed {
    /// What is gone.
    pub items: Vec<Removable>,
    /// Paths that are no longer free to go, or never were.
    pub passed_over: Vec<String>,
}

impl Removed {
    /// Bytes that are free now.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.items.iter().map(|item| item.bytes).sum()
    }
}

/// Removes what of `paths` (as [`Survey::removable`] names them) can still go. The home is looked through again before
/// each, and a job's folder is claimed meanwhile, so that what began in between keeps what it needs.
///
/// # Errors
/// The disk, a record that can't be read.
pub fn remove(home: &Home, paths: &[String]) -> Result<Removed, PruneError> {
    let mut removed = Removed::default();
    for path in paths {
        // Held until the next path's turn: no process begins in the job's folder, nor prepares into the cache's.
        let Some(_kept) = keep(home, path)? else {
            removed.passed_over.push(path.clone());
            continue;
        };
        let Some(item) = survey_claimed(home, path)? else {
            removed.passed_over.push(path.clone());
            continue;
        };
        let full = home.root().join(path);
        if full.is_dir() {
            fs_err::remove_dir_all(&full)?
        } else {
            fs_err::remove_file(&full)?
        }
        removed.items.push(item);
    }
    Ok(removed)
}

/// The item of that path, in a survey that takes this process's own claim for nobody's.
fn survey_claimed(home: &Home, path: &str) -> Result<Option<Removable>, PruneError> {
    Ok(survey(home)?.removable.into_iter().find(|item| item.path == path))
}

/// What keeps others from taking a path; nothing where no process was ever at it.
struct Kept {
    _claim: Option<Claim>,
}

/// Keeps what `path` belongs to; None where another process has it, or the path leads out of the home.
fn keep(home: &Home, path: &str) -> Result<Option<Kept>, PruneError> {
    let parts: Vec<&str> = path.split('/').collect();
    let lock = match parts.as_slice() {
        ["jobs", id, ..] if is_id(id) => home.jobs_dir().join(id).join("lock"),
        ["cache", "shards", name] => home.cache_dir().join("shards").join(name).join("lock"),
        _ => return Ok(Some(Kept { _claim: None })),
    };
    if !lock.parent().is_some_and(Path::is_dir) {
        return Ok(None);
    }
    // What has no lock yet, no process was ever at; making one would only make it look young.
    match Claim::share(&lock) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Some(Kept { _claim: None })),
        shared => Ok(shared?.map(|claim| Kept { _claim: Some(claim) })),
    }
}

/// The job or sweep that a process is at, where there is one.
fn running(home: &Home) -> Result<Option<String>, PruneError> {
    for id in ids(&home.jobs_dir())? {
        if let Ok(job) = home.job(&id)
            && job.is_locked()?
        {
            return Ok(Some(format!("job {id}")));
        }
    }
    for id in SweepFolder::list(home)? {
        if SweepFolder::open(home, &id)?.is_locked()? {
            return Ok(Some(format!("sweep {id}")));
        }
    }
    Ok(None)
}

/// What of jobs can go: checkpoints, and what was being written of one.
fn jobs(home: &Home, survey: &mut Survey) -> Result<(), PruneError> {
    let unfinished = unfinished_trials(home)?;
    for id in ids(&home.jobs_dir())? {
        let Ok(job) = home.job(&id) else {
            let folder = home.jobs_dir().join(&id);
            if is_abandoned(&folder)? && folder.is_dir() {
                add(home, survey, &folder, Kind::Leftover, "a job's folder without its request".into())?;
            }
            continue;
        };
        if job.is_locked()? {
            survey.kept.push(format!("jobs/{id}: its job runs"));
        } else if let Some(sweep) = unfinished.get(&id) {
            survey.kept.push(format!("jobs/{id}: a trial of sweep {sweep}, which isn't finished"));
        } else {
            checkpoints::of_job(home, &id, &job, survey)?;
        }
    }
    Ok(())
}

/// The jobs of sweeps whose trials haven't all ended, with their sweep.
fn unfinished_trials(home: &Home) -> Result<std::collections::BTreeMap<String, String>, PruneError> {
    let mut trials = std::collections::BTreeMap::new();
    for id in SweepFolder::list(home)? {
        let sweep = SweepFolder::open(home, &id)?;
        if !sweep.plan_path().exists() {
            continue; // nothing of it has begun
        }
        let plan = sweep.read_plan()?;
        let done = sweep.read_results()?.len() == plan.trials.len() && !sweep.is_locked()?;
        if !done {
            trials.extend(plan.trials.into_iter().map(|trial| (trial.job_id, id.clone())));
        }
    }
    Ok(trials)
}

/// Folders of models without their record: a deletion, or the making of one, that was cut short.
fn models(home: &Home, running: bool, survey: &mut Survey) -> Result<(), PruneError> {
    for id in ids(&home.models_dir())? {
        let folder = home.models_dir().join(&id);
        if folder.join("model.json").exists() || !folder.is_dir() {
            continue;
        }
        if running || !is_abandoned(&folder)? {
            survey.kept.push(format!("models/{id}: a model that may be in the making"));
        } else {
            add(home, survey, &folder, Kind::Leftover, "a model's folder without its record".into())?;
        }
    }
    Ok(())
}

/// What is made again where it is needed. A process that runs may read any of it.
fn caches(home: &Home, running: Option<&str>, survey: &mut Survey) -> Result<(), PruneError> {
    let parts = [
        ("shards", "tokenized data; made again by the next job that needs it"),
        ("features", "what a frozen base gives for data; computed again by the next job that needs it"),
        ("scores", "scores of models on suites; scored again where they are needed"),
    ];
    for (name, why) in parts {
        let folder = home.cache_dir().join(name);
        let entries = entries(&folder)?;
        if let Some(by) = running.filter(|_| !entries.is_empty()) {
            survey.kept.push(format!("cache/{name}: {by} runs and may read it"));
            continue;
        }
        if name == "scores" && !entries.is_empty() {
            add(home, survey, &folder, Kind::Cache, why.into())?; // many small files, not worth a line each
            continue;
        }
        for path in entries {
            if is_preparing(&path)? {
                survey.kept.push(format!("{}: it is being written", relative(home, &path)));
            } else {
                add(home, survey, &path, Kind::Cache, why.into())?;
            }
        }
    }
    Ok(())
}

/// Whether `outcrop data prepare`, which has no job, is at a shard.
fn is_preparing(folder: &Path) -> io::Result<bool> {
    Claim::is_taken(&folder.join("lock"))
}

/// Temporary folders of sweeps and rehearsals whose process was killed.
fn temporary(home: &Home, running: bool, survey: &mut Survey) -> Result<(), PruneError> {
    for path in entries(home.root())? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if TEMPORARY.iter().any(|prefix| name.starts_with(prefix)) {
            if running || !is_abandoned(&path)? {
                survey.kept.push(format!("{name}: it may be in use"));
            } else {
                add(home, survey, &path, Kind::Leftover, "the temporary folder of a process that is gone".into())?;
            }
        }
    }
    Ok(())
}

/// Paths that imported bases, models and unfinished jobs need, and who needs them.
fn referenced(home: &Home) -> Result<Vec<(PathBuf, String)>, PruneError> {
    let mut paths = vec![(home.examples_dir(), "every command".to_string())];
    paths.extend(Bases::read(home)?.iter().map(|base| (base.path.clone(), format!("base {}", base.id))));
    for model in ModelStore::new(home.models_dir()).list()? {
        let by = format!("model {}", model.name);
        let data = model.training_data.into_iter().map(|file| file.path);
        paths.extend(std::iter::once(model.base.path).chain(data).map(|path| (path, by.clone())));
    }
    for id in ids(&home.jobs_dir())? {
        let Ok(job) = home.job(&id) else { continue };
        if !job.plan_path().exists() || job.status()? == JobStatus::Completed {
            continue;
        }
        let plan = job.read_plan()?;
        let sets = std::iter::once(plan.data.training).chain(plan.data.validation);
        let data = sets.flat_map(|set| set.files).map(|file| file.path);
        paths.extend(std::iter::once(plan.base.path).chain(data).map(|path| (path, format!("job {id}"))));
    }
    Ok(paths)
}

/// Notes something that can go. A link is another place's, and stays.
fn add(home: &Home, survey: &mut Survey, path: &Path, kind: Kind, why: String) -> io::Result<()> {
    let name = relative(home, path);
    if fs_err::symlink_metadata(path)?.is_symlink() {
        survey.kept.push(format!("{name}: a link to another place"));
    } else {
        survey.removable.push(Removable { path: name, kind, bytes: bytes_of(path)?, why });
    }
    Ok(())
}

/// Bytes of the parts of a home.
fn usage(home: &Home) -> io::Result<Vec<(&'static str, u64)>> {
    let (cache, examples) = (bytes_of(&home.cache_dir())?, bytes_of(&home.examples_dir())?);
    let parts = [
        ("jobs", bytes_of(&home.jobs_dir())?),
        ("models", bytes_of(&home.models_dir())?),
        ("sweeps", bytes_of(&home.sweeps_dir())?),
        ("caches", cache.saturating_sub(examples)),
        ("built-in examples", examples),
        ("S3 buckets", bytes_of(&home.s3_dir())?),
    ];
    let named: u64 = parts.iter().map(|(_, bytes)| bytes).sum();
    let rest = bytes_of(home.root())?.saturating_sub(named);
    Ok(parts.into_iter().chain([("the rest", rest)]).collect())
}

/// Whether nothing in a folder has changed for a while.
fn is_abandoned(folder: &Path) -> io::Result<bool> {
    let newest = size::newest_change(folder)?;
    Ok(SystemTime::now().duration_since(newest).is_ok_and(|age| age >= ABANDONED))
}

/// What lies in a folder, sorted; nothing where there is none.
fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let found = match fs_err::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        found => found?,
    };
    let mut paths: Vec<PathBuf> = found.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    paths.sort();
    Ok(paths)
}

/// The entries of a folder whose names are ids.
fn ids(folder: &Path) -> io::Result<Vec<String>> {
    let names = entries(folder)?;
    let names = names.iter().filter_map(|path| path.file_name()?.to_str().map(str::to_string));
    Ok(names.filter(|name| is_id(name)).collect())
}

/// A path of the home as [`Removable::path`] has it.
fn relative(home: &Home, path: &Path) -> String {
    let parts = path.strip_prefix(home.root()).unwrap_or(path).components();
    parts.map(|part| part.as_os_str().to_string_lossy().into_owned()).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests;
