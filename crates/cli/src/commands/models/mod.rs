//! `outcrop models`: the store of custom models, exports of them, and bases, imported or of random weights.

mod bases;
mod export;

use anyhow::Context;
use clap::{Args, Subcommand};
use export::Export;
use outcrop_job::{Home, ModelRecord, ModelStore, artifacts, home, timestamp};
use outcrop_model::init;
use std::path::PathBuf;

/// Model commands.
#[derive(Args)]
pub(crate) struct Models {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Every custom model, newest last, and every imported base
    List,
    /// One custom model: base, data, settings, metrics; or an imported base: where it is, its files and hashes
    Show {
        /// Name or id; of a base its id, or an alias
        model: String,
    },
    /// Write a Hugging Face folder that transformers loads, or a GGUF file for llama.cpp, read back and compared
    Export(Export),
    /// Delete a custom model, whose job, data and base stay; or the id of an imported base, whose files stay
    Delete {
        /// Name or id
        model: String,
    },
    /// What stands in for a model of Bedrock's: list the user's own table, or change it
    Alias {
        /// A model id, such as amazon.titan-text-express-v1, or one of your own choice; `ID=BASE` says both
        id: Option<String>,
        /// An imported base's id, a folder, a GGUF file, `owner/name` in the hub's cache, or `pebble`
        #[arg(conflicts_with = "remove")]
        base: Option<String>,
        /// Take the entry away; a known id stands for `pebble` then
        #[arg(long, requires = "id")]
        remove: bool,
    },
    /// Make a deleted model again from the `model_artifacts` folder in its job's output location
    Restore {
        /// The folder, or `s3://bucket/key` of it
        artifacts: String,
        /// A name for it where its own is taken
        #[arg(long)]
        name: Option<String>,
    },
    /// Give a base an id of Bedrock's form, for every place that names a base; its files stay where they are
    Import {
        /// A Hugging Face folder, a GGUF file, or `owner/name` of the hub, which is fetched into its cache (the only command that
        /// uses the network)
        source: String,
        /// The id, `local.NAME-v1:0`; without it NAME is that of the folder or file
        #[arg(long)]
        id: Option<String>,
    },
    /// Make a base with random weights from a config and a tokenizer
    Init {
        /// The folder to make
        folder: PathBuf,
        /// A `config.json`
        #[arg(long)]
        config: PathBuf,
        /// A `tokenizer.json`
        #[arg(long)]
        tokenizer: PathBuf,
        /// Seed of the weights
        #[arg(long, default_value_t = 0)]
        seed: u64,
    },
}

impl Models {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let own = super::home()?;
        let models = ModelStore::new(own.models_dir());
        match self.verb {
            Verb::List => list(&own, &models),
            Verb::Show { model } => match models.find(&model) {
                Ok(record) => crate::terminal::print(&(serde_json::to_string_pretty(&record)? + "\n")),
                Err(unknown) => bases::show(&own, &model, unknown.into()),
            },
            Verb::Export(export) => export.run(&own),
            Verb::Delete { model } => match models.find(&model) {
                Ok(record) => {
                    models.delete(&record.id)?;
                    crate::terminal::print(&format!("deleted model `{}` ({})\n", record.name, record.id))
                }
                Err(unknown) => bases::delete(&own, &models, &model, unknown.into()),
            },
            Verb::Alias { id, base, remove } => bases::alias(&own, id.as_deref(), base.as_deref(), remove),
            Verb::Restore { artifacts, name } => {
                let (locations, _copies) = super::here(&own)?;
                let folder = locations.input(&artifacts)?;
                let record = artifacts::read(&models, &folder, &home::new_id()?, name.as_deref())?;
                crate::terminal::print(&format!("made model `{}` ({}) again\n", record.name, record.id))
            }
            Verb::Import { source, id } => bases::import(&own, &source, id.as_deref()),
            Verb::Init { folder, config, tokenizer, seed } => {
                let text = fs_err::read_to_string(&config)?;
                let json = serde_json::from_str(&text).with_context(|| format!("{}", config.display()))?;
                init::write(&folder, &json, &tokenizer, seed)?;
                crate::terminal::print(&format!("{}\n", folder.display()))
            }
        }
    }
}

fn list(home: &Home, models: &ModelStore) -> anyhow::Result<()> {
    let rows = models.list()?.into_iter().map(|record| {
        let created = timestamp::to_text(record.created);
        [created, record.id.clone(), record.name.clone(), record.base.identifier.clone(), headline(&record)]
    });
    let table = crate::terminal::table(["created", "id", "name", "base", "verdict"], rows);
    crate::terminal::print(&(table + &bases::table(home)?))
}

fn headline(record: &ModelRecord) -> String {
    let line = record.comparison.as_ref().and_then(|comparison| comparison.get("headline")?.as_str());
    line.unwrap_or("-").to_string()
}
