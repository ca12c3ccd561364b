//! Block-wise dynamic quantization: a byte a value, and per block of 256 values the largest magnitude.
//!
//! The codes are shares of that magnitude: seven decades, each cut linearly, the higher ones finer.
//! Source: Dettmers et al. 2022, arXiv:2110.02861, section 2; bitsandbytes' `create_dynamic_map`.

use crate::simd;
use candle_core::{DType, Device, Result, Shape, Tensor, bail};
use std::sync::OnceLock;

/// Values that share a magnitude.
pub const BLOCK: usize = 256;

/// More than the upper 16 bits of 1.0.
const CELLS: usize = 1 << 14;

/// What a code means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codebook {
    /// -0.99 to 1, for values of either sign; zero is 127.
    Signed,
    /// 0 to 1, twice as fine; zero is 0.
    Unsigned,
}

/// A tensor in 8 bits.
#[derive(Clone, Debug)]
pub struct Quantized {
    /// A code per value, u8, in the tensor's own shape.
    pub codes: Tensor,
    /// Largest magnitude of each block of 256 values in memory's order, f32; the last block may be shorter.
    pub absmax: Tensor,
    /// What the codes mean.
    pub codebook: Codebook,
}

/// A codebook, ready for use.
pub(super) struct Table {
    /// Value of each code, ascending.
    pub(super) values: [f32; 256],
    /// Between the magnitudes of steps k and k + 1 from zero; infinite behind the last.
    middles: [f32; 256],
    /// By the upper 16 bits of a share: the steps of the smallest share with these bits. A cell has one middle at most.
    /// u32 for gathers, and a power of two of them, so that a mask is all the check that an index needs; of the 64 KiB
    /// those of seven decades are used, 12 KiB.
    cells: Box<[u32; CELLS]>,
    /// Code of zero.
    zero: u8,
}

impl Codebook {
    pub(super) fn table(self) -> &'static Table {
        static TABLES: [OnceLock<Table>; 2] = [OnceLock::new(), OnceLock::new()];
        TABLES[self as usize].get_or_init(|| Table::new(self))
    }

    /// Value of each of the 256 codes, ascending.
    pub fn values(self) -> &'static [f32; 256] {
        &self.table().values
    }
}

impl Table {
    fn new(codebook: Codebook) -> Self {
        let doubled = usize::from(codebook == Codebook::Unsigned);
        let mut magnitudes = vec![0f64]; // by steps from zero
        for decade in 0..7 {
            let parts = 1 << (decade + doubled);
            let width = 0.9 / parts as f64;
            let scale = 10f64.powi(decade as i32 - 6);
            magnitudes.extend((0..parts).map(|part| scale * (0.1 + width * (part as f64 + 0.5))));
        }
        let negative = if doubled == 0 { magnitudes.len() - 1 } else { 0 }; // 1 has no negative
        magnitudes.push(1.0);
        let below = magnitudes[1..=negative].iter().rev().map(|m| -m);
        let mut values = [0f32; 256];
        for (value, magnitude) in values.iter_mut().zip(below.chain(magnitudes.iter().copied())) {
            *value = magnitude as f32;
        }
        let mut middles = [f32::INFINITY; 256];
        for (middle, pair) in middles.iter_mut().zip(values[negative..].windows(2)) {
            *middle = (pair[0] + pair[1]) / 2.0;
        }
        let mut cells = Box::new([0; CELLS]);
        for (cell, upper) in cells.iter_mut().zip(0..=1f32.to_bits() >> 16) {
            let smallest = f32::from_bits(upper << 16);
            *cell = middles.partition_point(|middle| *middle < smallest) as u32;
        }
        Self { values, middles, cells, zero: negative as u8 }
    }

    /// Steps from zero of the code nearest to `share`, in 0..=1; the lower one between two.
    #[inline(always)]
    fn steps(&self, share: f32) -> i32 {
        let steps = self.cells[(share.to_bits() >> 16) as usize % CELLS];
        steps as i32 + i32::from(share > self.middles[steps as usize % 256])
    }

    /// Widens a block.
    #[inline(always)]
    pub(super) fn dequantize(&self, codes: &[u8], absmax: f32, values: &mut [f32]) {
        for (value, code) in values.iter_mut().zip(codes) {
            *value = self.values[*code as usize] * absmax;
        }
    }

    /// Narrows a block of at most [`BLOCK`] values and returns its largest magnitude: NaN where a value is NaN, which
    /// then is the whole block's.
    #[inline(always)]
    pub(super) fn quantize(&self, values: &[f32], codes: &mut [u8]) -> f32 {
        let mut shares = [0f32; BLOCK];
        let shares = &mut shares[..values.len()];
        shares.iter_mut().zip(values).for_each(|(share, value)| *share = value.abs());
        let absmax = simd::max(shares);
        let divisor = if absmax == 0.0 { 1.0 } else { absmax };
        for share in shares.iter_mut() {
            let quotient = *share / divisor;
            *share = if quotient < 1.0 { quotient } else { 1.0 }; // NaN, too: the magnitude keeps it
        }
        let zero = i32::from(self.zero);
        // Into an array of its own, which can't overlap the table: else the loop isn't vectorised and guesses signs.
        let mut narrow = [0u8; BLOCK];
        for ((code, share), value) in narrow.iter_mut().zip(shares.iter()).zip(values) {
            let steps = self.steps(*share).max(i32::from(*value != 0.0));
            let (sign, most) = if *value < 0.0 { (-1, zero) } else { (1, 255 - zero) };
            *code = (zero + sign * steps.min(most)) as u8;
        }
        codes.copy_from_slice(&narrow[..codes.len()]);
        absmax
    }
}

impl Quantized {
    /// Zeros. Memory: a byte a value and four a block.
    pub fn zeros(shape: impl Into<Shape>, codebook: Codebook, device: &Device) -> Result<Self> {
        let shape = shape.into();
        let blocks = shape.elem_count().div_ceil(BLOCK);
        let codes = Tensor::full(codebook.table().zero, shape, device)?;
        Ok(Self { codes, absmax: Tensor::zeros(blocks, DType::F32, device)?, codebook })
    }

    /// The values, f32, by tensor ops on the tensor's own device.
    pub fn dequantize(&self) -> Result<Tensor> {
        let (device, len) = (self.codes.device(), self.codes.elem_count());
        let values = Tensor::new(self.codebook.values(), device)?;
        let shares = values.index_select(&self.codes.flatten_all()?.to_dtype(DType::U32)?, 0)?;
        let blocks = self.absmax.elem_count();
        let absmax = self.absmax.unsqueeze(1)?.broadcast_as((blocks, BLOCK))?.contiguous()?.flatten_all()?;
        (shares * absmax.narrow(0, 0, len)?)?.reshape(self.codes.shape())
    }

    /// Takes these f32 values, which are copied to the CPU to find their codes.
    pub fn quantize(&mut self, values: &Tensor) -> Result<()> {
        let (shape, device, table) = (values.shape(), values.device(), self.codebook.table());
        let values = values.flatten_all()?.to_device(&Device::Cpu)?.to_vec1::<f32>()?;
        let mut codes = vec![0u8; values.len()];
        let blocks = values.chunks(BLOCK).zip(codes.chunks_mut(BLOCK));
        let absmax: Vec<f32> = blocks.map(|(values, codes)| table.quantize(values, codes)).collect();
        self.absmax = Tensor::from_vec(absmax, self.absmax.shape(), device)?;
        self.codes = Tensor::from_vec(codes, shape, device)?;
        Ok(())
    }

    /// Errors: not a magnitude per block.
    pub(super) fn check(&self, name: &str) -> Result<()> {
        match self.absmax.dims() == [self.codes.elem_count().div_ceil(BLOCK)] {
            true => Ok(()),
            false => bail!("{name}: {:?} codes but {:?} blocks", self.codes.shape(), self.absmax.shape()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codebooks_are_those_of_bitsandbytes() {
        let (signed, unsigned) = (Codebook::Signed.values(), Codebook::Unsigned.values());
        for values in [signed, unsigned] {
            assert!(values.windows(2).all(|pair| pair[0] < pair[1]), "256 values, ascending");
        }
        // from bitsandbytes' create_dynamic_map: decades of means of 2^i (unsigned: 2^(i+1)) parts of 0.1..1
        let near = |value: f32, expected: f64| assert!((f64::from(value) / expected - 1.0).abs() < 1e-6, "{value}");
        assert_eq!((signed[127], signed[255], unsigned[0], unsigned[255]), (0.0, 1.0, 0.0, 1.0));
        near(signed[128], 5.5e-7);
        near(signed[126], -5.5e-7);
        near(signed[0], -(1.0 - 0.45 / 64.0));
        near(signed[254], 1.0 - 0.45 / 64.0);
        near(unsigned[1], 3.25e-7);
        near(unsigned[2], 7.75e-7);
        near(unsigned[254], 1.0 - 0.45 / 128.0);
    }

    #[test]
    fn every_share_gets_the_nearest_code() {
        for codebook in [Codebook::Signed, Codebook::Unsigned] {
            let table = codebook.table();
            let check = |share: f32| {
                let expected = table.middles.partition_point(|middle| *middle < share);
                assert_eq!(table.steps(share) as usize, expected, "{codebook:?} {share:e}");
            };
            let around = |x: f32| [x.next_down(), x, x.next_up()];
            table.middles.iter().filter(|middle| middle.is_finite()).copied().flat_map(around).for_each(check);
            (0..=1f32.to_bits() >> 16)
                .flat_map(|upper| [f32::from_bits(upper << 16), f32::from_bits((upper << 16) + 0x8000)])
                .filter(|share| *share <= 1.0)
                .for_each(check);
        }
    }

    #[test]
    fn values_come_back_within_half_a_step_and_their_zeros_and_signs_whole() {
        let values: Vec<f32> = (0..BLOCK).map(|i| (i as f32 * 0.37).sin() * (-(i as f32) * 0.08).exp()).collect();
        let (mut codes, mut back) = ([0u8; BLOCK], [0f32; BLOCK]);
        let table = Codebook::Signed.table();
        let absmax = table.quantize(&values, &mut codes);
        table.dequantize(&codes, absmax, &mut back);
        for (value, back) in values.iter().zip(&back) {
            // a share's step is 0.9 / 2^decade of its decade, so at most as large as the share
            let tolerance = 0.0071f32.max(0.5 * value.abs() / absmax) * absmax;
            assert!((value - back).abs() <= tolerance.max(3e-7 * absmax), "{value} {back}");
            assert_eq!(*value == 0.0, *back == 0.0);
            assert!(value * back >= 0.0, "{value} {back}");
        }
        assert_eq!(table.quantize(&[0.0; 3], &mut codes[..3]), 0.0);
        assert_eq!(codes[..3], [127; 3]);
        assert!(table.quantize(&[1.0, f32::NAN, 0.0], &mut codes[..3]).is_nan());
        assert_eq!(table.quantize(&[1.0, 1e-30, -1e-30], &mut codes[..3]), 1.0);
        assert_eq!(codes[..3], [255, 128, 126], "what isn't zero doesn't become it");
    }

    #[test]
    fn tensors_of_any_length_come_back_in_their_shape() {
        for shape in [vec![1], vec![3, 100], vec![256], vec![5, 103]] {
            let values = crate::testing::random(&shape, 3);
            let mut quantized = Quantized::zeros(shape.clone(), Codebook::Signed, &Device::Cpu).unwrap();
            quantized.check("test").unwrap();
            assert_eq!(
                quantized.dequantize().unwrap().sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap(),
                0.0
            );
            quantized.quantize(&values).unwrap();
            quantized.check("test").unwrap();
            crate::testing::assert_close("values", &quantized.dequantize().unwrap(), &values, 0.0071);
        }
    }
}
