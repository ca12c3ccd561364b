//! Outcrop's folder on this machine: jobs, models, caches and the local S3 buckets. The only environment variable read
//! here says where that folder is; it never changes a result.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::folder::JobFolder;

/// Environment variable that names the folder.
pub const HOME_VARIABLE: &str = "OUTCROP_HOME";
/// Length of a job's or model's id.
pub const ID_LENGTH: usize = 12;

/// Outcrop's folder. Nothing is created until something is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    root: PathBuf,
}

/// Why there is no folder or id.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// The variable is set to nothing.
    #[error("`OUTCROP_HOME` is empty; set it to a folder or unset it")]
    EmptyVariable,
    /// The platform doesn't say where data goes.
    #[error("this platform names no data folder for the user; set `OUTCROP_HOME` to a folder")]
    NoDataFolder,
    /// A relative folder and no current one.
    #[error("`OUTCROP_HOME` is `{}`, which can't be made absolute: {source}", path.display())]
    Relative {
        /// As given.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not an id.
    #[error("{} is no id; an id is {ID_LENGTH} lower-case letters and digits", crate::wording::quote(.0))]
    NotAnId(String),
    /// The system gives no random bytes.
    #[error("the system gives no random bytes for an id: {0}")]
    NoRandomness(getrandom::Error),
}

impl Home {
    /// `$OUTCROP_HOME`, else the platform's data folder for this user (`~/.local/share/outcrop` on Linux).
    ///
    /// # Errors
    /// The variable is empty, or unset on a platform without a data folder.
    pub fn from_environment() -> Result<Self, HomeError> {
        Self::from_variable(std::env::var_os(HOME_VARIABLE))
    }

    fn from_variable(value: Option<OsString>) -> Result<Self, HomeError> {
        match value {
            Some(path) if path.is_empty() => Err(HomeError::EmptyVariable),
            Some(path) => {
                let path = PathBuf::from(path);
                match std::path::absolute(&path) {
                    Ok(root) => Ok(Self { root }),
                    Err(source) => Err(HomeError::Relative { path, source }),
                }
            }
            None => {
                let folders = directories::ProjectDirs::from("", "", "outcrop").ok_or(HomeError::NoDataFolder)?;
                Ok(Self::at(folders.data_dir()))
            }
        }
    }

    /// The folder `root`.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// One folder per job.
    pub fn jobs_dir(&self) -> PathBuf {
        self.root.join("jobs")
    }

    /// One folder per custom model.
    pub fn models_dir(&self) -> PathBuf {
        self.root.join("models")
    }

    /// One folder per sweep; its trials are jobs.
    pub fn sweeps_dir(&self) -> PathBuf {
        self.root.join("sweeps")
    }

    /// One folder per evaluation job of the service.
    pub fn evaluations_dir(&self) -> PathBuf {
        self.root.join("evaluations")
    }

    /// Shards and features; safe to delete.
    pub fn cache_dir(&self) -> PathBuf {
        self.root.join("cache")
    }

    /// The local S3: one folder per bucket.
    pub fn s3_dir(&self) -> PathBuf {
        self.root.join("s3")
    }

    /// What the read-only bucket `outcrop-examples` is unpacked to.
    pub fn examples_dir(&self) -> PathBuf {
        self.cache_dir().join("examples")
    }

    /// The folder that the job `id` has or will have.
    ///
    /// # Errors
    /// `id` isn't an id, so that no id leads out of the jobs' folder.
    pub fn job_dir(&self, id: &str) -> Result<PathBuf, HomeError> {
        if !is_id(id) {
            return Err(HomeError::NotAnId(id.to_string()));
        }
        Ok(self.jobs_dir().join(id))
    }

    /// Opens the folder of the job `id`.
    ///
    /// # Errors
    /// `id` isn't an id, or there is no such job.
    pub fn job(&self, id: &str) -> Result<JobFolder, crate::folder::FolderError> {
        JobFolder::open(&self.job_dir(id)?)
    }
}

/// A new id: twelve of `[a-z0-9]`, as in Bedrock's ARNs, from the system's random bytes.
///
/// # Errors
/// The system gives no random bytes.
pub fn new_id() -> Result<String, HomeError> {
    const LETTERS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    // Bytes from 252 on would make the first four letters likelier.
    const FAIR: u8 = 252;
    let mut id = String::with_capacity(ID_LENGTH);
    while id.len() < ID_LENGTH {
        let mut bytes = [0; ID_LENGTH];
        getrandom::fill(&mut bytes).map_err(HomeError::NoRandomness)?;
        let letters =
            bytes.iter().filter(|byte| **byte < FAIR).map(|byte| char::from(LETTERS[usize::from(*byte) % 36]));
        id.extend(letters.take(ID_LENGTH - id.len()));
    }
    Ok(id)
}

/// Whether `text` has the form of an id.
pub fn is_id(text: &str) -> bool {
    text.len() == ID_LENGTH && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_bedrocks_form_and_differ() {
        let ids: std::collections::BTreeSet<String> = (0..500).map(|_| new_id().unwrap()).collect();
        assert_eq!(ids.len(), 500);
        assert!(ids.iter().all(|id| is_id(id)));
        let letters: std::collections::BTreeSet<char> = ids.iter().flat_map(|id| id.chars()).collect();
        assert_eq!(letters.len(), 36, "every letter and digit occurs");
        for other in ["", "abc", "ABCDEFGHIJKL", "../../../etc", "abcdefghijkl/", "äbcdefghijk"] {
            assert!(!is_id(other), "{other}");
        }
    }

    #[test]
    fn the_variable_wins_and_may_not_be_empty() {
        let home = Home::from_variable(Some("/data/outcrop".into())).unwrap();
        assert_eq!(home.root(), std::path::absolute("/data/outcrop").unwrap());
        let relative = Home::from_variable(Some("here".into())).unwrap();
        assert!(relative.root().is_absolute() && relative.root().ends_with("here"));
        let error = Home::from_variable(Some(OsString::new())).unwrap_err();
        assert_eq!(error.to_string(), "`OUTCROP_HOME` is empty; set it to a folder or unset it");
    }

    #[test]
    fn folders_are_the_designs() {
        let home = Home::at("h");
        assert_eq!(home.examples_dir(), Path::new("h/cache/examples"));
        assert_eq!(home.s3_dir(), Path::new("h/s3"));
        assert_eq!(home.sweeps_dir(), Path::new("h/sweeps"));
        assert_eq!(home.evaluations_dir(), Path::new("h/evaluations"));
        assert_eq!(home.models_dir(), Path::new("h/models"));
        assert_eq!(home.job_dir("abcdefghijk1").unwrap(), Path::new("h/jobs/abcdefghijk1"));
    }

    #[test]
    fn no_id_leads_out_of_the_jobs_folder() {
        let error = Home::at("h").job_dir("../models/ab").unwrap_err();
        assert_eq!(error.to_string(), "`../models/ab` is no id; an id is 12 lower-case letters and digits");
    }
}
