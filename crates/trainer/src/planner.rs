//! What a run takes: steps, memory by part, disk, tokens a pass; and what its user should know of it before it begins.

use crate::job::{Inputs, boundary};
use crate::memory::{self, Load};
use crate::sets::DataSets;
use crate::{OptimizerSettings, Result, TrainError, monitor};
use candle_core::Tensor;
use outcrop_job::hyperparameters::{Dtype, OptimizerKind, Recompute as RecomputeKey, Trainable};
use outcrop_job::plan::{BasePlan, DataPlan, StepPlan, TrainablePlan};
use outcrop_job::{Hyperparameters, Plan};
use outcrop_kernels::head_step;
use outcrop_model::Base;
use std::path::Path;

/// Most tokens of a forward and backward pass where the request doesn't say and memory allows: matmuls run at full
/// speed from some hundred rows on, and activations grow with every one.
const MICRO_BATCH_TOKENS: u64 = 4096;

/// The plan, and what its user should know of it.
pub(crate) fn plan(
    inputs: &Inputs,
    base: &Base,
    base_hash: String,
    data: &DataSets,
    weights: &[(String, Tensor)],
    extra_parameters: u64,
    max_length: usize,
) -> Result<(Plan, Vec<String>)> {
    let (settings, spec) = (&inputs.hyperparameters, base.spec());
    let per_epoch = data.steps.steps_per_epoch() as u64;
    let total = settings.max_steps.unwrap_or(u64::MAX).min(per_epoch * settings.epoch_count);
    let counts = || weights.iter().map(|(_, tensor)| tensor.elem_count() as u64);
    let (trainable_parameters, optimizer) = (counts().sum(), OptimizerSettings::from(settings));
    let (largest_step, longest) = largest(data, per_epoch);
    let mut load = Load {
        trainable_parameters,
        gradient_parameters: trainable_parameters,
        optimizer_bytes: counts().map(|values| optimizer.state_bytes(values)).sum(),
        value_bytes: if settings.dtype == Dtype::Bfloat16 { 2 } else { 4 },
        extra_parameters,
        micro_batch_tokens: 0, // chosen below
        longest,
        trained_blocks: (spec.num_hidden_layers - boundary(spec, settings.trainable)) as u64,
        recompute: RecomputeKey::None,
        monitor_bytes: monitor::most_bytes(settings, spec.vocab_size),
    };
    let device = outcrop_kernels::device::open(inputs.device)?;
    if device.is_cpu() && head_in_factors(settings, spec, data) {
        load.gradient_parameters = 0;
    }
    let available = memory::available_on(&device);
    let (load, mut warnings) = fit(spec, load, settings, inputs.resumed, largest_step, available)?;
    warnings.extend(outcrop_kernels::device::notice(&device));
    let model_bytes = trainable_parameters * 4;
    let disk_bytes = disk_bytes(settings, model_bytes, load.optimizer_bytes, inputs.folder.root())?;
    let plan = Plan {
        engine_version: env!("CARGO_PKG_VERSION").into(),
        job_id: inputs.job_id.into(),
        job_name: inputs.job_name.into(),
        custom_model_name: inputs.model_name.into(),
        customization_type: inputs.request.customization_type,
        hyperparameters: settings.clone(),
        base: BasePlan {
            identifier: inputs.request.base_model_identifier.clone(),
            path: base.path().into(),
            hash: base_hash,
            family: spec.family.clone(),
            parameters: spec.num_parameters() as u64,
            context_length: spec.max_position_embeddings as u64,
        },
        data: DataPlan {
            training: data.training_plan.clone(),
            validation: data.validation.iter().map(|set| set.plan.clone()).collect(),
        },
        trainable: TrainablePlan {
            kind: settings.trainable.to_string(),
            tensors: weights.len() as u64,
            parameters: trainable_parameters,
        },
        steps: StepPlan { per_epoch, total },
        device: inputs.device.into(),
        max_sequence_length: max_length as u64,
        micro_batch_tokens: load.micro_batch_tokens,
        recompute: load.recompute,
        memory: memory::estimate(spec, &load),
        disk_bytes,
        features: None,                                        // known once the decoder is there
        monitor: inputs.resumed.and_then(|plan| plan.monitor), // else measured before the first step
        time: None,
    };
    Ok((plan, [data.warnings.clone(), warnings].concat()))
}

/// Bytes that checkpoints and the model take at most. Errors: the disk at `root` has less.
fn disk_bytes(settings: &Hyperparameters, model_bytes: u64, optimizer_bytes: u64, root: &Path) -> Result<u64> {
    // the newest, the best, the one that is being written, and the last within the limit on forgetting
    let checkpoints = settings.keep_checkpoints + 2 + u64::from(settings.max_forgetting.is_some());
    let bytes = (model_bytes + optimizer_bytes) * checkpoints + model_bytes;
    match memory::disk_available(root).filter(|free| *free < bytes) {
        Some(free) => Err(TrainError::Plan(format!(
            "`{}` has {} MB free, the run's checkpoints and model take up to {} MB; free some or set keepCheckpoints lower",
            root.display(),
            free / 1_000_000,
            bytes / 1_000_000
        ))),
        None => Ok(bytes),
    }
}

/// Whether every step's gradient is taken in factors and never written down: AdamW on a head of f32, few targets a step.
fn head_in_factors(settings: &Hyperparameters, spec: &outcrop_model::Spec, data: &DataSets) -> bool {
    let shard = &data.training.shard;
    let targets = |unit| shard.unit(unit).map(|document| shard.document(document).target_tokens()).sum();
    settings.trainable == Trainable::Head
        && settings.optimizer == OptimizerKind::AdamW
        && settings.dtype == Dtype::Float32
        && data.steps.most(targets) <= head_step::most_targets(spec.vocab_size, spec.hidden_size) as u64
}

/// Tokens of a step, and of its longest document.
pub(crate) fn step_tokens(data: &DataSets, step: usize) -> (u64, u64) {
    let shard = &data.training.shard;
    let documents = data.steps.step(0, step).into_iter().flat_map(|unit| shard.unit(unit));
    let lengths = documents.map(|document| shard.document(document).num_tokens() as u64);
    lengths.fold((0, 0), |(sum, longest), length| (sum + length, longest.max(length)))
}

/// Most tokens of a step of the first epoch, and of a document. Reads lengths alone.
fn largest(data: &DataSets, per_epoch: u64) -> (u64, u64) {
    let steps = (0..per_epoch as usize).map(|step| step_tokens(data, step));
    steps.fold((0, 0), |(most, longest), (sum, document)| (most.max(sum), longest.max(document)))
}

/// Chooses tokens per pass and recomputation by the memory there is, where the request leaves it open (R16).
/// Errors: it doesn't fit even so, or doesn't fit as the request has it.
fn fit(
    spec: &outcrop_model::Spec,
    mut load: Load,
    settings: &Hyperparameters,
    resumed: Option<&Plan>,
    largest_step: u64,
    available: Option<u64>,
) -> Result<(Load, Vec<String>)> {
    let available = available.map_or(u64::MAX, |bytes| bytes / 10 * 9);
    let needed = |load: &Load| {
        let memory = memory::estimate(spec, load);
        memory.total_bytes - memory.weights_bytes // these are loaded already
    };
    let fits = |load: &Load| needed(load) <= available;
    load.recompute = match settings.recompute {
        RecomputeKey::Auto => RecomputeKey::None, // more below, where that doesn't fit
        given => given,
    };
    let chosen = resumed.map(|plan| plan.micro_batch_tokens).or(settings.micro_batch_tokens);
    load.micro_batch_tokens = chosen.unwrap_or_else(|| MICRO_BATCH_TOKENS.min(largest_step)).max(1);
    let mut warnings = Vec::new();
    if chosen.is_some_and(|chosen| chosen < load.longest) {
        let message = "records longer than microBatchTokens go alone; the longest has";
        warnings.push(format!("{message} {} tokens", load.longest));
    }
    for more in [RecomputeKey::Block, RecomputeKey::Group] {
        if settings.recompute == RecomputeKey::Auto && !fits(&load) {
            load.recompute = more;
        }
    }
    while !fits(&load) && chosen.is_none() && load.micro_batch_tokens > load.longest {
        load.micro_batch_tokens = (load.micro_batch_tokens / 2).max(load.longest);
    }
    if fits(&load) {
        return Ok((load, warnings));
    }
    Err(TrainError::Plan(format!(
        "the run takes about {} MB of memory beside the weights, {} MB are free; lower maxSequenceLength or microBatchTokens, set recompute \
         to `group`, or train the head alone",
        needed(&load) / 1_000_000,
        available / 1_000_000
    )))
}
