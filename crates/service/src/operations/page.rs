//! What listings share: filters by name and time, order, pages.

use jiff::Timestamp;

use crate::validation::Problems;
use crate::{ApiError, Call};

/// Items of a page where the caller doesn't say.
const DEFAULT: usize = 100;

/// The query of a listing.
#[derive(Debug)]
pub(crate) struct Listing {
    after: Option<i64>,
    before: Option<i64>,
    name_contains: Option<String>,
    max: usize,
    from: Option<(i64, String)>,
    ascending: bool,
}

/// One thing that is listed.
pub(crate) struct Item<T> {
    pub(crate) created: i64,
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) value: T,
}

/// Names of the two bounds of time, which differ between operations.
pub(crate) type Bounds = (&'static str, &'static str);

/// `creationTimeAfter` and `creationTimeBefore`.
pub(crate) const CREATION: Bounds = ("creationTimeAfter", "creationTimeBefore");
/// `createdAfter` and `createdBefore`.
pub(crate) const CREATED: Bounds = ("createdAfter", "createdBefore");

impl Listing {
    /// Reads the query. Errors: all that is wrong with it.
    pub(crate) fn read(call: &Call, (after, before): Bounds) -> Result<Self, ApiError> {
        let mut problems = Problems::default();
        let mut bound = |name: &str| {
            let text = call.query(name)?;
            let time = time(text);
            if time.is_none() {
                problems.add(name, Some(text), "Member must be a timestamp");
            }
            time
        };
        let (after, before) = (bound(after), bound(before));
        let max = call.query("maxResults").map_or(Some(DEFAULT), |text| {
            let max = text.parse().ok().filter(|max| (1..=1000).contains(max));
            if max.is_none() {
                problems.add("maxResults", Some(text), "Member must have value between 1 and 1000");
            }
            max
        });
        let mut word = |name: &str, words: &[&str]| {
            let text = call.query(name).unwrap_or(words[0]);
            if !words.contains(&text) {
                let set = format!("Member must satisfy enum value set: [{}]", words.join(", "));
                problems.add(name, Some(text), set);
            }
            text.to_string()
        };
        word("sortBy", &["CreationTime"]);
        let ascending = word("sortOrder", &["Descending", "Ascending"]) == "Ascending";
        let from = call.query("nextToken").map(|token| {
            let place = token.split_once('-').and_then(|(time, id)| Some((time.parse().ok()?, id.to_string())));
            if place.is_none() {
                problems.add("nextToken", Some(token), "Member must be a token of an earlier answer");
            }
            place
        });
        problems.finish()?;
        let name_contains = call.query("nameContains").map(str::to_string);
        Ok(Self { after, before, name_contains, max: max.unwrap_or(DEFAULT), from: from.flatten(), ascending })
    }

    /// The items of the asked page, and the token of the next one.
    pub(crate) fn page<T>(&self, mut items: Vec<Item<T>>) -> (Vec<T>, Option<String>) {
        items.retain(|item| {
            self.after.is_none_or(|after| item.created > after)
                && self.before.is_none_or(|before| item.created < before)
                && self.name_contains.as_ref().is_none_or(|part| item.name.contains(part.as_str()))
        });
        items.sort_by(|a, b| (a.created, &a.id).cmp(&(b.created, &b.id)));
        if !self.ascending {
            items.reverse();
        }
        if let Some((time, id)) = &self.from {
            let place = (*time, id);
            let is_done = |item: &Item<T>| {
                let here = (item.created, &item.id);
                if self.ascending { here <= place } else { here >= place }
            };
            items.retain(|item| !is_done(item));
        }
        let more = items.len() > self.max;
        items.truncate(self.max);
        let token = items.last().filter(|_| more).map(|item| format!("{}-{}", item.created, item.id));
        (items.into_iter().map(|item| item.value).collect(), token)
    }
}

/// RFC 3339, or seconds since 1970 as some callers send them.
fn time(text: &str) -> Option<i64> {
    let parsed: Option<Timestamp> = text.parse().ok();
    parsed.map(|time| time.as_millisecond()).or_else(|| Some((text.parse::<f64>().ok()? * 1000.0) as i64))
}
