//! A run as it goes: a bar on a terminal, a line now and then elsewhere.

use super::{count, plan, print};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use outcrop_job::{Event, Plan, Record};
use outcrop_trainer::{Observer, Stage};
use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Seconds between lines where there is no terminal.
const LINE_SECONDS: u64 = 10;

/// The observer of `outcrop train`.
pub(crate) struct Progress {
    bar: ProgressBar,
    terminal: bool,
    stage: Option<Stage>,
    stop: Arc<AtomicBool>,
    last_line: Instant,
    total: u64,
}

impl Progress {
    /// `stop` is set by Ctrl-C.
    pub(crate) fn new(stop: Arc<AtomicBool>) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        if terminal {
            bar.enable_steady_tick(Duration::from_millis(200));
        }
        Self { bar, terminal, stage: None, stop, last_line: Instant::now(), total: 0 }
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn say(&self, line: &str) {
        if self.terminal { self.bar.suspend(|| eprintln!("{line}")) } else { eprintln!("{line}") }
    }

    fn style(&self, template: &str) {
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.bar.set_style(style.progress_chars("━╸─"));
        }
    }

    fn step(&mut self, step: &outcrop_job::event::Step) {
        let rate = count(step.tokens_per_second as u64);
        let message = format!("loss {:.4} lr {:.2e} {rate} tok/s", step.loss, step.learning_rate);
        self.bar.set_position(step.step);
        self.bar.set_message(message.clone());
        let waited = self.last_line.elapsed() > Duration::from_secs(LINE_SECONDS);
        if !self.terminal && (waited || step.step == self.total || step.step == 1) {
            self.last_line = Instant::now();
            eprintln!("step {}/{} {message}", step.step, self.total);
        }
    }
}

pub(super) fn stage_name(stage: Stage) -> &'static str {
    match stage {
        Stage::ReadingBase => "reading the base",
        Stage::PreparingData => "checking and tokenizing data",
        Stage::ScoringBase => "scoring the untouched base",
        Stage::ScoringTuned => "scoring the tuned model",
        Stage::Features => "running the frozen trunk, once",
        Stage::Validating => "validating",
    }
}

impl Observer for Progress {
    fn stage(&mut self, stage: Stage, done: u64, total: u64) {
        if stage == Stage::Validating {
            return; // short, and the bar of the steps stays
        }
        if self.stage != Some(stage) {
            self.stage = Some(stage);
            self.bar.reset();
            // Bytes of data come steadily, so the time left is worth something; rows to score are of any length.
            let timed = stage == Stage::PreparingData;
            let template = "{spinner} {msg} {wide_bar} {percent:>3} %";
            self.style(&if timed { format!("{template} {{eta}} left") } else { template.to_owned() });
            self.bar.reset_eta();
            self.bar.set_message(stage_name(stage));
        }
        self.bar.set_length(total.max(1));
        self.bar.set_position(done);
    }

    fn planned(&mut self, planned: &Plan) {
        self.bar.suspend(|| {
            // a closed pipe must not end the run
            let _ = print(&plan(planned));
        });
        self.total = planned.steps.total;
        self.stage = None;
        self.bar.reset();
        self.bar.set_length(planned.steps.total);
        self.bar.set_message("training");
        self.style("{wide_bar} {pos}/{len} {msg} {eta} left");
    }

    fn event(&mut self, record: &Record) {
        match &record.event {
            Event::Step(step) => self.step(step),
            Event::Validation(v) => {
                let when = if v.step == 0 { "before training".into() } else { format!("after step {}", v.step) };
                self.say(&format!("validation {when}: loss {:.4}, perplexity {:.2}", v.loss, v.perplexity));
            }
            Event::Monitor(seen) if seen.step > 0 => {
                let (rise, step) = (seen.nll - seen.nll_base, seen.step);
                self.say(&format!(
                    "general text after step {step}: NLL {rise:+.4} of the base's {:.4}, KL {:.4}",
                    seen.nll_base, seen.kl
                ));
            }
            Event::Samples(samples) => {
                let percent = |share: f64| (100.0 * share).round();
                let (stopped, empty) = (percent(samples.stop_rate), percent(samples.empty_rate));
                let (number, step) = (samples.samples.len(), samples.step);
                self.say(&format!(
                    "sample answers after step {step}: {stopped} % of {number} end by themselves, {empty} % are empty"
                ));
            }
            Event::Resumed { step } => {
                self.bar.set_position(*step);
                self.bar.reset_eta();
                self.say(&format!("resumed after step {step}"));
            }
            Event::StoppedEarly { message, .. } | Event::Kept { message, .. } => self.say(message),
            Event::Warning { message } => self.say(&format!("warning: {message}")),
            _ => {}
        }
    }

    fn stop_requested(&mut self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }
}
