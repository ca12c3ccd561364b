//! `outcrop sweep`: the trials of a request whose hyperparameters are lists, and the winner's verdict.

use super::train;
use crate::terminal::{self, SweepProgress};
use anyhow::{Context, bail};
use clap::Args;
use outcrop_eval::report;
use outcrop_job::sweep::{SweepFolder, SweepPlan, SweepRequest, TrialStatus};
use outcrop_job::{Home, Locations, home, location, names, timestamp};
use outcrop_trainer::sweep::{self, SweepInputs, SweepOutcome};
use std::path::{Path, PathBuf};

/// Arguments of `sweep`.
#[derive(Args)]
pub(crate) struct Sweep {
    /// The sweep, a job request whose hyperparameters may be lists: "learningRate": ["1e-4", "1e-3"]
    #[arg(required_unless_present = "resume", conflicts_with = "resume")]
    request: Option<PathBuf>,
    /// Change a setting or a member of the request; commas make a list: learningRate=1e-4,1e-3
    #[arg(long, value_name = "KEY=VALUE", conflicts_with = "resume")]
    set: Vec<String>,
    /// cpu (the default), cuda:0 or metal; a resumed sweep stays where it was
    #[arg(long, conflicts_with = "resume")]
    device: Option<String>,
    /// Run the frozen trunk in every epoch instead of keeping its output on disk; the results are the same
    #[arg(long)]
    no_feature_cache: bool,
    /// Go on with the sweep of this id; finished trials stay
    #[arg(long, value_name = "ID")]
    resume: Option<String>,
    /// End a trial early once it is behind another: Wilcoxon signed-rank test over the validation items, p at most this
    #[arg(long, value_name = "P", conflicts_with = "resume", value_parser = level)]
    stop_losers: Option<f64>,
    /// Trials that run side by side at most; the results don't depend on it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    at_a_time: Option<u16>,
}

fn level(text: &str) -> Result<f64, String> {
    let level = text.parse().ok().filter(|level: &f64| *level > 0.0 && *level < 1.0);
    level.ok_or_else(|| "a p value lies between 0 and 1, such as 0.01".into())
}

/// A sweep's files and names.
struct Named {
    id: String,
    name: String,
    folder: SweepFolder,
    request: SweepRequest,
    start: PathBuf,
}

impl Sweep {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let home = super::home()?;
        match &self.resume {
            None => self.begin(self.request.as_deref().context("a sweep file is needed")?, &home),
            Some(id) => self.go_on(id, &home),
        }
    }

    fn begin(&self, file: &Path, home: &Home) -> anyhow::Result<()> {
        let shown = file.display().to_string();
        let mut request = SweepRequest::from_json_file(&shown, &fs_err::read_to_string(file)?)?;
        for pair in &self.set {
            request.set(pair).map_err(anyhow::Error::msg)?;
        }
        let trials = trials(&request, &shown)?;
        let start = std::path::absolute(location::folder_of(file))?;
        let stem = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let name = request.request.job_name.clone();
        let name = name.or_else(|| request.request.custom_model_name.clone());
        let name = name.unwrap_or_else(|| names::default_job_name(&stem, timestamp::now()));
        let id = home::new_id()?;
        let folder = SweepFolder::create(home, &id, &request, &start)?;
        let named = Named { id, name, folder, request, start };
        let result = self.conduct(&named, &trials, home, None);
        // a sweep that never began leaves nothing behind
        if result.is_err() && !named.folder.plan_path().exists() {
            fs_err::remove_dir_all(named.folder.root())?;
        }
        result
    }

    fn go_on(&self, id: &str, home: &Home) -> anyhow::Result<()> {
        let folder = SweepFolder::open(home, id)?;
        let former = folder.read_plan().with_context(|| format!("sweep `{id}` can't be resumed"))?;
        let (request, start) = folder.read_request()?;
        let trials = trials(&request, &folder.root().display().to_string())?;
        let named = Named { id: id.into(), name: former.name.clone(), folder, request, start };
        self.conduct(&named, &trials, home, Some(former))
    }

    fn conduct(
        &self,
        named: &Named,
        trials: &[sweep::Trial],
        home: &Home,
        former: Option<SweepPlan>,
    ) -> anyhow::Result<()> {
        let stop = train::stop_on_interrupt()?;
        let locations = Locations::for_file(home.clone(), &named.start);
        let locations = super::with_objects(locations, &named.folder.root().join(train::OBJECTS))?;
        let device = self.device.clone().or(former.as_ref().map(|plan| plan.device.clone()));
        let stop_losers = former.as_ref().map_or(self.stop_losers, |plan| plan.stop_losers);
        let inputs = SweepInputs {
            home,
            locations: &locations,
            start: &named.start,
            request: &named.request,
            trials,
            folder: &named.folder,
            id: &named.id,
            name: &named.name,
            device: device.as_deref().unwrap_or("cpu"),
            feature_cache: !self.no_feature_cache,
            stop_losers,
            at_a_time: self.at_a_time.map(usize::from),
            former,
        };
        let mut progress = SweepProgress::new(stop);
        let result = sweep::conduct(&inputs, &mut progress);
        progress.finish();
        let outcome = result?;
        conclude(&outcome)?;
        if outcome.selection.is_none() {
            bail!("no trial came to its end; lower the learning rates, or look at `{}`", outcome.report.display());
        }
        Ok(())
    }
}

/// Every trial, or everything that is wrong, one line each.
fn trials(request: &SweepRequest, file: &str) -> anyhow::Result<Vec<sweep::Trial>> {
    sweep::resolve(request).map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(|problem| format!("{file}: {problem}")).collect();
        anyhow::Error::msg(lines.join("\nerror: "))
    })
}

/// The end of a sweep: the winner and its verdict first, then the trials, then where everything is.
fn conclude(outcome: &SweepOutcome) -> anyhow::Result<()> {
    let mut text = String::from("\n");
    let (header, rows) = sweep::table(outcome);
    let winner = outcome
        .selection
        .as_ref()
        .and_then(|selection| outcome.results.iter().find(|result| result.trial == selection.winner));
    if let Some(winner) = winner {
        let trial = &outcome.plan.trials[winner.trial - 1];
        let settings: Vec<String> = trial.settings.iter().map(|(key, value)| format!("{key} {value}")).collect();
        let loss = winner.final_loss().unwrap_or(f64::NAN);
        text.push_str(&format!("selected: trial {}, {}\n", winner.trial, settings.join(", ")));
        text.push_str(&format!("  validation loss {loss:.4}, the lowest, on {}\n\n", outcome.plan.selection));
    }
    match &outcome.verdict {
        Some(verdict) => {
            text.push_str(&report::text(verdict));
            let test = outcome.plan.test.join(", ");
            text.push_str(&format!("task measured on {test}, which selection never saw\n\n"));
        }
        None if winner.is_some() => {
            text.push_str("no verdict: without evaluationData there is no test set that selection never saw\n\n")
        }
        None => {}
    }
    text.push_str(&terminal::columns(&header, &rows));
    if let Some(deviation) = outcome.selection.as_ref().and_then(|selection| selection.seed_deviation) {
        text.push_str(&format!("between seeds the validation loss has a standard deviation of {deviation:.4}\n"));
    }
    for result in outcome.results.iter().filter(|result| result.status != TrialStatus::Completed) {
        if let Some(reason) = &result.reason {
            text.push_str(&format!("trial {}: {reason}\n", result.trial));
        }
    }
    let report = &outcome.report;
    text.push_str(&format!("\nsweep took {}\n", terminal::duration(outcome.seconds)));
    text.push_str(&format!("page     {}\n", report.join("sweep.html").display()));
    text.push_str(&format!("table    {}\n", report.join("sweep.csv").display()));
    if outcome.verdict.is_some() {
        text.push_str(&format!("winner   {}\n", report.join("winner").join("report.html").display()));
    }
    if let Some(model) = winner.and_then(|winner| winner.model.as_ref()) {
        text.push_str(&format!("model    {model}\ntry      outcrop generate --model {model} --prompt \"...\"\n"));
    }
    terminal::print(&text)
}
