//! Tests of the loss curve, which read the SVG as text: polylines, labels and coordinates.

use outcrop_job::Event;
use outcrop_job::event::{Step, Validation};
use plotters::coord::ranged1d::ValueFormatter;

use super::points::{COLUMNS, smoothed};
use super::style::{TRAINING, VALIDATION};
use super::*;

fn record(event: Event) -> Record {
    Record { time: "2026-11-22T07:20:00Z".parse().unwrap(), event }
}

fn step(number: u64, loss: f64, learning_rate: f64) -> Record {
    record(Event::Step(Step {
        step: number,
        epoch: 0,
        loss,
        tokens: 64,
        target_tokens: 32,
        grad_norm: 1.5,
        clip_factor: 1.0,
        learning_rate,
        tokens_per_second: 1000.0,
        seconds: 0.064,
        memory_bytes: 1,
    }))
}

fn validation(number: u64, set: u64, loss: f64) -> Record {
    let perplexity = loss.exp();
    record(Event::Validation(Validation { step: number, epoch: 0, set, loss, perplexity, target_tokens: 32 }))
}

fn drawn(records: &[Record]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("curve.svg");
    draw(records, "a run", &path).unwrap();
    fs_err::read_to_string(path).unwrap()
}

/// The picture before it is scaled and written, for tests that need many.
fn painted(records: &[Record]) -> String {
    let mut svg = String::new();
    paint(&Curves::of(records), "a run", &mut svg).unwrap();
    svg
}

/// Points of every polyline of `color`, in pixels of the picture.
fn polylines(svg: &str, color: RGBColor) -> Vec<Vec<(f64, f64)>> {
    let color = format!("stroke=\"#{:02X}{:02X}{:02X}\"", color.0, color.1, color.2);
    let lines = svg.lines().filter(|line| line.starts_with("<polyline") && line.contains(&color));
    let points = lines.map(|line| {
        let list = line.split("points=\"").nth(1).unwrap().split('"').next().unwrap();
        let point = |pair: &str| {
            let (x, y) = pair.split_once(',').unwrap();
            (x.parse::<f64>().unwrap() / f64::from(SCALE), y.parse::<f64>().unwrap() / f64::from(SCALE))
        };
        list.split_whitespace().map(point).collect()
    });
    points.collect()
}

/// The polylines of the legend have the same y throughout and lie above the plot.
fn curves(svg: &str, color: RGBColor) -> Vec<Vec<(f64, f64)>> {
    let in_plot = |line: &Vec<(f64, f64)>| line.iter().all(|point| point.1 > 75.0);
    polylines(svg, color).into_iter().filter(in_plot).collect()
}

/// Texts in the order of drawing.
fn texts(svg: &str) -> Vec<&str> {
    let mut lines = svg.lines();
    let mut texts = Vec::new();
    while let Some(line) = lines.next() {
        if line.starts_with("<text") {
            texts.push(lines.next().unwrap());
        }
    }
    texts
}

/// Every coordinate lies in the picture; without a panic this is what hostile numbers could break.
fn assert_in_the_picture(svg: &str) {
    assert!(svg.ends_with("</svg>\n"), "{svg}");
    assert!(!svg.contains("NaN") && !svg.contains("\"inf"), "{svg}");
    let inside = |x: &str, y: &str| {
        (0..=(WIDTH * SCALE) as i32).contains(&x.parse().unwrap())
            && (0..=(HEIGHT * SCALE) as i32).contains(&y.parse().unwrap())
    };
    for line in svg.lines() {
        let attribute = |name: &str| line.split(&format!(" {name}=\"")).nth(1)?.split('"').next();
        for pair in attribute("points").unwrap_or_default().split_whitespace() {
            let (x, y) = pair.split_once(',').unwrap();
            assert!(inside(x, y), "{line}");
        }
        for (x, y) in [("x", "y"), ("x1", "y1"), ("x2", "y2"), ("cx", "cy")] {
            assert!(attribute(x).is_none_or(|x| inside(x, attribute(y).unwrap())), "{line}");
        }
    }
}

#[test]
fn a_run_shows_loss_validation_and_learning_rate() {
    let records: Vec<Record> = (1..=40)
        .map(|number| step(number, 4.0 - 0.05 * number as f64, 1e-5 * number as f64))
        .chain([validation(0, 0, 4.2), validation(20, 0, 3.4), validation(40, 0, 2.5), validation(40, 1, 2.6)])
        .collect();
    let svg = drawn(&records);
    assert!(svg.starts_with(
        r#"<svg width="960" height="540" stroke-linejoin="round" stroke-linecap="round" viewBox="0 0 3840 2160""#
    ));
    let texts = texts(&svg);
    for text in [
        "a run",
        "training loss",
        "smoothed over 3 steps",
        "validation loss",
        "validation loss, set 1",
        "learning rate",
        "optimizer step",
        "loss (nats per token)",
        "2.5",
        "4.0",
        "2e-4",
        "40",
    ] {
        assert!(texts.contains(&text), "`{text}` in {texts:?}");
    }
    // Raw and smoothed share a color; a point for each step.
    let training = curves(&svg, TRAINING);
    assert_eq!(training.iter().map(Vec::len).collect::<Vec<_>>(), [40, 40]);
    let [validation] = &curves(&svg, VALIDATION[0])[..] else { panic!("one line") };
    assert_eq!(validation.len(), 3);
    // To the right with the step, down with the loss, up with the learning rate.
    assert!(validation.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 < pair[1].1), "{validation:?}");
    let [rate] = &curves(&svg, LEARNING_RATE)[..] else { panic!("one line") };
    assert!(rate.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 > pair[1].1), "{rate:?}");
    // Step 20 of both is at one place; the raw loss of 3.0 lies below the validation's 3.4.
    assert!((training[0][19].0 - validation[1].0).abs() < 0.5 && training[0][19].1 > validation[1].1);
    // Two points of set 0 at steps 20 and 40 and one at 0, one of set 1, two in the legend.
    assert_eq!(svg.matches("<circle").count(), 3 + 1 + 2);
    assert_in_the_picture(&svg);
}

#[test]
fn an_empty_run_is_an_empty_frame_with_a_note() {
    let svg = drawn(&[]);
    assert_eq!(texts(&svg), ["a run", "no optimizer step yet", "loss (nats per token)", "optimizer step"]);
    assert_in_the_picture(&svg);
}

#[test]
fn one_point_is_a_dot() {
    let svg = drawn(&[step(1, 2.0, 0.0)]);
    assert!(svg.contains("<circle"), "{svg}");
    assert!(texts(&svg).contains(&"2.00"), "{:?}", texts(&svg));
    assert!(!texts(&svg).contains(&"learning rate"), "a rate of 0 has no axis");
    let svg = drawn(&[validation(0, 0, 2.0)]);
    assert!(svg.contains("<circle") && texts(&svg).contains(&"validation loss"), "{svg}");
    assert!(!texts(&svg).contains(&"training loss"));
}

#[test]
fn r12_a_loss_that_is_not_finite_is_a_gap_and_is_counted() {
    let losses = [3.0, 2.5, f64::NAN, 2.0, 1.5, f64::INFINITY, 1.0, 0.5];
    let records: Vec<Record> = (1..).zip(losses).map(|(number, loss)| step(number, loss, 1e-5)).collect();
    let svg = drawn(&records);
    assert_eq!(curves(&svg, TRAINING).iter().map(Vec::len).collect::<Vec<_>>(), [2, 2, 2, 2, 2, 2]);
    assert!(texts(&svg).contains(&"left out: 2 values that are not finite or beyond 1e30"), "{:?}", texts(&svg));
    let svg = drawn(&[step(1, 1e31, 1e-5), step(9, 1.0, 1e-5)]);
    assert!(texts(&svg).contains(&"left out: 1 value that is not finite or beyond 1e30"), "{:?}", texts(&svg));
    let svg = drawn(&[step(9, f64::NAN, 1e-5)]);
    assert!(!texts(&svg).contains(&"learning rate"), "an empty frame has no axis for it");
    assert!(texts(&svg).contains(&"no finite loss to draw"));
    assert!(texts(&svg).contains(&"left out: 1 value that is not finite or beyond 1e30"));
}

#[test]
fn no_number_leaves_the_picture() {
    let values = [
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::MAX,
        f64::MIN,
        1e30,
        -1e30,
        1e29,
        800.0,
        2.0,
        2.0 + 1e-15,
        1e-300,
        f64::MIN_POSITIVE,
        5e-324,
        0.0,
        -0.0,
        -1e-300,
        -3.0,
    ];
    for first in values {
        for second in values {
            let far = u64::MAX - 1;
            assert_in_the_picture(&painted(&[step(1, first, second), step(2, second, first)]));
            assert_in_the_picture(&painted(&[step(far, first, first), validation(far, 0, second)]));
        }
        assert_in_the_picture(&painted(&[step(7, first, first), step(3, first, first), step(7, first, first)]));
    }
}

#[test]
fn more_sets_than_the_legend_has_room_for_leave_the_plot_its_room() {
    let ten: Vec<Record> = (0..10).map(|set| validation(1, set, 2.0)).collect();
    assert!(!texts(&drawn(&ten)).contains(&"..."));
    let many: Vec<Record> = (0..1000).map(|set| validation(1, set, 2.0)).collect();
    let svg = drawn(&many);
    assert!(texts(&svg).contains(&"..."));
    assert_in_the_picture(&svg);
}

#[test]
fn a_constant_loss_lies_in_the_middle() {
    let svg = drawn(&[step(1, 2.0, 0.0), step(2, 2.0, 0.0)]);
    let raw = &curves(&svg, TRAINING)[0];
    assert_eq!(raw[0].1, raw[1].1);
    // The plot lies between 80 and 480 pixels.
    assert!((raw[0].1 - 280.0).abs() < 2.0, "{raw:?}");
}

#[test]
fn smoothing_starts_at_the_first_value_and_skips_gaps() {
    let constant: Vec<Point> = (0..50).map(|step| (f64::from(step), 3.0)).collect();
    assert!(smoothed(&constant, 10).iter().all(|point| (point.1 - 3.0).abs() < 1e-12));
    // By hand with decay 1/2: 4; (4/4 + 2/2) / (3/4) = 8/3; the gap leaves the average as it is.
    let found = smoothed(&[(1.0, 4.0), (2.0, 2.0), (3.0, f64::NAN), (4.0, 8.0)], 2);
    assert_eq!(found[0], (1.0, 4.0));
    assert!((found[1].1 - 8.0 / 3.0).abs() < 1e-12, "{found:?}");
    assert!(found[2].1.is_nan());
    assert!((found[3].1 - (0.5 + 0.5 + 4.0) / (7.0 / 8.0)).abs() < 1e-12, "{found:?}");
}

#[test]
fn a_long_run_is_thinned_but_keeps_its_extremes() {
    let mut points: Vec<Point> = (0..200_000).map(|step| (f64::from(step), f64::from(step % 7))).collect();
    points[123_456].1 = 99.0;
    points[77_777].1 = -99.0;
    let kept = thinned(&points);
    assert!(kept.len() <= 4 * COLUMNS, "{}", kept.len());
    assert!(kept.windows(2).all(|pair| pair[0].0 < pair[1].0), "in order, each once");
    assert!(kept.contains(&(123_456.0, 99.0)) && kept.contains(&(77_777.0, -99.0)));
    assert_eq!((kept[0], kept[kept.len() - 1]), (points[0], points[199_999]));
    assert_eq!(thinned(&points[..3000]), points[..3000]);
}

#[test]
fn ticks_are_round_numbers() {
    let ticks = |low, high, ticks, whole| {
        let axis = Axis { low, high, ticks, whole };
        axis.tick_values().iter().map(|value| axis.format_ext(value)).collect::<Vec<_>>()
    };
    assert_eq!(ticks(1.6, 4.4, 9, false), ["2.0", "2.5", "3.0", "3.5", "4.0"]);
    assert_eq!(ticks(0.0, 1.08e-5, 7, false), ["0", "2e-6", "4e-6", "6e-6", "8e-6", "1e-5"]);
    assert_eq!(ticks(0.0, 3.06, 12, true), ["0", "1", "2", "3"]);
    assert_eq!(ticks(0.0, 102_000.0, 12, true).last().unwrap(), "100000");
    assert_eq!(ticks(-0.3, 0.3, 4, false), ["-0.2", "0.0", "0.2"]);
    assert_eq!(ticks(0.0, 2.1e7, 3, true), ["0", "1e7", "2e7"]);
    assert!(ticks(0.0, 1.0, 0, false).is_empty());
}

#[test]
fn any_title_is_valid_xml_on_one_line() {
    assert_eq!(one_line("a\nb\u{0}c\u{ffff}d"), "a b c d");
    assert_eq!(one_line(&"é".repeat(80)), "é".repeat(80));
    assert_eq!(one_line(&"é".repeat(81)), format!("{}…", "é".repeat(80)));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("curve.svg");
    draw(&[], "<b> & \"c\"", &path).unwrap();
    assert!(fs_err::read_to_string(path).unwrap().contains("&lt;b&gt; &amp; &quot;c&quot;"));
}

#[test]
fn errors_name_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("missing").join("curve.svg");
    let error = draw(&[], "a run", &path).unwrap_err().to_string();
    assert!(error.starts_with(&format!("failed to write `{}`: ", path.display())), "{error}");
}
