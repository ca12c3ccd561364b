//! `model_artifacts/` in a job's output location: the tensors that changed and the model's record, from which a deleted
//! model can be made again, here or on another machine that has its base. The record is written last, so a folder with
//! one is whole; the hash in it tells whether the tensors are.

use std::path::{Path, PathBuf};

use crate::atomic::sync_folder;
use crate::folder::{read_json, write_json};
use crate::model_store::ModelError;
use crate::{ModelRecord, ModelStore, content_hash, timestamp};

const RECORD: &str = "model.json";

/// The folder of a job's artifacts.
pub fn folder(output: &Path, job_id: &str) -> PathBuf {
    output.join(format!("model-customization-job-{job_id}")).join("model_artifacts")
}

/// Copies a model of the store to the output location of its job, over what is there.
///
/// # Errors
/// The disk.
pub fn write(models: &ModelStore, record: &ModelRecord, output: &Path) -> Result<PathBuf, ModelError> {
    let folder = folder(output, &record.job_id);
    fs_err::create_dir_all(&folder)?;
    copy(&models.dir(&record.id)?.join(&record.delta_file), &folder.join(&record.delta_file))?;
    write_json(&folder.join(RECORD), record)?;
    Ok(folder)
}

/// Makes a model of the store from a folder that [`write()`] has made, with an id and, where given, a name of its own.
///
/// # Errors
/// The folder is no such one or is damaged; the name is taken; the disk.
pub fn read(models: &ModelStore, folder: &Path, id: &str, name: Option<&str>) -> Result<ModelRecord, ModelError> {
    let mut record: ModelRecord = read_json(&folder.join(RECORD))?;
    let wrong = |what: &str| {
        let message = format!("`{}`: {what}; give the `model_artifacts` folder of a job's output", folder.display());
        ModelError::from(std::io::Error::new(std::io::ErrorKind::InvalidData, message))
    };
    // The name of a file beside the record, and no path that leads elsewhere.
    if Path::new(&record.delta_file).file_name().is_none_or(|name| name != record.delta_file.as_str()) {
        return Err(wrong("the file that model.json names is not beside it"));
    }
    record.id = id.to_string();
    if let Some(name) = name {
        record.name = name.to_string();
    }
    record.created = timestamp::now();
    models.check_name(&record.name)?;
    let target = models.dir(id)?;
    fs_err::create_dir_all(&target)?;
    let made = copy(&folder.join(&record.delta_file), &target.join(&record.delta_file))
        .and_then(|()| content_hash::of_file(&target.join(&record.delta_file)))
        .map_err(ModelError::from)
        .and_then(|hash| if hash == record.delta_hash { Ok(()) } else { Err(wrong("its tensors are damaged")) })
        .and_then(|()| models.save(&record));
    if let Err(error) = made {
        // What is half there is in nobody's way, but it is large.
        let _ = fs_err::remove_dir_all(&target);
        return Err(error);
    }
    Ok(record)
}

/// A file that is whole or not there, without its content in memory.
fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    let folder = to.parent().unwrap_or(Path::new("."));
    let temporary = tempfile::Builder::new().prefix(".copy.").suffix(".tmp").tempfile_in(folder)?;
    fs_err::copy(from, temporary.path())?;
    temporary.as_file().sync_all()?;
    temporary.persist(to).map_err(|error| error.error)?;
    sync_folder(folder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::home::new_id;
    use crate::model_store::tests::record;

    fn stored(models: &ModelStore) -> ModelRecord {
        let mut record = record("abcdefghijk1", "first", 1);
        let folder = models.dir(&record.id).unwrap();
        fs_err::create_dir_all(&folder).unwrap();
        fs_err::write(folder.join(&record.delta_file), "tensors").unwrap();
        record.delta_hash = content_hash::of_file(&folder.join(&record.delta_file)).unwrap();
        models.save(&record).unwrap();
        record
    }

    #[test]
    fn a_deleted_model_is_made_again_with_the_same_tensors() {
        let place = tempfile::tempdir().unwrap();
        let models = ModelStore::new(place.path().join("models"));
        let record = stored(&models);
        let folder = write(&models, &record, &place.path().join("out")).unwrap();
        assert!(folder.ends_with(format!("model-customization-job-{}/model_artifacts", record.job_id)));
        models.delete("first").unwrap();
        let id = new_id().unwrap();
        let again = read(&models, &folder, &id, None).unwrap();
        assert_eq!(
            (again.id.as_str(), again.name.as_str(), &again.delta_hash),
            (id.as_str(), "first", &record.delta_hash)
        );
        assert_eq!(models.find("first").unwrap(), again);
        let other = read(&models, &folder, &new_id().unwrap(), Some("second")).unwrap();
        assert_eq!(models.find("second").unwrap(), other);
        let taken = read(&models, &folder, &new_id().unwrap(), Some("second")).unwrap_err();
        assert!(matches!(taken, ModelError::NameTaken(_)), "{taken}");
    }

    #[test]
    fn damaged_artifacts_leave_no_model() {
        let place = tempfile::tempdir().unwrap();
        let models = ModelStore::new(place.path().join("models"));
        let record = stored(&models);
        let folder = write(&models, &record, place.path()).unwrap();
        fs_err::write(folder.join(&record.delta_file), "tensorz").unwrap();
        let id = new_id().unwrap();
        let error = read(&models, &folder, &id, Some("second")).unwrap_err().to_string();
        assert!(error.contains("its tensors are damaged"), "{error}");
        assert!(!models.dir(&id).unwrap().exists());
        let mut elsewhere = record.clone();
        elsewhere.delta_file = "../delta.safetensors".into();
        write_json(&folder.join(RECORD), &elsewhere).unwrap();
        let error = read(&models, &folder, &id, Some("second")).unwrap_err().to_string();
        assert!(error.contains("is not beside it"), "{error}");
    }
}
