//! `outcrop data split`: training, validation and test files of one file.

use anyhow::{Context, ensure};
use clap::Args;
use outcrop_data::check::{self, DivideOptions, SIDES};
use std::io::{BufWriter, Write};
use std::path::PathBuf;

/// Arguments of `data split`.
#[derive(Args)]
pub(crate) struct Split {
    /// A .jsonl file, also .gz or .zst
    file: PathBuf,
    /// The folder for train.jsonl, validation.jsonl, test.jsonl; none of them may be there
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Share of validation, such as 10%
    #[arg(long, default_value = "10%", value_parser = percentage)]
    validation: f64,
    /// Share of test
    #[arg(long, default_value = "0%", value_parser = percentage)]
    test: f64,
    /// Seed of the division
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Megabytes that near-duplicates may be searched with
    #[arg(long, value_name = "MB", default_value_t = 1024)]
    near_memory: u64,
}

fn percentage(text: &str) -> Result<f64, String> {
    let number: f64 =
        text.trim_end_matches('%').parse().map_err(|_| "a percentage such as 10% is expected".to_string())?;
    if (0.0..100.0).contains(&number) {
        Ok(number / 100.0)
    } else {
        Err("allowed are percentages from 0 to under 100".into())
    }
}

impl Split {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        ensure!(self.validation > 0.0 || self.test > 0.0, "nothing to hold out; give --validation or --test a share");
        let shares = [1.0, self.validation, self.test];
        let paths = SIDES.map(|side| self.out.join(format!("{side}.jsonl")));
        for path in &paths {
            ensure!(!path.exists(), "`{}` exists already; choose another folder", path.display());
        }
        let near_bytes = super::megabytes(self.near_memory);
        let options = DivideOptions { validation: self.validation, test: self.test, seed: self.seed, near_bytes };
        let divided = check::divide(&self.file, &options)?;
        fs_err::create_dir_all(&self.out).context("the folder can't be made")?;
        let files =
            [super::scrub::beside(&paths[0])?, super::scrub::beside(&paths[1])?, super::scrub::beside(&paths[2])?];
        {
            let [one, two, three] = &files;
            let mut outs = [one, two, three].map(|file| BufWriter::new(file.as_file()));
            let [one, two, three] = &mut outs;
            check::write_sides(&self.file, &divided, &mut [one, two, three])?;
            outs.iter_mut().try_for_each(|out| out.flush())?;
        }
        for ((file, path), share) in files.into_iter().zip(&paths).zip(shares) {
            if share > 0.0 {
                super::scrub::keep(file, path)?;
            }
        }
        let mut text = String::new();
        for (side, path) in paths.iter().enumerate().filter(|(side, _)| shares[*side] > 0.0) {
            text.push_str(&format!("{:>8} records  {}\n", divided.records[side], path.display()));
        }
        for (label, counts) in &divided.labels {
            let counts = counts.map(|count| count.to_string()).join(" / ");
            text.push_str(&format!("  label `{}`: {counts}\n", label.escape_debug()));
        }
        text.push_str(&format!("{} clusters of near-duplicates kept together\n", divided.clusters));
        crate::terminal::print(&text)
    }
}
