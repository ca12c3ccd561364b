//! Packing: items of some length into rows of a capacity, best fit among a bounded number of open rows.
//!
//! For wherever no optimizer step binds what shares a row: rows of raw text, features, evaluation. An item goes into the open row
//! that it leaves the least room in; where none has room a row is opened, and beyond the window the fullest one is closed. So
//! memory is bounded, one pass is enough, and the result is a pure function of the lengths in their order.
//! Source: best fit, Johnson 1974; the bounded window is bounded-space bin packing, Csirik and Johnson 1990.

use serde::{Deserialize, Serialize};

/// Open rows where nothing else is said.
pub(crate) const PACKING_WINDOW: usize = 64;

/// Collects items into rows.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RowPacker<T> {
    capacity: usize,
    window: usize,
    open: Vec<OpenRow<T>>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct OpenRow<T> {
    length: usize,
    items: Vec<T>,
}

impl<T> RowPacker<T> {
    /// Rows of at most `capacity`, of which at most `window` (at least one) are open at a time.
    pub fn new(capacity: usize, window: usize) -> Self {
        Self { capacity, window: window.max(1), open: Vec::new() }
    }

    /// Adds an item; gives the row that this closes, if any: the one that is full now, or the fullest where there are too many.
    /// An item as long as a row, or longer, is a row alone.
    pub fn push(&mut self, length: usize, item: T) -> Option<Vec<T>> {
        if length >= self.capacity {
            return Some(vec![item]);
        }
        let room = |row: &OpenRow<T>| self.capacity - row.length;
        let fits = self.open.iter().enumerate().filter(|(_, row)| room(row) >= length);
        match fits.min_by_key(|(_, row)| room(row)).map(|(index, _)| index) {
            Some(index) => {
                let row = &mut self.open[index];
                row.length += length;
                row.items.push(item);
                (row.length == self.capacity).then(|| self.open.remove(index).items)
            }
            None => {
                self.open.push(OpenRow { length, items: vec![item] });
                (self.open.len() > self.window).then(|| self.close_fullest())
            }
        }
    }

    /// The rows that are still open, in the order they were opened.
    pub fn finish(self) -> impl Iterator<Item = Vec<T>> {
        self.open.into_iter().map(|row| row.items)
    }

    fn close_fullest(&mut self) -> Vec<T> {
        // The first of equals, whatever `max_by_key` would take.
        let fullest = self.open.iter().map(|row| row.length).max().unwrap_or(0);
        let index = self.open.iter().position(|row| row.length == fullest).expect("a row was just opened");
        self.open.remove(index).items
    }
}

/// How full packed rows are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fullness {
    /// Tokens in all rows.
    pub tokens: u64,
    /// What the rows could hold.
    pub capacity: u64,
}

impl Fullness {
    /// Share of the capacity that holds no token, 0 to 1; 0 where there are no rows.
    pub fn waste(&self) -> f64 {
        if self.capacity == 0 { 0.0 } else { 1.0 - self.tokens as f64 / self.capacity as f64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pack(lengths: &[usize], capacity: usize, window: usize) -> Vec<Vec<usize>> {
        let mut packer = RowPacker::new(capacity, window);
        let mut rows: Vec<_> =
            lengths.iter().enumerate().filter_map(|(index, length)| packer.push(*length, index)).collect();
        rows.extend(packer.finish());
        rows
    }

    #[test]
    fn an_item_goes_where_it_leaves_the_least_room() {
        assert_eq!(pack(&[6, 5, 3, 4, 1, 12], 10, 8), [vec![0, 2, 4], vec![5], vec![1, 3]]);
        assert_eq!(pack(&[6, 5, 3, 4, 1, 12], 10, 1), [vec![0], vec![1, 2], vec![5], vec![3, 4]]);
        assert_eq!(pack(&[], 10, 8), Vec::<Vec<usize>>::new());
        assert_eq!(pack(&[0, 0], 10, 8), [[0, 1]]);
        assert_eq!(pack(&[3, 3], 0, 0), [[0], [1]]);
    }

    #[test]
    fn beyond_the_window_the_fullest_row_is_closed() {
        assert_eq!(pack(&[6, 8, 7, 9], 10, 2), [vec![1], vec![3], vec![0], vec![2]]);
    }

    #[test]
    fn fullness_is_a_share() {
        assert_eq!(Fullness::default().waste(), 0.0);
        assert_eq!(Fullness { tokens: 3, capacity: 4 }.waste(), 0.25);
    }

    proptest! {
        #[test]
        fn every_item_is_in_one_row_and_no_row_overflows(
            lengths in prop::collection::vec(0usize..40, 0..200), capacity in 1usize..50, window in 0usize..10,
        ) {
            let rows = pack(&lengths, capacity, window);
            for row in &rows {
                prop_assert!(row.len() == 1 || row.iter().map(|item| lengths[*item]).sum::<usize>() <= capacity);
                prop_assert!(row.is_sorted(), "items of a row keep their order");
            }
            let mut all = rows.concat();
            all.sort_unstable();
            prop_assert_eq!(all, (0..lengths.len()).collect::<Vec<_>>());
        }

        /// Rows of 512 from records like those of issue and review texts: at least 95 % full but for the rows left at the end.
        #[test]
        fn short_records_fill_rows_of_512(seed: u64) {
            let mut state = seed;
            let lengths: Vec<usize> = (0..4000).map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                8 + (state >> 33) as usize % 250
            }).collect();
            let rows = pack(&lengths, 512, PACKING_WINDOW);
            let share = lengths.iter().sum::<usize>() as f64 / (512 * rows.len()) as f64;
            prop_assert!(share > 0.95, "{share}");
        }
    }
}
