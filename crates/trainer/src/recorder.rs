//! Where a run's events go: `events.jsonl` first, then its views and whoever watches.

use crate::Result;
use crate::observer::Observer;
use crate::views::tensorboard::TensorBoard;
use outcrop_job::{Event, EventLog, JobFolder, Record, atomic};
use std::time::Duration;

/// How long a run waits before it tries a full disk again.
const PAUSE: Duration = Duration::from_secs(10);

/// The log, its live view, and the observer.
pub(crate) struct Recorder<'a> {
    log: EventLog,
    tensorboard: TensorBoard,
    pub(crate) records: Vec<Record>,
    pub(crate) observer: &'a mut dyn Observer,
}

impl<'a> Recorder<'a> {
    /// Begins the log of a new run, or goes on with one from the checkpoint of `resume_from`.
    pub(crate) fn open(folder: &JobFolder, resume_from: Option<u64>, observer: &'a mut dyn Observer) -> Result<Self> {
        let path = folder.events_path();
        let log = match resume_from {
            Some(step) if path.exists() => EventLog::resume(&path, step)?,
            _ => EventLog::create(&path)?,
        };
        let records = folder.read_events()?;
        let views = folder.root().join("tensorboard");
        fs_err::create_dir_all(&views)?;
        let tensorboard = TensorBoard::create(&views, &records)?;
        Ok(Self { log, tensorboard, records, observer })
    }

    /// Writes the log of a run whose first steps another run has done: its plan, then those steps.
    pub(crate) fn begin_with(folder: &JobFolder, planned: Event, shared: Vec<Record>) -> Result<()> {
        let time = shared.first().map_or_else(outcrop_job::timestamp::now, |record| record.time);
        let mut text = String::new();
        for record in std::iter::once(Record { time, event: planned }).chain(shared) {
            text.push_str(&serde_json::to_string(&record).map_err(std::io::Error::from)?);
            text.push('\n');
        }
        Ok(atomic::write_atomic(&folder.events_path(), text.as_bytes())?)
    }

    /// Takes away the log of a run that left no checkpoint to go on from.
    pub(crate) fn discard(folder: &JobFolder) -> Result<()> {
        match fs_err::remove_file(folder.events_path()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Writes an event; a full disk pauses the run until there is room or its user stops it (R18).
    pub(crate) fn write(&mut self, event: Event) -> Result<()> {
        let record = self.retry_when_full(|recorder| Ok(recorder.log.write(event.clone())?))?;
        self.retry_when_full(|recorder| Ok(recorder.tensorboard.append(&record)?))?;
        self.observer.event(&record);
        self.records.push(record);
        Ok(())
    }

    /// Says something that the user should know.
    pub(crate) fn warn(&mut self, message: impl Into<String>) -> Result<()> {
        self.write(Event::Warning { message: message.into() })
    }

    /// Does something that writes; on a full disk says so, waits and does it again, until its user stops the run.
    pub(crate) fn retry_when_full<T>(&mut self, mut action: impl FnMut(&mut Self) -> Result<T>) -> Result<T> {
        let mut said = false;
        loop {
            let error = match action(self) {
                Err(error) if error.is_disk_full() => error,
                done => return done,
            };
            if !said {
                // the event may not fit either: the observer is told in any case
                let message = format!("{error}: the disk is full; the run waits until there is room, Ctrl-C stops it");
                let record = Record { time: outcrop_job::timestamp::now(), event: Event::Warning { message } };
                self.observer.event(&record);
                said = true;
            }
            let waited = (0..PAUSE.as_millis() / 100).any(|_| {
                std::thread::sleep(Duration::from_millis(100));
                self.observer.stop_requested()
            });
            if waited {
                return Err(error);
            }
        }
    }
}

impl crate::TrainError {
    /// Whether the disk had no room left.
    pub fn is_disk_full(&self) -> bool {
        let mut source: Option<&(dyn std::error::Error + 'static)> = Some(self);
        while let Some(error) = source {
            if error.downcast_ref::<std::io::Error>().is_some_and(atomic::is_disk_full) {
                return true;
            }
            source = error.source();
        }
        // safetensors' writer keeps the system's error as text only
        self.to_string().contains("No space left on device")
    }
}
