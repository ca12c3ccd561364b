//! Rotary position embedding in the rotate-half layout of Hugging Face; its backward pass is the opposite rotation.
//!
//! The families differ in their tables alone. Llama, Qwen, Gemma and OLMo turn the whole head (`half = D / 2`). GPT-NeoX
//! and some of Phi turn its first channels (`half` smaller, the rest passes). Scalings change the frequencies; yarn and
//! longrope have an attention factor besides, which multiplies cosines and sines. Positions are a row of their own, so
//! that they restart in each document of a packed row.
//!
//! Left out: pairs of neighbouring channels (GPT-J, and Llama in GGUF files): weights are permuted where they load.

pub mod case;
mod cpu;
pub mod reference;

use crate::storage::{fused, narrow, wide};
use candle_core::{Device, Result, Tensor, bail};

/// Cosines and sines by position, for the first `2 * half` channels of a head; (positions, half) each, f32.
#[derive(Clone, Debug)]
pub struct Tables {
    cos: Tensor,
    sin: Tensor,
}

impl Tables {
    /// Tables of `num_positions` rows for these inverse frequencies (one per pair of channels), computed in f64 and
    /// rounded once. `scaling` multiplies both (yarn's and longrope's attention factor; else 1).
    pub fn new(inverse_frequencies: &[f64], scaling: f64, num_positions: usize, device: &Device) -> Result<Self> {
        let positions: Vec<u32> = (0..num_positions as u32).collect();
        Self::of_documents(&[(&positions, inverse_frequencies.to_vec())], scaling, device)
    }

    /// Tables with a row for each token instead of each position, where documents differ in their frequencies (dynamic
    /// and longrope scaling): the positions of each document's tokens and its inverse frequencies, one after another.
    /// They are read at 0, 1, 2, ... Errors: documents with unequal numbers of frequencies.
    pub fn of_documents(documents: &[(&[u32], Vec<f64>)], scaling: f64, device: &Device) -> Result<Self> {
        let half = documents.first().map_or(0, |(_, frequencies)| frequencies.len());
        let rows = documents.iter().map(|(positions, _)| positions.len()).sum::<usize>();
        if documents.iter().any(|(_, frequencies)| frequencies.len() != half) {
            bail!("rope: documents with unequal numbers of frequencies")
        }
        let table = |f: fn(f64) -> f64| {
            let values = documents.iter().flat_map(|(positions, frequencies)| {
                // the angle is rounded to f32 first, as transformers computes it
                let angle = |p: u32, w: f64| f64::from(p as f32 * w as f32);
                let angles = positions.iter().flat_map(move |&p| frequencies.iter().map(move |&w| angle(p, w)));
                angles.map(move |angle| (f(angle) * scaling) as f32)
            });
            Tensor::from_vec(values.collect::<Vec<f32>>(), (rows, half), device)
        };
        Ok(Self { cos: table(f64::cos)?, sin: table(f64::sin)? })
    }

    /// Positions the tables reach.
    pub fn num_positions(&self) -> usize {
        self.cos.dims()[0]
    }

    /// Rows of cosine and sine for these positions. Shapes: (T, half) each.
    pub fn rows(&self, positions: &[u32]) -> Result<(Tensor, Tensor)> {
        let indices = Tensor::from_slice(positions, positions.len(), self.cos.device())?;
        Ok((self.cos.index_select(&indices, 0)?, self.sin.index_select(&indices, 0)?))
    }
}

/// Rotates the first `2 * half` channels of every head by its token's position.
/// Shapes: x (T, heads * D), positions T -> (T, heads * D). Errors: D doesn't fit, a position beyond the tables.
/// Source: Su et al. 2021, arXiv:2104.09864; layout of transformers' apply_rotary_pos_emb.
pub fn forward(x: &Tensor, num_heads: usize, positions: &[u32], tables: &Tables) -> Result<Tensor> {
    rotate(x, num_heads, positions, tables, 1.0)
}

/// The gradient: rotation by the opposite angle, which is the transposed matrix, whatever the scaling of the tables.
/// Shapes: as [`forward`].
pub fn backward(dy: &Tensor, num_heads: usize, positions: &[u32], tables: &Tables) -> Result<Tensor> {
    rotate(dy, num_heads, positions, tables, -1.0)
}

fn rotate(x: &Tensor, num_heads: usize, positions: &[u32], tables: &Tables, direction: f32) -> Result<Tensor> {
    crate::arguments::check("rope", &[("x", x), ("cosines", &tables.cos)])?;
    let (t, width) = x.dims2()?;
    let half = tables.cos.dim(1)?;
    let fits = t == positions.len() && num_heads > 0 && width > 0 && width % num_heads == 0;
    if !fits || 2 * half > width / num_heads {
        bail!("rope: x {:?}, {num_heads} heads, {} positions, {half} frequencies", x.shape(), positions.len())
    }
    if let Some(position) = positions.iter().find(|&&p| p as usize >= tables.num_positions()) {
        bail!("rope: position {position} but the context has {}", tables.num_positions())
    }
    if narrow(x) {
        return rotate(&wide(x)?, num_heads, positions, tables, direction)?.to_dtype(x.dtype());
    }
    if t == 0 {
        return Ok(x.clone());
    }
    if fused(x) {
        cpu::rotate(&x.contiguous()?, num_heads, positions, &tables.cos, &tables.sin, direction)
    } else {
        let (cos, sin) = tables.rows(positions)?;
        reference::rotate(x, num_heads, &cos, &(sin * f64::from(direction))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, bits, random};

    fn tables(half: usize, scaling: f64) -> Tables {
        let frequencies: Vec<f64> = (0..half).map(|i| 10_000f64.powf(-(i as f64) / half as f64)).collect();
        Tables::new(&frequencies, scaling, 64, &Device::Cpu).unwrap()
    }

    #[test]
    fn rotation_there_and_back_is_the_square_of_the_attention_factor() {
        for (heads, dim, half, factor) in [(1, 2, 1, 1.0), (3, 16, 8, 1.0), (2, 12, 3, 1.0), (2, 12, 6, 1.25)] {
            let (x, tables) = (random(&[7, heads * dim], 1), tables(half, factor));
            let positions: Vec<u32> = (0..7).map(|p| (p * 5) % 64).collect();
            let y = forward(&x, heads, &positions, &tables).unwrap();
            let back = backward(&y, heads, &positions, &tables).unwrap();
            let split = |t: &Tensor| t.reshape((7 * heads, dim)).unwrap();
            let turned = |t: &Tensor| split(t).narrow(1, 0, 2 * half).unwrap();
            assert_close("turned", &turned(&back), &(turned(&x) * (factor * factor)).unwrap(), 1e-6);
            let rest = |t: &Tensor| split(t).narrow(1, 2 * half, dim - 2 * half).unwrap();
            assert_eq!(bits(&rest(&y)), bits(&rest(&x)), "what isn't turned keeps its bits");
        }
    }

    #[test]
    fn tables_of_documents_have_the_rows_of_each_documents_own() {
        let (short, long) = (vec![1.0, 0.5], vec![0.25, 0.125]);
        let documents = [(&[0u32, 1, 2][..], short.clone()), (&[0, 1][..], long.clone()), (&[5][..], short.clone())];
        let both = Tables::of_documents(&documents, 1.5, &Device::Cpu).unwrap();
        let rows = |tables: &Tables, positions: &[u32]| tables.rows(positions).unwrap().1.to_vec2::<f32>().unwrap();
        let alone = |frequencies| Tables::new(frequencies, 1.5, 6, &Device::Cpu).unwrap();
        assert_eq!(rows(&both, &[0, 1, 2]), rows(&alone(&short), &[0, 1, 2]));
        assert_eq!(rows(&both, &[3, 4]), rows(&alone(&long), &[0, 1]));
        assert_eq!(rows(&both, &[5]), rows(&alone(&short), &[5]));
        assert!(Tables::of_documents(&[(&[0], short), (&[0], vec![1.0])], 1.0, &Device::Cpu).is_err());
    }

    #[test]
    fn position_0_leaves_a_head_and_every_document_starts_there() {
        let (x, tables) = (random(&[4, 8], 1), tables(4, 1.0));
        let rows = |positions: &[u32]| forward(&x, 1, positions, &tables).unwrap().to_vec2::<f32>().unwrap();
        let restarted = rows(&[0, 1, 0, 1]);
        assert_eq!(restarted[0], x.to_vec2::<f32>().unwrap()[0]);
        assert_eq!(restarted[2], x.to_vec2::<f32>().unwrap()[2]);
        assert_ne!(restarted[2], rows(&[0, 1, 2, 3])[2]);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let message = |x: &Tensor, heads, positions: &[u32], half| {
            forward(x, heads, positions, &tables(half, 1.0)).unwrap_err().to_string()
        };
        let x = random(&[1, 4], 1);
        assert!(message(&x, 1, &[64], 2).contains("position 64 but the context has 64"));
        for text in [message(&x, 3, &[0], 1), message(&x, 0, &[0], 1), message(&x, 2, &[0], 2), message(&x, 1, &[], 2)]
        {
            assert!(text.starts_with("rope: x [1, 4], "), "{text}");
        }
    }
}
