//! The README says what is there: every source file has its line in the tree, and its request is the one in configs/.
#![allow(clippy::unwrap_used)] // helpers of tests are tests

use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs_err::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn every_source_file_has_its_line_in_the_tree() {
    let readme = fs_err::read_to_string(root().join("README.md")).unwrap();
    let mut found = Vec::new();
    for folder in ["crates", "kernels", "tests"] {
        sources(&root().join(folder), &mut found);
    }
    assert!(found.len() > 50, "{} source files", found.len());
    let missing: Vec<String> = found
        .iter()
        .map(|path| path.strip_prefix(root()).unwrap().to_string_lossy().replace('\\', "/"))
        .filter(|path| !readme.contains(&format!("\n{path} ")))
        .collect();
    assert!(missing.is_empty(), "not in the README's tree: {missing:?}");
}

#[test]
fn the_request_shown_is_the_one_in_configs() {
    let readme = fs_err::read_to_string(root().join("README.md")).unwrap();
    let shown = readme.split("```json\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let shown: serde_json::Value = serde_json::from_str(shown).unwrap();
    let config = fs_err::read_to_string(root().join("configs/sentiment.json")).unwrap();
    assert_eq!(shown, serde_json::from_str::<serde_json::Value>(&config).unwrap());
}
