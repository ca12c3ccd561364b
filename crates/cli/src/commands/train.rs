//! `outcrop train`: a request to a custom model and its verdict.

use crate::terminal::{self, Progress};
use anyhow::{Context, bail};
use clap::Args;
use outcrop_eval::report;
use outcrop_job::folder::FolderError;
use outcrop_job::request::Origin;
use outcrop_job::{
    Event, EventLog, Home, Hyperparameters, JobFolder, Locations, ModelStore, Plan, Request, home, location, names,
    timestamp,
};
use outcrop_trainer::{Inputs, Job, Outcome, TrainError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Arguments of `train`.
#[derive(Args)]
pub(crate) struct Train {
    /// The job request, a JSON file
    #[arg(required_unless_present_any = ["resume", "job_folder"], conflicts_with_all = ["resume", "job_folder"])]
    request: Option<PathBuf>,
    /// Change a setting or a member of the request, such as learningRate=1e-4 or baseModelIdentifier=pebble
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// cpu (the default), cuda:0 or metal; a resumed job stays where it was
    #[arg(long)]
    device: Option<String>,
    /// Run the frozen trunk in every epoch instead of keeping its output on disk; the result is the same
    #[arg(long)]
    no_feature_cache: bool,
    /// Go on with the job of this id from its newest checkpoint
    #[arg(long, value_name = "ID")]
    resume: Option<String>,
    /// Run the job whose folder the service has made, from its newest checkpoint where it has one
    #[arg(long, value_name = "ID", hide = true, conflicts_with_all = ["resume", "set"])]
    job_folder: Option<String>,
}

/// A job's names and where its files are.
struct Named {
    id: String,
    job: String,
    model: String,
    folder: JobFolder,
    /// What relative paths of the request start from; None where it came over the network and has none.
    start: Option<PathBuf>,
}

impl Train {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let home = super::home()?;
        if let Some(id) = &self.job_folder {
            return self.made(id, &home);
        }
        match &self.resume {
            None => {
                let file = self.request.as_deref().context("a request file is needed")?;
                self.begin(file, &home)
            }
            Some(id) => self.go_on(id, &home),
        }
    }

    fn begin(&self, file: &Path, home: &Home) -> anyhow::Result<()> {
        let name = file.display().to_string();
        let mut request = Request::from_json_file(&name, &fs_err::read_to_string(file)?)?;
        let start = std::path::absolute(location::folder_of(file))?;
        for pair in &self.set {
            request.set(pair)?;
        }
        let settings = check(&request, &name)?;
        let now = timestamp::now();
        let stem = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let job = request.job_name.clone().unwrap_or_else(|| names::default_job_name(&stem, now));
        let id = home::new_id()?;
        let model = match &request.custom_model_name {
            Some(name) => name.clone(),
            None => free_model_name(&names::default_model_name(&job), &id, home)?,
        };
        let folder = JobFolder::create(&home.job_dir(&id)?, &request)?;
        atomic_start(&folder, &start)?;
        let named = Named { id, job, model, folder, start: Some(start) };
        let result = self.train(&request, settings, &named, home, None);
        // a job that never began leaves nothing behind
        if result.is_err() && !named.folder.plan_path().exists() {
            fs_err::remove_dir_all(named.folder.root())?;
        }
        result
    }

    fn go_on(&self, id: &str, home: &Home) -> anyhow::Result<()> {
        let folder = home.job(id)?;
        let plan = folder.read_plan().with_context(|| format!("job `{id}` can't be resumed"))?;
        if matches!(folder.read_events()?.last().map(|record| &record.event), Some(Event::Completed { .. })) {
            bail!("job `{id}` is completed; its model is `{}`", plan.custom_model_name);
        }
        let mut request = folder.read_request()?;
        for pair in &self.set {
            request.set(pair)?;
        }
        let settings = check(&request, &folder.request_path().display().to_string())?;
        let start = read_start(&folder)?;
        let (job, model) = (plan.job_name.clone(), plan.custom_model_name.clone());
        let named = Named { id: id.into(), job, model, folder, start };
        self.train(&request, settings, &named, home, Some(&plan))
    }

    /// Runs a job that the service made, which is the one that tells of it: nothing is left to say once it has ended.
    fn made(&self, id: &str, home: &Home) -> anyhow::Result<()> {
        let folder = home.job(id)?;
        if folder.status()?.is_final() {
            return Ok(());
        }
        let former = if folder.plan_path().exists() { Some(folder.read_plan()?) } else { None };
        let request = folder.read_request()?;
        let settings = check(&request, &folder.request_path().display().to_string())?;
        let job = request.job_name.clone().context("the job has no name")?;
        let model = request.custom_model_name.clone().unwrap_or_else(|| names::default_model_name(&job));
        let start = read_start(&folder)?;
        let named = Named { id: id.into(), job, model, folder, start };
        let result = self.train(&request, settings, &named, home, former.as_ref());
        if let Err(error) = &result
            && !is_held(error)
        {
            note_end(&named.folder, &crate::message(error));
        }
        result
    }

    fn train(
        &self,
        request: &Request,
        settings: Hyperparameters,
        named: &Named,
        home: &Home,
        former: Option<&Plan>,
    ) -> anyhow::Result<()> {
        let _lock = named.folder.lock()?;
        if self.job_folder.is_none() {
            named.folder.clear_stop()?;
        } else if named.folder.status()?.is_final() {
            return Ok(()); // another process has run it meanwhile
        }
        let stop = stop_on_interrupt()?;
        let locations = match &named.start {
            Some(start) => Locations::for_file(home.clone(), start),
            None => Locations::for_network(home.clone()),
        };
        let locations = super::with_objects(locations, &named.folder.root().join(OBJECTS))?;
        let output = writable_output(request, &locations, &named.folder)?;
        let mut progress = Progress::new(stop);
        let device = self.device.as_deref().or(former.map(|plan| plan.device.as_str())).unwrap_or("cpu");
        let inputs = Inputs {
            home,
            locations: &locations,
            request,
            hyperparameters: settings,
            folder: &named.folder,
            job_id: &named.id,
            job_name: &named.job,
            model_name: &named.model,
            device,
            feature_cache: !self.no_feature_cache,
            resumed: former,
        };
        let opened = Job::open(inputs, &mut progress);
        if let (Ok(job), Some(former)) = (&opened, former) {
            // refused before anything happened: the job's log stays as it is
            same_plan(former, job.plan()).inspect_err(|_| progress.finish())?;
        }
        let result = opened.and_then(|job| outcrop_trainer::run(job, request, output, former.is_some(), &mut progress));
        progress.finish();
        match result {
            Ok(outcome) => conclude(&outcome),
            Err(error) => {
                note_failure(&named.folder, &error);
                Err(error.into())
            }
        }
    }
}

/// `name`, or where a model has it already, as of a job that began in the same second, `name` and the job's id.
fn free_model_name(name: &str, id: &str, home: &Home) -> anyhow::Result<String> {
    let taken = ModelStore::new(home.models_dir()).list()?.iter().any(|record| record.name == name);
    Ok(if taken { outcrop_trainer::name_with_id(name, id) } else { name.to_string() })
}

/// File in the job's folder with what relative paths of its request start from.
pub(super) const START: &str = "start";

/// Folder in the job's own with copies of what it reads from a store of objects, and what it sends there.
pub(super) const OBJECTS: &str = "objects";

/// What relative paths of a job's request start from.
fn read_start(folder: &JobFolder) -> anyhow::Result<Option<PathBuf>> {
    let file = folder.root().join(START);
    Ok(if file.exists() { Some(PathBuf::from(fs_err::read_to_string(file)?)) } else { None })
}

/// Whether another process has the job's folder.
pub(crate) fn is_held(error: &anyhow::Error) -> bool {
    let folder = match error.downcast_ref::<TrainError>() {
        Some(TrainError::Folder(folder)) => Some(folder),
        _ => error.downcast_ref::<FolderError>(),
    };
    matches!(folder, Some(FolderError::Locked { .. }))
}

/// Makes the log of a job that the service made say that it failed, where it doesn't yet: its folder is all that tells.
fn note_end(folder: &JobFolder, message: &str) {
    let Ok(records) = folder.read_events() else { return };
    if matches!(records.last().map(|r| &r.event), Some(Event::Failed { .. } | Event::Interrupted { .. })) {
        return;
    }
    let path = folder.events_path();
    let log = if path.exists() { EventLog::append(&path) } else { EventLog::create(&path) };
    if let Ok(mut log) = log {
        // the error itself is printed in any case
        let _ = log.write(Event::Failed { message: message.to_string() });
    }
}

fn atomic_start(folder: &JobFolder, start: &Path) -> anyhow::Result<()> {
    Ok(outcrop_job::atomic::write_atomic(&folder.root().join(START), start.to_string_lossy().as_bytes())?)
}

/// Everything that is wrong with a request, one line each.
pub(super) fn check(request: &Request, file: &str) -> anyhow::Result<Hyperparameters> {
    let mut problems: Vec<String> = Vec::new();
    if let Err(violations) = request.validate(Origin::File) {
        problems.extend(violations.iter().map(|violation| format!("{file}: {violation}")));
    }
    match Hyperparameters::resolve(&request.hyper_parameters, request.customization_type) {
        Ok(settings) if problems.is_empty() => return Ok(settings),
        Ok(_) => {}
        Err(errors) => problems.extend(errors.iter().map(|error| format!("{file}: {error}"))),
    }
    bail!("{}", problems.join("\nerror: "))
}

/// R27: a run goes on only as it began.
fn same_plan(former: &Plan, plan: &Plan) -> outcrop_trainer::Result<()> {
    let changed: Vec<String> =
        former.differences(plan).iter().filter(|d| d.shapes_result).map(ToString::to_string).collect();
    if changed.is_empty() {
        return Ok(());
    }
    Err(TrainError::Plan(format!("the run can't go on with another plan: {}", changed.join(", "))))
}

/// A run that failed before its loop began has no log yet, or one that doesn't say so.
fn note_failure(folder: &JobFolder, error: &TrainError) {
    let Ok(records) = folder.read_events() else { return };
    let told =
        matches!(records.last().map(|r| &r.event), None | Some(Event::Failed { .. } | Event::Interrupted { .. }));
    if !told && let Ok(mut log) = EventLog::append(&folder.events_path()) {
        // the error itself is printed in any case
        let _ = log.write(Event::Failed { message: error.to_string() });
    }
}

/// The output location, tried by writing to it (Bedrock does the same). Errors: it can't be written to.
fn writable_output(request: &Request, locations: &Locations, folder: &JobFolder) -> anyhow::Result<PathBuf> {
    let output = match &request.output_data_config {
        Some(config) => {
            locations.try_output(&config.s3_uri)?;
            locations.output(&config.s3_uri)?
        }
        None => folder.root().join("output"),
    };
    location::try_folder(&output)
        .with_context(|| format!("outputDataConfig: `{}` can't be written to", output.display()))?;
    Ok(output)
}

/// The first Ctrl-C asks the run to checkpoint and stop, the second ends the process at once.
pub(super) fn stop_on_interrupt() -> anyhow::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
        eprintln!("\nstopping after this step and a checkpoint; Ctrl-C again stops at once");
    })
    .context("Ctrl-C can't be caught")?;
    Ok(stop)
}

/// The end of a run: the verdict first, then where everything is.
fn conclude(outcome: &Outcome) -> anyhow::Result<()> {
    let mut text = format!("\n{}", report::text(&outcome.comparison));
    if !outcome.task_source.is_empty() {
        text.push_str(&format!("task measured on {}\n", outcome.task_source));
    }
    if let Some(failure) = &outcome.model.gate {
        text.push_str(&format!("{failure}\n"));
    }
    let report = outcome.folder.join("report");
    let planned = outcome.planned.map_or_else(String::new, |(plan, seconds)| {
        let (low, high) = (terminal::duration(plan.seconds_low), terminal::duration(plan.seconds_high));
        format!(" (this run {}, planned {low} to {high})", terminal::duration(seconds))
    });
    text.push_str(&format!(
        "\ntrained in {}{planned}\nmodel    {} ({})\nreport   {}\ncurve    {}\nmetrics  {}\ntry      outcrop generate --model {} --prompt \"...\"\n",
        terminal::duration(outcome.seconds),
        outcome.model.name,
        outcome.model.id,
        report.join("report.html").display(),
        report.join("loss.svg").display(),
        outcome.output.display(),
        outcome.model.name
    ));
    terminal::print(&text)?;
    if outcome.model.gate.is_some() { Err(super::GateFailed.into()) } else { Ok(()) }
}
