//! Bases that were imported under an id of their own, such as `local.smollm2-135m-v1:0`: the table `<home>/bases.json`. Files stay
//! where they are and belong to the user; the size, time and hash of each is kept, so that one which changed since is named
//! when the base is used. Left out: what a base is and which files it has, which are the model crate's.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::aliases::Aliases;
use crate::claim::Claim;
use crate::folder::{FolderError, read_json, write_json};
use crate::request::is_foundation_id;
use crate::wording::{nearest, quote};
use crate::{Home, content_hash};

/// What every id of an imported base begins with.
pub const PREFIX: &str = "local.";
/// What an id ends with where none is given.
const VERSION: &str = "-v1:0";
/// Bedrock's most characters behind the dot.
const LONGEST: usize = 63;

/// An imported base. Hashes are BLAKE3 in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImportedBase {
    /// Its id.
    pub id: String,
    /// What was imported: `owner/name` of the hub, or the last part of a path.
    pub source: String,
    /// The folder, or the GGUF file; absolute.
    pub path: PathBuf,
    /// Hash of its content, as jobs and custom models know it.
    pub hash: String,
    /// Architecture, such as `llama`.
    pub family: String,
    /// Parameters.
    pub parameters: u64,
    /// Longest sequence it was made for, in tokens.
    pub context_length: u64,
    /// When it was imported.
    #[serde(with = "crate::timestamp")]
    pub imported: Timestamp,
    /// The files whose content it is.
    pub files: Vec<BaseFile>,
}

/// A file of a base as it was when it was imported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BaseFile {
    /// Its name; a GGUF file's own.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// When it was changed last, to the nanosecond.
    pub modified: String,
    /// Hash of its content.
    pub hash: String,
}

/// Why a base can't be imported, used or taken away.
#[derive(Debug, thiserror::Error)]
pub enum BaseError {
    /// The table.
    #[error("{0}")]
    Folder(#[from] FolderError),
    /// Not an id that a base can have.
    #[error(
        "{} can't be the id of an imported base: it has the form `local.name-v1:0`, in lower-case letters, digits and `-`, with 2 to 63 \
         characters between dot and colon; to let a base stand for another id, `outcrop models alias ID BASE`",
        quote(.0)
    )]
    Id(String),
    /// The id is another base's.
    #[error("`{id}` is imported already, from `{}`; choose another --id, or `outcrop models delete {id}` first", path.display())]
    Taken {
        /// The id.
        id: String,
        /// Where that base is.
        path: PathBuf,
    },
    /// The id is in the table of aliases.
    #[error("`{id}` is an alias of `{base}`; choose another --id, or `outcrop models alias {id} --remove` first")]
    Alias {
        /// The id.
        id: String,
        /// What it stands for.
        base: String,
    },
    /// No such base.
    #[error("there is no imported base {}{}", quote(id), hint(.nearest.as_deref()))]
    Unknown {
        /// As asked for.
        id: String,
        /// The id most like it; None where there are none.
        nearest: Option<String>,
    },
    /// A file that isn't as it was.
    #[error("base `{id}`: `{}` {what} since it was imported; make it as it was, or `outcrop models delete {id}` and import it again", path.display())]
    Changed {
        /// The id.
        id: String,
        /// The file, or the folder.
        path: PathBuf,
        /// What happened to it.
        what: &'static str,
    },
}

fn hint(nearest: Option<&str>) -> String {
    nearest.map_or("; there are none yet".to_string(), |id| format!("; the nearest id is `{id}`"))
}

impl From<std::io::Error> for BaseError {
    fn from(error: std::io::Error) -> Self {
        Self::Folder(error.into())
    }
}

/// The id of a base that is imported without one: `local.`, the last part of its name in Bedrock's letters, `-v1:0`.
/// `SmolLM2-135M`, `HuggingFaceTB/SmolLM2-135M` and `SmolLM2-135M.gguf` are `local.smollm2-135m-v1:0`.
pub fn default_id(source: &str) -> String {
    format!("{PREFIX}{}{VERSION}", slug(source, LONGEST + ":0".len() - VERSION.len()))
}

/// The last part of a path or name, without `.gguf`, in lower-case letters, digits and single `-`: 2 to `longest` of them.
pub(crate) fn slug(source: &str, longest: usize) -> String {
    let name = Path::new(source.trim_end_matches('/')).file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let name = name.strip_suffix(".gguf").unwrap_or(&name);
    let mut slug = String::new();
    for character in name.chars() {
        let character = if character.is_ascii_alphanumeric() { character } else { '-' };
        if character != '-' || !slug.is_empty() && !slug.ends_with('-') {
            slug.push(character);
        }
    }
    slug.truncate(longest);
    let slug = slug.trim_matches('-');
    if slug.len() < 2 { format!("base-{slug}").trim_end_matches('-').to_string() } else { slug.to_string() }
}

/// Errors: a base can't have this id.
pub fn check_id(id: &str) -> Result<(), BaseError> {
    if id.starts_with(PREFIX) && is_foundation_id(id) { Ok(()) } else { Err(BaseError::Id(id.to_string())) }
}

impl BaseFile {
    /// A file as it is now. Cost: one read of it.
    ///
    /// # Errors
    /// It can't be read.
    pub fn of(path: &Path) -> std::io::Result<Self> {
        let (bytes, modified) = stamp(path)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { name, bytes, modified, hash: content_hash::of_file(path)? })
    }
}

/// Size and time of a file, of what it leads to where it is a link.
fn stamp(path: &Path) -> std::io::Result<(u64, String)> {
    let metadata = fs_err::metadata(path)?;
    let modified = Timestamp::try_from(metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH)).unwrap_or_default();
    Ok((metadata.len(), modified.to_string()))
}

impl ImportedBase {
    /// Bytes of all its files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// Its name for people: the last part of what was imported.
    pub fn name(&self) -> &str {
        let last = self.source.rsplit('/').next().unwrap_or(&self.source);
        last.strip_suffix(".gguf").unwrap_or(last)
    }

    fn is_file(&self) -> bool {
        self.files.len() == 1 && self.path.file_name().is_some_and(|name| name.to_string_lossy() == self.files[0].name)
    }

    /// Whether every file is as it was. One whose size and time are the same counts as the same; another time alone costs a read.
    ///
    /// # Errors
    /// The first that is missing or has other content.
    pub fn check(&self) -> Result<(), BaseError> {
        let changed = |path: PathBuf, what| Err(BaseError::Changed { id: self.id.clone(), path, what });
        if !self.path.exists() {
            return changed(self.path.clone(), "isn't there any more, or can't be read,");
        }
        for file in &self.files {
            let path = if self.is_file() { self.path.clone() } else { self.path.join(&file.name) };
            let Ok((bytes, modified)) = stamp(&path) else { return changed(path, "is missing") };
            let same = bytes == file.bytes && (modified == file.modified || content_hash::of_file(&path)? == file.hash);
            if !same {
                return changed(path, "has changed");
            }
        }
        Ok(())
    }

    /// Whether the base has no file that it didn't have: `now` are the files of its content.
    ///
    /// # Errors
    /// The first one that is new.
    pub fn check_no_more(&self, now: &[PathBuf]) -> Result<(), BaseError> {
        let name = |path: &PathBuf| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match now.iter().find(|path| !self.files.iter().any(|file| file.name == name(path))) {
            None => Ok(()),
            Some(new) => Err(BaseError::Changed { id: self.id.clone(), path: new.clone(), what: "is new" }),
        }
    }
}

/// The imported bases, by id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bases {
    table: BTreeMap<String, ImportedBase>,
}

impl Bases {
    /// The table of `home`; an empty one where there is none.
    ///
    /// # Errors
    /// `bases.json` is unreadable or isn't such a table.
    pub fn read(home: &Home) -> Result<Self, FolderError> {
        let path = path(home);
        if path.exists() { Ok(Self { table: read_json(&path)? }) } else { Ok(Self::default()) }
    }

    /// All of them, by id.
    pub fn iter(&self) -> impl Iterator<Item = &ImportedBase> {
        self.table.values()
    }

    /// The base with this id or foundation model's ARN.
    pub fn get(&self, identifier: &str) -> Option<&ImportedBase> {
        let id = identifier.split_once(":foundation-model/").map_or(identifier, |(_, id)| id);
        self.table.get(id)
    }

    /// The base with this id or ARN.
    ///
    /// # Errors
    /// There is none; the nearest id is given.
    pub fn find(&self, identifier: &str) -> Result<&ImportedBase, BaseError> {
        self.get(identifier).ok_or_else(|| BaseError::Unknown {
            id: identifier.to_string(),
            nearest: nearest(identifier, self.table.keys().map(String::as_str)).map(str::to_string),
        })
    }

    /// Adds a base to the table of `home`. The same content at the same place may come again: its times are noted anew.
    ///
    /// # Errors
    /// Its id can't be one, or belongs to another base or an alias; the disk.
    pub fn add(home: &Home, base: ImportedBase) -> Result<(), BaseError> {
        check_id(&base.id)?;
        change(home, |bases| {
            check_free(home, bases, &base.id, Some((&base.path, &base.hash)))?;
            bases.table.insert(base.id.clone(), base);
            Ok(())
        })
    }

    /// Takes a base out of the table of `home`; its files stay.
    ///
    /// # Errors
    /// There is none with this id; the disk.
    pub fn remove(home: &Home, identifier: &str) -> Result<ImportedBase, BaseError> {
        change(home, |bases| {
            let base = bases.find(identifier)?.clone();
            bases.table.remove(&base.id);
            Ok(base)
        })
    }
}

/// Errors: the id belongs to an alias, or to a base other than `same`, given by place and hash.
fn check_free(home: &Home, bases: &Bases, id: &str, same: Option<(&Path, &str)>) -> Result<(), BaseError> {
    if let Some((_, base)) = Aliases::read(home)?.iter().find(|(alias, _)| *alias == id) {
        return Err(BaseError::Alias { id: id.to_string(), base: base.to_string() });
    }
    match bases.table.get(id) {
        Some(other) if same != Some((&other.path, &other.hash)) => {
            Err(BaseError::Taken { id: id.to_string(), path: other.path.clone() })
        }
        _ => Ok(()),
    }
}

/// Changes the table while no other process does.
fn change<T>(home: &Home, how: impl FnOnce(&mut Bases) -> Result<T, BaseError>) -> Result<T, BaseError> {
    fs_err::create_dir_all(home.root())?;
    let _turn = Claim::wait(&home.root().join("bases.lock"))?;
    let mut bases = Bases::read(home)?;
    let result = how(&mut bases)?;
    write_json(&path(home), &bases.table)?;
    Ok(result)
}

fn path(home: &Home) -> PathBuf {
    home.root().join("bases.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(home: &Home, id: &str, name: &str) -> ImportedBase {
        let folder = home.root().join(name);
        fs_err::create_dir_all(&folder).unwrap();
        for file in ["config.json", "model.safetensors"] {
            fs_err::write(folder.join(file), format!("{name} {file}")).unwrap();
        }
        let files = ["config.json", "model.safetensors"].map(|file| BaseFile::of(&folder.join(file)).unwrap());
        ImportedBase {
            id: id.into(),
            source: name.into(),
            path: folder,
            hash: content_hash::of_texts(&[name]),
            family: "llama".into(),
            parameters: 1,
            context_length: 2,
            imported: crate::timestamp::now(),
            files: files.to_vec(),
        }
    }

    #[test]
    fn an_id_is_derived_from_the_last_part_of_the_name_and_bedrock_takes_it() {
        assert_eq!(default_id("HuggingFaceTB/SmolLM2-135M"), "local.smollm2-135m-v1:0");
        assert_eq!(default_id("/models/My Model.Q8_0.gguf"), "local.my-model-q8-0-v1:0");
        let long = "x".repeat(200);
        for source in ["a/b/", "Ü", "x", "", "...", "--a--", "mistral-7b-v0.1", long.as_str()] {
            check_id(&default_id(source)).unwrap();
        }
        assert_eq!(default_id(&long).find(':'), Some(PREFIX.len() + LONGEST));
    }

    #[test]
    fn ids_are_local_and_of_bedrocks_form() {
        check_id("local.tiny-v1:0").unwrap();
        check_id("local.tiny").unwrap();
        let long = format!("local.{}-v1:0", "x".repeat(61));
        for id in [
            "",
            "tiny",
            "local",
            "local.",
            "local.x",
            "Local.tiny",
            "local.Tiny",
            "local.a_b",
            "local.a.b",
            "local.tiny:",
            "local.tiny:0:1:2",
            "local.../../etc",
            "anthropic.claude-3-sonnet-20240229-v1:0",
            "outcrop.pebble-v1:0",
            "local.tiny v1",
            &long,
        ] {
            let message = check_id(id).unwrap_err().to_string();
            assert!(message.contains("has the form `local.name-v1:0`"), "{id}: {message}");
        }
    }

    #[test]
    fn a_base_is_found_by_id_and_arn_until_it_is_removed_and_an_id_is_one_bases() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(folder.path());
        let (one, other) = (base(&home, "local.one-v1:0", "one"), base(&home, "local.one-v1:0", "other"));
        Bases::add(&home, one.clone()).unwrap();
        Bases::add(&home, one.clone()).unwrap(); // the same again
        let message = Bases::add(&home, other).unwrap_err().to_string();
        assert!(message.starts_with("`local.one-v1:0` is imported already, from `"), "{message}");
        let mut aliases = Aliases::read(&home).unwrap();
        aliases.set("local.two-v1:0", "pebble");
        aliases.write(&home).unwrap();
        let message = Bases::add(&home, base(&home, "local.two-v1:0", "two")).unwrap_err().to_string();
        assert!(message.starts_with("`local.two-v1:0` is an alias of `pebble`"), "{message}");
        let bases = Bases::read(&home).unwrap();
        let arn = "arn:aws:bedrock:us-east-1::foundation-model/local.one-v1:0";
        assert_eq!((bases.get(arn), bases.find("local.one-v1:0").unwrap()), (Some(&one), &one));
        let message = bases.find("local.noe-v1:0").unwrap_err().to_string();
        assert_eq!(message, "there is no imported base `local.noe-v1:0`; the nearest id is `local.one-v1:0`");
        assert_eq!(Bases::remove(&home, "local.one-v1:0").unwrap(), one);
        let message = Bases::remove(&home, "local.one-v1:0").unwrap_err().to_string();
        assert!(message.ends_with("there are none yet"), "{message}");
        assert!(one.path.join("config.json").exists(), "the files stay");
    }

    #[test]
    fn a_file_that_changed_is_named_and_a_touched_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(folder.path());
        let base = base(&home, "local.one-v1:0", "one");
        base.check().unwrap();
        let weights = base.path.join("model.safetensors");
        let touch = |seconds| {
            let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
            std::fs::File::options().write(true).open(&weights).unwrap().set_modified(time).unwrap();
        };
        touch(1_000);
        base.check().unwrap();
        fs_err::write(&weights, "one model.safetensorz").unwrap();
        touch(2_000);
        let message = base.check().unwrap_err().to_string();
        let start = format!("base `local.one-v1:0`: `{}` has changed since it was imported; ", weights.display());
        assert!(message.starts_with(&start), "{message}");
        fs_err::remove_file(&weights).unwrap();
        assert!(base.check().unwrap_err().to_string().contains("model.safetensors` is missing since"));
        let new = base.path.join("generation_config.json");
        let message = base.check_no_more(&[base.path.join("config.json"), new]).unwrap_err().to_string();
        assert!(message.contains("generation_config.json` is new"), "{message}");
        fs_err::remove_dir_all(&base.path).unwrap();
        assert!(base.check().unwrap_err().to_string().contains("one` isn't there any more"));
    }
}
