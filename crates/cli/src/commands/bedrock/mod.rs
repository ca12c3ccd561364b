//! `outcrop bedrock OPERATION --member value`: Bedrock's operations as the aws client spells them, abbreviated flags,
//! shorthand and JSON values included. Nothing goes over a network: the operation works on this machine's store. Where no
//! service runs, a job that was made is run here, to its end. Of the client's own flags it takes `--region` and
//! `--cli-input-json`; it has no `--query` and no output but JSON.

mod grammar;
mod shorthand;

use super::jobs::{Follower, ended};
use anyhow::{Context, bail};
use clap::Args;
use outcrop_job::home;
use outcrop_service::{ApiError, AppState, Call, Caller, Launch, Method, Remote, Settings};
use serde_json::Value;
use std::sync::atomic::Ordering;

/// Arguments of `bedrock`.
#[derive(Args)]
pub(crate) struct Bedrock {
    /// An operation and its members, such as `create-model-customization-job --job-name first ...`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPERATION")]
    arguments: Vec<String>,
}

impl Bedrock {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let request = grammar::parse(&self.arguments)?;
        for flag in &request.without_effect {
            eprintln!("note: {flag} has no effect here");
        }
        let home = super::home()?;
        let settings = Settings { remote: Remote::from_environment()?, ..Settings::default() };
        let region = request.region.unwrap_or_else(|| settings.region.clone());
        let caller = Caller { region, account: settings.account.clone() };
        let state = AppState::open(home.clone(), settings)?;
        let body = if request.body == Value::Null { Vec::new() } else { serde_json::to_vec(&request.body)? };
        let method = Method::from_bytes(request.method.as_bytes())?;
        let call = Call { method, segments: request.segments, query: request.query, body: body.into(), caller };
        let reply = outcrop_service::perform(&state, &call).map_err(|error| worded(&error, request.operation))?;
        if reply.body.as_object().is_some_and(|members| !members.is_empty()) {
            crate::terminal::print(&(serde_json::to_string_pretty(&reply.body)? + "\n"))?;
        }
        match reply.body["jobArn"].as_str() {
            Some(arn) if request.operation == "CreateModelCustomizationJob" => run_here(&state, arn),
            _ => Ok(()),
        }
    }
}

/// An error in the client's words.
fn worded(error: &ApiError, operation: &str) -> anyhow::Error {
    anyhow::anyhow!("An error occurred ({}) when calling the {operation} operation: {}", error.code, error.message)
}

/// Runs a job to its end where no service does. Ctrl-C stops it with a checkpoint.
fn run_here(state: &AppState, arn: &str) -> anyhow::Result<()> {
    if outcrop_service::is_running(state.home())? {
        return Ok(());
    }
    eprintln!("no `outcrop serve` runs on this home: the job runs here");
    let id = arn.rsplit('/').next().filter(|id| home::is_id(id)).context("the ARN has no id")?;
    let job = state.home().job(id)?;
    let stop = super::train::stop_on_interrupt()?;
    let launch = Launch {
        program: crate::commands::own_program()?,
        slots: 1,
        device: None,
        niceness: 0,
        report: Box::new(|line| eprintln!("{line}")),
    };
    let mut log = Follower::new(&job);
    outcrop_service::run_to_end(state, launch, id, &mut || {
        for line in log.lines().map_err(ApiError::internal)? {
            eprintln!("{line}");
        }
        if stop.load(Ordering::SeqCst) && !job.stop_requested() {
            job.request_stop()?;
        }
        Ok(())
    })?;
    if stop.load(Ordering::SeqCst) {
        bail!("the job was stopped");
    }
    ended(&job)
}
