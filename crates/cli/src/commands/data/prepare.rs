//! `outcrop data prepare`: writes the shards that training would write on demand, into the same cache under the same key.

use crate::terminal::{self, Progress};
use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use outcrop_job::hyperparameters::HyperparameterError;
use outcrop_job::{CustomizationType, Hyperparameters, ModelStore, StringMap};
use outcrop_model::Base;
use outcrop_trainer::base::TemplateFile;
use outcrop_trainer::data::{DataSettings, prepare_input};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// What the data are for.
#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    /// Pairs of prompt and completion
    #[value(name = "FINE_TUNING")]
    FineTuning,
    /// Raw text
    #[value(name = "CONTINUED_PRE_TRAINING")]
    ContinuedPreTraining,
}

/// Arguments of `data prepare`.
#[derive(Args)]
pub(crate) struct Prepare {
    /// Files or folders, each as a job names it: one set of data
    #[arg(required = true)]
    inputs: Vec<String>,
    /// The base that will be trained: a path, `pebble`, or a name in the hub's cache
    #[arg(long)]
    base: String,
    /// What the data are for; text files can only be for CONTINUED_PRE_TRAINING
    #[arg(long = "type", value_enum, default_value = "FINE_TUNING")]
    kind: Kind,
    /// A setting of the job, such as maxSequenceLength=512, longRecords=drop or allowEmptyCompletions=3
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl Prepare {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let home = crate::commands::home()?;
        let kind = match self.kind {
            Kind::FineTuning => CustomizationType::FineTuning,
            Kind::ContinuedPreTraining => CustomizationType::ContinuedPreTraining,
        };
        let settings = settings(&self.set, kind)?;
        let (locations, _copies) = crate::commands::here(&home)?;
        let models = ModelStore::new(home.models_dir());
        let base = Base::open(&outcrop_trainer::base::locate(&self.base, &locations, &models)?)?;
        let template = TemplateFile::of(&settings, &locations)?;
        let tokenizer = outcrop_trainer::base::text_tokenizer(&base, template.as_ref())?;
        let is_text = kind == CustomizationType::ContinuedPreTraining;
        let max_length = outcrop_trainer::base::sequence_length(settings.max_sequence_length, base.spec(), is_text)?;
        let cache = home.cache_dir().join("shards");
        let data = DataSettings { kind, hyperparameters: &settings, max_length, cache: &cache };
        for input in &self.inputs {
            let path: PathBuf = locations.input(input)?;
            // Ctrl-C ends the process at once: what was done is gone on with the next time.
            let mut progress = Progress::new(Arc::new(AtomicBool::new(false)));
            let prepared = prepare_input(&path, &tokenizer, &data, &mut progress);
            progress.finish();
            terminal::print(&terminal::prepared(input, &prepared?.1, max_length))?;
        }
        Ok(())
    }
}

/// The settings as a job would resolve them. Errors: a pair without `=`, an unknown key, a value outside its range.
fn settings(pairs: &[String], kind: CustomizationType) -> anyhow::Result<Hyperparameters> {
    let split = |pair: &String| {
        let (key, value) =
            pair.split_once('=').with_context(|| format!("--set `{pair}` has no `=`; write KEY=VALUE"))?;
        anyhow::Ok((key.to_owned(), value.to_owned()))
    };
    let map: StringMap = pairs.iter().map(split).collect::<anyhow::Result<Vec<_>>>()?.into_iter().collect();
    Hyperparameters::resolve(&map, kind).or_else(|errors| {
        let errors: Vec<String> = errors.iter().map(HyperparameterError::to_string).collect();
        bail!("{}", errors.join("\nerror: "))
    })
}
