//! The curves of a run as its events tell them, and as pictures. A run that was resumed has one course: its log was cut
//! back to the checkpoint.

use crate::pages::charts::{Axis, Series, plot};
use crate::views::curve::{smoothed, thinned};
use outcrop_job::{Event, Record};
use serde::Serialize;

/// Colour of the training loss; validation sets have those after it.
const TRAINING: usize = 0;
const HEIGHT: f64 = 300.0;

/// What a run's events say over its steps.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Curves {
    /// Step, loss in nats per target, learning rate.
    pub(crate) training: Vec<(u64, f64, f64)>,
    pub(crate) validation: Vec<ValidationCurve>,
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
                _ => {}
            }
        }
        curves.validation.sort_by_key(|curve| curve.set);
        curves
    }

    /// Training loss, each step's thin and the smoothed course strong, and the validation sets.
    pub(crate) fn losses(&self) -> String {
        let steps: Vec<(f64, f64)> =
            self.training.iter().map(|(step, loss, _)| (*step as f64, drawable(*loss))).collect();
        let window = window(steps.len());
        let mut series = vec![
            line("training loss of each step", TRAINING, "thin", thinned(&steps)),
            line(
                format!("training loss, smoothed over {window} steps"),
                TRAINING,
                "",
                thinned(&smoothed(&steps, window)),
            ),
        ];
        series.extend(self.validation_lines());
        plot("loss over the steps", &step_axis(), &loss_axis(), &series, HEIGHT)
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

/// Not a number where there is nothing to draw, which leaves a gap.
fn drawable(loss: f64) -> f64 {
    if loss.is_finite() { loss } else { f64::NAN }
}

fn color(set: u64) -> usize {
    TRAINING + 1 + set as usize
}

fn set_name(set: u64, all: &[ValidationCurve]) -> String {
    if all.len() == 1 { "validation".into() } else { format!("validation set {}", set + 1) }
}

/// Time constant of the smoothing, as in `loss.svg`.
pub(crate) fn window(steps: usize) -> usize {
    (steps / 40).max(3)
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

    #[test]
    fn a_run_becomes_its_curves() {
        let events =
            [validation(1, 0, 4.0), validation(0, 0, 3.0), step(1, 2.5), step(2, f64::NAN), validation(0, 2, 2.0)];
        let records = events.map(|event| Record { time: timestamp::now(), event });
        let curves = Curves::of(&records);
        assert_eq!(curves.training[0], (1, 2.5, 0.5));
        assert_eq!(curves.validation[0].losses, [(0, 3.0), (2, 2.0)]);
        assert_eq!(curves.validation[1].losses, [(0, 4.0)]);
        let names: Vec<String> = curves.legend().into_iter().map(|(_, name)| name).collect();
        assert_eq!(names, ["training", "validation set 1", "validation set 2"]);
        let svg = curves.losses();
        assert!(svg.contains("<title>validation set 1 loss</title>") && !svg.contains("NaN"), "{svg}");
        assert_eq!(svg.matches("<circle").count(), 3 + 2, "each validation loss, and training losses that stand alone");
    }
}
