//! Our side of `tests/interop/lm_eval_choices.py`: the NLL of every choice of a suite, in f32 on the CPU.
//!
//!   choices MODEL_FOLDER SUITE
//!
//! Prints one JSON object an item. Comparing and reporting are left out: `outcrop eval` does that.
#![allow(clippy::print_stdout, reason = "its output is what the script reads")]

use candle_core::{DType, Device};
use outcrop_eval::{DecoderScorer, Suite, score};
use outcrop_model::Base;
use outcrop_trainer::base::text_tokenizer;
use std::error::Error;
use std::path::Path;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const BATCH_TOKENS: usize = 2048;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, suite] = arguments.as_slice() else { return Err("usage: choices MODEL_FOLDER SUITE".into()) };
    let (base, suite) = (Base::open(Path::new(model))?, Suite::load(Path::new(suite))?);
    let tokenizer = text_tokenizer(&base, None)?;
    let decoder = base.load(DType::F32, &Device::Cpu)?;
    let context = base.spec().max_position_embeddings;
    let scores = score(
        &suite,
        &tokenizer,
        context,
        &mut DecoderScorer { decoder: &decoder, stop_tokens: &[] },
        BATCH_TOKENS,
        &mut |_, _| {},
    )?;
    for item in &scores.items {
        println!("{}", serde_json::to_string(item)?);
    }
    Ok(())
}
