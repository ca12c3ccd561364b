//! The decoder's forward and backward pass as a whole: packing, splits, recomputation, partial training, threads.
#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod common;

use candle_core::IndexOp;
use common::{bits, config, fixture, gradients, largest, load, message, random_decoder, row};
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

fn decoders() -> [Decoder; 3] {
    [
        load(&fixture("llama")).unwrap(),
        load(&fixture("llama3-scaled")).unwrap(),
        random_decoder(&config(500, 128, 352, 2, true), 1),
    ]
}

/// Logits and losses of a packed row against those of its documents alone.
fn packed_equals_alone(decoder: &Decoder) {
    let vocabulary = decoder.spec().vocab_size as u32;
    let lengths = [7, 1, 33, 2, 16, 1, 50];
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
            "document of {length} tokens at {start}: logits differ by {difference:e}"
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
    packed_equals_alone(&random_decoder(&config(500, 288, 352, 2, true), 1));
}

#[test]
fn r10_a_packed_row_is_its_documents_alone_bit_for_bit_in_narrow_models_too() {
    decoders().iter().for_each(packed_equals_alone);
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
    for decoder in decoders() {
        let rows = [row(&[20, 1, 43], decoder.spec().vocab_size as u32, 7)];
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
    for decoder in decoders() {
        let vocabulary = decoder.spec().vocab_size as u32;
        let lengths = [13u32, 40, 2, 9];
        let (packed, targets) = row(&lengths, vocabulary, 11);
        let tokens = common::numbers(64, vocabulary, 11);
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
                assert!(difference <= 1e-6, "`{name}` differs by {difference:e} of its largest value");
            }
        }
        println!("gradients of splits differ by {worst:.1e} of the largest value");
    }
}

#[test]
fn weights_that_train_alone_get_the_gradients_of_the_full_run_bit_for_bit() {
    for mut decoder in decoders() {
        decoder.untie_head().unwrap();
        let vocabulary = decoder.spec().vocab_size as u32;
        let last = format!("model.layers.{}.", decoder.spec().num_hidden_layers - 1);
        let rows = [row(&[20, 31], vocabulary, 13)];
        let (loss, full) = gradients(&decoder, &rows, Recompute::Nothing, all);
        let parts: [(&str, Trains, usize); 6] = [
            ("head", &|name| name == "lm_head.weight", 1),
            ("final norm", &|name| name == "model.norm.weight", 1),
            ("last block", &|name| name.starts_with(&last), 9),
            ("one matrix of the first block", &|name| name == "model.layers.0.self_attn.k_proj.weight", 1),
            ("embedding", &|name| name == "model.embed_tokens.weight", 1),
            (
                "head and first norm",
                &|name| name == "lm_head.weight" || name == "model.layers.0.input_layernorm.weight",
                2,
            ),
        ];
        for (what, trains, count) in parts {
            for recompute in [Recompute::Nothing, Recompute::Block, Recompute::Group] {
                let (part_loss, part) = gradients(&decoder, &rows, recompute, trains);
                assert_eq!(part_loss, loss, "{what}");
                assert_eq!(part.len(), count, "{what}");
                same_bits(&full, &part, what);
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
    let mut decoder = load(&fixture("llama")).unwrap();
    let (packed, targets) = row(&[30, 20], 131, 23);
    let before = decoder.logits(&packed).unwrap();
    let embedding = bits(decoder.weights()[0].1);
    assert_eq!(decoder.spec().head_name(), "model.embed_tokens.weight");
    decoder.untie_head().unwrap();
    assert_eq!(decoder.spec().head_name(), "lm_head.weight");
    assert_eq!(bits(&decoder.logits(&packed).unwrap()), bits(&before), "untying changes nothing by itself");

    let (_, gradient) =
        gradients(&decoder, &[(packed.clone(), targets)], Recompute::Nothing, |n| n == "lm_head.weight");
    let gradient: Vec<f32> = gradient["lm_head.weight"].flatten_all().unwrap().to_vec1().unwrap();
    let (name, head) = decoder.weights().pop().unwrap();
    assert_eq!(name, "lm_head.weight");
    outcrop_kernels::update("test step", head, |values| {
        values.iter_mut().zip(&gradient).for_each(|(value, gradient)| *value -= gradient);
        Ok(())
    })
    .unwrap();
    assert_eq!(bits(decoder.weights()[0].1), embedding);
    assert_ne!(bits(&decoder.logits(&packed).unwrap()), bits(&before), "the head must have changed");
    let count = decoder.weights().len();
    decoder.untie_head().unwrap();
    assert_eq!(decoder.weights().len(), count, "untying twice does nothing");
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
