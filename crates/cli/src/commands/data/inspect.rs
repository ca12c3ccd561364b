//! `outcrop data inspect`: one record's tokens, by the pipeline that training uses, with its targets marked.
//!
//! The record is prepared into a shard of its own and read back, so that what is shown is what is trained, not a second opinion.

use anyhow::{Context, bail, ensure};
use clap::Args;
use outcrop_data::{FormatHint, PrepareOptions, Prepared, Sources, TextTokenizer, prepare};
use serde_json::Value;
use std::fmt::Write;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

/// Arguments of `data inspect`.
#[derive(Args)]
pub(crate) struct Inspect {
    /// A .jsonl file or a text file
    file: PathBuf,
    /// Base whose tokenizer is used: `pebble`, a folder, a GGUF file
    #[arg(long, default_value = "pebble")]
    base: String,
    /// File with a chat template to use in place of the base's own
    #[arg(long, value_name = "FILE")]
    chat_template: Option<PathBuf>,
    /// Which one: the line of a .jsonl file, or the row that a text is cut into; from 1
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    row: u64,
    /// Most tokens of a record or row; the base's context where it isn't given
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u64).range(2..))]
    max_length: Option<u64>,
}

impl Inspect {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let home = crate::commands::home()?;
        let (tokenizer, context) = super::base(&self.base, &home, self.chat_template.as_deref())?;
        let mut options = PrepareOptions::new(self.max_length.map_or(context, |length| length as usize));
        options.allow_empty_completions = 1;
        let folder = tempfile::tempdir()?;
        let is_jsonl = self.file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("jsonl"));
        let (path, hint) =
            if is_jsonl { self.record(folder.path())? } else { (self.file.clone(), FormatHint::ContinuedPreTraining) };
        let sources = Sources::discover(std::slice::from_ref(&path), hint)?;
        let prepared = prepare(&sources, &tokenizer, &options, folder.path(), &mut |_, _| ()).map_err(|error| {
            // the record was line 1 of a file of its own
            let place = format!("{}:1", path.display());
            anyhow::anyhow!(error.to_string().replace(&place, &format!("{}:{}", self.file.display(), self.row)))
        })?;
        let documents = if is_jsonl {
            0..prepared.shard.len()
        } else {
            let (row, count) = (self.row as usize, prepared.shard.len());
            ensure!(row <= count, "row {row} is asked for, but `{}` is cut into {count} rows", self.file.display());
            row - 1..row
        };
        let colours = super::text::colours();
        let text = documents
            .map(|document| show(&prepared, document, &tokenizer, colours))
            .collect::<anyhow::Result<Vec<_>>>()?;
        crate::terminal::print(&text.join("\n"))
    }

    /// The line in a file of its own, and what kind it is.
    fn record(&self, folder: &Path) -> anyhow::Result<(PathBuf, FormatHint)> {
        let mut reader = BufReader::new(fs_err::File::open(&self.file)?);
        let mut line = Vec::new();
        for number in 1..=self.row {
            line.clear();
            if reader.read_until(b'\n', &mut line)? == 0 {
                bail!("row {} is asked for, but `{}` has {} lines", self.row, self.file.display(), number - 1);
            }
        }
        let is_raw = serde_json::from_slice::<Value>(&line).is_ok_and(|value| value.get("input").is_some());
        let path = folder.join("record.jsonl");
        fs_err::write(&path, &line).context("the record can't be copied")?;
        Ok((path, if is_raw { FormatHint::ContinuedPreTraining } else { FormatHint::FineTuning }))
    }
}

/// Tokens of one document: in colour where they may be, else one a line with a mark.
fn show(prepared: &Prepared, document: usize, tokenizer: &TextTokenizer, colours: bool) -> anyhow::Result<String> {
    let document = prepared.shard.document(document);
    let tokens: Vec<u32> = document.tokens().collect();
    let mut is_target = vec![false; tokens.len()];
    for (start, end) in document.targets() {
        is_target[start as usize..end as usize].fill(true);
    }
    let targets = is_target.iter().filter(|target| **target).count();
    let mut out = format!("{} tokens, {targets} targets\n", tokens.len());
    if !colours {
        for (index, (token, target)) in tokens.iter().zip(&is_target).enumerate() {
            let mark = if *target { "target" } else { "      " };
            let text = tokenizer.decode(&[*token])?;
            let _ = writeln!(out, "{index:>6} {token:>7} {mark} {}", visible(&text));
        }
        return Ok(out);
    }
    out.push_str("\u{1b}[2mcontext\u{1b}[0m \u{1b}[30;42mtarget\u{1b}[0m \u{1b}[30;102mtarget\u{1b}[0m\n\n");
    for (index, (token, target)) in tokens.iter().zip(&is_target).enumerate() {
        // neighbours differ, so that the boundaries are seen
        let code = match (*target, index % 2) {
            (true, 0) => "30;42",
            (true, _) => "30;102",
            (false, 0) => "2",
            (false, _) => "2;4",
        };
        let text = tokenizer.decode(&[*token])?;
        let line_end = text.contains('\n');
        let _ = write!(out, "\u{1b}[{code}m{}\u{1b}[0m{}", visible(&text), if line_end { "\n" } else { "" });
    }
    Ok(out + "\n")
}

/// White space and control characters as what can be seen.
fn visible(text: &str) -> String {
    text.chars()
        .map(|character| match character {
            '\n' => '⏎',
            '\t' => '→',
            ' ' => '·',
            other if other.is_control() => '␀',
            other => other,
        })
        .collect()
}
