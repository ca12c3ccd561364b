//! How a product that packs B is cut into tasks, and what a task does.

use super::kernel::{self, Isa, LINE, Shape};
use super::{MOST_DEPTH, Matrix, Output, Threads, pack};
use crate::storage::SharedMut;
use rayon::prelude::*;
use std::cell::RefCell;
use std::ops::Range;

/// Bytes of packed B that stay in the second-level cache while rows pass.
const GROUP_BYTES: usize = 1 << 20;
/// Most micro-panels of rows that a task takes.
const ROW_PANELS: usize = 12;
/// Multiplications below which threads cost more than they give.
const SERIAL: usize = 1 << 19;

thread_local! {
    /// Packed A of the task that this thread runs; a task starts no other work of the pool.
    static PACKED_ROWS: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// How the columns of B are cut into panels, these into groups and blocks, and the rows of A into micro-panels and blocks
/// of them. Nothing of it but the blocks of depth has a say in a value's bits.
pub(super) struct Plan {
    pub(super) isa: Isa,
    shape: Shape,
    /// Columns of a panel.
    pub(super) width: usize,
    /// Columns of B.
    columns: usize,
    rows: usize,
    parallel: bool,
    pub(super) panels: usize,
    /// Most panels of a group: they stay in the second-level cache.
    group_panels: usize,
    /// Panels that are packed at once: a group for each thread.
    pub(super) block_panels: usize,
    row_panels: usize,
    row_blocks: usize,
}

impl Plan {
    pub(super) fn new(isa: Isa, (m, n, k): (usize, usize, usize), threads: Threads) -> Self {
        let shape = isa.shape(n);
        let width = shape.columns(isa);
        let parallel = threads == Threads::Pool && m.saturating_mul(n).saturating_mul(k) >= SERIAL;
        let num_threads = if parallel { rayon::current_num_threads() } else { 1 };
        let (panels, row_panels) = (n.div_ceil(width), m.div_ceil(shape.rows));
        let group_panels = (GROUP_BYTES / (deepest(k) * width * size_of::<f32>())).max(1);
        let block_panels = panels.div_ceil(panels.div_ceil(group_panels * num_threads));
        // as many for every thread, so that none waits
        let row_blocks = row_panels.div_ceil(ROW_PANELS).next_multiple_of(num_threads).min(row_panels);
        Self {
            isa,
            shape,
            width,
            columns: n,
            rows: m,
            parallel,
            panels,
            group_panels,
            block_panels,
            row_panels,
            row_blocks,
        }
    }

    /// Packs the panels `block` of B over `depth`.
    pub(super) fn pack_columns(&self, packed: &mut [f32], b: Matrix, block: &Range<usize>, depth: &Range<usize>) {
        let pack = |(index, panel): (usize, &mut [f32])| {
            let first = (block.start + index) * self.width;
            let columns = first..(first + self.width).min(self.columns);
            pack::columns(self.isa, panel, b, depth.clone(), columns, self.width);
        };
        if self.parallel {
            packed.par_chunks_mut(depth.len() * self.width).enumerate().for_each(pack);
        } else {
            packed.chunks_mut(depth.len() * self.width).enumerate().for_each(pack);
        }
    }

    pub(super) fn for_each(&self, tasks: usize, task: impl Fn(usize) + Sync + Send) {
        if self.parallel {
            (0..tasks).into_par_iter().for_each(task);
        } else {
            (0..tasks).for_each(task);
        }
    }
}

/// Most products of a block of depth.
pub(super) fn deepest(k: usize) -> usize {
    k.div_ceil(k.div_ceil(MOST_DEPTH))
}

/// Rows of A times a block of packed panels, over one block of depth.
pub(super) struct Product<'a> {
    pub(super) plan: &'a Plan,
    pub(super) a: Matrix<'a>,
    /// The packed panels.
    pub(super) packed: &'a [f32],
    /// Which panels they are.
    pub(super) block: Range<usize>,
    pub(super) depth: Range<usize>,
    pub(super) c: SharedMut,
    pub(super) c_row: usize,
    pub(super) output: Output,
}

impl Product<'_> {
    /// A task takes a block of rows and a group of panels; where it packs its rows first, all groups.
    pub(super) fn num_tasks(&self) -> usize {
        self.plan.row_blocks * if self.in_place() { self.groups() } else { 1 }
    }

    fn groups(&self) -> usize {
        self.block.len().div_ceil(self.plan.group_panels)
    }

    /// True where rows of A are read where they lie.
    fn in_place(&self) -> bool {
        self.a.strides.column == 1
    }

    /// # Safety
    /// A must reach as far as the plan's rows and the depth, C as its rows and columns, of which nobody else may touch this
    /// task's.
    pub(super) unsafe fn task(&self, index: usize) {
        let Plan { shape, rows, row_panels, row_blocks, .. } = *self.plan;
        let (group, row_block) = (index / row_blocks, index % row_blocks);
        let first_row = |block: usize| block * row_panels / row_blocks * shape.rows;
        let rows = first_row(row_block)..first_row(row_block + 1).min(rows);
        if self.in_place() {
            let (row, depth) = (self.a.strides.row, self.depth.start);
            let a = Rows { values: &self.a.values[rows.start * row + depth..], panel: shape.rows * row, row, depth: 1 };
            // SAFETY: promised by the caller.
            return unsafe { self.group(&a, &rows, group) };
        }
        PACKED_ROWS.with_borrow_mut(|packed| {
            pack::rows(packed, self.a, rows.clone(), self.depth.clone(), shape.rows);
            let a = Rows { values: packed, panel: shape.rows * self.depth.len(), row: 1, depth: shape.rows };
            for group in 0..self.groups() {
                // SAFETY: promised by the caller.
                unsafe { self.group(&a, &rows, group) };
            }
        });
    }

    /// The product of a block of rows with a group of panels.
    ///
    /// # Safety
    /// As [`Product::task`], and `a` must reach as far as the rows and the depth.
    unsafe fn group(&self, a: &Rows, rows: &Range<usize>, group: usize) {
        let (height, width, depth, groups) = (self.plan.shape.rows, self.plan.width, self.depth.len(), self.groups());
        let first_panel = |group: usize| group * self.block.len() / groups;
        let (from, to) = (first_panel(group), first_panel(group + 1));
        let panels = self.packed[from * depth * width..to * depth * width].chunks_exact(depth * width);
        for (index, row) in rows.clone().step_by(height).enumerate() {
            let count = height.min(rows.end - row);
            let values = &a.values[index * a.panel..];
            for (panel_index, panel) in panels.clone().enumerate() {
                let column = (self.block.start + from + panel_index) * width;
                if a.depth == 1 && row + height < rows.end {
                    a.fetch(
                        index + 1,
                        height,
                        depth * panel_index / (to - from)..depth * (panel_index + 1) / (to - from),
                    );
                }
                let part = kernel::Part {
                    depth,
                    a: values.as_ptr(),
                    row_stride: a.row,
                    depth_stride: a.depth,
                    b: panel.as_ptr(),
                    // SAFETY: inside c, as the caller promised.
                    c: unsafe { self.c.at(row * self.c_row + column) },
                    c_row: self.c_row,
                    columns: width.min(self.plan.columns - column),
                    output: self.output,
                };
                // SAFETY: the caller promised c, and that `values` reaches `count` rows of that depth; the panel holds
                // depth * width values.
                unsafe { kernel::run(self.plan.isa, self.plan.shape, count, &part) };
            }
        }
    }
}

/// Rows of A, a micro-panel of them `panel` values behind the last one.
struct Rows<'a> {
    values: &'a [f32],
    panel: usize,
    row: usize,
    depth: usize,
}

impl Rows<'_> {
    /// Asks for a part of a micro-panel's depth: where rows lie apart the processor doesn't foresee them.
    #[inline(always)]
    fn fetch(&self, panel: usize, height: usize, depth: Range<usize>) {
        for row in 0..height {
            let first = self.values.as_ptr().wrapping_add(panel * self.panel + row * self.row);
            for k in depth.clone().step_by(LINE) {
                kernel::fetch(first.wrapping_add(k));
            }
        }
    }
}
