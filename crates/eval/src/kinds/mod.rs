//! The kinds of suites, a file each: how the lines of its items are read, what is asked of a model beyond the NLLs that
//! `score` takes, and the measures that no other kind has. What a verdict makes of them is in `comparison`.

pub(crate) mod classification;
pub(crate) mod cloze;
pub mod extraction;
pub(crate) mod generated;
pub(crate) mod multiple_choice;
pub(crate) mod pairs;
pub(crate) mod text;
