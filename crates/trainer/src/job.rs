//! A job, opened: request resolved against data, model and device; everything checked before anything is trained.

use crate::base::TemplateFile;
use crate::comparison::{self, Suites};
use crate::features::{Boundary, Features};
use crate::memory;
use crate::observer::{Observer, Stage};
use crate::planner::{plan, step_tokens};
use crate::sets::{DataSets, Preparation};
use crate::trunk_cache::TrunkCache;
use crate::{Result, TrainError, base, monitor};
use candle_core::{DType, Tensor};
use outcrop_data::{TextTokenizer, micro_batches};
use outcrop_eval::{DecoderScorer, ScoreCache, Scorer, Scores};
use outcrop_job::hyperparameters::{Dtype, Recompute as RecomputeKey, Trainable};
use outcrop_job::plan::FeaturePlan;
use outcrop_job::{Aliases, CustomizationType, Home, Hyperparameters, JobFolder, Locations, ModelStore, Plan, Request};
use outcrop_model::{Base, Decoder, Recompute, Weights};
use std::path::PathBuf;

/// What a job begins with.
pub struct Inputs<'a> {
    /// Where models, caches and jobs are.
    pub home: &'a Home,
    /// How the request's locations map to paths.
    pub locations: &'a Locations,
    /// The request, validated.
    pub request: &'a Request,
    /// Its settings, resolved.
    pub hyperparameters: Hyperparameters,
    /// The job's folder.
    pub folder: &'a JobFolder,
    /// The job's id.
    pub job_id: &'a str,
    /// The job's name.
    pub job_name: &'a str,
    /// The custom model's name.
    pub model_name: &'a str,
    /// `cpu`, `cuda:0` or `metal`.
    pub device: &'a str,
    /// Whether features of a frozen trunk are kept on disk.
    pub feature_cache: bool,
    /// The plan of the run to go on with: what it chose by memory stays.
    pub resumed: Option<&'a Plan>,
}

/// A job, ready to train.
pub struct Job {
    pub(crate) plan: Plan,
    pub(crate) tokenizer: TextTokenizer,
    /// Tokens that end a generated text of the base.
    stop_tokens: Vec<u32>,
    pub(crate) decoder: Decoder,
    pub(crate) data: DataSets,
    pub(crate) suites: Suites,
    pub(crate) base_scores: Vec<Scores>,
    pub(crate) scores: ScoreCache,
    pub(crate) models: ModelStore,
    pub(crate) folder: JobFolder,
    pub(crate) recompute: Recompute,
    pub(crate) weights: Vec<(String, Tensor)>,
    /// The f32 values that 16-bit weights were rounded from, until the optimizer takes them.
    pub(crate) masters: Vec<(String, Tensor)>,
    pub(crate) warnings: Vec<String>,
    /// Parameters of an untied head's copy.
    extra_parameters: u64,
    /// What the frozen trunk gives for batches that are scored again and again, where a sweep keeps it.
    pub(crate) trunk: Option<TrunkCache>,
    /// How the request's locations map to paths.
    pub(crate) locations: Locations,
    /// Where features are kept; None where they are computed in every step.
    pub(crate) feature_cache: Option<PathBuf>,
}

impl Job {
    /// Resolves, checks, loads, and scores the base. Errors: whatever would stop the run later, said now.
    pub fn open(inputs: Inputs, observer: &mut dyn Observer) -> Result<Self> {
        Self::open_with(inputs, None, observer)
    }

    /// As [`Job::open`]; what the trunk gives for suites is kept in `trunk` where the head alone trains.
    pub(crate) fn open_with(inputs: Inputs, trunk: Option<TrunkCache>, observer: &mut dyn Observer) -> Result<Self> {
        let mut job = Self::prepare(inputs, observer)?;
        job.trunk = trunk.filter(|_| job.plan.hyperparameters.trainable == Trainable::Head);
        let hash = job.plan.base.hash.clone();
        job.base_scores = job.score(&hash, Stage::ScoringBase, observer)?;
        Ok(job)
    }

    /// [`Job::open`] but for the base's scores: enough for a plan and for a rehearsal.
    pub fn prepare(inputs: Inputs, observer: &mut dyn Observer) -> Result<Self> {
        outcrop_kernels::allocator::keep_freed_pages();
        let device = outcrop_kernels::device::open(inputs.device)?;
        let models = ModelStore::new(inputs.home.models_dir());
        // a run that was killed after its model was saved may go on
        if !models.list()?.iter().any(|record| record.job_id == inputs.job_id) {
            models.check_name(inputs.model_name)?;
        }
        observer.stage(Stage::ReadingBase, 0, 0);
        let base = Base::open(&base::locate(&inputs.request.base_model_identifier, inputs.locations, &models)?)?;
        check_boundary(base.spec(), inputs.hyperparameters.trainable)?;
        let base_hash = base.hash()?;
        let template = TemplateFile::of(&inputs.hyperparameters, inputs.locations)?;
        let tokenizer = base::text_tokenizer(&base, template.as_ref())?;
        let stop_tokens = base.stop_tokens(&base.tokenizer()?)?;
        let is_text = inputs.request.customization_type == CustomizationType::ContinuedPreTraining;
        let max_length = base::sequence_length(inputs.hyperparameters.max_sequence_length, base.spec(), is_text)?;
        let preparation = Preparation {
            request: inputs.request,
            hyperparameters: &inputs.hyperparameters,
            locations: inputs.locations,
            tokenizer: &tokenizer,
            max_length,
            cache: &inputs.home.cache_dir().join("shards"),
        };
        let data = preparation.run(observer)?;
        let suites = comparison::load(&inputs.hyperparameters, inputs.locations, &data, inputs.folder.root())?;
        monitor::check(&inputs.hyperparameters, &data, &suites, base.spec())?;

        let mut decoder = base.load(DType::F32, &device)?;
        let extra_parameters = untie(&mut decoder, inputs.hyperparameters.trainable)?;
        let mut weights = trained(&decoder, inputs.hyperparameters.trainable);
        let mut masters = Vec::new();
        if inputs.hyperparameters.dtype == Dtype::Bfloat16 {
            decoder = converted(&decoder, DType::BF16)?;
            masters = std::mem::replace(&mut weights, trained(&decoder, inputs.hyperparameters.trainable));
        }
        decoder.set_z_loss(inputs.hyperparameters.z_loss_weight as f32);
        let (mut plan, mut warnings) = plan(&inputs, &base, base_hash, &data, &weights, extra_parameters, max_length)?;
        warnings.extend(Aliases::read(inputs.home)?.note(&inputs.request.base_model_identifier));
        let feature_cache = plan_features(&inputs, &mut plan, &decoder, &data, &mut warnings)?;
        let recompute = recompute(plan.recompute);
        Ok(Self {
            plan,
            tokenizer,
            stop_tokens,
            decoder,
            data,
            suites,
            base_scores: Vec::new(),
            scores: ScoreCache::new(&inputs.home.cache_dir().join("scores")),
            models,
            folder: inputs.folder.clone(),
            locations: inputs.locations.clone(),
            recompute,
            weights,
            masters,
            warnings,
            extra_parameters,
            trunk: None,
            feature_cache,
        })
    }

    /// Makes this the job of another trial on the same base, data and boundary: another folder and other settings, and
    /// the weights as they were before any training. `untrained` are their f32 values, by name.
    pub(crate) fn renew(
        &mut self,
        inputs: &Inputs,
        untrained: &[(String, Tensor)],
        observer: &mut dyn Observer,
    ) -> Result<()> {
        if !self.models.list()?.iter().any(|record| record.job_id == inputs.job_id) {
            self.models.check_name(inputs.model_name)?;
        }
        let settings = &inputs.hyperparameters;
        self.data.steps = self.data.steps.reordered(settings.batch_size as usize, settings.seed, settings.shuffle)?;
        self.suites = comparison::load(settings, inputs.locations, &self.data, inputs.folder.root())?;
        self.put(untrained)?;
        self.decoder.set_z_loss(settings.z_loss_weight as f32);
        if settings.dtype != Dtype::Float32 {
            self.masters = copies(untrained)?; // the optimizer updates them in place
        }
        let (base, former) = (Base::open(&self.plan.base.path)?, &self.plan);
        let (hash, length) = (former.base.hash.clone(), former.max_sequence_length as usize);
        let (mut plan, mut warnings) =
            plan(inputs, &base, hash, &self.data, &self.weights, self.extra_parameters, length)?;
        self.feature_cache = plan_features(inputs, &mut plan, &self.decoder, &self.data, &mut warnings)?;
        self.recompute = recompute(plan.recompute);
        (self.plan, self.warnings, self.folder) = (plan, warnings, inputs.folder.clone());
        let hash = self.plan.base.hash.clone();
        self.base_scores = self.score(&hash, Stage::ScoringBase, observer)?;
        Ok(())
    }

    /// Whether epochs and trials read the frozen trunk's output from a store instead of computing it.
    pub(crate) fn has_features(&self) -> bool {
        self.feature_cache.is_some()
    }

    /// Puts f32 values into the weights that train, in their order.
    pub(crate) fn put(&self, values: &[(String, Tensor)]) -> Result<()> {
        for ((name, weight), (given, value)) in self.weights.iter().zip(values) {
            if name != given {
                return Err(TrainError::Plan(format!("`{given}` is given for `{name}`")));
            }
            weight.slice_set(&value.to_dtype(weight.dtype())?.contiguous()?, 0, 0)?;
        }
        Ok(())
    }

    /// Copies of the f32 values of the weights that train, for [`Job::renew`]. Call before any training.
    pub(crate) fn untrained(&self) -> Result<Vec<(String, Tensor)>> {
        copies(if self.masters.is_empty() { &self.weights } else { &self.masters })
    }

    /// What will run.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Scores the decoder as it stands on every suite.
    pub(crate) fn score(&mut self, model_hash: &str, stage: Stage, observer: &mut dyn Observer) -> Result<Vec<Scores>> {
        let (suites, decoder) = (&self.suites, &self.decoder);
        let model_hash = comparison::scored_hash(model_hash, self.plan.hyperparameters.dtype);
        let plain = || DecoderScorer { decoder, stop_tokens: &self.stop_tokens };
        let mut cached = self.trunk.clone().map(|cache| cache.scorer(plain()));
        let mut plain = plain();
        let scorer: &mut dyn Scorer = match &mut cached {
            Some(cached) => cached,
            None => &mut plain,
        };
        let model = comparison::Model {
            hash: &model_hash,
            tokenizer: &self.tokenizer,
            stop_tokens: &self.stop_tokens,
            context: decoder.spec().max_position_embeddings,
        };
        let (scores, notes) = comparison::score(suites, scorer, &model, &self.scores, stage, observer)?;
        self.warnings.extend(notes);
        Ok(scores)
    }

    /// The weights that train, by name.
    pub(crate) fn named_weights(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.weights.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// The step of the first epoch with the largest micro-batch (R16). Reads lengths alone.
    pub(crate) fn worst_step(&self) -> u64 {
        let limit = self.plan.micro_batch_tokens;
        let bound = |step: &u64| {
            let (sum, longest) = step_tokens(&self.data, *step as usize);
            longest.max(sum.min(limit))
        };
        (0..self.plan.steps.per_epoch.min(self.plan.steps.total)).max_by_key(bound).unwrap_or(0)
    }

    /// Names the records of step `step` (from 0) where its loss or gradient isn't finite (R12).
    pub(crate) fn locate(&self, error: TrainError, step: u64) -> TrainError {
        let TrainError::NotFinite { .. } = error else { return error };
        let per_epoch = self.plan.steps.per_epoch;
        let units = self.data.steps.step(step / per_epoch, (step % per_epoch) as usize);
        let training = &self.data.training;
        let mut places: Vec<String> = units.iter().map(|&u| training.origin(training.shard.unit(u).start)).collect();
        let more = places.len().saturating_sub(5);
        places.truncate(5);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        TrainError::Diverged(format!("step {}: {error}: {}{more}", step + 1, places.join(", ")))
    }

    /// The documents of optimizer step `step` (from 0), in the order of its micro-batches.
    pub(crate) fn documents(&self, step: u64) -> Vec<usize> {
        let per_epoch = self.plan.steps.per_epoch;
        let units = self.data.steps.step(step / per_epoch, (step % per_epoch) as usize);
        units.into_iter().flat_map(|unit| self.data.training.shard.unit(unit)).collect()
    }

    /// The micro-batches of optimizer step `step` (from 0), and its epoch.
    pub(crate) fn micro_batches(&self, step: u64) -> Result<(Vec<outcrop_data::Batch>, u64)> {
        let per_epoch = self.plan.steps.per_epoch;
        let (epoch, index) = (step / per_epoch, (step % per_epoch) as usize);
        let units = self.data.steps.step(epoch, index);
        let laid_out = micro_batches(&self.data.training.shard, &units, self.plan.micro_batch_tokens as usize)?;
        Ok((laid_out.batches, epoch))
    }
}

/// Puts the size of the features into the plan, and returns where they are kept, if they are.
fn plan_features(
    inputs: &Inputs,
    plan: &mut Plan,
    decoder: &Decoder,
    data: &DataSets,
    warnings: &mut Vec<String>,
) -> Result<Option<PathBuf>> {
    let Some(boundary) = Boundary::new(decoder, inputs.hyperparameters.trainable) else { return Ok(None) };
    let held_out = data.validation.iter().filter(|_| !data.split_from_training);
    let shards = std::iter::once(&data.training).chain(held_out.map(|set| &set.prepared));
    let bytes = shards.map(|prepared| Features::bytes(boundary, &prepared.shard, decoder)).sum();
    let cache = inputs.home.cache_dir().join("features");
    fs_err::create_dir_all(&cache)?;
    let free = memory::disk_available(&cache).unwrap_or(u64::MAX);
    let fits = free.saturating_sub(plan.disk_bytes) >= bytes;
    if inputs.feature_cache && !fits {
        warnings.push(format!(
            "the features take {} MB, the disk has {} MB free beside the checkpoints; the trunk runs in every epoch instead",
            bytes / 1_000_000,
            free.saturating_sub(plan.disk_bytes) / 1_000_000
        ));
    }
    let stored = inputs.feature_cache && fits;
    plan.features = Some(FeaturePlan { bytes, stored });
    Ok(stored.then_some(cache))
}

/// What a plan's choice means for the decoder.
fn recompute(chosen: RecomputeKey) -> Recompute {
    match chosen {
        RecomputeKey::None | RecomputeKey::Auto => Recompute::Nothing,
        RecomputeKey::Block => Recompute::Block,
        RecomputeKey::Group => Recompute::Group,
    }
}

/// Unties a tied head that trains above a frozen embedding; returns the parameters of the copy (R28).
fn untie(decoder: &mut Decoder, trainable: Trainable) -> Result<u64> {
    if trainable.is_frozen_below() && decoder.spec().tie_word_embeddings {
        decoder.untie_head()?;
        let spec = decoder.spec();
        return Ok((spec.vocab_size * spec.hidden_size) as u64);
    }
    Ok(0)
}

/// The weights that train, by name.
fn trained(decoder: &Decoder, trainable: Trainable) -> Vec<(String, Tensor)> {
    let weights = match trainable {
        Trainable::All => decoder.weights(),
        Trainable::Head => decoder.weights_from(decoder.spec().num_hidden_layers + 1),
        Trainable::Last(_) => decoder.weights_from(boundary(decoder.spec(), trainable)),
    };
    let weights = weights.into_iter();
    weights.map(|(name, tensor)| (name.to_string(), tensor.clone())).collect()
}

/// The same tensors in memory of their own.
pub(crate) fn copies(tensors: &[(String, Tensor)]) -> Result<Vec<(String, Tensor)>> {
    // `copy` would share the buffer on Metal
    tensors.iter().map(|(name, tensor)| Ok((name.clone(), tensor.force_contiguous()?))).collect()
}

/// The first block that trains; their number where none does.
pub(crate) fn boundary(spec: &outcrop_model::Spec, trainable: Trainable) -> usize {
    match trainable {
        Trainable::Head => spec.num_hidden_layers,
        Trainable::Last(blocks) => spec.num_hidden_layers.saturating_sub(blocks as usize),
        Trainable::All => 0,
    }
}

/// Errors: more blocks are to train than there are.
fn check_boundary(spec: &outcrop_model::Spec, trainable: Trainable) -> Result<()> {
    match trainable {
        Trainable::Last(blocks) if blocks > spec.num_hidden_layers as u64 => Err(TrainError::Plan(format!(
            "hyperParameters.trainable is `{trainable}`, but the base has {} blocks; use `last:{}` or fewer, or `all`",
            spec.num_hidden_layers, spec.num_hidden_layers
        ))),
        _ => Ok(()),
    }
}

/// The same decoder with weights of another type, beside the former one.
pub(crate) fn converted(decoder: &Decoder, dtype: DType) -> Result<Decoder> {
    let weights = decoder.weights().into_iter().map(|(name, tensor)| Ok((name.to_string(), tensor.to_dtype(dtype)?)));
    let weights = weights.collect::<Result<Weights>>()?;
    Ok(Decoder::new(decoder.spec().clone(), &weights, decoder.device())?)
}
