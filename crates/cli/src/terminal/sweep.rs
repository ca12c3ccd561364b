//! A sweep on the terminal: its plan, its progress, its table.

use super::{bytes, counted, duration, print};
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use outcrop_job::sweep::{SweepPlan, TrialPlan, TrialResult};
use outcrop_job::{Event, Plan, Record};
use outcrop_trainer::Stage;
use outcrop_trainer::sweep::SweepObserver;
use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Seconds between lines of progress where there is no terminal.
const LINE_SECONDS: u64 = 10;

/// A table of as many columns as there are; numbers to the right.
pub(crate) fn columns(header: &[String], rows: &[Vec<String>]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic).set_header(header);
    table.add_rows(rows);
    let last = header.len().saturating_sub(1);
    for (index, column) in table.column_iter_mut().enumerate().filter(|(index, _)| *index != last) {
        column.set_cell_alignment(if index == 0 { CellAlignment::Left } else { CellAlignment::Right });
    }
    table.trim_fmt() + "\n"
}

/// Epochs without needless digits.
fn epochs(number: f64) -> String {
    let text = format!("{number:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}

/// The plan, in lines that fit the terminal.
fn plan(sweep: &SweepPlan, first: &Plan, at_a_time: usize) -> String {
    let row = |name: &str, text: String| [name.to_string(), text];
    let mut rows = vec![row("sweep", format!("{} ({})", sweep.name, sweep.sweep_id))];
    rows.push(row("base", format!("{}: {}", first.base.identifier, first.base.family)));
    let data = &first.data.training;
    rows.push(row("data", format!("{}, {}", counted(data.records, "record"), counted(data.target_tokens, "target"))));
    let lists: Vec<String> =
        sweep.varied.iter().map(|varied| format!("{} {}", varied.values.len(), varied.key)).collect();
    rows.push(row("trials", format!("{}: {}", sweep.trials.len(), lists.join(" x "))));
    let (trained, alone) = (sweep.trained_epochs, sweep.trial_epochs);
    let runs = counted(sweep.runs.len() as u64, "run");
    let saved = match trained < alone {
        true => format!("; fewer epochs are the beginning of more, which saves {}", epochs(alone - trained)),
        false => "; no trial is the beginning of another with this schedule".into(),
    };
    rows.push(row("epochs", format!("{} in {runs}, for {} trial-epochs{saved}", epochs(trained), epochs(alone))));
    if first.trainable.kind != "all" {
        let passes = if sweep.trunk_once { "1 pass".to_string() } else { format!("{} passes", epochs(trained)) };
        rows.push(row("frozen base", format!("{passes} over the data instead of {}", epochs(alone))));
    }
    let memory = format!("about {} a run", bytes(first.memory.total_bytes));
    rows.push(row("memory", format!("{memory}, {} at a time", counted(at_a_time as u64, "run"))));
    let (models, checkpoints) = (bytes(sweep.models_bytes), bytes(sweep.checkpoint_bytes));
    let each = bytes(sweep.models_bytes / sweep.trials.len().max(1) as u64);
    rows.push(row(
        "disk",
        format!(
            "{models} for models ({each} each); checkpoints, of long trials alone, at most {checkpoints} at a time"
        ),
    ));
    rows.push(row("selection", format!("by the validation loss on {}", sweep.selection)));
    rows.push(row(
        "verdict",
        match sweep.test.as_slice() {
            [] => "none: evaluationData names no test set".to_string(),
            test => format!("the winner alone, on {}", test.join(", ")),
        },
    ));
    if let Some(level) = sweep.stop_losers {
        rows.push(row("losers", format!("stop early at p <= {level}, so runs go one after the other")));
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic).add_rows(rows);
    table.trim_fmt() + "\n"
}

/// The observer of `outcrop sweep`.
pub(crate) struct SweepProgress {
    bar: ProgressBar,
    terminal: bool,
    stop: Arc<AtomicBool>,
    planned: bool,
    trials: usize,
    ended: usize,
    last_line: Instant,
}

impl SweepProgress {
    /// `stop` is set by Ctrl-C.
    pub(crate) fn new(stop: Arc<AtomicBool>) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        if terminal {
            bar.enable_steady_tick(Duration::from_millis(200));
        }
        Self { bar, terminal, stop, planned: false, trials: 0, ended: 0, last_line: Instant::now() }
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
}

fn settings(trial: &TrialPlan) -> String {
    trial.settings.iter().map(|(key, value)| format!("{key} {value}")).collect::<Vec<_>>().join(", ")
}

impl SweepObserver for SweepProgress {
    fn stage(&mut self, stage: Stage, done: u64, total: u64) {
        if self.planned {
            return; // the bar of the steps stays
        }
        self.style("{spinner} {msg} {wide_bar} {percent:>3} %");
        self.bar.set_message(super::progress::stage_name(stage));
        self.bar.set_length(total.max(1));
        self.bar.set_position(done);
    }

    fn planned(&mut self, sweep: &SweepPlan, first: &Plan, at_a_time: usize) {
        self.bar.suspend(|| {
            // a closed pipe must not end the sweep
            let _ = print(&plan(sweep, first, at_a_time));
        });
        self.planned = true;
        self.trials = sweep.trials.len();
        let steps = |run: &outcrop_job::sweep::RunPlan| {
            let begins = std::iter::once(&0).chain(&run.forks);
            run.trials.iter().zip(begins).map(|(trial, begin)| sweep.trials[trial - 1].steps - begin).sum::<u64>()
        };
        self.bar.reset();
        self.bar.set_length(sweep.runs.iter().map(steps).sum());
        self.bar.set_message("training");
        self.style("{wide_bar} {pos}/{len} steps {msg} {eta} left");
    }

    fn event(&mut self, trial: &TrialPlan, record: &Record) {
        match &record.event {
            Event::Step(step) => {
                self.bar.inc(1);
                let message = format!("trial {} loss {:.4}", trial.number, step.loss);
                if !self.terminal && self.last_line.elapsed() > Duration::from_secs(LINE_SECONDS) {
                    self.last_line = Instant::now();
                    eprintln!("trial {}/{} step {}/{} {message}", trial.number, self.trials, step.step, trial.steps);
                }
                self.bar.set_message(message);
            }
            Event::Warning { message } => self.say(&format!("trial {}: warning: {message}", trial.number)),
            _ => {}
        }
    }

    fn ended(&mut self, trial: &TrialPlan, result: &TrialResult) {
        self.ended += 1;
        let what = match result.final_loss() {
            Some(loss) => format!("validation loss {loss:.4}"),
            None => format!("{} at step {}", result.status.as_str(), result.steps),
        };
        let took = duration(result.seconds);
        let (number, trials) = (trial.number, self.trials);
        self.say(&format!("trial {number} of {trials}: {}: {what} ({took} of its own steps)", settings(trial)));
    }

    fn stop_requested(&mut self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }
}
