//! Which checkpoints of a job that nobody runs can go: all of a completed one, and of one that can be resumed those that
//! its resumption doesn't read. That is known of whole checkpoints alone, so their hashes are checked.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use super::{Kind, PruneError, Survey, add, entries};
use crate::{Home, JobFolder, JobStatus, content_hash};

/// How the trainer's folders of checkpoints begin, and those that it is writing.
const STEP: &str = "step-";
const WRITING: &str = ".writing-";

/// The part of a checkpoint's manifest that says whether it is whole.
#[derive(Deserialize)]
struct Manifest {
    files: BTreeMap<String, String>,
}

pub(super) fn of_job(home: &Home, id: &str, job: &JobFolder, survey: &mut Survey) -> Result<(), PruneError> {
    let mut steps: Vec<(u64, PathBuf)> = Vec::new();
    for path in entries(&job.checkpoints_dir())? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with(WRITING) {
            add(home, survey, &path, Kind::Leftover, format!("a checkpoint that job {id} didn't finish writing"))?;
        } else if let Some(step) = name.strip_prefix(STEP).and_then(|step| step.parse().ok()) {
            steps.push((step, path));
        }
    }
    if job.status()? == JobStatus::Completed {
        for (_, path) in &steps {
            add(home, survey, path, Kind::Checkpoint, format!("job {id} is completed"))?;
        }
        return Ok(());
    }
    steps.sort();
    let newest = steps.iter().rev().find(|(_, path)| is_whole(path));
    let Some((newest, path)) = newest else {
        // Perhaps someone can still save something of them.
        survey.kept.extend(steps.iter().map(|(step, _)| format!("jobs/{id}: checkpoint {step}, and none is whole")));
        return Ok(());
    };
    let pinned = pinned(path)?;
    for (step, path) in &steps {
        if step >= newest || pinned.contains(step) {
            survey.kept.push(format!("jobs/{id}: checkpoint {step}, from which the job can be resumed"));
        } else {
            let why = format!("job {id} goes on from its checkpoint {newest}");
            add(home, survey, path, Kind::Checkpoint, why)?;
        }
    }
    Ok(())
}

/// Whether every file of a checkpoint has the hash that it was written with.
fn is_whole(checkpoint: &Path) -> bool {
    let manifest = fs_err::read(checkpoint.join("manifest.json")).ok();
    let Some(manifest) = manifest.and_then(|bytes| serde_json::from_slice::<Manifest>(&bytes).ok()) else {
        return false;
    };
    let same = |(file, hash): (&String, &String)| {
        content_hash::of_file(&checkpoint.join(file)).is_ok_and(|found| found == *hash)
    };
    !manifest.files.is_empty() && manifest.files.iter().all(same)
}

/// Steps whose checkpoints may become the model: that of the best validation, and the last within the limit on forgetting.
fn pinned(checkpoint: &Path) -> Result<Vec<u64>, PruneError> {
    let state: Value =
        serde_json::from_slice(&fs_err::read(checkpoint.join("state.json"))?).map_err(std::io::Error::from)?;
    let watch = &state["watch"];
    Ok([&watch["best"]["step"], &watch["within"]].into_iter().filter_map(Value::as_u64).collect())
}
