//! What the HTML pages of reports, sweeps and the console share: one style, light or dark as its reader has it, and
//! pictures as inline SVG. Left out: templates, which are where their pages are made.

pub mod charts;

/// The style sheet.
pub const STYLE: &str = include_str!("style.css");
