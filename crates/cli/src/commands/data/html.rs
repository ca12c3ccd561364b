//! The report of a check as one page that needs nothing else: no script, no network, plots inline, light and dark.

use anyhow::Context;
use minijinja::{Environment, context};
use outcrop_data::check::{Report, TokenReport};
use plotters::prelude::*;

const TEMPLATE: &str = include_str!("report.html");
/// plotters writes colours as attributes; these stand for the page's own, so that plots follow light and dark.
const INK: RGBColor = RGBColor(1, 1, 1);
const BAR: RGBColor = RGBColor(2, 2, 2);
const OVER: RGBColor = RGBColor(3, 3, 3);
const GRID: RGBColor = RGBColor(4, 4, 4);

/// The page.
pub(super) fn page(report: &Report) -> anyhow::Result<String> {
    let mut environment = Environment::new();
    environment.add_template("report.html", TEMPLATE)?;
    let template = environment.get_template("report.html")?;
    let lengths = report.tokens.as_ref().map(histogram).transpose()?;
    let labels = bars(report.labels.iter().map(|label| (label.label.clone(), label.records)).collect())?;
    let languages = bars(report.languages.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect())?;
    let verdict = report.verdict();
    let (counts, say) = verdict.split_once(": ").unwrap_or((&verdict, ""));
    let level = match (report.errors, report.warnings) {
        (0, 0) => "good",
        (0, _) => "warning",
        _ => "error",
    };
    template
        .render(context! { report => minijinja::value::Serde(report), counts, say, level, lengths, labels, languages })
        .context("the page can't be made")
}

/// Lengths in tokens; bars over the maximum in another colour.
fn histogram(tokens: &TokenReport) -> anyhow::Result<String> {
    let bins = &tokens.histogram;
    let (Some(first), Some(last)) = (bins.first(), bins.last()) else { return Ok(String::new()) };
    let most = bins.iter().map(|bin| bin.records).max().unwrap_or(1) as f64;
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (720, 240)).into_drawing_area();
        let mut chart = ChartBuilder::on(&root)
            .margin(8)
            .x_label_area_size(34)
            .y_label_area_size(52)
            .build_cartesian_2d(first.from as f64..last.to as f64, 0.0..most * 1.05)?;
        let font = ("sans-serif", 15).into_font().color(&INK);
        chart
            .configure_mesh()
            .disable_x_mesh()
            .bold_line_style(GRID)
            .light_line_style(TRANSPARENT)
            .axis_style(GRID)
            .label_style(font)
            .x_desc("tokens")
            .y_desc("records")
            .x_label_formatter(&|value| format!("{value:.0}"))
            .y_label_formatter(&|value| format!("{value:.0}"))
            .draw()?;
        let bar = |bin: &outcrop_data::check::Bin| {
            let colour = if bin.from > tokens.max_length { OVER } else { BAR };
            let gap = (bin.to - bin.from) as f64 * 0.08;
            Rectangle::new([(bin.from as f64 + gap, 0.0), (bin.to as f64 - gap, bin.records as f64)], colour.filled())
        };
        chart.draw_series(bins.iter().map(bar))?;
        root.present()?;
    }
    Ok(themed(&svg))
}

/// Horizontal bars with their names and numbers, the longest first; the first twelve.
fn bars(mut rows: Vec<(String, u64)>) -> anyhow::Result<Option<String>> {
    const ROW: u32 = 30;
    if rows.is_empty() {
        return Ok(None);
    }
    rows.sort_by(|one, other| other.1.cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
    rows.truncate(12);
    let most = rows[0].1.max(1) as f64;
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (480, ROW * rows.len() as u32 + 8)).into_drawing_area();
        let font = ("sans-serif", 16).into_font().color(&INK);
        for (index, (name, count)) in rows.iter().enumerate() {
            let top = index as i32 * ROW as i32 + 6;
            let short: String = name.escape_debug().to_string().chars().take(18).collect();
            root.draw(&Text::new(short, (4, top + 3), font.clone()))?;
            let width = (220.0 * *count as f64 / most).max(1.0) as i32;
            root.draw(&Rectangle::new([(150, top), (150 + width, top + 20)], BAR.filled()))?;
            root.draw(&Text::new(count.to_string(), (158 + width, top + 3), font.clone()))?;
        }
        root.present()?;
    }
    Ok(Some(themed(&svg)))
}

/// The page's colours for those that plotters wrote, and a size that follows the page's.
fn themed(svg: &str) -> String {
    let names = [("#010101", "ink"), ("#020202", "bar"), ("#030303", "over"), ("#040404", "grid")];
    let coloured =
        names.iter().fold(svg.to_owned(), |svg, (colour, name)| svg.replace(colour, &format!("var(--{name})")));
    // the size is the viewBox's; width and height would keep it from shrinking
    match (coloured.find("<svg "), coloured.find(" viewBox")) {
        (Some(start), Some(end)) if start < end => format!("{}<svg{}", &coloured[..start], &coloured[end..]),
        _ => coloured,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plots_take_the_pages_colours_and_its_width() {
        let svg = bars(vec![("yes".into(), 3), ("<no>".into(), 9)]).unwrap().unwrap();
        assert!(svg.contains("var(--bar)") && svg.contains("var(--ink)") && !svg.contains("#0202"), "{svg}");
        assert!(svg.contains("&lt;no&gt;") && !svg.contains("width=\"480\" height"), "{svg}");
    }
}
