//! The data of a job: training and validation, prepared as shards, and what the plan says of them.

use crate::observer::{Observer, Stage};
use crate::{Result, TrainError};
use outcrop_data::{
    FormatHint, LongRecords, PrepareOptions, Prepared, SourceKind, Sources, Steps, TextTokenizer, exact_overlap,
    held_out,
};
use outcrop_job::hyperparameters::LongRecords as LongRecordsKey;
use outcrop_job::plan::{DataFile, DataSet};
use outcrop_job::{CustomizationType, Hyperparameters, Locations, Request, content_hash};
use std::path::Path;
use std::rc::Rc;

/// Units of a shard that are scored during training.
pub(crate) struct ValidationSet {
    pub(crate) location: String,
    pub(crate) prepared: Rc<Prepared>,
    pub(crate) units: Vec<usize>,
    pub(crate) plan: DataSet,
}

/// All data of a job.
pub(crate) struct DataSets {
    pub(crate) training: Rc<Prepared>,
    pub(crate) training_plan: DataSet,
    pub(crate) steps: Steps,
    pub(crate) validation: Vec<ValidationSet>,
    /// Whether the only validation set was split from the training records.
    pub(crate) split_from_training: bool,
    pub(crate) warnings: Vec<String>,
}

/// What preparing needs to know.
pub(crate) struct Preparation<'a> {
    pub(crate) request: &'a Request,
    pub(crate) hyperparameters: &'a Hyperparameters,
    pub(crate) locations: &'a Locations,
    pub(crate) tokenizer: &'a TextTokenizer,
    pub(crate) max_length: usize,
    pub(crate) cache: &'a Path,
}

impl Preparation<'_> {
    /// Checks and tokenizes everything before anything is trained (R20).
    /// Errors: any record that can't be used, with file, line and column.
    pub(crate) fn run(&self, observer: &mut dyn Observer) -> Result<DataSets> {
        let location = &self.request.training_data_config.s3_uri;
        let (training, mut training_plan) = self.prepare(location, observer)?;
        let training = Rc::new(training);
        let mut validation = Vec::new();
        for validator in self.request.validators() {
            let (prepared, plan) = self.prepare(&validator.s3_uri, observer)?;
            let units = (0..prepared.shard.num_units()).collect();
            let location = validator.s3_uri.clone();
            validation.push(ValidationSet { location, prepared: Rc::new(prepared), units, plan });
        }
        let percentage = self.hyperparameters.eval_percentage;
        let split_from_training = percentage > 0.0 && validation.is_empty();
        let all = training.shard.num_units();
        if split_from_training && training.shard.kind() != SourceKind::Pairs {
            let message = "hyperParameters.evalPercentage needs prompt/completion records; for text give validators";
            return Err(TrainError::Plan(message.into()));
        }
        let (units, held) = match split_from_training {
            true => held_out(all, percentage, self.hyperparameters.seed)?,
            false => ((0..all).collect(), Vec::new()),
        };
        if split_from_training {
            let mut plan = training_plan.clone();
            restrict(&mut plan, &training, &held);
            restrict(&mut training_plan, &training, &units);
            let location = format!("{percentage} % of {location}");
            validation.push(ValidationSet { location, prepared: training.clone(), units: held, plan });
        }
        let steps = Steps::new(
            units.clone(),
            self.hyperparameters.batch_size as usize,
            self.hyperparameters.seed,
            self.hyperparameters.shuffle,
        )?;
        let warnings = leaks(&training, &units, &validation);
        Ok(DataSets { training, training_plan, steps, validation, split_from_training, warnings })
    }

    fn prepare(&self, location: &str, observer: &mut dyn Observer) -> Result<(Prepared, DataSet)> {
        let settings = DataSettings {
            kind: self.request.customization_type,
            hyperparameters: self.hyperparameters,
            max_length: self.max_length,
            cache: self.cache,
        };
        let (sources, prepared) = prepare_input(&self.locations.input(location)?, self.tokenizer, &settings, observer)?;
        let plan = describe(location, &sources, &prepared)?;
        Ok((prepared, plan))
    }
}

/// What shapes the tokens of a job's data.
pub struct DataSettings<'a> {
    /// What the data are for.
    pub kind: CustomizationType,
    /// The job's settings.
    pub hyperparameters: &'a Hyperparameters,
    /// Most tokens of a record or row.
    pub max_length: usize,
    /// Where shards are kept.
    pub cache: &'a Path,
}

/// Checks and tokenizes a file or folder, or finds that done before, as a job does and `outcrop data prepare` ahead of it.
/// Errors: any record that can't be used, with file, line and column.
pub fn prepare_input(
    path: &Path,
    tokenizer: &TextTokenizer,
    settings: &DataSettings,
    observer: &mut dyn Observer,
) -> Result<(Sources, Prepared)> {
    let hint = match settings.kind {
        CustomizationType::FineTuning => FormatHint::FineTuning,
        CustomizationType::ContinuedPreTraining => FormatHint::ContinuedPreTraining,
    };
    let sources = Sources::discover(&[path.to_owned()], hint)?;
    let options = PrepareOptions {
        max_length: settings.max_length,
        long_records: match settings.hyperparameters.long_records {
            LongRecordsKey::Error => LongRecords::Error,
            LongRecordsKey::Drop => LongRecords::Drop,
            LongRecordsKey::Truncate => LongRecords::Truncate,
        },
        allow_empty_completions: settings.hyperparameters.allow_empty_completions,
        limit: None,
    };
    let mut progress = |done, total| observer.stage(Stage::PreparingData, done, total);
    let prepared = outcrop_data::prepare(&sources, tokenizer, &options, settings.cache, &mut progress)?;
    Ok((sources, prepared))
}

fn describe(location: &str, sources: &Sources, prepared: &Prepared) -> Result<DataSet> {
    let summary = prepared.shard.summary();
    let mut notes = prepared.notes.clone();
    let firsts = summary.untargeted_first_tokens + summary.cut_targets;
    if firsts > 0 {
        let what = if prepared.shard.kind() == SourceKind::Pairs { "a record without a prompt" } else { "a row" };
        notes.push(format!("{firsts} tokens begin {what} and are nobody's target"));
    }
    if summary.unfilled_tokens > 0 {
        let capacity = summary.tokens + summary.unfilled_tokens;
        let waste = 100.0 * summary.unfilled_tokens as f64 / capacity as f64;
        notes.push(format!("rows are packed from whole documents and pieces; {waste:.1} % of them stay unfilled"));
    }
    if summary.byte_order_marks > 0 {
        notes.push(format!("{} byte order marks skipped", summary.byte_order_marks));
    }
    if summary.truncated_records > 0 {
        notes.push(format!("{} prompts cut, {} tokens lost", summary.truncated_records, summary.truncated_tokens));
    }
    let files = sources
        .files()
        .iter()
        .map(|file| {
            let hash = content_hash::of_file(&file.path)?;
            Ok(DataFile { path: file.path.clone(), bytes: file.bytes, hash })
        })
        .collect::<Result<_>>()?;
    Ok(DataSet {
        location: location.to_string(),
        files,
        records: summary.records,
        tokens: summary.tokens,
        target_tokens: summary.target_tokens,
        longest: summary.longest,
        dropped_records: summary.dropped_records,
        lost_target_tokens: summary.dropped_target_tokens,
        extra_keys: summary.extra_keys.clone(),
        notes,
    })
}

/// Counts of some units of a shard.
fn restrict(plan: &mut DataSet, prepared: &Prepared, units: &[usize]) {
    let documents = || units.iter().flat_map(|&unit| prepared.shard.unit(unit)).map(|d| prepared.shard.document(d));
    plan.records = units.len() as u64;
    plan.tokens = documents().map(|d| d.num_tokens() as u64).sum();
    plan.target_tokens = documents().map(|d| d.target_tokens()).sum();
    plan.longest = documents().map(|d| d.num_tokens() as u64).max().unwrap_or(0);
}

/// Validation records that stand in the training data, word for word: said aloud, since the score would flatter.
fn leaks(training: &Prepared, units: &[usize], validation: &[ValidationSet]) -> Vec<String> {
    let mut warnings = Vec::new();
    for set in validation {
        let found = exact_overlap((&training.shard, units), (&set.prepared.shard, &set.units));
        let Some(&first) = found.first() else { continue };
        let place = set.prepared.origin(set.prepared.shard.unit(first).start);
        warnings.push(format!(
            "{} of {} validation records are in the training data too, the first at {place}",
            found.len(),
            set.units.len()
        ));
    }
    warnings
}
