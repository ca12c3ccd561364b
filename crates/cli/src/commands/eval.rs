//! `outcrop eval`: models against their base on suites, with the verdict and the report of a job's end.

use crate::terminal::{self, Progress};
use anyhow::bail;
use clap::{Args, ValueEnum};
use outcrop_eval::report;
use outcrop_job::gate::Gate;
use outcrop_job::hyperparameters::Dtype;
use outcrop_job::{CustomizationType, Hyperparameters};
use outcrop_trainer::evaluate::{Evaluated, Evaluation};
use outcrop_trainer::report::{Context, write_report};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Arguments of `eval`.
#[derive(Args)]
pub(crate) struct Eval {
    /// The untouched base: folder, GGUF file, name in the hub's cache, or `pebble`
    #[arg(long)]
    base: String,
    /// Custom model (name or id), base folder, GGUF file, or `pebble`; may be given several times
    #[arg(long, required = true, num_args = 1..)]
    model: Vec<String>,
    /// Task suites: files or folders, or `s3://` locations
    #[arg(long, num_args = 1.., value_name = "SUITE")]
    suite: Vec<String>,
    /// General suites, on which forgetting is measured; `none` for none [default: the built-in ones]
    #[arg(long, num_args = 1.., value_name = "SUITE")]
    general: Option<Vec<String>>,
    /// Folder for report.json, report.md and report.html, with several models a folder of each
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// cpu, cuda:0 or metal
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Type of weights and computation
    #[arg(long, value_enum, default_value_t = EvalType::Float32)]
    dtype: EvalType,
    /// What each comparison must show, such as task>0,general>-0.01; else the exit code is 3
    #[arg(long, value_name = "CONDITIONS")]
    gate: Option<Gate>,
    /// Seed of the bootstrap
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

#[derive(Clone, Copy, ValueEnum)]
enum EvalType {
    Float32,
    Bfloat16,
}

impl Eval {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let home = super::home()?;
        let (locations, _copies) = super::here(&home)?;
        let general = general(self.general.as_deref());
        if self.suite.is_empty() && general.is_empty() {
            bail!("there is nothing to score; give --suite or --general");
        }
        for (index, model) in self.model.iter().enumerate() {
            if self.model[..index].contains(model) {
                bail!("model `{model}` is given twice; name different models");
            }
        }
        let evaluation = Evaluation {
            home: &home,
            locations: &locations,
            base: &self.base,
            models: &self.model,
            task: &self.suite,
            general: &general,
            device: &self.device,
            dtype: match self.dtype {
                EvalType::Float32 => Dtype::Float32,
                EvalType::Bfloat16 => Dtype::Bfloat16,
            },
            seed: self.seed,
            gate: self.gate.as_ref(),
        };
        let mut progress = Progress::new(Arc::default());
        let (mut texts, mut failed, several) = (Vec::new(), false, self.model.len() > 1);
        let result = evaluation.run(&mut progress, &mut |evaluated| {
            let name = &evaluated.name;
            let mut text = if several { format!("{name} against {}\n", self.base) } else { String::new() };
            text.push_str(&report::text(&evaluated.comparison));
            if let Some(failure) = &evaluated.gate {
                failed = true;
                text.push_str(&format!("{failure}\n"));
            }
            for warning in &evaluated.warnings {
                text.push_str(&format!("warning: {warning}\n"));
            }
            if let Some(output) = &self.output {
                let folder = if several { output.join(folder_name(name, texts.len())) } else { output.clone() };
                self.write(&folder, &evaluated)?;
                text.push_str(&format!("\nreport  {}\n", folder.join("report.html").display()));
            }
            texts.push(text);
            Ok(())
        });
        progress.finish();
        // what is done is said, also where a later model fails
        terminal::print(&texts.join("\n"))?;
        result?;
        if failed { Err(super::GateFailed.into()) } else { Ok(()) }
    }

    fn write(&self, folder: &Path, evaluated: &Evaluated) -> outcrop_trainer::Result<()> {
        let Evaluated { name, comparison, scored, gate, warnings, contamination, .. } = evaluated;
        let source = self.suite.join(", ");
        let context = Context {
            title: name,
            base: &self.base,
            tuned: name,
            task_source: &source,
            warnings,
            gate: gate.as_deref(),
            contamination,
            job: None,
        };
        write_report(folder, comparison, scored, &context)
    }
}

/// The general suites: those given, else those of a job that names none.
fn general(given: Option<&[String]>) -> Vec<String> {
    match given {
        Some([none]) if none == "none" => Vec::new(),
        Some(given) => given.to_vec(),
        None => Hyperparameters::defaults(CustomizationType::FineTuning).general_data,
    }
}

/// A model's name as the name of a folder: the last part of a path; the position keeps equal ones apart.
fn folder_name(model: &str, index: usize) -> String {
    let plain = |letter: char| if letter.is_alphanumeric() || matches!(letter, '-' | '_' | '.') { letter } else { '-' };
    let last = model.rsplit(['/', '\\']).find(|part| !part.is_empty()).unwrap_or("model");
    format!("{}-{}", index + 1, last.chars().map(plain).collect::<String>())
}
