//! What goes and what stays, over homes made by hand.

use std::collections::BTreeMap;

use super::*;
use crate::JobFolder;
use crate::content_hash;
use crate::event::{Event, tests::step};
use crate::event_log::EventLog;
use crate::model_store::tests::record;
use crate::plan::tests::plan;
use crate::request::Request;

struct Bench {
    _folder: tempfile::TempDir,
    home: Home,
}

const JOB: &str = "jobjobjobjob";

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(folder.path().join("home"));
        fs_err::create_dir_all(home.root()).unwrap();
        Self { _folder: folder, home }
    }

    fn write(&self, path: &str, bytes: usize) {
        let path = self.home.root().join(path);
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::write(path, vec![0; bytes]).unwrap();
    }

    /// A job with these last words.
    fn job(&self, id: &str, last: Option<Event>) -> JobFolder {
        let job = JobFolder::create(&self.home.job_dir(id).unwrap(), &Request::default()).unwrap();
        let mut log = EventLog::create(&job.events_path()).unwrap();
        for event in [Some(step(1, 0, 2.0)), last].into_iter().flatten() {
            log.write(event).unwrap();
        }
        job
    }

    /// A checkpoint as the trainer writes it.
    fn checkpoint(&self, id: &str, step: u64, best: Option<u64>) -> String {
        let name = format!("jobs/{id}/checkpoints/step-{step:08}");
        let best = best.map_or("null".to_string(), |best| format!(r#"{{"step":{best},"validation_loss":1.5}}"#));
        self.write(&format!("{name}/weights.safetensors"), 1000 + step as usize);
        let folder = self.home.root().join(&name);
        fs_err::write(
            folder.join("state.json"),
            format!(r#"{{"step":{step},"watch":{{"best":{best},"within":null}}}}"#),
        )
        .unwrap();
        let hash = |file: &str| content_hash::of_file(&folder.join(file)).unwrap();
        let files: BTreeMap<&str, String> = ["weights.safetensors", "state.json"].map(|file| (file, hash(file))).into();
        fs_err::write(folder.join("manifest.json"), serde_json::json!({"files": files}).to_string()).unwrap();
        name
    }

    fn caches(&self) -> [&'static str; 3] {
        self.write("cache/features/aa/00000.safetensors", 500);
        self.write("cache/scores/bb.json", 50);
        self.write("cache/shards/cc/shard.safetensors", 5);
        self.write("cache/examples/pebble/model.safetensors", 9000);
        ["cache/features/aa", "cache/scores", "cache/shards/cc"]
    }

    fn free(&self) -> Vec<String> {
        survey(&self.home).unwrap().removable.into_iter().map(|item| item.path).collect()
    }

    /// Makes everything in the home look as if nobody had touched it since yesterday.
    fn age(&self, path: &str) {
        let path = self.home.root().join(path);
        let yesterday = SystemTime::now() - Duration::from_secs(86_400);
        let mut folders = vec![path];
        while let Some(path) = folders.pop() {
            if path.is_dir() {
                folders.extend(entries(&path).unwrap());
            }
            fs_err::File::open(&path).unwrap().file().set_modified(yesterday).unwrap();
        }
    }
}

fn completed() -> Option<Event> {
    Some(Event::Completed { training_loss: 1.0, seconds: 2.0 })
}

#[test]
fn caches_go_and_the_examples_stay() {
    let bench = Bench::new();
    let caches = bench.caches();
    let found = survey(&bench.home).unwrap();
    assert_eq!(bench.free(), caches);
    assert_eq!((found.reclaimable(), found.used()), (555, 9555));
    let paths: Vec<String> = caches.map(String::from).into();
    let removed = remove(&bench.home, &paths).unwrap();
    assert_eq!((removed.bytes(), removed.passed_over.len()), (555, 0));
    assert!(bench.free().is_empty() && bench.home.examples_dir().join("pebble/model.safetensors").exists());
    assert_eq!(remove(&bench.home, &paths).unwrap().passed_over, paths, "they are gone already");
}

#[test]
fn nothing_of_a_running_job_goes_nor_what_it_may_read() {
    let bench = Bench::new();
    let caches = bench.caches().map(String::from);
    let job = bench.job(JOB, None);
    let checkpoints = [1, 2, 3].map(|step| bench.checkpoint(JOB, step, None));
    let listed = bench.free();
    assert!(listed.contains(&checkpoints[0]) && listed.contains(&caches[0]), "{listed:?}");
    let lock = job.lock().unwrap();
    assert!(bench.free().is_empty(), "{:?}", bench.free());
    let kept = survey(&bench.home).unwrap().kept;
    assert!(kept.iter().any(|line| line == "jobs/jobjobjobjob: its job runs"), "{kept:?}");
    // the list was made before the job began again
    let removed = remove(&bench.home, &listed).unwrap();
    assert!(removed.items.is_empty() && removed.passed_over == listed, "{removed:?}");
    drop(lock);
    assert_eq!(remove(&bench.home, &listed).unwrap().items.len(), listed.len());
}

#[test]
fn a_resumable_job_keeps_what_it_goes_on_from() {
    let interrupted = Some(Event::Interrupted { step: 4 });
    for (last, damage, best, free) in [
        (interrupted.clone(), None, None, vec![1, 2, 3]),
        (Some(Event::Failed { message: "x".into() }), None, None, vec![1, 2, 3]),
        (None, None, None, vec![1, 2, 3]), // killed
        (interrupted.clone(), None, Some(2), vec![1, 3]),
        (interrupted.clone(), Some(4), None, vec![1, 2]), // the one before it is the newest whole one
        (completed(), None, None, vec![1, 2, 3, 4]),
    ] {
        let bench = Bench::new();
        bench.job(JOB, last.clone());
        let names: Vec<String> = (1..=4).map(|step| bench.checkpoint(JOB, step, best)).collect();
        if let Some(step) = damage {
            bench.write(&format!("{}/weights.safetensors", names[step - 1]), 3);
        }
        let expected: Vec<&String> = free.iter().map(|step| &names[step - 1]).collect();
        assert_eq!(bench.free().iter().collect::<Vec<_>>(), expected, "{last:?} {damage:?} {best:?}");
    }
    let bench = Bench::new();
    bench.job(JOB, interrupted);
    for step in [1, 2] {
        let name = bench.checkpoint(JOB, step, None);
        bench.write(&format!("{name}/weights.safetensors"), 3);
    }
    assert!(bench.free().is_empty(), "none is whole: all stay");
}

#[test]
fn what_a_model_is_made_of_stays() {
    let bench = Bench::new();
    let caches = bench.caches();
    let models = ModelStore::new(bench.home.models_dir());
    let mut model = record("modelmodel01", "tuned", 1);
    model.base.path = bench.home.root().join("cache/features/aa"); // nobody should, and still
    models.save(&model).unwrap();
    bench.write("models/modelmodel01/delta.safetensors", 10);
    bench.age("models");
    let found = survey(&bench.home).unwrap();
    assert_eq!(bench.free(), caches[1..]);
    assert!(found.kept.contains(&"cache/features/aa: model tuned refers to it".to_string()), "{:?}", found.kept);
    let all = ["cache/features/aa", "models/modelmodel01", "models/modelmodel01/delta.safetensors"].map(String::from);
    assert_eq!(remove(&bench.home, &all).unwrap().passed_over, all);
    models.delete("tuned").unwrap();
    assert_eq!(bench.free(), caches);
}

#[test]
fn what_an_unfinished_job_reads_stays() {
    let bench = Bench::new();
    let caches = bench.caches();
    let job = bench.job(JOB, Some(Event::Interrupted { step: 1 }));
    let mut plan = plan();
    plan.data.training.files[0].path = bench.home.root().join("cache/shards/cc/shard.safetensors");
    job.write_plan(&plan).unwrap();
    assert_eq!(bench.free(), caches[..2]);
    EventLog::append(&job.events_path()).unwrap().write(completed().unwrap()).unwrap();
    assert_eq!(bench.free(), caches);
}

#[test]
fn the_trials_of_an_unfinished_sweep_stay_as_they_are() {
    use crate::sweep::{SweepPlan, TrialPlan, TrialResult, TrialStatus};
    let bench = Bench::new();
    bench.job(JOB, completed());
    let name = bench.checkpoint(JOB, 1, None);
    assert_eq!(bench.free(), std::slice::from_ref(&name));
    let sweep = bench.home.sweeps_dir().join("sweepsweep01");
    fs_err::create_dir_all(&sweep).unwrap();
    fs_err::write(sweep.join("sweep.json"), "{}").unwrap();
    let sweep = SweepFolder::open(&bench.home, "sweepsweep01").unwrap();
    let trial = |number| TrialPlan {
        number,
        settings: crate::StringMap::new(),
        job_id: if number == 1 { JOB } else { "jobjobjobjo2" }.into(),
        job_name: "a".into(),
        model_name: "a".into(),
        epochs: 1.0,
        steps: 1,
    };
    let plan = SweepPlan {
        engine_version: "0.1.0".into(),
        sweep_id: "sweepsweep01".into(),
        name: "a".into(),
        created: crate::timestamp::now(),
        device: "cpu".into(),
        varied: Vec::new(),
        trials: vec![trial(1), trial(2)],
        runs: Vec::new(),
        trial_epochs: 2.0,
        trained_epochs: 2.0,
        trunk_once: true,
        base_hash: "b".into(),
        config_hash: "c".into(),
        selection: "v".into(),
        test: Vec::new(),
        stop_losers: None,
        models_bytes: 0,
        checkpoint_bytes: 0,
    };
    sweep.write_plan(&plan).unwrap();
    let result = |trial| TrialResult {
        trial,
        status: TrialStatus::Completed,
        reason: None,
        steps: 1,
        job: None,
        model: None,
        delta_hash: None,
        training_loss: 1.0,
        validation: Vec::new(),
        items: Vec::new(),
        task: Vec::new(),
        general: Vec::new(),
        headline: String::new(),
        seconds: 1.0,
    };
    sweep.append(&result(1)).unwrap();
    assert!(bench.free().is_empty(), "trial 2 is to come");
    assert_eq!(remove(&bench.home, std::slice::from_ref(&name)).unwrap().passed_over, std::slice::from_ref(&name));
    sweep.append(&result(2)).unwrap();
    assert_eq!(bench.free(), std::slice::from_ref(&name));
    bench.caches();
    let lock = sweep.lock().unwrap();
    assert!(bench.free().is_empty(), "it runs again: {:?}", bench.free());
    drop(lock);
    assert_eq!(bench.free().len(), 4);
}

#[test]
fn leftovers_go_once_nobody_can_be_at_them() {
    let bench = Bench::new();
    bench.job(JOB, completed());
    bench.write("jobs/jobjobjobjob/checkpoints/.writing-abc/weights.safetensors", 7);
    bench.write("models/modelmodel01/delta.safetensors", 8);
    bench.write("jobs/jobjobjobjo2/plan.json", 9);
    bench.write(".sweep-abc/x", 10);
    let writing = "jobs/jobjobjobjob/checkpoints/.writing-abc";
    assert_eq!(bench.free(), [writing], "the others may be in the making");
    for path in ["models", "jobs/jobjobjobjo2", ".sweep-abc"] {
        bench.age(path);
    }
    let all = [".sweep-abc", "jobs/jobjobjobjo2", writing, "models/modelmodel01"];
    assert_eq!(bench.free(), all);
    assert_eq!(remove(&bench.home, &all.map(String::from)).unwrap().bytes(), 34);
    assert!(bench.free().is_empty() && bench.home.job(JOB).is_ok());
}

#[test]
fn no_path_leads_out_of_what_was_listed() {
    let bench = Bench::new();
    bench.caches();
    bench.write("s3/bucket/key", 3);
    let others = [
        "../home/cache/scores/bb.json",
        "s3/bucket/key",
        "/etc/passwd",
        "jobs/../s3",
        "cache/scores/../scores/bb.json",
        "",
    ];
    let others = others.map(String::from);
    assert_eq!(remove(&bench.home, &others).unwrap().passed_over, others);
    assert!(bench.home.s3_dir().join("bucket/key").exists());
}

#[cfg(unix)]
#[test]
fn a_link_is_another_places() {
    let bench = Bench::new();
    let outside = bench._folder.path().join("outside");
    fs_err::create_dir_all(&outside).unwrap();
    fs_err::write(outside.join("file"), "mine").unwrap();
    fs_err::create_dir_all(bench.home.cache_dir().join("features")).unwrap();
    std::os::unix::fs::symlink(&outside, bench.home.cache_dir().join("features/aa")).unwrap();
    let found = survey(&bench.home).unwrap();
    assert!(found.removable.is_empty() && found.kept == ["cache/features/aa: a link to another place"], "{found:?}");
    assert_eq!(found.used(), fs_err::symlink_metadata(bench.home.cache_dir().join("features/aa")).unwrap().len());
}
