//! `outcrop plan`: what a job will take before it runs; with `--rehearse` some of its steps are really trained. Nothing of
//! it stays but the caches that the job itself will find: tokenized data.

use crate::terminal::{self, Progress, bytes, duration};
use clap::Args;
use outcrop_job::price::Price;
use outcrop_job::{JobFolder, Locations, Plan, Request, home, location, names, timestamp};
use outcrop_trainer::rehearsal::{self, Rehearsal};
use outcrop_trainer::{Inputs, Job};
use std::path::PathBuf;

/// Arguments of `plan`.
#[derive(Args)]
pub(crate) struct PlanCommand {
    /// The job request, a JSON file
    request: PathBuf,
    /// Change a setting or a member of the request, such as learningRate=1e-4 or baseModelIdentifier=pebble
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// cpu (the default), cuda:0 or metal
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Run the frozen trunk in every epoch instead of keeping its output on disk
    #[arg(long)]
    no_feature_cache: bool,
    /// Really train this share of the steps (at least twenty), say how long all take, and whether the rate diverges
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    rehearse: Option<f64>,
    /// What an hour of this machine costs you, such as 0.35 or "0.35 EUR"
    #[arg(long, value_name = "PRICE")]
    price_per_hour: Option<Price>,
}

/// `1%` as 0.01.
fn percent(text: &str) -> Result<f64, String> {
    let number: Option<f64> = text.trim().strip_suffix('%').unwrap_or(text).trim().parse().ok();
    let found = number.filter(|number| *number > 0.0 && *number <= 100.0);
    found.map(|number| number / 100.0).ok_or_else(|| "expected a share above 0 and up to 100, such as 1%".to_string())
}

impl PlanCommand {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let home = super::home()?;
        let name = self.request.display().to_string();
        let mut request = Request::from_json_file(&name, &fs_err::read_to_string(&self.request)?)?;
        for pair in &self.set {
            request.set(pair)?;
        }
        let settings = super::train::check(&request, &name)?;
        let stem = self.request.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let job_name = request.job_name.clone().unwrap_or_else(|| names::default_job_name(&stem, timestamp::now()));
        let id = home::new_id()?;
        fs_err::create_dir_all(home.root())?;
        let scratch = tempfile::Builder::new().prefix(".rehearsal-").tempdir_in(home.root())?;
        let folder = JobFolder::create(&scratch.path().join("job"), &request)?;
        let start = std::path::absolute(location::folder_of(&self.request))?;
        let mut progress = Progress::new(super::train::stop_on_interrupt()?);
        let inputs = Inputs {
            home: &home,
            locations: &Locations::for_file(home.clone(), start),
            request: &request,
            hyperparameters: settings,
            folder: &folder,
            job_id: &id,
            job_name: &job_name,
            // one that no model has, since a plan makes none
            model_name: &outcrop_trainer::name_with_id(&names::default_model_name(&job_name), &id),
            device: &self.device,
            feature_cache: !self.no_feature_cache,
            resumed: None,
        };
        let prepared = Job::prepare(inputs, &mut progress);
        progress.finish();
        let mut job = prepared?;
        rehearsal::measure(&mut job)?;
        let plan = job.plan().clone();
        let mut text = terminal::plan(&plan);
        if let (Some(price), Some(time)) = (&self.price_per_hour, &plan.time) {
            let (low, high) = (price.of(time.seconds_low), price.of(time.seconds_high));
            text.push_str(&format!(" cost         {low} to {high} for the steps, at {price} an hour\n"));
        }
        terminal::print(&text)?;
        match self.rehearse {
            Some(share) => {
                let rehearsal = rehearsal::rehearse(job, share)?;
                terminal::print(&rehearsed(&rehearsal, &plan, self.price_per_hour.as_ref()))
            }
            None => Ok(()),
        }
    }
}

/// What a rehearsal found, in a few lines.
fn rehearsed(found: &Rehearsal, plan: &Plan, price: Option<&Price>) -> String {
    let (low, high) = (found.time.seconds_low, found.time.seconds_high);
    let mut text = format!(
        "\nrehearsed {} of {} steps in {}\ntime      {} to {} for all steps (95 % interval)\nmemory    at most {} in use, planned {}\n",
        found.steps,
        plan.steps.total,
        duration(found.seconds),
        duration(low),
        duration(high),
        bytes(found.memory_bytes),
        bytes(plan.memory.total_bytes)
    );
    if let Some(price) = price {
        text.push_str(&format!("cost      {} to {} at {price} an hour\n", price.of(low), price.of(high)));
    }
    if let (Some(first), Some(last)) = (found.losses.first(), found.losses.last()) {
        text.push_str(&format!("loss      {first:.4} at the first step, {last:.4} at the last\n"));
    }
    match &found.divergence {
        Some(why) => text.push_str(&format!(
            "warning: learning rate {} diverges: {why}; try a tenth of it\n",
            plan.hyperparameters.learning_rate
        )),
        None => text.push_str(&format!("rate      no sign that {} diverges\n", plan.hyperparameters.learning_rate)),
    }
    text
}
