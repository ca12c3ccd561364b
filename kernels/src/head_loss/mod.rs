//! Output projection and cross-entropy as one op, in chunks of target rows: all logits never exist at once.

mod cpu;
pub mod reference;

use crate::gradient::Gradient;
use crate::storage::{fused, narrow, wide};
use candle_core::{Result, Tensor, bail};

/// Logits that a chunk may hold: 64 MiB of f32.
const CHUNK_LOGITS: usize = 16 * 1024 * 1024;
/// Rows of a chunk where the vocabulary is small: enough for the matmuls to run at full speed.
const CHUNK_ROWS: usize = 256;

/// Rows of a chunk for a vocabulary of that size.
fn chunk_rows(vocabulary: usize) -> usize {
    (CHUNK_LOGITS / vocabulary.max(1)).clamp(1, CHUNK_ROWS)
}

/// Bytes of logits that exist at once for a vocabulary of that size, for memory plans.
pub fn chunk_bytes(vocabulary: usize) -> usize {
    chunk_rows(vocabulary) * vocabulary * size_of::<f32>()
}

/// Negative log-likelihood of each target, in nats. Shapes: h (N, C), weight (V, C), targets N -> N values.
/// A row has the same bits in the same place of the vocabulary's chunking whatever the other rows are.
/// Errors: a target outside the vocabulary, shapes that don't fit.
pub fn nll(h: &Tensor, weight: &Tensor, targets: &[u32]) -> Result<Vec<f32>> {
    check(h, weight, targets)?;
    if narrow(h) || narrow(weight) {
        return nll(&wide(h)?, &wide(weight)?, targets); // logits stay f32
    }
    let mut losses = Vec::with_capacity(targets.len());
    let rows = chunk_rows(weight.dim(0)?);
    for (index, targets) in targets.chunks(rows).enumerate() {
        let h = h.narrow(0, index * rows, targets.len())?;
        let logits = crate::linear::forward(&h, weight)?;
        losses.extend(if fused(&logits) {
            cpu::nll(&logits, targets)?
        } else {
            reference::nll(&logits, targets)?.to_vec1()?
        });
    }
    Ok(losses)
}

/// The loss of the targets and its gradients: `scale * sum(nll)` is what is differentiated.
pub struct Output {
    /// NLL of each target, in nats, not scaled.
    pub nll: Vec<f32>,
    /// Gradient of h (N, C), where it was asked for; f32 where h has 16 bits.
    pub dh: Option<Tensor>,
}

/// Loss, `dh` where `wants_input`, and `dW` added in place where a gradient is given.
/// Shapes: h (N, C), weight (V, C), targets N, gradient (V, C). `scale` is 1 / (targets of the optimizer step), R1.
/// Memory: one chunk of logits. Errors: as [`nll`].
pub fn forward_backward(
    h: &Tensor,
    weight: &Tensor,
    targets: &[u32],
    scale: f32,
    wants_input: bool,
    mut gradient: Option<&mut Gradient>,
) -> Result<Output> {
    check(h, weight, targets)?;
    if narrow(h) || narrow(weight) {
        return forward_backward(&wide(h)?, &wide(weight)?, targets, scale, wants_input, gradient);
    }
    let (mut nll, mut dh) = (Vec::with_capacity(targets.len()), Vec::new());
    let rows = chunk_rows(weight.dim(0)?);
    for (index, targets) in targets.chunks(rows).enumerate() {
        let h = h.narrow(0, index * rows, targets.len())?;
        let logits = crate::linear::forward(&h, weight)?;
        let (losses, dlogits) = if fused(&logits) {
            cpu::forward_backward(logits, targets, scale)?
        } else {
            reference::forward_backward(&logits, targets, scale)?
        };
        nll.extend(losses);
        if wants_input {
            dh.push(crate::linear::backward_input(&dlogits, weight)?);
        }
        if let Some(gradient) = gradient.as_deref_mut() {
            crate::linear::backward_weight(&dlogits, &h, gradient)?;
        }
    }
    let dh = match (wants_input, dh.is_empty()) {
        (false, _) => None,
        (true, true) => Some(h.zeros_like()?),
        (true, false) => Some(Tensor::cat(&dh, 0)?),
    };
    Ok(Output { nll, dh })
}

fn check(h: &Tensor, weight: &Tensor, targets: &[u32]) -> Result<()> {
    let (vocabulary, _) = weight.dims2()?;
    if h.dim(0)? != targets.len() {
        bail!("head_loss: h {:?} but {} targets", h.shape(), targets.len())
    }
    if let Some(target) = targets.iter().find(|&&target| target as usize >= vocabulary) {
        bail!("head_loss: target {target} but the vocabulary has {vocabulary} tokens")
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, random, with_threads};
    use candle_core::Device;

    fn targets(n: usize, v: usize) -> Vec<u32> {
        (0..n).map(|i| ((i * 7919 + 3) % v) as u32).collect()
    }

    #[test]
    fn loss_and_gradients_match_the_reference_over_several_chunks() {
        for (n, c, v) in [(1, 8, 3), (5, 16, 131), (300, 12, 67), (258, 4, 151_936)] {
            let (h, w) = ((random(&[n, c], 1) * 3.0).unwrap(), random(&[v, c], 2));
            let (targets, scale) = (targets(n, v), 1.0 / n as f32);
            let mut gradient = Gradient::new((v, c), &Device::Cpu).unwrap();
            let output = forward_backward(&h, &w, &targets, scale, true, Some(&mut gradient)).unwrap();
            assert_eq!(output.nll, nll(&h, &w, &targets).unwrap());
            let logits = crate::linear::reference::forward(&h, &w).unwrap();
            let expected = reference::nll(&logits, &targets).unwrap();
            assert_close("nll", &Tensor::new(output.nll, &Device::Cpu).unwrap(), &expected, 2e-6);
            let ones = (Tensor::ones(n, candle_core::DType::F32, &Device::Cpu).unwrap() * f64::from(scale)).unwrap();
            let expected = crate::autograd::backward(&[&h, &w], &ones, |x| {
                reference::nll(&crate::linear::reference::forward(&x[0], &x[1])?, &targets)
            })
            .unwrap();
            assert_close("dh", &(output.dh.unwrap() * n as f64).unwrap(), &(&expected[0] * n as f64).unwrap(), 2e-6);
            assert_close("dW", &(gradient.tensor() * n as f64).unwrap(), &(&expected[1] * n as f64).unwrap(), 2e-6);
        }
    }

    #[test]
    fn only_the_gradients_that_are_asked_for_are_made() {
        let output = forward_backward(&random(&[3, 4], 1), &random(&[5, 4], 2), &[0, 1, 2], 1.0, false, None).unwrap();
        assert!(output.dh.is_none());
    }

    #[test]
    fn a_random_head_has_the_loss_of_a_guess() {
        let h = (random(&[64, 32], 1) * 0.01).unwrap();
        let losses = nll(&h, &random(&[512, 32], 2), &targets(64, 512)).unwrap();
        let mean = losses.iter().sum::<f32>() / 64.0;
        assert!((mean - 512f32.ln()).abs() < 0.05, "mean {mean}");
    }

    #[test]
    fn r3_a_targets_loss_has_the_same_bits_whatever_shares_its_batch() {
        let (h, w, targets) = (random(&[40, 64], 3), random(&[999, 64], 4), targets(40, 999));
        let all = nll(&h, &w, &targets).unwrap();
        for row in 0..40 {
            assert_eq!(nll(&h.narrow(0, row, 1).unwrap(), &w, &targets[row..=row]).unwrap(), all[row..=row]);
        }
    }

    #[test]
    fn the_number_of_threads_changes_no_bit() {
        let (h, w, targets) = (random(&[300, 24], 5), random(&[501, 24], 6), targets(300, 501));
        let run = || {
            let mut gradient = Gradient::new((501, 24), &Device::Cpu).unwrap();
            let output = forward_backward(&h, &w, &targets, 0.1, true, Some(&mut gradient)).unwrap();
            (output.nll, output.dh.unwrap().to_vec2::<f32>().unwrap(), gradient.tensor().to_vec2::<f32>().unwrap())
        };
        assert_eq!(with_threads(1, run), with_threads(4, run));
    }

    #[test]
    fn a_target_outside_the_vocabulary_is_named_and_a_nan_is_not_hidden() {
        let w = random(&[5, 4], 2);
        let message = nll(&random(&[1, 4], 1), &w, &[5]).unwrap_err().to_string();
        assert!(message.contains("target 5 but the vocabulary has 5 tokens"), "{message}");
        let h = Tensor::full(f32::NAN, (1, 4), &Device::Cpu).unwrap();
        assert!(nll(&h, &w, &[0]).unwrap()[0].is_nan());
    }
}
