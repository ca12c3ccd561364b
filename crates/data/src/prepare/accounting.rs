//! Property tests: every token of an input is trained on, or is counted under the policy that left it out; and an epoch in batches
//! holds each token of the shard once, from wherever it goes on.

use super::tests::{Case, examples, pair};
use super::*;
use crate::batch::Batch;
use crate::example::{Example, cut, encode_document, encode_pair};
use crate::fixtures;
use crate::options::LongRecords;
use crate::packing::{PACKING_WINDOW, RowPacker};
use crate::source::FormatHint;
use crate::steps::{Steps, micro_batches};
use proptest::prelude::*;

const WORDS: [&str; 10] = ["the", "wall", "leans", "plumb", "é", "12 345", "—", "</s>", "read\ntwice", "x"];

fn text(words: std::ops::Range<usize>) -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(WORDS.to_vec()), words).prop_map(|words| words.join(" "))
}

fn tokenizer(with_bos: bool) -> TextTokenizer {
    if with_bos { fixtures::tokenizer_with_bos() } else { fixtures::tokenizer() }
}

fn tokens(examples: &[Example]) -> u64 {
    examples.iter().map(|example| example.tokens.len() as u64).sum()
}

fn targets(examples: &[Example]) -> u64 {
    examples.iter().map(Example::target_tokens).sum()
}

/// The documents of batches, as examples, in an order of their own.
fn unpacked(batches: &[Batch]) -> Vec<Example> {
    let mut all = Vec::new();
    for batch in batches {
        for bounds in batch.offsets.windows(2) {
            let inside = batch.targets.iter().filter(|target| (bounds[0]..bounds[1]).contains(*target));
            let first = inside.clone().next().map_or(u32::MAX, |target| target + 1 - bounds[0]);
            let example = Example::with_targets_from(
                batch.tokens[bounds[0] as usize..bounds[1] as usize].to_vec(),
                first as usize,
            );
            assert_eq!(example.target_tokens(), inside.count() as u64);
            all.push(example);
        }
    }
    sorted(all)
}

fn sorted(mut examples: Vec<Example>) -> Vec<Example> {
    examples.sort_by(|one, other| (&one.tokens, &one.targets).cmp(&(&other.tokens, &other.targets)));
    examples
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// R7, R11: of each pair all tokens are in the shard, or the pair is dropped, or its prompt is shortened, and the counts say so.
    #[test]
    fn r11_every_token_of_a_pair_is_trained_masked_or_counted_under_the_policy(
        pairs in prop::collection::vec((text(0..30), text(1..12)), 1..12),
        max_length in 8usize..60, policy in 0usize..3, with_bos: bool,
    ) {
        let (case, tokenizer) = (Case::new(), tokenizer(with_bos));
        let long_records = [LongRecords::Error, LongRecords::Drop, LongRecords::Truncate][policy];
        let whole: Vec<_> = pairs.iter().map(|(prompt, completion)| encode_pair(&tokenizer, prompt, completion).unwrap()).collect();
        let content: String = pairs.iter().map(|(prompt, completion)| pair(prompt, completion)).collect();
        let options = PrepareOptions { long_records, ..PrepareOptions::new(max_length) };
        let is_long = |pair: &&crate::Pair| pair.example.tokens.len() > max_length;
        let long: Vec<_> = whole.iter().filter(is_long).map(|pair| pair.example.clone()).collect();
        let no_room = |pair: &crate::Pair| pair.prompt_length == 0 || pair.example.tokens.len() - pair.prompt_length >= max_length;
        let refused = match long_records {
            LongRecords::Error => !long.is_empty(),
            LongRecords::Drop => long.len() == whole.len(),
            LongRecords::Truncate => whole.iter().filter(is_long).any(no_room),
        };
        let prepared = match case.prepare_with(&case.pairs(content), &tokenizer, &options) {
            Ok(prepared) => prepared,
            Err(error) => {
                prop_assert!(refused, "{}", error);
                return Ok(());
            }
        };
        prop_assert!(!refused);
        let (made, summary) = (examples(&prepared.shard), prepared.shard.summary());
        let all: Vec<_> = whole.iter().map(|pair| pair.example.clone()).collect();
        prop_assert_eq!((summary.tokens, summary.target_tokens), (tokens(&made), targets(&made)));
        prop_assert_eq!(targets(&all), summary.target_tokens + summary.dropped_target_tokens, "no target is lost unsaid");
        match long_records {
            LongRecords::Drop => {
                let kept: Vec<_> = all.iter().filter(|example| example.tokens.len() <= max_length).cloned().collect();
                prop_assert_eq!(made, kept);
                prop_assert_eq!((summary.dropped_records, summary.dropped_target_tokens), (long.len() as u64, targets(&long)));
            }
            _ => {
                prop_assert_eq!(tokens(&all), summary.tokens + summary.truncated_tokens);
                prop_assert_eq!(summary.truncated_records, long.len() as u64);
                for (made, whole) in made.iter().zip(&all) {
                    let kept = made.tokens.len().min(max_length) - usize::from(with_bos);
                    prop_assert_eq!(&made.tokens[made.tokens.len() - kept..], &whole.tokens[whole.tokens.len() - kept..]);
                    prop_assert_eq!(made.target_tokens(), whole.target_tokens());
                }
            }
        }
    }

    /// R2, R11: raw text is cut into rows, each of its tokens in one of them, and all are targets but the first of a row.
    #[test]
    fn r11_every_token_of_a_text_is_in_one_row(
        texts in prop::collection::vec(text(1..60), 1..16), max_length in 2usize..50, with_bos: bool,
    ) {
        let (case, tokenizer) = (Case::new(), tokenizer(with_bos));
        let content: String = texts.iter().map(|text| serde_json::json!({"input": text}).to_string() + "\n").collect();
        let sources = case.sources("a.jsonl", content, FormatHint::ContinuedPreTraining);
        let prepared = case.prepare_with(&sources, &tokenizer, &PrepareOptions::new(max_length)).unwrap();
        let (shard, summary) = (&prepared.shard, prepared.shard.summary());
        let mut expected = Vec::new();
        for text in &texts {
            let document = encode_document(&tokenizer, text).unwrap();
            let rows = cut(&document, max_length).rows;
            prop_assert_eq!(rows.iter().flat_map(|row| row.tokens.clone()).collect::<Vec<_>>(), document.tokens);
            expected.extend(rows);
        }
        prop_assert_eq!(summary.tokens, tokens(&expected));
        let untargeted = if with_bos { texts.len() as u64 } else { summary.untargeted_first_tokens };
        prop_assert_eq!(summary.tokens, summary.target_tokens + untargeted + summary.cut_targets);
        prop_assert_eq!(summary.unfilled_tokens, max_length as u64 * summary.units - summary.tokens);
        prop_assert_eq!(sorted(examples(shard)), sorted(expected));
    }

    /// R1, R25: an epoch's batches hold each document of the shard once, whatever the sizes; what follows a cursor is what would
    /// have followed without a stop.
    #[test]
    fn r25_an_epoch_in_batches_is_the_shard_and_goes_on_from_any_cursor(
        texts in prop::collection::vec(text(1..40), 1..16), max_length in 2usize..40,
        batch_size in 1usize..6, micro_tokens in 1usize..120, seed: u64, shuffle: bool, stop: prop::sample::Index,
    ) {
        let (case, tokenizer) = (Case::new(), fixtures::tokenizer());
        let content: String = texts.iter().map(|text| serde_json::json!({"input": text}).to_string() + "\n").collect();
        let sources = case.sources("a.jsonl", content, FormatHint::ContinuedPreTraining);
        let shard = case.prepare_with(&sources, &tokenizer, &PrepareOptions::new(max_length)).unwrap().shard;
        let whole = sorted(examples(&shard));
        let units: Vec<_> = (0..shard.num_units()).collect();
        let epoch = |steps: &Steps, epoch: u64, from: usize| -> Vec<Vec<Batch>> {
            let step = |step| micro_batches(&shard, &steps.step(epoch, step), micro_tokens).unwrap().batches;
            (from..steps.steps_per_epoch()).map(step).collect()
        };
        let steps = Steps::new(units.clone(), batch_size, seed, shuffle).unwrap();
        for number in 0..2 {
            let batches = epoch(&steps, number, 0);
            prop_assert_eq!(unpacked(&batches.concat()), whole.clone());
            let from = stop.index(batches.len());
            let again = Steps::new(units.clone(), batch_size, seed, shuffle).unwrap();
            prop_assert_eq!(&epoch(&again, number, from)[..], &batches[from..]);
        }
        // and where no step binds them, packed best fit as evaluation does
        let mut packer = RowPacker::new(micro_tokens, PACKING_WINDOW);
        let documents = units.iter().flat_map(|&unit| shard.unit(unit));
        let mut rows: Vec<Vec<usize>> =
            documents.filter_map(|document| packer.push(shard.document(document).num_tokens(), document)).collect();
        rows.extend(packer.finish());
        let packed: Vec<Batch> = rows.iter().map(|row| {
            let mut batch = Batch::empty();
            row.iter().for_each(|&document| batch.push_document(&shard.document(document)).unwrap());
            batch
        }).collect();
        prop_assert_eq!(unpacked(&packed), whole);
        let targets: u64 = packed.iter().map(Batch::target_tokens).sum();
        prop_assert_eq!(targets, shard.summary().target_tokens);
    }
}
