//! `outcrop eval`: models against one untouched base on given suites, by the rules and the score cache of a job's end.
//! Everything is found and checked before anything is scored. What the numbers mean is decided in `outcrop-eval`.

use crate::base::{TemplateFile, locate, text_tokenizer};
use crate::comparison::{self, Suites, Trained};
use crate::job::converted;
use crate::observer::{Observer, Stage};
use crate::{Result, TrainError};
use candle_core::{DType, Device};
use outcrop_data::{Batch, TextTokenizer};
use outcrop_eval::{
    Comparison, Contamination, DecoderScorer, EvalError, ScoreCache, Scored, Scorer, Scores, check_gate, gate_failure,
};
use outcrop_job::gate::Gate;
use outcrop_job::hyperparameters::Dtype;
use outcrop_job::{Home, Locations, ModelRecord, ModelStore, content_hash};
use outcrop_model::generate::{Finish, Options};
use outcrop_model::{Base, Decoder, delta};
use std::path::PathBuf;

/// What is evaluated.
pub struct Evaluation<'a> {
    /// Where models and caches are.
    pub home: &'a Home,
    /// How locations map to paths.
    pub locations: &'a Locations,
    /// The untouched base: `pebble`, a folder, a GGUF file, or a name in the hub's cache.
    pub base: &'a str,
    /// The models: custom models by name or id, or whatever `base` may be.
    pub models: &'a [String],
    /// Locations of the task suites.
    pub task: &'a [String],
    /// Locations of the general suites.
    pub general: &'a [String],
    /// `cpu`, `cuda:0` or `metal`.
    pub device: &'a str,
    /// Type of weights and computation.
    pub dtype: Dtype,
    /// Seed of the bootstrap.
    pub seed: u64,
    /// What each comparison must show.
    pub gate: Option<&'a Gate>,
}

/// One model against the base.
pub struct Evaluated {
    /// The model's name.
    pub name: String,
    /// The comparison.
    pub comparison: Comparison,
    /// The suites with their scores, task first.
    pub scored: Vec<Scored>,
    /// What the task suites share with the data of a custom model.
    pub contamination: Vec<Contamination>,
    /// Why the gate failed, where it did.
    pub gate: Option<String>,
    /// What a reader should know beside what the suites say.
    pub warnings: Vec<String>,
}

/// A model that was found and not yet loaded.
struct Candidate {
    name: String,
    base: Base,
    /// What its scores are kept by.
    hash: String,
    tokenizer: TextTokenizer,
    /// Tokens that end a generated text.
    stop_tokens: Vec<u32>,
    /// A custom model's tensors, which lie on top of the base.
    custom: Option<(PathBuf, ModelRecord)>,
}

/// Scores with a decoder that is loaded when the first row comes: scores that are known already need none.
struct Lazy<'a> {
    candidate: &'a Candidate,
    device: &'a Device,
    dtype: Dtype,
    decoder: Option<Decoder>,
}

impl Lazy<'_> {
    /// Asks the decoder. Errors: it can't be loaded; what `ask` says.
    fn ask<T>(
        &mut self,
        ask: impl FnOnce(&mut DecoderScorer<'_>) -> std::result::Result<T, EvalError>,
    ) -> std::result::Result<T, EvalError> {
        let decoder = match self.decoder.take() {
            Some(decoder) => decoder,
            None => self.candidate.load(self.dtype, self.device).map_err(EvalError::scorer)?,
        };
        let answer = ask(&mut DecoderScorer { decoder: &decoder, stop_tokens: &self.candidate.stop_tokens });
        self.decoder = Some(decoder);
        answer
    }
}

impl Scorer for Lazy<'_> {
    fn nll(&mut self, batch: &Batch) -> std::result::Result<Vec<f32>, EvalError> {
        self.ask(|scorer| scorer.nll(batch))
    }

    fn ranks(&mut self, batch: &Batch) -> std::result::Result<Vec<(f32, u32)>, EvalError> {
        self.ask(|scorer| scorer.ranks(batch))
    }

    fn generate(
        &mut self,
        prompts: &[Vec<u32>],
        options: &Options,
        on_token: &mut dyn FnMut(usize, u32) -> bool,
    ) -> std::result::Result<Vec<Finish>, EvalError> {
        self.ask(|scorer| scorer.generate(prompts, options, on_token))
    }
}

impl Candidate {
    /// A base by its name. Errors: not there or unreadable.
    fn base(name: &str, locations: &Locations, models: &ModelStore) -> Result<Self> {
        let base = Base::open(&locate(name, locations, models)?)?;
        let (hash, tokenizer) = (base.hash()?, text_tokenizer(&base, None)?);
        let stop_tokens = base.stop_tokens(&base.tokenizer()?)?;
        Ok(Self { name: name.into(), base, hash, tokenizer, stop_tokens, custom: None })
    }

    /// A custom model, else a base. Errors: neither; a custom model of another base than `base`; a damaged delta.
    fn model(name: &str, base: &Self, locations: &Locations, models: &ModelStore) -> Result<Self> {
        let record = match models.find(name) {
            Ok(record) => record,
            Err(unknown) => {
                return match locate(name, locations, models) {
                    Ok(_) => Self::base(name, locations, models),
                    Err(TrainError::NoBase(_)) => Err(unknown.into()),
                    Err(error) => Err(error),
                };
            }
        };
        if record.base.hash != base.hash {
            let [trained, given] = [&record.base.hash, &base.hash].map(|hash| hash.get(..16).unwrap_or(hash));
            return Err(TrainError::Plan(format!(
                "model `{}` was trained from `{}` with hash {trained}, but base `{}` has hash {given}; give the base it was trained from",
                record.name, record.base.identifier, base.name
            )));
        }
        let file = models.dir(&record.id)?.join(&record.delta_file);
        if content_hash::of_file(&file)? != record.delta_hash {
            let message = format!("`{}` is damaged: its hash is not the one in model.json", file.display());
            return Err(TrainError::Plan(message));
        }
        let template = record.chat_template.as_ref();
        let template =
            template.map(|text| TemplateFile { place: format!("model `{}`", record.name), source: text.clone() });
        let own = Base::open(base.base.path())?;
        let tokenizer = text_tokenizer(&own, template.as_ref())?;
        let hash = format!("{}+{}", record.base.hash, record.delta_hash);
        let stop_tokens = own.stop_tokens(&own.tokenizer()?)?;
        Ok(Self { name: record.name.clone(), base: own, hash, tokenizer, stop_tokens, custom: Some((file, record)) })
    }

    fn context(&self) -> usize {
        self.base.spec().max_position_embeddings
    }

    fn load(&self, dtype: Dtype, device: &Device) -> Result<Decoder> {
        let decoder = match &self.custom {
            Some((file, _)) => delta::load(&self.base, file, DType::F32, device)?,
            None => self.base.load(DType::F32, device)?,
        };
        match dtype {
            Dtype::Float32 => Ok(decoder),
            Dtype::Bfloat16 => converted(&decoder, DType::BF16), // as a job does
        }
    }
}

impl Evaluation<'_> {
    /// Compares each model with the base and hands it to `each`, in order. The base is scored once.
    /// Errors: a base, model, suite or device that can't be used; scores that aren't finite; those of `each`.
    pub fn run(&self, observer: &mut dyn Observer, each: &mut dyn FnMut(Evaluated) -> Result<()>) -> Result<()> {
        outcrop_kernels::allocator::keep_freed_pages();
        let device = outcrop_kernels::device::open(self.device)?;
        let store = ModelStore::new(self.home.models_dir());
        let suites = self.suites()?;
        if let Some(gate) = self.gate {
            check_gate(gate, &suites.task, &suites.general)?;
        }
        observer.stage(Stage::ReadingBase, 0, 0);
        let base = Candidate::base(self.base, self.locations, &store)?;
        let find = |name: &String| Candidate::model(name, &base, self.locations, &store);
        let models = self.models.iter().map(find).collect::<Result<Vec<_>>>()?;
        // rows of one length for all, or their scores couldn't be paired
        let context = models.iter().map(Candidate::context).fold(base.context(), usize::min);
        let warnings: Vec<String> = outcrop_kernels::device::notice(&device).into_iter().collect();
        let (base_scores, base_notes) = self.score(&base, &suites, context, &device, Stage::ScoringBase, observer)?;
        for model in models {
            let (scores, notes) = self.score(&model, &suites, context, &device, Stage::ScoringTuned, observer)?;
            let (comparison, scored) = comparison::judge(suites.clone(), base_scores.clone(), scores, self.seed)?;
            let mut warnings = [&warnings[..], &base_notes, &notes].concat();
            let record = model.custom.as_ref().map(|(_, record)| record);
            let contamination = contaminated(record, &comparison, &scored, &mut warnings)?;
            let gate = self.gate.and_then(|gate| gate_failure(gate, &comparison)).map(|reason| crate::failed(&reason));
            each(Evaluated { name: model.name, comparison, scored, contamination, gate, warnings })?;
        }
        Ok(())
    }

    fn suites(&self) -> Result<Suites> {
        let each = |locations: &[String]| comparison::load_each(locations, self.locations);
        Ok(Suites { task: each(self.task)?, general: each(self.general)?, task_source: self.task.join(", ") })
    }

    fn score(
        &self,
        candidate: &Candidate,
        suites: &Suites,
        context: usize,
        device: &Device,
        stage: Stage,
        observer: &mut dyn Observer,
    ) -> Result<(Vec<Scores>, Vec<String>)> {
        let hash = comparison::scored_hash(&candidate.hash, self.dtype);
        let cache = ScoreCache::new(&self.home.cache_dir().join("scores"));
        let mut scorer = Lazy { candidate, device, dtype: self.dtype, decoder: None };
        let (tokenizer, stop_tokens) = (&candidate.tokenizer, candidate.stop_tokens.as_slice());
        let model = comparison::Model { hash: &hash, tokenizer, stop_tokens, context };
        comparison::score(suites, &mut scorer, &model, &cache, stage, observer)
    }
}

/// What the suites share with the data that a custom model was trained on, as far as these are where they were.
fn contaminated(
    record: Option<&ModelRecord>,
    comparison: &Comparison,
    scored: &[Scored],
    warnings: &mut Vec<String>,
) -> Result<Vec<Contamination>> {
    let Some(record) = record else { return Ok(Vec::new()) };
    let mut trained = Trained::default();
    for file in &record.training_data {
        if content_hash::of_file(&file.path).is_ok_and(|hash| hash == file.hash) {
            trained.files.push(file.path.clone());
        } else {
            warnings.push(format!(
                "training data `{}` of model `{}` is gone or has changed: items in it aren't found",
                file.path.display(),
                record.name
            ));
        }
    }
    let percentage = record.hyperparameters.eval_percentage;
    if percentage > 0.0 {
        warnings.push(format!(
            "{percentage} % of the training data of model `{}` was held out; an item in it counts as shared all the same",
            record.name
        ));
    }
    let found = comparison::contamination(&trained, comparison, scored)?;
    warnings.extend(found.iter().filter_map(Contamination::line));
    Ok(found)
}
