//! Where a base model is: the built-in one, an imported one, a path, or a name in the hub's cache; and how one is imported.

use crate::{Result, TrainError};
use outcrop_data::{ChatTemplate, SpecialTokens, TextTokenizer};
use outcrop_job::bases::{self, BaseFile, Bases, ImportedBase};
use outcrop_job::location::LocationError;
use outcrop_job::{Aliases, Home, Hyperparameters, Locations, ModelStore, timestamp};
use outcrop_model::{Base, Spec, hub};
use std::path::{Path, PathBuf};

/// Name of the base that is built in.
pub const BUILT_IN: &str = outcrop_job::aliases::EMBEDDED;
/// Where it lies.
pub const BUILT_IN_LOCATION: &str = outcrop_job::aliases::EMBEDDED_LOCATION;

/// The folder or file that a request's `baseModelIdentifier` names: `pebble`, an imported base, an `s3://` location, a path,
/// `owner/name` in the hub's cache, or an alias of one of them. Nothing is fetched (R36).
/// Errors: [`TrainError::NoBase`] where it is none of these; an imported base whose files changed.
pub fn locate(identifier: &str, locations: &Locations, models: &ModelStore) -> Result<PathBuf> {
    let aliases = Aliases::read(locations.home())?;
    if let Some(imported) = aliases.imported(identifier) {
        imported.check()?;
        imported.check_no_more(&outcrop_model::base::files(&imported.path)?)?;
        return Ok(imported.path.clone());
    }
    let alias = aliases.resolve(identifier);
    let identifier = match &alias {
        // The user's own table, so a path here is one on this machine whoever sent the request.
        Some(found) if Path::new(&found.base).is_absolute() => return Ok(found.base.clone().into()),
        Some(found) => found.base.as_str(),
        None => identifier,
    };
    if identifier == BUILT_IN {
        return Ok(locations.input(BUILT_IN_LOCATION)?);
    }
    match locations.input(identifier) {
        Ok(path) => return Ok(path),
        Err(error @ LocationError::Remote(_)) => return Err(error.into()),
        Err(_) => {}
    }
    if let (true, Err(error)) = (identifier.starts_with(bases::PREFIX), aliases.bases().find(identifier)) {
        return Err(error.into());
    }
    if hub::is_name(identifier) {
        return hub::cached(identifier).ok_or_else(|| {
            let hint = format!("`outcrop models import {identifier}` fetches it");
            TrainError::Plan(format!("base `{identifier}` is neither a path nor in the hub's cache; {hint}"))
        });
    }
    if models.find(identifier).is_ok() {
        return Err(TrainError::Plan(format!(
            "`{identifier}` is a custom model; export it (`outcrop models export {identifier} FOLDER`) and use the folder as base"
        )));
    }
    Err(no_base(identifier))
}

fn no_base(identifier: &str) -> TrainError {
    TrainError::NoBase(format!(
        "base `{identifier}` is not there: it is neither `{BUILT_IN}`, a path, nor a name of the hub (`owner/name`)"
    ))
}

/// Imports a base under an id of its own: a folder or a GGUF file, which stays where it is, or `owner/name` of the hub, which is
/// fetched into its cache. Its config, its tokenizer and the names and shapes of its tensors are checked; every file is read
/// twice for its hashes. Errors: it is no base, or one that can't be used; an id that can't be one or is taken; the network.
pub fn import(source: &str, id: Option<&str>, home: &Home) -> Result<ImportedBase> {
    let path = std::path::absolute(source)?;
    let named = |name: &str| id.map_or_else(|| bases::default_id(name), str::to_string);
    let (id, path, source) = if path.exists() {
        // A name that people know again, and that says nothing of where on the disk it was.
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        (named(&name), path, name)
    } else if hub::is_name(source) {
        let id = named(source);
        bases::check_id(&id)?; // before anything is fetched
        (id, hub::import(source)?, source.to_string())
    } else {
        let forms = "the hub's names look like `owner/name`";
        return Err(TrainError::NoBase(format!("`{source}` is neither a folder nor a GGUF file that exists; {forms}")));
    };
    bases::check_id(&id)?;
    let base = Base::open(&path)?;
    base.check_tensors()?;
    text_tokenizer(&base, None)?;
    let spec = base.spec();
    let imported = ImportedBase {
        id,
        source,
        hash: base.hash()?,
        family: spec.family.to_string(),
        parameters: spec.num_parameters() as u64,
        context_length: spec.max_position_embeddings as u64,
        imported: timestamp::now(),
        files: outcrop_model::base::files(&path)?
            .iter()
            .map(|file| BaseFile::of(file))
            .collect::<std::io::Result<_>>()?,
        path,
    };
    Bases::add(home, imported.clone())?;
    Ok(imported)
}

/// The tokenizer of a base as data needs it: with its special tokens, the model's number of rows (R29), and the chat template, the
/// base's own where `chat_template` doesn't give another. Errors: a base whose tokenizer or template can't be read.
pub fn text_tokenizer(base: &Base, chat_template: Option<&TemplateFile>) -> Result<TextTokenizer> {
    let tokenizer = base.tokenizer()?;
    let special = SpecialTokens {
        bos: base.begin_token(&tokenizer)?,
        add_bos: false, // only where the tokenizer itself adds it (R9)
        eos: base.end_token(&tokenizer)?,
    };
    let rows = base.spec().vocab_size;
    let (place, source) = match chat_template {
        Some(file) => (file.place.clone(), Some(file.source.clone())),
        None => (base.path().display().to_string(), base.chat_template()?),
    };
    let named = base.special_tokens(&tokenizer)?;
    let template = source.map(|source| ChatTemplate::new(&source, named)).transpose();
    let template = template.map_err(|error| TrainError::Plan(format!("{place}: {error}")))?;
    let tokenizer = TextTokenizer::from_tokenizer(tokenizer, special, rows).map_err(outcrop_data::DataError::from)?;
    Ok(tokenizer.with_chat_template(template))
}

/// A chat template that isn't the base's own.
pub struct TemplateFile {
    /// Where it is from, for messages.
    pub place: String,
    /// Its text.
    pub source: String,
}

impl TemplateFile {
    /// The file at `path`. Errors: not there, or not UTF-8.
    pub fn read(path: &Path) -> Result<Self> {
        Ok(Self { place: path.display().to_string(), source: fs_err::read_to_string(path)? })
    }

    /// The file that `hyperParameters.chatTemplate` names, where it does. Errors: as for [`TemplateFile::read`].
    pub fn of(settings: &Hyperparameters, locations: &Locations) -> Result<Option<Self>> {
        let path = settings.chat_template.as_deref().map(|location| locations.input(location)).transpose()?;
        path.map(|path| Self::read(&path)).transpose()
    }
}

/// Longest row of raw text where the request doesn't say: attention's cost grows with it.
const TEXT_ROW: usize = 2048;

/// Most tokens of a record, or of a row of text. Errors: the request asks for more than the context.
pub fn sequence_length(asked: Option<u64>, spec: &Spec, is_text: bool) -> Result<usize> {
    let context = spec.max_position_embeddings;
    match asked.map(|asked| asked as usize) {
        Some(asked) if asked > context => Err(TrainError::Plan(format!(
            "hyperParameters.maxSequenceLength is `{asked}`, but the base's context has {context} tokens"
        ))),
        Some(asked) => Ok(asked),
        None if is_text => Ok(context.min(TEXT_ROW)),
        None => Ok(context),
    }
}
