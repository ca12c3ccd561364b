//! Bases with an id of Bedrock's form: `outcrop models import` and `alias`, and what `list`, `show` and `delete` do with them.

use anyhow::{Context, bail, ensure};
use outcrop_job::aliases::{Aliases, EMBEDDED, arn_id};
use outcrop_job::bases::{Bases, PREFIX};
use outcrop_job::describe::{bytes, count, counted};
use outcrop_job::{Home, ModelStore};
use outcrop_model::Base;
use serde_json::json;

use super::super::{here, jobs};

/// Imports a base; says where it is, as nothing was copied.
pub(super) fn import(home: &Home, source: &str, id: Option<&str>) -> anyhow::Result<()> {
    let base = outcrop_trainer::base::import(source, id, home)?;
    crate::terminal::print(&format!(
        "{}\n{}, {} parameters, {} in {}, not copied: keep them there\nuse it as \"baseModelIdentifier\": \"{}\"\n",
        base.path.display(),
        base.family,
        count(base.parameters),
        bytes(base.bytes()),
        counted(base.files.len() as u64, "file"),
        base.id
    ))
}

/// The imported bases as a table below that of the custom models; nothing where there are none.
pub(super) fn table(home: &Home) -> anyhow::Result<String> {
    let rows: Vec<[String; 5]> = Bases::read(home)?
        .iter()
        .map(|base| {
            let model = format!("{}, {}", base.family, count(base.parameters));
            [base.id.clone(), base.source.clone(), model, bytes(base.bytes()), base.path.display().to_string()]
        })
        .collect();
    if rows.is_empty() {
        return Ok(String::new());
    }
    let header = ["imported base", "from", "model", "bytes", "where"];
    Ok(format!("\n{}", crate::terminal::table(header, rows)))
}

/// Prints an imported base, by id or alias. Errors: there is none; `otherwise` where the name isn't of such an id.
pub(super) fn show(home: &Home, identifier: &str, otherwise: anyhow::Error) -> anyhow::Result<()> {
    let aliases = Aliases::read(home)?;
    let Some(base) = aliases.imported(identifier) else {
        return Err(unknown(&aliases, identifier, otherwise));
    };
    let mut shown = serde_json::to_value(base)?;
    shown["aliases"] = json!(standing_for(&aliases, &base.id));
    crate::terminal::print(&(serde_json::to_string_pretty(&shown)? + "\n"))
}

/// Takes the id of an imported base away. Errors: an alias or a running job needs it; there is none; `otherwise` where the name isn't
/// of such an id.
pub(super) fn delete(
    home: &Home,
    models: &ModelStore,
    identifier: &str,
    otherwise: anyhow::Error,
) -> anyhow::Result<()> {
    let aliases = Aliases::read(home)?;
    let Some(base) = aliases.bases().get(identifier).cloned() else {
        return Err(unknown(&aliases, identifier, otherwise));
    };
    let id = base.id.as_str();
    if let [first, rest @ ..] = standing_for(&aliases, id).as_slice() {
        let more = if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
        bail!("`{id}` is what `{first}`{more} stands for; `outcrop models alias {first} --remove` first");
    }
    let mut unfinished = 0;
    for job in jobs::ids(home)? {
        let Ok(folder) = home.job(&job) else { continue };
        let Ok(request) = folder.read_request() else { continue };
        if aliases.imported(&request.base_model_identifier).is_none_or(|named| named.id != id) {
            continue;
        }
        let status = folder.status()?;
        let runs = !status.is_final() && (folder.is_locked()? || jobs::is_services(&folder));
        ensure!(!runs, "job {job} runs on `{id}`; wait for it, or `outcrop jobs stop {job}` first");
        unfinished += u64::from(status != outcrop_job::JobStatus::Completed);
    }
    let on_top =
        models.list()?.into_iter().filter(|model| model.base.hash == base.hash && model.base.path == base.path);
    let on_top = on_top.count() as u64;
    Bases::remove(home, id)?;
    let mut text = format!("took `{id}` away; its files stay at `{}`\n", base.path.display());
    if on_top > 0 {
        text += &format!(
            "{} of it still read{} these files\n",
            counted(on_top, "custom model"),
            if on_top == 1 { "s" } else { "" }
        );
    }
    if unfinished > 0 {
        text += &format!("{} can be resumed only once it is imported again\n", counted(unfinished, "unfinished job"));
    }
    crate::terminal::print(&text)
}

/// The ids that the user lets `id` stand for.
fn standing_for(aliases: &Aliases, id: &str) -> Vec<String> {
    aliases.iter().filter(|(_, base)| *base == id).map(|(alias, _)| alias.to_string()).collect()
}

/// The error of a name that is no custom model's: that of imported bases where it has their form.
fn unknown(aliases: &Aliases, identifier: &str, otherwise: anyhow::Error) -> anyhow::Error {
    match aliases.bases().find(identifier) {
        Err(error) if identifier.contains(PREFIX) => error.into(),
        _ => otherwise,
    }
}

/// Lists the user's table, or changes one entry.
pub(super) fn alias(home: &Home, id: Option<&str>, base: Option<&str>, remove: bool) -> anyhow::Result<()> {
    let mut aliases = Aliases::read(home)?;
    let Some(id) = id else {
        let rows = aliases.iter().map(|(id, base)| [id.to_string(), base.to_string()]);
        let table = crate::terminal::table(["id", "base"], rows);
        let rest = format!("every other id of Bedrock's that is known stands for `{EMBEDDED}`\n");
        return crate::terminal::print(&(table + &rest));
    };
    let (id, base) = match (id.split_once('='), base) {
        (Some((id, base)), None) => (id, Some(base)),
        _ => (id, base),
    };
    if remove {
        ensure!(aliases.remove(id), "`{id}` has no entry");
        aliases.write(home)?;
        return crate::terminal::print(&format!("took the entry of `{id}` away\n"));
    }
    let base = base.filter(|base| !base.is_empty());
    let base = base.with_context(|| format!("name the base that `{id}` stands for, or --remove"))?;
    ensure!(
        arn_id(id) == id,
        "`{id}` can't be an id in Bedrock's API: it has the form `provider.model`, in lower case, such as `{}`",
        arn_id(id)
    );
    ensure!(
        aliases.bases().get(id).is_none(),
        "`{id}` is an imported base and stands for itself; choose another id, or `outcrop models delete {id}` first"
    );
    let base = direct(&aliases, base)?;
    let (locations, _copies) = here(home)?;
    let found = outcrop_trainer::base::locate(&base, &locations, &ModelStore::new(home.models_dir()))?;
    Base::open(&found)?;
    aliases.set(id, &base);
    aliases.write(home)?;
    crate::terminal::print(&format!("`{id}` stands for `{base}`\n"))
}

/// What an entry says for a base: what an alias stands for, no alias of an alias; a path absolute, as a job may run in any folder.
fn direct(aliases: &Aliases, base: &str) -> anyhow::Result<String> {
    if let Some(found) = aliases.resolve(base) {
        return Ok(found.base);
    }
    let path = std::path::absolute(base)?;
    Ok(if path.exists() { path.display().to_string() } else { base.to_string() })
}
