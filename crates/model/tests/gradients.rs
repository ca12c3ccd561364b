//! The decoder's forward and backward pass as a whole: packing, splits, recomputation, partial training, threads.
#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod common;

use candle_core::IndexOp;
use common::{bits, config, fixture, fixture_decoders, gradients, largest, load, message, random_decoder, row};
use outcrop_kernels::Gradients;
use outcrop_model::{Decoder, Recompute, Row};
use std::collections::BTreeMap;

/// Says of a weight's name whether it trains.
type Trains<'a> = &'a dyn Fn(&str) -> bool;

fn all(_: &str) -> bool {
    true
}

fn same_bits(
    expected: &BTreeMap<String, candle_core::Tensor>,
    actual: &BTreeMap<String, candle_core::Tensor>,
    what: &str,
) {
    assert!(!actual.is_empty());
    for (name, gradient) in actual {
        assert!(largest(gradient) > 0.0, "{what}: the gradient of `{name}` is 0");
        assert_eq!(bits(gradient), bits(&expected[name]), "{what}: `{name}`");
    }
}

/// Every family's fixture, and a wider model.
fn decoders() -> Vec<(String, Decoder)> {
    let mut decoders = fixture_decoders();
    decoders.push(("wide".into(), random_decoder(&config(500, 128, 352, 2, true), 1)));
    decoders
}

/// Lengths that the context of every fixture holds.
fn fitting<const N: usize>(decoder: &Decoder, lengths: [u32; N]) -> [u32; N] {
    lengths.map(|length| length.min(decoder.spec().max_position_embeddings as u32))
}

/// Logits and losses of a packed row against those of its documents alone.
fn packed_equals_alone(name: &str, decoder: &Decoder) {
    let vocabulary = decoder.spec().vocab_size as u32;
    let lengths = fitting(decoder, [7, 1, 33, 2, 16, 1, 50]);
    let (packed, targets) = row(&lengths, vocabulary, 5);
    let (logits, nll) = (decoder.logits(&packed).unwrap(), decoder.nll(&packed, &targets).unwrap());
    let tokens = common::numbers(lengths.iter().sum::<u32>() as usize, vocabulary, 5);
    let (mut start, mut alone_nll) = (0u32, Vec::new());
    for length in lengths {
        let alone = Row::single(tokens[start as usize..(start + length) as usize].to_vec()).unwrap();
        let expected = decoder.logits(&alone).unwrap();
        let part = logits.narrow(0, start as usize, length as usize).unwrap();
        let difference = largest(&(&part - &expected).unwrap());
        assert!(
            bits(&part) == bits(&expected),
            "{name}: document of {length} tokens at {start}: logits differ by {difference:e}"
        );
        let inside = |target: &&u32| (start..start + length).contains(target);
        let own: Vec<u32> = targets.iter().filter(inside).map(|target| target - start).collect();
        alone_nll.extend(decoder.nll(&alone, &own).unwrap());
        start += length;
    }
    assert_eq!(nll, alone_nll);
}

#[test]
fn r10_a_packed_row_is_its_documents_alone_bit_for_bit() {
    packed_equals_alone("wide", &random_decoder(&config(500, 288, 352, 2, true), 1));
}

#[test]
fn r10_a_packed_row_is_its_documents_alone_bit_for_bit_in_every_family() {
    decoders().iter().for_each(|(name, decoder)| packed_equals_alone(name, decoder));
}

/// Documents of which some begin alike, one is another's beginning, and one is there twice.
fn alike(vocabulary: u32, longest: usize) -> Vec<Vec<u32>> {
    let numbers = |seed| common::numbers(longest, vocabulary, seed);
    let with = |equal: usize, seed| [&numbers(1)[..equal], &numbers(seed)[equal..]].concat();
    let half = longest / 2;
    vec![numbers(1), with(half, 2), with(1, 3), with(half, 2), numbers(1)[..half].to_vec(), vec![numbers(1)[0]]]
}

#[test]
fn r3_r10_equal_beginnings_run_once_and_change_no_bit_in_any_family() {
    for (name, decoder) in decoders() {
        let longest = 40.min(decoder.spec().max_position_embeddings);
        let documents = alike(decoder.spec().vocab_size as u32, longest);
        let (mut offsets, tokens) = (vec![0], documents.concat());
        offsets.extend(documents.iter().scan(0, |end, document| {
            *end += document.len() as u32;
            Some(*end)
        }));
        let row = Row::new(tokens, &offsets).unwrap();
        // frequencies that follow a document's length make every long one its own
        let own = decoder.spec().ropes.iter().any(|rope| rope.original().is_some_and(|original| longest > original));
        assert_eq!(decoder.trunk_tokens(&row) < row.len(), !own, "{name}");
        let everywhere: Vec<u32> = (0..row.len() as u32).collect();
        let together = decoder.trunk(&row, &everywhere).unwrap();
        let below = decoder.below(&row, 2).unwrap();
        for (document, start) in documents.iter().zip(&offsets) {
            let (alone, len) = (Row::single(document.clone()).unwrap(), document.len());
            assert_eq!(decoder.trunk_tokens(&alone), len);
            let places: Vec<u32> = (0..len as u32).collect();
            for (whole, expected) in
                [(&together, decoder.trunk(&alone, &places).unwrap()), (&below, decoder.below(&alone, 2).unwrap())]
            {
                let part = whole.narrow(0, *start as usize, len).unwrap();
                assert!(bits(&part) == bits(&expected), "{name}: document of {len} tokens at {start}");
            }
        }
        let reversed: Vec<u32> = everywhere.iter().rev().copied().collect();
        let last = bits(&decoder.trunk(&row, &reversed).unwrap().i(0).unwrap());
        assert_eq!(last, bits(&together.i(row.len() - 1).unwrap()), "{name}");
        assert!(decoder.trunk(&row, &[row.len() as u32]).is_err(), "{name}: a position beyond the row");
    }
}

#[test]
fn logits_at_some_positions_have_the_bits_of_all() {
    let decoder = load(&fixture("llama")).unwrap();
    let (packed, _) = row(&[9, 12], 131, 2);
    let everything = decoder.trunk(&packed, &(0..21).collect::<Vec<_>>()).unwrap();
    let some = decoder.trunk(&packed, &[20, 3]).unwrap();
    assert_eq!(bits(&some.i(0).unwrap()), bits(&everything.i(20).unwrap()));
    assert_eq!(bits(&some.i(1).unwrap()), bits(&everything.i(3).unwrap()));
}

#[test]
fn recomputing_blocks_changes_no_bit_of_loss_and_gradients() {
    for (_, decoder) in decoders() {
        let rows = [row(&fitting(&decoder, [20, 1, 43]), decoder.spec().vocab_size as u32, 7)];
        let (loss, kept) = gradients(&decoder, &rows, Recompute::Nothing, all);
        let (grouped_loss, grouped) = gradients(&decoder, &rows, Recompute::Group, all);
        assert_eq!(loss, grouped_loss);
        same_bits(&kept, &grouped, "recomputed in groups");
        let (again, recomputed) = gradients(&decoder, &rows, Recompute::Block, all);
        assert_eq!(loss, again);
        assert_eq!(kept.len(), decoder.weights().len());
        same_bits(&kept, &recomputed, "recomputed");
    }
}

#[test]
fn r1_the_gradient_of_a_packed_row_is_the_sum_over_any_split_into_rows() {
    for (family, decoder) in decoders() {
        let vocabulary = decoder.spec().vocab_size as u32;
        let lengths = fitting(&decoder, [13, 40, 2, 9]);
        let (packed, targets) = row(&lengths, vocabulary, 11);
        let tokens = common::numbers(lengths.iter().sum::<u32>() as usize, vocabulary, 11);
        let part = |from: usize, to: usize| {
            let start: u32 = lengths[..from].iter().sum();
            let end: u32 = lengths[..to].iter().sum();
            let mut offsets = vec![0];
            for length in &lengths[from..to] {
                offsets.push(offsets[offsets.len() - 1] + length);
            }
            let row = Row::new(tokens[start as usize..end as usize].to_vec(), &offsets).unwrap();
            (row, targets.iter().filter(|t| (start..end).contains(*t)).map(|t| t - start).collect())
        };
        let (loss, expected) = gradients(&decoder, &[(packed, targets.clone())], Recompute::Nothing, all);
        let mut worst = 0f32;
        for split in [vec![part(0, 1), part(1, 2), part(2, 3), part(3, 4)], vec![part(0, 2), part(2, 4)]] {
            let (split_loss, sum) = gradients(&decoder, &split, Recompute::Nothing, all);
            let loss_differs = loss.iter().zip(&split_loss).map(|(a, b)| (a - b).abs() / a).fold(0f32, f32::max);
            assert!(loss_differs <= 1e-6, "a target's loss differs by {loss_differs:e}");
            for (name, gradient) in &expected {
                let difference = largest(&(gradient - &sum[name]).unwrap()) / largest(gradient);
                worst = worst.max(difference);
                assert!(difference <= 1e-6, "{family}: `{name}` differs by {difference:e} of its largest value");
            }
        }
        println!("{family}: gradients of splits differ by {worst:.1e} of the largest value");
    }
}

#[test]
fn weights_that_train_alone_get_the_gradients_of_the_full_run_bit_for_bit() {
    for (family, mut decoder) in decoders() {
        decoder.untie_head().unwrap();
        let spec = decoder.spec().clone();
        let vocabulary = spec.vocab_size as u32;
        let last = spec.block_tensor(spec.num_hidden_layers - 1, "");
        let rows = [row(&fitting(&decoder, [20, 31]), vocabulary, 13)];
        let (loss, full) = gradients(&decoder, &rows, Recompute::Nothing, all);
        let names: Vec<String> = decoder.weights().into_iter().map(|(name, _)| name.to_string()).collect();
        let of_last = names.iter().filter(|name| name.starts_with(&last)).count();
        // one matrix and one vector of the first block, whatever the family calls them
        let first = |rank| {
            let block = spec.block_tensor(0, "");
            let found =
                decoder.weights().into_iter().find(|(n, tensor)| n.starts_with(&block) && tensor.rank() == rank);
            found.unwrap().0.to_string()
        };
        let (matrix, vector, head, embedding) = (first(2), first(1), spec.names.head, spec.names.embedding);
        let parts: [(&str, Trains, usize); 6] = [
            ("head", &|name| name == head, 1),
            ("final norm", &|name| name == spec.names.final_norm, 1),
            ("last block", &|name| name.starts_with(&last), of_last),
            ("one matrix of the first block", &|name| name == matrix, 1),
            ("embedding", &|name| name == embedding, 1),
            ("head and first vector", &|name| name == head || name == vector, 2),
        ];
        // each bias alone, and the positions: families store them apart
        let apart = |name: &&String| name.ends_with("bias") || spec.names.positions == Some(name.as_str());
        let apart: Vec<&String> = names.iter().filter(apart).collect();
        for name in apart {
            let (part_loss, part) = gradients(&decoder, &rows, Recompute::Nothing, |n| n == name.as_str());
            assert_eq!(part_loss, loss, "{family}: {name}");
            same_bits(&full, &part, name);
        }
        for (what, trains, count) in parts {
            for recompute in [Recompute::Nothing, Recompute::Block, Recompute::Group] {
                let (part_loss, part) = gradients(&decoder, &rows, recompute, trains);
                assert_eq!(part_loss, loss, "{family}: {what}");
                assert_eq!(part.len(), count, "{family}: {what}");
                same_bits(&full, &part, &format!("{family}: {what}"));
            }
        }
    }
}

#[test]
fn the_loss_of_training_is_the_loss_of_evaluation() {
    let decoder = load(&fixture("llama")).unwrap();
    let (packed, targets) = row(&[30, 20], 131, 17);
    let nll = decoder.nll(&packed, &targets).unwrap();
    let (loss, _) = gradients(&decoder, &[(packed, targets)], Recompute::Nothing, all);
    assert_eq!(loss, nll);
}

#[test]
fn the_number_of_threads_changes_no_bit_of_loss_and_gradients() {
    let decoder = random_decoder(&config(3001, 128, 352, 2, true), 1);
    let rows = [row(&[200, 3, 97], 3001, 19)];
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| gradients(&decoder, &rows, Recompute::Block, all))
    };
    let ((loss, one), (four_loss, four)) = (run(1), run(4));
    assert_eq!(loss, four_loss);
    same_bits(&one, &four, "4 threads");
}

#[test]
fn r28_an_untied_head_trains_without_touching_the_embedding() {
    for (family, mut decoder) in fixture_decoders().into_iter().filter(|(_, d)| d.spec().tie_word_embeddings) {
        let (packed, targets) = row(&[30, 20], 131, 23);
        let before = decoder.logits(&packed).unwrap();
        let embedding = bits(decoder.weights()[0].1);
        let names = decoder.spec().names.clone();
        assert_eq!(decoder.spec().head_name(), names.embedding);
        decoder.untie_head().unwrap();
        assert_eq!(decoder.spec().head_name(), names.head);
        assert_eq!(
            bits(&decoder.logits(&packed).unwrap()),
            bits(&before),
            "{family}: untying changes nothing by itself"
        );

        let rows = [(packed.clone(), targets)];
        let (_, gradient) = gradients(&decoder, &rows, Recompute::Nothing, |name| name == names.head);
        let gradient: Vec<f32> = gradient[names.head].flatten_all().unwrap().to_vec1().unwrap();
        let (name, head) = decoder.weights().pop().unwrap();
        assert_eq!(name, names.head);
        outcrop_kernels::update("test step", head, |values| {
            values.iter_mut().zip(&gradient).for_each(|(value, gradient)| *value -= gradient);
            Ok(())
        })
        .unwrap();
        assert_eq!(bits(decoder.weights()[0].1), embedding);
        assert_ne!(bits(&decoder.logits(&packed).unwrap()), bits(&before), "{family}: the head must have changed");
        let count = decoder.weights().len();
        decoder.untie_head().unwrap();
        assert_eq!(decoder.weights().len(), count, "untying twice does nothing");
    }
}

#[test]
fn a_step_without_targets_has_no_loss_and_adds_nothing() {
    let decoder = load(&fixture("llama")).unwrap();
    let (packed, targets) = row(&[12], 131, 29);
    assert_eq!(decoder.nll(&packed, &[]).unwrap(), Vec::<f32>::new());
    let (_, expected) = gradients(&decoder, &[(packed.clone(), targets.clone())], Recompute::Nothing, all);
    let (_, actual) = gradients(&decoder, &[(packed.clone(), targets), (packed, vec![])], Recompute::Nothing, all);
    same_bits(&expected, &actual, "with an empty row behind");
}

#[test]
fn input_that_does_not_fit_is_an_error_not_a_panic() {
    let decoder = load(&fixture("llama")).unwrap();
    let packed = Row::new(vec![1, 2, 3, 4], &[0, 2, 4]).unwrap();
    for target in [1, 3, 4, u32::MAX] {
        let expected = format!("row: target {target} has no next token in its document (the row has 4 tokens)");
        assert_eq!(message(decoder.nll(&packed, &[0, target])), expected);
        let mut gradients = Gradients::for_weights(decoder.weights()).unwrap();
        let result = decoder.loss_backward(&packed, &[target], 1.0, Recompute::Nothing, &mut gradients);
        assert_eq!(message(result), expected);
    }
    let first_line = |result: outcrop_model::Result<candle_core::Tensor>| result.unwrap_err().to_string();
    let unknown = Row::single(vec![1, 131]).unwrap();
    assert!(first_line(decoder.logits(&unknown)).contains("token 131 but the table has 131 rows"));
    let long = Row::single(vec![1; 65]).unwrap();
    assert!(first_line(decoder.logits(&long)).contains("position 64 but the context has 64"));
    assert!(decoder.trunk(&packed, &[4]).is_err(), "a position beyond the row");
    assert!(Row::single(vec![]).is_err());
    assert!(Row::new(vec![1, 2], &[]).is_err());
    assert!(message(Row::new(vec![1, 2, 3], &[0, 2])).contains("3 tokens but the offsets end at 2"));
}
