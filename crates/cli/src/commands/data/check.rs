//! `outcrop data check`: one report, for the terminal, as JSON, as a page.

use anyhow::{Context, anyhow, ensure};
use clap::Args;
use outcrop_data::check::{self, CheckOptions, TokenCheck};
use outcrop_job::Request;
use std::path::PathBuf;

/// Arguments of `data check`.
#[derive(Args)]
pub(crate) struct Check {
    /// Files and folders to train on: .jsonl, .txt, also .gz or .zst
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Base whose tokenizer counts: `pebble`, a folder, a GGUF file; `none` leaves tokens out
    #[arg(long, default_value = "pebble")]
    base: String,
    /// File with a chat template to use in place of the base's own
    #[arg(long, value_name = "FILE")]
    chat_template: Option<PathBuf>,
    /// Most tokens of a record or row; the base's context where it isn't given
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u64).range(2..))]
    max_length: Option<u64>,
    /// Validation and evaluation files, to look for leaks into
    #[arg(long, num_args = 1.., value_name = "FILE")]
    eval: Vec<PathBuf>,
    /// Hold the data to the limits of a Bedrock model, such as amazon.nova-lite-v1:0
    #[arg(long, value_name = "MODEL-ID")]
    profile: Option<String>,
    /// A job request whose hyperparameters are held to the profile's ranges
    #[arg(long, value_name = "REQUEST", requires = "profile")]
    job: Option<PathBuf>,
    /// Megabytes that near-duplicates may be searched with; 0 leaves the search out
    #[arg(long, value_name = "MB", default_value_t = 1024)]
    near_memory: u64,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
    /// Write the report as a page that needs nothing else
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

impl Check {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let base = match self.base.as_str() {
            "none" => None,
            name => {
                let home = crate::commands::home()?;
                Some(super::base(name, &home, self.chat_template.as_deref())?)
            }
        };
        if let (Some(asked), Some((_, context))) = (self.max_length, &base) {
            ensure!(asked <= *context as u64, "--max-length is {asked}, but the base's context has {context} tokens");
        }
        let mut options = CheckOptions::new(self.files.clone());
        options.evaluation = self.eval.clone();
        options.near_bytes = super::megabytes(self.near_memory);
        options.tokens = base.as_ref().map(|(tokenizer, context)| TokenCheck {
            tokenizer,
            max_length: self.max_length.map_or(*context, |length| length as usize),
        });
        if let Some(id) = &self.profile {
            options.profile = Some(check::find_profile(id).map_err(|message| anyhow!(message))?);
        }
        if let Some(file) = &self.job {
            let request = Request::from_json_file(&file.display().to_string(), &fs_err::read_to_string(file)?)?;
            let settings = request.hyper_parameters.iter();
            options.settings = settings.map(|(key, value)| (key.to_string(), value.to_string())).collect();
        }
        let bar = super::progress();
        let report = check::check(&options, &mut |done, total| {
            bar.set_length(total);
            bar.set_position(done);
        });
        bar.finish_and_clear();
        let report = report?;
        if let Some(file) = &self.html {
            let page = super::html::page(&report)?;
            fs_err::write(file, page).context("the page can't be written")?;
        }
        if self.json {
            crate::terminal::print(&(serde_json::to_string_pretty(&report)? + "\n"))?;
        } else {
            let mut text = super::text::report(&report);
            if let Some(file) = &self.html {
                text.push_str(&format!("\npage     {}\n", file.display()));
            }
            crate::terminal::print(&text)?;
        }
        if report.errors > 0 { Err(super::HasErrors.into()) } else { Ok(()) }
    }
}
