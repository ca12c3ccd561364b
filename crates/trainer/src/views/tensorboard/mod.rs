//! The run as TensorBoard reads it: one file `events.out.tfevents.<unix seconds>.outcrop` of protobuf messages, each
//! framed as a TFRecord. Scalars of steps, validations, forgetting and sample answers; warnings and the comparison's headline as text. Histograms,
//! graphs and hyperparameters are left out.

mod messages;
#[cfg(test)]
mod tests;

use std::ffi::OsStr;
use std::io::{self, Write};
use std::path::Path;

use outcrop_job::{Event, Record, timestamp};
use prost::Message;
use serde_json::Value as Json;

use messages::{Summary, TensorBoardEvent, Value, What, put_record, scalar, text};

const PREFIX: &str = "events.out.tfevents.";
const SUFFIX: &str = ".outcrop";
/// What the first event of every file tells.
const FILE_VERSION: &str = "brain.Event:2";

/// The writer of one run's TensorBoard file.
#[derive(Debug)]
pub struct TensorBoard {
    file: fs_err::File,
    /// Bytes of whole records; a failed write is cut back to here.
    length: u64,
    translation: Translation,
}

impl TensorBoard {
    /// Writes a new file of all that happened so far, in place of the files that former calls left in `folder`, so that
    /// a resumed run has each step once. Files of other writers stay. The folder is made where it's missing.
    ///
    /// The new file sorts after the former: a TensorBoard that is open then shows the new one alone. Without its data
    /// server (`--load_fast=false`) it must be started again.
    ///
    /// # Errors
    /// The folder can't be made, read or written; a step is over 2^63 - 1.
    pub fn create(folder: &Path, past: &[Record]) -> io::Result<Self> {
        fs_err::create_dir_all(folder)?;
        let latest_former = remove_former(folder)?;
        let now = timestamp::now();
        let seconds = u64::try_from(now.as_second()).unwrap_or(0).max(latest_former.map_or(0, |t| t.saturating_add(1)));

        let wall_time = to_seconds(now.as_millisecond());
        let version = TensorBoardEvent { wall_time, step: 0, what: Some(What::FileVersion(FILE_VERSION.into())) };
        let mut bytes = Vec::new();
        put_record(&mut bytes, &version.encode_to_vec());
        let mut translation = Translation::default();
        for record in past {
            translation.put(record, &mut bytes)?;
        }
        let path = folder.join(format!("{PREFIX}{seconds:010}{SUFFIX}"));
        let mut file = fs_err::OpenOptions::new().append(true).create_new(true).open(path)?;
        file.write_all(&bytes)?;
        Ok(Self { file, length: bytes.len() as u64, translation })
    }

    /// Adds one event, if it is one that TensorBoard shows, and flushes it.
    ///
    /// # Errors
    /// The record can't be written (the file then ends as before the call, so that the call can be repeated); a step
    /// is over 2^63 - 1.
    pub fn append(&mut self, record: &Record) -> io::Result<()> {
        let mut translation = self.translation.clone();
        let mut bytes = Vec::new();
        translation.put(record, &mut bytes)?;
        if let Err(error) = self.file.write_all(&bytes).and_then(|()| self.file.flush()) {
            // Should this fail too, TensorBoard stops at the torn record until the next `create`.
            let _ = self.file.set_len(self.length);
            return Err(error);
        }
        self.length += bytes.len() as u64;
        self.translation = translation;
        Ok(())
    }
}

/// Removes this writer's files from `folder`; returns the latest time in their names.
fn remove_former(folder: &Path) -> io::Result<Option<u64>> {
    let mut latest = None;
    for entry in fs_err::read_dir(folder)? {
        let entry = entry?;
        if let Some(seconds) = own_time(&entry.file_name()) {
            fs_err::remove_file(entry.path())?;
            latest = latest.max(Some(seconds));
        }
    }
    Ok(latest)
}

/// The time in the name of a file of this writer; None for any other file.
fn own_time(name: &OsStr) -> Option<u64> {
    let digits = name.to_str()?.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?;
    // `parse` alone would take a sign too.
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

/// What of the run so far decides how the next record is written.
#[derive(Debug, Clone, Default)]
struct Translation {
    /// The last step told; events without one are put there.
    step: i64,
    /// The warnings at that step, a Markdown list: TensorBoard keeps one text for each tag and step, the last.
    warnings: String,
}

impl Translation {
    /// Appends the framed event of `record` to `bytes`; nothing where TensorBoard has nothing to show.
    fn put(&mut self, record: &Record, bytes: &mut Vec<u8>) -> io::Result<()> {
        if let Some(step) = record.event.step() {
            let step = i64::try_from(step)
                .map_err(|_| io::Error::other(format!("step {step} is over 2^63 - 1, TensorBoard's largest")))?;
            if step != self.step {
                self.step = step;
                self.warnings.clear();
            }
        }
        let value = self.values(&record.event);
        if !value.is_empty() {
            let what = Some(What::Summary(Summary { value }));
            let event = TensorBoardEvent { wall_time: to_seconds(record.time.as_millisecond()), step: self.step, what };
            put_record(bytes, &event.encode_to_vec());
        }
        Ok(())
    }

    fn values(&mut self, event: &Event) -> Vec<Value> {
        match event {
            Event::Step(step) => vec![
                scalar("train/loss", step.loss),
                scalar("train/perplexity", step.loss.exp()),
                scalar("train/learning_rate", step.learning_rate),
                scalar("train/grad_norm", step.grad_norm),
                scalar("train/tokens_per_second", step.tokens_per_second),
            ],
            Event::Validation(validation) => {
                let suffix = if validation.set == 0 { String::new() } else { format!("_{}", validation.set) };
                vec![
                    scalar(&format!("validation/loss{suffix}"), validation.loss),
                    scalar(&format!("validation/perplexity{suffix}"), validation.perplexity),
                ]
            }
            Event::Monitor(monitor) => {
                vec![scalar("forgetting/nll_rise", monitor.nll - monitor.nll_base), scalar("forgetting/kl", monitor.kl)]
            }
            Event::Samples(samples) => {
                vec![scalar("samples/stop_rate", samples.stop_rate), scalar("samples/empty_rate", samples.empty_rate)]
            }
            Event::Warning { message } => {
                self.warnings.push_str("- ");
                self.warnings.push_str(message);
                self.warnings.push('\n');
                vec![text("warnings", &self.warnings)]
            }
            Event::Comparison { comparison } => comparison
                .get("headline")
                .and_then(Json::as_str)
                .map(|line| text("comparison", line))
                .into_iter()
                .collect(),
            _ => Vec::new(),
        }
    }
}

/// A wall time in TensorBoard's unit.
fn to_seconds(milliseconds: i64) -> f64 {
    milliseconds as f64 / 1000.0
}
