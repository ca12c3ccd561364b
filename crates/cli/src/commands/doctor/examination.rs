//! One device, examined: every op against its reference, and times of the ops of a real model.

use candle_core::{DType, Device};
use outcrop_kernels::case::timing::{Limits, time};
use outcrop_kernels::case::{OpCase, check};
use std::time::Duration;

/// A time is taken over at least that long.
const AT_LEAST: Duration = Duration::from_millis(100);

/// What was found on one device.
pub(super) struct Examination {
    /// Its name.
    pub(super) device: String,
    /// What it can do, in f32, then in bf16 where products differ by type.
    pub(super) limits: Vec<(DType, Limits)>,
    /// Every op against its reference.
    pub(super) ops: Vec<Op>,
    /// Times.
    pub(super) timings: Vec<Timing>,
}

/// An op on all of its cases.
pub(super) struct Op {
    pub(super) name: &'static str,
    pub(super) cases: usize,
    /// Whether forward and backward have kernels of their own; None for an op without a backward pass.
    pub(super) fused: (bool, Option<bool>),
    /// The largest differences, by type.
    pub(super) largest: Vec<(DType, check::Differences)>,
    /// A line for each case that isn't near enough to its reference, or that didn't run.
    pub(super) failures: Vec<String>,
}

/// How long a case took.
pub(super) struct Timing {
    pub(super) op: &'static str,
    pub(super) shape: String,
    pub(super) dtype: DType,
    pub(super) forward: Pass,
    pub(super) backward: Option<Pass>,
}

/// A pass: its time, and the share of the device's limit that it reached.
#[derive(Clone, Copy)]
pub(super) struct Pass {
    pub(super) time: Duration,
    pub(super) share: f64,
}

/// Checks and times these cases. Errors: the device fails at what isn't an op.
pub(super) fn examine(
    name: &str,
    device: &Device,
    checked: &[Box<dyn OpCase>],
    timed: &[Box<dyn OpCase>],
) -> anyhow::Result<Examination> {
    // the CPU's kernels for 16 bits are those for f32 on widened values
    let timed_types: &[DType] = if device.is_cpu() { &[DType::F32] } else { &[DType::F32, DType::BF16] };
    let mut limits = Vec::new();
    for &dtype in timed_types {
        limits.push((dtype, Limits::measure(device, dtype)?));
    }
    let mut ops: Vec<Op> = Vec::new();
    for case in checked {
        if !ops.iter().any(|op| op.name == case.op()) {
            ops.push(Op::new(case.op()));
        }
        if let Some(op) = ops.iter_mut().find(|op| op.name == case.op()) {
            op.check(case.as_ref(), name, device);
        }
    }
    let mut timings = Vec::new();
    for (dtype, limits) in &limits {
        for case in timed {
            match timing(case.as_ref(), device, *dtype, limits) {
                Ok(timing) => timings.push(timing),
                Err(error) => {
                    let failure = format!("{} {} on {name}: {error}", case.op(), case.shape());
                    ops.iter_mut().filter(|op| op.name == case.op()).for_each(|op| op.failures.push(failure.clone()));
                }
            }
        }
    }
    Ok(Examination { device: name.into(), limits, ops, timings })
}

fn timing(case: &dyn OpCase, device: &Device, dtype: DType, limits: &Limits) -> candle_core::Result<Timing> {
    let times = time(case, device, dtype, AT_LEAST)?;
    let [forward, backward] = case.cost();
    let pass = |cost, time| Pass { time, share: limits.share(cost, time) };
    Ok(Timing {
        op: case.op(),
        shape: case.shape(),
        dtype,
        forward: pass(forward, times.forward),
        backward: times.backward.map(|time| pass(backward, time)),
    })
}

impl Op {
    fn new(name: &'static str) -> Self {
        Self { name, cases: 0, fused: (true, None), largest: Vec::new(), failures: Vec::new() }
    }

    /// Compares a case with its reference, in f32 and in bf16.
    fn check(&mut self, case: &dyn OpCase, device_name: &str, device: &Device) {
        self.cases += 1;
        for dtype in [DType::F32, DType::BF16] {
            let what = format!("{} {} on {device_name} in {}", self.name, case.shape(), dtype.as_str());
            let (found, fused) = match check::compare(case, device, dtype) {
                Ok(result) => result,
                Err(error) => {
                    self.failures.push(format!("{what}: {error}"));
                    continue;
                }
            };
            self.fused.0 &= fused[0];
            if case.is_differentiable() {
                self.fused.1 = Some(self.fused.1.unwrap_or(true) && fused[1]);
            }
            let allowed = check::tolerance(dtype);
            for (difference, subject) in [(Some(found.forward), "differs"), (found.backward, "its gradients differ")] {
                if let Some(difference) = difference.filter(|difference| *difference > allowed) {
                    self.failures.push(format!("{what}: {subject} by {difference:.1e}, allowed are {allowed:.0e}"));
                }
            }
            self.widen(dtype, found);
        }
    }

    fn widen(&mut self, dtype: DType, found: check::Differences) {
        match self.largest.iter_mut().find(|(known, _)| *known == dtype) {
            None => self.largest.push((dtype, found)),
            Some((_, largest)) => {
                largest.forward = largest.forward.max(found.forward);
                largest.backward = match (largest.backward, found.backward) {
                    (Some(a), Some(b)) => Some(a.max(b)),
                    (a, b) => a.or(b),
                };
            }
        }
    }

    /// The largest differences in that type.
    pub(super) fn of(&self, dtype: DType) -> Option<check::Differences> {
        self.largest.iter().find(|(known, _)| *known == dtype).map(|(_, found)| *found)
    }
}
