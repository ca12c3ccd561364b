//! Listings of a bucket: its files in the order of their keys, grouped at a delimiter, page by page. One listing reads the
//! folders below its prefix once a page; nothing is kept between pages.

use std::collections::BTreeMap;
use std::path::Path;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use s3s::dto::{CommonPrefix, Object, ObjectStorageClass};
use s3s::{S3Result, s3_error};

use super::objects::{Facts, facts_of};
use super::paths::from_io;

const MAX_KEYS: usize = 1000;
const KEPT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/').remove(b'*');

/// What is asked for.
#[derive(Debug, Default)]
pub(super) struct Query {
    pub(super) prefix: String,
    pub(super) delimiter: Option<String>,
    /// Names up to this one, and what is grouped in it, have been listed.
    pub(super) after: String,
    pub(super) max_keys: Option<i32>,
    /// Whether names are percent-encoded, as clients ask for that can't read every character in XML.
    pub(super) url: bool,
}

/// One page.
#[derive(Debug, Default)]
pub(super) struct Page {
    pub(super) objects: Vec<Object>,
    pub(super) prefixes: Vec<CommonPrefix>,
    /// The last name of the page, where there are more.
    pub(super) next: Option<String>,
}

impl Query {
    /// A name as it is sent.
    pub(super) fn encode(&self, name: &str) -> String {
        if self.url { utf8_percent_encode(name, KEPT).to_string() } else { name.to_string() }
    }

    fn group(&self, key: &str) -> Option<String> {
        let delimiter = self.delimiter.as_deref().filter(|delimiter| !delimiter.is_empty())?;
        let end = key[self.prefix.len()..].find(delimiter)? + self.prefix.len() + delimiter.len();
        Some(key[..end].to_string())
    }
}

/// Lists a page of the bucket in `folder`.
pub(super) fn list(folder: &Path, query: &Query) -> S3Result<Page> {
    let limit = match query.max_keys.map(usize::try_from) {
        None => MAX_KEYS,
        Some(Ok(limit)) => limit.min(MAX_KEYS),
        Some(Err(_)) => return Err(s3_error!(InvalidArgument, "max-keys is below 0.")),
    };
    let mut files = BTreeMap::new();
    walk(folder, "", &query.prefix, &mut files)?;
    let mut names: BTreeMap<String, Option<Facts>> = BTreeMap::new();
    for (key, facts) in files {
        match query.group(&key) {
            Some(group) => names.insert(group, None),
            None => names.insert(key, Some(facts)),
        };
    }
    let mut page = Page::default();
    let mut last = None;
    for (name, facts) in names.into_iter().filter(|(name, _)| query.after.is_empty() || *name > query.after) {
        if page.objects.len() + page.prefixes.len() == limit {
            page.next = last;
            break;
        }
        let key = Some(query.encode(&name));
        match facts {
            Some(facts) => page.objects.push(object(key, facts)?),
            None => page.prefixes.push(CommonPrefix { prefix: key }),
        }
        last = Some(name);
    }
    Ok(page)
}

fn object(key: Option<String>, facts: Facts) -> S3Result<Object> {
    let size = i64::try_from(facts.size).map_err(|error| s3_error!(error, InternalError))?;
    Ok(Object {
        key,
        size: Some(size),
        last_modified: Some(facts.modified),
        e_tag: Some(facts.etag),
        storage_class: Some(ObjectStorageClass::from_static(ObjectStorageClass::STANDARD)),
        ..Object::default()
    })
}

/// Every file below `folder` whose key begins with `prefix`; folders that can't hold one aren't read. Links, and names
/// that can't be in a key, are no objects.
fn walk(folder: &Path, key: &str, prefix: &str, found: &mut BTreeMap<String, Facts>) -> S3Result<()> {
    for entry in fs_err::read_dir(folder).map_err(from_io)? {
        let entry = entry.map_err(from_io)?;
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| !name.contains('\\')) else { continue };
        let below = format!("{key}{name}");
        let Ok(metadata) = fs_err::symlink_metadata(entry.path()) else { continue }; // deleted meanwhile
        if metadata.is_dir() {
            let below = format!("{below}/");
            if below.starts_with(prefix) || prefix.starts_with(&below) {
                walk(&entry.path(), &below, prefix, found)?;
            }
        } else if metadata.is_file() && below.starts_with(prefix) {
            found.insert(below, facts_of(&metadata)?);
        }
    }
    Ok(())
}

/// Whether any file is below a folder, links included: what keeps a bucket from being deleted.
pub(super) fn holds_files(folder: &Path) -> S3Result<bool> {
    for entry in fs_err::read_dir(folder).map_err(from_io)? {
        let path = entry.map_err(from_io)?.path();
        let Ok(metadata) = fs_err::symlink_metadata(&path) else { continue }; // deleted meanwhile
        if !metadata.is_dir() || holds_files(&path)? {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(keys: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for key in keys {
            let path = folder.path().join(key);
            fs_err::create_dir_all(path.parent().unwrap()).unwrap();
            fs_err::write(path, "x").unwrap();
        }
        folder
    }

    fn names(page: &Page) -> (Vec<&str>, Vec<&str>) {
        let keys = page.objects.iter().map(|object| object.key.as_deref().unwrap()).collect();
        (keys, page.prefixes.iter().map(|group| group.prefix.as_deref().unwrap()).collect())
    }

    fn query(prefix: &str, delimiter: Option<&str>) -> Query {
        Query { prefix: prefix.into(), delimiter: delimiter.map(str::to_string), ..Query::default() }
    }

    #[test]
    fn keys_are_in_the_order_of_their_bytes_and_grouped_at_the_delimiter() {
        let folder = bucket(&["a/b", "a-b", "a/c/d", "b", "a.txt"]);
        fs_err::create_dir_all(folder.path().join("empty/below")).unwrap();
        let list = |query: &Query| list(folder.path(), query).unwrap();
        assert_eq!(names(&list(&query("", None))).0, ["a-b", "a.txt", "a/b", "a/c/d", "b"]);
        assert_eq!(names(&list(&query("", Some("/")))), (vec!["a-b", "a.txt", "b"], vec!["a/"]));
        assert_eq!(names(&list(&query("a/", Some("/")))), (vec!["a/b"], vec!["a/c/"]));
        assert_eq!(names(&list(&query("a", Some("/")))), (vec!["a-b", "a.txt"], vec!["a/"]));
        assert_eq!(names(&list(&query("a/c", None))).0, ["a/c/d"]);
        assert_eq!(names(&list(&query("z", None))).0, [""; 0]);
    }

    #[test]
    fn pages_go_on_where_they_ended() {
        let folder = bucket(&["a", "b/1", "b/2", "c", "d/1"]);
        let (mut seen, mut after) = (Vec::new(), String::new());
        for _ in 0..4 {
            let query = Query { after: after.clone(), max_keys: Some(1), ..query("", Some("/")) };
            let page = list(folder.path(), &query).unwrap();
            let (keys, prefixes) = names(&page);
            seen.extend(keys.into_iter().chain(prefixes).map(str::to_string));
            match page.next {
                Some(next) => after = next,
                None => break,
            }
        }
        assert_eq!(seen, ["a", "b/", "c", "d/"]);
        let none = list(folder.path(), &Query { max_keys: Some(0), ..Query::default() }).unwrap();
        assert!(none.objects.is_empty() && none.next.is_none());
        assert!(list(folder.path(), &Query { max_keys: Some(-1), ..Query::default() }).is_err());
    }

    #[test]
    fn names_are_encoded_where_that_is_asked_for() {
        let folder = bucket(&["ä b/c+d"]);
        let url = list(folder.path(), &Query { url: true, ..Query::default() }).unwrap();
        assert_eq!(names(&url).0, ["%C3%A4%20b/c%2Bd"]);
        assert_eq!(names(&list(folder.path(), &Query::default()).unwrap()).0, ["ä b/c+d"]);
    }

    #[cfg(unix)]
    #[test]
    fn links_are_not_listed_but_keep_a_bucket() {
        let folder = bucket(&[]);
        assert!(!holds_files(folder.path()).unwrap());
        std::os::unix::fs::symlink("/", folder.path().join("root")).unwrap();
        assert!(list(folder.path(), &Query::default()).unwrap().objects.is_empty());
        assert!(holds_files(folder.path()).unwrap());
    }
}
