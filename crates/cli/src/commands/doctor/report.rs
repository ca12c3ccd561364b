//! What `outcrop doctor` shows: tables of at most 80 columns, or JSON.

use super::examination::{Examination, Op, Pass};
use crate::terminal;
use candle_core::DType;
use outcrop_kernels::case::check::tolerance;
use outcrop_kernels::device::{self, Listed};
use serde_json::{Value, json};

/// What the binary and the machine are, and a line per device.
pub(super) fn machine(devices: &[Listed]) -> String {
    let memory = outcrop_trainer::memory::available().map_or(String::new(), |free| {
        format!(", {} of memory free", terminal::bytes(free)) // of the CPU
    });
    let mut text = format!(
        "outcrop {} on {} {}: {}, {}{memory}\n\n",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::ARCH,
        std::env::consts::OS,
        device::instruction_set(),
        terminal::counted(threads() as u64, "thread"),
    );
    for listed in devices {
        text += &match &listed.device {
            Ok(_) => format!("  yes  {}\n", heading(listed)),
            Err(why) => format!("  no   {why}\n"),
        };
    }
    text
}

/// A device in a line.
pub(super) fn heading(listed: &Listed) -> String {
    let hardware = listed.hardware.as_ref().map_or(String::new(), |hardware| format!(": {hardware}"));
    let memory = match listed.device.as_ref().ok().and_then(device::free_memory) {
        Some(free) => format!(", {} free", terminal::bytes(free)),
        None => String::new(),
    };
    format!("{}{hardware}{memory}", listed.name)
}

/// A device's tables.
pub(super) fn tables(examination: &Examination) -> String {
    let mut text = String::new();
    for (dtype, limits) in &examination.limits {
        text += &format!(
            "copies {:.1} GB/s (read and written), {} products {:.0} GFLOP/s\n",
            limits.bytes_per_second / 1e9,
            dtype.as_str(),
            limits.flops_per_second / 1e9
        );
    }
    text += &format!(
        "\nLargest difference from the reference in f64 (allowed: f32 {:.0e}, bf16 {:.0e})\n",
        tolerance(DType::F32),
        tolerance(DType::BF16)
    );
    let rows = examination.ops.iter().map(|op| {
        let [narrow, wide] = [DType::BF16, DType::F32].map(|dtype| op.of(dtype));
        let shown = |difference: Option<f64>| difference.map_or(String::new(), |value| format!("{value:.1e}"));
        [
            op.name.to_string(),
            kernels(op),
            op.cases.to_string(),
            shown(wide.map(|found| found.forward)),
            shown(wide.and_then(|found| found.backward)),
            shown(narrow.map(|found| found.forward)),
            shown(narrow.and_then(|found| found.backward)),
        ]
    });
    text += &terminal::table(["op", "kernel", "cases", "forward", "backward", "bf16", "bf16 backward"], rows);
    for failure in examination.ops.iter().flat_map(|op| &op.failures) {
        text += &format!("FAIL {failure}\n");
    }
    text += "\nMedian milliseconds, and the share of the copy's or the product's rate\n\
        (more than 100 % where the data stays in caches)\n";
    let rows = examination.timings.iter().map(|timing| {
        let milliseconds = |pass: Pass| format!("{:.3}", pass.time.as_secs_f64() * 1e3);
        let share = |pass: Pass| format!("{:.0} %", pass.share * 100.0);
        let narrow = if timing.dtype == DType::F32 { String::new() } else { format!(" {}", timing.dtype.as_str()) };
        let of_backward = |f: &dyn Fn(Pass) -> String| timing.backward.map_or(String::new(), f);
        [
            format!("{}{narrow}", timing.op),
            timing.shape.clone(),
            milliseconds(timing.forward),
            share(timing.forward),
            of_backward(&milliseconds),
            of_backward(&share),
        ]
    });
    text + &terminal::table(["op", "shape", "forward", "", "backward", ""], rows)
}

/// `fused`, `reference`, or both: forward/backward.
fn kernels(op: &Op) -> String {
    let word = |fused| if fused { "fused" } else { "reference" };
    match op.fused {
        (forward, Some(backward)) if forward != backward => format!("{}/{}", word(forward), word(backward)),
        (forward, _) => word(forward).into(),
    }
}

/// Everything, for programs. A difference that isn't finite is a string.
pub(super) fn json(devices: &[Listed], examinations: &[Examination]) -> Value {
    let devices: Vec<Value> = devices
        .iter()
        .map(|listed| {
            let mut value = json!({
                "name": listed.name,
                "hardware": listed.hardware,
                "available": listed.device.is_ok(),
                "freeMemoryBytes": listed.device.as_ref().ok().and_then(device::free_memory),
                "problem": listed.device.as_ref().err(),
            });
            if let Some(examination) = examinations.iter().find(|examination| examination.device == listed.name) {
                value["limits"] = limits(examination);
                value["ops"] = examination.ops.iter().map(op).collect();
                value["timings"] = timings(examination);
            }
            value
        })
        .collect();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "platform": format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
        "instructionSet": device::instruction_set(),
        "threads": threads(),
        "freeMemoryBytes": outcrop_trainer::memory::available(),
        "tolerances": {"f32": tolerance(DType::F32), "bf16": tolerance(DType::BF16)},
        "devices": devices,
    })
}

fn limits(examination: &Examination) -> Value {
    let limits = examination.limits.iter().map(|(dtype, limits)| {
        json!({
            "dtype": dtype.as_str(),
            "copyBytesPerSecond": limits.bytes_per_second,
            "productFlopsPerSecond": limits.flops_per_second,
        })
    });
    limits.collect()
}

fn op(op: &Op) -> Value {
    let number = |value: f64| if value.is_finite() { json!(value) } else { json!(value.to_string()) };
    let largest = |dtype| {
        op.of(dtype).map(|found| json!({"forward": number(found.forward), "backward": found.backward.map(number)}))
    };
    let word = |fused| if fused { "fused" } else { "reference" };
    json!({
        "op": op.name,
        "cases": op.cases,
        "forwardKernel": word(op.fused.0),
        "backwardKernel": op.fused.1.map(word),
        "largestDifference": {"f32": largest(DType::F32), "bf16": largest(DType::BF16)},
        "failures": op.failures,
    })
}

fn timings(examination: &Examination) -> Value {
    let pass = |pass: Pass| json!({"seconds": pass.time.as_secs_f64(), "shareOfLimit": pass.share});
    let timings = examination.timings.iter().map(|timing| {
        json!({
            "op": timing.op,
            "shape": timing.shape,
            "dtype": timing.dtype.as_str(),
            "forward": pass(timing.forward),
            "backward": timing.backward.map(pass),
        })
    });
    timings.collect()
}

fn threads() -> usize {
    outcrop_kernels::device::threads()
}
