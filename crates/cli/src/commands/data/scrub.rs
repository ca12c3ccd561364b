//! `outcrop data scrub`: a copy without personal data, and the list of what was changed.

use anyhow::{Context, ensure};
use clap::Args;
use outcrop_data::check;
use std::io::Write;
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// Arguments of `data scrub`.
#[derive(Args)]
pub(crate) struct Scrub {
    /// The file: .jsonl or text, also .gz or .zst
    file: PathBuf,
    /// The file to write; it must not be there
    #[arg(long, value_name = "NEW")]
    out: PathBuf,
    /// Where the list of changes goes; NEW.changes.jsonl where it isn't given
    #[arg(long, value_name = "FILE")]
    changes: Option<PathBuf>,
}

impl Scrub {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let list = self.changes.unwrap_or_else(|| {
            let mut name = self.out.clone().into_os_string();
            name.push(".changes.jsonl");
            name.into()
        });
        ensure!(list != self.out, "`{}` can't be both the copy and the list of changes", list.display());
        for path in [&self.out, &list] {
            ensure!(!path.exists(), "`{}` exists already; choose another file", path.display());
        }
        let (mut out, mut changes) = (beside(&self.out)?, beside(&list)?);
        let done = {
            let mut out = std::io::BufWriter::new(out.as_file_mut());
            let mut changes = std::io::BufWriter::new(changes.as_file_mut());
            let done = check::scrub(&self.file, &mut out, &mut changes)?;
            out.flush()?;
            changes.flush()?;
            done
        };
        keep(out, &self.out)?;
        keep(changes, &list)?;
        crate::terminal::print(&format!(
            "{} replacements in {} of {} lines\ncopy     {}\nchanges  {}\n",
            done.changes,
            done.changed_lines,
            done.lines,
            self.out.display(),
            list.display()
        ))
    }
}

/// A temporary file in the folder of `path`, which becomes it when it is whole.
pub(super) fn beside(path: &Path) -> anyhow::Result<NamedTempFile> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    NamedTempFile::new_in(folder).with_context(|| format!("`{}` can't be written", path.display()))
}

/// Gives a whole file its name. Errors: another file has it by now.
pub(super) fn keep(file: NamedTempFile, path: &Path) -> anyhow::Result<()> {
    file.as_file().sync_all()?;
    file.persist_noclobber(path).with_context(|| format!("`{}` can't be written", path.display()))?;
    Ok(())
}
