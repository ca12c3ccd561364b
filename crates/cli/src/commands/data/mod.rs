//! `outcrop data`: what is wrong with data, what training makes of them, and copies that are divided or scrubbed.

mod check;
mod html;
mod inspect;
mod prepare;
mod scrub;
mod split;
mod text;

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use outcrop_data::TextTokenizer;
use outcrop_job::{Home, ModelStore};
use outcrop_model::Base;
use outcrop_trainer::base::TemplateFile;
use std::path::Path;

/// Data commands.
#[derive(Args)]
pub(crate) struct Data {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Check data before a run: structure, tokens, duplicates, leakage, labels, personal data, quality; exit code 1 on errors
    Check(check::Check),
    /// Show the tokens of one record as training sees them, targets coloured
    Inspect(inspect::Inspect),
    /// Divide a file into training, validation and test; near-duplicates stay on one side
    Split(split::Split),
    /// Write a copy with personal data replaced by placeholders
    Scrub(scrub::Scrub),
    /// Check and tokenize data ahead of time; a job with the same base and settings finds it ready
    Prepare(prepare::Prepare),
}

impl Data {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self.verb {
            Verb::Check(command) => command.run(),
            Verb::Inspect(command) => command.run(),
            Verb::Split(command) => command.run(),
            Verb::Scrub(command) => command.run(),
            Verb::Prepare(command) => command.run(),
        }
    }
}

/// The data have errors: the report has said which, so there is nothing more to print.
#[derive(Debug)]
pub(crate) struct HasErrors;

impl std::fmt::Display for HasErrors {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Ok(())
    }
}

impl std::error::Error for HasErrors {}

/// What data need of a base: its tokenizer, with another chat template than its own where there is one, and its context.
fn base(name: &str, home: &Home, template: Option<&Path>) -> anyhow::Result<(TextTokenizer, usize)> {
    let template = template.map(TemplateFile::read).transpose()?;
    let models = ModelStore::new(home.models_dir());
    let (locations, _copies) = crate::commands::here(home)?;
    let base = Base::open(&outcrop_trainer::base::locate(name, &locations, &models)?)?;
    Ok((outcrop_trainer::base::text_tokenizer(&base, template.as_ref())?, base.spec().max_position_embeddings))
}

/// A bar with the time left; hidden where there is no terminal.
fn progress() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("checking {wide_bar} {bytes}/{total_bytes} {eta} left") {
        bar.set_style(style.progress_chars("━╸─"));
    }
    bar
}

/// Megabytes of an option, in bytes.
fn megabytes(number: u64) -> usize {
    usize::try_from(number.saturating_mul(1 << 20)).unwrap_or(usize::MAX)
}
