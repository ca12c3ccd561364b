//! What a job's log says of its run, read as it grows. Left out: how it is shown.

use std::collections::VecDeque;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;

use jiff::Timestamp;
use outcrop_job::describe::describe;
use outcrop_job::event::{Planned, Step};
use outcrop_job::{Event, Record};

/// Lines of the log that are kept; the file has all of them.
const LINES: usize = 300;
/// Steps whose time says how long the next ones take.
const RECENT: usize = 50;

/// A run so far.
#[derive(Debug, Default)]
pub(super) struct Run {
    /// Its size, once it is planned.
    pub(super) planned: Option<Planned>,
    /// Step, loss and learning rate of each step.
    pub(super) steps: Vec<(u64, f64, f64)>,
    /// Step, set and loss of each validation.
    pub(super) validation: Vec<(u64, u64, f64)>,
    /// The last step.
    pub(super) last: Option<Step>,
    /// When it was done.
    pub(super) last_step_time: Option<Timestamp>,
    /// Most memory after any step, in bytes.
    pub(super) peak_memory: u64,
    /// Its events on a line each, those of steps left out.
    pub(super) lines: VecDeque<String>,
    /// Lines that aren't events of this version.
    pub(super) unread: u64,
    /// When the last event was.
    pub(super) last_time: Option<Timestamp>,
    /// Seconds in which a process was at it, up to the last event.
    seconds: f64,
    recent: VecDeque<f64>,
}

impl Run {
    fn add(&mut self, record: &Record) {
        // What lies before the begin of a process is the time in which nobody was at it.
        if let Some(before) = self.last_time
            && !matches!(record.event, Event::Started { .. } | Event::Resumed { .. })
        {
            self.seconds += record.time.duration_since(before).as_secs_f64().max(0.0);
        }
        self.last_time = Some(record.time);
        match &record.event {
            Event::Planned(planned) => self.planned = Some(planned.clone()),
            Event::Step(step) => {
                self.last_step_time = Some(record.time);
                return self.step(step);
            }
            Event::Validation(set) => self.validation.push((set.step, set.set, set.loss)),
            _ => {}
        }
        if self.lines.len() == LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(describe(record));
    }

    fn step(&mut self, step: &Step) {
        self.steps.push((step.step, step.loss, step.learning_rate));
        self.peak_memory = self.peak_memory.max(step.memory_bytes);
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(step.seconds);
        self.last = Some(step.clone());
    }

    /// Seconds that the run has taken; `now` is given while a process is at it.
    pub(super) fn seconds(&self, now: Option<Timestamp>) -> f64 {
        let open = now.zip(self.last_time).map(|(now, last)| now.duration_since(last).as_secs_f64().max(0.0));
        self.seconds + open.unwrap_or(0.0)
    }

    /// Seconds that the steps to come take at the pace of the last ones; None before the first.
    pub(super) fn seconds_left(&self) -> Option<f64> {
        let (planned, last) = (self.planned.as_ref()?, self.last.as_ref()?);
        let mean = self.recent.iter().sum::<f64>() / self.recent.len().max(1) as f64;
        Some(mean * planned.steps.saturating_sub(last.step) as f64)
    }
}

/// Reads a run's log on from where it stopped.
#[derive(Debug)]
pub(super) struct Follower {
    path: PathBuf,
    /// Bytes of whole lines that were read.
    read: u64,
    /// The last line that was read: a resumed run cuts the log back and may have written past this point since.
    last_line: Vec<u8>,
    run: Run,
}

impl Follower {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, read: 0, last_line: Vec::new(), run: Run::default() }
    }

    /// The run up to now. Errors: the disk. A log that isn't there yet is empty.
    pub(super) fn run(&mut self) -> std::io::Result<&Run> {
        let mut file = match fs_err::File::open(&self.path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                *self = Self::new(std::mem::take(&mut self.path));
                return Ok(&self.run);
            }
            file => file?,
        };
        if !self.goes_on(&mut file)? {
            *self = Self::new(std::mem::take(&mut self.path));
        }
        file.seek(SeekFrom::Start(self.read))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        for line in bytes[..whole].split_inclusive(|byte| *byte == b'\n') {
            match serde_json::from_slice::<Record>(line) {
                Ok(record) => self.run.add(&record),
                Err(_) => self.run.unread += 1,
            }
            self.last_line = line.to_vec();
        }
        self.read += whole as u64;
        Ok(&self.run)
    }

    /// Whether what was read last is still where it was.
    fn goes_on(&self, file: &mut fs_err::File) -> std::io::Result<bool> {
        if file.metadata()?.len() < self.read {
            return Ok(false);
        }
        file.seek(SeekFrom::Start(self.read - self.last_line.len() as u64))?;
        let mut found = vec![0; self.last_line.len()];
        file.read_exact(&mut found)?;
        Ok(found == self.last_line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(second: u32, step: u64, loss: f64) -> String {
        format!(
            r#"{{"time":"2026-11-22T07:20:{second:02}.000Z","event":"step","step":{step},"epoch":0,"loss":{loss},"tokens":8,"target_tokens":4,"grad_norm":1.0,"clip_factor":1.0,"learning_rate":0.001,"tokens_per_second":4.0,"seconds":2.0,"memory_bytes":{}}}"#,
            step * 1000
        ) + "\n"
    }

    fn planned() -> String {
        r#"{"time":"2026-11-22T07:20:00.000Z","event":"planned","steps":10,"epochs":1,"records":5,"tokens":40,"target_tokens":20,"trainable_parameters":7,"device":"cpu","config_hash":"00"}"#
            .to_string()
            + "\n"
    }

    #[test]
    fn a_log_is_read_on_and_one_that_was_cut_back_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        let mut follower = Follower::new(path.clone());
        assert!(follower.run().unwrap().planned.is_none());
        let begin = planned() + &step(2, 1, 3.0) + &step(4, 2, 2.0);
        fs_err::write(&path, begin.clone() + "{\"time\":\"half a li").unwrap();
        let run = follower.run().unwrap();
        assert_eq!((run.steps.len(), run.unread, run.peak_memory), (2, 0, 2000));
        assert_eq!((run.seconds(None), run.seconds_left()), (4.0, Some(16.0)));
        fs_err::write(&path, begin + &step(6, 3, 1.5) + "no event\n").unwrap();
        let run = follower.run().unwrap();
        assert_eq!((run.steps.last(), run.unread), (Some(&(3, 1.5, 0.001)), 1));
        // cut back to the first step and longer than before: the steps that were undone are gone
        let again = planned() + &step(2, 1, 3.0) + &step(8, 2, 9.0) + &step(9, 3, 8.0) + &step(10, 4, 7.0);
        fs_err::write(&path, again).unwrap();
        let losses: Vec<f64> = follower.run().unwrap().steps.iter().map(|step| step.1).collect();
        assert_eq!(losses, [3.0, 9.0, 8.0, 7.0]);
        fs_err::remove_file(&path).unwrap();
        assert!(follower.run().unwrap().steps.is_empty());
    }

    #[test]
    fn the_time_between_two_processes_is_nobodys() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        let started = r#"{"time":"2026-11-22T07:20:50.000Z","event":"started","engine_version":"0.1.0","pid":7}"#;
        fs_err::write(&path, planned() + &step(2, 1, 3.0) + started + "\n" + &step(52, 2, 2.0)).unwrap();
        let mut follower = Follower::new(path);
        let run = follower.run().unwrap();
        assert_eq!(run.seconds(None), 4.0);
        assert_eq!(run.seconds(Some("2026-11-22T07:20:55.000Z".parse().unwrap())), 7.0);
        assert_eq!(run.lines.len(), 2, "{:?}", run.lines);
    }
}
