//! Models by name from the Hugging Face hub: fetched only by `outcrop models import`, found in its cache otherwise.

use crate::{ModelError, Result};
use std::path::{Path, PathBuf};

/// Files of a repository that a base needs, and what it may have beside them.
const REQUIRED: [&str; 2] = ["config.json", "tokenizer.json"];
const OPTIONAL: [&str; 4] =
    ["tokenizer_config.json", "special_tokens_map.json", "generation_config.json", "chat_template.jinja"];

/// True for `owner/name`, as the hub names its repositories.
pub fn is_name(identifier: &str) -> bool {
    let part = |s: &str| {
        !s.is_empty() && s.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) && !s.starts_with('.')
    };
    identifier.split_once('/').is_some_and(|(owner, name)| part(owner) && part(name))
}

/// The folder of `name` in the hub's cache, if it was fetched before; never touches the network (R36).
pub fn cached(name: &str) -> Option<PathBuf> {
    snapshot(&cache_folder()?, name)
}

/// `$HF_HUB_CACHE`, else `$HF_HOME/hub`, else `~/.cache/huggingface/hub`, as huggingface_hub has it.
fn cache_folder() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    variable("HF_HUB_CACHE")
        .or_else(|| Some(variable("HF_HOME")?.join("hub")))
        .or_else(|| Some(std::env::home_dir()?.join(".cache/huggingface/hub")))
}

/// The snapshot that `refs/main` names, in the layout `models--owner--name/{refs,snapshots}`.
fn snapshot(cache: &Path, name: &str) -> Option<PathBuf> {
    let repository = cache.join(format!("models--{}", name.replace('/', "--")));
    let revision = fs_err::read_to_string(repository.join("refs/main")).ok()?;
    let revision = revision.trim();
    if revision.is_empty() || !revision.chars().all(|c| c.is_ascii_alphanumeric()) {
        return None; // a commit's hash; anything else could lead out of the cache
    }
    let folder = repository.join("snapshots").join(revision);
    folder.join("config.json").is_file().then_some(folder)
}

/// The name of the repository whose snapshot in the hub's cache `path` is.
pub fn name_of(path: &Path) -> Option<String> {
    let snapshots = path.parent().filter(|parent| parent.ends_with("snapshots"))?;
    let repository = snapshots.parent()?.file_name()?.to_str()?.strip_prefix("models--")?;
    let (owner, name) = repository.split_once("--")?;
    Some(format!("{owner}/{name}"))
}

/// Fetches `name` into the hub's cache and returns its folder. The only function that opens a connection; it runs
/// for `outcrop models import` alone. `HF_HUB_OFFLINE=1` refuses it. Errors: no network, no such repository, no
/// safetensors in it.
pub fn import(name: &str) -> Result<PathBuf> {
    let failed = |message: String| ModelError::Unsupported(format!("`{name}` can't be fetched: {message}"));
    if !is_name(name) {
        return Err(failed("the hub's names look like `owner/name`".into()));
    }
    if std::env::var_os("HF_HUB_OFFLINE").is_some_and(|value| value == "1") {
        return Err(failed("HF_HUB_OFFLINE is 1".into()));
    }
    let cache = cache_folder().ok_or_else(|| failed("there is no home folder for the cache; set HF_HOME".into()))?;
    let api = hf_hub::api::sync::ApiBuilder::from_env().with_cache_dir(cache.clone()).build();
    let api = api.map_err(|e| failed(e.to_string()))?;
    let repository = api.model(name.to_string());
    let info = repository.info().map_err(|e| failed(e.to_string()))?;
    let files: Vec<&str> = info.siblings.iter().map(|file| file.rfilename.as_str()).collect();
    let weights: Vec<&str> = files.iter().copied().filter(|file| is_weight_file(file)).collect();
    if weights.is_empty() {
        return Err(failed("it has no `model*.safetensors`; only safetensors are read".into()));
    }
    let optional = OPTIONAL.into_iter().filter(|file| files.contains(file));
    for file in REQUIRED.into_iter().chain(optional).chain(weights) {
        repository.get(file).map_err(|e| failed(format!("`{file}`: {e}")))?;
    }
    snapshot(&cache, name).ok_or_else(|| failed(format!("the cache `{}` doesn't hold it afterwards", cache.display())))
}

fn is_weight_file(file: &str) -> bool {
    let weights = file.starts_with("model") && !file.contains('/');
    weights && (file.ends_with(".safetensors") || file == "model.safetensors.index.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_from_paths() {
        assert!(is_name("HuggingFaceTB/SmolLM2-135M"));
        for path in ["./model", "../a", "a/b/c", "model", "/abs", "a/", "/b"] {
            assert!(!is_name(path), "{path}");
        }
    }

    #[test]
    fn r36_a_cached_snapshot_is_found_without_the_network() {
        let cache = tempfile::tempdir().unwrap();
        let repository = cache.path().join("models--owner--name");
        assert_eq!(snapshot(cache.path(), "owner/name"), None);
        fs_err::create_dir_all(repository.join("refs")).unwrap();
        fs_err::create_dir_all(repository.join("snapshots/abc")).unwrap();
        fs_err::write(repository.join("refs/main"), "abc\n").unwrap();
        assert_eq!(snapshot(cache.path(), "owner/name"), None, "a snapshot without a config is not one");
        fs_err::write(repository.join("snapshots/abc/config.json"), "{}").unwrap();
        assert_eq!(snapshot(cache.path(), "owner/name"), Some(repository.join("snapshots/abc")));
        for outside in ["../snapshots/abc", "", ".", "/"] {
            fs_err::write(repository.join("refs/main"), outside).unwrap();
            assert_eq!(snapshot(cache.path(), "owner/name"), None, "{outside:?}");
        }
    }

    #[test]
    fn weight_files_are_told_from_the_rest() {
        assert!(is_weight_file("model.safetensors") && is_weight_file("model-00001-of-00002.safetensors"));
        assert!(is_weight_file("model.safetensors.index.json"));
        assert!(!is_weight_file("onnx/model.safetensors") && !is_weight_file("training_args.bin"));
    }
}
