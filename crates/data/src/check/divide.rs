//! Divides records into training, validation and test: near-duplicates stay together, every label keeps its share, and the same
//! seed gives the same division.
//!
//! Clusters of near-duplicates (`near`) are put in an order that depends on the seed and their content; each label's clusters fill
//! test and validation up to their shares in that order. A cluster too large for what is left goes to training.

use std::io::Write;
use std::path::Path;

use rayon::prelude::*;
use serde::Serialize;

use super::facts::{self, Work};
use super::files::{Body, CheckedFile, Pieces, Role, discover};
use super::findings::Place;
use super::labels::Labels;
use super::leakage::EvalGrams;
use super::near::{Clusters, NONE, Near, RecordInfo};
use super::words::mix;
use crate::error::DataError;
use crate::reader::MAX_LINE_BYTES;

/// The sides of a division.
pub const SIDES: [&str; 3] = ["train", "validation", "test"];

/// How a file is divided.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DivideOptions {
    /// Share of validation, 0 to 1.
    pub validation: f64,
    /// Share of test, 0 to 1.
    pub test: f64,
    /// The seed.
    pub seed: u64,
    /// Bytes that the records may take while they are compared.
    pub near_bytes: usize,
}

/// What a division amounts to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Divided {
    /// Records of training, validation, test.
    pub records: [u64; 3],
    /// Clusters of near-duplicates that were kept together.
    pub clusters: u64,
    /// By label the records of each side; empty where the completions are no labels.
    pub labels: std::collections::BTreeMap<String, [u64; 3]>,
    /// The side of every record, in order: 0 training, 1 validation, 2 test.
    #[serde(skip)]
    pub sides: Vec<u8>,
    /// Hash of the lines, to see that they are still the same when they are written.
    #[serde(skip)]
    content: blake3::Hash,
}

/// Divides the records of a JSONL file.
///
/// Errors: it isn't JSONL, a line is no record, a share leaves a side empty, more records than the bound of memory takes.
pub fn divide(file: &Path, options: &DivideOptions) -> Result<Divided, DataError> {
    let shares = [options.validation, options.test];
    if shares.iter().any(|share| !(0.0..1.0).contains(share)) || shares.iter().sum::<f64>() >= 1.0 {
        return Err(DataError::Option("the shares of validation and test must be under 100 percent together".into()));
    }
    let files = jsonl(file)?;
    let (near, labels, content) = read(&files, options)?;
    let clusters = near.search();
    let groups = clusters.groups();
    let sides = assign(&clusters, &groups, &labels, options);
    let clusters_kept = groups.len() as u64;
    let mut divided = Divided { records: [0; 3], clusters: clusters_kept, labels: Default::default(), sides, content };
    for (side, record) in divided.sides.iter().zip(&clusters.records) {
        divided.records[*side as usize] += 1;
        if labels.are_labels() {
            divided.labels.entry(labels.name(record.label).to_owned()).or_default()[*side as usize] += 1;
        }
    }
    for (side, share) in [(0, 1.0), (1, options.validation), (2, options.test)] {
        if share > 0.0 && divided.records[side] == 0 {
            return Err(DataError::Option(format!(
                "of {} records none is left for {}; change the shares or add records",
                divided.sides.len(),
                SIDES[side]
            )));
        }
    }
    Ok(divided)
}

/// Copies the lines of a file to the writers of their sides, byte for byte but for the line end.
/// Errors: it can't be read or written, or isn't what was divided any more; what was written is worth nothing then.
pub fn write_sides(file: &Path, divided: &Divided, outs: &mut [&mut dyn Write; 3]) -> Result<(), DataError> {
    let files = jsonl(file)?;
    let changed = || DataError::Source(format!("`{}` changed while it was read; split it again", file.display()));
    let (mut next, mut hasher) = (divided.sides.iter(), blake3::Hasher::new());
    each_chunk(&files, &mut |lines| {
        for (line, _) in lines {
            let out = &mut outs[*next.next().ok_or_else(changed)? as usize];
            out.write_all(line)?;
            out.write_all(b"\n")?;
            hash_line(&mut hasher, line);
        }
        Ok(())
    })?;
    if next.next().is_some() || hasher.finalize() != divided.content { Err(changed()) } else { Ok(()) }
}

fn hash_line(hasher: &mut blake3::Hasher, line: &[u8]) {
    hasher.update(line).update(b"\n");
}

fn jsonl(file: &Path) -> Result<Vec<CheckedFile>, DataError> {
    let mut files = Vec::new();
    discover(&[file.to_owned()], Role::Training, &mut files)?;
    match files.as_slice() {
        [one] if one.is_jsonl => Ok(files),
        _ => Err(DataError::Source(format!("`{}` is no .jsonl file; only records can be split", file.display()))),
    }
}

/// What is done with some lines and their places.
type Each<'a> = dyn FnMut(&[(&[u8], Place)]) -> Result<(), DataError> + 'a;

/// Hands on the lines of a file, a bounded number at a time.
fn each_chunk(files: &[CheckedFile], each: &mut Each) -> Result<(), DataError> {
    let mut pieces = Pieces::new(files, 0..1, MAX_LINE_BYTES);
    loop {
        let items = pieces.next_chunk()?;
        if items.is_empty() {
            return Ok(());
        }
        let mut lines = Vec::new();
        for item in &items {
            match &item.body {
                Body::Line(line) => lines.push((line.as_slice(), item.place)),
                Body::Hit(hit) if hit.rule.level == super::rules::Level::Error => {
                    let place = format!("{}:{}", files[0].name, item.place.line);
                    return Err(DataError::Source(format!("{place}: {}{}", hit.rule.title, hit.message)));
                }
                _ => {}
            }
        }
        each(&lines)?;
    }
}

fn read(files: &[CheckedFile], options: &DivideOptions) -> Result<(Near, Labels, blake3::Hash), DataError> {
    let (mut near, mut labels, mut hasher) = (Near::new(options.near_bytes), Labels::default(), blake3::Hasher::new());
    let grams = EvalGrams::default();
    let work = Work { tokens: None, profile: None, grams: &grams, near: true, personal: false };
    each_chunk(files, &mut |lines| {
        let facts_of = |(line, place): &(&[u8], Place)| facts::of_line(line, *place, Role::Training, work);
        let facts: Vec<_> = lines.par_iter().map(facts_of).collect();
        for ((line, place), facts) in lines.iter().zip(facts) {
            if let Some(hit) = facts.hits.iter().find(|hit| hit.rule.level == super::rules::Level::Error) {
                let message = if hit.message.is_empty() { hit.rule.title } else { &hit.message };
                return Err(DataError::Source(format!(
                    "{}:{}: {message}; `outcrop data check` lists everything",
                    files[0].name, place.line
                )));
            }
            let label = if facts.is_labelled { labels.add(facts.label, *place) } else { NONE };
            let info = RecordInfo { place: place.pack(), exact: facts.features_hash, label };
            near.push(&facts.features, info).ok_or_else(|| {
                DataError::Option("the records take more memory than --near-memory allows; raise it".into())
            })?;
            hash_line(&mut hasher, line);
        }
        Ok(())
    })?;
    Ok((near, labels, hasher.finalize()))
}

fn assign(clusters: &Clusters, groups: &[Vec<u32>], labels: &Labels, options: &DivideOptions) -> Vec<u8> {
    let len = clusters.records.len();
    let mut is_grouped = vec![false; len];
    groups.iter().flatten().for_each(|record| is_grouped[*record as usize] = true);
    let singles = (0..len as u32).filter(|record| !is_grouped[*record as usize]).map(|record| vec![record]);
    // the stratum of a cluster is the label of its first record
    let label = |group: &[u32]| if labels.are_labels() { clusters.records[group[0] as usize].label } else { NONE };
    let key =
        |group: &[u32]| mix(mix(options.seed) ^ clusters.records[group[0] as usize].exact ^ u64::from(group[0]) << 40);
    let mut all: Vec<Vec<u32>> = groups.iter().cloned().chain(singles).collect();
    all.sort_by_key(|group| (label(group), key(group), group[0]));
    let mut sides = vec![0u8; len];
    for stratum in all.chunk_by(|one, other| label(one) == label(other)) {
        let count: usize = stratum.iter().map(Vec::len).sum();
        let mut wanted =
            [0, (count as f64 * options.validation).round() as usize, (count as f64 * options.test).round() as usize];
        for group in stratum {
            let Some(side) = [2, 1].into_iter().find(|side| wanted[*side] >= group.len()) else { continue };
            wanted[side] -= group.len();
            group.iter().for_each(|record| sides[*record as usize] = side as u8);
        }
    }
    sides
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::write;

    fn options(seed: u64) -> DivideOptions {
        DivideOptions { validation: 0.1, test: 0.2, seed, near_bytes: 1 << 20 }
    }

    /// 300 records of two labels, every third one repeated with a word more.
    fn rows() -> String {
        let mut rows = String::new();
        for number in 0..300 {
            let words: Vec<_> = (0..12).map(|word| format!("w{}", number * 12 + word)).collect();
            let label = if number % 3 == 0 { "yes" } else { "no" };
            let mut add =
                |text: String| rows += &format!("{}\n", serde_json::json!({"prompt": text, "completion": label}));
            add(words.join(" "));
            if number % 3 == 0 {
                add(words.join(" ") + " more");
            }
        }
        rows
    }

    #[test]
    fn near_duplicates_stay_together_and_labels_keep_their_shares() {
        let root = tempfile::tempdir().unwrap();
        let path = write(root.path(), "a.jsonl", rows());
        let divided = divide(&path, &options(1)).unwrap();
        let sides = &divided.sides;
        assert_eq!((sides.len(), divided.records, divided.clusters), (400, [280, 40, 80], 100));
        assert_eq!((divided.labels["yes"], divided.labels["no"]), ([140, 20, 40], [140, 20, 40]));
        let lines: Vec<_> = rows().lines().map(str::to_owned).collect();
        for index in 1..lines.len() {
            if lines[index].contains(" more") {
                assert_eq!(sides[index], sides[index - 1]);
            }
        }
        assert_eq!(divide(&path, &options(1)).unwrap(), divided);
        assert_ne!(divide(&path, &options(2)).unwrap().sides, *sides);
        let mut outs = [Vec::new(), Vec::new(), Vec::new()];
        let [one, two, three] = &mut outs;
        write_sides(&path, &divided, &mut [one, two, three]).unwrap();
        let mut together: Vec<_> = outs.iter().flat_map(|out| std::str::from_utf8(out).unwrap().lines()).collect();
        let mut all: Vec<_> = lines.iter().map(String::as_str).collect();
        together.sort_unstable();
        all.sort_unstable();
        assert_eq!(together, all);
    }

    #[test]
    fn a_file_that_changes_between_dividing_and_writing_is_told() {
        let root = tempfile::tempdir().unwrap();
        let path = write(root.path(), "a.jsonl", rows());
        let divided = divide(&path, &options(1)).unwrap();
        let write_out = || {
            let mut outs = [Vec::new(), Vec::new(), Vec::new()];
            let [one, two, three] = &mut outs;
            write_sides(&path, &divided, &mut [one, two, three]).map_err(|error| error.to_string())
        };
        assert_eq!(write_out(), Ok(()));
        let last = rows().lines().last().unwrap().len() + 1;
        for changed in [rows().replacen("w0", "v0", 1), rows() + "{}\n", rows()[..rows().len() - last].to_owned()] {
            fs_err::write(&path, changed).unwrap();
            assert!(write_out().unwrap_err().ends_with("changed while it was read; split it again"));
        }
    }

    #[test]
    fn the_division_does_not_depend_on_the_number_of_threads() {
        let root = tempfile::tempdir().unwrap();
        let path = write(root.path(), "a.jsonl", rows());
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| divide(&path, &options(1)).unwrap())
        };
        assert_eq!(on(1), on(4));
    }

    #[test]
    fn what_cannot_be_divided_is_told() {
        let root = tempfile::tempdir().unwrap();
        let error =
            |name, content: &str| divide(&write(root.path(), name, content), &options(1)).unwrap_err().to_string();
        assert!(error("a.txt", "x").ends_with("is no .jsonl file; only records can be split"));
        assert!(error("a.jsonl", "{\n").contains("a.jsonl:1: "));
        assert!(error("b.jsonl", "{\"input\": \"a\"}\n").contains("of 1 records none is left for validation"));
    }
}
