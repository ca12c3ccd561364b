//! The buffer of a result, without the zeros that a fresh `vec!` writes first: on one thread, and past the caches.

use crate::storage::SharedMut;
use rayon::prelude::*;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A buffer whose values tasks write, after which it is a `Vec`.
pub(crate) struct Fresh {
    values: Vec<f32>,
    len: usize,
    /// Values that [`Fresh::par_chunks_mut`] has handed out.
    initialised: AtomicUsize,
}

impl Fresh {
    pub(crate) fn new(len: usize) -> Self {
        Self { values: Vec::with_capacity(len), len, initialised: AtomicUsize::new(0) }
    }

    /// Its chunks, each zeroed by the task that takes it, in that task's cache.
    pub(crate) fn par_chunks_mut(&mut self, size: usize) -> impl IndexedParallelIterator<Item = &mut [f32]> {
        let Self { values, len, initialised } = self;
        *initialised.get_mut() = 0; // counted again, so that no chunk counts twice
        let initialised = &*initialised;
        values.spare_capacity_mut()[..*len].par_chunks_mut(size).map(move |chunk| {
            chunk.fill(MaybeUninit::new(0.0));
            initialised.fetch_add(chunk.len(), Ordering::Relaxed);
            // SAFETY: all of its values are initialised, and `MaybeUninit<f32>` lies in memory as f32 does.
            unsafe { &mut *(std::ptr::from_mut(chunk) as *mut [f32]) }
        })
    }

    /// The values, once tasks have taken every chunk.
    pub(crate) fn into_vec(mut self) -> Vec<f32> {
        assert!(*self.initialised.get_mut() == self.len, "a part of a result was never written");
        // SAFETY: every value is initialised.
        unsafe { self.written() }
    }

    /// For tasks that write parts which aren't chunks. Nothing that is there may be read before it is written.
    pub(crate) fn shared(&mut self) -> SharedMut {
        SharedMut(self.values.as_mut_ptr())
    }

    /// The values, written through [`Fresh::shared`].
    ///
    /// # Safety
    /// Every value must be written.
    pub(crate) unsafe fn written(mut self) -> Vec<f32> {
        // SAFETY: the capacity is there, and the caller promised the values.
        unsafe { self.values.set_len(self.len) };
        self.values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_zeroed_and_written_and_the_values_are_theirs() {
        for len in [0, 1, 7, 8, 9, 1000] {
            let mut fresh = Fresh::new(len);
            fresh.par_chunks_mut(8).for_each(|chunk| chunk.fill(7.0)); // what another round writes doesn't stay
            fresh.par_chunks_mut(8).enumerate().for_each(|(index, chunk)| {
                assert!(chunk.iter().all(|&x| x == 0.0));
                chunk.fill(index as f32);
            });
            assert_eq!(fresh.into_vec(), (0..len).map(|i| (i / 8) as f32).collect::<Vec<_>>());
        }
    }

    #[test]
    #[should_panic(expected = "never written")]
    fn a_chunk_that_no_task_took_is_found() {
        let mut fresh = Fresh::new(20);
        fresh.par_chunks_mut(8).take(2).for_each(|chunk| chunk.fill(1.0));
        fresh.into_vec();
    }
}
