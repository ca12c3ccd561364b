//! How long an op takes, and which share of what the machine can do that is. The machine's limits are measured, not
//! looked up: the rate of copying in memory, and of a large matrix product.

use super::{Cost, OpCase, check};
use crate::matmul::{Matrix, multiply};
use candle_core::{DType, Device, Result, Tensor};
use rayon::prelude::*;
use std::time::{Duration, Instant};

/// Values of each buffer of the copy: 64 MiB of f32, beyond most caches.
const COPY_VALUES: usize = 16 << 20;
/// Rows, columns and inner dimension of the product, on the CPU and on a GPU.
const GEMM: (usize, usize) = (1024, 4096);
/// Measurements of a limit, of which the best counts.
const RUNS: usize = 5;

/// What a device can do, as measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Bytes read and written in a second by a copy.
    pub bytes_per_second: f64,
    /// Operations in a second of a matrix product of that type.
    pub flops_per_second: f64,
}

impl Limits {
    /// Measures them, in a second or two on a CPU. `dtype` is the product's; on the CPU all products are f32.
    pub fn measure(device: &Device, dtype: DType) -> Result<Self> {
        let n = if device.is_cpu() { GEMM.0 } else { GEMM.1 };
        let (copied, multiplied) = match device {
            Device::Cpu => (copy_on_cpu(), multiply_on_cpu(n)),
            _ => (copy_on(device)?, multiply_on(device, dtype, n)?),
        };
        Ok(Self {
            bytes_per_second: (2 * 4 * COPY_VALUES) as f64 / copied.as_secs_f64(),
            flops_per_second: 2.0 * (n as f64).powi(3) / multiplied.as_secs_f64(),
        })
    }

    /// The time the work needs at least over the time it took: 1 is the limit. More is possible where data stays in
    /// the caches.
    pub fn share(&self, cost: Cost, took: Duration) -> f64 {
        let moving = cost.bytes as f64 / self.bytes_per_second;
        let computing = cost.flops as f64 / self.flops_per_second;
        moving.max(computing) / took.as_secs_f64()
    }
}

/// Median times of one forward and of one backward pass.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Times {
    /// Forward, or the update of an optimizer.
    pub forward: Duration,
    /// Backward, where there is one.
    pub backward: Option<Duration>,
}

/// Times a case. Each pass runs once unmeasured, then for at least that long and five times.
pub fn time(case: &dyn OpCase, device: &Device, dtype: DType, at_least: Duration) -> Result<Times> {
    let x = check::inputs(case, device, dtype)?;
    let forward = median(device, at_least, &mut case.timed(&x)?)?;
    let mut backward = None;
    if case.is_differentiable() {
        backward = Some(median(device, at_least, &mut case.timed_backward(&x)?)?);
    }
    Ok(Times { forward, backward })
}

fn median(device: &Device, at_least: Duration, pass: &mut dyn FnMut() -> Result<()>) -> Result<Duration> {
    let mut once = || {
        let begin = Instant::now();
        pass()?;
        device.synchronize()?;
        Ok::<_, candle_core::Error>(begin.elapsed())
    };
    once()?;
    let (mut times, mut total) = (Vec::new(), Duration::ZERO);
    while times.len() < RUNS || total < at_least {
        let took = once()?;
        total += took;
        times.push(took);
    }
    times.sort();
    Ok(times[times.len() / 2])
}

/// The best of [`RUNS`], after one unmeasured.
fn best(mut run: impl FnMut() -> Result<()>) -> Result<Duration> {
    run()?;
    let mut best = Duration::MAX;
    for _ in 0..RUNS {
        let begin = Instant::now();
        run()?;
        best = best.min(begin.elapsed());
    }
    Ok(best)
}

fn copy_on_cpu() -> Duration {
    let (from, mut to) = (vec![1f32; COPY_VALUES], vec![0f32; COPY_VALUES]);
    let copy = || {
        to.par_chunks_mut(1 << 16).zip(from.par_chunks(1 << 16)).for_each(|(to, from)| to.copy_from_slice(from));
        std::hint::black_box(&mut to);
        Ok(())
    };
    best(copy).unwrap_or(Duration::MAX)
}

fn multiply_on_cpu(n: usize) -> Duration {
    let (a, b, mut c) = (vec![1f32; n * n], vec![1f32; n * n], vec![0f32; n * n]);
    let product = || {
        multiply((n, n, n), &mut c, false, Matrix::rows(&a, n), Matrix::columns(&b, n));
        std::hint::black_box(&mut c);
        Ok(())
    };
    best(product).unwrap_or(Duration::MAX)
}

fn copy_on(device: &Device) -> Result<Duration> {
    let from = Tensor::zeros(COPY_VALUES, DType::F32, device)?;
    best(|| {
        from.force_contiguous()?; // `copy` would share the buffer on Metal
        device.synchronize()
    })
}

fn multiply_on(device: &Device, dtype: DType, n: usize) -> Result<Duration> {
    let a = Tensor::ones((n, n), dtype, device)?;
    best(|| {
        a.matmul(&a)?;
        device.synchronize()
    })
}
