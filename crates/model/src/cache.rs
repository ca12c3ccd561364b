//! The keys and values of a text's tokens so far, of one block. Left out: keys that a window no longer reaches are kept.

use crate::Result;
use candle_core::Tensor;

/// Tokens that a new cache has room for beyond its first.
const ROOM: usize = 64;

/// Keys and values of `len` tokens, with room for more: a token is appended without a copy of those before it, but for
/// the one at each doubling.
pub(crate) struct Cache {
    /// (room, K*D) each.
    keys: Tensor,
    values: Tensor,
    len: usize,
}

impl Cache {
    /// The cache behind a first pass. Shapes: keys and values (T, K*D).
    pub(crate) fn new(keys: Tensor, values: Tensor) -> Result<Self> {
        let len = keys.dim(0)?;
        Ok(Self { keys, values, len })
    }

    /// Appends a token. Shapes: key and value (1, K*D).
    pub(crate) fn push(&mut self, key: &Tensor, value: &Tensor) -> Result<()> {
        let room = self.keys.dim(0)?;
        if self.len == room {
            for tensor in [&mut self.keys, &mut self.values] {
                let wider = Tensor::zeros((2 * room + ROOM, tensor.dim(1)?), tensor.dtype(), tensor.device())?;
                wider.slice_set(tensor, 0, 0)?;
                *tensor = wider;
            }
        }
        self.keys.slice_set(key, 0, self.len)?;
        self.values.slice_set(value, 0, self.len)?;
        self.len += 1;
        Ok(())
    }

    /// Keys and values of all tokens. Shapes: (len, K*D) each; they share the cache's memory.
    pub(crate) fn get(&self) -> Result<(Tensor, Tensor)> {
        Ok((self.keys.narrow(0, 0, self.len)?, self.values.narrow(0, 0, self.len)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn a_cache_holds_what_was_put_in_while_its_room_grows() {
        let row = |i: u32| Tensor::new(&[[i as f32, 0.5]], &Device::Cpu).unwrap();
        let mut cache = Cache::new(row(0), row(1000)).unwrap();
        for i in 1..300 {
            cache.push(&row(i), &row(1000 + i)).unwrap();
            let (keys, values) = cache.get().unwrap();
            let expected = |first: u32| (0..=i).map(|j| vec![(first + j) as f32, 0.5]).collect::<Vec<_>>();
            assert_eq!(keys.to_vec2::<f32>().unwrap(), expected(0));
            assert_eq!(values.to_vec2::<f32>().unwrap(), expected(1000));
        }
    }
}
