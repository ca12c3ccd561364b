//! The suites of a job, and the scores of base and tuned model on them. The base is scored before training, so that
//! a bad suite stops the job early and the base's weights are never loaded twice.

use crate::observer::{Observer, Stage};
use crate::sets::DataSets;
use crate::{Result, TrainError};
use outcrop_data::check::contaminated;
use outcrop_data::{SourceKind, TextTokenizer};
use outcrop_eval::contamination::{self, item_texts};
use outcrop_eval::{
    CompareOptions, Comparison, Contamination, ScoreCache, ScoreKey, Scored, Scorer, Scores, Suite, check_gate, compare,
};
use outcrop_job::hyperparameters::Dtype;
use outcrop_job::{Hyperparameters, Locations};
use std::path::{Path, PathBuf};

/// Most tokens of a packed batch.
const BATCH_TOKENS: usize = 4096;

/// What a job is judged on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Suites {
    pub(crate) task: Vec<Suite>,
    pub(crate) general: Vec<Suite>,
    /// Where the task suites come from, in words.
    pub(crate) task_source: String,
}

/// The suites at these locations. Errors: one that can't be found or read.
pub(crate) fn load_each(given: &[String], locations: &Locations) -> Result<Vec<Suite>> {
    given.iter().map(|location| Ok(Suite::load(&locations.input(location)?)?)).collect()
}

/// What a model's scores are kept by: another type of its weights gives other bits, and so other scores.
pub(crate) fn scored_hash(model_hash: &str, dtype: Dtype) -> String {
    match dtype {
        Dtype::Float32 => model_hash.into(),
        dtype => format!("{model_hash}+{dtype}"),
    }
}

/// Loads the suites: `evaluationData`, else the validators, else what `evalPercentage` held out, else none; and
/// `generalData`. `held_out` is where a file of held-out records can be written.
/// Errors: a suite that can't be read; a gate that names none of them.
pub(crate) fn load(
    settings: &Hyperparameters,
    locations: &Locations,
    data: &DataSets,
    held_out: &Path,
) -> Result<Suites> {
    let each = |given: &[String]| load_each(given, locations);
    let mut suites = Suites { general: each(&settings.general_data)?, ..Suites::default() };
    if !settings.evaluation_data.is_empty() {
        suites.task = each(&settings.evaluation_data)?;
        suites.task_source = "evaluationData".into();
    } else if data.split_from_training {
        let file = held_out.join("held-out.jsonl");
        write_held_out(data, &file)?;
        suites.task = vec![Suite::load(&file)?];
        suites.task_source = "records held out by evalPercentage, which validation saw".into();
    } else if !data.validation.is_empty() {
        let locations: Vec<String> = data.validation.iter().map(|set| set.location.clone()).collect();
        suites.task = each(&locations)?;
        suites.task_source = "the validators, which validation during training saw".into();
    }
    if let Some(gate) = &settings.gate {
        check_gate(gate, &suites.task, &suites.general)?;
    }
    Ok(suites)
}

/// Copies the held-out records, line by line, to a file of their own.
fn write_held_out(data: &DataSets, file: &Path) -> Result<()> {
    let set = &data.validation[0];
    let shard = &set.prepared.shard;
    debug_assert_eq!(shard.kind(), SourceKind::Pairs);
    let mut text = String::new();
    for (index, path) in set.prepared.files.iter().enumerate() {
        let documents = set.units.iter().map(|&unit| shard.unit(unit).start).filter(|&d| shard.file(d) == index);
        let lines: std::collections::BTreeSet<u64> = documents.map(|d| shard.line(d)).collect();
        let content = fs_err::read_to_string(path)?;
        for (number, line) in (1u64..).zip(content.lines()) {
            if lines.contains(&number) {
                text.push_str(line.trim_start_matches('\u{feff}'));
                text.push('\n');
            }
        }
    }
    Ok(fs_err::write(file, text)?)
}

/// A model as its scores are kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Model<'a> {
    /// What it is known by: see [`scored_hash`].
    pub(crate) hash: &'a str,
    pub(crate) tokenizer: &'a TextTokenizer,
    /// Tokens that end a generated answer.
    pub(crate) stop_tokens: &'a [u32],
    /// Most tokens of a row.
    pub(crate) context: usize,
}

/// The scores of one model on every suite, task first.
pub(crate) fn score(
    suites: &Suites,
    scorer: &mut dyn Scorer,
    model: &Model,
    cache: &ScoreCache,
    stage: Stage,
    observer: &mut dyn Observer,
) -> Result<(Vec<Scores>, Vec<String>)> {
    let (mut scores, mut notes) = (Vec::new(), Vec::new());
    let total: usize = suites.task.iter().chain(&suites.general).map(Suite::len).sum();
    let mut before = 0;
    for suite in suites.task.iter().chain(&suites.general) {
        let context = suite.row_tokens(model.context)?;
        let generates = suite.kind().generates();
        let key = ScoreKey {
            model_hash: model.hash.into(),
            suite_hash: suite.hash.clone(),
            tokenizer_hash: model.tokenizer.hash().into(),
            context,
            stop_tokens: model.stop_tokens.iter().copied().filter(|_| generates).collect(),
        };
        let mut progress = |done: usize, _| observer.stage(stage, (before + done) as u64, total as u64);
        let (found, note) = cache.get_or_score(&key, || {
            outcrop_eval::score(suite, model.tokenizer, context, scorer, BATCH_TOKENS, &mut progress)
        })?;
        before += suite.len();
        observer.stage(stage, before as u64, total as u64);
        scores.push(found);
        notes.extend(note);
    }
    Ok((scores, notes))
}

/// The tuned model against its base, both scored on the same suites, and the suites with their scores, task first.
pub(crate) fn judge(
    suites: Suites,
    base: Vec<Scores>,
    tuned: Vec<Scores>,
    seed: u64,
) -> Result<(Comparison, Vec<Scored>)> {
    if base.len() != suites.task.len() + suites.general.len() || base.len() != tuned.len() {
        return Err(TrainError::Plan("base and tuned model were scored on different suites".into()));
    }
    let tasks = suites.task.len();
    let scored: Vec<Scored> = suites
        .task
        .into_iter()
        .chain(suites.general)
        .zip(base.into_iter().zip(tuned))
        .map(|(suite, (base, tuned))| Scored { suite, base, tuned })
        .collect();
    let (task, general) = scored.split_at(tasks);
    let comparison = compare(task, general, &CompareOptions { seed, ..CompareOptions::default() })?;
    Ok((comparison, scored))
}

/// Where a model's training data are.
#[derive(Debug, Default)]
pub(crate) struct Trained {
    pub(crate) files: Vec<PathBuf>,
    /// Records in them that were held out: path and line.
    pub(crate) left_out: Vec<(PathBuf, u64)>,
}

impl Trained {
    /// Of a job.
    pub(crate) fn of(data: &DataSets) -> Self {
        let prepared = &data.training;
        let held_out = data.validation.iter().filter(|_| data.split_from_training).flat_map(|set| &set.units);
        let place = |document: usize| {
            let shard = &prepared.shard;
            Some((prepared.files.get(shard.file(document))?.clone(), shard.line(document)))
        };
        let left_out = held_out.flat_map(|&unit| prepared.shard.unit(unit)).filter_map(place).collect();
        Self { files: prepared.files.clone(), left_out }
    }
}

/// What the task suites share with the training data, suite by suite. `scored` begins with them.
/// Errors: training files that can't be read any more.
pub(crate) fn contamination(
    trained: &Trained,
    comparison: &Comparison,
    scored: &[Scored],
) -> Result<Vec<Contamination>> {
    let task = &scored[..comparison.task.len()];
    let items: Vec<Vec<&str>> = task.iter().flat_map(|scored| item_texts(&scored.suite)).collect();
    if items.is_empty() || trained.files.is_empty() {
        return Ok(Vec::new());
    }
    let found = contaminated(&trained.files, &trained.left_out, &items)?;
    let mut rest = found.as_slice();
    let of_suite = |(scored, compared): (&Scored, _)| {
        let (own, others) = rest.split_at(scored.suite.len());
        rest = others;
        Ok(contamination::contamination(scored, compared, own, &comparison.options)?)
    };
    task.iter().zip(&comparison.task).map(of_suite).collect()
}
