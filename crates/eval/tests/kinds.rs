//! Ranks and generated answers of the built-in base, against its logits and against generation one prompt at a time.
#![allow(clippy::unwrap_used)] // helpers of tests are tests

use candle_core::{DType, Device};
use outcrop_data::{SpecialTokens, TextTokenizer, encode_pair, encode_prompt};
use outcrop_eval::score::{ReplyEnd, Scores};
use outcrop_eval::{DecoderScorer, Suite, score};
use outcrop_model::generate::{Options, generate};
use outcrop_model::{Base, Decoder, Row};
use std::path::{Path, PathBuf};

const PAIRS: [(&str, &str); 6] = [
    ("He opened the", "door"),
    ("It was a cold day in the middle of", "winter and the river"),
    ("\"I do not know,\" said the old", "man"),
    ("The", "end"),
    ("Once upon a", "time"),
    ("She looked out of the window and saw the", "zebra"),
];

fn pebble() -> (Decoder, TextTokenizer) {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/base/pebble");
    let special = SpecialTokens { bos: None, add_bos: false, eos: 0 };
    let decoder = Base::open(&path).unwrap().load(DType::F32, &Device::Cpu).unwrap();
    let rows = decoder.spec().vocab_size;
    (decoder, TextTokenizer::from_file(&path.join("tokenizer.json"), special, rows).unwrap())
}

fn suite(header: &str) -> Suite {
    let line = |(prompt, completion): &(&str, &str)| {
        serde_json::json!({"prompt": prompt, "completion": completion}).to_string()
    };
    let lines: Vec<String> = std::iter::once(header.to_owned()).chain(PAIRS.iter().map(line)).collect();
    Suite::from_bytes(Path::new("set/items.jsonl"), lines.join("\n").as_bytes()).unwrap()
}

fn scores(suite: &Suite, max_batch_tokens: usize) -> Scores {
    let (decoder, tokenizer) = pebble();
    let mut scorer = DecoderScorer { decoder: &decoder, stop_tokens: &[] };
    score(suite, &tokenizer, 256, &mut scorer, max_batch_tokens, &mut |_, _| {}).unwrap()
}

#[test]
fn r13_the_rank_is_that_of_the_full_logits_whatever_shares_the_batch() {
    let suite = suite(r#"{"suite": "last words", "kind": "cloze"}"#);
    let together = scores(&suite, 4096);
    let alone = scores(&suite, 1);
    assert_eq!(together.items, alone.items, "bit for bit");
    let (decoder, tokenizer) = pebble();
    let mut ranks = Vec::new();
    for ((prompt, completion), found) in PAIRS.iter().zip(&together.items) {
        let pair = encode_pair(&tokenizer, prompt, completion).unwrap();
        let mut tokens = pair.example.tokens;
        tokens.pop(); // the end token
        let logits: Vec<Vec<f32>> = decoder.logits(&Row::single(tokens.clone()).unwrap()).unwrap().to_vec2().unwrap();
        let rank = |at: usize| {
            let (own, token) = (logits[at - 1][tokens[at] as usize], tokens[at] as usize);
            let ahead = |(other, logit): (usize, &f32)| *logit > own || (*logit == own && other < token);
            1 + logits[at - 1].iter().enumerate().filter(|pair| ahead(*pair)).count() as u32
        };
        let worst = (pair.prompt_length..tokens.len()).map(rank).max();
        assert_eq!(found.rank, worst, "{prompt} {completion}");
        assert_eq!(found.targets, tokens.len() - pair.prompt_length);
        // rank 1 is where greedy generation gives it
        let (mut made, count) = (Vec::new(), tokens.len() - pair.prompt_length);
        let options = Options { max_tokens: count, ..Options::default() };
        generate(&decoder, &tokens[..pair.prompt_length], &options, |token| {
            made.push(token);
            true
        })
        .unwrap();
        assert_eq!(made == tokens[pair.prompt_length..], worst == Some(1), "{prompt} {completion}");
        ranks.extend(worst);
    }
    assert!(ranks.contains(&1) && ranks.iter().any(|rank| *rank > 100), "{ranks:?}");
}

#[test]
fn r13_an_answer_is_what_the_prompt_alone_gets_and_stop_tokens_end_it() {
    let suite = suite(r#"{"suite": "answers", "kind": "generate", "max_tokens": 24}"#);
    let together = scores(&suite, 4096);
    assert_eq!(together.items, scores(&suite, 1).items, "bit for bit");
    let (decoder, tokenizer) = pebble();
    let mut texts = Vec::new();
    for ((prompt, _), item) in PAIRS.iter().zip(&together.items) {
        let prompt = encode_prompt(&tokenizer, prompt).unwrap();
        let options = Options { max_tokens: 24, stop: vec![tokenizer.eos()], ..Options::default() };
        let mut made = Vec::new();
        generate(&decoder, &prompt, &options, |token| {
            made.push(token);
            true
        })
        .unwrap();
        let reply = item.reply.as_ref().unwrap();
        assert_eq!((reply.text.clone(), reply.tokens), (tokenizer.decode(&made).unwrap(), made.len()));
        texts.push(made);
    }
    // a token that the base's configuration names ends an answer like the end token
    let third = texts[0][2];
    let mut scorer = DecoderScorer { decoder: &decoder, stop_tokens: &[third] };
    let stopped = score(&suite, &tokenizer, 256, &mut scorer, 4096, &mut |_, _| {}).unwrap();
    let reply = stopped.items[0].reply.as_ref().unwrap();
    let first = texts[0].iter().position(|token| *token == third).unwrap();
    assert_eq!((reply.end, reply.tokens), (ReplyEnd::Stop, first));
}
