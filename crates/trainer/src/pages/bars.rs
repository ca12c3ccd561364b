//! A difference with its interval as a small picture: zero in the middle, better to the right, worse to the left.

use outcrop_eval::statistics::Interval;
use std::fmt::Write;

const WIDTH: f64 = 168.0;
const HEIGHT: f64 = 24.0;
const MIDDLE: f64 = WIDTH / 2.0;

/// How a gain is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    /// The whole interval is above zero.
    Good,
    /// The whole interval is below zero.
    Bad,
    /// Neither, or there is no interval.
    Open,
}

impl Tone {
    /// Of a gain's interval.
    pub(crate) fn of(gain: Option<Interval>) -> Self {
        match gain {
            Some(gain) if gain.low > 0.0 => Self::Good,
            Some(gain) if gain.high < 0.0 => Self::Bad,
            _ => Self::Open,
        }
    }

    /// Class in the pages' style.
    pub(crate) fn class(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Bad => "bad",
            Self::Open => "open",
        }
    }
}

/// A gain, which is above zero where the tuned model is better, and how it is drawn.
pub(crate) struct Bar<'a> {
    pub(crate) gain: f64,
    pub(crate) interval: Option<Interval>,
    /// The loss that counts as forgetting, drawn as a dashed line at its place.
    pub(crate) margin: Option<f64>,
    pub(crate) tone: Tone,
    /// Where the picture ends; pictures with the same end can be compared.
    pub(crate) end: f64,
    /// Shown when pointed at.
    pub(crate) name: &'a str,
}

/// The least end at which a gain, its interval and its margin fit into the picture.
pub(crate) fn end(gain: f64, interval: Option<Interval>, margin: Option<f64>) -> f64 {
    let ends = interval.map_or([gain; 2], |interval| [interval.low, interval.high]);
    [gain, ends[0], ends[1], margin.unwrap_or(0.0)].iter().fold(0.0, |largest: f64, value| largest.max(value.abs()))
}

/// The picture of a gain; `None` where something isn't finite.
pub(crate) fn interval_bar(bar: &Bar) -> Option<String> {
    let Bar { gain, interval, margin, .. } = *bar;
    let ends = interval.map_or([gain; 2], |interval| [interval.low, interval.high]);
    let shown = [gain, ends[0], ends[1], margin.unwrap_or(0.0), bar.end];
    if !shown.iter().all(|value| value.is_finite()) {
        return None;
    }
    let scale = if bar.end > 0.0 { (MIDDLE - 8.0) / bar.end } else { 0.0 };
    let at = |value: f64| MIDDLE + value * scale;
    let tone = bar.tone.class();
    let label = super::charts::escaped(bar.name);
    let mut svg = format!(
        r#"<svg class="bar {tone}" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}"><title>{label}</title>"#
    );
    let _ = write!(svg, r#"<line class="zero" x1="{MIDDLE}" x2="{MIDDLE}" y1="2" y2="22"/>"#);
    if let Some(margin) = margin {
        let x = at(-margin);
        let _ = write!(svg, r#"<line class="margin" x1="{x:.1}" x2="{x:.1}" y1="2" y2="22"/>"#);
    }
    if interval.is_some() {
        let (low, high) = (at(ends[0]), at(ends[1]));
        let _ = write!(svg, r#"<line class="range" x1="{low:.1}" x2="{high:.1}" y1="12" y2="12"/>"#);
        for x in [low, high] {
            let _ = write!(svg, r#"<line class="end" x1="{x:.1}" x2="{x:.1}" y1="7" y2="17"/>"#);
        }
    }
    let _ = write!(svg, r#"<circle cx="{:.1}" cy="12" r="4.5"/></svg>"#, at(gain));
    Some(svg)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bar(gain: f64, interval: Option<Interval>, margin: Option<f64>) -> Bar<'static> {
        let end = end(gain, interval, margin);
        Bar { gain, interval, margin, tone: Tone::of(interval), end, name: "a \"gain\"" }
    }

    #[test]
    fn better_is_to_the_right_and_everything_fits() {
        let gain = bar(0.5, Some(Interval { low: 0.25, high: 0.75 }), Some(0.25));
        let svg = interval_bar(&gain).unwrap();
        assert!(svg.contains(r#"class="bar good""#) && svg.contains("a &quot;gain&quot;"), "{svg}");
        assert!(svg.contains(r#"class="range" x1="109.3" x2="160.0""#), "{svg}");
        assert!(svg.contains(r#"class="margin" x1="58.7""#), "the margin is a loss: {svg}");
        let loss = interval_bar(&bar(-2.0, Some(Interval { low: -3.0, high: -1.0 }), None)).unwrap();
        assert!(loss.contains(r#"class="bar bad""#) && loss.contains(r#"cx="33.3""#), "{loss}");
        let smaller = interval_bar(&Bar { end: 1.5, ..gain }).unwrap();
        assert!(smaller.contains(r#"x2="122.0""#), "half as far at twice the end: {smaller}");
    }

    #[test]
    fn without_an_interval_nothing_is_claimed() {
        let svg = interval_bar(&bar(3.0, None, None)).unwrap();
        assert!(svg.contains(r#"class="bar open""#) && !svg.contains("range"), "{svg}");
        assert!(interval_bar(&bar(0.0, None, None)).unwrap().contains(r#"cx="84.0""#));
        assert_eq!(interval_bar(&bar(f64::NAN, None, None)), None);
        assert_eq!(interval_bar(&bar(1.0, Some(Interval { low: 0.0, high: f64::INFINITY }), None)), None);
    }
}
