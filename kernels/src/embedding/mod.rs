//! Token embedding: a row of the table per token; its gradient is a sparse row add.

pub mod reference;

use crate::gradient::Gradient;
use crate::storage::{fused, update, view};
use candle_core::{Result, Tensor, bail};

/// Rows of `table` by token. Shapes: tokens T, table (V, C) -> (T, C).
/// Errors: a token outside the table, named.
pub fn forward(tokens: &[u32], table: &Tensor) -> Result<Tensor> {
    let (rows, _) = table.dims2()?;
    if let Some(token) = tokens.iter().find(|&&token| token as usize >= rows) {
        bail!("embedding: token {token} but the table has {rows} rows")
    }
    reference::forward(&Tensor::from_slice(tokens, tokens.len(), table.device())?, table)
}

/// Adds each row of `dy` to its token's row of the gradient, in the order of the tokens.
/// Shapes: dy (T, C), gradient (V, C). Cost: one read of dy; a first contribution also zeroes the table once.
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
    if !(fused(dy) && fused(gradient.tensor())) {
        let ids = Tensor::from_slice(tokens, tokens.len(), dy.device())?;
        let sum =
            gradient.tensor().zeros_like()?.index_add(&ids, &dy.contiguous()?.to_dtype(candle_core::DType::F32)?, 0)?;
        return gradient.add(&sum);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, random};

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
    fn a_token_outside_the_table_is_named() {
        let message = forward(&[1, 11], &random(&[11, 5], 1)).unwrap_err().to_string();
        assert!(message.contains("token 11 but the table has 11 rows"), "{message}");
    }
}
