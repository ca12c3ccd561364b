//! `outcrop settings`: the table of hyperparameters, from the one list that also checks them.

use clap::Args;
use outcrop_job::hyperparameters::table;

/// No arguments.
#[derive(Args)]
pub(crate) struct Settings {}

impl Settings {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let rows = table()
            .iter()
            .map(|key| [key.name.to_string(), key.range.to_string(), key.default.to_string(), key.doc.to_string()]);
        let table = crate::terminal::table(["hyperParameters.", "range", "default", "what it does"], rows);
        crate::terminal::print(&table)
    }
}
