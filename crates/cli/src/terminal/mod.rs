//! What the terminal shows: tables, the plan, the progress of a run. Where the output is no terminal, lines without
//! control characters.

mod prepared;
mod progress;
mod sweep;

pub(crate) use outcrop_job::describe::{bytes, count, counted, describe, duration};
pub(crate) use prepared::prepared;
pub(crate) use progress::Progress;
pub(crate) use sweep::{SweepProgress, columns};

use comfy_table::{ContentArrangement, Table, presets};
use outcrop_job::Plan;
use std::io::Write;

/// Writes to the standard output. A closed pipe (`| head`) is an error that [`is_broken_pipe`] knows.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// Whether the reader of the standard output went away.
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<std::io::Error>();
    io.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

/// A plain table that fits the terminal.
pub(crate) fn table<const N: usize>(header: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic).set_header(header);
    table.add_rows(rows);
    table.trim_fmt() + "\n"
}

/// The plan, in lines that fit the terminal.
pub(crate) fn plan(plan: &Plan) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.add_rows(outcrop_job::describe::plan(plan));
    table.trim_fmt() + "\n"
}
