//! Inputs of several chunks: the same bytes after a kill and on any number of threads, and rows that hold every token and are full.

use super::tests::{Case, examples, pair};
use super::*;
use crate::example::encode_document;
use crate::fixtures;
use crate::source::FormatHint;

/// Bytes of the shard that a preparation makes, whatever else is different.
fn shard_bytes(prepared: &Prepared) -> Vec<u8> {
    fs_err::read(prepared.shard.path()).unwrap()
}

/// Texts of several chunks, and inputs; with many lengths, so that rows stay open between chunks.
fn large_inputs(case: &Case) -> [Sources; 2] {
    let words = |number: usize| fixtures::PROSE[..20 + number * 7 % 300].replace("wall", &format!("wall {number}"));
    let lines: String =
        (0..60_000).map(|number| serde_json::json!({"input": words(number)}).to_string() + "\n").collect();
    let text: String = (0..60_000).map(words).collect();
    assert!(text.len() > 8 << 20 && lines.len() > 8 << 20, "several chunks");
    [
        case.sources("large.jsonl", lines, FormatHint::ContinuedPreTraining),
        case.sources("large.txt.zst", fixtures::zstd(text.as_bytes()), FormatHint::ContinuedPreTraining),
    ]
}

#[test]
fn r21_a_preparation_that_is_killed_anywhere_goes_on_to_the_same_bytes() {
    let case = Case::new();
    let (tokenizer, options) = (fixtures::tokenizer(), PrepareOptions::new(100));
    for (index, sources) in large_inputs(&case).iter().enumerate() {
        let whole = prepare(sources, &tokenizer, &options, &case.root.path().join("whole"), &mut |_, _| {}).unwrap();
        let cache = case.root.path().join(format!("killed{index}"));
        let (mut kills, mut notes) = (0, Vec::new());
        // Every run is ended where it first tells of progress behind a state that it saved; the last one isn't.
        for round in 0.. {
            let mut told = 0;
            let mut tell = |_, _| {
                told += 1;
                assert!(told < 2 || round == 3, "killed");
            };
            let run = || prepare_saving(sources, &tokenizer, &options, &cache, 1, &mut tell);
            match std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)) {
                Err(_) => kills += 1,
                Ok(prepared) => {
                    let prepared = prepared.unwrap();
                    assert!(shard_bytes(&prepared) == shard_bytes(&whole), "the same bytes");
                    notes = prepared.notes;
                    break;
                }
            }
        }
        assert!(kills > 0);
        let note = "an interrupted preparation was gone on with after ";
        assert!(notes.len() == 1 && notes[0].starts_with(note), "{notes:?}");
    }
}

#[test]
fn work_that_was_kept_but_is_damaged_is_done_again() {
    let case = Case::new();
    let (tokenizer, options) = (fixtures::tokenizer(), PrepareOptions::new(100));
    let [sources, _] = large_inputs(&case);
    let cache = case.root.path().join("cache");
    for (name, content) in [("state.json", "{"), ("tokens", "short")] {
        let mut told = 0;
        let mut tell = |_, _| {
            told += 1;
            assert!(told < 2, "killed");
        };
        let run = || prepare_saving(&sources, &tokenizer, &options, &cache, 1, &mut tell);
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).is_err());
        let folder = fs_err::read_dir(&cache).unwrap().next().unwrap().unwrap().path();
        fs_err::write(folder.join("partial").join(name), content).unwrap();
        let prepared = prepare(&sources, &tokenizer, &options, &cache, &mut |_, _| {}).unwrap();
        assert!(
            prepared.notes[0].starts_with("the work of an interrupted preparation can't be used ("),
            "{:?}",
            prepared.notes
        );
        prepared.shard.verify().unwrap();
        drop(prepared);
        fs_err::remove_dir_all(&cache).unwrap();
    }
}

#[test]
fn the_same_bytes_come_out_whatever_the_number_of_threads() {
    let case = Case::new();
    for (index, sources) in large_inputs(&case).iter().enumerate() {
        let mut all: Vec<Vec<u8>> = Vec::new();
        for threads in [1, 2, 5] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let cache = case.root.path().join(format!("cache{index}{threads}"));
            let tokenizer = if threads == 5 { fixtures::tokenizer_by_library() } else { fixtures::tokenizer() };
            let run = || prepare(sources, &tokenizer, &PrepareOptions::new(100), &cache, &mut |_, _| {}).unwrap();
            all.push(shard_bytes(&pool.install(run)));
        }
        assert!(all[0] == all[1] && all[1] == all[2]);
    }
}

#[test]
fn compressed_files_give_the_shard_of_their_content() {
    let case = Case::new();
    let lines = pair("the wall ", "leans").repeat(50);
    let text = fixtures::PROSE.repeat(50);
    for (name, content, hint) in
        [("a.jsonl", &lines, FormatHint::FineTuning), ("a.txt", &text, FormatHint::ContinuedPreTraining)]
    {
        let plain = case.prepare(&case.sources(name, content, hint), &PrepareOptions::new(64)).unwrap();
        for (suffix, bytes) in [("gz", fixtures::gzip(content.as_bytes())), ("zst", fixtures::zstd(content.as_bytes()))]
        {
            let sources = case.sources(&format!("{name}.{suffix}"), bytes, hint);
            let packed = case.prepare(&sources, &PrepareOptions::new(64)).unwrap();
            assert_eq!(examples(&packed.shard), examples(&plain.shard));
            assert_ne!(packed.shard.key(), plain.shard.key());
            assert!(!packed.reused);
        }
    }
}

#[test]
fn r11_every_token_of_raw_text_is_in_one_row_and_the_rows_are_full() {
    let case = Case::new();
    let [lines, _] = large_inputs(&case);
    let tokenizer = fixtures::tokenizer();
    let prepared = case.prepare_with(&lines, &tokenizer, &PrepareOptions::new(512)).unwrap();
    let (shard, summary) = (&prepared.shard, prepared.shard.summary());
    let mut tokens = vec![0u64; summary.records as usize];
    for document in 0..shard.len() {
        tokens[shard.line(document) as usize - 1] += shard.document(document).num_tokens() as u64;
    }
    let content = fs_err::read_to_string(&lines.files()[0].path).unwrap();
    for (line, tokens) in content.lines().zip(&tokens).step_by(997) {
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        let expected = encode_document(&tokenizer, record["input"].as_str().unwrap()).unwrap();
        assert_eq!(expected.tokens.len() as u64, *tokens);
    }
    assert_eq!(summary.tokens, tokens.iter().sum::<u64>());
    let untargeted = summary.untargeted_first_tokens + summary.cut_targets;
    assert_eq!(summary.tokens, summary.target_tokens + untargeted, "trained, or the first of a row");
    let full = summary.tokens as f64 / (512 * summary.units) as f64;
    assert!(full > 0.95, "{full}");
    assert_eq!(summary.unfilled_tokens, 512 * summary.units - summary.tokens);
}
