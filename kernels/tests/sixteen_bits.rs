//! Ops on bf16 and f16 on the CPU: the f32 kernel on the widened values, rounded once; gradients stay f32.
#![allow(clippy::unwrap_used)] // helpers of tests are tests

use candle_core::{DType, Device, Tensor};
use outcrop_kernels::attention::{self, Heads, Saved};
use outcrop_kernels::gated_mlp::Activation;
use outcrop_kernels::head_loss::Options;
use outcrop_kernels::{Documents, Gradient, embedding, gated_mlp, head_loss, linear, residual, rms_norm, rope};
use rand::{Rng, SeedableRng};

const TYPES: [DType; 2] = [DType::BF16, DType::F16];

/// Values that this type holds exactly.
fn random(shape: &[usize], seed: u64, dtype: DType) -> Tensor {
    let mut stream = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| stream.random_range(-1.0f32..1.0)).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
}

fn wide(tensor: &Tensor) -> Tensor {
    tensor.to_dtype(DType::F32).unwrap()
}

/// An output has its input's type and is the f32 result rounded once.
fn assert_rounded(name: &str, actual: &Tensor, expected: &Tensor, dtype: DType) {
    assert_eq!((actual.dtype(), expected.dtype()), (dtype, DType::F32), "{name}");
    assert_same(name, actual, &expected.to_dtype(dtype).unwrap());
}

fn assert_same(name: &str, actual: &Tensor, expected: &Tensor) {
    assert_eq!((actual.dtype(), actual.dims()), (expected.dtype(), expected.dims()), "{name}");
    let values = |tensor: &Tensor| wide(tensor).flatten_all().unwrap().to_vec1::<f32>().unwrap();
    assert_eq!(values(actual), values(expected), "{name}");
}

#[test]
fn linear_and_the_head_keep_their_sums_in_f32() {
    for dtype in TYPES {
        let (x, w, dy) = (random(&[37, 300], 1, dtype), random(&[41, 300], 2, dtype), random(&[37, 41], 3, DType::F32));
        let y = linear::forward(&x, &w).unwrap();
        assert_rounded("linear", &y, &linear::forward(&wide(&x), &wide(&w)).unwrap(), dtype);
        let dx = linear::backward_input(&dy, &w).unwrap();
        assert_same("linear dx", &dx, &linear::backward_input(&dy, &wide(&w)).unwrap());
        let weight_gradient = |x: &Tensor| {
            let mut gradient = Gradient::new((41, 300), &Device::Cpu).unwrap();
            linear::backward_weight(&dy, x, &mut gradient).unwrap();
            gradient.tensor().clone()
        };
        assert_same("linear dW", &weight_gradient(&x), &weight_gradient(&wide(&x)));

        let targets: Vec<u32> = (0..37).collect();
        let nll = |x: &Tensor, w: &Tensor| head_loss::nll(x, w, &targets, Options::default()).unwrap();
        assert_eq!(nll(&x, &w), nll(&wide(&x), &wide(&w)), "logits are not rounded");
        let loss = |x: &Tensor, w: &Tensor| {
            let mut gradient = Gradient::new((41, 300), &Device::Cpu).unwrap();
            let output =
                head_loss::forward_backward(x, w, &targets, 0.1, Options::default(), true, Some(&mut gradient))
                    .unwrap();
            (output.nll, output.dh.unwrap(), gradient.tensor().clone())
        };
        let (narrow, expected) = (loss(&x, &w), loss(&wide(&x), &wide(&w)));
        assert_eq!(narrow.0, expected.0);
        assert_same("head dh", &narrow.1, &expected.1);
        assert_same("head dW", &narrow.2, &expected.2);
    }
}

#[test]
fn attention_keeps_its_sums_in_f32() {
    let heads = Heads { query: 4, key_value: 2, dim: 16, scale: 0.25, window: None, softcap: None };
    let documents = Documents::new(vec![0, 9, 10, 33]).unwrap();
    for dtype in TYPES {
        let (q, k, v) = (random(&[33, 64], 1, dtype), random(&[33, 32], 2, dtype), random(&[33, 32], 3, dtype));
        let (wide_q, wide_k, wide_v) = (wide(&q), wide(&k), wide(&v));
        let (o, lse) = attention::forward(&q, &k, &v, heads, &documents).unwrap();
        let (wide_o, wide_lse) = attention::forward(&wide_q, &wide_k, &wide_v, heads, &documents).unwrap();
        assert_rounded("attention", &o, &wide_o, dtype);
        assert_same("log-sum-exp", &lse, &wide_lse);
        let dy = random(&[33, 64], 4, DType::F32);
        let saved = Saved { q: &q, k: &k, v: &v, o: &o, lse: &lse };
        let narrow = attention::backward(&dy, &saved, heads, &documents).unwrap();
        let saved = Saved { q: &wide_q, k: &wide_k, v: &wide_v, o: &wide(&o), lse: &lse };
        let expected = attention::backward(&dy, &saved, heads, &documents).unwrap();
        assert_same("dq", &narrow.0, &expected.0);
        assert_same("dk", &narrow.1, &expected.1);
        assert_same("dv", &narrow.2, &expected.2);
        let last = |x: &Tensor| x.narrow(0, 32, 1).unwrap();
        let expected = attention::decode(&last(&wide_q), &wide_k, &wide_v, heads).unwrap();
        assert_rounded("decode", &attention::decode(&last(&q), &k, &v, heads).unwrap(), &expected, dtype);
    }
}

#[test]
fn norms_gates_rotations_and_embeddings_round_once_and_their_gradients_are_f32() {
    let frequencies: Vec<f64> = (0..4).map(|i| 100f64.powf(-f64::from(i) / 4.0)).collect();
    let tables = rope::Tables::new(&frequencies, 1.0, 300, &Device::Cpu).unwrap();
    for dtype in TYPES {
        let (x, w, dy) = (random(&[300, 24], 1, dtype), random(&[24], 2, dtype), random(&[300, 24], 3, DType::F32));
        let (y, rstd) = rms_norm::forward(&x, &w, 1e-5).unwrap();
        let (wide_y, wide_rstd) = rms_norm::forward(&wide(&x), &wide(&w), 1e-5).unwrap();
        assert_rounded("rms_norm", &y, &wide_y, dtype);
        assert_same("rstd", &rstd, &wide_rstd);
        let norm = |x: &Tensor, w: &Tensor| {
            let mut gradient = Gradient::new(24, &Device::Cpu).unwrap();
            (rms_norm::backward(&dy, x, w, &rstd, 1e-5, None, Some(&mut gradient)).unwrap(), gradient.tensor().clone())
        };
        let (narrow, expected) = (norm(&x, &w), norm(&wide(&x), &wide(&w)));
        assert_same("norm dx", &narrow.0, &expected.0);
        assert_same("norm dw: 300 rows would not add up in 16 bits", &narrow.1, &expected.1);

        let (gate, up) = (random(&[300, 24], 4, dtype), random(&[300, 24], 5, dtype));
        let product = gated_mlp::forward(&gate, &up, Activation::Silu).unwrap();
        assert_rounded(
            "gate",
            &product,
            &gated_mlp::forward(&wide(&gate), &wide(&up), Activation::Silu).unwrap(),
            dtype,
        );
        let narrow = gated_mlp::backward(&dy, &gate, &up, Activation::Silu).unwrap();
        let expected = gated_mlp::backward(&dy, &wide(&gate), &wide(&up), Activation::Silu).unwrap();
        assert_same("dgate", &narrow.0, &expected.0);
        assert_same("dup", &narrow.1, &expected.1);

        let positions: Vec<u32> = (0..300).collect();
        let turned = rope::forward(&x, 3, &positions, &tables).unwrap();
        assert_rounded("rope", &turned, &rope::forward(&wide(&x), 3, &positions, &tables).unwrap(), dtype);

        let tokens: Vec<u32> = (0..300).map(|i| i % 7).collect();
        let table = random(&[7, 24], 6, dtype);
        let rows = embedding::forward(&tokens, &table).unwrap();
        assert_rounded("embedding", &rows, &embedding::forward(&tokens, &wide(&table)).unwrap(), dtype);
        let sum = residual::add(&gate, &up).unwrap();
        assert_rounded("residual", &sum, &(wide(&gate) + wide(&up)).unwrap(), dtype);
    }
}
