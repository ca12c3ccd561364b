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

/// The picture of a gain, which is above zero where the tuned model is better. `margin` is the loss that counts as
/// forgetting, drawn as a dashed line at its place. `None` where the gain isn't finite.
pub(crate) fn interval_bar(
    gain: f64,
    interval: Option<Interval>,
    margin: Option<f64>,
    tone: Tone,
    name: &str,
) -> Option<String> {
    let ends = interval.map_or([gain; 2], |interval| [interval.low, interval.high]);
    let shown = [gain, ends[0], ends[1], margin.unwrap_or(0.0)];
    let largest = shown.iter().fold(0.0_f64, |largest, value| largest.max(value.abs()));
    if !shown.iter().all(|value| value.is_finite()) {
        return None;
    }
    let scale = if largest > 0.0 { (MIDDLE - 8.0) / largest } else { 0.0 };
    let at = |value: f64| MIDDLE + value * scale;
    let tone = tone.class();
    let label = super::charts::escaped(name);
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

    #[test]
    fn better_is_to_the_right_and_everything_fits() {
        let gain = Interval { low: 0.25, high: 0.75 };
        let svg = interval_bar(0.5, Some(gain), Some(0.25), Tone::of(Some(gain)), "a \"gain\"").unwrap();
        assert!(svg.contains(r#"class="bar good""#) && svg.contains("a &quot;gain&quot;"), "{svg}");
        assert!(svg.contains(r#"class="range" x1="109.3" x2="160.0""#), "{svg}");
        assert!(svg.contains(r#"class="margin" x1="58.7""#), "the margin is a loss: {svg}");
        let loss = Interval { low: -3.0, high: -1.0 };
        let loss = interval_bar(-2.0, Some(loss), None, Tone::of(Some(loss)), "").unwrap();
        assert!(loss.contains(r#"class="bar bad""#) && loss.contains(r#"cx="33.3""#), "{loss}");
    }

    #[test]
    fn without_an_interval_nothing_is_claimed() {
        let svg = interval_bar(3.0, None, None, Tone::of(None), "").unwrap();
        assert!(svg.contains(r#"class="bar open""#) && !svg.contains("range"), "{svg}");
        assert!(interval_bar(0.0, None, None, Tone::of(None), "").unwrap().contains(r#"cx="84.0""#));
        assert_eq!(interval_bar(f64::NAN, None, None, Tone::of(None), ""), None);
        assert_eq!(interval_bar(1.0, Some(Interval { low: 0.0, high: f64::INFINITY }), None, Tone::Open, ""), None);
    }
}
