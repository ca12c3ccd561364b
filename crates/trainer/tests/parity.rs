//! The engine against `transformers` on the fixtures of tests/parity: logits, loss, every gradient, packed logits,
//! and both training curves. `OUTCROP_PARITY` names another folder of fixtures (tests/parity/generate.py makes them),
//! `OUTCROP_TEST_DEVICE` another device than the CPU.
#![allow(clippy::unwrap_used, clippy::print_stdout)] // helpers of tests are tests

use candle_core::{DType, Device, IndexOp, Tensor};
use outcrop_data::Batch;
use outcrop_job::hyperparameters::Schedule as ScheduleKind;
use outcrop_kernels::Gradients;
use outcrop_model::{Base, Decoder, Recompute, Row};
use outcrop_trainer::{Optimizer, OptimizerSettings, Rule, Schedule, step};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Tolerances of f32 on the CPU. Logits are absolute, gradients relative to the tensor's largest, curves relative.
const LOGITS: f64 = 1e-4;
const LOSS: f64 = 1e-5;
const GRADIENT: f64 = 1e-4;
const CURVE_LOSS: f64 = 2e-6;
const CURVE_NORM: f64 = 1e-5;

/// AdamW moves a weight whose gradient is rounding noise by as much as any other, so a curve can be decided by last bits:
/// transformers' own f32 curve of mistral (seed 2, width 2: its window barely reaches some tokens) is 4.5e-5 from its
/// f64 curve, OLMo 2's (seed 2, width 4) 2e-5 in the norm. Where a curve is over its tolerance, it is held to this
/// multiple of the largest change that it shows when every weight is moved by its last bit, at random.
const CURVE_OVER_LAST_BIT: f64 = 4.0;
const LAST_BIT_TRIALS: u64 = 4;

/// Tolerances of bf16 weights with f32 masters on the CPU, against the same f32 goldens. Cosine of all logits and NLL
/// (nats) are those of the parity protocol; gradients are relative to the tensor's largest. What a curve may differ by
/// grows with the width, so it is held to a multiple of its floor: the same curve with the weights rounded to bf16 and
/// all else in f32. Measured on seeds 1 to 6 at widths 1 and 3: cosine 0.99996, NLL 1.4e-3, gradients 2.2e-2, curve 0.7
/// to 2.4 times its floor of 4e-5 to 5e-4.
///
/// Norms behind a branch amplify the rounding of what they read, so bf16 itself comes near a tolerance there. Each figure may
/// instead be a multiple of what the weights' rounding alone does, all else in f32, or of what bf16 does to transformers' own
/// model, whose figures `bf16.json` holds: OLMo 2 of seed 1 and width 2 has cosine 0.99973, gradients 1.1e-1 and a curve of 1.2e-3
/// there, Gemma 3 0.99984, 4.4e-2 and 1.1e-3.
const BF16_COSINE: f64 = 0.9999;
const BF16_NLL: f64 = 5e-3;
const BF16_GRADIENT: f64 = 0.05;
const BF16_OVER_FLOOR: f64 = 4.0;
const BF16_OVER_THEIRS: f64 = 2.0;

type Tensors = HashMap<String, Tensor>;

/// Where the model runs.
fn device() -> Device {
    outcrop_kernels::device::open(&std::env::var("OUTCROP_TEST_DEVICE").unwrap_or_else(|_| "cpu".into())).unwrap()
}

/// In f64, which not every device has.
fn on_cpu(tensor: &Tensor) -> Tensor {
    tensor.to_device(&Device::Cpu).unwrap().to_dtype(DType::F64).unwrap()
}

/// The fixtures' folders.
fn families() -> Vec<PathBuf> {
    let folder = std::env::var_os("OUTCROP_PARITY")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/parity"), PathBuf::from);
    let entries = fs_err::read_dir(&folder).expect("the fixtures' folder is missing");
    let mut families: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect();
    families.sort();
    assert!(!families.is_empty(), "no fixtures in {}", folder.display());
    families
}

#[test]
fn parity_with_transformers_on_every_fixture() {
    families().iter().for_each(|family| check_family(family));
}

#[test]
fn parity_in_bf16_with_f32_masters() {
    for folder in families() {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        let theirs = transformers_in_bf16(&folder, &name);
        let theirs = |key: &str| theirs[key].as_f64().unwrap();
        let base = Base::open(&folder).unwrap();
        let load = |dtype| base.load(dtype, &device()).unwrap();
        let expected = candle_core::safetensors::load(folder.join("expected.safetensors"), &Device::Cpu).unwrap();
        let batches = candle_core::safetensors::load(folder.join("batches.safetensors"), &Device::Cpu).unwrap();
        let curves: serde_json::Value =
            serde_json::from_str(&fs_err::read_to_string(folder.join("curves.json")).unwrap()).unwrap();
        let decoder = load(DType::BF16);
        let cosine = cosine(&decoder, &expected);
        let floor = self::cosine(&widened(&decoder), &expected);
        let (loss, gradient, worst) = gradient_difference(&decoder, &expected);
        let gradient_floor = gradient_difference(&widened(&decoder), &expected).1;
        // an optimizer changes its masters in place: each curve has its own
        let masters = || -> Vec<(String, Tensor)> {
            load(DType::F32).weights().into_iter().map(|(name, tensor)| (name.to_string(), tensor.clone())).collect()
        };
        let difference = |widened| {
            difference(
                &curve(load(DType::BF16), &batches, &curves, false, &masters(), widened),
                &golden(&curves, "all"),
            )
            .0
        };
        let (curve, curve_floor) = (difference(false), difference(true));
        assert!(curve_floor > 0.0, "{name}: the rounding of the weights changes nothing");
        let nll = loss * f64::from(expected["loss"].to_scalar::<f32>().unwrap());
        println!(
            "{name} bf16: loss {nll:.1e} nats, worst gradient {worst}; ours, rounded weights alone, transformers:"
        );
        assert!(nll > 0.0 && nll <= BF16_NLL, "{name}: the loss differs by {nll:e} nats");
        for (what, ours, floor, theirs, tolerance) in [
            ("1 - cosine", 1.0 - cosine, 1.0 - floor, theirs("one_minus_cosine"), 1.0 - BF16_COSINE),
            ("gradients", gradient, gradient_floor, theirs("gradients"), BF16_GRADIENT),
            ("curve", curve, curve_floor, theirs("curve"), 0.0),
        ] {
            println!("{name} bf16 {what}: {ours:.1e}, {floor:.1e}, {theirs:.1e}");
            let bound = tolerance.max(BF16_OVER_FLOOR * floor).max(BF16_OVER_THEIRS * theirs);
            assert!(ours <= bound, "{name}: {what} is {ours:e}, allowed are {bound:e}");
        }
    }
}

/// What bf16 does to transformers' own model of a fixture; fixtures made without it are held by the committed one's.
fn transformers_in_bf16(folder: &Path, name: &str) -> serde_json::Value {
    let own = folder.join("bf16.json");
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/parity").join(name).join("bf16.json");
    let file = if own.is_file() { own } else { committed };
    serde_json::from_str(&fs_err::read_to_string(file).unwrap()).unwrap()
}

/// The cosine between all logits and the expected ones.
fn cosine(decoder: &Decoder, expected: &Tensors) -> f64 {
    let batch = batch(&expected["input_ids"], &expected["labels"]);
    let logits = decoder.logits(&Row::new(batch.tokens, &batch.offsets).unwrap()).unwrap();
    let flat = |logits: &Tensor| on_cpu(logits).flatten_all().unwrap().to_vec1::<f64>().unwrap();
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let (ours, theirs) = (flat(&logits), flat(&expected["logits"]));
    dot(&ours, &theirs) / (dot(&ours, &ours) * dot(&theirs, &theirs)).sqrt()
}

fn check_family(folder: &Path) {
    let name = folder.file_name().unwrap().to_string_lossy().into_owned();
    let load = || {
        Base::open(folder).and_then(|base| base.load(DType::F32, &device())).unwrap_or_else(|e| panic!("{name}: {e}"))
    };
    let expected = candle_core::safetensors::load(folder.join("expected.safetensors"), &Device::Cpu).unwrap();
    let batches = candle_core::safetensors::load(folder.join("batches.safetensors"), &Device::Cpu).unwrap();
    let curves: serde_json::Value =
        serde_json::from_str(&fs_err::read_to_string(folder.join("curves.json")).unwrap()).unwrap();

    let decoder = load();
    let logits = logits_difference(&decoder, &expected);
    let packed = packed_difference(&decoder, &expected);
    let (loss, gradient, worst) = gradient_difference(&decoder, &expected);
    let all = curve(load(), &batches, &curves, false, &[], false);
    let head = curve(load(), &batches, &curves, true, &[], false);
    let (mut curve_loss, mut curve_norm) = (CURVE_LOSS, CURVE_NORM);
    let unperturbed = all.clone();
    let (all, head) = (difference(&all, &golden(&curves, "all")), difference(&head, &golden(&curves, "head")));
    if all.0 > CURVE_LOSS || all.1 > CURVE_NORM {
        let last_bit = |seed| curve(perturbed(&load(), seed), &batches, &curves, false, &[], false);
        let floors = (1..=LAST_BIT_TRIALS).map(|seed| difference(&last_bit(seed), &unperturbed));
        let floor = floors.fold((0f64, 0f64), |floor, other| (floor.0.max(other.0), floor.1.max(other.1)));
        println!("{name}: last bits move the curve by {:.1e} and its norms by {:.1e}", floor.0, floor.1);
        curve_loss = curve_loss.max(CURVE_OVER_LAST_BIT * floor.0);
        curve_norm = curve_norm.max(CURVE_OVER_LAST_BIT * floor.1);
    }
    println!(
        "{name}: logits {logits:.1e}, packed {packed:.1e}, loss {loss:.1e}, gradients {gradient:.1e} ({worst}), \
         curve loss {:.1e} norm {:.1e}, head curve loss {:.1e} norm {:.1e}",
        all.0, all.1, head.0, head.1
    );
    for (what, difference, tolerance) in [
        ("logits", logits, LOGITS),
        ("packed logits", packed, LOGITS),
        ("loss", loss, LOSS),
        ("gradients", gradient, GRADIENT),
        ("curve loss", all.0, curve_loss),
        ("curve norm", all.1, curve_norm),
        ("head curve loss", head.0, CURVE_LOSS),
        ("head curve norm", head.1, CURVE_NORM),
    ] {
        assert!(difference <= tolerance, "{name}: {what} differ by {difference:e}, allowed are {tolerance:e}");
    }
}

/// A batch of B rows of T tokens as one packed row of B documents, with the positions whose next token counts.
fn batch(ids: &Tensor, labels: &Tensor) -> Batch {
    let (b, t) = ids.dims2().unwrap();
    let ids: Vec<i64> = ids.flatten_all().unwrap().to_vec1().unwrap();
    let labels: Vec<i64> = labels.flatten_all().unwrap().to_vec1().unwrap();
    let targets = (0..b * t).filter(|p| p % t + 1 < t && labels[p + 1] >= 0).map(|p| p as u32).collect();
    Batch {
        tokens: ids.iter().map(|&id| id as u32).collect(),
        offsets: (0..=b).map(|row| (row * t) as u32).collect(),
        targets,
    }
}

fn largest_difference(a: &Tensor, b: &Tensor) -> f64 {
    let difference = (on_cpu(a) - on_cpu(b)).unwrap().abs().unwrap();
    difference.flatten_all().unwrap().max(0).unwrap().to_scalar().unwrap()
}

fn logits_difference(decoder: &Decoder, expected: &Tensors) -> f64 {
    let batch = batch(&expected["input_ids"], &expected["labels"]);
    let logits = decoder.logits(&Row::new(batch.tokens, &batch.offsets).unwrap()).unwrap();
    largest_difference(&logits, &expected["logits"].flatten(0, 1).unwrap())
}

fn packed_difference(decoder: &Decoder, expected: &Tensors) -> f64 {
    let positions: Vec<i64> = expected["packed_pos"].i(0).unwrap().to_vec1().unwrap();
    let mut offsets: Vec<u32> = (0..positions.len() as u32).filter(|&p| positions[p as usize] == 0).collect();
    offsets.push(positions.len() as u32);
    let ids: Vec<i64> = expected["packed_ids"].i(0).unwrap().to_vec1().unwrap();
    let row = Row::new(ids.iter().map(|&id| id as u32).collect(), &offsets).unwrap();
    largest_difference(&decoder.logits(&row).unwrap(), &expected["packed_logits"].i(0).unwrap())
}

/// Difference of the loss, of the worst gradient, and that gradient's name. Every expected gradient must be there.
fn gradient_difference(decoder: &Decoder, expected: &Tensors) -> (f64, f64, String) {
    let batch = batch(&expected["input_ids"], &expected["labels"]);
    let mut gradients = Gradients::for_weights(decoder.weights()).unwrap();
    let result = step::gradient(decoder, &[batch], 0.0, Recompute::Nothing, &mut gradients).unwrap();
    let loss = f64::from(expected["loss"].to_scalar::<f32>().unwrap());
    let (mut worst, mut worst_name, mut count) = (0f64, String::new(), 0);
    for (name, gradient) in expected.iter().filter_map(|(name, t)| Some((name.strip_prefix("grad.")?, t))) {
        let ours = gradients.get(name).unwrap_or_else(|| panic!("no gradient of `{name}`"));
        assert!(ours.is_filled(), "`{name}` got no gradient");
        let scale: f32 = gradient.abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar().unwrap();
        let difference = largest_difference(ours.tensor(), gradient) / f64::from(scale);
        count += 1;
        if difference >= worst {
            (worst, worst_name) = (difference, name.to_string());
        }
    }
    assert_eq!(count, decoder.weights().len(), "gradients compared");
    ((result.loss - loss).abs() / loss, worst, worst_name)
}

/// A decoder with the same values in f32.
fn widened(decoder: &Decoder) -> Decoder {
    let weights = decoder.weights().into_iter();
    let weights = weights.map(|(name, tensor)| (name.to_string(), tensor.to_dtype(DType::F32).unwrap()));
    Decoder::new(decoder.spec().clone(), &weights.collect(), &Device::Cpu).unwrap()
}

/// The same weights, each moved up or down by its last bit.
fn perturbed(decoder: &Decoder, seed: u64) -> Decoder {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut moved = |value: f32| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        if state >> 63 == 0 { value.next_up() } else { value.next_down() }
    };
    let weights = decoder.weights().into_iter().map(|(name, tensor)| {
        let values: Vec<f32> = tensor.flatten_all().unwrap().to_vec1().unwrap();
        let values = values.into_iter().map(&mut moved).collect();
        (name.to_string(), Tensor::from_vec(values, tensor.shape(), tensor.device()).unwrap())
    });
    Decoder::new(decoder.spec().clone(), &weights.collect(), decoder.device()).unwrap()
}

/// Loss and norm before clipping, by step.
type Curve = Vec<(f64, f64)>;

/// The curve of the fixture.
fn golden(curves: &serde_json::Value, which: &str) -> Curve {
    let rows = curves[which].as_array().unwrap().iter();
    rows.map(|row| (row["loss"].as_f64().unwrap(), row["grad_norm"].as_f64().unwrap())).collect()
}

/// Largest relative difference of loss and of norm over a curve.
fn difference(ours: &Curve, theirs: &Curve) -> (f64, f64) {
    assert_eq!(ours.len(), theirs.len());
    let relative = |a: f64, b: f64| (a - b).abs() / b;
    ours.iter().zip(theirs).fold((0f64, 0f64), |worst, (ours, theirs)| {
        (worst.0.max(relative(ours.0, theirs.0)), worst.1.max(relative(ours.1, theirs.1)))
    })
}

/// The curve of a short training. `widened`: 16-bit weights are read as f32, so that their rounding is all that differs.
fn curve(
    mut decoder: Decoder,
    batches: &Tensors,
    curves: &serde_json::Value,
    head_only: bool,
    masters: &[(String, Tensor)],
    widened: bool,
) -> Curve {
    if head_only {
        decoder.untie_head().unwrap();
    }
    let number = |key: &str| curves["optimizer"][key].as_f64().unwrap();
    let head = decoder.spec().head_name();
    let weights: Vec<(String, Tensor)> = decoder
        .weights()
        .into_iter()
        .filter(|(name, _)| !head_only || *name == head)
        .map(|(name, tensor)| (name.to_string(), tensor.clone()))
        .collect();
    let named = || weights.iter().map(|(name, tensor)| (name.as_str(), tensor));
    let rule = Rule::AdamW {
        beta1: curves["optimizer"]["betas"][0].as_f64().unwrap(),
        beta2: curves["optimizer"]["betas"][1].as_f64().unwrap(),
        epsilon: number("eps"),
        quantized: false,
    };
    let settings = OptimizerSettings { rule, weight_decay: number("weight_decay") };
    let mut optimizer = Optimizer::new(settings, named(), masters).unwrap();
    let mut gradients = Gradients::for_weights(named()).unwrap();
    let rows = curves[if head_only { "head" } else { "all" }].as_array().unwrap();
    let schedule = Schedule {
        peak: number("learning_rate"),
        warmup_steps: number("warmup_steps") as u64,
        total_steps: rows.len() as u64,
        kind: ScheduleKind::Cosine,
        decay_fraction: 1.0,
    };
    let mut curve = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        let batch = batch(&batches["input_ids"].i(index).unwrap(), &batches["labels"].i(index).unwrap());
        let learning_rate = schedule.learning_rate(index as u64);
        assert!((learning_rate - row["learning_rate"].as_f64().unwrap()).abs() < 1e-15, "rate of step {index}");
        let reader = if widened { self::widened(&decoder) } else { decoder.clone() };
        let result =
            step::gradient(&reader, &[batch], number("clip_norm"), Recompute::Nothing, &mut gradients).unwrap();
        optimizer.update(named(), &gradients, learning_rate, result.clip_factor).unwrap();
        curve.push((result.loss, result.grad_norm));
    }
    curve
}
