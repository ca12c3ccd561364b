//! One job's process: started in a process group of its own, watched, ended, and its end put into words.

use std::io::{BufRead, Read, Seek, SeekFrom};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use outcrop_job::{Event, Home, JobFolder, Record};

use super::Launch;
use crate::ApiError;

/// File in the job's folder with what its process printed.
pub(crate) const LOG: &str = "log";
/// What `outcrop train --job-folder` exits with where another process has the folder.
const OTHER_HAS_IT: i32 = 75;

/// A job's process.
pub(super) enum Worker {
    /// A child of this process.
    Own(Child),
    /// A child of an earlier service; the lock on the job's folder tells when it ends.
    Adopted(Option<u32>),
}

/// What became of a process.
pub(super) enum End {
    /// Nothing yet.
    Running,
    /// It found another one at its job.
    OtherHasIt,
    /// It ended; how is known of a child alone.
    Ended(Option<ExitStatus>),
}

impl Worker {
    /// A process that runs already.
    pub(super) fn adopted(pid: Option<u32>) -> Self {
        Self::Adopted(pid)
    }

    /// Starts `outcrop train --job-folder ID`. Signals to the service's group, as of Ctrl-C, don't reach it.
    pub(super) fn spawn(launch: &Launch, home: &Home, id: &str, folder: &JobFolder) -> std::io::Result<Self> {
        let log = fs_err::OpenOptions::new().append(true).create(true).open(folder.root().join(LOG))?.into_parts().0;
        let mut command = Command::new(&launch.program);
        command.args(["train", "--job-folder", id]).env(outcrop_job::home::HOME_VARIABLE, home.root());
        if let Some(device) = &launch.device {
            command.args(["--device", device]);
        }
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).current_dir(folder.root());
        #[cfg(unix)]
        {
            use std::os::unix::process::CommandExt;
            command.arg0("outcrop").process_group(0);
        }
        let child = command.spawn()?;
        lower_priority(child.id(), launch.niceness);
        Ok(Self::Own(child))
    }

    /// Its process id.
    pub(super) fn pid(&self) -> Option<u32> {
        match self {
            Self::Own(child) => Some(child.id()),
            Self::Adopted(pid) => *pid,
        }
    }

    /// Whether it has ended, and how. A folder that is gone ends what ran in it.
    pub(super) fn ended(&mut self, folder: Option<&JobFolder>) -> Result<End, ApiError> {
        Ok(match self {
            Self::Own(child) => match child.try_wait()? {
                None => End::Running,
                Some(status) if status.code() == Some(OTHER_HAS_IT) => End::OtherHasIt,
                Some(status) => End::Ended(Some(status)),
            },
            Self::Adopted(_) => match folder {
                Some(folder) if folder.is_locked()? => End::Running,
                _ => End::Ended(None),
            },
        })
    }

    /// Ends the process and whatever it started, without waiting for a checkpoint.
    pub(super) fn end_now(&mut self, folder: &JobFolder) -> Result<(), ApiError> {
        match self {
            #[cfg(unix)]
            Self::Own(child) => signal_group(child.id()),
            #[cfg(not(unix))]
            Self::Own(child) => child.kill()?,
            // The lock says that the number is still this job's and not a stranger's.
            Self::Adopted(Some(pid)) if folder.is_locked()? => signal_group(*pid),
            Self::Adopted(_) => {}
        }
        Ok(())
    }
}

#[cfg(unix)]
fn process(pid: u32) -> Option<rustix::process::Pid> {
    rustix::process::Pid::from_raw(i32::try_from(pid).ok()?)
}

/// A priority that can't be lowered costs the service some speed and the job nothing.
pub(crate) fn lower_priority(pid: u32, niceness: i32) {
    #[cfg(unix)]
    if let Some(pid) = process(pid) {
        let _ = rustix::process::setpriority_process(Some(pid), niceness);
    }
    #[cfg(not(unix))]
    let _ = (pid, niceness);
}

/// Ends a process and what it started.
#[cfg(unix)]
pub(crate) fn signal_group(pid: u32) {
    if let Some(group) = process(pid) {
        // It may have ended just now.
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::TERM);
    }
}

/// Nothing ends a group here.
#[cfg(not(unix))]
pub(crate) fn signal_group(_pid: u32) {}

/// When the plan of a run stood, from the first line of its log.
pub(super) fn planned(folder: &JobFolder) -> Option<i64> {
    let file = fs_err::File::open(folder.events_path()).ok()?;
    let mut line = String::new();
    std::io::BufReader::new(file.take(1 << 20)).read_line(&mut line).ok()?;
    let record: Record = serde_json::from_str(&line).ok()?;
    matches!(record.event, Event::Planned(_)).then(|| record.time.as_millisecond())
}

/// Why a process ended that didn't say so in its events.
pub(crate) fn cause(exit: Option<ExitStatus>, folder: &Path, what: &str) -> String {
    #[cfg(unix)]
    if let Some(signal) = exit.as_ref().and_then(std::os::unix::process::ExitStatusExt::signal) {
        return killed(signal, what);
    }
    let said = last_error(folder);
    match (exit, said) {
        (_, Some(error)) => error,
        (Some(exit), None) => format!("the {what} process ended without a word ({exit})"),
        (None, None) => format!(
            "the {what} process ended without a word while another service watched it: it was killed by a signal, as by the system when memory runs out{}",
            advice(what)
        ),
    }
}

/// What goes on with a process that was killed.
fn advice(what: &str) -> &'static str {
    match what {
        "training" => "; `outcrop train --resume` goes on from its newest checkpoint",
        _ => "; the same request again takes the scores that are done from the cache",
    }
}

#[cfg(unix)]
fn killed(signal: i32, what: &str) -> String {
    let name = match signal {
        4 => "SIGILL",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        15 => "SIGTERM",
        _ => "a signal",
    };
    let hint = if signal == 9 { ", as the system does when memory runs out" } else { "" };
    format!("the {what} process was killed by signal {signal} ({name}){hint}{}", advice(what))
}

/// The last `error: ` line that the process printed.
fn last_error(folder: &Path) -> Option<String> {
    const TAIL: u64 = 64 << 10;
    let mut file = fs_err::File::open(folder.join(LOG)).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL))).ok()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let line = text.lines().rev().find_map(|line| line.strip_prefix("error: "))?;
    Some(line.to_string())
}
