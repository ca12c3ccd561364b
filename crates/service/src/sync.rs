//! Keeps the index in `outcrop.db` in step with the folders of jobs and models, which other processes write too.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant, UNIX_EPOCH};

use outcrop_job::aliases::arn_id;
use outcrop_job::sweep::SweepFolder;
use outcrop_job::{Event, EventLog, JobFolder, JobStatus, ModelRecord, Record, home};

use crate::operations::foundation_models;
use crate::store::{JobMark, JobRow, ModelRow, ModelStatus, Origin, Phase, tags};
use crate::{ApiError, AppState};

/// A look at the folders is good for so long: it costs one call of the system for each job and model.
const FRESH: Duration = Duration::from_millis(200);

impl AppState {
    /// Brings the index up to date, unless it was just now.
    pub(crate) fn sync(&self) -> Result<(), ApiError> {
        let mut last = self.last_sync();
        if last.is_none_or(|last| last.elapsed() >= FRESH) {
            self.sync_models()?;
            self.sync_jobs()?;
            *last = Some(Instant::now());
        }
        Ok(())
    }

    fn sync_jobs(&self) -> Result<(), ApiError> {
        let marks = self.store().job_marks()?;
        let marks: BTreeMap<&str, &JobMark> = marks.iter().map(|mark| (mark.id.as_str(), mark)).collect();
        let ids = ids(&self.home().jobs_dir())?;
        for id in &ids {
            let Ok(folder) = self.home().job(id) else { continue };
            match marks.get(id.as_str()) {
                None => self.import_job(id, &folder)?,
                // Its row says more than its folder until it ends.
                Some(mark) if mark.origin == Origin::Service && mark.phase != Phase::Ended => {}
                Some(mark) => {
                    let seen = stamp(&folder.events_path());
                    if seen != mark.seen || !mark.is_final {
                        self.refresh_job(id, &folder, seen)?;
                    }
                }
            }
        }
        for mark in marks.values().filter(|mark| mark.origin == Origin::Command) {
            if !ids.contains(&mark.id) {
                self.store().forget_job(&mark.id)?;
            }
        }
        Ok(())
    }

    /// A job that `outcrop train` began. A sweep's trials are listed by the sweep.
    fn import_job(&self, id: &str, folder: &JobFolder) -> Result<(), ApiError> {
        let Ok(plan) = folder.read_plan() else { return Ok(()) };
        if SweepFolder::of_job(folder).is_some() {
            return Ok(());
        }
        let seen = stamp(&folder.events_path());
        let records = folder.read_events()?;
        let Some(first) = records.first() else { return Ok(()) };
        let created = first.time.as_millisecond();
        let base_id = self.base_id(&plan.base.identifier)?;
        let mut job = JobRow {
            id: id.to_string(),
            name: plan.job_name,
            region: self.settings().region.clone(),
            account: self.settings().account.clone(),
            base_id,
            model_name: plan.custom_model_name,
            request: folder.read_request()?,
            origin: Origin::Command,
            phase: Phase::Ended,
            status: JobStatus::InProgress,
            created,
            modified: created,
            started: Some(created),
            planned: None,
            ended: None,
            failure: None,
            model_id: None,
            training_loss: None,
            validation_losses: Vec::new(),
            pid: None,
            seen,
        };
        self.read_off(&mut job, folder, &records)?;
        self.store().write(|store| job.save(store))
    }

    /// Id in ARNs of a base that a request named.
    pub(crate) fn base_id(&self, identifier: &str) -> Result<String, ApiError> {
        let aliases = outcrop_job::Aliases::read(self.home())?;
        Ok(aliases.resolve(identifier).map_or_else(|| arn_id(identifier), |found| found.id))
    }

    fn refresh_job(&self, id: &str, folder: &JobFolder, seen: String) -> Result<(), ApiError> {
        let Some(mut job) = self.store().read(|store| JobRow::find(store, id))? else { return Ok(()) };
        let records = folder.read_events()?;
        let before = (job.status, job.seen.clone());
        self.read_off(&mut job, folder, &records)?;
        job.seen = seen;
        if before != (job.status, job.seen.clone()) {
            self.store().write(|store| job.save(store))?;
        }
        Ok(())
    }

    /// Fills a row from the events of its run.
    pub(crate) fn read_off(&self, job: &mut JobRow, folder: &JobFolder, records: &[Record]) -> Result<(), ApiError> {
        let status = JobStatus::from_events(records, folder.stop_requested());
        let last = records.last().map(|record| record.time.as_millisecond());
        let first = |is: fn(&Event) -> bool| {
            let found = records.iter().find(|record| is(&record.event));
            found.map(|record| record.time.as_millisecond())
        };
        job.planned = first(|event| matches!(event, Event::Planned(_))).or(job.planned);
        job.failure = None;
        job.training_loss = None;
        let mut losses: BTreeMap<u64, f64> = BTreeMap::new();
        for record in records {
            match &record.event {
                Event::Failed { message } => job.failure = Some(message.clone()),
                Event::Resumed { .. } => job.failure = None,
                Event::Step(step) => job.training_loss = Some(step.loss).filter(|loss| loss.is_finite()),
                Event::Validation(set) => {
                    losses.insert(set.set, set.loss);
                }
                _ => {}
            }
        }
        job.validation_losses = losses.into_values().collect();
        if job.status != status {
            job.status = status;
            job.modified = last.unwrap_or(job.modified);
        }
        job.ended = last.filter(|_| status.is_final());
        if !status.is_final() && !folder.is_locked()? {
            // Nobody runs it and it doesn't say why: it was killed.
            job.status = JobStatus::Failed;
            job.ended = last;
            job.failure =
                Some(format!("its process ended without a word; `outcrop train --resume {}` goes on", job.id));
        }
        let model = self.store().read(|store| ModelRow::of_job(store, &job.id))?;
        job.model_id = model.map(|model| model.id).or_else(|| job.model_id.clone());
        Ok(())
    }

    pub(crate) fn sync_models(&self) -> Result<(), ApiError> {
        let known = self.store().read(ModelRow::all)?;
        let known: BTreeMap<&str, &ModelRow> = known.iter().map(|model| (model.id.as_str(), model)).collect();
        let ids = ids(&self.home().models_dir())?;
        for id in &ids {
            let path = self.models().dir(id)?.join("model.json");
            let seen = stamp(&path);
            let row = known.get(id.as_str());
            if seen.is_empty() || row.is_some_and(|row| row.seen == seen) {
                continue;
            }
            // Deleted between the two looks, or written by a newer version: not here, or not for us.
            let Ok(bytes) = fs_err::read(&path) else { continue };
            let Ok(record) = serde_json::from_slice::<ModelRecord>(&bytes) else { continue };
            self.save_model(record, seen, row.is_none())?;
        }
        for row in known.values().filter(|row| row.status == ModelStatus::Active) {
            let path = self.models().dir(&row.id)?.join("model.json");
            if stamp(&path).is_empty() {
                self.store().forget_model(&row.id)?;
            }
        }
        Ok(())
    }

    /// Puts a model into the index; a new one gets the tags that its job's request has for it.
    fn save_model(&self, record: ModelRecord, seen: String, is_new: bool) -> Result<(), ApiError> {
        let base_id = self.base_id(&record.base.identifier)?;
        let base_name = foundation_models::name(&base_id, &record.base.path);
        self.store().write(|store| {
            let job = JobRow::find(store, &record.job_id)?;
            let former = ModelRow::find(store, &record.id)?;
            let place = |of: fn(&JobRow) -> &String, own: &String| job.as_ref().map_or(own, of).clone();
            let mut row = ModelRow {
                id: record.id,
                name: record.name,
                region: place(|job| &job.region, &self.settings().region),
                account: place(|job| &job.account, &self.settings().account),
                base_id: place(|job| &job.base_id, &base_id),
                base_name,
                job_id: record.job_id,
                customization: record.customization_type.as_str().to_string(),
                created: record.created.as_millisecond(),
                status: ModelStatus::Active,
                failure: None,
                seen,
            };
            if let Some(former) = former.filter(|former| former.customization == "IMPORTED") {
                (row.region, row.account, row.base_id) = (former.region, former.account, former.base_id);
                (row.customization, row.job_id) = (former.customization, former.job_id);
            }
            row.save(store)?;
            if let Some(job) = job.filter(|_| is_new && !row.job_id.is_empty()) {
                tags::put(store, &row.id, &job.request.custom_model_tags, &row.name)?;
            }
            Ok(())
        })
    }

    /// Writes into a job's folder that it was stopped before it began, so that the folder says it without the index.
    pub(crate) fn note_stopped(&self, job: &JobRow) -> Result<(), ApiError> {
        let directory = self.home().job_dir(&job.id)?;
        let folder = match JobFolder::open(&directory) {
            Ok(folder) => folder,
            Err(_) => JobFolder::create(&directory, &job.request)?,
        };
        self.note_end(&folder, Event::Interrupted { step: 0 })
    }

    /// Ends the log of a run that didn't do so itself.
    pub(crate) fn note_end(&self, folder: &JobFolder, event: Event) -> Result<(), ApiError> {
        let path = folder.events_path();
        let log = if path.exists() { EventLog::append(&path) } else { EventLog::create(&path) };
        log.map_err(ApiError::internal)?.write(event)?;
        Ok(())
    }
}

/// The ids in a folder of folders.
fn ids(folder: &Path) -> Result<std::collections::BTreeSet<String>, ApiError> {
    let entries = match fs_err::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Default::default()),
        entries => entries?,
    };
    let mut found = std::collections::BTreeSet::new();
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if home::is_id(&name) {
            found.insert(name);
        }
    }
    Ok(found)
}

/// What tells whether a file has changed: size and time of the last write; empty where it isn't there.
pub(crate) fn stamp(path: &Path) -> String {
    let Ok(metadata) = fs_err::metadata(path) else { return String::new() };
    let time = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
    format!("{}:{}", metadata.len(), time.as_nanos())
}
