//! Every op on all of its cases: against its reference in f64, central differences, odd shapes, strided views, no rows,
//! any number of threads, NaN. On the CPU, and on every GPU that this build and machine have.
#![allow(clippy::unwrap_used, clippy::print_stdout)] // helpers of tests are tests

use candle_core::{DType, Device, Tensor};
use outcrop_kernels::case::{self, OpCase, Set, check};
use outcrop_kernels::device;
use std::collections::BTreeSet;

/// Runs `f` on the CPU and on the GPUs there are; says what it skips.
fn for_each_device(f: impl Fn(&str, &Device)) {
    for listed in device::list() {
        match listed.device {
            Ok(device) => f(&listed.name, &device),
            Err(why) => println!("skipped: {}: {why}", listed.name),
        }
    }
}

fn name(case: &dyn OpCase) -> String {
    format!("{} {}", case.op(), case.shape())
}

fn flat(tensor: &Tensor) -> Vec<f64> {
    tensor.flatten_all().unwrap().to_dtype(DType::F64).unwrap().to_vec1().unwrap()
}

/// The bits of everything that a case gives.
fn bits(case: &dyn OpCase, x: &[Tensor]) -> Vec<Vec<u64>> {
    let results = check::run(case, x).unwrap_or_else(|e| panic!("{}: {e}", name(case)));
    let all = results.outputs.iter().chain(&results.gradients);
    all.map(|tensor| flat(tensor).into_iter().map(f64::to_bits).collect()).collect()
}

#[test]
fn every_op_has_cases_of_every_set() {
    let ops = |set| case::all(set).iter().map(|case| case.op()).collect::<BTreeSet<_>>();
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let folders: BTreeSet<String> = fs_err::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("case.rs").is_file())
        .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
        .collect();
    for set in [Set::Small, Set::Odd, Set::Empty, Set::Model] {
        assert_eq!(ops(set).iter().map(ToString::to_string).collect::<BTreeSet<_>>(), folders, "{set:?}");
    }
    let names: Vec<String> = case::all(Set::Odd).iter().map(|case| name(case.as_ref())).collect();
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "two cases of one name: {names:?}");
    let has = |op: &str, part: &str| names.iter().any(|name| name.starts_with(op) && name.contains(part));
    assert!(has("head_loss", "151936") && has("embedding", "151936") && has("attention", "x 256"), "{names:?}");
}

#[test]
fn every_op_and_its_gradients_match_the_reference_in_f64_on_odd_shapes() {
    for_each_device(|device_name, device| {
        for case in case::all(Set::Small).into_iter().chain(case::all(Set::Odd)) {
            let what = format!("{} on {device_name}", name(case.as_ref()));
            let (found, _) =
                check::compare(case.as_ref(), device, DType::F32).unwrap_or_else(|e| panic!("{what}: {e}"));
            println!("{what}: {:.1e} {:.1e}", found.forward, found.backward.unwrap_or(0.0));
            let tolerance = check::tolerance(DType::F32);
            assert!(found.forward <= tolerance, "{what}: differs by {:e}", found.forward);
            assert!(found.backward.is_none_or(|d| d <= tolerance), "{what}: gradients differ by {:?}", found.backward);
        }
    });
}

#[test]
fn every_op_in_sixteen_bits_is_near_the_reference_of_the_rounded_inputs() {
    for_each_device(|device_name, device| {
        for (case, dtype) in case::all(Set::Odd).iter().flat_map(|case| [(case, DType::BF16), (case, DType::F16)]) {
            let what = format!("{} on {device_name} in {dtype:?}", name(case.as_ref()));
            let (found, _) = check::compare(case.as_ref(), device, dtype).unwrap_or_else(|e| panic!("{what}: {e}"));
            let tolerance = check::tolerance(dtype);
            assert!(found.forward <= tolerance, "{what}: differs by {:e}", found.forward);
            assert!(found.backward.is_none_or(|d| d <= tolerance), "{what}: gradients differ by {:?}", found.backward);
        }
    });
}

#[test]
fn every_gradient_matches_central_differences_in_f64() {
    for case in case::all(Set::Small).iter().filter(|case| case.is_differentiable()) {
        let x = check::inputs(case.as_ref(), &Device::Cpu, DType::F32).unwrap();
        let actual = check::run(case.as_ref(), &x).unwrap();
        let wide: Vec<Tensor> = x.iter().map(|x| x.to_dtype(DType::F64).unwrap()).collect();
        let dy = case.dy(actual.outputs[0].dims()).unwrap();
        let loss = |x: &[Tensor]| -> f64 {
            let y = case.reference(x).unwrap().swap_remove(0);
            flat(&y).iter().zip(flat(&dy)).map(|(y, d)| y * d).sum()
        };
        for (input, gradient) in actual.gradients.iter().enumerate() {
            let (values, gradient) = (flat(&wide[input]), flat(gradient));
            let scale = gradient.iter().fold(1e-2f64, |most, g| most.max(g.abs()));
            for at in 0..values.len() {
                let moved = |by: f64| {
                    let (mut x, mut values) = (wide.clone(), values.clone());
                    values[at] += by;
                    x[input] = Tensor::from_vec(values, wide[input].shape(), &Device::Cpu).unwrap();
                    loss(&x)
                };
                let expected = (moved(1e-5) - moved(-1e-5)) / 2e-5;
                let difference = (gradient[at] - expected).abs() / scale;
                let what = name(case.as_ref());
                assert!(difference < 2e-5, "{what}: input {input} at {at}: {} but {expected}", gradient[at]);
            }
        }
    }
}

#[test]
fn a_strided_view_gives_the_bits_of_its_copy_or_is_refused_by_name() {
    for case in case::all(Set::Small).into_iter().chain(case::all(Set::Odd)) {
        let x = check::inputs(case.as_ref(), &Device::Cpu, DType::F32).unwrap();
        let strided: Vec<Tensor> = x.iter().map(|x| check::strided(x).unwrap()).collect();
        if case.takes_strided() {
            assert!(bits(case.as_ref(), &strided) == bits(case.as_ref(), &x), "{}", name(case.as_ref()));
        } else if strided.iter().any(|x| !x.is_contiguous()) {
            let message = case.forward(&strided).map(drop).unwrap_err().to_string();
            let expected = format!("{}: contiguous tensors are needed", case.op());
            assert!(message.starts_with(&expected), "{}: {message}", name(case.as_ref()));
        }
    }
}

#[test]
fn no_rows_are_no_error_and_add_nothing() {
    for_each_device(|device_name, device| {
        for case in case::all(Set::Empty) {
            for dtype in [DType::F32, DType::BF16] {
                let what = format!("{} on {device_name} in {dtype:?}", name(case.as_ref()));
                let (found, _) = check::compare(case.as_ref(), device, dtype).unwrap_or_else(|e| panic!("{what}: {e}"));
                assert!(found.forward == 0.0 && found.backward.is_none_or(|d| d == 0.0), "{what}: {found:?}");
            }
        }
    });
}

#[test]
fn the_number_of_threads_changes_no_bit_of_any_op() {
    for case in case::all(Set::Odd) {
        let x = check::inputs(case.as_ref(), &Device::Cpu, DType::F32).unwrap();
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| bits(case.as_ref(), &x))
        };
        let one = run(1);
        for threads in [2, 3, 7] {
            assert!(run(threads) == one, "{}: {threads} threads", name(case.as_ref()));
        }
    }
}

/// The first value of an input, and of dy, is one that everything depends on in these cases.
#[test]
fn a_nan_in_is_a_nan_out_of_every_op() {
    for_each_device(|device_name, device| {
        for case in case::all(Set::Small) {
            let what = format!("{} on {device_name}", name(case.as_ref()));
            let x = check::inputs(case.as_ref(), device, DType::F32).unwrap();
            let poisoned = |tensor: &Tensor| {
                let mut values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
                values[0] = f32::NAN;
                Tensor::from_vec(values, tensor.shape(), device).unwrap()
            };
            let has_nan = |tensor: &Tensor| {
                let tensor = tensor.to_device(&Device::Cpu).unwrap();
                flat(&tensor).iter().any(|value| value.is_nan())
            };
            for input in 0..x.len() {
                let mut x = x.clone();
                x[input] = poisoned(&x[input]);
                let outputs = case.forward(&x).unwrap();
                assert!(outputs.iter().any(has_nan), "{what}: input {input} hides it");
            }
            if !case.is_differentiable() || case.op() == "head_loss" {
                continue; // the loss makes its dy itself
            }
            let outputs = case.forward(&x).unwrap();
            let dy = poisoned(&case.dy(outputs[0].dims()).unwrap().to_device(device).unwrap());
            let place = |x: &Tensor| outcrop_kernels::Gradient::new(x.shape(), device).unwrap();
            let mut places: Vec<_> = x.iter().map(place).collect();
            let returned = case.backward(&x, &outputs, &dy, &mut places).unwrap();
            for (input, own) in returned.iter().enumerate() {
                let gradient = own.as_ref().unwrap_or(places[input].tensor());
                assert!(has_nan(gradient), "{what}: the gradient of input {input} hides it");
            }
        }
    });
}

#[test]
fn what_is_said_to_be_fused_on_the_cpu_is() {
    for case in case::all(Set::Small) {
        let (_, fused) = check::compare(case.as_ref(), &Device::Cpu, DType::F32).unwrap();
        let forward_is_a_copy = ["embedding", "rows"].contains(&case.op());
        assert_eq!(fused[0], !forward_is_a_copy, "{}", name(case.as_ref()));
        assert!(fused[1] || forward_is_a_copy, "{}: the backward pass is the reference's", name(case.as_ref()));
    }
}

#[test]
fn a_type_that_no_op_computes_with_is_named_with_op_and_shape() {
    for case in case::all(Set::Small) {
        let x = check::inputs(case.as_ref(), &Device::Cpu, DType::F32).unwrap();
        for input in 0..x.len() {
            if case.op() == "adamw_8bit" && [1, 2].contains(&input) {
                continue; // the case itself quantizes its moments
            }
            let mut x = x.clone();
            x[input] = x[input].to_dtype(DType::I64).unwrap();
            let message = case.forward(&x).map(drop).expect_err(&name(case.as_ref())).to_string();
            let what = format!("{}: input {input}: {message}", name(case.as_ref()));
            assert!(message.starts_with(case.op()) && message.contains("I64"), "{what}");
            assert!(message.contains(&format!("{:?}", x[input].shape())), "{what}");
        }
    }
}

#[test]
fn a_shape_that_does_not_fit_is_named_with_the_op() {
    for case in case::all(Set::Small) {
        let x = check::inputs(case.as_ref(), &Device::Cpu, DType::F32).unwrap();
        let longer = |tensor: &Tensor| Tensor::cat(&[tensor, tensor], tensor.rank() - 1).unwrap();
        if x.len() > 1 && case.op() != "global_norm" {
            for input in 0..x.len() {
                let mut x = x.clone();
                x[input] = longer(&x[input]);
                let message = case.forward(&x).map(drop).expect_err(&name(case.as_ref())).to_string();
                let shape = format!("{:?}", x[input].shape());
                let what = format!("{}: input {input}: {message}", name(case.as_ref()));
                assert!(message.starts_with(case.op()) && message.contains(&shape), "{what}");
            }
        } else if case.is_differentiable() && !["rope", "rows"].contains(&case.op()) {
            // (longer heads are rotated in part by rope, and rows of any width can be gathered)
            let outputs = case.forward(&x).unwrap();
            let dy = longer(&outputs[0]);
            let mut places = vec![outcrop_kernels::Gradient::new(x[0].shape(), &Device::Cpu).unwrap()];
            let message =
                case.backward(&x, &outputs, &dy, &mut places).map(drop).expect_err(&name(case.as_ref())).to_string();
            let what = format!("{}: dy: {message}", name(case.as_ref()));
            assert!(message.starts_with(case.op()) && message.contains(&format!("{:?}", dy.shape())), "{what}");
        }
    }
}
