//! `cargo bench -p outcrop-kernels`: every op on the shapes of SmolLM2-135M in a row of 512 tokens, forward and
//! backward, on the CPU. The machine's limits are measured first; each op's median comes as GB/s or GFLOP/s and as a
//! share of them. `cargo bench -p outcrop-kernels -- rms_norm` runs a part.
#![allow(missing_docs)] // criterion's macros
#![allow(clippy::unwrap_used, clippy::print_stdout)] // a benchmark says what it found

use candle_core::{DType, Device};
use criterion::{Criterion, criterion_group, criterion_main};
use outcrop_kernels::case::timing::Limits;
use outcrop_kernels::case::{self, Cost, Set, check};
use std::time::{Duration, Instant};

/// As in the binary: glibc would fault in every fresh output page by page.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn benches(criterion: &mut Criterion) {
    let limits = Limits::measure(&Device::Cpu, DType::F32).unwrap();
    println!(
        "{}, {} threads: copies {:.1} GB/s (read and written), f32 products {:.1} GFLOP/s\n",
        outcrop_kernels::device::instruction_set(),
        outcrop_kernels::device::threads(),
        limits.bytes_per_second / 1e9,
        limits.flops_per_second / 1e9
    );
    for case in case::all(Set::Model) {
        let x = check::inputs(case.as_ref(), &Device::Cpu, DType::F32).unwrap();
        let [forward, backward] = case.cost();
        let name = |pass: &str| format!("{} {} {pass}", case.op(), case.shape());
        let mut pass = case.timed(&x).unwrap();
        measure(criterion, &name("forward"), &limits, forward, &mut || pass().unwrap());
        if case.is_differentiable() {
            let mut pass = case.timed_backward(&x).unwrap();
            measure(criterion, &name("backward"), &limits, backward, &mut || pass().unwrap());
        }
    }
}

fn measure(criterion: &mut Criterion, name: &str, limits: &Limits, cost: Cost, pass: &mut dyn FnMut()) {
    let mut samples = Vec::new();
    criterion.bench_function(name, |bencher| {
        bencher.iter_custom(|iterations| {
            let begin = Instant::now();
            (0..iterations).for_each(|_| pass());
            let took = begin.elapsed();
            samples.push(took / iterations as u32);
            took
        });
    });
    samples.sort();
    let Some(&median) = samples.get(samples.len() / 2) else { return }; // not chosen on the command line
    let seconds = median.as_secs_f64();
    let rate = match cost.flops {
        0 => format!("{:.1} GB/s", cost.bytes as f64 / seconds / 1e9),
        flops => format!("{:.1} GFLOP/s", flops as f64 / seconds / 1e9),
    };
    println!("{name}: {:.3} ms, {rate}, {:.0} % of the limit\n", seconds * 1e3, limits.share(cost, median) * 100.0);
}

criterion_group! {
    name = ops;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(500))
        .without_plots();
    targets = benches
}
criterion_main!(ops);
