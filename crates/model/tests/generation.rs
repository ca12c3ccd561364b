//! Generation: the cache against full forward passes, where it ends, and what the seed decides.
#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod common;

use common::{fixture, load, message};
use outcrop_model::generate::{Finish, Options, generate, generate_batch, generate_each};
use outcrop_model::{Decoder, Row};

fn greedy(max_tokens: usize) -> Options {
    Options { max_tokens, ..Options::default() }
}

fn run(decoder: &Decoder, prompt: &[u32], options: &Options) -> (Vec<u32>, Finish) {
    let mut tokens = Vec::new();
    let finish = generate(decoder, prompt, options, |token| {
        tokens.push(token);
        true
    });
    (tokens, finish.unwrap())
}

#[test]
fn greedy_generation_with_the_cache_is_greedy_generation_without() {
    for (name, decoder) in common::fixture_decoders() {
        for (seed, length) in [(1, 1), (2, 2), (3, 17)] {
            let prompt = common::numbers(length, 131, seed);
            let mut row = prompt.clone();
            let new = (decoder.spec().max_position_embeddings - length).min(40); // past windows and original contexts
            for _ in 0..new {
                let logits = decoder.logits(&Row::single(row.clone()).unwrap()).unwrap();
                let last = logits.get(row.len() - 1).unwrap();
                row.push(last.argmax(0).unwrap().to_scalar().unwrap());
            }
            let (tokens, finish) = run(&decoder, &prompt, &greedy(new));
            assert_eq!(tokens, row[length..], "{name}, prompt of {length}");
            let full = length + new == decoder.spec().max_position_embeddings;
            assert_eq!(finish, if full { Finish::Context } else { Finish::Length }, "{name}, prompt of {length}");
        }
    }
}

#[test]
fn r34_a_batch_of_prompts_gives_each_the_text_it_has_alone() {
    for (name, decoder) in common::fixture_decoders() {
        // past windows and original contexts, and some that end while others go on
        let prompts: Vec<Vec<u32>> =
            [1, 17, 2, 30, 5].iter().map(|length| common::numbers(*length, 131, *length as u64)).collect();
        let options = Options { temperature: 1.0, stop: vec![3], ..greedy(24) };
        let alone: Vec<_> = prompts.iter().map(|prompt| run(&decoder, prompt, &options)).collect();
        for at_once in [1, 2, 5, 9] {
            let mut texts = vec![Vec::new(); prompts.len()];
            let mut ends = vec![None; prompts.len()];
            let on_token = |index: usize, token| {
                texts[index].push(token);
                true
            };
            generate_batch(&decoder, &prompts, &options, at_once, on_token, |index, end| ends[index] = Some(end))
                .unwrap();
            for (index, (tokens, finish)) in alone.iter().enumerate() {
                assert_eq!((&texts[index], ends[index]), (tokens, Some(*finish)), "{name}, {at_once} at once");
            }
        }
    }
    let decoder = load(&fixture("llama")).unwrap();
    let (mut made, mut ends) = ([0; 2], Vec::new());
    let cancel = |index: usize, _| {
        made[index] += 1;
        index == 1 || made[0] < 2
    };
    generate_batch(&decoder, &[vec![1], vec![2]], &greedy(4), 2, cancel, |index, end| ends.push((index, end))).unwrap();
    assert_eq!((made, ends), ([2, 4], vec![(0, Finish::Cancelled), (1, Finish::Length)]));
    let none: [Vec<u32>; 0] = [];
    generate_batch(&decoder, &none, &greedy(4), 2, |_, _| true, |_, _| ()).unwrap();
    let empty = generate_batch(&decoder, &[vec![1], vec![]], &greedy(4), 2, |_, _| true, |_, _| ());
    assert!(message(empty).contains("the prompt is empty"));
}

#[test]
fn r13_texts_side_by_side_are_those_that_each_prompt_gets_alone() {
    for (name, decoder) in common::fixture_decoders() {
        let context = decoder.spec().max_position_embeddings;
        let prompts: Vec<Vec<u32>> =
            [(1, 1), (2, 5), (3, 17), (4, 2)].map(|(seed, length)| common::numbers(length, 131, seed)).into();
        let alone: Vec<_> = prompts.iter().map(|prompt| run(&decoder, prompt, &greedy(context))).collect();
        // a token of the second text ends that one, and whichever has it
        let stop = alone[1].0[alone[1].0.len() / 2];
        let options = Options { stop: vec![stop], ..greedy(30.min(context - 18)) };
        let alone: Vec<_> = prompts.iter().map(|prompt| run(&decoder, prompt, &options)).collect();
        let views: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
        let mut made = vec![Vec::new(); prompts.len()];
        let finishes = generate_each(&decoder, &views, &options, |index, token| {
            made[index].push(token);
            index != 3 || made[3].len() < 2
        })
        .unwrap();
        for index in 0..3 {
            assert_eq!((&made[index], finishes[index]), (&alone[index].0, alone[index].1), "{name}, prompt {index}");
        }
        let cancelled = alone[3].0.len() >= 2;
        assert_eq!(made[3], alone[3].0[..alone[3].0.len().min(2)], "{name}");
        assert_eq!(finishes[3] == Finish::Cancelled, cancelled, "{name}: {:?}", finishes[3]);
    }
    let decoder = load(&fixture("llama")).unwrap();
    assert_eq!(generate_each(&decoder, &[], &greedy(3), |_, _| true).unwrap(), []);
    let error = message(generate_each(&decoder, &[&[1], &[]], &greedy(1), |_, _| true));
    assert_eq!(error, "generate: the prompt is empty; one token at least is needed");
}

#[test]
fn generation_ends_at_a_stop_token_the_length_the_context_or_a_cancel() {
    let decoder = load(&fixture("llama")).unwrap();
    let prompt = common::numbers(6, 131, 5);
    let (free, finish) = run(&decoder, &prompt, &greedy(1000));
    assert_eq!(finish, Finish::Context);
    assert_eq!(prompt.len() + free.len(), 64, "the context holds 64 tokens");
    assert_eq!(run(&decoder, &prompt, &greedy(0)), (vec![], Finish::Length));
    assert_eq!(run(&decoder, &prompt, &greedy(1)), (free[..1].to_vec(), Finish::Length));

    let stop = free[3];
    let first = free.iter().position(|&token| token == stop).unwrap();
    let options = Options { stop: vec![stop], ..greedy(1000) };
    assert_eq!(
        run(&decoder, &prompt, &options),
        (free[..first].to_vec(), Finish::Stop),
        "the stop token isn't passed on"
    );

    let mut seen = 0;
    let finish = generate(&decoder, &prompt, &greedy(1000), |_| {
        seen += 1;
        seen < 3
    });
    assert_eq!((seen, finish.unwrap()), (3, Finish::Cancelled));
}

#[test]
fn a_seed_repeats_its_sample_and_another_seed_gives_another() {
    let decoder = load(&fixture("llama")).unwrap();
    let prompt = common::numbers(4, 131, 7);
    for top_p in [1.0, 0.9] {
        let sample = |seed| run(&decoder, &prompt, &Options { temperature: 1.0, top_p, seed, ..greedy(30) }).0;
        assert_eq!(sample(1), sample(1));
        assert_ne!(sample(1), sample(2));
    }
    let narrow = Options { temperature: 1.0, top_p: 1e-6, ..greedy(30) };
    assert_eq!(
        run(&decoder, &prompt, &narrow),
        run(&decoder, &prompt, &greedy(30)),
        "a nucleus of one token is greedy"
    );
}

#[test]
fn r34_options_change_what_is_made() {
    let decoder = load(&fixture("llama")).unwrap();
    let prompt = common::numbers(4, 131, 7);
    let hot = Options { temperature: 2.0, seed: 3, ..greedy(30) };
    let likeliest = run(&decoder, &prompt, &greedy(30));
    assert_ne!(run(&decoder, &prompt, &hot), likeliest);
    for narrow in [Options { top_k: Some(1), ..hot.clone() }, Options { min_p: 1.0, ..hot.clone() }] {
        assert_eq!(run(&decoder, &prompt, &narrow), likeliest, "{narrow:?}");
    }
    let varied = run(&decoder, &prompt, &Options { repetition_penalty: 1e6, ..greedy(30) }).0;
    let mut different = varied.clone();
    different.sort_unstable();
    different.dedup();
    assert_eq!(different.len(), varied.len(), "nothing is said twice");
    assert_ne!(varied, likeliest.0);
}

#[test]
fn prompts_and_options_that_make_no_sense_are_errors() {
    let decoder = load(&fixture("llama")).unwrap();
    let error = |prompt: &[u32], options: &Options| message(generate(&decoder, prompt, options, |_| true));
    assert_eq!(error(&[], &greedy(1)), "generate: the prompt is empty; one token at least is needed");
    let full = "generate: the prompt has 64 tokens, which leaves no room in the context of 64; shorten it";
    assert_eq!(error(&[1; 64], &greedy(1)), full);
    assert_eq!(run(&decoder, &[1; 63], &greedy(5)).1, Finish::Context);
    for temperature in [-1.0, f64::NAN, f64::INFINITY] {
        let options = Options { temperature, ..greedy(1) };
        assert!(error(&[1], &options).contains("expected 0 or a positive number"));
    }
    for top_p in [0.0, -0.5, 1.1, f64::NAN] {
        let options = Options { top_p, ..greedy(1) };
        assert!(error(&[1], &options).contains("expected more than 0 and at most 1"));
    }
    for (options, told) in [
        (Options { min_p: 1.1, ..greedy(1) }, "min_p is `1.1`"),
        (Options { top_k: Some(0), ..greedy(1) }, "top_k is `0`"),
        (Options { repetition_penalty: 0.0, ..greedy(1) }, "the repetition penalty is `0`"),
    ] {
        assert!(error(&[1], &options).contains(told), "{}", error(&[1], &options));
    }
    let unknown = generate(&decoder, &[131], &greedy(1), |_| true).unwrap_err().to_string();
    assert!(unknown.contains("token 131 but the table has 131 rows"), "{unknown}");
}
