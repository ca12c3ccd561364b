//! Scores on disk, keyed by what shapes them, so that a base is scored once for all models tuned from it (R32). Files
//! can be deleted at will.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::EvalError;
use crate::score::Scores;

/// Version of the code that makes scores; a change of their meaning raises it.
const SCORING_VERSION: u32 = 2;

/// Everything that shapes the scores of a suite.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScoreKey {
    /// Hash of the model's weights.
    pub model_hash: String,
    /// [`crate::suite::Suite::hash`].
    pub suite_hash: String,
    /// Hash of the tokenizer.
    pub tokenizer_hash: String,
    /// Most tokens in a row.
    pub context: usize,
    /// Tokens that end a generated answer, where the suite has any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stop_tokens: Vec<u32>,
}

/// What the cache holds for a key.
#[derive(Debug, Clone, PartialEq)]
pub enum Cached {
    /// The scores, whole.
    Found(Scores),
    /// Nothing.
    Missing,
    /// A file that can't be used, and why; the next `put` replaces it.
    Damaged(String),
}

/// A folder of scores.
#[derive(Debug, Clone)]
pub struct ScoreCache {
    folder: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    version: u32,
    key: ScoreKey,
    /// BLAKE3 of the scores' JSON.
    hash: String,
    scores: String,
}

impl ScoreCache {
    /// A cache in `folder`, which is made when the first scores are put.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.into() }
    }

    /// The file of a key.
    #[must_use]
    pub fn path(&self, key: &ScoreKey) -> PathBuf {
        let ScoreKey { model_hash, suite_hash, tokenizer_hash, context, stop_tokens } = key;
        // Lengths in front: no two keys give the same text.
        let mut text = format!("{SCORING_VERSION} {context}");
        for part in [model_hash, suite_hash, tokenizer_hash] {
            text += &format!(" {} {part}", part.len());
        }
        stop_tokens.iter().for_each(|token| text += &format!(" {token}"));
        self.folder.join(format!("{}.json", blake3::hash(text.as_bytes()).to_hex()))
    }

    /// Looks a key up. Errors: the file is there and can't be read.
    pub fn get(&self, key: &ScoreKey) -> Result<Cached, EvalError> {
        let path = self.path(key);
        match fs_err::read(&path) {
            Ok(content) => Ok(match parse(&content, key) {
                Ok(scores) => Cached::Found(scores),
                Err(reason) => Cached::Damaged(format!("stored scores `{}` are damaged: {reason}", path.display())),
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Cached::Missing),
            Err(error) => Err(error.into()),
        }
    }

    /// Stores scores under a key: written to a temporary file, synced, renamed. Errors: the folder can't be written to.
    pub fn put(&self, key: &ScoreKey, scores: &Scores) -> Result<(), EvalError> {
        fs_err::create_dir_all(&self.folder)?;
        let scores = serde_json::to_string(scores)?;
        let hash = blake3::hash(scores.as_bytes()).to_hex().to_string();
        let stored = Stored { version: SCORING_VERSION, key: key.clone(), hash, scores };
        let path = self.path(key);
        let in_folder = |error: std::io::Error| named(&path, &error);
        let mut file = tempfile::NamedTempFile::new_in(&self.folder).map_err(in_folder)?;
        file.write_all(serde_json::to_string(&stored)?.as_bytes()).map_err(in_folder)?;
        file.as_file().sync_all().map_err(in_folder)?;
        file.persist(&path).map_err(|error| in_folder(error.error))?;
        Ok(())
    }

    /// The stored scores of a key, or those that `score` gives, which are then stored. The note says so where a damaged
    /// file was replaced.
    /// Errors: those of `score`, [`Self::get`] and [`Self::put`].
    pub fn get_or_score(
        &self,
        key: &ScoreKey,
        score: impl FnOnce() -> Result<Scores, EvalError>,
    ) -> Result<(Scores, Option<String>), EvalError> {
        let note = match self.get(key)? {
            Cached::Found(scores) => return Ok((scores, None)),
            Cached::Missing => None,
            Cached::Damaged(reason) => Some(format!("{reason}; scored again")),
        };
        let scores = score()?;
        self.put(key, &scores)?;
        Ok((scores, note))
    }
}

fn parse(content: &[u8], key: &ScoreKey) -> Result<Scores, String> {
    let stored: Stored = serde_json::from_slice(content).map_err(|error| error.to_string())?;
    if stored.version != SCORING_VERSION || stored.key != *key {
        return Err("they belong to another key".into());
    }
    if blake3::hash(stored.scores.as_bytes()).to_hex().as_str() != stored.hash {
        return Err("the hash doesn't fit the content".into());
    }
    serde_json::from_str(&stored.scores).map_err(|error| error.to_string())
}

/// An I/O error of a crate that doesn't name the path.
fn named(path: &Path, error: &std::io::Error) -> EvalError {
    let text = format!("cannot write `{}`: {error}", path.display());
    std::io::Error::new(error.kind(), text).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::score::{Answer, ItemScore, Reply, ReplyEnd};

    fn key() -> ScoreKey {
        let [model_hash, suite_hash, tokenizer_hash] = ["m", "s", "t"].map(String::from);
        ScoreKey { model_hash, suite_hash, tokenizer_hash, context: 64, stop_tokens: Vec::new() }
    }

    fn scores() -> Scores {
        let candidates = vec![0.1 + 0.2, 1.0 / 3.0, 5e-324];
        let answer =
            Answer { candidates, choice: 2, right: false, right_per_character: Some(true), right_per_byte: None };
        let reply = Reply { text: "a\u{0}\n\u{1f600}".into(), end: ReplyEnd::Context, tokens: 4 };
        let item = ItemScore {
            item: 3,
            nll: 0.1 + 0.7,
            targets: 2,
            bytes: 7.000000000000001,
            answer: Some(answer),
            reply: Some(reply),
            rank: Some(9),
        };
        Scores {
            suite_hash: "s".into(),
            tokenizer_hash: "t".into(),
            context: 64,
            items: vec![item.clone(), ItemScore { answer: None, nll: -0.0, reply: None, rank: None, ..item }],
            lost_targets: 5,
            packing: outcrop_data::Fullness { tokens: 3, capacity: 4 },
        }
    }

    #[test]
    fn r32_a_base_is_scored_once_and_comes_back_bit_for_bit() {
        let folder = tempfile::tempdir().unwrap();
        let cache = ScoreCache::new(&folder.path().join("scores"));
        assert_eq!(cache.get(&key()).unwrap(), Cached::Missing);
        let (first, note) = cache.get_or_score(&key(), || Ok(scores())).unwrap();
        assert_eq!((&first, note), (&scores(), None));
        let again = cache.get_or_score(&key(), || panic!("scored twice")).unwrap();
        assert_eq!(again, (scores(), None));
        assert_eq!(again.0.items[1].nll.to_bits(), (-0.0_f64).to_bits());
        let files = fs_err::read_dir(folder.path().join("scores")).unwrap().count();
        assert_eq!(files, 1, "no temporary file may stay");
    }

    #[test]
    fn r22_each_part_of_the_key_matters() {
        let cache = ScoreCache::new(Path::new("scores"));
        let mut keys = vec![key(); 7];
        keys[1].model_hash = "n".into();
        keys[2].suite_hash = "n".into();
        keys[3].tokenizer_hash = "n".into();
        keys[4].context = 65;
        (keys[5].model_hash, keys[5].suite_hash) = ("m s".into(), String::new());
        keys[6].stop_tokens = vec![2];
        let paths: std::collections::HashSet<PathBuf> = keys.iter().map(|key| cache.path(key)).collect();
        assert_eq!(paths.len(), keys.len());
    }

    #[test]
    fn damaged_scores_are_said_and_scored_again() {
        let folder = tempfile::tempdir().unwrap();
        let cache = ScoreCache::new(folder.path());
        cache.put(&key(), &scores()).unwrap();
        let path = cache.path(&key());
        let whole = fs_err::read_to_string(&path).unwrap();
        let mut other = key();
        other.context = 65;
        cache.put(&other, &scores()).unwrap();
        let of_other_key = fs_err::read_to_string(cache.path(&other)).unwrap();
        for (damaged, reason) in [
            (whole.replace("0.7999999999999999", "0.5999999999999999"), "the hash doesn't fit the content"),
            (whole[..whole.len() / 2].to_owned(), "EOF while parsing"),
            (of_other_key, "they belong to another key"),
        ] {
            assert_ne!(damaged, whole);
            fs_err::write(&path, damaged).unwrap();
            let Cached::Damaged(text) = cache.get(&key()).unwrap() else { panic!("damage not seen: {reason}") };
            assert!(text.contains(reason) && text.contains("are damaged"), "{text}");
            let (given, note) = cache.get_or_score(&key(), || Ok(scores())).unwrap();
            assert_eq!(given, scores());
            assert!(note.unwrap().ends_with("; scored again"));
            assert_eq!(cache.get(&key()).unwrap(), Cached::Found(scores()));
        }
    }
}
