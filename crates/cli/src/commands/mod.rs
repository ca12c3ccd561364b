//! One file per verb.

pub(crate) mod bedrock;
pub(crate) mod compare;
pub(crate) mod data;
pub(crate) mod doctor;
pub(crate) mod eval;
pub(crate) mod generate;
pub(crate) mod generate_worker;
pub(crate) mod jobs;
pub(crate) mod models;
pub(crate) mod plan;
pub(crate) mod prune;
pub(crate) mod serve;
pub(crate) mod settings;
pub(crate) mod sweep;
mod text;
pub(crate) mod tokenizer;
pub(crate) mod train;

use anyhow::Context;
use candle_core::{DType, Device};
use outcrop_data::TextTokenizer;
use outcrop_job::{Home, Locations, ModelRecord, ModelStore, content_hash};
use outcrop_model::{Base, Decoder, delta};
use outcrop_service::Remote;
use outcrop_trainer::TrainError;
use outcrop_trainer::base::{TemplateFile, text_tokenizer};
use std::path::Path;
use std::sync::Arc;

/// A model failed its gate; everything is said already.
#[derive(Debug)]
pub(crate) struct GateFailed;

impl std::fmt::Display for GateFailed {
    fn fmt(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
        formatter.write_str("gate: failed")
    }
}

impl std::error::Error for GateFailed {}

/// The home folder, with the examples in it.
fn home() -> anyhow::Result<Home> {
    let home = Home::from_environment()?;
    crate::examples::unpack(&home)?;
    Ok(home)
}

/// The same locations with buckets in a store of objects, where the environment names one; copies lie in `place`.
fn with_objects(locations: Locations, place: &Path) -> anyhow::Result<Locations> {
    Ok(match Remote::from_environment()? {
        Some(remote) => locations.with_objects(Arc::new(remote), place),
        None => locations,
    })
}

/// Locations that start from the current folder, and what keeps the copies of objects as long as they are needed.
fn here(home: &Home) -> anyhow::Result<(Locations, Option<tempfile::TempDir>)> {
    let locations = Locations::for_file(home.clone(), std::env::current_dir()?);
    let Some(remote) = Remote::from_environment()? else { return Ok((locations, None)) };
    let copies = tempfile::tempdir()?;
    Ok((locations.with_objects(Arc::new(remote), copies.path()), Some(copies)))
}

/// This binary, to start jobs with. Linux gives it by a name that stays good when the file is replaced by a newer build.
fn own_program() -> std::io::Result<std::path::PathBuf> {
    if cfg!(target_os = "linux") { Ok("/proc/self/exe".into()) } else { std::env::current_exe() }
}

/// A model ready to be used: a custom model on its base, or a base alone.
struct Loaded {
    base: Base,
    decoder: Decoder,
    tokenizer: TextTokenizer,
    /// What is known of a custom model.
    record: Option<ModelRecord>,
    /// Keeps a base that was copied here, whose files are read as long as it is used.
    _copies: Option<tempfile::TempDir>,
}

/// Loads the custom model `name`, or the base of that name or path.
/// Conversations are laid out by `template` where it is given, else by the template that the model was trained with, else by the base's.
fn load(name: &str, home: &Home, device: &Device, template: Option<&TemplateFile>) -> anyhow::Result<Loaded> {
    let models = ModelStore::new(home.models_dir());
    match models.find(name) {
        Ok(record) => load_custom(&record, &models, device, template),
        Err(unknown) => {
            let (locations, copies) = here(home)?;
            let path = match outcrop_trainer::base::locate(name, &locations, &models) {
                Err(TrainError::NoBase(_)) => return Err(unknown.into()),
                path => path?,
            };
            let base = Base::open(&path)?;
            let (decoder, tokenizer) = (base.load(DType::F32, device)?, text_tokenizer(&base, template)?);
            Ok(Loaded { decoder, tokenizer, base, record: None, _copies: copies })
        }
    }
}

/// Loads a custom model on its base. Errors: the base moved or changed, the delta is damaged.
fn load_custom(
    record: &ModelRecord,
    models: &ModelStore,
    device: &Device,
    template: Option<&TemplateFile>,
) -> anyhow::Result<Loaded> {
    let base = Base::open(&record.base.path).with_context(|| format!("the base of model `{}`", record.name))?;
    anyhow::ensure!(
        base.hash()? == record.base.hash,
        "the base of model `{}` at `{}` has changed since it was trained; put the former files back",
        record.name,
        record.base.path.display()
    );
    let file = models.dir(&record.id)?.join(&record.delta_file);
    anyhow::ensure!(
        content_hash::of_file(&file)? == record.delta_hash,
        "`{}` is damaged: its hash is not the one in model.json",
        file.display()
    );
    let decoder = delta::load(&base, &file, DType::F32, device)?;
    let own = record.chat_template.as_ref();
    let own = own.map(|source| TemplateFile { place: format!("model `{}`", record.name), source: source.clone() });
    let tokenizer = text_tokenizer(&base, template.or(own.as_ref()))?;
    Ok(Loaded { decoder, tokenizer, base, record: Some(record.clone()), _copies: None })
}
