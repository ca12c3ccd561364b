//! `outcrop prune`: what of the home can go, and letting it go. It lists unless it is told `--yes`.

use clap::Args;
use outcrop_job::prune::{self, Removable};

use crate::terminal::{self, bytes};

/// Arguments of `prune`.
#[derive(Args)]
pub(crate) struct Prune {
    /// Remove what is listed; without it nothing changes
    #[arg(long)]
    yes: bool,
    /// The list as JSON
    #[arg(long, conflicts_with = "yes")]
    json: bool,
}

impl Prune {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let home = super::home()?;
        let survey = prune::survey(&home)?;
        if self.json {
            return terminal::print(&(serde_json::to_string_pretty(&survey)? + "\n"));
        }
        let mut text = listed(&survey.removable);
        for line in &survey.kept {
            text.push_str(&format!("kept  {line}\n"));
        }
        let (used, free) = (bytes(survey.used()), bytes(survey.reclaimable()));
        text.push_str(&format!("{used} used, {free} of it can go\n"));
        terminal::print(&text)?;
        if survey.removable.is_empty() {
            return Ok(());
        }
        if !self.yes {
            return terminal::print("nothing is removed yet: `outcrop prune --yes` does it\n");
        }
        let paths: Vec<String> = survey.removable.into_iter().map(|item| item.path).collect();
        let removed = prune::remove(&home, &paths)?;
        for path in &removed.passed_over {
            terminal::print(&format!("kept  {path}: something needs it meanwhile, or it is gone already\n"))?;
        }
        terminal::print(&format!(
            "removed {} of {}, {} free\n",
            removed.items.len(),
            paths.len(),
            bytes(removed.bytes())
        ))
    }
}

/// A row for each thing that can go.
fn listed(items: &[Removable]) -> String {
    if items.is_empty() {
        return String::new();
    }
    let row = |item: &Removable| [item.kind.as_str().into(), bytes(item.bytes), item.path.clone(), item.why.clone()];
    terminal::table(["kind", "size", "what", "why it isn't needed"], items.iter().map(row))
}
