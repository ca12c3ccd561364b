//! Token embedding: a row of the table per token; its gradient is a sparse row add.

pub mod case;
pub mod reference;

use crate::arguments;
use crate::gradient::Gradient;
use crate::storage::{fused, update, view};
use candle_core::{Result, Tensor, bail};

/// Rows of `table` by token. Shapes: tokens T, table (V, C) -> (T, C).
/// Errors: a token outside the table, named.
pub fn forward(tokens: &[u32], table: &Tensor) -> Result<Tensor> {
    arguments::check("embedding", &[("table", table)])?;
    let (rows, channels) = table.dims2()?;
    check(tokens, rows)?;
    if tokens.is_empty() {
        return crate::device::empty(&[0, channels], table.dtype(), table.device()); // CUDA refuses to launch over nothing
    }
    reference::forward(&Tensor::from_slice(tokens, tokens.len(), table.device())?, table)
}

/// Adds each row of `dy` to its token's row of the gradient, in the order of the tokens.
/// Shapes: dy (T, C), gradient (V, C). Cost: one read of dy; a first contribution also zeroes the table once.
/// Errors: shapes that don't fit, a token outside the table.
pub fn backward(dy: &Tensor, tokens: &[u32], gradient: &mut Gradient) -> Result<()> {
    let (rows, channels) = dy.dims2()?;
    if rows != tokens.len() || gradient.tensor().dim(1)? != channels {
        bail!(
            "embedding backward: dy {:?}, {} tokens, gradient {:?}",
            dy.shape(),
            tokens.len(),
            gradient.tensor().shape()
        )
    }
    check(tokens, gradient.tensor().dim(0)?)?;
    if tokens.is_empty() {
        return gradient.add_nothing();
    }
    if !(fused(dy) && fused(gradient.tensor())) {
        return gradient.add_rows(&Tensor::from_slice(tokens, tokens.len(), dy.device())?, dy);
    }
    let add = gradient.begin();
    let dy = dy.contiguous()?;
    let dy = view(&dy)?;
    update("embedding dW", gradient.tensor(), |table| {
        if !add {
            table.fill(0.0);
        }
        for (row, &token) in dy.chunks_exact(channels).zip(tokens) {
            let at = token as usize * channels;
            crate::simd::run(
                #[inline(always)]
                || table[at..at + channels].iter_mut().zip(row).for_each(|(sum, value)| *sum += value),
            );
        }
        Ok(())
    })
}

fn check(tokens: &[u32], rows: usize) -> Result<()> {
    match tokens.iter().find(|&&token| token as usize >= rows) {
        None => Ok(()),
        Some(token) => bail!("embedding: token {token} but the table has {rows} rows"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, random};
    use candle_core::{DType, Device};

    #[test]
    fn embedding_gradient_adds_repeated_tokens_as_the_reference_does() {
        let (table, dy, tokens) = (random(&[11, 5], 1), random(&[6, 5], 2), [3, 0, 3, 10, 3, 7]);
        let ids = Tensor::new(&tokens, table.device()).unwrap();
        assert_close("y", &forward(&tokens, &table).unwrap(), &reference::forward(&ids, &table).unwrap(), 0.0);
        let expected = crate::autograd::backward(&[&table], &dy, |v| reference::forward(&ids, &v[0])).unwrap();
        let mut gradient = Gradient::new((11, 5), table.device()).unwrap();
        backward(&dy, &tokens, &mut gradient).unwrap();
        assert_close("dW", gradient.tensor(), &expected[0], 1e-6);
        gradient.add(&expected[0]).unwrap();
        backward(&dy, &tokens, &mut gradient).unwrap();
        assert_close("dW after others", gradient.tensor(), &(&expected[0] * 3.0).unwrap(), 1e-6);
    }

    #[test]
    fn sixteen_bit_rows_are_summed_in_f32_as_devices_without_a_kernel_do() {
        let (dy, tokens) = (random(&[64, 5], 2).to_dtype(DType::BF16).unwrap(), [3; 64]);
        let (mut narrow, mut wide) =
            (Gradient::new((11, 5), dy.device()).unwrap(), Gradient::new((11, 5), dy.device()).unwrap());
        for _ in 0..2 {
            backward(&dy, &tokens, &mut narrow).unwrap();
            backward(&dy.to_dtype(DType::F32).unwrap(), &tokens, &mut wide).unwrap();
            assert_close("dW", narrow.tensor(), wide.tensor(), 1e-6);
        }
    }

    #[test]
    fn a_token_outside_the_table_is_named() {
        let message = forward(&[1, 11], &random(&[11, 5], 1)).unwrap_err().to_string();
        assert!(message.contains("token 11 but the table has 11 rows"), "{message}");
        let mut gradient = Gradient::new((11, 5), &Device::Cpu).unwrap();
        let message = backward(&random(&[1, 5], 1), &[11], &mut gradient).unwrap_err().to_string();
        assert!(message.contains("token 11 but the table has 11 rows"), "{message}");
    }
}
