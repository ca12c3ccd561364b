//! The axes of the loss curve: linear, with ticks at round numbers. Which range an axis has is the points' affair.

use std::ops::Range;

use plotters::coord::ranged1d::{KeyPointHint, KeyPointWeight, NoDefaultFormatting, Ranged, ValueFormatter};

/// Values beyond this would overflow the arithmetic of the axis; they are left out as values that aren't finite are.
pub(super) const LARGEST: f64 = 1e30;

/// A linear axis with ticks at round numbers, for any range up to `LARGEST`.
#[derive(Clone, Copy)]
pub(super) struct Axis {
    pub(super) low: f64,
    pub(super) high: f64,
    /// Ticks at most, 0 for none.
    pub(super) ticks: usize,
    /// Whether ticks are at whole numbers only.
    pub(super) whole: bool,
}

impl Axis {
    pub(super) const EMPTY: Self = Self { low: 0.0, high: 1.0, ticks: 0, whole: false };

    /// 1, 2 or 5 times a power of ten.
    fn tick_step(&self) -> f64 {
        let least = (self.high - self.low) / self.ticks.max(1) as f64;
        let power = 10f64.powf(least.log10().floor());
        let step = [1.0, 2.0, 5.0].map(|digit| digit * power).into_iter().find(|step| *step >= least);
        let step = step.unwrap_or(10.0 * power);
        if self.whole { step.max(1.0) } else { step }
    }

    pub(super) fn tick_values(&self) -> Vec<f64> {
        let step = self.tick_step();
        let first = (self.low / step).ceil();
        let ticks = (0..self.ticks).map(|index| (first + index as f64) * step);
        ticks.take_while(|tick| *tick <= self.high).collect()
    }
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let share = (value - self.low) / (self.high - self.low);
        limit.0 + (share * f64::from(limit.1 - limit.0)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        match hint.weight() {
            KeyPointWeight::Bold => self.tick_values(),
            KeyPointWeight::Any => Vec::new(),
        }
    }

    fn range(&self) -> Range<f64> {
        self.low..self.high
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, value: &f64) -> String {
        let step = self.tick_step();
        if step >= 1e-3 && value.abs() < 1e7 {
            let decimals = (-step.log10().floor()).max(0.0) as usize;
            // Adding 0 makes -0 positive.
            return format!("{:.decimals$}", value + 0.0);
        }
        if *value == 0.0 {
            return "0".into();
        }
        // Nine digits drop the noise of `index * step`.
        let value: f64 = format!("{value:.8e}").parse().unwrap_or(*value);
        format!("{value:e}")
    }
}
