//! Rotary position embedding in the rotate-half layout of Hugging Face; its backward pass is the opposite rotation.

mod cpu;
pub mod reference;

use crate::storage::{fused, narrow, wide};
use candle_core::{DType, Device, Result, Tensor, bail};

/// Cosines and sines by position, for the first `2 * half` channels of a head.
#[derive(Clone, Debug)]
pub struct Tables {
    cos: Tensor,
    sin: Tensor,
}

impl Tables {
    /// Tables of `num_positions` rows for these inverse frequencies (one per pair of channels), computed in f64 and
    /// rounded once. `scaling` multiplies both (yarn's and longrope's attention factor; else 1).
    pub fn new(inverse_frequencies: &[f64], scaling: f64, num_positions: usize, device: &Device) -> Result<Self> {
        let half = inverse_frequencies.len();
        let table = |f: fn(f64) -> f64| {
            let values = (0..num_positions)
                // the angle is rounded to f32 first, as transformers computes it
                .flat_map(|p| inverse_frequencies.iter().map(move |&w| f64::from(p as f32 * w as f32)))
                .map(|angle| (f(angle) * scaling) as f32);
            Tensor::from_iter(values, device)?.reshape((num_positions, half))
        };
        Ok(Self { cos: table(f64::cos)?, sin: table(f64::sin)? })
    }

    /// Positions the tables reach.
    pub fn num_positions(&self) -> usize {
        self.cos.dims()[0]
    }

    /// Rows of cosine and sine for these positions. Shapes: (T, half) each.
    fn rows(&self, positions: &[u32], dtype: DType) -> Result<(Tensor, Tensor)> {
        let indices = Tensor::from_slice(positions, positions.len(), self.cos.device())?;
        Ok((self.cos.index_select(&indices, 0)?.to_dtype(dtype)?, self.sin.index_select(&indices, 0)?.to_dtype(dtype)?))
    }
}

/// Rotates the first `2 * half` channels of every head by its token's position.
/// Shapes: x (T, heads * D), positions T -> (T, heads * D). Errors: D doesn't fit, a position beyond the tables.
/// Source: Su et al. 2021, arXiv:2104.09864; layout of transformers' apply_rotary_pos_emb.
pub fn forward(x: &Tensor, num_heads: usize, positions: &[u32], tables: &Tables) -> Result<Tensor> {
    rotate(x, num_heads, positions, tables, 1.0)
}

/// The gradient: rotation by the opposite angle. Shapes: as [`forward`].
pub fn backward(dy: &Tensor, num_heads: usize, positions: &[u32], tables: &Tables) -> Result<Tensor> {
    rotate(dy, num_heads, positions, tables, -1.0)
}

fn rotate(x: &Tensor, num_heads: usize, positions: &[u32], tables: &Tables, direction: f32) -> Result<Tensor> {
    let (t, width) = x.dims2()?;
    let half = tables.cos.dim(1)?;
    if t != positions.len() || width % num_heads != 0 || 2 * half > width / num_heads {
        bail!("rope: x {:?}, {num_heads} heads, {} positions, {half} frequencies", x.shape(), positions.len())
    }
    if let Some(position) = positions.iter().find(|&&p| p as usize >= tables.num_positions()) {
        bail!("rope: position {position} but the context has {}", tables.num_positions())
    }
    if narrow(x) {
        return rotate(&wide(x)?, num_heads, positions, tables, direction)?.to_dtype(x.dtype());
    }
    if fused(x) {
        cpu::rotate(&x.contiguous()?, num_heads, positions, &tables.cos, &tables.sin, direction)
    } else {
        let (cos, sin) = tables.rows(positions, x.dtype())?;
        reference::rotate(x, num_heads, &cos, &(sin * f64::from(direction))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, random};

    fn tables(half: usize) -> Tables {
        let frequencies: Vec<f64> = (0..half).map(|i| 10_000f64.powf(-(i as f64) / half as f64)).collect();
        Tables::new(&frequencies, 1.0, 64, &Device::Cpu).unwrap()
    }

    #[test]
    fn rope_and_its_gradient_match_the_reference_also_where_it_turns_a_part_of_the_head() {
        for (t, heads, dim, half) in [(1, 1, 2, 1), (7, 3, 16, 8), (5, 2, 12, 3)] {
            let (x, dy, tables) = (random(&[t, heads * dim], 1), random(&[t, heads * dim], 2), tables(half));
            let positions: Vec<u32> = (0..t as u32).map(|p| (p * 5) % 64).collect();
            let (cos, sin) = tables.rows(&positions, DType::F32).unwrap();
            let y = forward(&x, heads, &positions, &tables).unwrap();
            assert_close("y", &y, &reference::rotate(&x, heads, &cos, &sin).unwrap(), 1e-6);
            let expected =
                crate::autograd::backward(&[&x], &dy, |v| reference::rotate(&v[0], heads, &cos, &sin)).unwrap();
            assert_close("dx", &backward(&dy, heads, &positions, &tables).unwrap(), &expected[0], 1e-6);
            assert_close("there and back", &backward(&y, heads, &positions, &tables).unwrap(), &x, 1e-6);
        }
    }

    #[test]
    fn a_position_beyond_the_context_is_named() {
        let message = forward(&random(&[1, 4], 1), 1, &[64], &tables(2)).unwrap_err().to_string();
        assert!(message.contains("position 64 but the context has 64"), "{message}");
    }
}
