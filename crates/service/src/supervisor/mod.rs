//! The supervisor: takes waiting jobs as slots come free, starts each as a process of its own, and sees what becomes of
//! it. All it knows is in `outcrop.db` and the jobs' folders, so it can be killed at any moment: the next one finds
//! running processes by the lock on their folder, and starts the others again from their newest checkpoint, also those that
//! it finds running and that end without a word. The lock
//! lets one process into a folder, so no job runs twice.

pub(crate) mod worker;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use outcrop_job::{Event, JobFolder, JobStatus};

use crate::evaluation::runner::Runner;
use crate::store::{JobRow, Phase};
use crate::{ApiError, AppState};
use worker::{End, Worker};

/// How often children are looked at.
const PAUSE: Duration = Duration::from_millis(100);

/// How jobs are run.
pub struct Launch {
    /// The `outcrop` binary.
    pub program: PathBuf,
    /// Most jobs at a time.
    pub slots: usize,
    /// Passed on as `--device`.
    pub device: Option<String>,
    /// How much lower than the service's own the priority of a job is, as `nice` counts.
    pub niceness: i32,
    /// Gets a line for whoever watches the service.
    pub report: Box<dyn Fn(&str) + Send>,
}

/// Runs the queue of one home.
pub(crate) struct Supervisor {
    state: AppState,
    launch: Launch,
    workers: BTreeMap<String, Worker>,
    evaluations: Runner,
}

impl Supervisor {
    /// Begins to run jobs, on a thread of its own. A second call on one state does nothing.
    pub(crate) fn start(state: AppState, launch: Launch) {
        let Some(woken) = state.woken() else { return };
        let supervisor = Self { state, launch, workers: BTreeMap::new(), evaluations: Runner::default() };
        std::thread::spawn(move || supervisor.run(&woken));
    }

    /// Runs the queue on this thread until `job` has ended; `each` is called in every round.
    pub(crate) fn run_until(
        state: AppState,
        launch: Launch,
        job: &str,
        each: &mut dyn FnMut() -> Result<(), ApiError>,
    ) -> Result<(), ApiError> {
        let mut supervisor = Self { state, launch, workers: BTreeMap::new(), evaluations: Runner::default() };
        supervisor.recover()?;
        loop {
            supervisor.tick()?;
            each()?;
            let found = supervisor.state.store().read(|store| JobRow::find(store, job))?;
            if found.is_none_or(|job| job.phase == Phase::Ended) {
                return Ok(());
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn run(mut self, woken: &Receiver<()>) {
        if let Err(error) = self.recover() {
            self.report(&format!("jobs of an earlier service: {error}"));
        }
        loop {
            // An error (a full disk, a database that is held) is said; the next round tries again.
            if let Err(error) = self.tick() {
                self.report(&error.to_string());
                std::thread::sleep(Duration::from_secs(1));
            }
            match woken.recv_timeout(PAUSE) {
                Err(RecvTimeoutError::Disconnected) => return,
                _ => while woken.try_recv().is_ok() {},
            }
        }
    }

    fn report(&self, line: &str) {
        (self.launch.report)(line);
    }

    /// Finds the jobs that an earlier service started.
    fn recover(&mut self) -> Result<(), ApiError> {
        self.clear_unanswered()?;
        for job in self.state.store().read(|store| JobRow::in_phase(store, Phase::Running))? {
            let folder = self.folder(&job)?;
            if folder.is_locked()? {
                self.report(&format!("job `{}` ({}) is still running", job.name, job.id));
                self.workers.insert(job.id, Worker::adopted(job.pid));
            } else if folder.status()? == JobStatus::InProgress && job.status == JobStatus::InProgress {
                self.report(&format!("job `{}` ({}) goes on from its newest checkpoint", job.name, job.id));
                self.spawn(&job)?;
            } else {
                self.conclude(&job.id, None)?;
            }
        }
        Ok(())
    }

    /// Takes away the folders of requests that a service was killed over before it answered: no row tells of them. Inside
    /// a transaction, so that no other process is just making one.
    fn clear_unanswered(&self) -> Result<(), ApiError> {
        let jobs = self.state.home().jobs_dir();
        let Ok(entries) = fs_err::read_dir(&jobs) else { return Ok(()) };
        let names: Vec<String> =
            entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        self.state.store().write(|store| {
            for id in names.iter().filter(|name| outcrop_job::home::is_id(name)) {
                let folder = jobs.join(id);
                // `request.json` alone, and of the network: `outcrop train` notes where paths start, and plans.
                let Ok(files) = fs_err::read_dir(&folder) else { continue };
                let files = files.flatten().map(|entry| entry.file_name());
                if JobRow::find(store, id)?.is_none() && files.eq(["request.json"]) && is_old(&folder) {
                    fs_err::remove_dir_all(&folder)?;
                }
            }
            Ok(())
        })
    }

    /// One look at everything.
    fn tick(&mut self) -> Result<(), ApiError> {
        self.reap()?;
        for job in self.state.store().read(|store| JobRow::in_phase(store, Phase::Running))? {
            self.look_at(&job)?;
        }
        for job in self.state.store().read(|store| JobRow::in_phase(store, Phase::Waiting))? {
            // One job's folder that can't be used keeps no other job waiting.
            if let Err(error) = self.consider(&job) {
                self.report(&format!("job `{}` ({}) can't begin: {}", job.name, job.id, error.message));
            }
        }
        let free = self.launch.slots.saturating_sub(self.workers.len());
        self.evaluations.tick(&self.state, &self.launch, free)
    }

    /// Starts a waiting job where there is room, or takes it off the queue where it was stopped.
    fn consider(&mut self, job: &JobRow) -> Result<(), ApiError> {
        if self.folder(job)?.stop_requested() {
            self.state.store().change_job(&job.id, |job| job.turn(JobStatus::Stopped))?;
            self.state.note_stopped(job)?;
        } else if self.workers.len() + self.evaluations.len() < self.launch.slots
            && self.state.store().take_waiting(&job.id)?
        {
            self.spawn(job)?;
        }
        Ok(())
    }

    /// The folder of a job, made again where someone took it away.
    fn folder(&self, job: &JobRow) -> Result<JobFolder, ApiError> {
        let directory = self.state.home().job_dir(&job.id)?;
        match JobFolder::open(&directory) {
            Ok(folder) => Ok(folder),
            Err(_) => {
                if directory.is_dir() {
                    fs_err::remove_dir_all(&directory)?; // without a request it is no job's
                }
                Ok(JobFolder::create(&directory, &job.request)?)
            }
        }
    }

    /// Starts a job's process. Where that fails the job does.
    fn spawn(&mut self, job: &JobRow) -> Result<(), ApiError> {
        let folder = self.folder(job)?;
        match Worker::spawn(&self.launch, self.state.home(), &job.id, &folder) {
            Ok(worker) => {
                self.state.store().set_pid(&job.id, worker.pid().unwrap_or_default())?;
                self.workers.insert(job.id.clone(), worker);
            }
            Err(error) => {
                let message = format!("the job's process can't be started: {error}");
                self.state.note_end(&folder, Event::Failed { message })?;
                self.conclude(&job.id, None)?;
            }
        }
        Ok(())
    }

    /// Sees which processes have ended.
    fn reap(&mut self) -> Result<(), ApiError> {
        let mut ended = Vec::new();
        for (id, worker) in &mut self.workers {
            let folder = self.state.home().job(id);
            match worker.ended(folder.as_ref().ok())? {
                End::Running => {}
                End::OtherHasIt => *worker = Worker::adopted(None),
                End::Ended(status) => ended.push((id.clone(), status)),
            }
        }
        for (id, status) in ended {
            self.workers.remove(&id);
            if status.is_some() || !self.go_on(&id)? {
                self.conclude(&id, status)?;
            }
        }
        Ok(())
    }

    /// Starts a job again whose process was another service's child and ended without a word; false where there is an end
    /// to write down. How such a process ended nobody can tell: it may have been killed together with its service and have
    /// let go of its folder only now. As a child of this service it tells.
    fn go_on(&mut self, id: &str) -> Result<bool, ApiError> {
        let Some(job) = self.state.store().read(|store| JobRow::find(store, id))? else { return Ok(false) };
        let folder = self.folder(&job)?;
        let goes_on = job.status == JobStatus::InProgress && folder.status()? == JobStatus::InProgress;
        if goes_on && !folder.is_locked()? {
            self.report(&format!("job `{}` ({id}) goes on from its newest checkpoint", job.name));
            self.spawn(&job)?;
            return Ok(true);
        }
        Ok(false)
    }

    /// What changes about a running job.
    fn look_at(&mut self, job: &JobRow) -> Result<(), ApiError> {
        let Ok(folder) = self.state.home().job(&job.id) else { return Ok(()) };
        let stopping = folder.stop_requested();
        if stopping && job.status == JobStatus::InProgress {
            self.state.store().change_job(&job.id, |job| job.turn(JobStatus::Stopping))?;
        }
        if job.status == JobStatus::Stopping && !stopping {
            // The service was killed between the row and the file.
            folder.request_stop()?;
        }
        if job.planned.is_none()
            && let Some(time) = worker::planned(&folder)
        {
            self.state.store().change_job(&job.id, |job| job.planned = Some(time))?;
        }
        // Before its first event there is nothing to checkpoint: the process needn't be waited for.
        if (stopping || job.status == JobStatus::Stopping)
            && !folder.events_path().exists()
            && let Some(worker) = self.workers.get_mut(&job.id)
        {
            worker.end_now(&folder)?;
        }
        Ok(())
    }

    /// Writes down how a job ended. `exit` is unknown where the process was another service's child.
    fn conclude(&mut self, id: &str, exit: Option<ExitStatus>) -> Result<(), ApiError> {
        let Some(job) = self.state.store().read(|store| JobRow::find(store, id))? else { return Ok(()) };
        let folder = self.folder(&job)?;
        if folder.is_locked()? {
            self.workers.insert(id.to_string(), Worker::adopted(None));
            return Ok(());
        }
        let mut records = folder.read_events()?;
        let stopping = folder.stop_requested() || job.status == JobStatus::Stopping;
        if !JobStatus::from_events(&records, stopping).is_final() {
            let step = records.iter().rev().find_map(|record| record.event.step()).unwrap_or(0);
            let event = match stopping {
                true => Event::Interrupted { step },
                false => Event::Failed { message: worker::cause(exit, folder.root(), "training") },
            };
            self.state.note_end(&folder, event)?;
            records = folder.read_events()?;
        }
        self.state.sync_models()?;
        let mut job = job;
        self.state.read_off(&mut job, &folder, &records)?;
        job.turn(job.status);
        job.seen = crate::sync::stamp(&folder.events_path());
        self.state.store().write(|store| job.save(store))?;
        let why = job.failure.as_ref().map_or_else(String::new, |why| format!(": {why}"));
        self.report(&format!("job `{}` ({id}) is {}{why}", job.name, job.status));
        Ok(())
    }
}

/// Whether a folder has not been written to for a while: an `outcrop train` may be about to write its next file.
fn is_old(folder: &std::path::Path) -> bool {
    let written = fs_err::metadata(folder).and_then(|metadata| metadata.modified());
    written.is_ok_and(|time| time.elapsed().is_ok_and(|age| age > Duration::from_secs(60)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Settings;
    use outcrop_job::Request;
    use std::time::SystemTime;

    #[test]
    fn only_requests_that_were_never_answered_are_cleared() {
        let place = tempfile::tempdir().unwrap();
        let home = outcrop_job::Home::at(place.path().join("home"));
        let state = AppState::open(home.clone(), Settings::default()).unwrap();
        let report = Box::new(|_: &str| {});
        let launch = Launch { program: "none".into(), slots: 1, device: None, niceness: 0, report };
        let supervisor = Supervisor { state, launch, workers: BTreeMap::new(), evaluations: Runner::default() };
        let make = |id: &str, more: Option<&str>, seconds: u64| {
            let folder = JobFolder::create(&home.job_dir(id).unwrap(), &Request::default()).unwrap();
            if let Some(file) = more {
                fs_err::write(folder.root().join(file), "").unwrap();
            }
            let time = SystemTime::now() - Duration::from_secs(seconds);
            fs_err::File::open(folder.root()).unwrap().file().set_modified(time).unwrap();
        };
        make("unanswered01", None, 100);
        make("justbegun001", None, 1);
        make("ofthecommand", Some("start"), 100);
        supervisor.clear_unanswered().unwrap();
        assert!(home.job("unanswered01").is_err());
        assert!(home.job("justbegun001").is_ok() && home.job("ofthecommand").is_ok());
    }
}
