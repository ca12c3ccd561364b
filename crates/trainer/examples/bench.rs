//! Our side of `benches/run`: the work of `benches/peer.py`, and what this machine can do at most.
//!
//!   bench full    --model DIR --text FILE --seq 512 --batch 1 --steps 6 --lr 2e-5 [--recompute none|block|group]
//!   bench forward --model DIR --text FILE --seq 512 --batch 8 --steps 3
//!   bench adamw   --model DIR --steps 6
//!   bench limits  --model DIR --seq 512 --batch 1
//!   bench full|forward --layers N ...    random weights, the model's other sizes: for the scaling table
//!
//! Prints one JSON object. `limits` measures the `gemm` crate on every shape of the model's matrix products, and the
//! bandwidth of a copy.
#![allow(clippy::print_stdout, reason = "a bench prints")]
#![allow(clippy::unwrap_used, reason = "a bench stops at once where something is wrong")]

use candle_core::{DType, Device, Tensor};
use outcrop_data::Batch;
use outcrop_kernels::{Gradients, pool};
use outcrop_model::{Base, Decoder, Recompute, Row, Spec, Weights};
use outcrop_trainer::{Optimizer, OptimizerSettings, Rule, step};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    outcrop_kernels::allocator::keep_freed_pages();
    let mut arguments = std::env::args().skip(1);
    let mode = arguments.next().unwrap_or_default();
    let mut options = HashMap::new();
    while let (Some(key), Some(value)) = (arguments.next(), arguments.next()) {
        options.insert(key.trim_start_matches("--").to_string(), value);
    }
    let options = Options(options);
    let mut result = match mode.as_str() {
        "full" => full(&options),
        "forward" => forward(&options),
        "adamw" => adamw(&options),
        "limits" => limits(&options),
        _ => panic!("full, forward, adamw or limits, got `{mode}`"),
    };
    result["threads"] = json!(rayon::current_num_threads());
    result["peak_rss_mb"] = json!(peak_memory_mb());
    println!("{result}");
}

struct Options(HashMap<String, String>);

impl Options {
    fn text(&self, key: &str) -> &str {
        self.0.get(key).unwrap_or_else(|| panic!("--{key} is needed"))
    }

    fn number(&self, key: &str, default: f64) -> f64 {
        self.0.get(key).map_or(default, |value| value.parse().unwrap())
    }

    fn count(&self, key: &str, default: usize) -> usize {
        self.number(key, default as f64) as usize
    }

    fn base(&self) -> Base {
        Base::open(Path::new(self.text("model"))).unwrap()
    }

    /// The base as it is, or with `--layers` blocks of random weights.
    fn decoder(&self, base: &Base) -> Decoder {
        if !self.0.contains_key("layers") {
            return base.load(DType::F32, &Device::Cpu).unwrap();
        }
        let layers = self.count("layers", 0);
        let layer = base.spec().layers[0];
        let spec = Spec { num_hidden_layers: layers, layers: vec![layer; layers], ..base.spec().clone() };
        let spec = Spec { vocab_size: self.count("vocabulary", spec.vocab_size), ..spec };
        let tensors = spec.tensors().into_iter().map(|(name, shape)| {
            let values = (0..shape.iter().product::<usize>()).map(|i| {
                let bits = (i as u32).wrapping_mul(2_654_435_761).wrapping_add(12_345) >> 8;
                if shape.len() == 1 { 1.0 } else { (bits as f32 / (1 << 24) as f32 - 0.5) * 0.1 }
            });
            (name, Tensor::from_iter(values, &Device::Cpu).unwrap().reshape(shape.clone()).unwrap())
        });
        let weights: Weights = tensors.collect();
        Decoder::new(spec, &weights, &Device::Cpu).unwrap()
    }

    /// Rows of `seq` tokens in the order of the text, `batch` of them a step, every token but a row's first a target.
    fn batches(&self, base: &Base, vocabulary: usize) -> Vec<Batch> {
        let tokenizer = base.tokenizer().unwrap();
        let text = fs_err::read_to_string(self.text("text")).unwrap();
        let mut tokens: Vec<u32> = tokenizer.encode(text, false).unwrap().get_ids().to_vec();
        tokens.iter_mut().for_each(|token| *token %= vocabulary as u32);
        let (seq, batch, steps) = (self.count("seq", 512), self.count("batch", 1), self.count("steps", 6));
        let offsets: Vec<u32> = (0..=batch).map(|row| (row * seq) as u32).collect();
        let targets: Vec<u32> = (0..batch).flat_map(|row| (row * seq..(row + 1) * seq - 1).map(|p| p as u32)).collect();
        assert!(tokens.len() >= steps * batch * seq, "a longer text is needed: {} tokens", steps * batch * seq);
        let mut tokens = tokens.into_iter();
        let rows = (0..steps).map(|_| tokens.by_ref().take(batch * seq).collect());
        rows.map(|tokens| Batch { tokens, offsets: offsets.clone(), targets: targets.clone() }).collect()
    }
}

/// Steps with an update of every weight.
fn full(options: &Options) -> Value {
    let base = options.base();
    let decoder = options.decoder(&base);
    let recompute = match options.0.get("recompute").map_or("none", String::as_str) {
        "none" => Recompute::Nothing,
        "block" => Recompute::Block,
        "group" => Recompute::Group,
        other => panic!("--recompute none, block or group, got `{other}`"),
    };
    let weights = decoder.weights();
    let mut gradients = Gradients::for_weights(weights.clone()).unwrap();
    let mut optimizer = Optimizer::new(adamw_settings(), weights.clone(), &[]).unwrap();
    let (mut losses, mut seconds, mut parts) = (Vec::new(), Vec::new(), Vec::new());
    for batch in options.batches(&base, decoder.spec().vocab_size) {
        let begin = Instant::now();
        let result = step::gradient(&decoder, &[batch], 1.0, recompute, &mut gradients).unwrap();
        let between = begin.elapsed().as_secs_f64();
        let rate = options.number("lr", 2e-5);
        pool::run(|| optimizer.update(weights.clone(), &gradients, rate, result.clip_factor)).unwrap();
        seconds.push(begin.elapsed().as_secs_f64());
        parts.push(between);
        losses.push(result.loss);
    }
    let tokens = (options.count("seq", 512) * options.count("batch", 1)) as f64;
    json!({"losses": losses, "seconds_per_step": seconds, "seconds_of_gradient": parts,
           "tokens_per_second": tokens / median(&seconds[1..])})
}

/// The loss alone, as evaluation computes it.
fn forward(options: &Options) -> Value {
    let base = options.base();
    let decoder = options.decoder(&base);
    let (mut losses, mut seconds) = (Vec::new(), Vec::new());
    for batch in options.batches(&base, decoder.spec().vocab_size) {
        let begin = Instant::now();
        let row = Row::new(batch.tokens, &batch.offsets).unwrap();
        let nll = pool::run(|| decoder.nll(&row, &batch.targets)).unwrap();
        seconds.push(begin.elapsed().as_secs_f64());
        losses.push(nll.iter().map(|&x| f64::from(x)).sum::<f64>() / nll.len() as f64);
    }
    let tokens = (options.count("seq", 512) * options.count("batch", 1)) as f64;
    json!({"losses": losses, "seconds_per_step": seconds, "tokens_per_second": tokens / median(&seconds[1..])})
}

/// Updates alone.
fn adamw(options: &Options) -> Value {
    let base = options.base();
    let decoder = options.decoder(&base);
    let weights = decoder.weights();
    let mut gradients = Gradients::for_weights(weights.clone()).unwrap();
    for (name, weight) in &weights {
        gradients.get_mut(name).unwrap().add(&(*weight * 1e-3).unwrap()).unwrap();
    }
    let mut optimizer = Optimizer::new(adamw_settings(), weights.clone(), &[]).unwrap();
    let seconds: Vec<f64> = (0..options.count("steps", 6))
        .map(|_| {
            let begin = Instant::now();
            pool::run(|| optimizer.update(weights.clone(), &gradients, 1e-5, 1.0)).unwrap();
            begin.elapsed().as_secs_f64()
        })
        .collect();
    let bytes = 28.0 * decoder.spec().num_parameters() as f64; // reads p, m, v, g and writes p, m, v
    json!({"seconds_per_step": seconds, "gb_per_second": bytes / median(&seconds[1..]) / 1e9})
}

fn adamw_settings() -> OptimizerSettings {
    let rule = Rule::AdamW { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, quantized: false };
    OptimizerSettings { rule, weight_decay: 0.0 }
}

/// Seconds that the matrix products of a step take at the `gemm` crate's own speed, and the bandwidth of a copy.
fn limits(options: &Options) -> Value {
    let base = options.base();
    let spec = base.spec();
    let (seq, batch) = (options.count("seq", 512), options.count("batch", 1));
    let (c, f, v, d) = (spec.hidden_size, spec.intermediate_size, spec.vocab_size, spec.head_dim);
    let (q, kv) = (spec.num_attention_heads * d, spec.num_key_value_heads * d);
    let (tokens, layers) = (seq * batch, spec.num_hidden_layers);
    let (mut forward, mut step, mut head, mut shapes) = (0.0, 0.0, 0.0, serde_json::Map::new());
    let mut flops = 0.0;
    // each weight's product y = x w^T, and the two of its backward pass
    let weights = [
        ("q", q, c, layers),
        ("kv", kv, c, 2 * layers),
        ("o", c, q, layers),
        ("up", f, c, 2 * layers),
        ("down", c, f, layers),
        ("head", v, c, 1),
    ];
    for (name, out, inner, count) in weights {
        let rows = if name == "head" { tokens.min(256) } else { tokens };
        let times = count as f64 * tokens as f64 / rows as f64;
        let products = [
            product((rows, out, inner), (inner, 1), (1, inner)),
            product((rows, inner, out), (out, 1), (inner, 1)),
            product((out, inner, rows), (1, out), (inner, 1)),
        ];
        let work = 2.0 * (rows * out * inner) as f64;
        shapes.insert(name.into(), json!(products.map(|seconds| (work / seconds / 1e9).round())));
        forward += times * products[0];
        if name == "head" {
            head = times * products[0];
        }
        step += times * products.iter().sum::<f64>();
        flops += times * 3.0 * work;
    }
    // attention: two causal products forward, five backward (scores again, dP, dq, dk, dv), each half of (seq, seq)
    let score = product((seq, seq, d), (d, 1), (1, d));
    let value = product((seq, d, seq), (seq, 1), (d, 1));
    let heads = (spec.num_attention_heads * layers * batch) as f64 / 2.0;
    shapes.insert("attention".into(), json!([score, value].map(|s| (2.0 * (seq * seq * d) as f64 / s / 1e9).round())));
    forward += heads * (score + value);
    step += heads * (3.0 * score + 4.0 * value);
    flops += heads * 7.0 * 2.0 * (seq * seq * d) as f64;
    let copy = copy_bandwidth();
    json!({"forward_seconds": forward, "trunk_seconds": forward - head, "step_seconds": step, "step_gflop": flops / 1e9, "gflop_per_second": shapes,
           "copy_gb_per_second": copy})
}

/// Seconds of one product of the `gemm` crate on all threads, the median of several.
fn product((m, n, k): (usize, usize, usize), a_strides: (usize, usize), b_strides: (usize, usize)) -> f64 {
    let (a, b, mut dst) = (vec![0.5f32; m * k], vec![0.25f32; k * n], vec![0f32; m * n]);
    let times = if m * n * k > 1 << 30 { 5 } else { 15 };
    let seconds: Vec<f64> = (0..times)
        .map(|_| {
            let begin = Instant::now();
            // SAFETY: the buffers hold m x k, k x n and m x n values in these strides.
            #[allow(unsafe_code, reason = "the crate that is measured takes pointers")]
            unsafe {
                gemm::gemm(
                    m,
                    n,
                    k,
                    dst.as_mut_ptr(),
                    1,
                    n as isize,
                    false,
                    a.as_ptr(),
                    a_strides.1 as isize,
                    a_strides.0 as isize,
                    b.as_ptr(),
                    b_strides.1 as isize,
                    b_strides.0 as isize,
                    1.0,
                    1.0,
                    false,
                    false,
                    false,
                    gemm::Parallelism::Rayon(0),
                );
            }
            black_box(&dst);
            begin.elapsed().as_secs_f64()
        })
        .collect();
    median(&seconds)
}

/// Bytes read and written per second by a copy of 256 MiB on all threads.
fn copy_bandwidth() -> f64 {
    use rayon::prelude::*;
    let (from, mut to) = (vec![1f32; 64 << 20], vec![2f32; 64 << 20]);
    let seconds: Vec<f64> = (0..7)
        .map(|_| {
            let begin = Instant::now();
            to.par_chunks_mut(1 << 20).zip(from.par_chunks(1 << 20)).for_each(|(to, from)| to.copy_from_slice(from));
            black_box(&to);
            begin.elapsed().as_secs_f64()
        })
        .collect();
    8.0 * from.len() as f64 / median(&seconds) / 1e9
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The most memory that this process held, where the platform says.
fn peak_memory_mb() -> Option<f64> {
    let status = fs_err::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<f64>().ok()? / 1024.0)
}
