//! The templates of the pages, the style and the script. Every value of a template is escaped, but for the parts of a
//! page that are made of templates or drawn here themselves.

use std::sync::OnceLock;

use minijinja::{Environment, Value};

use crate::ApiError;

pub(super) const SCRIPT: &str = include_str!("script.js");
const STYLE: &str = include_str!("style.css");

/// Names end in `.html`, which is what turns escaping on.
const TEMPLATES: [(&str, &str); 11] = [
    ("layout.html", include_str!("templates/layout.html")),
    ("jobs.html", include_str!("templates/jobs.html")),
    ("job_rows.html", include_str!("templates/job_rows.html")),
    ("job.html", include_str!("templates/job.html")),
    ("job_head.html", include_str!("templates/job_head.html")),
    ("job_facts.html", include_str!("templates/job_facts.html")),
    ("models.html", include_str!("templates/models.html")),
    ("sweeps.html", include_str!("templates/sweeps.html")),
    ("disk.html", include_str!("templates/disk.html")),
    ("sign_in.html", include_str!("templates/sign_in.html")),
    ("problem.html", include_str!("templates/problem.html")),
];

/// The style of every page of Outcrop, and what the console adds.
pub(super) fn style() -> String {
    format!("{}{STYLE}", outcrop_pages::STYLE)
}

/// A template with its values.
///
/// # Errors
/// The template or a value can't be used.
pub(super) fn render(name: &str, values: Value) -> Result<String, ApiError> {
    static ENVIRONMENT: OnceLock<Result<Environment<'static>, String>> = OnceLock::new();
    let made = ENVIRONMENT.get_or_init(|| {
        let mut environment = Environment::new();
        for (name, text) in TEMPLATES {
            environment.add_template(name, text).map_err(|error| format!("{error:#}"))?;
        }
        Ok(environment)
    });
    let failed = |error: minijinja::Error| ApiError::internal(format!("the page {name} can't be made: {error:#}"));
    let environment = made.as_ref().map_err(ApiError::internal)?;
    environment.get_template(name).and_then(|template| template.render(values)).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use minijinja::context;

    #[test]
    fn every_template_is_one_and_escapes_its_values() {
        let page = render("problem.html", context! { message => "<script>alert('x')</script>\"" }).unwrap();
        assert!(page.contains("&lt;script&gt;") && !page.contains("<script"), "{page}");
    }
}
