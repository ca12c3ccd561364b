//! Rotary position embedding of a model: base, scaling of the frequencies, and the tables that a row of documents
//! reads. Source of every formula: transformers' modeling_rope_utils. The rotation itself is `outcrop_kernels::rope`.

use crate::row::Row;
use crate::{ModelError, Result};
use candle_core::Device;
use outcrop_kernels::rope::Tables;
use std::borrow::Cow;

/// Rotary embedding: how many channels turn, the base, and the scaling of its frequencies.
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    /// Channels of a head that turn, from the first; even.
    pub dim: usize,
    /// `rope_theta`.
    pub theta: f64,
    /// How frequencies are stretched for longer contexts.
    pub scaling: RopeScaling,
}

/// Stretching of the rotary frequencies. `original` is the context, in tokens, that the model was first trained with.
#[derive(Clone, Debug, PartialEq)]
pub enum RopeScaling {
    /// None.
    Default,
    /// All frequencies divided by a factor.
    Linear {
        /// The divisor.
        factor: f64,
    },
    /// The base grows with the document's length, where that exceeds the original context.
    Dynamic {
        /// How many times the original context the model may read.
        factor: f64,
        /// The original context.
        original: usize,
    },
    /// Low frequencies divided, high kept, a ramp by channel between; the scores are sharpened (arXiv:2309.00071).
    Yarn {
        /// Divisor of the low frequencies.
        factor: f64,
        /// The original context.
        original: f64,
        /// Turns within the original context, above which a frequency is kept.
        beta_fast: f64,
        /// Turns below which it is divided.
        beta_slow: f64,
        /// Whether the ramp's ends are rounded to whole channels.
        truncate: bool,
        /// Multiplies cosines and sines.
        attention_factor: f64,
    },
    /// Every frequency has its own divisor, one set for documents within the original context, one for longer
    /// (arXiv:2402.13753).
    LongRope {
        /// Divisors up to the original context.
        short: Vec<f64>,
        /// Divisors beyond.
        long: Vec<f64>,
        /// The original context.
        original: usize,
        /// Multiplies cosines and sines.
        attention_factor: f64,
    },
    /// Llama 3.1: low frequencies divided, high kept, a smooth ramp between.
    Llama3 {
        /// Divisor of the low frequencies.
        factor: f64,
        /// Wavelengths above `original / low_freq_factor` are divided.
        low_freq_factor: f64,
        /// Wavelengths below `original / high_freq_factor` are kept.
        high_freq_factor: f64,
        /// The context the base was first trained with.
        original_max_position_embeddings: f64,
    },
}

impl Rope {
    /// Without scaling.
    pub fn plain(dim: usize, theta: f64) -> Self {
        Self { dim, theta, scaling: RopeScaling::Default }
    }

    /// Inverse frequencies, one per pair of channels, for a document of `length` tokens.
    pub fn inverse_frequencies(&self, length: usize) -> Vec<f64> {
        let plain = |theta: f64| (0..self.dim / 2).map(move |i| theta.powf(-(2.0 * i as f64) / self.dim as f64));
        match &self.scaling {
            RopeScaling::Default => plain(self.theta).collect(),
            RopeScaling::Linear { factor } => plain(self.theta).map(|f| f / factor).collect(),
            RopeScaling::Dynamic { factor, original } => {
                let growth = factor * length.max(*original) as f64 / *original as f64 - (factor - 1.0);
                plain(self.theta * growth.powf(self.dim as f64 / (self.dim as f64 - 2.0))).collect()
            }
            RopeScaling::Yarn { factor, original, beta_fast, beta_slow, truncate, .. } => {
                let (low, high) = self.yarn_range(*original, *beta_fast, *beta_slow, *truncate);
                let ramp = |i: usize| ((i as f64 - low) / (high - low)).clamp(0.0, 1.0); // 0: kept, 1: divided
                plain(self.theta).enumerate().map(|(i, f)| f / factor * ramp(i) + f * (1.0 - ramp(i))).collect()
            }
            RopeScaling::LongRope { short, long, original, .. } => {
                let divisors = if length > *original { long } else { short };
                plain(self.theta).zip(divisors).map(|(f, divisor)| f / divisor).collect()
            }
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings } => {
                let scaled = |frequency: f64| {
                    let wavelength = std::f64::consts::TAU / frequency;
                    let turns = original_max_position_embeddings / wavelength;
                    let smooth = (turns - low_freq_factor) / (high_freq_factor - low_freq_factor);
                    let smooth = smooth.clamp(0.0, 1.0); // 0: divided, 1: kept
                    (1.0 - smooth) * frequency / factor + smooth * frequency
                };
                plain(self.theta).map(scaled).collect()
            }
        }
    }

    /// The pairs of channels between which yarn's ramp runs.
    fn yarn_range(&self, original: f64, beta_fast: f64, beta_slow: f64, truncate: bool) -> (f64, f64) {
        let pair =
            |turns: f64| self.dim as f64 * (original / (turns * std::f64::consts::TAU)).ln() / (2.0 * self.theta.ln());
        let (low, high) = (pair(beta_fast), pair(beta_slow));
        let (low, high) = if truncate { (low.floor(), high.ceil()) } else { (low, high) };
        let (low, high) = (low.max(0.0), high.min(self.dim as f64 - 1.0));
        (low, if low == high { high + 0.001 } else { high })
    }

    /// What multiplies cosines and sines.
    pub fn attention_factor(&self) -> f64 {
        match self.scaling {
            RopeScaling::Yarn { attention_factor, .. } | RopeScaling::LongRope { attention_factor, .. } => {
                attention_factor
            }
            _ => 1.0,
        }
    }

    /// The length, in tokens, up to which all documents have the same frequencies; None where every length does.
    pub fn original(&self) -> Option<usize> {
        match self.scaling {
            RopeScaling::Dynamic { original, .. } | RopeScaling::LongRope { original, .. } => Some(original),
            _ => None,
        }
    }

    /// True where a document of `length` tokens has other frequencies than one of a token less: keys that were cached
    /// for the shorter one don't hold for it.
    pub fn changes_at(&self, length: usize) -> bool {
        match self.scaling {
            RopeScaling::Dynamic { original, .. } => length > original,
            RopeScaling::LongRope { original, .. } => length == original + 1,
            _ => false,
        }
    }
}

/// A rotary embedding with its tables on a device.
#[derive(Clone, Debug)]
pub(crate) struct Rotary {
    rope: Rope,
    tables: Tables,
    num_positions: usize,
    device: Device,
}

/// What one row reads: tables, and the row of them for each token.
pub(crate) struct Rotation<'a> {
    pub(crate) tables: Cow<'a, Tables>,
    pub(crate) positions: Cow<'a, [u32]>,
}

impl Rotary {
    /// Tables of `num_positions`, or of the original context where longer documents have frequencies of their own.
    pub(crate) fn new(rope: &Rope, num_positions: usize, device: &Device) -> Result<Self> {
        let shared = rope.original().map_or(num_positions, |original| original.min(num_positions));
        let tables = Tables::new(&rope.inverse_frequencies(shared), rope.attention_factor(), shared, device)?;
        Ok(Self { rope: rope.clone(), tables, num_positions, device: device.clone() })
    }

    /// True where cached keys don't hold for a document of `length` tokens.
    pub(crate) fn changes_at(&self, length: usize) -> bool {
        self.rope.changes_at(length)
    }

    /// True where a document of `length` tokens turns by frequencies of its own.
    pub(crate) fn is_own(&self, length: usize) -> bool {
        self.rope.original().is_some_and(|original| length > original)
    }

    /// The rotation of a row. A document's frequencies depend on its own length alone, whatever shares its row (R10).
    /// Cost: nothing, but for a row with a document longer than `original`: then two T x dim/2 tables are computed.
    pub(crate) fn of<'a>(&'a self, row: &'a Row) -> Result<Rotation<'a>> {
        let longest = row.positions.iter().max().map_or(0, |&p| p as usize + 1);
        if longest > self.num_positions {
            let (position, context) = (longest - 1, self.num_positions);
            return Err(ModelError::Unsupported(format!("rope: position {position} but the context has {context}")));
        }
        if self.rope.original().is_none_or(|original| longest <= original) {
            return Ok(Rotation { tables: Cow::Borrowed(&self.tables), positions: Cow::Borrowed(&row.positions) });
        }
        let documents = row.documents.ranges().map(|range| {
            let positions = &row.positions[range];
            // the last position, not the number of tokens: generation appends rows that begin inside a document
            let length = positions.last().map_or(0, |&last| last as usize + 1);
            (positions, self.rope.inverse_frequencies(length))
        });
        let documents: Vec<_> = documents.collect();
        let tables = Tables::of_documents(&documents, self.rope.attention_factor(), &self.device)?;
        Ok(Rotation { tables: Cow::Owned(tables), positions: (0..row.len() as u32).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rope(scaling: RopeScaling) -> Rope {
        Rope { dim: 8, theta: 10_000.0, scaling }
    }

    #[test]
    fn a_linear_scaling_divides_every_frequency() {
        let (plain, scaled) = (Rope::plain(8, 1e4), rope(RopeScaling::Linear { factor: 4.0 }));
        let (plain, scaled) = (plain.inverse_frequencies(1), scaled.inverse_frequencies(1));
        assert!(plain.iter().zip(&scaled).all(|(a, b)| (a / 4.0 - b).abs() < 1e-15));
    }

    #[test]
    fn frequencies_follow_the_length_where_the_scaling_says_so() {
        let dynamic = rope(RopeScaling::Dynamic { factor: 2.0, original: 16 });
        let plain = Rope::plain(8, 1e4).inverse_frequencies(1);
        assert_eq!(dynamic.inverse_frequencies(3), plain);
        assert_eq!(dynamic.inverse_frequencies(16), plain);
        // the base of 32 tokens: theta * 3^(8/6)
        let base = 1e4 * 3f64.powf(8.0 / 6.0);
        assert!((dynamic.inverse_frequencies(32)[1] - base.powf(-0.25)).abs() < 1e-15);
        assert!(!dynamic.changes_at(16) && dynamic.changes_at(17) && dynamic.changes_at(18));

        let (short, long) = (vec![1.0, 1.0, 2.0, 3.0], vec![1.0, 2.0, 4.0, 8.0]);
        let longrope = rope(RopeScaling::LongRope { short, long, original: 16, attention_factor: 1.5 });
        assert_eq!(longrope.inverse_frequencies(16)[3], plain[3] / 3.0);
        assert_eq!(longrope.inverse_frequencies(17)[3], plain[3] / 8.0);
        assert!(!longrope.changes_at(16) && longrope.changes_at(17) && !longrope.changes_at(18));
        assert_eq!(longrope.attention_factor(), 1.5);
    }

    #[test]
    fn r10_a_long_document_does_not_change_the_rotation_of_a_short_one() {
        let dynamic = rope(RopeScaling::Dynamic { factor: 4.0, original: 16 });
        let rotary = Rotary::new(&dynamic, 64, &Device::Cpu).unwrap();
        let tables = |row: &Row| {
            let rotation = rotary.of(row).unwrap();
            rotation.tables.rows(&rotation.positions).unwrap().0.to_vec2::<f32>().unwrap()
        };
        let packed = tables(&Row::new(vec![1; 40], &[0, 30, 40]).unwrap());
        assert_eq!(packed[..30], tables(&Row::single(vec![1; 30]).unwrap()));
        assert_eq!(packed[30..], tables(&Row::single(vec![1; 10]).unwrap()));
        assert_ne!(packed[..10], packed[30..]);
        let message = rotary.of(&Row::single(vec![1; 65]).unwrap()).err().unwrap().to_string();
        assert_eq!(message, "rope: position 64 but the context has 64");
    }
}
