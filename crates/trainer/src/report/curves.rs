//! The curves of a run as its events tell them, and as pictures. A run that was resumed has one course: its log was cut
//! back to the checkpoint.

use crate::pages::charts::{Axis, Series, plot};
use crate::views::curve::thinned;
use outcrop_job::event::Monitor;
use outcrop_job::{Event, Record};
use serde::Serialize;

/// Colour of the training loss; validation sets have those after it.
const TRAINING: usize = 0;
const FORGETTING: usize = 3;
const HEIGHT: f64 = 300.0;
/// Points of a course, about.
const COURSE_POINTS: usize = 60;

/// What a run's events say over its steps.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Curves {
    /// Step, loss in nats per target, learning rate.
    pub(crate) training: Vec<(u64, f64, f64)>,
    pub(crate) validation: Vec<ValidationCurve>,
    pub(crate) monitor: Vec<MonitorPoint>,
}

/// A look at general text during the run.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct MonitorPoint {
    /// Steps done; 0 is the untouched base.
    pub(crate) step: u64,
    /// NLL of base and model, nats per token.
    pub(crate) nll_base: f64,
    pub(crate) nll: f64,
    /// KL(base || model), nats.
    pub(crate) kl: f64,
}

/// A picture with its title and what it shows.
#[derive(Debug, Serialize)]
pub(crate) struct Picture {
    title: String,
    note: String,
    svg: String,
}

/// The losses of one validation set.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ValidationCurve {
    /// Its index among the request's validators.
    pub(crate) set: u64,
    /// Step and loss in nats per target; step 0 is the untouched base.
    pub(crate) losses: Vec<(u64, f64)>,
}

impl Curves {
    pub(crate) fn of(records: &[Record]) -> Self {
        let mut curves = Self::default();
        for record in records {
            match &record.event {
                Event::Step(step) => curves.training.push((step.step, step.loss, step.learning_rate)),
                Event::Validation(validation) => {
                    let point = (validation.step, validation.loss);
                    match curves.validation.iter_mut().find(|curve| curve.set == validation.set) {
                        Some(curve) => curve.losses.push(point),
                        None => curves.validation.push(ValidationCurve { set: validation.set, losses: vec![point] }),
                    }
                }
                Event::Monitor(Monitor { step, nll_base, nll, kl, .. }) => {
                    curves.monitor.push(MonitorPoint { step: *step, nll_base: *nll_base, nll: *nll, kl: *kl });
                }
                _ => {}
            }
        }
        curves.validation.sort_by_key(|curve| curve.set);
        curves
    }

    /// Training loss, each step's thin and its course strong, and the validation sets.
    pub(crate) fn losses(&self) -> String {
        let steps = self.training_points(|step| step as f64);
        let title = format!("training loss, mean of {}", counted(stretch(steps.len()), "step"));
        let mut series = vec![
            line("training loss of each step", TRAINING, "thin", thinned(&steps)),
            line(title, TRAINING, "", course(&steps)),
        ];
        series.extend(self.validation_lines());
        plot("loss over the steps", &step_axis(), &loss_axis(), &series, HEIGHT)
    }

    /// Training losses that can be drawn, by `at` of their step.
    pub(crate) fn training_points(&self, at: impl Fn(u64) -> f64) -> Vec<(f64, f64)> {
        let finite = self.training.iter().filter(|(_, loss, _)| loss.is_finite());
        finite.map(|(step, loss, _)| (at(*step), *loss)).collect()
    }

    /// How far the model went from its base on general text, as pictures; none where nothing was measured.
    pub(crate) fn forgetting(&self) -> Vec<Picture> {
        if self.monitor.is_empty() {
            return Vec::new();
        }
        let rise = "Rise of the NLL on general text against the base, nats per token: what is above zero is forgotten.";
        let distance =
            "KL(base || tuned) on general text, nats per token: how far predictions moved, for better or worse.";
        vec![
            self.look("Forgetting: general text", rise, |point| point.nll - point.nll_base),
            self.look("Forgetting: distance from the base", distance, |point| point.kl),
        ]
    }

    /// One value of the monitor over the steps.
    fn look(&self, title: &str, note: &str, value: impl Fn(&MonitorPoint) -> f64) -> Picture {
        let points = self.monitor.iter().map(|point| (point.step as f64, value(point))).collect();
        let series = Series { marked: true, ..line(title, FORGETTING, "", points) };
        let axis = Axis { name: "nats per token", logarithmic: false, holds: Some(0.0), whole: false };
        let svg = plot(title, &step_axis(), &axis, &[series], HEIGHT);
        Picture { title: title.to_string(), note: note.to_string(), svg }
    }

    /// What the lines of [`Self::losses`] are, with their colours.
    pub(crate) fn legend(&self) -> Vec<(usize, String)> {
        let mut names = Vec::new();
        if !self.training.is_empty() {
            names.push((TRAINING, "training".to_string()));
        }
        names.extend(self.validation.iter().map(|curve| (color(curve.set), set_name(curve.set, &self.validation))));
        names
    }

    fn validation_lines(&self) -> impl Iterator<Item = Series> {
        self.validation.iter().map(|curve| {
            let points = curve.losses.iter().map(|(step, loss)| (*step as f64, *loss)).collect();
            let name = set_name(curve.set, &self.validation);
            Series { marked: true, ..line(format!("{name} loss"), color(curve.set), "", points) }
        })
    }
}

fn color(set: u64) -> usize {
    TRAINING + 1 + set as usize
}

fn set_name(set: u64, all: &[ValidationCurve]) -> String {
    if all.len() == 1 { "validation".into() } else { format!("validation set {}", set + 1) }
}

/// Steps of one point of a course.
fn stretch(steps: usize) -> usize {
    (steps / COURSE_POINTS).max(1)
}

/// Means of stretches of equal length, which unlike a moving average don't lag behind a loss that falls fast.
pub(crate) fn course(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mean = |stretch: &[(f64, f64)]| {
        let sum = stretch.iter().fold((0.0, 0.0), |sum, point| (sum.0 + point.0, sum.1 + point.1));
        (sum.0 / stretch.len() as f64, sum.1 / stretch.len() as f64)
    };
    points.chunks(stretch(points.len())).map(mean).collect()
}

fn counted(number: usize, word: &str) -> String {
    format!("{number} {word}{}", if number == 1 { "" } else { "s" })
}

pub(crate) fn line(title: impl Into<String>, color: usize, class: &'static str, points: Vec<(f64, f64)>) -> Series {
    Series { title: title.into(), color, class, points, joined: true, marked: false }
}

pub(crate) fn step_axis() -> Axis {
    Axis { name: "optimizer step", logarithmic: false, holds: Some(0.0), whole: true }
}

pub(crate) fn loss_axis() -> Axis {
    Axis { name: "loss, nats per target", logarithmic: true, holds: None, whole: false }
}

#[cfg(test)]
mod tests {
    use super::*;
    use outcrop_job::event::{Step, Validation};
    use outcrop_job::timestamp;

    fn step(step: u64, loss: f64) -> Event {
        Event::Step(Step {
            step,
            epoch: 0,
            loss,
            tokens: 8,
            target_tokens: 4,
            grad_norm: 1.0,
            clip_factor: 1.0,
            learning_rate: 0.5,
            tokens_per_second: 1.0,
            seconds: 1.0,
            memory_bytes: 1,
        })
    }

    fn validation(set: u64, step: u64, loss: f64) -> Event {
        Event::Validation(Validation { step, epoch: 0, set, loss, perplexity: loss.exp(), target_tokens: 4 })
    }

    fn records(events: impl IntoIterator<Item = Event>) -> Vec<Record> {
        events.into_iter().map(|event| Record { time: timestamp::now(), event }).collect()
    }

    #[test]
    fn a_run_becomes_its_curves() {
        let events =
            [validation(1, 0, 4.0), validation(0, 0, 3.0), step(1, 2.5), step(2, f64::NAN), validation(0, 2, 2.0)];
        let curves = Curves::of(&records(events));
        assert_eq!(curves.training[0], (1, 2.5, 0.5));
        assert_eq!(curves.validation[0].losses, [(0, 3.0), (2, 2.0)]);
        assert_eq!(curves.validation[1].losses, [(0, 4.0)]);
        let names: Vec<String> = curves.legend().into_iter().map(|(_, name)| name).collect();
        assert_eq!(names, ["training", "validation set 1", "validation set 2"]);
        let svg = curves.losses();
        assert!(svg.contains("<title>validation set 1 loss</title>") && !svg.contains("NaN"), "{svg}");
        assert_eq!(svg.matches("<circle").count(), 3 + 2, "each validation loss, and training losses that stand alone");
        assert!(curves.forgetting().is_empty());
    }

    #[test]
    fn a_course_keeps_mean_and_place_of_each_stretch() {
        let points: Vec<(f64, f64)> = (0..180).map(|step| (f64::from(step), f64::from(step % 3))).collect();
        let course = course(&points);
        assert_eq!((course.len(), course[0], course[59]), (60, (1.0, 1.0), (178.0, 1.0)));
        assert_eq!(super::course(&points[..5]), points[..5]);
    }

    #[test]
    fn forgetting_is_drawn_against_the_base() {
        let look = |step, nll, kl| Event::Monitor(Monitor { step, positions: 9, nll_base: 3.0, nll, kl });
        let curves = Curves::of(&records([look(0, 3.0, 0.0), look(5, 3.5, 0.25), look(9, f64::INFINITY, f64::NAN)]));
        let [general, distance] = &curves.forgetting()[..] else { panic!("two pictures") };
        assert!(general.title == "Forgetting: general text" && general.svg.contains(">0.5</text>"), "{}", general.svg);
        assert_eq!(general.svg.matches("<circle").count(), 2, "an infinite loss has no place");
        assert!(distance.svg.contains(">0.2</text>") && !distance.svg.contains("NaN"), "{}", distance.svg);
    }
}
