//! Which base on this machine stands in for a model of Bedrock's. Every id that is known here points to the embedded
//! base until the user's own table, `<home>/aliases.json`, says otherwise; an id of the user's own choice can be in that
//! table too. Also the ids that bases of this machine have in ARNs.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::Home;
use crate::bases::{Bases, ImportedBase, slug};
use crate::folder::{FolderError, read_json, write_json};
use crate::request::CustomizationType::{self, ContinuedPreTraining, FineTuning};
use crate::request::is_foundation_id;

/// The base that is compiled in.
pub const EMBEDDED: &str = "pebble";
/// Where it lies.
pub const EMBEDDED_LOCATION: &str = "s3://outcrop-examples/base/pebble";
/// Its id in ARNs.
pub const EMBEDDED_ID: &str = "outcrop.pebble-v1:0";

/// A model of Bedrock's whose requests are accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoundationModel {
    /// Bedrock's id, without the suffix for the context's length.
    pub id: &'static str,
    /// Its name in listings.
    pub name: &'static str,
    /// Who makes it.
    pub provider: &'static str,
    /// What Bedrock lets one do to it.
    pub customizations: &'static [CustomizationType],
}

const TUNE: &[CustomizationType] = &[FineTuning];
const BOTH: &[CustomizationType] = &[FineTuning, ContinuedPreTraining];

const fn model(
    id: &'static str,
    name: &'static str,
    provider: &'static str,
    customizations: &'static [CustomizationType],
) -> FoundationModel {
    FoundationModel { id, name, provider, customizations }
}

/// Bedrock's text models that are or were open to customization, and those that are commonly named in its place.
pub const KNOWN: &[FoundationModel] = &[
    model("amazon.titan-text-lite-v1", "Titan Text Lite", "Amazon", BOTH),
    model("amazon.titan-text-express-v1", "Titan Text Express", "Amazon", BOTH),
    model("amazon.titan-text-premier-v1:0", "Titan Text Premier", "Amazon", TUNE),
    model("amazon.nova-micro-v1:0", "Nova Micro", "Amazon", TUNE),
    model("amazon.nova-lite-v1:0", "Nova Lite", "Amazon", TUNE),
    model("amazon.nova-pro-v1:0", "Nova Pro", "Amazon", TUNE),
    model("anthropic.claude-instant-v1", "Claude Instant", "Anthropic", BOTH),
    model("anthropic.claude-v2", "Claude 2", "Anthropic", BOTH),
    model("anthropic.claude-3-haiku-20240307-v1:0", "Claude 3 Haiku", "Anthropic", BOTH),
    model("anthropic.claude-3-sonnet-20240229-v1:0", "Claude 3 Sonnet", "Anthropic", BOTH),
    model("anthropic.claude-3-opus-20240229-v1:0", "Claude 3 Opus", "Anthropic", BOTH),
    model("anthropic.claude-3-5-haiku-20241022-v1:0", "Claude 3.5 Haiku", "Anthropic", BOTH),
    model("anthropic.claude-3-5-sonnet-20240620-v1:0", "Claude 3.5 Sonnet", "Anthropic", BOTH),
    model("anthropic.claude-3-5-sonnet-20241022-v2:0", "Claude 3.5 Sonnet v2", "Anthropic", BOTH),
    model("cohere.command-text-v14", "Command", "Cohere", TUNE),
    model("cohere.command-light-text-v14", "Command Light", "Cohere", TUNE),
    model("meta.llama2-13b-v1", "Llama 2 13B", "Meta", TUNE),
    model("meta.llama2-70b-v1", "Llama 2 70B", "Meta", TUNE),
    model("meta.llama3-8b-instruct-v1:0", "Llama 3 8B Instruct", "Meta", BOTH),
    model("meta.llama3-70b-instruct-v1:0", "Llama 3 70B Instruct", "Meta", BOTH),
    model("meta.llama3-1-8b-instruct-v1:0", "Llama 3.1 8B", "Meta", TUNE),
    model("meta.llama3-1-70b-instruct-v1:0", "Llama 3.1 70B", "Meta", TUNE),
    model("meta.llama3-2-1b-instruct-v1:0", "Llama 3.2 1B", "Meta", TUNE),
    model("meta.llama3-2-3b-instruct-v1:0", "Llama 3.2 3B", "Meta", TUNE),
    model("meta.llama3-2-11b-instruct-v1:0", "Llama 3.2 11B", "Meta", TUNE),
    model("meta.llama3-2-90b-instruct-v1:0", "Llama 3.2 90B", "Meta", TUNE),
    model("meta.llama3-3-70b-instruct-v1:0", "Llama 3.3 70B", "Meta", TUNE),
    model("mistral.mistral-7b-instruct-v0:2", "Mistral 7B Instruct", "Mistral AI", BOTH),
];

/// The known model with this id, whatever suffix for the context's length (`:0:8k`) it has.
pub fn known(id: &str) -> Option<&'static FoundationModel> {
    let is = |model: &&FoundationModel| id.strip_prefix(model.id).is_some_and(is_suffix);
    KNOWN.iter().find(is)
}

fn is_suffix(rest: &str) -> bool {
    rest.is_empty() || (rest.starts_with(':') && rest.matches(':').count() <= 2)
}

/// What a `baseModelIdentifier` stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The id that ARNs have.
    pub id: String,
    /// The base on this machine: `pebble`, the id of an imported base, `owner/name` or an absolute path.
    pub base: String,
    /// Whether another model stands in for the one that was named.
    pub is_alias: bool,
}

/// The user's table over the imported bases and the built-in table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Aliases {
    table: BTreeMap<String, String>,
    bases: Bases,
}

impl Aliases {
    /// The table of `home`; an empty one where there is none.
    ///
    /// # Errors
    /// `aliases.json` is unreadable or isn't an object of strings; so is `bases.json`.
    pub fn read(home: &Home) -> Result<Self, FolderError> {
        let path = path(home);
        let table = if path.exists() { read_json(&path)? } else { BTreeMap::new() };
        Ok(Self { table, bases: Bases::read(home)? })
    }

    /// The imported bases.
    pub fn bases(&self) -> &Bases {
        &self.bases
    }

    /// The imported base that `identifier` stands for: its own id or ARN, or an alias of it.
    pub fn imported(&self, identifier: &str) -> Option<&ImportedBase> {
        self.bases.get(&self.resolve(identifier)?.base)
    }

    /// Writes the table.
    ///
    /// # Errors
    /// The disk.
    pub fn write(&self, home: &Home) -> Result<(), FolderError> {
        fs_err::create_dir_all(home.root())?;
        write_json(&path(home), &self.table)
    }

    /// The user's own entries, by id.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.table.iter().map(|(id, base)| (id.as_str(), base.as_str()))
    }

    /// Makes `base` stand for `id`.
    pub fn set(&mut self, id: &str, base: &str) {
        self.table.insert(id.to_string(), base.to_string());
    }

    /// Takes the user's entry for `id` away; false where there is none.
    pub fn remove(&mut self, id: &str) -> bool {
        self.table.remove(id).is_some()
    }

    /// What `identifier` stands for: an id, a foundation model's ARN, or `pebble`. None where it is neither known, imported nor
    /// in the table: then it names a custom model, a path, or nothing.
    pub fn resolve(&self, identifier: &str) -> Option<Resolved> {
        let id = identifier.split_once(":foundation-model/").map_or(identifier, |(_, id)| id);
        if let Some(base) = self.table.get(id) {
            return Some(Resolved { id: arn_id(id), base: base.clone(), is_alias: true });
        }
        if let Some(base) = self.bases.get(id) {
            return Some(Resolved { id: base.id.clone(), base: base.id.clone(), is_alias: false });
        }
        if id == EMBEDDED || id == EMBEDDED_ID {
            return Some(Resolved { id: EMBEDDED_ID.into(), base: EMBEDDED.into(), is_alias: false });
        }
        known(id).map(|_| Resolved { id: id.to_string(), base: EMBEDDED.into(), is_alias: true })
    }

    /// A sentence for whoever may take the stand-in for the model that was named.
    pub fn note(&self, identifier: &str) -> Option<String> {
        let found = self.resolve(identifier).filter(|found| found.is_alias)?;
        Some(format!(
            "`{}` is an alias here: the job trains `{}` on this machine, not Bedrock's model; `outcrop models alias {} BASE` changes it",
            found.id, found.base, found.id
        ))
    }
}

fn path(home: &Home) -> PathBuf {
    home.root().join("aliases.json")
}

/// An id of Bedrock's form (`provider.model`, lower case) for a base of this machine: as it is where it has that form,
/// else `local.` and the last part of its name.
pub fn arn_id(base: &str) -> String {
    if is_foundation_id(base) {
        return base.to_string();
    }
    if base == EMBEDDED {
        return EMBEDDED_ID.to_string();
    }
    format!("local.{}", slug(base, 60))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::{Origin, Request};

    #[test]
    fn a_known_id_stands_for_the_embedded_base_until_the_table_says_otherwise() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(folder.path().join("home"));
        let mut aliases = Aliases::read(&home).unwrap();
        let sonnet = "anthropic.claude-3-sonnet-20240229-v1:0";
        let found = aliases.resolve(sonnet).unwrap();
        assert_eq!((found.id.as_str(), found.base.as_str(), found.is_alias), (sonnet, "pebble", true));
        assert!(aliases.note(sonnet).unwrap().contains("is an alias here: the job trains `pebble`"));
        aliases.set(sonnet, "HuggingFaceTB/SmolLM2-135M");
        aliases.write(&home).unwrap();
        let mut aliases = Aliases::read(&home).unwrap();
        let arn = format!("arn:aws:bedrock:us-east-1::foundation-model/{sonnet}");
        assert_eq!(aliases.resolve(&arn).unwrap().base, "HuggingFaceTB/SmolLM2-135M");
        assert!(aliases.remove(sonnet) && !aliases.remove(sonnet));
        assert_eq!(aliases.resolve(&arn).unwrap().base, "pebble");
    }

    #[test]
    fn the_embedded_base_is_no_alias_of_itself() {
        let aliases = Aliases::default();
        for name in ["pebble", "outcrop.pebble-v1:0"] {
            let found = aliases.resolve(name).unwrap();
            assert_eq!((found.id.as_str(), found.is_alias), (EMBEDDED_ID, false));
            assert_eq!(aliases.note(name), None);
        }
        assert_eq!(aliases.resolve("amazon.nothing-v1"), None);
        assert_eq!(aliases.resolve("my-model"), None);
    }

    #[test]
    fn suffixes_of_the_context_belong_to_the_model() {
        assert_eq!(known("amazon.titan-text-express-v1:0:8k").unwrap().name, "Titan Text Express");
        assert_eq!(known("amazon.nova-micro-v1:0:128k").unwrap().name, "Nova Micro");
        assert!(known("amazon.titan-text-express-v12").is_none());
    }

    #[test]
    fn every_id_is_one_that_bedrock_accepts() {
        let bases = ["HuggingFaceTB/SmolLM2-135M", "/models/My Model.gguf", "pebble", "x", "a/b/", "Ü"];
        let ids = bases.iter().map(|base| arn_id(base)).chain(KNOWN.iter().map(|model| model.id.to_string()));
        for id in ids {
            assert!(id.contains('.'), "{id}");
            let request = Request { base_model_identifier: id.clone(), ..Request::default() };
            let violations = request.validate(Origin::Network).unwrap_err();
            assert!(
                violations.iter().all(|violation| violation.member != "baseModelIdentifier"),
                "{id}: {violations:?}"
            );
        }
        assert_eq!(arn_id("HuggingFaceTB/SmolLM2-135M"), "local.smollm2-135m");
    }

    #[test]
    fn listings_hold_names_of_twenty_characters() {
        assert!(KNOWN.iter().all(|model| model.name.len() <= 20 && model.provider.len() <= 20));
    }
}
