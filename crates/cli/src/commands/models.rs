//! `outcrop models`: the store of custom models, and bases from the hub or from random weights.

use anyhow::Context;
use candle_core::{DType, Device};
use clap::{Args, Subcommand, ValueEnum};
use outcrop_data::encode_document;
use outcrop_job::aliases::{Aliases, EMBEDDED, arn_id};
use outcrop_job::{Home, ModelRecord, ModelStore, artifacts, home, timestamp};
use outcrop_model::Base;
use outcrop_model::export::gguf::GgufType;
use outcrop_model::export::{self, RoundTrip};
use outcrop_model::{hub, init};
use std::path::{Path, PathBuf};

/// Model commands.
#[derive(Args)]
pub(crate) struct Models {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Every custom model, newest last
    List,
    /// One custom model: base, data, settings, metrics
    Show {
        /// Name or id
        model: String,
    },
    /// Write a Hugging Face folder that transformers loads, or a GGUF file for llama.cpp, read back and compared
    Export {
        /// Custom model (name or id), base folder, GGUF file, or `pebble`
        model: String,
        /// The folder to make, or the `.gguf` file
        #[arg(required_unless_present = "to")]
        out: Option<PathBuf>,
        /// The same as an option
        #[arg(long = "out", id = "to", value_name = "OUT", conflicts_with = "out")]
        to: Option<PathBuf>,
        /// What to write
        #[arg(long, value_enum, default_value_t = Format::Hf)]
        format: Format,
        /// Type of the weights in the file; q8_0 in GGUF alone
        #[arg(long, value_enum, default_value_t = ExportType::F32)]
        dtype: ExportType,
    },
    /// Delete a custom model; its job, its data and its base stay
    Delete {
        /// Name or id
        model: String,
    },
    /// What stands in for a model of Bedrock's: list the user's own table, or change it
    Alias {
        /// A model id, such as amazon.titan-text-express-v1, or one of your own choice, such as local.small
        id: Option<String>,
        /// A base: a folder, a GGUF file, `owner/name` in the hub's cache, or `pebble`
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
    /// Fetch a base from the Hugging Face hub into its cache (the only command that uses the network)
    Import {
        /// `owner/name`
        name: String,
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

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// A folder as Hugging Face's libraries have it
    Hf,
    /// One file for llama.cpp
    Gguf,
}

#[derive(Clone, Copy, ValueEnum)]
enum ExportType {
    F32,
    Bf16,
    F16,
    #[value(name = "q8_0")]
    Q8_0,
}

impl ExportType {
    /// As safetensors hold it. Errors: a type that is GGUF's alone.
    fn plain(self) -> anyhow::Result<DType> {
        match self {
            Self::F32 => Ok(DType::F32),
            Self::Bf16 => Ok(DType::BF16),
            Self::F16 => Ok(DType::F16),
            Self::Q8_0 => anyhow::bail!("--dtype q8_0 is a type of GGUF files; add --format gguf"),
        }
    }

    fn gguf(self) -> GgufType {
        match self {
            Self::F32 => GgufType::F32,
            Self::Bf16 => GgufType::Bf16,
            Self::F16 => GgufType::F16,
            Self::Q8_0 => GgufType::Q8_0,
        }
    }
}

impl Models {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let own = super::home()?;
        let models = ModelStore::new(own.models_dir());
        match self.verb {
            Verb::List => {
                let rows = models.list()?.into_iter().map(|record| {
                    let created = timestamp::to_text(record.created);
                    [created, record.id.clone(), record.name.clone(), record.base.identifier.clone(), headline(&record)]
                });
                let table = crate::terminal::table(["created", "id", "name", "base", "verdict"], rows);
                crate::terminal::print(&table)
            }
            Verb::Show { model } => {
                let record = models.find(&model)?;
                crate::terminal::print(&(serde_json::to_string_pretty(&record)? + "\n"))
            }
            Verb::Export { model, out, to, format, dtype } => {
                let out = out.or(to).context("name the folder or file to make")?;
                export_model(&model, &out, format, dtype, &own)
            }
            Verb::Delete { model } => {
                let record = models.delete(&model)?;
                crate::terminal::print(&format!("deleted model `{}` ({})\n", record.name, record.id))
            }
            Verb::Alias { id, base, remove } => alias(&own, id.as_deref(), base.as_deref(), remove),
            Verb::Restore { artifacts, name } => {
                let (locations, _copies) = super::here(&own)?;
                let folder = locations.input(&artifacts)?;
                let record = artifacts::read(&models, &folder, &home::new_id()?, name.as_deref())?;
                crate::terminal::print(&format!("made model `{}` ({}) again\n", record.name, record.id))
            }
            Verb::Import { name } => {
                let folder = hub::import(&name)?;
                crate::terminal::print(&format!(
                    "{}\nuse it as \"baseModelIdentifier\": \"{name}\"\n",
                    folder.display()
                ))
            }
            Verb::Init { folder, config, tokenizer, seed } => {
                let text = fs_err::read_to_string(&config)?;
                let json = serde_json::from_str(&text).with_context(|| format!("{}", config.display()))?;
                init::write(&folder, &json, &tokenizer, seed)?;
                crate::terminal::print(&format!("{}\n", folder.display()))
            }
        }
    }
}

/// Lists the user's table, or changes one entry.
fn alias(home: &Home, id: Option<&str>, base: Option<&str>, remove: bool) -> anyhow::Result<()> {
    let mut aliases = Aliases::read(home)?;
    let Some(id) = id else {
        let rows = aliases.iter().map(|(id, base)| [id.to_string(), base.to_string()]);
        let table = crate::terminal::table(["id", "base"], rows);
        let rest = format!("every other id of Bedrock's that is known stands for `{EMBEDDED}`\n");
        return crate::terminal::print(&(table + &rest));
    };
    if remove {
        anyhow::ensure!(aliases.remove(id), "`{id}` has no entry");
        aliases.write(home)?;
        return crate::terminal::print(&format!("took the entry of `{id}` away\n"));
    }
    let base = base.with_context(|| format!("name the base that `{id}` stands for, or --remove"))?;
    anyhow::ensure!(
        arn_id(id) == id,
        "`{id}` can't be an id in Bedrock's API: it has the form `provider.model`, in lower case, such as `{}`",
        arn_id(id)
    );
    // A path is kept absolute: a job may run in any folder.
    let path = std::path::absolute(base)?;
    let base = if base != EMBEDDED && path.exists() { path.display().to_string() } else { base.to_string() };
    let (locations, _copies) = super::here(home)?;
    let found = outcrop_trainer::base::locate(&base, &locations, &ModelStore::new(home.models_dir()))?;
    Base::open(&found)?;
    aliases.set(id, &base);
    aliases.write(home)?;
    crate::terminal::print(&format!("`{id}` stands for `{base}`\n"))
}

fn headline(record: &ModelRecord) -> String {
    let line = record.comparison.as_ref().and_then(|comparison| comparison.get("headline")?.as_str());
    line.unwrap_or("-").to_string()
}

/// Texts on which an export is compared with the model in memory.
const PROMPTS: [&str; 3] =
    ["The weather was cold, and", "Question: What do people use to cut bread?\nAnswer:", "1 2 3 4"];

fn export_model(model: &str, out: &Path, format: Format, dtype: ExportType, home: &Home) -> anyhow::Result<()> {
    let is_gguf = out.extension().is_some_and(|extension| extension == "gguf");
    anyhow::ensure!(
        is_gguf == matches!(format, Format::Gguf),
        "`{}`: a name that ends in `.gguf` and --format gguf belong together",
        out.display()
    );
    let plain = if is_gguf { None } else { Some(dtype.plain()?) };
    let loaded = super::load(model, home, &Device::Cpu, None)?;
    let prompts: Vec<Vec<u32>> = PROMPTS
        .iter()
        .map(|text| Ok(encode_document(&loaded.tokenizer, text)?.tokens))
        .collect::<anyhow::Result<_>>()?;
    // the one it was trained with, which may not be the base's (R30)
    let template = loaded.tokenizer.chat_template().map(|template| template.source());
    let result = match plain {
        None => export::gguf::write(&loaded.decoder, &loaded.base, out, dtype.gguf(), template, &prompts)?,
        Some(plain) => {
            let result = export::write(&loaded.decoder, &loaded.base, out, plain, &prompts)?;
            if let Some(template) = template {
                fs_err::write(out.join("chat_template.jinja"), template)?;
            }
            result
        }
    };
    let RoundTrip { largest_difference, prompts, same_choice, rounded } = result;
    let compared =
        format!("read back and compared on {prompts} prompts: logits differ by at most {largest_difference:.1e}");
    let bits = match dtype {
        ExportType::F32 => 32,
        ExportType::Q8_0 => 8,
        _ => 16,
    };
    let lost = match rounded > 0.0 {
        true => format!(
            "; {:.1} % of the values are rounded to {bits} bits, the likeliest next token is the same on {same_choice}",
            100.0 * rounded,
        ),
        false => String::new(),
    };
    crate::terminal::print(&format!("{}\n{compared}{lost}\n", out.display()))
}
