//! Checkpoints: one commit for everything a run needs to go on bit for bit.
//!
//! Written to a temporary folder, synced, hashed in a manifest, renamed; then old ones are pruned, never one that a
//! reference holds (R18, R19). A resume takes the newest whose hashes hold.

use crate::monitor::stopping::Watch;
use crate::optimizer::Optimizer;
use crate::{Result, TrainError};
use candle_core::{DType, Device, Tensor};
use outcrop_job::{atomic, content_hash};
use outcrop_model::delta;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const WEIGHTS: &str = "weights.safetensors";
const MOMENTS: &str = "moments.safetensors";
const STATE: &str = "state.json";
const MANIFEST: &str = "manifest.json";
/// What the name of a checkpoint begins with until it is whole.
const WRITING: &str = ".writing-";

/// The numbers of a checkpoint. The order of examples needs none: it is a function of the step (R25, R26).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Optimizer steps done.
    pub step: u64,
    /// `Plan::config_hash` of the run (R27).
    pub config_hash: String,
    /// Loss of the last step; what the result's metrics name.
    #[serde(with = "outcrop_job::float")]
    pub training_loss: f64,
    /// Wall time of the run so far.
    #[serde(with = "outcrop_job::float")]
    pub seconds: f64,
    /// The best so far, and how far early stopping is.
    #[serde(default)]
    pub watch: Watch,
}

/// The best validation so far.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// Steps done.
    pub step: u64,
    /// Loss of the first validation set.
    #[serde(with = "outcrop_job::float")]
    pub validation_loss: f64,
}

/// A whole checkpoint: its folder and its numbers.
pub type Found = (PathBuf, State);

#[derive(Serialize, Deserialize)]
struct Manifest {
    /// File name to blake3 of its content.
    files: BTreeMap<String, String>,
}

/// The checkpoints of one job.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    folder: PathBuf,
}

impl Checkpoints {
    /// Those in `folder`.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Writes one and returns its folder's name and size. Of a 16-bit weight the f32 master is written. Errors: the disk; nothing half-written keeps the final name.
    pub fn write(
        &self,
        state: &State,
        weights: &[(String, Tensor)],
        optimizer: &mut Optimizer,
        base_hash: &str,
    ) -> Result<(String, u64)> {
        fs_err::create_dir_all(&self.folder)?;
        let name = format!("step-{:08}", state.step);
        let temporary = tempfile::Builder::new().prefix(WRITING).tempdir_in(&self.folder)?;
        let path = temporary.path();
        delta::write(&path.join(WEIGHTS), &optimizer.values(weights), base_hash)?;
        let moments: Vec<_> = optimizer.state().map(|(name, tensor)| (name, tensor.clone())).collect();
        delta::write_exact(&path.join(MOMENTS), &moments, base_hash)?;
        atomic::write_atomic(&path.join(STATE), &json(state)?)?;
        let mut files = BTreeMap::new();
        let mut bytes = 0;
        for file in [WEIGHTS, MOMENTS, STATE] {
            files.insert(file.to_string(), content_hash::of_file(&path.join(file))?);
            bytes += fs_err::metadata(path.join(file))?.len();
        }
        atomic::write_atomic(&path.join(MANIFEST), &json(&Manifest { files })?)?;
        let target = self.folder.join(&name);
        if target.exists() {
            fs_err::remove_dir_all(&target)?; // the same step again: a resumed run that stopped before its next one
        }
        fs_err::rename(temporary.keep(), &target)?;
        atomic::sync_folder(&self.folder)?;
        Ok((name, bytes))
    }

    /// Deletes what a killed process left of a checkpoint that it was writing. The caller holds the job's lock.
    pub fn clear_unfinished(&self) -> Result<()> {
        if !self.folder.is_dir() {
            return Ok(());
        }
        for entry in fs_err::read_dir(&self.folder)? {
            let path = entry?.path();
            if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(WRITING)) {
                fs_err::remove_dir_all(path)?;
            }
        }
        Ok(())
    }

    /// Deletes all but the newest `keep` and those of the steps in `pinned`; returns the names of the deleted.
    pub fn prune(&self, keep: usize, pinned: &[u64]) -> Result<Vec<String>> {
        let mut deleted = Vec::new();
        for (step, path) in self.list()?.into_iter().rev().skip(keep.max(1)) {
            if !pinned.contains(&step) {
                fs_err::remove_dir_all(&path)?;
                deleted.push(path.file_name().unwrap_or_default().to_string_lossy().into_owned());
            }
        }
        Ok(deleted)
    }

    /// The newest whole checkpoint, and why newer ones were passed over. Errors: the disk.
    pub fn newest(&self) -> Result<(Option<Found>, Vec<String>)> {
        let mut damaged = Vec::new();
        for (_, path) in self.list()?.into_iter().rev() {
            match verify(&path) {
                Ok(state) => return Ok((Some((path, state)), damaged)),
                Err(error) => damaged.push(format!("checkpoint passed over: {error}")),
            }
        }
        Ok((None, damaged))
    }

    /// The checkpoint of one step, where there is one and it is whole. Errors: the disk.
    pub(crate) fn of_step(&self, step: u64) -> Result<Option<Found>> {
        let found = self.list()?.into_iter().find(|(at, _)| *at == step);
        Ok(found.and_then(|(_, path)| verify(&path).ok().map(|state| (path, state))))
    }

    /// Deletes all but that of one step.
    pub(crate) fn keep_only(&self, step: Option<u64>) -> Result<()> {
        for (at, path) in self.list()? {
            if Some(at) != step {
                fs_err::remove_dir_all(path)?;
            }
        }
        Ok(())
    }

    /// Step and folder of each, oldest first.
    fn list(&self) -> Result<Vec<(u64, PathBuf)>> {
        if !self.folder.is_dir() {
            return Ok(Vec::new());
        }
        let mut found = Vec::new();
        for entry in fs_err::read_dir(&self.folder)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if let Some(step) = name.strip_prefix("step-").and_then(|step| step.parse().ok()) {
                found.push((step, path));
            }
        }
        found.sort();
        Ok(found)
    }
}

/// Puts a checkpoint's weights and moments in place of those in memory, and the optimizer's step.
/// Errors: a tensor that is missing, misshapen, or of another type.
pub fn restore(path: &Path, state: &State, weights: &[(String, Tensor)], optimizer: &mut Optimizer) -> Result<()> {
    let Some((_, first)) = weights.first() else { return Ok(()) };
    Tensors::read(path, first.device())?.put(path, state.step, weights, optimizer)
}

/// The tensors of a checkpoint, by name: f32 values of the weights that train, and the optimizer's state.
pub(crate) struct Tensors {
    pub(crate) values: BTreeMap<String, Tensor>,
    pub(crate) moments: BTreeMap<String, Tensor>,
}

impl Tensors {
    /// Reads those of the checkpoint in `path`.
    pub(crate) fn read(path: &Path, device: &Device) -> Result<Self> {
        let read = |file: &str| Ok::<_, TrainError>(delta::read_exact(&path.join(file), device)?.into_iter().collect());
        Ok(Self { values: read(WEIGHTS)?, moments: read(MOMENTS)? })
    }

    /// Puts them in place; `path` is where they are from, for messages.
    pub(crate) fn put(self, path: &Path, step: u64, weights: &[(String, Tensor)], to: &mut Optimizer) -> Result<()> {
        let wrong = |name: &str| TrainError::Checkpoint {
            path: path.into(),
            message: format!("`{name}` is missing, misshapen, or of another type"),
        };
        let find = |map: &BTreeMap<String, Tensor>, name: &str, like: &Tensor, dtype: DType| {
            let fits = |found: &&Tensor| found.shape() == like.shape() && found.dtype() == dtype;
            map.get(name).filter(fits).cloned().ok_or_else(|| wrong(name))
        };
        for (name, weight) in weights {
            to.set_values(name, weight, &find(&self.values, name, weight, DType::F32)?)?;
        }
        for (name, current) in to.state() {
            *current = find(&self.moments, &name, current, current.dtype())?;
        }
        to.step = step;
        Ok(())
    }
}

fn verify(path: &Path) -> Result<State> {
    let wrong = |message: String| TrainError::Checkpoint { path: path.into(), message };
    let parse = |file: &str| fs_err::read(path.join(file));
    let manifest: Manifest =
        serde_json::from_slice(&parse(MANIFEST)?).map_err(|e| wrong(format!("{MANIFEST}: {e}")))?;
    for file in [WEIGHTS, MOMENTS, STATE] {
        if manifest.files.get(file) != Some(&content_hash::of_file(&path.join(file))?) {
            return Err(wrong(format!("`{file}` is damaged: its hash is not the manifest's")));
        }
    }
    serde_json::from_slice(&parse(STATE)?).map_err(|e| wrong(format!("{STATE}: {e}")))
}

fn json<T: Serialize>(value: &T) -> Result<Vec<u8>> {
    serde_json::to_vec_pretty(value).map_err(|e| TrainError::Plan(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{OptimizerSettings, Rule};
    use outcrop_kernels::Gradients;

    fn weights(value: f32) -> Vec<(String, Tensor)> {
        vec![("w".into(), Tensor::full(value, (2, 3), &Device::Cpu).unwrap())]
    }

    fn optimizer(weights: &[(String, Tensor)]) -> Optimizer {
        let rule = Rule::AdamW { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, quantized: false };
        let settings = OptimizerSettings { rule, weight_decay: 0.0 };
        Optimizer::new(settings, weights.iter().map(|(n, t)| (n.as_str(), t)), &[]).unwrap()
    }

    fn state(step: u64) -> State {
        State { step, config_hash: "c".into(), training_loss: f64::NAN, seconds: 1.5, watch: Watch::default() }
    }

    fn write(folder: &Path, step: u64) -> Checkpoints {
        let checkpoints = Checkpoints::new(folder.to_path_buf());
        let weights = weights(step as f32);
        checkpoints.write(&state(step), &weights, &mut optimizer(&weights), "hash").unwrap();
        checkpoints
    }

    #[test]
    fn r18_the_newest_whole_checkpoint_is_found_and_restored() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), 3);
        let checkpoints = write(folder.path(), 7);
        let damaged = folder.path().join("step-00000007/moments.safetensors");
        let mut bytes = fs_err::read(&damaged).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs_err::write(&damaged, bytes).unwrap();
        let (found, passed_over) = checkpoints.newest().unwrap();
        let (path, found) = found.unwrap();
        assert_eq!(found.step, 3);
        assert!(found.training_loss.is_nan());
        assert!(passed_over[0].contains("`moments.safetensors` is damaged"), "{passed_over:?}");
        let target = weights(0.0);
        let mut into = optimizer(&target);
        restore(&path, &found, &target, &mut into).unwrap();
        assert_eq!(target[0].1.to_vec2::<f32>().unwrap(), [[3.0; 3]; 2]);
        assert_eq!(into.step, 3);
    }

    /// A step with a gradient that depends on its number.
    fn train(optimizer: &mut Optimizer, weights: &[(String, Tensor)], step: u64) {
        let named = || weights.iter().map(|(name, tensor)| (name.as_str(), tensor));
        let mut gradients = Gradients::for_weights(named()).unwrap();
        for (name, tensor) in weights {
            let values = (0..tensor.elem_count()).map(|i| ((i as f32 + 1.0) * (step as f32 + 0.3)).sin());
            let gradient = Tensor::from_iter(values, &Device::Cpu).unwrap().reshape(tensor.shape()).unwrap();
            gradients.get_mut(name).unwrap().add(&gradient).unwrap();
        }
        optimizer.update(named(), &gradients, 0.01, 0.9).unwrap();
    }

    fn bits(tensor: &Tensor) -> Vec<u32> {
        let values = tensor.flatten_all().unwrap().to_dtype(DType::F32).unwrap().to_vec1::<f32>().unwrap();
        values.into_iter().map(f32::to_bits).collect()
    }

    #[test]
    fn r25_every_optimizers_state_comes_back_bit_for_bit_in_both_types() {
        let rules = [
            Rule::AdamW { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, quantized: false },
            Rule::AdamW { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, quantized: true },
            Rule::Sgd { momentum: 0.9 },
            Rule::Lion { beta1: 0.9, beta2: 0.99 },
        ];
        for (rule, dtype) in rules.into_iter().flat_map(|rule| [(rule, DType::F32), (rule, DType::BF16)]) {
            let fresh = || {
                let weight = |shape: &[usize], value| Tensor::full(value, shape, &Device::Cpu).unwrap();
                let weights = vec![("w".to_string(), weight(&[70, 60], 1.01f32)), ("n".to_string(), weight(&[5], 0.3))];
                let narrow = weights.iter().map(|(name, weight)| (name.clone(), weight.to_dtype(dtype).unwrap()));
                let narrow: Vec<(String, Tensor)> = narrow.collect();
                let settings = OptimizerSettings { rule, weight_decay: 0.1 };
                let named = narrow.iter().map(|(name, tensor)| (name.as_str(), tensor));
                let optimizer = Optimizer::new(settings, named, &weights).unwrap();
                (narrow, optimizer)
            };
            let folder = tempfile::tempdir().unwrap();
            let checkpoints = Checkpoints::new(folder.path().to_path_buf());
            let (whole, mut optimizer) = fresh();
            (1..=3).for_each(|step| train(&mut optimizer, &whole, step));
            checkpoints.write(&state(3), &whole, &mut optimizer, "hash").unwrap();
            let (path, found) = checkpoints.newest().unwrap().0.unwrap();
            let (resumed, mut into) = fresh();
            restore(&path, &found, &resumed, &mut into).unwrap();
            for (weights, optimizer) in [(&whole, &mut optimizer), (&resumed, &mut into)] {
                (4..=6).for_each(|step| train(optimizer, weights, step));
            }
            for ((name, one), (_, other)) in optimizer.state().zip(into.state()) {
                assert_eq!(bits(one), bits(other), "{rule:?} {dtype:?} {name}");
            }
            let values = (optimizer.values(&whole), into.values(&resumed));
            for (((name, one), (_, other)), (_, weight)) in values.0.iter().zip(&values.1).zip(&resumed) {
                assert_eq!(bits(one), bits(other), "{rule:?} {dtype:?} {name}");
                assert_eq!(bits(weight), bits(&other.to_dtype(dtype).unwrap()), "{rule:?} {dtype:?} {name}");
            }
        }
    }

    #[test]
    fn a_checkpoint_of_another_optimizer_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoints = write(folder.path(), 1);
        let (path, state) = checkpoints.newest().unwrap().0.unwrap();
        let weights = weights(0.0);
        let settings = OptimizerSettings { rule: Rule::Lion { beta1: 0.9, beta2: 0.99 }, weight_decay: 0.0 };
        let mut lion = Optimizer::new(settings, weights.iter().map(|(n, t)| (n.as_str(), t)), &[]).unwrap();
        let message = restore(&path, &state, &weights, &mut lion).unwrap_err().to_string();
        assert!(message.contains("`w/momentum` is missing, misshapen, or of another type"), "{message}");
    }

    #[test]
    fn r19_pruning_keeps_the_newest_and_the_pinned() {
        let folder = tempfile::tempdir().unwrap();
        for step in 1..=5 {
            write(folder.path(), step);
        }
        let checkpoints = Checkpoints::new(folder.path().to_path_buf());
        assert_eq!(checkpoints.prune(2, &[1]).unwrap(), ["step-00000003", "step-00000002"]);
        let left: Vec<u64> = checkpoints.list().unwrap().into_iter().map(|(step, _)| step).collect();
        assert_eq!(left, [1, 4, 5]);
    }

    #[test]
    fn r18_what_a_killed_process_left_is_cleared_and_whole_ones_stay() {
        let folder = tempfile::tempdir().unwrap();
        Checkpoints::new(folder.path().join("none")).clear_unfinished().unwrap();
        let checkpoints = write(folder.path(), 4);
        fs_err::create_dir_all(folder.path().join(".writing-abc")).unwrap();
        fs_err::write(folder.path().join(".writing-abc/weights.safetensors"), b"half").unwrap();
        checkpoints.clear_unfinished().unwrap();
        let left: Vec<_> = fs_err::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["step-00000004"]);
    }

    #[test]
    fn a_misshapen_tensor_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoints = write(folder.path(), 1);
        let (path, state) = checkpoints.newest().unwrap().0.unwrap();
        let other = vec![("w".to_string(), Tensor::zeros((3, 3), DType::F32, &Device::Cpu).unwrap())];
        let message = restore(&path, &state, &other, &mut optimizer(&other)).unwrap_err().to_string();
        assert!(message.contains("`w` is missing, misshapen, or of another type"), "{message}");
    }
}
