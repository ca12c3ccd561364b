//! What preparation promises, on small files.

use super::*;
use crate::example::{Example, cut, encode_document, encode_pair};
use crate::fixtures::{self, write};
use crate::options::LongRecords;
use crate::source::FormatHint;
use crate::tokenizer::SpecialTokens;
use tempfile::TempDir;

/// An input and a cache in one temporary folder.
pub(super) struct Case {
    pub(super) root: TempDir,
}

impl Case {
    pub(super) fn new() -> Self {
        Self { root: tempfile::tempdir().unwrap() }
    }

    pub(super) fn sources(&self, name: &str, content: impl AsRef<[u8]>, hint: FormatHint) -> Sources {
        Sources::discover(&[write(self.root.path(), name, content)], hint).unwrap()
    }

    pub(super) fn pairs(&self, content: impl AsRef<[u8]>) -> Sources {
        self.sources("a.jsonl", content, FormatHint::FineTuning)
    }

    pub(super) fn prepare(&self, sources: &Sources, options: &PrepareOptions) -> Result<Prepared, DataError> {
        self.prepare_with(sources, &fixtures::tokenizer(), options)
    }

    pub(super) fn prepare_with(
        &self,
        sources: &Sources,
        tokenizer: &TextTokenizer,
        options: &PrepareOptions,
    ) -> Result<Prepared, DataError> {
        prepare(sources, tokenizer, options, &self.root.path().join("cache"), &mut |_, _| {})
    }

    /// The error of a pairs file, without the folder's name.
    pub(super) fn error(&self, content: impl AsRef<[u8]>, options: &PrepareOptions) -> String {
        let error = self.prepare(&self.pairs(content), options).unwrap_err().to_string();
        error.replace(&format!("{}/", self.root.path().display()), "")
    }
}

pub(super) fn pair(prompt: &str, completion: &str) -> String {
    serde_json::json!({"prompt": prompt, "completion": completion}).to_string() + "\n"
}

pub(super) fn examples(shard: &Shard) -> Vec<Example> {
    (0..shard.len()).map(|index| shard.document(index).to_example()).collect()
}

#[test]
fn r5_a_shard_holds_what_the_one_builder_makes_of_each_pair() {
    let case = Case::new();
    let texts = [("the wall ", "leans"), ("", "read twice"), ("the bubble\n", "is read"), ("world", " records")];
    let content: String = texts.iter().map(|(prompt, completion)| pair(prompt, completion)).collect();
    for tokenizer in [fixtures::tokenizer(), fixtures::tokenizer_with_bos()] {
        let prepared = case.prepare_with(&case.pairs(&content), &tokenizer, &PrepareOptions::new(64)).unwrap();
        let expected = texts.map(|(prompt, completion)| encode_pair(&tokenizer, prompt, completion).unwrap().example);
        assert_eq!(examples(&prepared.shard), expected);
        let summary = prepared.shard.summary();
        assert_eq!((summary.records, summary.documents, summary.units, summary.end_token_share), (4, 4, 4, 1.0));
        assert_eq!(summary.tokens, expected.iter().map(|example| example.tokens.len() as u64).sum::<u64>());
        assert_eq!(summary.target_tokens, expected.iter().map(Example::target_tokens).sum::<u64>());
        assert_eq!(summary.longest, expected.iter().map(|example| example.tokens.len() as u64).max().unwrap());
        assert_eq!(summary.untargeted_first_tokens, u64::from(!tokenizer.adds_bos()), "R2");
        assert_eq!(prepared.origin(2), format!("{}:3", case.root.path().join("a.jsonl").display()));
        assert_eq!((prepared.reused, prepared.notes.len()), (false, 0));
    }
}

#[test]
fn crlf_a_byte_order_mark_and_extra_keys_are_fine_and_counted() {
    let case = Case::new();
    let content = "\u{feff}{\"prompt\":\"a\",\"completion\":\"b\",\"id\":1}\r\n{\"prompt\":\"c\",\"completion\":\"d\",\"id\":2,\"tag\":0}\r\n";
    let prepared = case.prepare(&case.pairs(content), &PrepareOptions::new(64)).unwrap();
    let summary = prepared.shard.summary();
    assert_eq!((summary.records, summary.byte_order_marks), (2, 1));
    assert_eq!(
        summary.extra_keys.iter().map(|(key, count)| (key.as_str(), *count)).collect::<Vec<_>>(),
        [("id", 2), ("tag", 1)]
    );
    let plain = pair("a", "b") + &pair("c", "d");
    let plain =
        case.prepare(&case.sources("plain.jsonl", plain, FormatHint::FineTuning), &PrepareOptions::new(64)).unwrap();
    assert_eq!(examples(&prepared.shard), examples(&plain.shard));
}

#[test]
fn r20_the_first_twenty_problems_are_listed_with_their_places() {
    let case = Case::new();
    let bad = "{\"prompt\": 3, \"completion\": \"b\"}\n\n{\"prompt\" \"a\"}\n";
    let error = case.error(format!("{}{bad}", pair("a", "b")), &PrepareOptions::new(64));
    assert_eq!(
        error,
        "3 problems in the data:\n\
         a.jsonl:2: `prompt` is a number; it must be a string\n\
         a.jsonl:3: the line is blank; remove it\n\
         a.jsonl:4:11: not a JSON record: expected `:`; each line must be one whole JSON object"
    );
    let error = case.error("{}\n".repeat(30), &PrepareOptions::new(64));
    assert!(error.starts_with("30 problems in the data, of which the first 20:\na.jsonl:1: found no keys"), "{error}");
    assert_eq!(error.lines().count(), 21);
    let error = case.error([b"{\"prompt\": \"\xe9\"}".as_slice()].concat(), &PrepareOptions::new(64));
    assert_eq!(error, "a.jsonl:1:13: byte 0xe9 is not UTF-8; save the file as UTF-8");
    let cache = fs_err::read_dir(case.root.path().join("cache")).unwrap();
    assert_eq!(cache.count(), 0, "an error leaves nothing behind");
}

#[test]
fn r7_empty_completions_are_refused_unless_so_many_are_allowed() {
    let case = Case::new();
    let content = pair("a", "") + "{}\n" + &pair("b", " \n") + &pair("c", "d");
    assert_eq!(
        case.error(&content, &PrepareOptions::new(64)),
        "3 problems in the data:\n\
         a.jsonl:1: the completion is empty (allowed: 0); remove the record or allow more of them\n\
         a.jsonl:2: found no keys; a fine-tuning record needs `prompt` and `completion`\n\
         a.jsonl:3: the completion is only white space (allowed: 0); remove the record or allow more of them"
    );
    let content = pair("a", "") + &pair("b", "") + &pair("c", "d");
    let allow = |allow_empty_completions| PrepareOptions { allow_empty_completions, ..PrepareOptions::new(64) };
    assert!(
        case.error(&content, &allow(1))
            .starts_with("2 problems in the data:\na.jsonl:1: the completion is empty (allowed: 1)")
    );
    let prepared = case.prepare(&case.pairs(&content), &allow(2)).unwrap();
    assert_eq!((prepared.shard.summary().empty_completions, prepared.shard.len()), (2, 3));
    assert_eq!(prepared.shard.document(0).target_tokens(), 1, "the end token alone");
}

#[test]
fn r11_long_records_are_an_error_or_follow_the_policy_that_is_named() {
    let case = Case::new();
    let tokenizer = fixtures::tokenizer_with_bos();
    let long = "the wall leans and the bubble is read twice and the beam hangs";
    let content = pair("a", "b") + &pair(long, "read");
    let sources = case.pairs(&content);
    let whole = encode_pair(&tokenizer, long, "read").unwrap();
    let (length, targets) = (whole.example.tokens.len(), whole.example.target_tokens());
    let options = |long_records| PrepareOptions { long_records, ..PrepareOptions::new(8) };
    let error = case.prepare_with(&sources, &tokenizer, &options(LongRecords::Error)).unwrap_err().to_string();
    let (prompt, completion) = (whole.prompt_length, length - whole.prompt_length);
    assert!(
        error.ends_with(&format!(
            "a.jsonl:2: {length} tokens (prompt {prompt}, completion {completion}) are more than the maximum of 8; \
             shorten the record, raise the maximum, or choose to drop or truncate long records"
        )),
        "{error}"
    );

    let dropped = case.prepare_with(&sources, &tokenizer, &options(LongRecords::Drop)).unwrap();
    let summary = dropped.shard.summary();
    assert_eq!(
        (summary.records, summary.documents, summary.dropped_records, summary.dropped_target_tokens),
        (2, 1, 1, targets)
    );

    let truncated = case.prepare_with(&sources, &tokenizer, &options(LongRecords::Truncate)).unwrap();
    let summary = truncated.shard.summary();
    assert_eq!((summary.truncated_records, summary.truncated_tokens), (1, length as u64 - 8));
    assert_eq!(summary.lengths.p99, length as u64, "lengths are those of the records as written");
    let example = truncated.shard.document(1).to_example();
    assert_eq!(example.target_tokens(), targets, "no target is lost");
    assert_eq!((example.tokens.len(), example.tokens[0]), (8, 1), "BOS stays");
    assert_eq!(example.tokens[1..], whole.example.tokens[length - 7..]);

    let error = case
        .prepare_with(&case.pairs(pair("a", long)), &tokenizer, &options(LongRecords::Truncate))
        .unwrap_err()
        .to_string();
    assert!(error.contains("a.jsonl:1: the completion alone has "), "{error}");
    assert!(
        error.ends_with("leaves no room for a prompt in the maximum of 8; shorten it or raise the maximum"),
        "{error}"
    );
    let error = case.prepare(&case.pairs(pair("a", long)), &options(LongRecords::Drop)).unwrap_err().to_string();
    assert!(
        error.starts_with("nothing is left to train on: of 1 records 1 were dropped as longer than 8 tokens"),
        "{error}"
    );
}

#[test]
fn texts_are_cut_into_rows_and_small_ones_share_a_row() {
    let case = Case::new();
    let inputs = ["the wall", fixtures::PROSE, "a", "the bubble is read", fixtures::PROSE];
    let content: String = inputs.iter().map(|text| serde_json::json!({"input": text}).to_string() + "\n").collect();
    let sources = case.sources("a.jsonl", content, FormatHint::ContinuedPreTraining);
    for tokenizer in [fixtures::tokenizer(), fixtures::tokenizer_with_bos()] {
        let prepared = case.prepare_with(&sources, &tokenizer, &PrepareOptions::new(40)).unwrap();
        let (shard, summary) = (&prepared.shard, prepared.shard.summary());
        let cuts: Vec<_> = inputs.map(|text| cut(&encode_document(&tokenizer, text).unwrap(), 40)).into();
        // Packing moves rows; line and place in the document say where each belongs.
        let mut found = vec![Vec::new(); inputs.len()];
        for (index, example) in examples(shard).into_iter().enumerate() {
            found[shard.line(index) as usize - 1].push(example);
        }
        for (rows, cut) in found.iter().zip(&cuts) {
            assert_eq!(rows.len(), cut.rows.len());
            assert!(cut.rows.iter().all(|row| rows.contains(row)));
        }
        assert_eq!(summary.cut_targets, cuts.iter().map(|cut| cut.lost_targets).sum::<u64>());
        assert_eq!(summary.untargeted_first_tokens, if tokenizer.adds_bos() { 0 } else { 5 });
        assert_eq!(summary.end_token_share, 1.0);
        assert_eq!(
            (summary.records, summary.documents, summary.units),
            (5, shard.len() as u64, shard.num_units() as u64)
        );
        let length =
            |unit: usize| shard.unit(unit).map(|document| shard.document(document).num_tokens()).sum::<usize>();
        let mut next = 0;
        for unit in 0..shard.num_units() {
            assert_eq!(shard.unit(unit).start, next);
            next = shard.unit(unit).end;
            assert!(length(unit) <= 40);
        }
        let unfilled: usize = (0..shard.num_units()).map(|unit| 40 - length(unit)).sum();
        assert_eq!(summary.unfilled_tokens, unfilled as u64);
        assert_eq!(next, shard.len());
        assert!(shard.num_units() < shard.len(), "some rows are shared");
    }
}

#[test]
fn a_large_text_file_has_the_tokens_of_one_document() {
    let case = Case::new();
    let tokenizer = fixtures::tokenizer_with_bos();
    let text = fixtures::PROSE.repeat(800);
    assert!(text.len() > 3 * (64 << 10), "several pieces");
    let sources = case.sources("a.txt", &text, FormatHint::ContinuedPreTraining);
    let prepared = case.prepare_with(&sources, &tokenizer, &PrepareOptions::new(512)).unwrap();
    let expected = cut(&encode_document(&tokenizer, &text).unwrap(), 512);
    assert!(examples(&prepared.shard) == expected.rows);
    assert_eq!(prepared.shard.summary().cut_targets, expected.lost_targets);
    assert_eq!(prepared.shard.summary().records, 1);
}

#[test]
fn thousands_of_small_files_are_thousands_of_documents() {
    let case = Case::new();
    let folder = case.root.path().join("texts");
    for index in 0..3000 {
        write(&folder, &format!("{}/{index:04}.txt", index / 1000), format!("wall {index}"));
    }
    let sources = Sources::discover(&[folder], FormatHint::ContinuedPreTraining).unwrap();
    let prepared = case.prepare(&sources, &PrepareOptions::new(64)).unwrap();
    assert_eq!((prepared.shard.len(), prepared.shard.summary().records), (3000, 3000));
    let expected = encode_document(&fixtures::tokenizer(), "wall 2345").unwrap();
    let document = (0..3000).find(|document| prepared.shard.file(*document) == 2345).unwrap();
    assert_eq!(prepared.shard.document(document).to_example(), expected);
    assert!(prepared.origin(document).ends_with("2345.txt:1"), "{}", prepared.origin(document));
    let mut blank = sources.files().to_vec();
    blank.truncate(2);
    fs_err::write(&blank[1].path, "  \n").unwrap();
    let sources =
        Sources::discover(&[blank[0].path.clone(), blank[1].path.clone()], FormatHint::ContinuedPreTraining).unwrap();
    let error = case.prepare(&sources, &PrepareOptions::new(64)).unwrap_err().to_string();
    assert!(error.ends_with("0001.txt: the file holds only white space; fill it or take it out"), "{error}");
}

#[test]
fn a_record_of_a_megabyte_and_inputs_without_text_are_handled() {
    let case = Case::new();
    let long = "wall and ".repeat(1 << 17);
    let prepared =
        case.prepare(&case.pairs(pair(&long, "read") + &pair("a", "b")), &PrepareOptions::new(1 << 20)).unwrap();
    assert_eq!(prepared.shard.len(), 2);
    assert_eq!(
        prepared.shard.document(0).num_tokens(),
        encode_pair(&fixtures::tokenizer(), &long, "read").unwrap().example.tokens.len()
    );
    let sources = case.sources("inputs.jsonl", "{\"input\": \" \"}", FormatHint::ContinuedPreTraining);
    let error = case.prepare(&sources, &PrepareOptions::new(8)).unwrap_err().to_string();
    assert!(error.ends_with("inputs.jsonl:1: `input` holds no text; remove the record"), "{error}");
}

#[test]
fn tokens_take_two_bytes_where_the_vocabulary_allows() {
    for (rows, name) in [(65_536, "U16"), (65_537, "U32")] {
        let case = Case::new();
        let special = SpecialTokens { bos: None, add_bos: false, eos: 0 };
        let tokenizer = TextTokenizer::from_tokenizer(fixtures::byte_level(), special, rows).unwrap();
        let prepared = case.prepare_with(&case.pairs(pair("a", "b")), &tokenizer, &PrepareOptions::new(8)).unwrap();
        let bytes = fs_err::read(prepared.shard.path()).unwrap();
        let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(format!("{:?}", tensors.tensor("tokens").unwrap().dtype()), name);
        assert_eq!(examples(&prepared.shard), [encode_pair(&tokenizer, "a", "b").unwrap().example]);
    }
}

#[test]
fn r22_the_same_input_is_reused_whatever_its_name_and_a_damaged_shard_is_built_again() {
    let case = Case::new();
    let content = pair("a", "b");
    let first = case.prepare(&case.pairs(&content), &PrepareOptions::new(64)).unwrap();
    let renamed = case.sources("other.jsonl", &content, FormatHint::FineTuning);
    let second = case.prepare(&renamed, &PrepareOptions::new(64)).unwrap();
    assert!(!first.reused && second.reused);
    assert_eq!((first.shard.key(), first.shard.summary()), (second.shard.key(), second.shard.summary()));
    assert!(second.origin(0).ends_with("other.jsonl:1"));
    let path = second.shard.path().to_owned();
    drop((first, second));

    let mut bytes = fs_err::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs_err::write(&path, bytes).unwrap();
    let third = case.prepare(&renamed, &PrepareOptions::new(64)).unwrap();
    assert!(!third.reused);
    assert_eq!(
        third.notes,
        [format!(
            "shard `{}` was damaged (its content doesn't have the hash it was written with) and has been built again",
            path.display()
        )]
    );
    third.shard.verify().unwrap();
    fs_err::write(&path, "").unwrap();
    assert_eq!(case.prepare(&renamed, &PrepareOptions::new(64)).unwrap().notes.len(), 1);
}

#[test]
fn r22_the_key_changes_with_everything_that_shapes_tokens() {
    let case = Case::new();
    let (one, two) =
        (write(case.root.path(), "1.jsonl", pair("a", "b")), write(case.root.path(), "2.jsonl", pair("c", "d")));
    let discover = |paths: &[&PathBuf], hint| {
        Sources::discover(&paths.iter().map(|path| (*path).clone()).collect::<Vec<_>>(), hint).unwrap()
    };
    let sources = discover(&[&one, &two], FormatHint::FineTuning);
    let tokenizer = |bos, add_bos, eos, rows| {
        TextTokenizer::from_tokenizer(fixtures::byte_level(), SpecialTokens { bos, add_bos, eos }, rows).unwrap()
    };
    let plain = tokenizer(None, false, 0, 1000);
    let options = PrepareOptions::new(64);
    let mut other = fixtures::byte_level();
    other.add_tokens([tokenizers::AddedToken::from("wall", false)]).unwrap();
    let other =
        TextTokenizer::from_tokenizer(other, SpecialTokens { bos: None, add_bos: false, eos: 0 }, 1000).unwrap();

    let mut keys = vec![
        cache_key(&sources, &plain, &options).unwrap(),
        cache_key(&discover(&[&two, &one], FormatHint::FineTuning), &plain, &options).unwrap(),
        cache_key(&discover(&[&one], FormatHint::FineTuning), &plain, &options).unwrap(),
        cache_key(&discover(&[&one, &two], FormatHint::ContinuedPreTraining), &plain, &options).unwrap(),
        cache_key(&sources, &other, &options).unwrap(),
        cache_key(&sources, &tokenizer(Some(1), true, 0, 1000), &options).unwrap(),
        cache_key(&sources, &tokenizer(None, false, 1, 1000), &options).unwrap(),
        cache_key(&sources, &tokenizer(None, false, 0, 70_000), &options).unwrap(),
        cache_key(&sources, &plain, &PrepareOptions { max_length: 65, ..options }).unwrap(),
        cache_key(&sources, &plain, &PrepareOptions { long_records: LongRecords::Drop, ..options }).unwrap(),
        cache_key(&sources, &plain, &PrepareOptions { long_records: LongRecords::Truncate, ..options }).unwrap(),
        cache_key(&sources, &plain, &PrepareOptions { allow_empty_completions: 1, ..options }).unwrap(),
        cache_key(&sources, &plain, &PrepareOptions { limit: Some(1), ..options }).unwrap(),
    ];
    assert_eq!(keys[0], cache_key(&sources, &plain, &options).unwrap());
    fs_err::write(&one, pair("a", "B")).unwrap();
    keys.push(cache_key(&sources, &plain, &options).unwrap());
    let count = keys.len();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), count, "all keys differ");
}

#[test]
fn r21_a_limit_bounds_the_work_and_progress_reaches_the_end() {
    let case = Case::new();
    let content = pair("a", "b").repeat(5) + "no record\n";
    let limited =
        case.prepare(&case.pairs(&content), &PrepareOptions { limit: Some(5), ..PrepareOptions::new(64) }).unwrap();
    assert_eq!(limited.shard.summary().records, 5);
    assert!(
        case.prepare(&case.pairs(&content), &PrepareOptions { limit: Some(6), ..PrepareOptions::new(64) }).is_err()
    );

    // More bytes than the reader hands out at once, few of them to tokenise.
    let note = "x".repeat(4000);
    let content = format!("{{\"prompt\":\"a\",\"completion\":\"b\",\"note\":\"{note}\"}}\n").repeat(3000);
    let sources = case.pairs(&content);
    let (mut seen, tokenizer) = (Vec::new(), fixtures::tokenizer());
    let mut progress = |done, total| seen.push((done, total));
    let prepared = prepare(&sources, &tokenizer, &PrepareOptions::new(64), case.root.path(), &mut progress).unwrap();
    assert_eq!(prepared.shard.len(), 3000);
    assert!(seen.len() > 1 && seen.is_sorted(), "{seen:?}");
    assert_eq!(seen.last(), Some(&(sources.bytes(), sources.bytes())));
}

#[test]
fn two_that_prepare_the_same_at_once_both_get_a_whole_shard() {
    let case = Case::new();
    let sources = case.pairs(pair("the wall is read", "b").repeat(500));
    let key = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..4).map(|_| scope.spawn(|| case.prepare(&sources, &PrepareOptions::new(64)).unwrap())).collect();
        let all: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        for prepared in &all {
            prepared.shard.verify().unwrap();
            assert_eq!(prepared.shard.len(), 500);
            assert!(prepared.notes.is_empty());
        }
        all[0].shard.key().to_owned()
    });
    let mut left: Vec<_> = fs_err::read_dir(case.root.path().join("cache").join(key))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    left.sort();
    assert_eq!(left, ["lock", "shard.safetensors"]);
}

#[test]
fn options_that_make_no_sense_and_a_cache_that_cant_be_written_are_errors() {
    let case = Case::new();
    let sources = case.pairs(pair("a", "b"));
    let error = |options: &PrepareOptions| case.prepare(&sources, options).unwrap_err().to_string();
    assert_eq!(error(&PrepareOptions::new(1)), "a maximum length of 1 leaves nothing to predict; use 2 or more");
    assert_eq!(
        error(&PrepareOptions { limit: Some(0), ..PrepareOptions::new(8) }),
        "a limit of 0 records leaves nothing to train on; use 1 or more"
    );
    let file = write(case.root.path(), "file", "x");
    let error = prepare(&sources, &fixtures::tokenizer(), &PrepareOptions::new(8), &file, &mut |_, _| {})
        .unwrap_err()
        .to_string();
    assert!(error.contains(&file.display().to_string()), "{error}");
    assert!(!error.contains('\n'));
}

#[test]
fn r29_a_token_outside_the_model_is_told_by_its_line() {
    let case = Case::new();
    let tokenizer = fixtures::byte_level();
    let rows = tokenizer.token_to_id("Ġthe").unwrap();
    let special = SpecialTokens { bos: None, add_bos: false, eos: 0 };
    let tokenizer = TextTokenizer::from_tokenizer(tokenizer, special, rows as usize).unwrap();
    let error = case
        .prepare_with(&case.pairs(pair("a", "b") + &pair("a", "the")), &tokenizer, &PrepareOptions::new(8))
        .unwrap_err();
    assert!(error.to_string().contains(&format!("a.jsonl:2: token `Ġthe` has id {rows}")), "{error}");
}

#[test]
fn conversations_are_checked_and_refused_in_one_line() {
    let case = Case::new();
    let good = r#"{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}"#;
    let bad = r#"{"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]}"#;
    let content = format!("{}{good}\n{good}\n", pair("a", "b"));
    assert_eq!(
        case.error(&content, &PrepareOptions::new(64)),
        "a.jsonl:2: 2 of 3 records are conversations, but the base has no chat template; name a template file \
         (`chatTemplate`, `--chat-template`), or write the records as `prompt` and `completion`"
    );
    assert_eq!(
        case.error(format!("{content}{bad}\n"), &PrepareOptions::new(64)),
        "a.jsonl:4:58: `messages[1].role` is \"user\", but \"assistant\" must speak here; roles alternate, the user begins"
    );
}
