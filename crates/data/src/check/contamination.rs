//! Which evaluation items share a run of 13 words with training data, by the index and the rule of `leakage`. For items that
//! are at hand as texts; files are compared by [`super::check`].

use std::collections::HashSet;
use std::path::PathBuf;

use rayon::prelude::*;

use super::facts::{self, Work};
use super::files::{self, CheckedFile, Role};
use super::findings::Place;
use super::leakage::{EvalGrams, MOST_GRAMS};
use super::spill::Spill;
use super::words::Grams;
use crate::error::DataError;
use crate::reader::MAX_LINE_BYTES;

/// For each item, which is its texts in their order, the place `file:line` of the first training record that it shares 13 words in
/// a row with; `None` where there is none. Records at the places of `left_out` (path, line from 1) were not trained on and don't
/// count. A run in more than ten training records is a common phrase and doesn't count either.
/// Errors: a training file is missing, can't be read or changes meanwhile; the items have too many words to be kept.
pub fn contaminated(
    training: &[PathBuf],
    left_out: &[(PathBuf, u64)],
    items: &[Vec<&str>],
) -> Result<Vec<Option<String>>, DataError> {
    let mut files = Vec::new();
    files::discover(training, Role::Training, &mut files)?;
    let item_file = files.len() as u32;
    let mut grams = EvalGrams::new(MOST_GRAMS);
    for (line, texts) in (0u64..).zip(items) {
        let (mut of_item, mut window) = (Vec::new(), Grams::default());
        texts.iter().for_each(|text| window.of(text, |gram| of_item.push(gram)));
        of_item.sort_unstable();
        of_item.dedup();
        if !grams.add(&of_item, Place { file: item_file, line }) {
            let message = "the evaluation items have too many words to look for each in the training data";
            return Err(DataError::Source(message.into()));
        }
    }
    let mut found = vec![None; items.len()];
    if grams.is_empty() {
        return Ok(found);
    }
    let number = |path: &PathBuf| files.iter().position(|file| file.source.path == *path);
    let left_out: HashSet<(usize, u64)> =
        left_out.iter().filter_map(|(path, line)| Some((number(path)?, *line))).collect();
    let trained = |place: Place| !left_out.contains(&(place.file as usize, place.line));
    let mut matches = Spill::new();
    super::read(&files, 0..files.len(), MAX_LINE_BYTES, &mut |records, _| {
        let work = Work { tokens: None, profile: None, grams: &grams, near: false, personal: false };
        let shared: Vec<_> = records.par_iter().map(|item| facts::of(item, Role::Training, work).grams).collect();
        for (record, shared) in records.iter().zip(shared).filter(|(record, _)| trained(record.place)) {
            shared.into_iter().try_for_each(|gram| matches.push([gram, record.place.pack(), 0]))?;
        }
        Ok(())
    })?;
    files.iter().try_for_each(CheckedFile::ensure_unchanged)?;
    for (item, training) in grams.leaks(matches)? {
        let training = Place::unpack(training);
        let name = &files[training.file as usize].name;
        found[Place::unpack(item).line as usize] = Some(format!("{name}:{}", training.line));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(first: usize, count: usize) -> String {
        (first..first + count).map(|index| format!("w{index}")).collect::<Vec<_>>().join(" ")
    }

    fn line(prompt: &str, completion: &str) -> String {
        format!("{{\"prompt\": \"{prompt}\", \"completion\": \"{completion}\"}}\n")
    }

    #[test]
    fn thirteen_words_in_a_row_are_found_and_twelve_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("train.jsonl");
        let mut text = line("something else", "yes") + &line(&words(0, 20), "no");
        (0..11).for_each(|index| text += &line(&format!("{index} {}", words(100, 13)), "no"));
        fs_err::write(&path, text).unwrap();
        let (whole, short, common) = (words(3, 13).to_uppercase(), words(3, 12), words(100, 13));
        let (begin, end) = (words(5, 7), words(12, 6));
        let items = [vec![whole.as_str()], vec![&short], vec![&begin, &end], vec![&common], vec![]];
        let found = contaminated(std::slice::from_ref(&path), &[], &items).unwrap();
        let place = Some(format!("{}:2", path.display()));
        assert_eq!(found, [place.clone(), None, place, None, None], "a run goes over the texts of an item");
        let left_out = [(path.clone(), 2)];
        assert_eq!(contaminated(&[path], &left_out, &items).unwrap(), vec![None; 5]);
        assert!(contaminated(&[folder.path().join("missing.jsonl")], &[], &items).is_err());
    }
}
