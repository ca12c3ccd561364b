//! The order of examples as a pure function of (seed, epoch, position): nothing to replay on resume, a cursor is one number (R25).
//!
//! A keyed Feistel network over the smallest square-shaped domain that holds `len`, with cycle walking back into `0..len`:
//! Black and Rogaway, "Ciphers with Arbitrary Finite Domains", CT-RSA 2002. It is a shuffle, not cryptography.

/// Feistel rounds. Four are needed for a pseudorandom permutation (Luby and Rackoff 1988); small domains want more.
const ROUNDS: usize = 10;

/// A permutation of `0..len` for every epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Order {
    len: u64,
    seed: u64,
    shuffle: bool,
}

impl Order {
    /// `shuffle = false` keeps the order of the file in every epoch.
    pub fn new(len: usize, seed: u64, shuffle: bool) -> Self {
        Self { len: len as u64, seed, shuffle }
    }

    /// How many positions an epoch has.
    pub fn epoch_len(&self) -> usize {
        self.len as usize
    }

    /// Which example stands at `position` of `epoch`. Panics where `position` is outside the epoch.
    pub fn index(&self, epoch: u64, position: usize) -> usize {
        let position = position as u64;
        assert!(position < self.len, "position {position} is outside an epoch of {}", self.len);
        if !self.shuffle {
            return position as usize;
        }
        let keys = self.round_keys(epoch);
        // Half of the bits that `len - 1` needs, rounded up: the domain is below 4 * len, so few steps of the walk are expected.
        let half_bits = (u64::BITS - (self.len - 1).leading_zeros()).div_ceil(2).max(1);
        let mut value = feistel(position, half_bits, &keys);
        while value >= self.len {
            value = feistel(value, half_bits, &keys);
        }
        value as usize
    }

    fn round_keys(&self, epoch: u64) -> [u64; ROUNDS] {
        let mut hasher = blake3::Hasher::new_derive_key("outcrop data order v1");
        hasher.update(&self.seed.to_le_bytes()).update(&epoch.to_le_bytes());
        let mut bytes = [0u8; 8 * ROUNDS];
        hasher.finalize_xof().fill(&mut bytes);
        let mut keys = [0; ROUNDS];
        for (key, bytes) in keys.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *key = u64::from_le_bytes(*bytes);
        }
        keys
    }
}

/// One pass of a balanced Feistel network over `2 * half_bits` bits: a bijection whatever the round function is.
fn feistel(value: u64, half_bits: u32, keys: &[u64; ROUNDS]) -> u64 {
    let mask = u64::MAX >> (u64::BITS - half_bits);
    let (mut left, mut right) = (value >> half_bits, value & mask);
    for key in keys {
        (left, right) = (right, left ^ (mix(right ^ key) & mask));
    }
    (left << half_bits) | right
}

/// The finaliser of SplitMix64 (Steele, Lea and Flood 2014), variant 13 of David Stafford.
fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn epoch(order: Order, epoch: u64) -> Vec<usize> {
        (0..order.epoch_len()).map(|position| order.index(epoch, position)).collect()
    }

    #[test]
    fn every_small_length_is_a_bijection() {
        for len in 1..=300 {
            let mut seen = epoch(Order::new(len, 7, true), 3);
            seen.sort_unstable();
            assert_eq!(seen, (0..len).collect::<Vec<_>>(), "len {len}");
        }
    }

    #[test]
    fn without_shuffling_the_order_is_that_of_the_file() {
        assert_eq!(epoch(Order::new(5, 1, false), 9), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn r25_seed_and_epoch_give_their_own_order_and_the_same_one_each_time() {
        let order = Order::new(1000, 1, true);
        assert_eq!(epoch(order, 0), epoch(order, 0));
        assert_ne!(epoch(order, 0), epoch(order, 1));
        assert_ne!(epoch(order, 0), epoch(Order::new(1000, 2, true), 0));
        // Fixed for good: a resumed run of a later version must find the same order.
        assert_eq!(epoch(Order::new(10, 42, true), 0), [2, 3, 0, 6, 7, 5, 1, 8, 9, 4]);
    }

    #[test]
    fn lengths_beyond_32_bits_work() {
        let order = Order::new(usize::MAX, 1, true);
        assert_ne!(order.index(0, usize::MAX - 1), order.index(0, 0));
    }

    /// Chi-square over 4000 seeds: each example is equally likely at the first and at the last position.
    #[test]
    fn positions_are_filled_evenly_over_seeds() {
        for len in [2usize, 3, 5, 8, 16, 20, 33] {
            for position in [0, len - 1] {
                let mut counts = vec![0f64; len];
                for seed in 0..4000 {
                    counts[Order::new(len, seed, true).index(0, position)] += 1.0;
                }
                let expected = 4000.0 / len as f64;
                let chi_square: f64 = counts.iter().map(|count| (count - expected).powi(2) / expected).sum();
                let freedom = len as f64 - 1.0;
                // Mean + 4.5 standard deviations of the chi-square distribution, wider where it is skewed.
                assert!(chi_square < freedom + 4.5 * (2.0 * freedom).sqrt() + 6.0, "len {len}: {chi_square}");
            }
        }
    }

    proptest! {
        #[test]
        fn order_is_a_bijection(len in 1usize..5000, seed: u64, number: u64) {
            let mut seen = vec![false; len];
            for index in epoch(Order::new(len, seed, true), number) {
                prop_assert!(!std::mem::replace(&mut seen[index], true));
            }
        }
    }
}
