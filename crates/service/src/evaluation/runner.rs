//! The processes of evaluation jobs. Each has a locked file as its standard input, so the lock lasts as long as it does,
//! whatever becomes of the service: the next one finds running evaluations by it. One that ended without its reports while
//! no service was there is run again; the scores it had are in the cache.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use outcrop_job::JobStatus;
use outcrop_job::claim::Claim;

use super::{REPORT, folder, results};
use crate::store::{Evaluation, Phase};
use crate::supervisor::worker::{LOG, cause, lower_priority, signal_group};
use crate::{ApiError, AppState, Launch};

const LOCK: &str = "lock";

/// The evaluations that run.
#[derive(Default)]
pub(crate) struct Runner {
    running: BTreeMap<String, Process>,
}

/// A process.
enum Process {
    /// A child of this service.
    Own(Child),
    /// A child of an earlier service.
    Adopted,
}

impl Runner {
    /// How many run.
    pub(crate) fn len(&self) -> usize {
        self.running.len()
    }

    /// One look at all of them; starts waiting ones while there are fewer than `most`.
    pub(crate) fn tick(&mut self, state: &AppState, launch: &Launch, most: usize) -> Result<(), ApiError> {
        for job in state.store().read(Evaluation::unfinished)? {
            if let Err(error) = self.look_at(state, launch, &job, most) {
                (launch.report)(&format!("evaluation `{}` ({}): {}", job.name, job.id, error.message));
            }
        }
        Ok(())
    }

    fn look_at(&mut self, state: &AppState, launch: &Launch, job: &Evaluation, most: usize) -> Result<(), ApiError> {
        let folder = folder(state, &job.id);
        if job.phase == Phase::Waiting {
            return if self.running.len() < most { self.start(state, launch, job) } else { Ok(()) };
        }
        let ended = match self.running.get_mut(&job.id) {
            Some(Process::Own(child)) => child.try_wait()?.map(Some),
            Some(Process::Adopted) if Claim::is_taken(&folder.join(LOCK))? => None,
            Some(Process::Adopted) => Some(None),
            None if Claim::is_taken(&folder.join(LOCK))? => {
                self.running.insert(job.id.clone(), Process::Adopted);
                None
            }
            None if job.status == JobStatus::Stopping || job.work.is_done(&folder) => Some(None),
            None => return self.start(state, launch, job),
        };
        match ended {
            Some(exit) => {
                self.running.remove(&job.id);
                conclude(state, launch, job, exit)
            }
            None if job.status == JobStatus::Stopping => {
                // Its scores so far are in the cache: there is nothing to wait for.
                job.pid.into_iter().for_each(signal_group);
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn start(&mut self, state: &AppState, launch: &Launch, job: &Evaluation) -> Result<(), ApiError> {
        let folder = folder(state, &job.id);
        fs_err::create_dir_all(&folder)?;
        // Said before it is done: whoever stops the job meanwhile, and a service that comes after this one, know of it.
        let mut begins = false;
        state.store().change_evaluation(&job.id, |job| {
            begins = job.status == JobStatus::InProgress;
            if begins {
                job.phase = Phase::Running;
            }
        })?;
        if !begins {
            return Ok(());
        }
        match spawn(state, launch, job, &folder) {
            Ok(child) => {
                let pid = child.id();
                state.store().change_evaluation(&job.id, |job| job.pid = Some(pid))?;
                self.running.insert(job.id.clone(), Process::Own(child));
                Ok(())
            }
            Err(error) => fail(state, job, format!("the evaluation's process can't be started: {error}")),
        }
    }
}

/// Starts `outcrop eval` in the job's folder.
fn spawn(state: &AppState, launch: &Launch, job: &Evaluation, folder: &Path) -> std::io::Result<Child> {
    let reports = folder.join(REPORT);
    if reports.exists() {
        fs_err::remove_dir_all(&reports)?; // what an earlier try left counts for nothing
    }
    let log = fs_err::OpenOptions::new().append(true).create(true).open(folder.join(LOG))?.into_parts().0;
    let lock = fs_err::OpenOptions::new().write(true).create(true).truncate(false).open(folder.join(LOCK))?;
    lock.try_lock()?;
    let mut command = Command::new(&launch.program);
    command.arg("eval").args(["--base", &job.work.base]).arg("--model");
    command.args(job.work.models.iter().map(|model| &model.name));
    command.arg("--suite").args(job.work.locations()).args(["--general", "none"]).arg("--output").arg(&reports);
    if let Some(device) = &launch.device {
        command.args(["--device", device]);
    }
    command.env(outcrop_job::home::HOME_VARIABLE, state.home().root()).current_dir(folder);
    command.stdin(Stdio::from(lock.into_parts().0)).stdout(log.try_clone()?).stderr(log);
    #[cfg(unix)]
    {
        use std::os::unix::process::CommandExt;
        command.arg0("outcrop").process_group(0);
    }
    let child = command.spawn()?;
    lower_priority(child.id(), launch.niceness);
    Ok(child)
}

/// Writes down how an evaluation ended. `exit` is unknown where the process was another service's child.
fn conclude(state: &AppState, launch: &Launch, job: &Evaluation, exit: Option<ExitStatus>) -> Result<(), ApiError> {
    let folder = folder(state, &job.id);
    let is_good = exit.is_none_or(|exit| exit.success()) && job.work.is_done(&folder);
    if job.status == JobStatus::Stopping {
        state.store().change_evaluation(&job.id, |job| job.turn(JobStatus::Stopped))?;
    } else if !is_good {
        fail(state, job, cause(exit, &folder, "evaluation"))?;
    } else {
        match results::publish(state, job, &folder) {
            Ok(()) => {
                // One that was stopped while its results were written has them, and is complete all the same.
                state.store().change_evaluation(&job.id, |job| job.turn(JobStatus::Completed))?;
            }
            Err(error) => fail(state, job, error)?,
        }
    }
    (launch.report)(&format!("evaluation `{}` ({}) has ended", job.name, job.id));
    Ok(())
}

fn fail(state: &AppState, job: &Evaluation, message: String) -> Result<(), ApiError> {
    state.store().change_evaluation(&job.id, |job| {
        job.failure = Some(message);
        job.turn(JobStatus::Failed);
    })?;
    Ok(())
}
