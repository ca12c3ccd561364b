//! The status of a job in Bedrock's words, read off the events of its run.

use serde::{Deserialize, Serialize};

use crate::event::{Event, Record};

/// Bedrock's job statuses. There is none for waiting: a queued job is `InProgress`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum JobStatus {
    /// Queued, running, or ended without a word (its process was killed); `JobFolder::is_locked` tells which.
    InProgress,
    /// The custom model is there.
    Completed,
    /// It ended with an error.
    Failed,
    /// It was asked to stop and hasn't yet.
    Stopping,
    /// It was stopped.
    Stopped,
}

impl JobStatus {
    /// Bedrock's spelling.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InProgress => "InProgress",
            Self::Completed => "Completed",
            Self::Failed => "Failed",
            Self::Stopping => "Stopping",
            Self::Stopped => "Stopped",
        }
    }

    /// Whether nothing more will happen unless someone resumes the run.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Stopped)
    }

    /// The status after these events; `stop_requested` turns a run in progress into one that is stopping.
    pub fn from_events(records: &[Record], stop_requested: bool) -> Self {
        let last = records.iter().rev().find_map(|record| match record.event {
            Event::Completed { .. } => Some(Self::Completed),
            Event::Failed { .. } => Some(Self::Failed),
            Event::Interrupted { .. } => Some(Self::Stopped),
            Event::Planned(_) | Event::Started { .. } | Event::Resumed { .. } | Event::Step(_) => {
                Some(Self::InProgress)
            }
            _ => None,
        });
        match last.unwrap_or(Self::InProgress) {
            Self::InProgress if stop_requested => Self::Stopping,
            status => status,
        }
    }
}

impl std::fmt::Display for JobStatus {
    fn fmt(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
        formatter.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::tests::step;

    #[test]
    fn status_follows_the_last_event_that_tells() {
        let status = |events: Vec<Event>, stop| {
            let time = crate::timestamp::now();
            let records: Vec<Record> = events.into_iter().map(|event| Record { time, event }).collect();
            JobStatus::from_events(&records, stop)
        };
        let warning = || Event::Warning { message: "w".into() };
        let failed = || Event::Failed { message: "f".into() };
        let completed = || Event::Completed { training_loss: 1.0, seconds: 1.0 };
        assert_eq!(status(vec![], false), JobStatus::InProgress);
        assert_eq!(status(vec![], true), JobStatus::Stopping);
        assert_eq!(status(vec![step(1, 0, 1.0)], false), JobStatus::InProgress);
        assert_eq!(status(vec![step(1, 0, 1.0)], true), JobStatus::Stopping);
        assert_eq!(status(vec![step(1, 0, 1.0), failed()], true), JobStatus::Failed);
        assert_eq!(status(vec![failed(), Event::Resumed { step: 1 }], false), JobStatus::InProgress);
        assert_eq!(status(vec![Event::Interrupted { step: 1 }, warning()], true), JobStatus::Stopped);
        assert_eq!(status(vec![completed(), warning()], false), JobStatus::Completed);
        assert!(!JobStatus::Stopping.is_final() && JobStatus::Stopped.is_final());
    }

    #[test]
    fn the_spelling_is_bedrocks_everywhere() {
        use JobStatus::{Completed, Failed, InProgress, Stopped, Stopping};
        for status in [InProgress, Completed, Failed, Stopping, Stopped] {
            assert_eq!(serde_json::to_string(&status).unwrap(), format!("\"{status}\""));
        }
        assert_eq!(InProgress.to_string(), "InProgress");
    }
}
