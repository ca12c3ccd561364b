//! The pages of sweeps and reports: templates filled in with the shared style and pictures. A page needs nothing else than
//! itself: no script, no font, no picture from elsewhere.

pub(crate) mod bars;

pub(crate) use outcrop_pages::charts;

use crate::{Result, TrainError};
use minijinja::{Environment, Value};
use outcrop_pages::STYLE;

/// What the pages of reports add.
const REPORT_STYLE: &str = include_str!("report.css");

/// The page of a template, whose name ends in `.html` so that every value is escaped. `style` and
/// `report_style` are the style sheets.
pub(crate) fn render(name: &str, template: &str, values: Value) -> Result<String> {
    let failed = |error: minijinja::Error| TrainError::Plan(format!("the page `{name}` can't be made: {error:#}"));
    let mut environment = Environment::new();
    environment.add_global("style", Value::from_safe_string(STYLE.into()));
    environment.add_global("report_style", Value::from_safe_string(REPORT_STYLE.into()));
    environment.add_template(name, template).map_err(failed)?;
    environment.get_template(name).and_then(|page| page.render(values)).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use minijinja::context;

    #[test]
    fn values_are_escaped_and_the_style_is_not() {
        let page = render("page.html", "<style>{{ style }}</style>{{ name }}", context! { name => "<b>&" });
        let page = page.unwrap();
        assert!(page.contains("font: 16px/1.5 system-ui") && page.ends_with("&lt;b&gt;&amp;"), "{page}");
        let error = render("page.html", "{{ name", context! {}).unwrap_err().to_string();
        assert!(error.starts_with("the page `page.html` can't be made: "), "{error}");
    }
}
