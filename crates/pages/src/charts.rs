//! The pictures of the pages as inline SVG. Drawn here rather than by plotters, since their colours follow the
//! reader's light or dark scheme by CSS and every line tells what it is when pointed at.

use std::fmt::Write;

/// Units of every picture's width; its text is 13 high, so that it can be read at a phone's width too.
const WIDTH: f64 = 460.0;
/// Left of the y axis at least.
const LEFT: f64 = 58.0;
/// Width of a digit.
const DIGIT: f64 = 7.8;
const RIGHT: f64 = 14.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 44.0;
/// Classes of colour that the page's style has.
pub const COLORS: usize = 8;

/// A line or a set of points.
pub struct Series {
    /// Shown when pointed at.
    pub title: String,
    /// Which of the [`COLORS`].
    pub color: usize,
    /// Class beside the colour's.
    pub class: &'static str,
    /// x and y; what isn't finite is left out.
    pub points: Vec<(f64, f64)>,
    /// Whether the points are joined.
    pub joined: bool,
    /// Whether each point is marked.
    pub marked: bool,
}

/// One axis.
pub struct Axis {
    /// What it measures.
    pub name: &'static str,
    /// By the logarithm; values that aren't above zero are left out then.
    pub logarithmic: bool,
    /// A value that must be on it.
    pub holds: Option<f64>,
    /// Ticks at whole numbers only.
    pub whole: bool,
}

struct Scale {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
    logarithmic: bool,
}

impl Scale {
    fn new(axis: &Axis, values: impl Iterator<Item = f64>, from: f64, to: f64) -> Option<Self> {
        let usable = |value: &f64| value.is_finite() && (!axis.logarithmic || *value > 0.0);
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values.chain(axis.holds).filter(usable) {
            (low, high) = (low.min(value), high.max(value));
        }
        if low > high {
            return None;
        }
        if axis.logarithmic {
            let room = if high > low { (high / low).powf(0.04) } else { 1.2 };
            (low, high) = (low / room, high * room);
        } else {
            let room = if high > low { (high - low) * 0.06 } else { high.abs().max(1.0) * 0.1 };
            // an axis that begins at zero does so exactly
            (low, high) = (if low == 0.0 { 0.0 } else { low - room }, high + room);
        }
        Some(Self { low, high, from, to, logarithmic: axis.logarithmic })
    }

    fn at(&self, value: f64) -> f64 {
        let share = match self.logarithmic {
            true => (value / self.low).ln() / (self.high / self.low).ln(),
            false => (value - self.low) / (self.high - self.low),
        };
        self.from + share * (self.to - self.from)
    }

    fn holds(&self, value: f64) -> bool {
        value.is_finite() && value >= self.low && value <= self.high
    }

    /// Round values, at most seven or so.
    fn ticks(&self, whole: bool) -> Vec<f64> {
        if self.logarithmic && self.high / self.low > 3.0 {
            let decades = self.low.log10().floor() as i32..=self.high.log10().ceil() as i32;
            let wide = self.high / self.low > 1e3;
            let digits: &[f64] = if wide { &[1.0] } else { &[1.0, 2.0, 5.0] };
            let all = decades.flat_map(|decade| digits.iter().map(move |digit| digit * 10f64.powi(decade)));
            return all.filter(|tick| self.holds(*tick)).collect();
        }
        let least = (self.high - self.low) / 6.0;
        let power = 10f64.powf(least.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|digit| digit * power).into_iter().find(|step| *step >= least);
        let step = step.unwrap_or(power).max(if whole { 1.0 } else { 0.0 });
        let first = (self.low / step).ceil() as i64;
        (first..first + 8).map(|index| index as f64 * step).filter(|tick| self.holds(*tick)).collect()
    }
}

/// A number on an axis: no more digits than it needs.
fn short(value: f64) -> String {
    if value != 0.0 && !(1e-4..1e5).contains(&value.abs()) {
        let digits = format!("{value:.2e}");
        let (digits, power) = digits.split_once('e').unwrap_or((&digits, "0"));
        return format!("{}e{power}", digits.trim_end_matches('0').trim_end_matches('.'));
    }
    let text = format!("{value:.6}");
    text.trim_end_matches('0').trim_end_matches('.').replace("-0", if value == 0.0 { "0" } else { "-0" })
}

/// Text in an SVG or HTML element.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn open(svg: &mut String, height: f64, name: &str) {
    let name = escaped(name);
    let _ = write!(svg, r#"<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{name}">"#);
}

/// Lines and points over two axes. A picture that says so where there is nothing to draw.
pub fn plot(name: &str, x_axis: &Axis, y_axis: &Axis, series: &[Series], height: f64) -> String {
    let mut svg = String::new();
    open(&mut svg, height, name);
    let values = |pick: fn(&(f64, f64)) -> f64| series.iter().flat_map(move |series| series.points.iter().map(pick));
    let y = Scale::new(y_axis, values(|point| point.1), height - BOTTOM, TOP);
    let left = y.as_ref().map_or(LEFT, |y| left_of(y, y_axis));
    let x = Scale::new(x_axis, values(|point| point.0), left, WIDTH - RIGHT);
    let (Some(x), Some(y)) = (x, y) else {
        let _ = write!(
            svg,
            r#"<text x="{}" y="{}" class="middle">nothing to draw</text></svg>"#,
            WIDTH / 2.0,
            height / 2.0
        );
        return svg;
    };
    axes(&mut svg, (&x, x_axis), (&y, y_axis), height);
    for series in series {
        let points: Vec<(f64, f64)> = series
            .points
            .iter()
            .filter(|(px, py)| x.holds(*px) && y.holds(*py))
            .map(|(px, py)| (x.at(*px), y.at(*py)))
            .collect();
        let (color, class, title) = (series.color % COLORS, series.class, escaped(&series.title));
        let _ = write!(svg, r#"<g class="s{color} {class}"><title>{title}</title>"#);
        if series.joined && points.len() > 1 {
            let path: Vec<String> = points.iter().map(|(px, py)| format!("{px:.1},{py:.1}")).collect();
            let _ = write!(svg, r#"<polyline points="{}"/>"#, path.join(" "));
        }
        if series.marked || points.len() == 1 {
            for (px, py) in &points {
                let _ = write!(svg, r#"<circle cx="{px:.1}" cy="{py:.1}" r="4"/>"#);
            }
        }
        svg.push_str("</g>");
    }
    svg.push_str("</svg>");
    svg
}

/// Room for the axis's name and its longest number.
fn left_of(y: &Scale, axis: &Axis) -> f64 {
    let longest = y.ticks(axis.whole).into_iter().map(|tick| short(tick).len()).max().unwrap_or(0);
    (26.0 + DIGIT * longest as f64).max(LEFT)
}

fn axes(svg: &mut String, (x, x_axis): (&Scale, &Axis), (y, y_axis): (&Scale, &Axis), height: f64) {
    let left = x.from;
    for tick in y.ticks(y_axis.whole) {
        let at = y.at(tick);
        let _ = write!(svg, r#"<line class="grid" x1="{left}" x2="{}" y1="{at:.1}" y2="{at:.1}"/>"#, WIDTH - RIGHT);
        let _ = write!(svg, r#"<text class="right" x="{}" y="{:.1}">{}</text>"#, left - 7.0, at + 4.5, short(tick));
    }
    for tick in x.ticks(x_axis.whole) {
        let (at, foot) = (x.at(tick), height - BOTTOM);
        let _ = write!(svg, r#"<line class="grid" x1="{at:.1}" x2="{at:.1}" y1="{TOP}" y2="{foot}"/>"#);
        let _ = write!(svg, r#"<text class="middle" x="{at:.1}" y="{}">{}</text>"#, foot + 18.0, short(tick));
    }
    for (scale, vertical) in [(x, true), (y, false)] {
        if !scale.logarithmic && scale.holds(0.0) {
            let at = scale.at(0.0);
            let (x1, x2, y1, y2) =
                if vertical { (at, at, TOP, height - BOTTOM) } else { (left, WIDTH - RIGHT, at, at) };
            let _ = write!(svg, r#"<line class="zero" x1="{x1:.1}" x2="{x2:.1}" y1="{y1:.1}" y2="{y2:.1}"/>"#);
        }
    }
    let middle = (TOP + height - BOTTOM) / 2.0;
    let _ = write!(
        svg,
        r#"<text class="middle name" x="{}" y="{}">{}</text>"#,
        (left + WIDTH - RIGHT) / 2.0,
        height - 6.0,
        x_axis.name
    );
    let _ = write!(
        svg,
        r#"<text class="middle name" transform="translate(13 {middle:.1}) rotate(-90)">{}</text>"#,
        y_axis.name
    );
}

/// A cell of a heatmap: its value, and what is shown when pointed at.
pub struct Cell {
    /// What is measured; None where nothing is.
    pub value: Option<f64>,
    /// Shown when pointed at.
    pub note: String,
    /// Whether it was chosen.
    pub selected: bool,
}

/// Rows by columns; the lowest value has the strongest colour. Cells without a value say why.
pub fn heatmap(name: &str, rows: &[String], columns: &[String], corner: (&str, &str), cells: &[Vec<Cell>]) -> String {
    const ROW: f64 = 34.0;
    const HEAD: f64 = 26.0;
    let left = 16.0 + 8.0 * rows.iter().map(|row| row.chars().count()).max().unwrap_or(0).max(4) as f64;
    let column = (WIDTH - left - 2.0) / columns.len().max(1) as f64;
    let height = HEAD + ROW * rows.len() as f64 + 24.0;
    let all = || cells.iter().flatten().filter_map(|cell| cell.value).filter(|value| *value > 0.0);
    let (low, high) = (all().fold(f64::INFINITY, f64::min), all().fold(0.0, f64::max));
    let mut svg = String::new();
    open(&mut svg, height, name);
    for (index, column_name) in columns.iter().enumerate() {
        let at = left + column * (index as f64 + 0.5);
        let _ = write!(svg, r#"<text class="middle" x="{at:.1}" y="17">{}</text>"#, escaped(column_name));
    }
    for (row, (row_name, cells)) in rows.iter().zip(cells).enumerate() {
        let top = HEAD + ROW * row as f64;
        let _ =
            write!(svg, r#"<text class="right" x="{}" y="{}">{}</text>"#, left - 8.0, top + 22.0, escaped(row_name));
        for (index, cell) in cells.iter().enumerate() {
            let at = left + column * index as f64;
            // by the logarithm: losses of far trials would hide what is between the near ones
            let share = match cell.value {
                Some(value) if high > low => 1.0 - (value / low).ln() / (high / low).ln(),
                Some(_) => 1.0,
                None => 0.0,
            };
            let percent = (share * 100.0).clamp(0.0, 100.0).round();
            let class = if cell.value.is_none() {
                "none"
            } else if percent > 50.0 {
                "strong"
            } else {
                "weak"
            };
            let selected = if cell.selected { " selected" } else { "" };
            let text = cell.value.map_or("–".to_string(), |value| format!("{value:.4}"));
            let _ = write!(
                svg,
                r#"<g class="cell {class}{selected}"><title>{}</title><rect x="{:.1}" y="{:.1}" width="{:.1}" height="{}" rx="4" style="--share:{percent}%"/><text class="middle" x="{:.1}" y="{:.1}">{text}</text></g>"#,
                escaped(&cell.note),
                at + 2.0,
                top + 2.0,
                column - 4.0,
                ROW - 4.0,
                at + column / 2.0,
                top + 22.0,
            );
        }
    }
    let foot = height - 6.0;
    let _ = write!(svg, r#"<text class="name" x="2" y="{foot}">{} by {}</text></svg>"#, corner.0, corner.1);
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(logarithmic: bool) -> Axis {
        Axis { name: "loss", logarithmic, holds: None, whole: false }
    }

    #[test]
    fn ticks_are_round_and_within() {
        let scale = |axis: &Axis, values: [f64; 2]| Scale::new(axis, values.into_iter(), 0.0, 100.0).unwrap();
        assert_eq!(scale(&axis(false), [0.0, 10.0]).ticks(true), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        let losses = scale(&axis(true), [0.2, 7.4]).ticks(false);
        assert_eq!(losses.iter().map(|tick| short(*tick)).collect::<Vec<_>>(), ["0.2", "0.5", "1", "2", "5"]);
        assert!(!scale(&axis(true), [0.19, 0.2]).ticks(false).is_empty());
        assert!(!scale(&axis(false), [3.0, 3.0]).ticks(false).is_empty(), "one value");
        assert!(Scale::new(&axis(true), [f64::NAN, -1.0].into_iter(), 0.0, 1.0).is_none());
    }

    #[test]
    fn numbers_on_axes_are_short() {
        assert_eq!([0.0, 0.5, 20.0, 1e-5, -0.25].map(short), ["0", "0.5", "20", "1e-5", "-0.25"]);
        assert_eq!([5e-4, 0.0015, 1.5e-5, 2e6, 0.1 + 0.2].map(short), ["0.0005", "0.0015", "1.5e-5", "2e6", "0.3"]);
    }

    #[test]
    fn long_numbers_make_room_beside_the_name() {
        let plotted = |top: f64| {
            let points = vec![(0.0, 0.0), (1.0, top)];
            let series = Series { title: "t".into(), color: 0, class: "", points, joined: true, marked: false };
            plot("p", &axis(false), &axis(false), &[series], 200.0)
        };
        assert!(plotted(5.0).contains(r#"<line class="grid" x1="58""#));
        let fine = plotted(0.002);
        assert!(fine.contains(">0.0005<") && fine.contains(r#"<line class="grid" x1="72.8""#), "{fine}");
    }

    #[test]
    fn a_plot_draws_what_is_finite_and_escapes_its_titles() {
        let points = vec![(0.0, 1.0), (1.0, f64::INFINITY), (2.0, 3.0)];
        let series = Series { title: "a<b".into(), color: 9, class: "", points, joined: true, marked: true };
        let svg = plot("losses", &axis(false), &axis(true), &[series], 200.0);
        assert_eq!(svg.matches("<circle").count(), 2);
        assert!(svg.contains("a&lt;b") && svg.contains("class=\"s1 \""), "{svg}");
        assert!(plot("losses", &axis(false), &axis(true), &[], 200.0).contains("nothing to draw"));
    }

    #[test]
    fn the_lowest_loss_has_the_strongest_colour() {
        let cell = |value| Cell { value, note: "n".into(), selected: value == Some(0.1) };
        let cells = vec![vec![cell(Some(0.1)), cell(Some(1.0)), cell(None)]];
        let names = ["1", "2", "3"].map(String::from);
        let svg = heatmap("h", &["1e-3".into()], &names, ("learning rate", "epochs"), &cells);
        assert!(
            svg.contains("cell strong selected") && svg.contains("--share:100%") && svg.contains("cell none"),
            "{svg}"
        );
    }
}
