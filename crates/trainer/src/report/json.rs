//! `report.json`: the comparison, then every item, the job's plan, its curves and its model. docs/report.md says what
//! each member is.

use super::suites::SuiteItems;
use super::{Context, curves, warnings};
use crate::{Result, TrainError};
use outcrop_eval::{Comparison, Contamination};
use outcrop_job::{Plan, PlanError};
use serde::Serialize;
use serde_json::Value;

/// Raised where a member changes its meaning or goes away.
const SCHEMA: u32 = 1;

#[derive(Serialize)]
struct Report<'a> {
    #[serde(flatten)]
    comparison: &'a Comparison,
    schema: u32,
    title: &'a str,
    base: &'a str,
    tuned: &'a str,
    task_source: &'a str,
    gate: Option<&'a str>,
    warnings: Vec<String>,
    contamination: &'a [Contamination],
    suites: &'a [SuiteItems<'a>],
    plan: Option<&'a Plan>,
    plan_error: Option<PlanError>,
    curves: Option<curves::Curves>,
    model: Option<Value>,
}

pub(super) fn render(comparison: &Comparison, suites: &[SuiteItems], context: &Context) -> Result<String> {
    let failed = |error: serde_json::Error| TrainError::Plan(format!("the report can't be written: {error}"));
    let job = context.job.as_ref();
    let model = job.map(|job| serde_json::to_value(job.model)).transpose().map_err(failed)?;
    let report = Report {
        comparison,
        schema: SCHEMA,
        title: context.title,
        base: context.base,
        tuned: context.tuned,
        task_source: context.task_source,
        gate: context.gate,
        warnings: warnings(context),
        contamination: context.contamination,
        suites,
        plan: job.map(|job| job.plan),
        plan_error: job.and_then(|job| PlanError::of(job.plan, job.records)),
        curves: job.map(|job| curves::Curves::of(job.records)),
        model: model.map(without_comparison),
    };
    Ok(serde_json::to_string_pretty(&report).map_err(failed)? + "\n")
}

/// The report has it in front.
fn without_comparison(mut model: Value) -> Value {
    if let Some(members) = model.as_object_mut() {
        members.remove("comparison");
    }
    model
}
