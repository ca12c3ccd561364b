//! Tokenizing a folder of text to a ready shard, reading it back, and the same work by the peer (`tokenize_peer.py`), in one run.
//!
//! `cargo bench -p outcrop-data --bench tokenize -- --tokenizer MODEL/tokenizer.json --text FOLDER [--repeat N] [--pairs 3]
//! [--peer PYTHON]`. Both read the same bytes (the folder's `*.txt`, joined, N times, as one file) and write what they make to disk.
//! Prints one JSON line: seconds and MB/s of each pair, the median ratio, tokens/s of reading back, peak and private memory.
//!
//! `--tokenizer FILE --ids FOLDER` compares the ids of every file's shard with the tokenizer library's of the whole text, and prints
//! how many are equal; it stops at the first that isn't. `--read SHARD` only reads a shard that is there, so that the memory is that
//! of reading: private pages of every mapping but the shard's own, which the system takes back when it wants.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use outcrop_data::{FormatHint, PrepareOptions, Shard, Sources, SpecialTokens, TextTokenizer, prepare};
use serde_json::{Value, json};

fn arguments() -> BTreeMap<String, String> {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    words
        .chunks(2)
        .map(|pair| (pair[0].trim_start_matches('-').to_owned(), pair.get(1).cloned().unwrap_or_default()))
        .collect()
}

/// A line of /proc/self/status in MB; none on other systems.
fn memory(name: &str) -> Option<f64> {
    let status = fs_err::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with(name))?;
    Some(line.split_whitespace().nth(1)?.parse::<f64>().ok()? / 1024.0)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn ours(tokenizer: &Path, text: &Path) -> (f64, PathBuf, tempfile::TempDir) {
    let cache = tempfile::tempdir().unwrap();
    let start = Instant::now();
    let special = SpecialTokens { bos: None, add_bos: false, eos: 0 };
    let tokenizer = TextTokenizer::from_file(tokenizer, special, 65_536).unwrap();
    let sources = Sources::discover(&[text.to_owned()], FormatHint::ContinuedPreTraining).unwrap();
    let prepared = prepare(&sources, &tokenizer, &PrepareOptions::new(2048), cache.path(), &mut |_, _| {}).unwrap();
    (start.elapsed().as_secs_f64(), prepared.shard.path().to_owned(), cache)
}

/// Tokens per second of reading every token of the shard once, on one core.
fn read_back(path: &Path) -> f64 {
    let shard = Shard::open(path).unwrap();
    let start = Instant::now();
    let (mut sum, mut count) = (0u64, 0u64);
    for document in 0..shard.len() {
        for token in shard.document(document).tokens() {
            sum = sum.wrapping_add(u64::from(token));
            count += 1;
        }
    }
    std::hint::black_box(sum);
    count as f64 / start.elapsed().as_secs_f64()
}

/// MB of private pages, those of the mapped file left out; none on other systems. Shared pages of the program aren't private.
fn private_memory(mapped: &Path) -> Option<f64> {
    let maps = fs_err::read_to_string("/proc/self/smaps").ok()?;
    let (mut is_mapped, mut kilobytes) = (false, 0f64);
    for line in maps.lines() {
        let (name, rest) = line.split_once(' ').unwrap_or((line, ""));
        match name.strip_suffix(':') {
            // a mapping's own line: its addresses, and its file at the end
            None => is_mapped = rest.ends_with(&mapped.display().to_string()),
            Some("Private_Clean" | "Private_Dirty") if !is_mapped => {
                kilobytes += rest.split_whitespace().next()?.parse::<f64>().ok()?;
            }
            Some(_) => {}
        }
    }
    Some(kilobytes / 1024.0)
}

fn read(path: &Path) {
    let path = fs_err::canonicalize(path).unwrap();
    let before = private_memory(&path);
    let rate = read_back(&path);
    let shard = Shard::open(&path).unwrap();
    let tokens = shard.summary().tokens;
    println!(
        "{}",
        json!({
            "tokens": tokens, "read_back_tokens_per_second": rate, "private_mb_before": before,
            "private_mb": private_memory(&path), "peak_rss_mb": memory("VmHWM:"),
        })
    );
}

/// Panics where the ids of a file's shard aren't those of its whole text by the library.
fn compare_ids(tokenizer: &Path, folder: &Path) {
    let library = tokenizers::Tokenizer::from_file(tokenizer).unwrap();
    let (mut files, mut equal) = (0, 0);
    for path in texts(folder) {
        let text = fs_err::read_to_string(&path).unwrap();
        let expected = library.encode_fast(text.as_str(), false).unwrap();
        let (_, shard, _cache) = ours(tokenizer, &path);
        let shard = Shard::open(&shard).unwrap();
        let mut ids: Vec<u32> =
            (0..shard.len()).flat_map(|row| shard.document(row).tokens().collect::<Vec<_>>()).collect();
        assert_eq!(ids.pop(), Some(0), "{}: the end token", path.display());
        if let Some(index) = ids.iter().zip(expected.get_ids()).position(|(own, library)| own != library) {
            panic!("{}: token {index} is {}, not {}", path.display(), ids[index], expected.get_ids()[index]);
        }
        assert_eq!(ids.len(), expected.len(), "{}", path.display());
        (files, equal) = (files + 1, equal + ids.len());
    }
    println!("{}", json!({"files": files, "equal_ids": equal}));
}

/// The `*.txt` of a folder, in order.
fn texts(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs_err::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    files.sort();
    files
}

fn main() {
    let arguments = arguments();
    if let Some(shard) = arguments.get("read") {
        return read(Path::new(shard));
    }
    if let Some((tokenizer, folder)) = arguments.get("tokenizer").zip(arguments.get("ids")) {
        return compare_ids(Path::new(tokenizer), Path::new(folder));
    }
    let Some((tokenizer, folder)) = arguments.get("tokenizer").zip(arguments.get("text")) else {
        println!("skipped: give --tokenizer FILE --text FOLDER");
        return;
    };
    let number = |name: &str, default: usize| arguments.get(name).map_or(default, |text| text.parse().unwrap());
    let (repeat, pairs, tokenizer) = (number("repeat", 1), number("pairs", 3), Path::new(tokenizer));
    let scratch = tempfile::tempdir().unwrap();
    let text = scratch.path().join("text.txt");
    let joined: Vec<u8> = texts(Path::new(folder)).iter().flat_map(|path| fs_err::read(path).unwrap()).collect();
    let mut file = std::io::BufWriter::new(fs_err::File::create(&text).unwrap());
    (0..repeat).for_each(|_| std::io::Write::write_all(&mut file, &joined).unwrap());
    drop((file, joined));
    let bytes = fs_err::metadata(&text).unwrap().len() as f64;

    let (mut own, mut peer, mut reading) = (Vec::new(), Vec::new(), Vec::new());
    let mut tokens = 0;
    for _ in 0..pairs {
        let (seconds, shard, _cache) = ours(tokenizer, &text);
        own.push(seconds);
        reading.push(read_back(&shard));
        tokens = Shard::open(&shard).unwrap().summary().tokens;
        if let Some(python) = arguments.get("peer") {
            let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../benches/tokenize_peer.py");
            let mut command = Command::new(python);
            command.arg(script).arg("--model").arg(tokenizer.parent().unwrap());
            command.args(["--text", folder, "--repeat", &repeat.to_string()]);
            let output = command.output().unwrap();
            let line = String::from_utf8_lossy(&output.stdout).lines().last().unwrap_or_default().to_owned();
            let result: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{output:?}"));
            peer.push(result["seconds"].as_f64().unwrap());
        }
    }
    let ratios: Vec<f64> = own.iter().zip(&peer).map(|(own, peer)| peer / own).collect();
    let (megabytes, best) = (bytes / 1e6, median(own.clone()));
    println!(
        "{}",
        json!({
            "mb": megabytes, "tokens": tokens, "ours_seconds": own, "peer_seconds": peer,
            "ours_mb_per_second": megabytes / best, "ours_tokens_per_second": tokens as f64 / best,
            "median_ratio": (!ratios.is_empty()).then(|| median(ratios)),
            "read_back_tokens_per_second": median(reading),
            "peak_rss_mb": memory("VmHWM:"), "private_mb": memory("RssAnon:"),
        })
    );
}
