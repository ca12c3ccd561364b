//! A sweep's folder: `sweep.json` (its request), `start` (what relative paths begin at), `plan.json`, `trials.jsonl` (a
//! line for each trial that ended), `report/`. Trials are ordinary jobs and lie under `jobs/`.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::{SweepPlan, SweepRequest, TrialResult};
use crate::atomic::write_atomic;
use crate::claim::Claim;
use crate::folder::{FolderError, read_json, write_json};
use crate::home::{HomeError, is_id};
use crate::{Home, JobFolder};

/// File in a trial's job folder: the id of its sweep.
const MARK: &str = "sweep";

/// Why a sweep's folder can't be used.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// A file of it.
    #[error("{0}")]
    Folder(#[from] FolderError),
    /// The disk.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The id.
    #[error("{0}")]
    Home(#[from] HomeError),
    /// There is no such sweep.
    #[error("there is no sweep `{0}`; `outcrop jobs list` names them")]
    Unknown(String),
    /// The saved request.
    #[error("{0}")]
    Request(#[from] crate::request::RequestError),
    /// Another process runs it.
    #[error("the sweep in `{}` is being run by process {pid}; wait for it or stop it", path.display())]
    Locked {
        /// The folder.
        path: PathBuf,
        /// Its process id, or `unknown`.
        pid: String,
    },
    /// A line of `trials.jsonl`.
    #[error("{}:{line}: {message}; restore the file", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// serde's.
        message: String,
    },
    /// serde's.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
}

/// The folder of one sweep.
#[derive(Debug, Clone)]
pub struct SweepFolder {
    root: PathBuf,
}

impl SweepFolder {
    /// Makes the folder of a new sweep.
    ///
    /// # Errors
    /// It can't be made.
    pub fn create(home: &Home, id: &str, request: &SweepRequest, start: &Path) -> Result<Self, SweepError> {
        let folder = Self::at(home, id)?;
        fs_err::create_dir_all(&folder.root)?;
        write_atomic(&folder.request_path(), request.to_json()?.as_bytes())?;
        write_atomic(&folder.root.join("start"), start.to_string_lossy().as_bytes())?;
        Ok(folder)
    }

    /// The folder of a sweep that was made before.
    ///
    /// # Errors
    /// There is none.
    pub fn open(home: &Home, id: &str) -> Result<Self, SweepError> {
        let folder = Self::at(home, id)?;
        if folder.request_path().is_file() { Ok(folder) } else { Err(SweepError::Unknown(id.to_string())) }
    }

    fn at(home: &Home, id: &str) -> Result<Self, SweepError> {
        if !is_id(id) {
            return Err(HomeError::NotAnId(id.to_string()).into());
        }
        Ok(Self { root: home.sweeps_dir().join(id) })
    }

    /// Ids of every sweep, sorted.
    ///
    /// # Errors
    /// The disk.
    pub fn list(home: &Home) -> Result<Vec<String>, SweepError> {
        let entries = match fs_err::read_dir(home.sweeps_dir()) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut ids = Vec::new();
        for entry in entries {
            let id = entry?.file_name().to_string_lossy().into_owned();
            if Self::open(home, &id).is_ok() {
                ids.push(id);
            }
        }
        ids.sort();
        Ok(ids)
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn request_path(&self) -> PathBuf {
        self.root.join("sweep.json")
    }

    /// The plan.
    pub fn plan_path(&self) -> PathBuf {
        self.root.join("plan.json")
    }

    /// What became of the trials.
    pub fn trials_path(&self) -> PathBuf {
        self.root.join("trials.jsonl")
    }

    /// Table, page, verdict.
    pub fn report_dir(&self) -> PathBuf {
        self.root.join("report")
    }

    /// The request, and what its relative paths begin at.
    ///
    /// # Errors
    /// A file is missing or isn't what it should be.
    pub fn read_request(&self) -> Result<(SweepRequest, PathBuf), SweepError> {
        let path = self.request_path();
        let request = SweepRequest::from_json_file(&path.display().to_string(), &fs_err::read_to_string(&path)?)?;
        Ok((request, fs_err::read_to_string(self.root.join("start"))?.into()))
    }

    /// Writes the plan.
    ///
    /// # Errors
    /// The disk.
    pub fn write_plan(&self, plan: &SweepPlan) -> Result<(), SweepError> {
        Ok(write_json(&self.plan_path(), plan)?)
    }

    /// Reads the plan.
    ///
    /// # Errors
    /// It is missing or isn't one.
    pub fn read_plan(&self) -> Result<SweepPlan, SweepError> {
        Ok(read_json(&self.plan_path())?)
    }

    /// Appends what became of a trial, durably: a line is whole or not there.
    ///
    /// # Errors
    /// The disk. The file then ends as before.
    pub fn append(&self, result: &TrialResult) -> Result<(), SweepError> {
        let path = self.trials_path();
        let mut bytes = whole_lines(&path)?;
        serde_json::to_writer(&mut bytes, result)?;
        bytes.write_all(b"\n")?;
        Ok(write_atomic(&path, &bytes)?)
    }

    /// What became of the trials that ended, in the order in which they did.
    ///
    /// # Errors
    /// A line isn't one.
    pub fn read_results(&self) -> Result<Vec<TrialResult>, SweepError> {
        let path = self.trials_path();
        let bytes = whole_lines(&path)?;
        let lines = bytes.split_inclusive(|byte| *byte == b'\n').enumerate();
        let results = lines.map(|(index, line)| {
            let wrong = |error: serde_json::Error| SweepError::Line {
                path: path.clone(),
                line: index + 1,
                message: error.to_string(),
            };
            serde_json::from_slice(line).map_err(wrong)
        });
        results.collect()
    }

    /// Claims the sweep for this process until the guard is dropped or the process ends.
    ///
    /// # Errors
    /// Another process has it; the disk.
    pub fn lock(&self) -> Result<Claim, SweepError> {
        let path = self.lock_path();
        let locked = || SweepError::Locked { path: self.root.clone(), pid: Claim::holder(&path) };
        Claim::take(&path)?.ok_or_else(locked)
    }

    /// Whether a process runs the sweep at this moment.
    ///
    /// # Errors
    /// The disk.
    pub fn is_locked(&self) -> Result<bool, SweepError> {
        Ok(Claim::is_taken(&self.lock_path())?)
    }

    fn lock_path(&self) -> PathBuf {
        self.root.join("lock")
    }

    /// Marks a job as a trial of the sweep `id`.
    ///
    /// # Errors
    /// The disk.
    pub fn mark(job: &JobFolder, id: &str) -> Result<(), SweepError> {
        Ok(write_atomic(&job.root().join(MARK), id.as_bytes())?)
    }

    /// The sweep that a job is a trial of.
    pub fn of_job(job: &JobFolder) -> Option<String> {
        fs_err::read_to_string(job.root().join(MARK)).ok()
    }
}

/// A file's whole lines; none where it isn't there.
fn whole_lines(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = match fs_err::read(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        bytes => bytes?,
    };
    let end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
    bytes.truncate(end);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sweep::{EpochLoss, TrialStatus};

    fn result(trial: usize) -> TrialResult {
        TrialResult {
            trial,
            status: TrialStatus::Completed,
            reason: None,
            steps: 4,
            job: None,
            model: Some("m".into()),
            delta_hash: None,
            training_loss: f64::NAN,
            validation: vec![EpochLoss { step: 4, loss: 2.0f64.sqrt() }],
            items: Vec::new(),
            task: Vec::new(),
            general: Vec::new(),
            headline: String::new(),
            seconds: 1.0,
        }
    }

    #[test]
    fn results_come_back_and_a_torn_line_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(folder.path());
        let text = r#"{"hyperParameters": {"seed": ["1", "2"]}}"#;
        let request = SweepRequest::from_json_file("s.json", text).unwrap();
        let sweep = SweepFolder::create(&home, "abcdefghijk1", &request, Path::new("/data")).unwrap();
        assert!(sweep.read_results().unwrap().is_empty());
        sweep.append(&result(2)).unwrap();
        let mut torn = fs_err::OpenOptions::new().append(true).open(sweep.trials_path()).unwrap();
        torn.write_all(b"{\"trial\":").unwrap();
        assert_eq!(sweep.read_results().unwrap().len(), 1);
        sweep.append(&result(1)).unwrap();
        let found = sweep.read_results().unwrap();
        assert_eq!(found.iter().map(|result| result.trial).collect::<Vec<_>>(), [2, 1]);
        assert!(found[0].training_loss.is_nan());
        assert_eq!(found[0].validation, result(1).validation);
        assert_eq!(SweepFolder::list(&home).unwrap(), ["abcdefghijk1"]);
        assert_eq!(sweep.read_request().unwrap(), (request, PathBuf::from("/data")));
        assert!(SweepFolder::open(&home, "abcdefghijk2").unwrap_err().to_string().contains("no sweep `abcdefghijk2`"));
        assert!(SweepFolder::open(&home, "../models/ab").is_err());
    }

    #[test]
    fn one_process_at_a_time_runs_a_sweep() {
        let folder = tempfile::tempdir().unwrap();
        let request = SweepRequest::from_json_file("s.json", "{}").unwrap();
        let sweep = SweepFolder::create(&Home::at(folder.path()), "abcdefghijk1", &request, Path::new("/")).unwrap();
        assert!(!sweep.is_locked().unwrap());
        let lock = sweep.lock().unwrap();
        assert!(sweep.is_locked().unwrap());
        assert!(matches!(sweep.lock(), Err(SweepError::Locked { .. })));
        drop(lock);
        assert!(sweep.lock().is_ok());
    }
}
