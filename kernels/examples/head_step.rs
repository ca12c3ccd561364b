//! Times the head's step against a copy and against the written gradient: `cargo run --release -p outcrop-kernels --example head_step [V C]`.

#![allow(clippy::print_stdout, clippy::unwrap_used)]

use candle_core::{DType, Device, Tensor};
use outcrop_kernels::{Gradients, adamw, global_norm, head_loss, head_step, update, view};
use std::time::Instant;

/// Median seconds of nine runs.
fn median(mut f: impl FnMut()) -> f64 {
    f();
    let mut seconds: Vec<f64> = (0..9)
        .map(|_| {
            let begin = Instant::now();
            f();
            begin.elapsed().as_secs_f64()
        })
        .collect();
    seconds.sort_by(f64::total_cmp);
    seconds[4]
}

fn main() {
    let sizes: Vec<usize> = std::env::args().skip(1).filter_map(|text| text.parse().ok()).collect();
    let (v, c) = if let [v, c] = sizes[..] { (v, c) } else { (49_152, 576) };
    let tensor = |rows, columns| Tensor::randn(0f32, 0.05, (rows, columns), &Device::Cpu).unwrap();
    let (weight, first, second) = (tensor(v, c), tensor(v, c), tensor(v, c).abs().unwrap());
    let copy = median(|| {
        use rayon::prelude::*;
        let from = view(&first).unwrap();
        let from: &[f32] = &from;
        update("copy", &weight, |to| {
            to.par_chunks_mut(1 << 16).zip(from.par_chunks(1 << 16)).for_each(|(to, from)| to.copy_from_slice(from));
            Ok(())
        })
        .unwrap();
    });
    let bandwidth = 8.0 * (v * c) as f64 / copy;
    println!("copy {:.1} GB/s, {v} x {c}, {} threads", bandwidth / 1e9, rayon::current_num_threads());
    let mut gradients = Gradients::for_weights([("head", &weight)]).unwrap();
    let (mut m, mut s) = (first.zeros_like().unwrap(), first.zeros_like().unwrap());
    assert_eq!(weight.dtype(), DType::F32);
    for k in [2usize, 4, 8, 16, 32, 64, 128, 256] {
        let (h, targets) = (tensor(k, c), (0..k as u32).collect::<Vec<_>>());
        let numbers = adamw::Update {
            learning_rate: 1e-4,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.0,
            step: 10,
            gradient_scale: 0.5,
        };
        let scale = 1.0 / k as f32;
        let forward = median(|| drop(head_step::forward(&h, &weight, &targets, scale, Default::default()).unwrap()));
        let factors = head_step::forward(&h, &weight, &targets, scale, Default::default()).unwrap();
        let norm = median(|| assert!(factors.norm().unwrap().is_finite()));
        let step = median(|| head_step::step(&weight, &first, &second, &factors, &numbers).unwrap());
        let written = median(|| {
            gradients.clear();
            let gradient = gradients.get_mut("head");
            head_loss::forward_backward(&h, &weight, &targets, scale, Default::default(), false, gradient).unwrap();
            global_norm::global_norm(&gradients).unwrap();
            adamw::step(&weight, &mut m, &mut s, gradients.get("head").unwrap().tensor(), &numbers).unwrap();
        });
        let share = 24.0 * (v * c) as f64 / step / bandwidth;
        let (all, ratio) = (forward + norm + step, written / (forward + norm + step));
        println!(
            "k {k:>3}: loss {:5.1} ms, norm {:5.2} ms, pass {:5.1} ms ({:.0} % of copy); all {:5.1} ms, gradient written {:5.1} ms, {ratio:.2}x",
            forward * 1e3,
            norm * 1e3,
            step * 1e3,
            share * 100.0,
            all * 1e3,
            written * 1e3
        );
    }
}
