//! `events.jsonl`: appended a whole line at a time, read whole, and cut back to a checkpoint when a run is resumed.
//! A line ends with a newline; bytes after the last one are the torn end of a killed process and are dropped.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::atomic::write_atomic;
use crate::event::{Event, Record};
use crate::timestamp;

/// Why a log can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum EventError {
    /// The file itself.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// A line that isn't an event.
    #[error("{}:{line}:{column}: not an event: {message}; move the file away or restore it", path.display())]
    Line {
        /// The log.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column in bytes, from 1.
        column: usize,
        /// What serde says.
        message: String,
    },
    /// The log of a new run is already there.
    #[error("`{}` exists already; resume that run or choose another folder", .0.display())]
    Exists(PathBuf),
}

/// The writer of one run's log. Each event is one write and is flushed to the system before `write` returns.
#[derive(Debug)]
pub struct EventLog {
    file: fs_err::File,
    /// Bytes of whole lines; a failed write is cut back to here.
    length: u64,
}

impl EventLog {
    /// Starts the log of a new run.
    ///
    /// # Errors
    /// The file exists or can't be made.
    pub fn create(path: &Path) -> Result<Self, EventError> {
        match fs_err::OpenOptions::new().append(true).create_new(true).open(path) {
            Ok(file) => Ok(Self { file, length: 0 }),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(EventError::Exists(path.to_path_buf())),
            Err(error) => Err(error.into()),
        }
    }

    /// Goes on with a log as it is, less a torn end.
    ///
    /// # Errors
    /// The file is missing, can't be written or has a line that isn't an event.
    pub fn append(path: &Path) -> Result<Self, EventError> {
        let bytes = fs_err::read(path)?;
        let whole = whole_lines(&bytes);
        parse(path, whole)?;
        let length = whole.len() as u64;
        let file = fs_err::OpenOptions::new().append(true).open(path)?;
        file.set_len(length)?;
        Ok(Self { file, length })
    }

    /// Goes on from the checkpoint of `step`: the log becomes what it was when that checkpoint was written, so that a
    /// resumed run has each step once. Cuts after the last `Checkpoint` event of `step`, or, where there is none (as
    /// for step 0), before the first event of a later step. The rest is replaced atomically.
    ///
    /// # Errors
    /// The file is missing, can't be written or has a line that isn't an event.
    pub fn resume(path: &Path, step: u64) -> Result<Self, EventError> {
        let bytes = fs_err::read(path)?;
        let whole = whole_lines(&bytes);
        let records = parse(path, whole)?;
        let kept = kept_events(&records, step);
        let end: usize = whole.split_inclusive(|byte| *byte == b'\n').take(kept).map(<[u8]>::len).sum();
        if end < bytes.len() {
            write_atomic(path, &bytes[..end])?;
        }
        let file = fs_err::OpenOptions::new().append(true).open(path)?;
        Ok(Self { file, length: end as u64 })
    }

    /// Appends `event` with the present time.
    ///
    /// # Errors
    /// The line can't be written (`atomic::is_disk_full` tells a full disk). The log then ends as before the call, so
    /// that the write can be repeated.
    pub fn write(&mut self, event: Event) -> io::Result<Record> {
        let record = Record { time: timestamp::now(), event };
        let mut line = serde_json::to_vec(&record)?;
        line.push(b'\n');
        if let Err(error) = self.file.write_all(&line).and_then(|()| self.file.flush()) {
            // Should this fail too, the part of a line is at the end, and every reader drops it as torn.
            let _ = self.file.set_len(self.length);
            return Err(error);
        }
        self.length += line.len() as u64;
        Ok(record)
    }
}

fn kept_events(records: &[Record], step: u64) -> usize {
    let checkpoint = records
        .iter()
        .rposition(|record| matches!(&record.event, Event::Checkpoint { step: found, .. } if *found == step));
    match checkpoint {
        Some(index) => index + 1,
        None => {
            let later = records.iter().position(|record| record.event.step().is_some_and(|found| found > step));
            later.unwrap_or(records.len())
        }
    }
}

/// Reads every event; a torn last line is dropped.
///
/// # Errors
/// The file is missing or unreadable; a whole line isn't an event.
pub fn read_events(path: &Path) -> Result<Vec<Record>, EventError> {
    let bytes = fs_err::read(path)?;
    parse(path, whole_lines(&bytes))
}

fn whole_lines(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
    &bytes[..end]
}

fn parse(path: &Path, whole: &[u8]) -> Result<Vec<Record>, EventError> {
    let lines = whole.split_inclusive(|byte| *byte == b'\n').enumerate();
    let records = lines.map(|(index, line)| {
        serde_json::from_slice(line.trim_ascii_end()).map_err(|error| {
            let whole = error.to_string();
            let place = format!(" at line {} column {}", error.line(), error.column());
            EventError::Line {
                path: path.to_path_buf(),
                line: index + 1,
                column: error.column().max(1),
                message: whole.strip_suffix(&place).unwrap_or(&whole).to_string(),
            }
        })
    });
    records.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::tests::{step, validation};

    fn checkpoint(step: u64) -> Event {
        Event::Checkpoint { step, path: format!("checkpoints/{step}"), bytes: 1 }
    }

    fn steps(path: &Path) -> Vec<u64> {
        let records = read_events(path).unwrap();
        let numbers = records.iter().filter_map(|record| match &record.event {
            Event::Step(step) => Some(step.step),
            _ => None,
        });
        numbers.collect()
    }

    fn log_of(path: &Path, events: impl IntoIterator<Item = Event>) -> EventLog {
        let mut log = EventLog::create(path).unwrap();
        for event in events {
            log.write(event).unwrap();
        }
        log
    }

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        let mut log = EventLog::create(&path).unwrap();
        let written = [log.write(step(1, 0, f64::NAN)).unwrap(), log.write(step(2, 0, 1.5)).unwrap()];
        let read = read_events(&path).unwrap();
        assert_eq!(read.len(), 2);
        assert_eq!(read[1], written[1]);
        assert_eq!(read[0].time, written[0].time);
        assert_eq!(fs_err::read_to_string(&path).unwrap().lines().count(), 2);
    }

    #[test]
    fn a_new_run_never_continues_an_old_log() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        drop(log_of(&path, [step(1, 0, 1.0)]));
        let error = EventLog::create(&path).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("`{}` exists already; resume that run or choose another folder", path.display())
        );
    }

    #[test]
    fn a_torn_last_line_is_dropped_wherever_it_tore() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        drop(log_of(&path, [step(1, 0, 1.0), Event::Warning { message: "größer".into() }]));
        let whole = fs_err::read(&path).unwrap();
        let first = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        for end in first..whole.len() {
            fs_err::write(&path, &whole[..end]).unwrap();
            assert_eq!(read_events(&path).unwrap().len(), 1, "cut at byte {end}");
            let mut log = EventLog::append(&path).unwrap();
            log.write(step(2, 0, 1.0)).unwrap();
            assert_eq!(steps(&path), [1, 2], "cut at byte {end}");
        }
        fs_err::write(&path, b"{\"ti").unwrap();
        assert!(read_events(&path).unwrap().is_empty());
    }

    #[test]
    fn a_broken_line_elsewhere_is_an_error_with_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        drop(log_of(&path, [step(1, 0, 1.0)]));
        let mut bytes = fs_err::read(&path).unwrap();
        bytes.extend_from_slice(b"{\"time\":}\n{}");
        fs_err::write(&path, &bytes).unwrap();
        let error = read_events(&path).unwrap_err().to_string();
        assert_eq!(
            error,
            format!("{}:2:9: not an event: expected value; move the file away or restore it", path.display())
        );
        assert!(EventLog::append(&path).is_err());
        assert!(EventLog::resume(&path, 1).is_err());
        fs_err::write(&path, b"\n").unwrap();
        assert!(read_events(&path).is_err(), "an empty line is no event");
        fs_err::write(&path, b"{\"time\":\"2026-11-22T07:20:00Z\",\"event\":\"dance\"}\n").unwrap();
        assert!(read_events(&path).unwrap_err().to_string().contains("unknown variant `dance`"));
    }

    #[test]
    fn a_missing_log_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        for error in [read_events(&path).unwrap_err(), EventLog::append(&path).unwrap_err()] {
            assert!(error.to_string().contains(&path.display().to_string()), "{error}");
        }
    }

    #[test]
    fn r25_a_resumed_log_has_each_step_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        let events = [step(1, 0, 1.0), step(2, 0, 1.0), checkpoint(2), validation(2, 0, 0, 1.0), step(3, 1, 1.0)];
        drop(log_of(&path, events));
        let before = read_events(&path).unwrap();
        let mut log = EventLog::resume(&path, 2).unwrap();
        assert_eq!(read_events(&path).unwrap(), before[..3], "as it was when the checkpoint was written");
        log.write(Event::Resumed { step: 2 }).unwrap();
        log.write(step(3, 1, 1.0)).unwrap();
        drop(log);
        assert_eq!(steps(&path), [1, 2, 3]);

        // Again from the same checkpoint, and from the start.
        drop(EventLog::resume(&path, 2).unwrap());
        assert_eq!(steps(&path), [1, 2]);
        drop(EventLog::resume(&path, 0).unwrap());
        assert_eq!(steps(&path), [] as [u64; 0]);
    }

    #[test]
    fn resume_without_that_checkpoint_event_keeps_steps_up_to_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        drop(log_of(&path, [step(1, 0, 1.0), step(2, 0, 1.0), Event::Failed { message: "x".into() }]));
        drop(EventLog::resume(&path, 1).unwrap());
        assert_eq!(steps(&path), [1]);
        assert_eq!(read_events(&path).unwrap().len(), 1);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn r18_a_write_to_a_full_disk_is_recognised_and_counts_nothing() {
        let file = fs_err::OpenOptions::new().append(true).open("/dev/full").unwrap();
        let mut log = EventLog { file, length: 0 };
        let error = log.write(Event::Resumed { step: 1 }).unwrap_err();
        assert!(crate::atomic::is_disk_full(&error), "{error}");
        assert_eq!(log.length, 0);
    }
}
