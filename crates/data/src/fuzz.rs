//! What the fuzz targets of `fuzz/` and the property test of the ordinary suite run: each reader on any bytes. Nothing may panic,
//! what is handed out may not be more than was read, and every problem names its file and, but for an empty one, its line.
#![allow(missing_docs, clippy::unwrap_used)] // entry points of tests

use std::path::Path;
use std::sync::OnceLock;

use crate::check::{self, CheckOptions, TokenCheck};
use crate::fixtures;
use crate::reader::{Limits, Part, Reader};
use crate::record;
use crate::shard::Shard;
use crate::source::{FormatHint, SourceKind, Sources};
use crate::tokenizer::TextTokenizer;

/// One line of JSONL, as each kind.
pub fn record(line: &[u8]) {
    for kind in [SourceKind::Pairs, SourceKind::Inputs] {
        if let Err(error) = record::parse(line, kind) {
            assert!(!error.message.contains('\n'), "one line: {}", error.message);
            let characters = String::from_utf8_lossy(line).chars().count() as u64;
            assert!(error.column.is_none_or(|column| (1..=characters + 1).contains(&column)), "{error:?}");
        }
    }
}

/// A file of this name: `a.jsonl`, `a.txt`, each also compressed.
pub fn file(name: &str, content: &[u8]) {
    static TOKENIZERS: OnceLock<[TextTokenizer; 2]> = OnceLock::new();
    let tokenizers = TOKENIZERS.get_or_init(|| [fixtures::tokenizer(), fixtures::tokenizer_by_library()]);
    let folder = tempfile::tempdir().unwrap();
    let path = fixtures::write(folder.path(), name, content);
    let hint = if name.contains("jsonl") { FormatHint::FineTuning } else { FormatHint::ContinuedPreTraining };
    let Ok(sources) = Sources::discover(std::slice::from_ref(&path), hint) else { return };
    for tokenizer in tokenizers {
        read(&sources, tokenizer, &path, blake3::hash(content));
    }
}

fn read(sources: &Sources, tokenizer: &TextTokenizer, path: &Path, hash: blake3::Hash) {
    let limits = Limits { piece_bytes: 64, max_piece_bytes: 1 << 10, max_line_bytes: 1 << 10 };
    let hashes = [hash];
    let mut reader = Reader::new(sources, tokenizer, &hashes, None, limits);
    loop {
        let chunk = reader.next_chunk().unwrap();
        if chunk.is_empty() {
            break;
        }
        for work in chunk {
            match work {
                Err(problem) => {
                    assert_eq!(problem.path, path);
                    assert!(problem.line.is_some() || problem.message.starts_with("the file holds "), "{problem}");
                }
                Ok(work) => match work.part {
                    Part::Line(line) => {
                        assert!(line.len() as u64 <= limits.max_line_bytes);
                        record(&line);
                    }
                    Part::Text { text, .. } => assert!(text.len() <= limits.max_piece_bytes + 1024, "{}", text.len()),
                },
            }
        }
        // Any position goes on.
        let position = reader.position();
        reader = Reader::new(sources, tokenizer, &hashes, None, limits).resume(position).unwrap();
    }
}

/// A check of any bytes, as records and as text, and a scrub of them. What is told stays on one line and names a line of the file.
pub fn check(content: &[u8]) {
    static TOKENIZER: OnceLock<TextTokenizer> = OnceLock::new();
    let tokenizer = TOKENIZER.get_or_init(fixtures::tokenizer_that_knows_bos);
    let folder = tempfile::tempdir().unwrap();
    let lines = content.split(|byte| *byte == b'\n').count() as u64;
    for name in ["a.jsonl", "a.txt"] {
        let path = fixtures::write(folder.path(), name, content);
        let mut options = CheckOptions::new(vec![path.clone()]);
        options.evaluation = vec![path.clone()];
        options.tokens = Some(TokenCheck { tokenizer, max_length: 40 });
        let report = check::check(&options, &mut |_, _| ()).unwrap();
        for (finding, row) in
            report.findings.iter().flat_map(|finding| finding.rows.iter().map(move |row| (finding, row)))
        {
            let text = format!("{}{}", row.message, row.excerpt);
            assert!(!text.chars().any(char::is_control), "{}: {text:?}", finding.id);
            assert!(row.line <= lines && finding.count >= finding.rows.len() as u64, "{finding:?}");
        }
        let (mut out, mut changes) = (Vec::new(), Vec::new());
        match check::scrub(&path, &mut out, &mut changes) {
            Err(error) => assert!(!error.to_string().contains('\n'), "{error}"),
            Ok(scrubbed) => {
                assert_eq!(changes.iter().filter(|byte| **byte == b'\n').count() as u64, scrubbed.changes);
                let is_json = |line: &[u8]| serde_json::from_slice::<serde::de::IgnoredAny>(line).is_ok();
                let (before, after) = (content.split(|byte| *byte == b'\n'), out.split(|byte| *byte == b'\n'));
                assert!(
                    before.zip(after).all(|(before, after)| !is_json(before) || is_json(after)),
                    "a record stays one"
                );
            }
        }
    }
}

/// A shard in the cache.
pub fn shard(content: &[u8]) {
    let folder = tempfile::tempdir().unwrap();
    let path = fixtures::write(folder.path(), "shard.safetensors", content);
    let Ok(shard) = Shard::open(&path) else { return };
    for unit in 0..shard.num_units() {
        for document in shard.unit(unit) {
            let example = shard.document(document).to_example();
            assert!(example.targets.iter().all(|(start, end)| start < end && *end as usize <= example.tokens.len()));
        }
    }
    let _ = shard.verify();
}

/// Any text under every tokenizer that works by words: the library's ids.
pub fn words(text: &str) {
    static TOKENIZERS: OnceLock<[TextTokenizer; 2]> = OnceLock::new();
    let [words, library] = TOKENIZERS.get_or_init(|| [fixtures::tokenizer(), fixtures::tokenizer_by_library()]);
    assert_eq!(words.encode(text).unwrap(), library.encode(text).unwrap());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::writer::{ShardWriter, Spool};
    use proptest::prelude::*;

    const NAMES: [&str; 6] = ["a.jsonl", "a.txt", "a.jsonl.gz", "a.txt.gz", "a.jsonl.zst", "a.txt.zst"];
    const SEEDS: [&str; 6] = [
        "{\"prompt\": \"the wall\", \"completion\": \"leans\"}\r\n{\"prompt\": \"\", \"completion\": \"\\ud83d\\ude00\"}",
        "{\"schemaVersion\": \"bedrock-conversation-2024\", \"system\": [{\"text\": \"a\"}], \"messages\": [{\"role\": \"user\", \"content\": [{\"text\": \"a\"}]}, {\"role\": \"assistant\", \"content\": [{\"text\": \"b\"}]}]}\n",
        "{\"system\": \"s\", \"messages\": [{\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"assistant\", \"content\": \"b\"}]}\n",
        "{\"input\": \"the wall\"}\n",
        "\u{feff}The level is set on the wall — and the bubble is read twice.\r\n\r\nA wall that leans 12 345.",
        "the wall\0 leans \u{a0}é\u{301}",
    ];

    fn content() -> impl Strategy<Value = Vec<u8>> {
        let seed = (prop::sample::select(SEEDS.to_vec()), 1usize..40)
            .prop_map(|(seed, times)| seed.repeat(times).into_bytes());
        prop_oneof![prop::collection::vec(any::<u8>(), 0..400), seed]
    }

    /// Bytes changed, taken out, put in, or cut off.
    fn mutated(mut bytes: Vec<u8>, changes: Vec<(prop::sample::Index, u8, u8)>) -> Vec<u8> {
        for (index, kind, value) in changes {
            if bytes.is_empty() {
                break;
            }
            let index = index.index(bytes.len());
            match kind % 4 {
                0 => bytes[index] = value,
                1 => drop(bytes.remove(index)),
                2 => bytes.insert(index, value),
                _ if value < 32 => bytes.truncate(index),
                _ => bytes[index] ^= 1 << (value % 8),
            }
        }
        bytes
    }

    fn changes() -> impl Strategy<Value = Vec<(prop::sample::Index, u8, u8)>> {
        prop::collection::vec(any::<(prop::sample::Index, u8, u8)>(), 0..6)
    }

    fn a_shard() -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = ShardWriter::new(folder.path(), Spool::Unnamed(folder.path()), false).unwrap();
        for length in [3, 1, 9] {
            let example = crate::example::Example::with_targets_from((0..length).collect(), 1);
            writer.push(&example, 0, 1).unwrap();
            writer.end_unit().unwrap();
        }
        let path = folder.path().join("shard");
        writer.finish("key", SourceKind::Text, &crate::summary::Summary::default(), &path).unwrap();
        fs_err::read(path).unwrap()
    }

    /// What the fuzz targets begin with, and what they found, stays good.
    #[test]
    fn every_seed_passes() {
        type Target = (&'static str, fn(&[u8]));
        let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds");
        let targets: [Target; 8] = [
            ("check", check),
            ("gzip", |bytes| file("a.txt.gz", bytes)),
            ("jsonl", |bytes| file("a.jsonl", bytes)),
            ("record", record),
            ("shard", shard),
            ("text", |bytes| file("a.txt", bytes)),
            ("words", |bytes| words(&String::from_utf8_lossy(bytes))),
            ("zstd", |bytes| file("a.jsonl.zst", bytes)),
        ];
        for (target, run) in targets {
            let files: Vec<_> =
                fs_err::read_dir(seeds.join(target)).unwrap().map(|entry| entry.unwrap().path()).collect();
            assert!(files.len() > 10, "{target}: {}", files.len());
            files.iter().for_each(|path| run(&fs_err::read(path).unwrap()));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn no_file_harms_a_reader(content in content(), inner in changes(), outer in changes(), name in prop::sample::select(NAMES.to_vec())) {
            let content = mutated(content, inner);
            let packed = if name.ends_with("gz") { fixtures::gzip(&content) } else if name.ends_with("zst") { fixtures::zstd(&content) } else { content };
            file(name, &mutated(packed, outer));
        }

        #[test]
        fn no_file_harms_a_check(content in content(), changes in changes()) {
            check(&mutated(content, changes));
        }

        #[test]
        fn no_line_harms_the_parser(content in content(), changes in changes()) {
            record(&mutated(content, changes));
        }

        #[test]
        fn no_bytes_harm_a_shards_reader(changes in changes()) {
            shard(&mutated(a_shard(), changes));
        }
    }
}
