//! The feature store of a frozen trunk: it changes no bit (R3), is mended where damaged, and a disk without room is said
//! aloud (R18). How a killed job resumes is in `resume`.
#![cfg(unix)]
#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod common;

use common::{Bench, Job, Run, Running, can_unshare, names, records};
use serde_json::{Value, json};
use std::path::PathBuf;

/// A shuffled job of two epochs with a validation set.
fn request(bench: &Bench, trainable: &str) -> Value {
    let lines =
        |from: usize, to: usize| records(to).lines().skip(from).map(|line| format!("{line}\n")).collect::<String>();
    bench.write("train.jsonl", lines(0, 12));
    bench.write("validation.jsonl", lines(12, 15));
    let mut request = bench.request(&[("trainable", trainable), ("batchSize", "2")]);
    request["validationDataConfig"] = json!({"validators": [{"s3Uri": "validation.jsonl"}]});
    request
}

/// Runs `job.json` with more arguments.
fn run_with(bench: &Bench, more: &[&str]) -> Run {
    let before = bench.jobs();
    let mut run = bench.train(&[&["job.json"], more].concat()).expect_success();
    run.job = bench.jobs().into_iter().find(|job| !before.contains(job));
    run
}

fn warnings(job: &Job, words: &str) -> usize {
    job.events_of("warning").iter().filter(|event| event["message"].as_str().unwrap().contains(words)).count()
}

#[test]
fn r3_features_from_the_store_computed_and_mended_give_the_same_bits() {
    for trainable in ["head", "last:1", "last:2"] {
        let bench = Bench::new();
        bench.write("job.json", request(&bench, trainable).to_string());
        let store = bench.path("home/cache/features");
        let computed = run_with(&bench, &["--no-feature-cache"]);
        assert!(common::files(&store).is_empty(), "nothing is kept with --no-feature-cache");
        assert_eq!(computed.job().plan()["features"]["stored"], false);
        let stored = run_with(&bench, &[]);
        assert_eq!(stored.job().plan()["features"]["stored"], true);
        assert_eq!(stored.job().measures(), computed.job().measures(), "{trainable}");
        assert_eq!(stored.delta_hash(), computed.delta_hash(), "{trainable}");
        // one file damaged, one as a killed extraction leaves it
        let files: Vec<_> =
            common::files(&store).into_iter().filter(|f| f.extension().unwrap() == "safetensors").collect();
        assert_eq!(files.len(), 2, "training and validation");
        let mut bytes = fs_err::read(&files[0]).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs_err::write(&files[0], bytes).unwrap();
        fs_err::remove_file(files[1].with_extension("blake3")).unwrap();
        let mended = run_with(&bench, &[]);
        assert_eq!(warnings(&mended.job(), "are damaged; they are computed again"), 1);
        assert_eq!(mended.job().measures(), computed.job().measures(), "{trainable}");
        assert_eq!(mended.delta_hash(), computed.delta_hash(), "{trainable}");
        // other data never meets these features
        bench.write("train.jsonl", records(11));
        let other = run_with(&bench, &[]);
        assert_ne!(other.delta_hash(), computed.delta_hash());
        let files = common::files(&store);
        let made = files.iter().filter(|file| file.extension().unwrap() == "safetensors");
        assert_eq!(made.count(), 3, "a store of its own");
    }
}

#[test]
fn r3_equal_beginnings_of_prompts_run_through_the_trunk_once_and_change_no_bit() {
    for trainable in ["head", "last:1"] {
        let bench = Bench::new();
        let line = |index: usize| {
            let prompt = format!("the river and the town on the river say {index}");
            json!({"prompt": prompt, "completion": "yes"}).to_string() + "\n"
        };
        bench.write("train.jsonl", (0..12).map(line).collect::<String>());
        bench.write("job.json", bench.request(&[("trainable", trainable), ("batchSize", "3")]).to_string());
        let stored = run_with(&bench, &[]);
        let [made] = &stored.job().events_of("features")[..] else { panic!("one set of data") };
        assert_eq!(
            (made["records"].as_u64(), &made["tokens"]),
            (Some(12), &stored.job().plan()["data"]["training"]["tokens"])
        );
        assert!(made["trunk_tokens"].as_u64().unwrap() * 2 < made["tokens"].as_u64().unwrap(), "{made}");
        assert!(run_with(&bench, &[]).job().events_of("features").is_empty(), "they are there");
        // step by step other documents share a pass
        let computed = run_with(&bench, &["--no-feature-cache"]);
        assert_eq!(stored.job().measures(), computed.job().measures(), "{trainable}");
        assert_eq!(stored.delta_hash(), computed.delta_hash(), "{trainable}");
    }
}

/// A run of the head in a second home, whose features lie on a disk of their own.
struct OnItsOwnDisk {
    running: Running,
    said: PathBuf,
    home: PathBuf,
}

/// Starts it; the file `more` makes the disk a wide one. None where this machine doesn't allow such a disk.
fn on_its_own_disk(bench: &Bench, options: &str) -> Option<OnItsOwnDisk> {
    if !cfg!(target_os = "linux") || !can_unshare(&["-r", "-m"]) {
        println!("skipped: `unshare -r -m` is not allowed here");
        return None;
    }
    let home = bench.path("second");
    fs_err::create_dir_all(home.join("cache/features")).unwrap();
    let script = format!(
        "mount -t tmpfs -o {options} none second/cache/features || exit 77
        touch mounted
        (until test -e more; do sleep 0.1; done; mount -o remount,size=64m,nr_inodes=100 second/cache/features) &
        \"$0\" train job.json; code=$?; touch more; wait; exit $code"
    );
    let mut command = std::process::Command::new("unshare");
    command.args(["-r", "-m", "sh", "-c", &script, common::BINARY]).current_dir(bench.path(""));
    command.env("OUTCROP_HOME", &home).env_remove("RUST_BACKTRACE");
    let said = bench.path("said");
    command.stderr(fs_err::File::create(&said).unwrap().into_parts().0).stdout(std::process::Stdio::null());
    let mut running = Running::of(command.spawn().unwrap());
    running.wait_until(|| bench.path("mounted").exists());
    if !bench.path("mounted").exists() {
        assert_eq!(running.code(), Some(77));
        println!("skipped: a tmpfs can't be mounted here");
        return None;
    }
    Some(OnItsOwnDisk { running, said, home })
}

impl OnItsOwnDisk {
    fn text(&self) -> String {
        fs_err::read_to_string(&self.said).unwrap()
    }

    /// The job and the hash of its delta, after a good end.
    fn end(self) -> (Job, String) {
        let Self { running, said, home } = self;
        let code = running.code();
        assert_eq!(code, Some(0), "{}", fs_err::read_to_string(said).unwrap());
        let job = Job { folder: home.join("jobs").join(names(&home.join("jobs")).pop().unwrap()) };
        let delta = common::hash(&job.delta(&home));
        (job, delta)
    }
}

#[test]
fn r18_features_that_the_disk_cannot_hold_are_computed_in_every_epoch_and_that_is_said() {
    let bench = Bench::new();
    let whole = bench.run(&request(&bench, "head")).expect_success();
    let bytes = whole.job().plan()["features"]["bytes"].as_u64().unwrap();
    assert!(bytes > 8192, "the disk below would hold them: {bytes}");
    let Some(run) = on_its_own_disk(&bench, "size=8k") else { return };
    let (job, delta) = run.end();
    assert_eq!(job.plan()["features"], json!({"bytes": bytes, "stored": false}));
    assert_eq!(warnings(&job, "the trunk runs in every epoch instead"), 1);
    assert_eq!((job.measures(), delta), (whole.job().measures(), whole.delta_hash()));
}

#[test]
fn r18_a_disk_that_is_full_in_the_middle_of_an_extraction_pauses_it_and_room_lets_it_go_on() {
    let bench = Bench::new();
    let whole = bench.run(&request(&bench, "head")).expect_success();
    // bytes are free, so that the plan keeps features, but no file can be made beside the first
    let Some(mut run) = on_its_own_disk(&bench, "size=64m,nr_inodes=3") else { return };
    let said = run.said.clone();
    let paused =
        || fs_err::read_to_string(&said).unwrap().contains("the disk is full; the run waits until there is room");
    run.running.wait_until(paused);
    assert!(!run.running.ended() && paused(), "the disk was never full: {}", run.text());
    bench.write("more", "");
    let (job, delta) = run.end();
    assert_eq!(job.plan()["features"]["stored"], true);
    assert_eq!((job.measures(), delta), (whole.job().measures(), whole.delta_hash()), "nothing was lost");
}

#[test]
fn r24_a_head_of_few_targets_plans_no_gradient() {
    let bench = Bench::new();
    bench.write("train.jsonl", records(12));
    let planned = |more: &[(&str, &str)]| {
        let settings = [&[("trainable", "head"), ("batchSize", "1"), ("epochCount", "1")][..], more].concat();
        let memory = bench.completed(&settings).job().plan()["memory"].clone();
        (memory["gradientBytes"].as_u64().unwrap(), memory["totalBytes"].as_u64().unwrap())
    };
    let (none, total) = planned(&[]);
    assert_eq!(none, 0, "the gradient is taken in factors");
    let (written, more) = planned(&[("batchSize", "8")]);
    assert_eq!(written, 512 * 32 * 4, "too many targets");
    assert!(more >= total + written, "{more} and {total}");
    assert_eq!(planned(&[("optimizer", "lion")]).0, written, "Lion reads a gradient");
    assert_eq!(planned(&[("dtype", "bfloat16")]).0, written, "and so do masters");
    assert!(planned(&[("trainable", "last:1")]).0 > written, "more weights, more gradients");
}
