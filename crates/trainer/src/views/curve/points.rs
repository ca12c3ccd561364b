//! What the loss curve draws of a run's records: points by series, their smoothed course, the axes that hold them, and
//! the thinning to what the picture can show. Nothing is painted here.

use std::collections::BTreeMap;

use outcrop_job::{Event, Record};
use plotters::prelude::*;

use super::axis::{Axis, LARGEST};
use super::style::{Line, SCALE, TRAINING, line, validation_line};

/// A line is thinned to the extremes of so many columns.
pub(super) const COLUMNS: usize = 800;

/// Step and value; a value that can't be drawn is NaN, a gap in the line.
pub(crate) type Point = (f64, f64);

/// What is drawn.
pub(super) struct Curves {
    pub(super) losses: Vec<Point>,
    pub(super) smoothed: Vec<Point>,
    /// Time constant of the smoothing, in steps.
    pub(super) window: usize,
    pub(super) validations: BTreeMap<u64, Vec<Point>>,
    pub(super) learning_rates: Vec<Point>,
    pub(super) left_out: usize,
}

impl Curves {
    pub(super) fn of(records: &[Record]) -> Self {
        let mut left_out = 0;
        let mut drawable = |value: f64| {
            let drawable = value.abs() <= LARGEST;
            left_out += usize::from(!drawable);
            if drawable { value } else { f64::NAN }
        };
        let (mut losses, mut learning_rates) = (Vec::new(), Vec::new());
        let mut validations: BTreeMap<u64, Vec<Point>> = BTreeMap::new();
        for record in records {
            match &record.event {
                Event::Step(step) => {
                    losses.push((step.step as f64, drawable(step.loss)));
                    learning_rates.push((step.step as f64, drawable(step.learning_rate)));
                }
                Event::Validation(validation) => {
                    let point = (validation.step as f64, drawable(validation.loss));
                    validations.entry(validation.set).or_default().push(point);
                }
                _ => {}
            }
        }
        let window = (losses.len() / 40).max(3);
        Self { smoothed: smoothed(&losses, window), losses, window, validations, learning_rates, left_out }
    }

    /// What is drawn on the loss axis, in the order of drawing: what matters most is on top.
    pub(super) fn lines(&self) -> Vec<(Line, &[Point])> {
        let name = format!("smoothed over {} steps", self.window);
        let mut lines: Vec<(Line, &[Point])> = vec![
            (line("training loss", TRAINING.mix(0.45), SCALE), &self.losses),
            (line(name, TRAINING, 5 * SCALE / 2), &self.smoothed),
        ];
        for (index, (set, points)) in self.validations.iter().enumerate() {
            lines.push((validation_line(*set, index), points));
        }
        lines.retain(|(_, points)| extremes(*points).is_some());
        lines
    }

    /// Steps from 0 to a little past the last.
    pub(super) fn step_axis(&self) -> Axis {
        let points = self.losses.iter().chain(self.validations.values().flatten());
        let last = points.map(|point| point.0).fold(0.0, f64::max);
        Axis { low: 0.0, high: last.max(1.0) * 1.02, ticks: 12, whole: true }
    }

    pub(super) fn loss_axis(&self) -> Option<Axis> {
        let (low, high) = extremes(self.losses.iter().chain(self.validations.values().flatten()))?;
        // Equal values lie in the middle of a readable range; differences near f64's resolution are not magnified.
        let room = if low == high {
            0.1 * high.abs().max(1.0)
        } else {
            (0.06 * (high - low)).max(1e-6 * high.abs().max(low.abs())).max(1e-30)
        };
        let floor = if low >= 0.0 { 0.0 } else { f64::NEG_INFINITY };
        Some(Axis { low: (low - room).max(floor), high: high + room, ticks: 9, whole: false })
    }

    /// From 0, with room above, so that the line keeps off the frame; None where there is none but 0.
    pub(super) fn learning_rate_axis(&self) -> Option<Axis> {
        let (low, high) = extremes(&self.learning_rates)?;
        // No schedule is below 0, but a record may be.
        let (low, high) = (1.08 * low.min(0.0), 1.08 * high.max(0.0));
        (high - low > 1e-30).then_some(Axis { low, high, ticks: 7, whole: false })
    }
}

/// Lowest and highest value, gaps left out.
fn extremes<'a>(points: impl IntoIterator<Item = &'a Point>) -> Option<(f64, f64)> {
    let values = points.into_iter().map(|point| point.1).filter(|value| !value.is_nan());
    values.fold(None, |found, value| {
        let (low, high) = found.unwrap_or((value, value));
        Some((value.min(low), value.max(high)))
    })
}

/// Exponential moving average with a time constant of `window` steps, divided by the weight it has gathered, so that it
/// starts at the first value instead of near 0 (as Adam's moments: Kingma & Ba 2015, section 3). Gaps stay gaps.
pub(super) fn smoothed(points: &[Point], window: usize) -> Vec<Point> {
    let decay = 1.0 - 1.0 / window as f64;
    let (mut average, mut weight) = (0.0, 0.0);
    let smooth = |&(step, value): &Point| {
        if value.is_nan() {
            return (step, f64::NAN);
        }
        average = decay * average + (1.0 - decay) * value;
        weight = decay * weight + (1.0 - decay);
        (step, average / weight)
    };
    points.iter().map(smooth).collect()
}

/// At most `4 * COLUMNS` of the points: first, lowest, highest and last of each of `COLUMNS` equal stretches.
pub(crate) fn thinned(points: &[Point]) -> Vec<Point> {
    if points.len() <= 4 * COLUMNS {
        return points.to_vec();
    }
    let mut kept = Vec::new();
    for stretch in points.chunks(points.len().div_ceil(COLUMNS)) {
        let by_value = |a: &usize, b: &usize| stretch[*a].1.total_cmp(&stretch[*b].1);
        let lowest = (0..stretch.len()).min_by(by_value).unwrap_or(0);
        let highest = (0..stretch.len()).max_by(by_value).unwrap_or(0);
        let mut indices = [0, lowest, highest, stretch.len() - 1];
        indices.sort_unstable();
        kept.extend(
            indices
                .iter()
                .enumerate()
                .filter(|(i, index)| *i == 0 || indices[i - 1] != **index)
                .map(|(_, index)| stretch[*index]),
        );
    }
    kept
}

/// The stretches between gaps.
pub(super) fn runs(points: &[Point]) -> impl Iterator<Item = &[Point]> {
    points.split(|point| point.1.is_nan()).filter(|run| !run.is_empty())
}
