//! A job's folder: where its files are, who runs in it, and what its status is.

use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::atomic::write_atomic;
use crate::claim::Claim;
use crate::event::Record;
use crate::event_log::{EventError, read_events};
use crate::home::HomeError;
use crate::plan::SavedPlan;
use crate::{JobStatus, Plan, Request};

/// The folder of one job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobFolder {
    root: PathBuf,
}

/// Why a job's folder can't be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// The disk.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// A new job's folder is taken.
    #[error("the job folder `{}` exists already; resume that job or choose another folder", .0.display())]
    Exists(PathBuf),
    /// There is no such job.
    #[error("`{}` is no job folder: it has no request.json", .0.display())]
    NotAJob(PathBuf),
    /// Another process runs there.
    #[error("the job in `{}` is being run by process {pid}; wait for it or stop it", path.display())]
    Locked {
        /// The folder.
        path: PathBuf,
        /// Its process id, or `unknown`.
        pid: String,
    },
    /// A file that doesn't hold what it should.
    #[error("{}:{line}:{column}: {message}; restore the file", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column in bytes, from 1.
        column: usize,
        /// What is wrong.
        message: String,
    },
    /// The plan was changed by hand.
    #[error("`{}` doesn't match its own hash: it was changed after it was written; plan the job again", .0.display())]
    ChangedPlan(PathBuf),
    /// The log.
    #[error("{0}")]
    Events(#[from] EventError),
    /// The id.
    #[error("{0}")]
    Home(#[from] HomeError),
}

impl JobFolder {
    /// Makes the folder of a new job and writes its request.
    ///
    /// # Errors
    /// The folder exists or can't be made.
    pub fn create(root: &Path, request: &Request) -> Result<Self, FolderError> {
        if let Some(parent) = root.parent() {
            fs_err::create_dir_all(parent)?;
        }
        // Not `create_dir_all`: of two processes that want the same folder one has to lose.
        match fs_err::create_dir(root) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(FolderError::Exists(root.to_path_buf()));
            }
            made => made?,
        }
        let folder = Self { root: root.to_path_buf() };
        if let Err(error) = write_json(&folder.request_path(), request) {
            // A folder without a request is no job and would be in the way of the next try.
            fs_err::remove_dir(root)?;
            return Err(error);
        }
        Ok(folder)
    }

    /// The folder of a job that was made before.
    ///
    /// # Errors
    /// It isn't there or has no `request.json`.
    pub fn open(root: &Path) -> Result<Self, FolderError> {
        let folder = Self { root: root.to_path_buf() };
        if folder.request_path().is_file() { Ok(folder) } else { Err(FolderError::NotAJob(root.to_path_buf())) }
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The request as it was given.
    pub fn request_path(&self) -> PathBuf {
        self.root.join("request.json")
    }

    /// What runs.
    pub fn plan_path(&self) -> PathBuf {
        self.root.join("plan.json")
    }

    /// What happened.
    pub fn events_path(&self) -> PathBuf {
        self.root.join("events.jsonl")
    }

    /// One folder per checkpoint.
    pub fn checkpoints_dir(&self) -> PathBuf {
        self.root.join("checkpoints")
    }

    /// The comparison with the base model, curves and tables.
    pub fn report_dir(&self) -> PathBuf {
        self.root.join("report")
    }

    fn stop_path(&self) -> PathBuf {
        self.root.join("stop")
    }

    fn lock_path(&self) -> PathBuf {
        self.root.join("lock")
    }

    /// Reads `request.json`.
    ///
    /// # Errors
    /// It is missing or isn't a request.
    pub fn read_request(&self) -> Result<Request, FolderError> {
        read_json(&self.request_path())
    }

    /// Writes `plan.json` with its hash.
    ///
    /// # Errors
    /// The disk.
    pub fn write_plan(&self, plan: &Plan) -> Result<(), FolderError> {
        write_json(&self.plan_path(), &SavedPlan::new(plan.clone()))
    }

    /// Reads `plan.json`.
    ///
    /// # Errors
    /// It is missing, isn't a plan, or doesn't match the hash it was written with (R27).
    pub fn read_plan(&self) -> Result<Plan, FolderError> {
        let path = self.plan_path();
        let saved: SavedPlan = read_json(&path)?;
        saved.verified().ok_or(FolderError::ChangedPlan(path))
    }

    /// The events so far; none where the run hasn't begun.
    ///
    /// # Errors
    /// The log is unreadable or broken elsewhere than at its end.
    pub fn read_events(&self) -> Result<Vec<Record>, FolderError> {
        match read_events(&self.events_path()) {
            Err(EventError::Io(error)) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            read => Ok(read?),
        }
    }

    /// The job's status.
    ///
    /// # Errors
    /// As for `read_events`.
    pub fn status(&self) -> Result<JobStatus, FolderError> {
        Ok(JobStatus::from_events(&self.read_events()?, self.stop_requested()))
    }

    /// Asks the run to stop at its next step. The request stays until `clear_stop`.
    ///
    /// # Errors
    /// The disk.
    pub fn request_stop(&self) -> Result<(), FolderError> {
        Ok(write_atomic(&self.stop_path(), b"")?)
    }

    /// Whether the run is asked to stop. Costs one look at the disk.
    pub fn stop_requested(&self) -> bool {
        self.stop_path().exists()
    }

    /// Takes the request to stop back, as a resume does first.
    ///
    /// # Errors
    /// The disk.
    pub fn clear_stop(&self) -> Result<(), FolderError> {
        match fs_err::remove_file(self.stop_path()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Claims the folder for this process until the guard is dropped or the process ends, however it ends.
    ///
    /// # Errors
    /// Another process has it; the disk.
    pub fn lock(&self) -> Result<Claim, FolderError> {
        let path = self.lock_path();
        let locked = || FolderError::Locked { path: self.root.clone(), pid: Claim::holder(&path) };
        Claim::take(&path)?.ok_or_else(locked)
    }

    /// Whether a process runs in the folder at this moment.
    ///
    /// # Errors
    /// The disk.
    pub fn is_locked(&self) -> Result<bool, FolderError> {
        Ok(Claim::is_taken(&self.lock_path())?)
    }
}

/// Writes a value as indented JSON with a final newline, atomically.
pub(crate) fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), FolderError> {
    let mut text = serde_json::to_vec_pretty(value).map_err(io::Error::from)?;
    text.push(b'\n');
    Ok(write_atomic(path, &text)?)
}

/// Reads a value; its error names file, line and column.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, FolderError> {
    let bytes = fs_err::read(path)?;
    serde_json::from_slice(&bytes).map_err(|error| {
        let whole = error.to_string();
        let place = format!(" at line {} column {}", error.line(), error.column());
        FolderError::Content {
            path: path.to_path_buf(),
            line: error.line().max(1),
            column: error.column().max(1),
            message: whole.strip_suffix(&place).unwrap_or(&whole).to_string(),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Event;
    use crate::event::tests::step;
    use crate::event_log::EventLog;

    fn new_job() -> (tempfile::TempDir, JobFolder) {
        let outside = tempfile::tempdir().unwrap();
        let root = outside.path().join("jobs").join("abcdefghijk1");
        let folder = JobFolder::create(&root, &Request::default()).unwrap();
        (outside, folder)
    }

    #[test]
    fn a_job_is_made_once_and_opened_after() {
        let (_outside, folder) = new_job();
        let error = JobFolder::create(folder.root(), &Request::default()).unwrap_err();
        let root = folder.root().display().to_string();
        assert_eq!(
            error.to_string(),
            format!("the job folder `{root}` exists already; resume that job or choose another folder")
        );
        assert_eq!(JobFolder::open(folder.root()).unwrap(), folder);
        let missing = folder.root().join("checkpoints");
        let error = JobFolder::open(&missing).unwrap_err();
        assert_eq!(error.to_string(), format!("`{}` is no job folder: it has no request.json", missing.display()));
    }

    #[test]
    fn the_request_comes_back_as_it_was() {
        let outside = tempfile::tempdir().unwrap();
        let mut request = Request::default();
        request.set("learningRate=.0001").unwrap();
        request.set("jobName=a").unwrap();
        let folder = JobFolder::create(&outside.path().join("job"), &request).unwrap();
        assert_eq!(folder.read_request().unwrap(), request);
        fs_err::write(folder.request_path(), "{\n  \"jobNam\": 1}").unwrap();
        let error = folder.read_request().unwrap_err().to_string();
        let place = format!("{}:2:10: unknown field `jobNam`", folder.request_path().display());
        assert!(error.starts_with(&place), "{error}");
    }

    #[test]
    fn a_second_run_in_the_folder_is_refused_with_the_firsts_process() {
        let (_outside, folder) = new_job();
        assert!(!folder.is_locked().unwrap());
        let guard = folder.lock().unwrap();
        assert!(folder.is_locked().unwrap());
        let error = folder.lock().unwrap_err();
        #[cfg(unix)]
        assert_eq!(
            error.to_string(),
            format!(
                "the job in `{}` is being run by process {}; wait for it or stop it",
                folder.root().display(),
                std::process::id()
            )
        );
        assert!(matches!(error, FolderError::Locked { .. }));
        drop(guard);
        assert!(!folder.is_locked().unwrap());
        drop(folder.lock().unwrap());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn another_process_is_named_and_its_death_frees_the_folder() {
        let (_outside, folder) = new_job();
        drop(folder.lock().unwrap());
        // `flock` of util-linux takes the same kind of lock; the shell writes its process id as a run does.
        let script = "exec 9<>\"$0\"; flock -n 9 || exit 3; printf %s $$ > \"$0\"; echo ready; read line";
        let mut child = std::process::Command::new("sh")
            .args(["-c", script])
            .arg(folder.lock_path())
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = [0; 6];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut ready).unwrap();
        assert!(folder.is_locked().unwrap());
        let error = folder.lock().unwrap_err().to_string();
        assert!(error.ends_with(&format!("is being run by process {}; wait for it or stop it", child.id())), "{error}");
        child.kill().unwrap();
        child.wait().unwrap();
        drop(folder.lock().unwrap());
    }

    #[test]
    fn status_is_read_off_the_log_and_the_stop_file() {
        let (_outside, folder) = new_job();
        assert_eq!(folder.status().unwrap(), JobStatus::InProgress);
        let mut log = EventLog::create(&folder.events_path()).unwrap();
        log.write(step(1, 0, 1.0)).unwrap();
        folder.request_stop().unwrap();
        assert_eq!(folder.status().unwrap(), JobStatus::Stopping);
        log.write(Event::Interrupted { step: 1 }).unwrap();
        assert_eq!(folder.status().unwrap(), JobStatus::Stopped);
        folder.clear_stop().unwrap();
        folder.clear_stop().unwrap();
        log.write(Event::Resumed { step: 1 }).unwrap();
        assert_eq!(folder.status().unwrap(), JobStatus::InProgress);
    }

    #[test]
    fn r27_a_plan_changed_by_hand_is_refused() {
        let (_outside, folder) = new_job();
        let plan = crate::plan::tests::plan();
        folder.write_plan(&plan).unwrap();
        assert_eq!(folder.read_plan().unwrap(), plan);
        let text = fs_err::read_to_string(folder.plan_path()).unwrap();
        let changed = text.replace("\"learningRate\": \"1e-5\"", "\"learningRate\": \"1e-3\"");
        assert_ne!(text, changed);
        fs_err::write(folder.plan_path(), changed).unwrap();
        let error = folder.read_plan().unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "`{}` doesn't match its own hash: it was changed after it was written; plan the job again",
                folder.plan_path().display()
            )
        );
    }
}
