//! Features on disk: safetensors files of whole documents, each with its hash beside it.

use super::Boundary;
use crate::observer::Stage;
use crate::recorder::Recorder;
use crate::{Result, TrainError};
use candle_core::{Device, Tensor};
use outcrop_data::{Batch, Shard};
use outcrop_job::claim::Claim;
use outcrop_job::{Event, atomic, content_hash};
use outcrop_model::{Decoder, MappedRows, Row};
use std::io;
use std::ops::{ControlFlow, Range};
use std::path::Path;
use std::time::{Duration, Instant};

/// Values of a file, roughly: a killed extraction loses at most one file's work.
const FILE_VALUES: usize = 8 * 1024 * 1024;
/// Tokens of a pass of the trunk: enough for the products, and little of a job's memory.
const PASS_TOKENS: usize = 1024;

/// The features of a shard, all there.
#[derive(Debug)]
pub(super) struct Store {
    files: Vec<MappedRows>,
    /// File, first row and number of rows of each document.
    places: Vec<(usize, usize, usize)>,
}

impl Store {
    /// Opens the store in `folder`; files that are missing or damaged are made. Errors: the disk, the user's stop.
    pub(super) fn complete(
        folder: &Path,
        key: &str,
        boundary: Boundary,
        shard: &Shard,
        decoder: &Decoder,
        recorder: &mut Recorder,
    ) -> Result<Self> {
        recorder.retry_when_full(|_| Ok(fs_err::create_dir_all(folder)?))?;
        let _claimed = claim(folder, recorder)?;
        let parts = parts(boundary, shard, decoder.spec().hidden_size);
        let (mut files, mut places, mut made, begin) = (Vec::new(), Vec::new(), Made::default(), Instant::now());
        for (index, documents) in parts.iter().enumerate() {
            let path = folder.join(format!("{index:05}.safetensors"));
            let hash = path.with_extension("blake3");
            if path.exists() && hash.exists() && content_hash::of_file(&path)? != fs_err::read_to_string(&hash)? {
                recorder.warn(format!("features `{}` are damaged; they are computed again", path.display()))?;
                fs_err::remove_file(&hash)?;
            }
            if !(path.exists() && hash.exists()) {
                let rows = compute(boundary, shard, decoder, documents.clone(), &mut made)?;
                recorder.retry_when_full(|_| write(&path, &hash, &rows, key))?;
            }
            let mut first = 0;
            for document in documents.clone() {
                let rows = boundary.rows(shard, document);
                places.push((index, first, rows));
                first += rows;
            }
            let file = MappedRows::open(&path)?;
            if file.dims().0 != first {
                return Err(TrainError::Plan(format!(
                    "features `{}` are another shard's; delete its folder",
                    path.display()
                )));
            }
            files.push(file);
            recorder.observer.stage(Stage::Features, documents.end as u64, shard.len() as u64);
            go_on(recorder)?;
        }
        if made.records > 0 {
            let (Made { records, tokens, trunk_tokens }, seconds) = (made, begin.elapsed().as_secs_f64());
            recorder.write(Event::Features { records, tokens, trunk_tokens, seconds })?;
        }
        Ok(Self { files, places })
    }

    /// Rows of these documents, one after the other.
    pub(super) fn read(&self, documents: &[usize], device: &Device) -> Result<Tensor> {
        let rows = documents.iter().map(|&document| {
            let (file, first, rows) = self.places[document];
            Ok(self.files[file].read(first, rows, device)?)
        });
        Ok(Tensor::cat(&rows.collect::<Result<Vec<_>>>()?, 0)?)
    }
}

/// Waits until nobody else fills the store: the trunk runs once, whoever needs its output. Two fillers would do no harm
/// but waste, so a disk that knows no locks is let pass.
fn claim(folder: &Path, recorder: &mut Recorder) -> Result<Option<Claim>> {
    let path = folder.join("store.lock");
    loop {
        let turn = recorder.retry_when_full(|_| match Claim::take(&path) {
            Ok(Some(claim)) => Ok(ControlFlow::Break(Some(claim))),
            Ok(None) => Ok(ControlFlow::Continue(())),
            Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(ControlFlow::Break(None)),
            Err(error) => Err(error.into()),
        })?;
        if let ControlFlow::Break(claim) = turn {
            return Ok(claim);
        }
        go_on(recorder)?;
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Errors: the user's stop, before any step; whoever knows the job says which.
fn go_on(recorder: &mut Recorder) -> Result<()> {
    if recorder.observer.stop_requested() {
        return Err(TrainError::Interrupted { step: 0, job: String::new() });
    }
    Ok(())
}

fn write(path: &Path, hash: &Path, rows: &Tensor, key: &str) -> Result<()> {
    MappedRows::write(path, rows, key)?;
    Ok(atomic::write_atomic(hash, content_hash::of_file(path)?.as_bytes())?)
}

/// The documents of each file.
fn parts(boundary: Boundary, shard: &Shard, channels: usize) -> Vec<Range<usize>> {
    let (mut parts, mut first, mut values) = (Vec::new(), 0, 0);
    for document in 0..shard.len() {
        values += boundary.rows(shard, document) * channels;
        if values >= FILE_VALUES || document + 1 == shard.len() {
            parts.push(first..document + 1);
            (first, values) = (document + 1, 0);
        }
    }
    parts
}

/// What ran through the trunk.
#[derive(Default)]
struct Made {
    records: u64,
    tokens: u64,
    trunk_tokens: u64,
}

/// The features of these documents, packed into passes.
fn compute(
    boundary: Boundary,
    shard: &Shard,
    decoder: &Decoder,
    documents: Range<usize>,
    made: &mut Made,
) -> Result<Tensor> {
    let examples: Vec<_> = documents.map(|document| shard.document(document).to_example()).collect();
    let (mut rows, mut first) = (Vec::new(), 0);
    while first < examples.len() {
        let (mut end, mut tokens) = (first + 1, examples[first].tokens.len());
        while end < examples.len() && tokens + examples[end].tokens.len() <= PASS_TOKENS {
            tokens += examples[end].tokens.len();
            end += 1;
        }
        let batch = Batch::from_examples(&examples[first..end])?;
        made.records += (end - first) as u64;
        made.tokens += tokens as u64;
        made.trunk_tokens += decoder.trunk_tokens(&Row::new(batch.tokens.clone(), &batch.offsets)?) as u64;
        rows.push(boundary.compute(decoder, &batch)?);
        first = end;
    }
    Ok(Tensor::cat(&rows, 0)?)
}
