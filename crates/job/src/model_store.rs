//! The custom models on this machine: one folder each, named by id. A model is there once its `model.json` is; a folder
//! without one is a model in the making, or what a killed process left of one, and is passed over.

use std::io;
use std::path::{Path, PathBuf};

use crate::ModelRecord;
use crate::claim::Claim;
use crate::folder::{FolderError, read_json, write_json};
use crate::home::is_id;
use crate::request::is_model_name;
use crate::wording::{nearest, quote};

const RECORD: &str = "model.json";

/// The folder of all custom models.
#[derive(Debug, Clone)]
pub struct ModelStore {
    root: PathBuf,
}

/// Why a model can't be found, added or deleted.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A file of the store.
    #[error("{0}")]
    Folder(#[from] FolderError),
    /// No such model.
    #[error("there is no custom model {}{}", quote(name), hint(.nearest.as_deref()))]
    Unknown {
        /// As asked for.
        name: String,
        /// The name most like it; None where there are no models.
        nearest: Option<String>,
    },
    /// The name belongs to another model.
    #[error("a custom model named `{0}` exists already; choose another customModelName or delete that model")]
    NameTaken(String),
    /// Not a name or id that a model can have.
    #[error("{} can't be a custom model's {what}", quote(value))]
    Invalid {
        /// `name` or `id`.
        what: &'static str,
        /// As given.
        value: String,
    },
    /// The record is in another model's folder.
    #[error("`{}` says that its id is {}; the folder's name and the id must be the same", path.display(), quote(id))]
    WrongFolder {
        /// The record.
        path: PathBuf,
        /// Its id.
        id: String,
    },
}

fn hint(nearest: Option<&str>) -> String {
    nearest.map_or("; there are none yet".to_string(), |name| format!("; the nearest name is `{name}`"))
}

impl From<io::Error> for ModelError {
    fn from(error: io::Error) -> Self {
        Self::Folder(error.into())
    }
}

impl ModelStore {
    /// The store in `root` (`Home::models_dir`), which need not exist yet.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The folder of the model `id`.
    ///
    /// # Errors
    /// `id` isn't an id, so that no id leads out of the store.
    pub fn dir(&self, id: &str) -> Result<PathBuf, ModelError> {
        if is_id(id) { Ok(self.root.join(id)) } else { Err(ModelError::Invalid { what: "id", value: id.to_string() }) }
    }

    /// Every model, the oldest first, those of one moment by id.
    ///
    /// # Errors
    /// The store or a record is unreadable.
    pub fn list(&self) -> Result<Vec<ModelRecord>, ModelError> {
        let entries = match fs_err::read_dir(&self.root) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut records = Vec::new();
        for entry in entries {
            let folder = entry?.path();
            let id = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if is_id(id)
                && let Some(record) = read(&folder, id)?
            {
                records.push(record);
            }
        }
        records.sort_by(|a: &ModelRecord, b| (a.created, &a.id).cmp(&(b.created, &b.id)));
        Ok(records)
    }

    /// The model with this name, else with this id.
    ///
    /// # Errors
    /// There is none (the nearest name is given); a record is unreadable.
    pub fn find(&self, name_or_id: &str) -> Result<ModelRecord, ModelError> {
        let records = self.list()?;
        let by_name = records.iter().position(|record| record.name == name_or_id);
        let found = by_name.or_else(|| records.iter().position(|record| record.id == name_or_id));
        match found {
            Some(index) => Ok(records[index].clone()),
            None => {
                let nearest = nearest(name_or_id, records.iter().map(|record| record.name.as_str()));
                let nearest = nearest.map(str::to_string);
                Err(ModelError::Unknown { name: name_or_id.to_string(), nearest })
            }
        }
    }

    /// Whether `name` is free and can be a model's name, to be asked before hours of training.
    ///
    /// # Errors
    /// It isn't, or can't be.
    pub fn check_name(&self, name: &str) -> Result<(), ModelError> {
        if !is_model_name(name) {
            return Err(ModelError::Invalid { what: "name", value: name.to_string() });
        }
        let taken = self.list()?.iter().any(|record| record.name == name);
        if taken { Err(ModelError::NameTaken(name.to_string())) } else { Ok(()) }
    }

    /// Adds a model whose other files are in its folder already: writes `model.json`, the last step of making it.
    /// A record of the same id is replaced.
    ///
    /// # Errors
    /// Its name is another model's; its id or name can't be one; the disk.
    pub fn save(&self, record: &ModelRecord) -> Result<(), ModelError> {
        let folder = self.dir(&record.id)?;
        if !is_model_name(&record.name) {
            return Err(ModelError::Invalid { what: "name", value: record.name.clone() });
        }
        fs_err::create_dir_all(&folder)?;
        // Held while the name is looked up and taken; another process waits here for that moment.
        let _turn = Claim::wait(&self.root.join("lock"))?;
        if self.list()?.iter().any(|other| other.name == record.name && other.id != record.id) {
            return Err(ModelError::NameTaken(record.name.clone()));
        }
        Ok(write_json(&folder.join(RECORD), record)?)
    }

    /// Deletes one model: its folder and nothing else.
    ///
    /// # Errors
    /// There is no such model; the disk.
    pub fn delete(&self, name_or_id: &str) -> Result<ModelRecord, ModelError> {
        let record = self.find(name_or_id)?;
        let folder = self.dir(&record.id)?;
        // The record first: should the rest fail, the model is gone all the same and not half there.
        fs_err::remove_file(folder.join(RECORD))?;
        if fs_err::symlink_metadata(&folder)?.is_symlink() {
            // Someone moved the model elsewhere and linked it; what is there isn't the store's to delete.
            fs_err::remove_file(&folder)?;
        } else {
            fs_err::remove_dir_all(&folder)?;
        }
        Ok(record)
    }
}

/// The record in a model's folder; None where it has none yet.
fn read(folder: &Path, id: &str) -> Result<Option<ModelRecord>, ModelError> {
    let path = folder.join(RECORD);
    let record: ModelRecord = match read_json(&path) {
        Err(FolderError::Io(error)) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        record => record?,
    };
    if record.id == id { Ok(Some(record)) } else { Err(ModelError::WrongFolder { path, id: record.id }) }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::model_record::{BaseReference, Metrics, ValidationMetric};
    use crate::plan::DataFile;
    use crate::{CustomizationType, Hyperparameters};

    pub(crate) fn record(id: &str, name: &str, second: u32) -> ModelRecord {
        ModelRecord {
            id: id.into(),
            name: name.into(),
            created: format!("2026-11-22T07:20:{second:02}.123Z").parse().unwrap(),
            job_id: "jobjobjobjob".into(),
            job_name: "job".into(),
            base: BaseReference { identifier: "tiny".into(), path: "tiny".into(), hash: "aa".into() },
            customization_type: CustomizationType::FineTuning,
            tensors: vec!["lm_head.weight".into()],
            delta_file: "delta.safetensors".into(),
            delta_hash: "bb".into(),
            metrics: Metrics {
                training_loss: 2.0f64.sqrt(),
                validation: vec![ValidationMetric { validation_loss: f64::INFINITY }],
            },
            comparison: Some(serde_json::json!({"verdict": "better"})),
            chat_template: Some("{{ messages }}".into()),
            hyperparameters: Hyperparameters::defaults(CustomizationType::FineTuning),
            training_data: vec![DataFile { path: "t.jsonl".into(), bytes: 1, hash: "cc".into() }],
            engine_version: "0.1.0".into(),
            gate: None,
        }
    }

    fn store() -> (tempfile::TempDir, ModelStore) {
        let folder = tempfile::tempdir().unwrap();
        let store = ModelStore::new(folder.path().join("models"));
        (folder, store)
    }

    #[test]
    fn models_come_back_oldest_first() {
        let (_folder, store) = store();
        assert!(store.list().unwrap().is_empty());
        let (old, new) = (record("bbbbbbbbbbb1", "old", 1), record("aaaaaaaaaaa1", "new", 2));
        store.save(&new).unwrap();
        store.save(&old).unwrap();
        assert_eq!(store.list().unwrap(), [old.clone(), new.clone()]);
        assert_eq!(store.find("new").unwrap(), new);
        assert_eq!(store.find("bbbbbbbbbbb1").unwrap(), old);
    }

    #[test]
    fn an_unknown_model_is_answered_with_the_nearest() {
        let (_folder, store) = store();
        let error = store.find("support").unwrap_err();
        assert_eq!(error.to_string(), "there is no custom model `support`; there are none yet");
        store.save(&record("aaaaaaaaaaa1", "support-replies", 1)).unwrap();
        store.save(&record("aaaaaaaaaaa2", "poems", 1)).unwrap();
        let error = store.find("suport").unwrap_err();
        assert_eq!(error.to_string(), "there is no custom model `suport`; the nearest name is `support-replies`");
    }

    #[test]
    fn a_name_belongs_to_one_model() {
        let (_folder, store) = store();
        let first = record("aaaaaaaaaaa1", "name", 1);
        store.check_name("name").unwrap();
        store.save(&first).unwrap();
        store.save(&first).unwrap();
        let expected =
            "a custom model named `name` exists already; choose another customModelName or delete that model";
        assert_eq!(store.check_name("name").unwrap_err().to_string(), expected);
        assert_eq!(store.save(&record("aaaaaaaaaaa2", "name", 1)).unwrap_err().to_string(), expected);
        assert_eq!(store.list().unwrap().len(), 1);
        assert_eq!(store.check_name("a b").unwrap_err().to_string(), "`a b` can't be a custom model's name");
    }

    #[test]
    fn deleting_takes_that_model_and_nothing_else() {
        let (_folder, store) = store();
        store.save(&record("aaaaaaaaaaa1", "one", 1)).unwrap();
        store.save(&record("aaaaaaaaaaa2", "two", 1)).unwrap();
        let (one, two) = (store.dir("aaaaaaaaaaa1").unwrap(), store.dir("aaaaaaaaaaa2").unwrap());
        fs_err::write(one.join("delta.safetensors"), "x").unwrap();
        assert_eq!(store.delete("one").unwrap().id, "aaaaaaaaaaa1");
        assert!(!one.exists() && two.is_dir());
        assert!(matches!(store.delete("one").unwrap_err(), ModelError::Unknown { .. }));
        for id in ["..", "../models", "", "aaaaaaaaaaa2/../x"] {
            assert!(store.delete(id).is_err());
            assert!(store.dir(id).is_err());
        }
        assert_eq!(store.dir("..").unwrap_err().to_string(), "`..` can't be a custom model's id");
        assert_eq!(store.list().unwrap().len(), 1);
    }

    #[test]
    fn a_model_in_the_making_is_not_listed_and_a_broken_record_is_an_error() {
        let (_folder, store) = store();
        store.save(&record("aaaaaaaaaaa1", "one", 1)).unwrap();
        let making = store.dir("aaaaaaaaaaa2").unwrap();
        fs_err::create_dir_all(&making).unwrap();
        assert_eq!(store.list().unwrap().len(), 1);
        let path = making.join(RECORD);
        fs_err::write(&path, "{\n}").unwrap();
        let error = store.list().unwrap_err().to_string();
        assert_eq!(error, format!("{}:2:1: missing field `id`; restore the file", path.display()));
        let text = serde_json::to_string(&record("aaaaaaaaaaa3", "x", 1)).unwrap();
        fs_err::write(&path, text).unwrap();
        let error = store.list().unwrap_err().to_string();
        assert_eq!(
            error,
            format!(
                "`{}` says that its id is `aaaaaaaaaaa3`; the folder's name and the id must be the same",
                path.display()
            )
        );
    }
}
