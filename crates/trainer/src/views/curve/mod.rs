//! The loss curve of a run as one SVG: the loss of each step thin, its smoothed course strong, the validation sets, and
//! the learning rate on a second axis. Long runs are thinned to what the picture can show. Gradient norms and speeds
//! are left to TensorBoard.

mod axis;
mod points;
mod style;
#[cfg(test)]
mod tests;

use std::io;
use std::path::Path;

use outcrop_job::Record;
use outcrop_job::atomic::write_atomic;
use plotters::chart::DualCoordChartContext;
use plotters::coord::Shift;
use plotters::coord::cartesian::Cartesian2d;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use axis::{Axis, LARGEST};
use points::{Curves, Point, runs};

pub(crate) use points::thinned;
use style::{FRAME, GRID, LEARNING_RATE, Line, SCALE, filled_or_not, font, line};

const WIDTH: u32 = 960;
const HEIGHT: u32 = 540;
/// Rows of the legend at most, enough for the ten validation sets that a request can have.
const LEGEND_ROWS: i32 = 4;

type Canvas<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Axes = Cartesian2d<Axis, Axis>;
type Chart<'a, 'b> = DualCoordChartContext<'a, SVGBackend<'b>, Axes, Axes>;
type Painted = Result<(), DrawingAreaErrorKind<io::Error>>;

/// Draws the loss curve of `records` to `path`, replacing the file whole. Values that aren't finite are gaps and are
/// counted under the picture; a run without steps gives an empty frame that says so.
///
/// # Errors
/// The file can't be written.
pub fn draw(records: &[Record], title: &str, path: &Path) -> io::Result<()> {
    let mut svg = String::new();
    paint(&Curves::of(records), &one_line(title), &mut svg)
        .map_err(|error| io::Error::other(format!("failed to draw `{}`: {error}", path.display())))?;
    let drawn = format!(r#"width="{}" height="{}""#, WIDTH * SCALE, HEIGHT * SCALE);
    let shown = format!(r#"width="{WIDTH}" height="{HEIGHT}" stroke-linejoin="round" stroke-linecap="round""#);
    write_atomic(path, svg.replacen(&drawn, &shown, 1).as_bytes())
}

fn paint(curves: &Curves, title: &str, svg: &mut String) -> Painted {
    let canvas = SVGBackend::with_string(svg, (WIDTH * SCALE, HEIGHT * SCALE)).into_drawing_area();
    canvas.fill(&WHITE)?;
    let loss_axis = curves.loss_axis();
    let rate_axis = loss_axis.and_then(|_| curves.learning_rate_axis());
    let lines = curves.lines();
    let rate_line = line("learning rate", LEARNING_RATE, 3 * SCALE / 2);

    let mut legend: Vec<&Line> = lines.iter().map(|(line, _)| line).collect();
    legend.extend(rate_axis.map(|_| &rate_line));
    let top = paint_header(&canvas, title, &legend)?;
    paint_notes(&canvas, curves, loss_axis.is_none())?;

    let step_axis = if loss_axis.is_some() { curves.step_axis() } else { Axis::EMPTY };
    let mut chart = ChartBuilder::on(&canvas)
        .margin_top(top)
        .margin_left(14 * SCALE)
        .margin_right(14 * SCALE)
        .margin_bottom(14 * SCALE)
        .x_label_area_size(46 * SCALE)
        .y_label_area_size(66 * SCALE)
        .right_y_label_area_size(if rate_axis.is_some() { 66 * SCALE } else { 8 * SCALE })
        .build_cartesian_2d(step_axis, loss_axis.unwrap_or(Axis::EMPTY))?
        .set_secondary_coord(step_axis, rate_axis.unwrap_or(Axis::EMPTY));
    paint_axes(&mut chart, rate_axis.is_some())?;
    if rate_axis.is_some() {
        for run in runs(&curves.learning_rates) {
            chart.draw_secondary_series(LineSeries::new(thinned(run), rate_line.style))?;
            chart.draw_secondary_series(marks(&rate_line, run))?;
        }
    }
    for (line, points) in &lines {
        for run in runs(points) {
            chart.draw_series(LineSeries::new(thinned(run), line.style))?;
            chart.draw_series(marks(line, run))?;
        }
    }
    canvas.present()
}

/// The points of a run of a line that has them, and of a run that is too short for a line.
fn marks(line: &Line, run: &[Point]) -> Vec<Circle<Point, u32>> {
    let (radius, filled) = if run.len() == 1 && line.point.0 == 0 { (3 * SCALE, true) } else { line.point };
    let points = if radius == 0 { Vec::new() } else { thinned(run) };
    points.into_iter().map(|at| Circle::new(at, radius, filled_or_not(line, filled))).collect()
}

fn paint_axes(chart: &mut Chart, with_rate: bool) -> Painted {
    chart
        .configure_mesh()
        .bold_line_style(GRID.stroke_width(SCALE))
        .light_line_style(TRANSPARENT)
        .axis_style(FRAME.stroke_width(SCALE))
        .set_all_tick_mark_size(5 * SCALE)
        .label_style(font(13))
        .axis_desc_style(font(14))
        .x_desc("optimizer step")
        .y_desc("loss (nats per token)")
        .draw()?;
    if with_rate {
        chart
            .configure_secondary_axes()
            .axis_style(FRAME.stroke_width(SCALE))
            .set_all_tick_mark_size(5 * SCALE)
            .label_style(font(13))
            .axis_desc_style(font(14))
            .y_desc("learning rate")
            .draw()?;
    }
    Ok(())
}

/// Title and legend; returns the height they take.
fn paint_header(canvas: &Canvas, title: &str, legend: &[&Line]) -> Result<u32, DrawingAreaErrorKind<io::Error>> {
    let left = |size| font(size).pos(Pos::new(HPos::Left, VPos::Center));
    let heading = TextStyle { font: left(18).font.style(FontStyle::Bold), ..left(18) };
    let scale = SCALE as i32;
    canvas.draw(&Text::new(title, (24 * scale, 28 * scale), heading))?;
    let (mut x, mut y) = (24 * scale, 58 * scale);
    for line in legend {
        // An average letter of the widest common sans-serif faces is 7.5 pixels wide at this size.
        let width = (26 + 8 + line.name.chars().count() as i32 * 15 / 2 + 16) * scale;
        if x + width > (WIDTH * SCALE) as i32 {
            (x, y) = (24 * scale, y + 21 * scale);
        }
        if y > LEGEND_ROWS * 21 * scale + 37 * scale {
            canvas.draw(&Text::new("...", (x, y), left(13)))?;
            break;
        }
        canvas.draw(&PathElement::new(vec![(x, y), (x + 26 * scale, y)], line.style))?;
        if line.point.0 > 0 {
            canvas.draw(&Circle::new((x + 13 * scale, y), line.point.0, filled_or_not(line, line.point.1)))?;
        }
        canvas.draw(&Text::new(line.name.clone(), (x + 34 * scale, y), left(13)))?;
        x += width;
    }
    Ok((y + 22 * scale) as u32)
}

/// What the picture doesn't show.
fn paint_notes(canvas: &Canvas, curves: &Curves, empty: bool) -> Painted {
    let at = |h_pos, v_pos| font(13).pos(Pos::new(h_pos, v_pos));
    if empty {
        let note = if curves.left_out == 0 { "no optimizer step yet" } else { "no finite loss to draw" };
        let middle = ((WIDTH * SCALE / 2) as i32, (HEIGHT * SCALE / 2) as i32);
        canvas.draw(&Text::new(note, middle, at(HPos::Center, VPos::Center)))?;
    }
    if curves.left_out > 0 {
        let values =
            if curves.left_out == 1 { "1 value that is" } else { &format!("{} values that are", curves.left_out) };
        let note = format!("left out: {values} not finite or beyond {LARGEST:e}");
        let corner = (24 * SCALE as i32, ((HEIGHT - 14) * SCALE) as i32);
        canvas.draw(&Text::new(note, corner, at(HPos::Left, VPos::Bottom)))?;
    }
    Ok(())
}

/// `title` cut to what fits, without the characters that XML 1.0 forbids.
fn one_line(title: &str) -> String {
    let allowed = |c: char| if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') { ' ' } else { c };
    let mut line: String = title.chars().take(81).map(allowed).collect();
    if line.chars().count() > 80 {
        line.pop();
        line.push('…');
    }
    line
}
