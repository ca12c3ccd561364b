//! How the loss curve looks: its scale, its palette, its lines and its font. Where things are put is not decided here.

use plotters::prelude::*;

/// plotters rounds to whole units; drawn this much larger and scaled down by the viewBox, lines are smooth.
pub(super) const SCALE: u32 = 4;

// The palette of Okabe and Ito, told apart with every kind of colour blindness.
pub(super) const TRAINING: RGBColor = RGBColor(0, 114, 178);
pub(super) const VALIDATION: [RGBColor; 5] = [
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
];
pub(super) const LEARNING_RATE: RGBColor = RGBColor(175, 175, 175);
const TEXT: RGBColor = RGBColor(55, 55, 55);
pub(super) const FRAME: RGBColor = RGBColor(150, 150, 150);
pub(super) const GRID: RGBColor = RGBColor(232, 232, 232);

/// An entry of the legend, and how its line is drawn.
pub(super) struct Line {
    pub(super) name: String,
    pub(super) style: ShapeStyle,
    /// Radius of the points, 0 for none, and whether they are filled.
    pub(super) point: (u32, bool),
}

pub(super) fn line(name: impl Into<String>, color: impl Color, width: u32) -> Line {
    Line { name: name.into(), style: color.stroke_width(width), point: (0, true) }
}

pub(super) fn validation_line(set: u64, index: usize) -> Line {
    let name = if set == 0 { "validation loss".into() } else { format!("validation loss, set {set}") };
    let color = VALIDATION[index % VALIDATION.len()];
    let filled = (index / VALIDATION.len()).is_multiple_of(2);
    Line { point: (4 * SCALE, filled), ..line(name, color, 2 * SCALE) }
}

pub(super) fn filled_or_not(line: &Line, filled: bool) -> ShapeStyle {
    ShapeStyle { filled, ..line.style }
}

/// Sans-serif of `size` pixels; plotters writes a size 1.24 times smaller.
pub(super) fn font(size: u32) -> TextStyle<'static> {
    let size = f64::from(size * SCALE) * 1.24;
    TextStyle::from(("sans-serif", size).into_font()).color(&TEXT)
}
