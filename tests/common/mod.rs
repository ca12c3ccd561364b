//! What the tests of the binary from outside share: a workbench (a folder with a tiny base, data, a home of its own),
//! runs of the binary, and readers of what a job leaves. Nothing here knows the engine's types but for its files.
#![allow(dead_code)] // each test binary uses its part
#![allow(clippy::unwrap_used)] // helpers of tests are tests

#[cfg(unix)]
pub(crate) mod service;
pub(crate) mod weights;

use assert_cmd::Command;
use serde_json::{Value, json};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Longest that any single process of a test may take, on a busy machine too.
pub(crate) const PATIENCE: Duration = Duration::from_secs(240);

/// The binary under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_outcrop");

/// The repository's folder.
pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// The error of a command that must fail with exit code 1.
pub(crate) fn refused(bench: &Bench, arguments: &[&str]) -> String {
    let output = bench.outcrop().args(arguments).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    error_of(&stderr)
}

/// What a command that must succeed prints.
pub(crate) fn stdout(bench: &Bench, arguments: &[&str]) -> String {
    let output = bench.outcrop().args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Config of a base so small that a step takes milliseconds. Heads tied, as in small real models.
pub(crate) fn tiny_config() -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 512, "hidden_size": 32,
        "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
        "head_dim": 16, "hidden_act": "silu", "max_position_embeddings": 128, "rms_norm_eps": 1e-5,
        "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"}, "tie_word_embeddings": true,
        "initializer_range": 0.05, "bos_token_id": null, "eos_token_id": 0, "dtype": "float32"
    })
}

/// A trained tokenizer of 512 tokens. Runs of line ends are among them, so that a boundary can fall into a token.
fn tokenizer() -> &'static [u8] {
    static TOKENIZER: OnceLock<Vec<u8>> = OnceLock::new();
    TOKENIZER.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let lines = folder.path().join("lines.txt");
        fs_err::write(&lines, "one\n\n\ntwo\n".repeat(200)).unwrap();
        let output = folder.path().join("tokenizer.json");
        let mut command = command(folder.path());
        command.args(["tokenizer", "train", "--vocab-size", "512", "--output"]).arg(&output);
        command.arg(repository().join("datasets/general/prose.txt")).arg(&lines).assert().success();
        fs_err::read(output).unwrap()
    })
}

/// The binary with nothing of the user's environment: home, hub cache and examples are in `folder`.
pub(crate) fn command(folder: &Path) -> Command {
    let mut command = Command::new(BINARY);
    environment(folder, |key, value| {
        command.env(key, value);
    });
    command.env_remove("RUST_BACKTRACE").env_remove("HF_HUB_CACHE").current_dir(folder).timeout(PATIENCE);
    command
}

fn environment(folder: &Path, mut set: impl FnMut(&str, PathBuf)) {
    set("OUTCROP_HOME", folder.join("home"));
    set("HOME", folder.join("nobody"));
    set("HF_HOME", folder.join("hub"));
}

/// A folder with `base/` (the tiny model), `train.jsonl` (twelve records), `home/`.
pub(crate) struct Bench {
    folder: TempDir,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let bench = Self { folder: tempfile::tempdir().unwrap() };
        fs_err::write(bench.path("tokenizer.json"), tokenizer()).unwrap();
        bench.base("base", &tiny_config());
        bench.write("train.jsonl", records(12));
        bench
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file, its folders too.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::write(&path, content).unwrap();
        path
    }

    /// Makes a base of random weights.
    pub(crate) fn base(&self, name: &str, config: &Value) -> PathBuf {
        self.write("config.json", config.to_string());
        let mut command = self.outcrop();
        command.args(["models", "init", name, "--config", "config.json", "--tokenizer", "tokenizer.json"]);
        command.assert().success();
        self.path(name)
    }

    /// The binary, in this folder.
    pub(crate) fn outcrop(&self) -> Command {
        command(self.folder.path())
    }

    /// Writes `job.json`: fine-tuning of the tiny base on `train.jsonl` without general suites, with these settings.
    pub(crate) fn request(&self, settings: &[(&str, &str)]) -> Value {
        let mut hyper_parameters = json!({
            "epochCount": "2", "batchSize": "4", "learningRate": "0.01", "learningRateWarmupSteps": "0",
            "generalData": "none"
        });
        for (key, value) in settings {
            hyper_parameters[*key] = json!(value);
        }
        json!({
            "customizationType": "FINE_TUNING",
            "baseModelIdentifier": "base",
            "trainingDataConfig": {"s3Uri": "train.jsonl"},
            "hyperParameters": hyper_parameters
        })
    }

    /// Runs a request to its end.
    pub(crate) fn run(&self, request: &Value) -> Run {
        self.write("job.json", request.to_string());
        self.train(&["job.json"])
    }

    /// Runs `outcrop train` with these arguments; a run that fails is the test's to look at.
    pub(crate) fn train(&self, arguments: &[&str]) -> Run {
        let before = self.jobs();
        let output = self.outcrop().arg("train").args(arguments).output().unwrap();
        let job = self.jobs().into_iter().find(|job| !before.contains(job));
        Run { bench: self.folder.path().into(), job, output }
    }

    /// Trains with these settings to the end.
    pub(crate) fn completed(&self, settings: &[(&str, &str)]) -> Run {
        self.run(&self.request(settings)).expect_success()
    }

    /// The error of a request that must fail and leave nothing behind.
    pub(crate) fn refused(&self, request: &Value) -> String {
        let jobs = self.jobs();
        let run = self.run(request);
        let message = run.error();
        assert_eq!(self.jobs(), jobs, "a refused request leaves no job: {message}");
        self.assert_nothing_half_written();
        message
    }

    /// Starts `outcrop train` without waiting for it.
    pub(crate) fn start(&self, arguments: &[&str]) -> Running {
        let mut command = std::process::Command::new(BINARY);
        environment(self.folder.path(), |key, value| {
            command.env(key, value);
        });
        command.env_remove("RUST_BACKTRACE").current_dir(self.folder.path());
        command.arg("train").args(arguments).stdout(Stdio::null()).stderr(Stdio::piped());
        Running { child: command.spawn().unwrap() }
    }

    /// Ids of the jobs there are.
    pub(crate) fn jobs(&self) -> Vec<String> {
        names(&self.path("home/jobs"))
    }

    /// The folder of a job.
    pub(crate) fn job(&self, id: &str) -> Job {
        Job { folder: self.path("home/jobs").join(id) }
    }

    /// Every file below home is whole: no temporary file or folder stayed.
    pub(crate) fn assert_nothing_half_written(&self) {
        for path in files(&self.path("home")) {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let temporary = name.ends_with(".tmp")
                || path.components().any(|part| part.as_os_str().to_string_lossy().starts_with(".writing"));
            assert!(!temporary, "{} is half written", path.display());
        }
        for model in names(&self.path("home/models")).into_iter().filter(|name| name != "lock") {
            let record = self.path("home/models").join(&model).join("model.json");
            assert!(record.is_file(), "model {model} has no record");
        }
        for shard in names(&self.path("home/cache/shards")) {
            let file = self.path("home/cache/shards").join(&shard).join("shard.safetensors");
            assert!(file.is_file(), "shard {shard} is empty");
        }
    }
}

/// `number` records of rising length; the n-th has some 2 n words more than the first.
pub(crate) fn records(number: usize) -> String {
    const WORDS: [&str; 7] = ["river", "the", "stone", "and", "bread", "winter", "house"];
    let line = |index: usize| {
        let words: Vec<&str> = (0..=index).map(|word| WORDS[(word * 3 + index) % WORDS.len()]).collect();
        let prompt = format!("line {index}: {}", words.join(" "));
        format!("{}\n", json!({"prompt": prompt, "completion": format!("{} is {index}", words[index / 2])}))
    };
    (0..number).map(line).collect()
}

/// Names in a folder, sorted; none where it isn't there.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs_err::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Every file below a folder.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for name in names(folder) {
        let path = folder.join(name);
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

/// A finished `outcrop train`.
pub(crate) struct Run {
    bench: PathBuf,
    /// The id of the job that it made.
    pub(crate) job: Option<String>,
    pub(crate) output: Output,
}

impl Run {
    pub(crate) fn expect_success(self) -> Self {
        assert!(self.output.status.success(), "{}\n{}", self.stdout(), self.stderr());
        self
    }

    pub(crate) fn stdout(&self) -> String {
        String::from_utf8(self.output.stdout.clone()).unwrap()
    }

    pub(crate) fn stderr(&self) -> String {
        String::from_utf8(self.output.stderr.clone()).unwrap()
    }

    /// What follows `error: `; the run must have failed with exit code 1.
    pub(crate) fn error(&self) -> String {
        assert_eq!(self.output.status.code(), Some(1), "{}\n{}", self.stdout(), self.stderr());
        error_of(&self.stderr())
    }

    pub(crate) fn job(&self) -> Job {
        Job { folder: self.bench.join("home/jobs").join(self.job.as_ref().unwrap()) }
    }

    /// The id of the job.
    pub(crate) fn id(&self) -> &str {
        self.job.as_ref().unwrap()
    }

    /// The delta of the custom model.
    pub(crate) fn delta(&self) -> PathBuf {
        self.job().delta(&self.bench.join("home"))
    }

    /// blake3 of the delta.
    pub(crate) fn delta_hash(&self) -> String {
        hash(&self.delta())
    }
}

/// The part of standard error behind `error: `, without its last line end.
pub(crate) fn error_of(stderr: &str) -> String {
    let (_, message) = stderr.split_once("error: ").unwrap_or_else(|| panic!("no error in {stderr:?}"));
    message.trim_end().to_string()
}

/// blake3 of a file.
pub(crate) fn hash(path: &Path) -> String {
    blake3::hash(&fs_err::read(path).unwrap()).to_hex().to_string()
}

/// A job's folder.
pub(crate) struct Job {
    pub(crate) folder: PathBuf,
}

impl Job {
    pub(crate) fn plan(&self) -> Value {
        let saved: Value =
            serde_json::from_str(&fs_err::read_to_string(self.folder.join("plan.json")).unwrap()).unwrap();
        saved["plan"].clone()
    }

    /// The whole lines of `events.jsonl`; a torn last one is left out.
    pub(crate) fn events(&self) -> Vec<Value> {
        let Ok(text) = fs_err::read_to_string(self.folder.join("events.jsonl")) else { return Vec::new() };
        let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
        whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The events of one kind.
    pub(crate) fn events_of(&self, kind: &str) -> Vec<Value> {
        self.events().into_iter().filter(|event| event["event"] == kind).collect()
    }

    /// One number of every step.
    pub(crate) fn steps(&self, field: &str) -> Vec<f64> {
        self.events_of("step").iter().map(|event| event[field].as_f64().unwrap()).collect()
    }

    /// What the run computed, bit for bit: the measures of each step, validation and look at forgetting, in order.
    pub(crate) fn measures(&self) -> Vec<Value> {
        const CHANGING: [&str; 5] = ["time", "seconds", "tokens_per_second", "memory_bytes", "pid"];
        let is_measure = |event: &Value| ["step", "validation", "monitor"].contains(&event["event"].as_str().unwrap());
        let strip = |mut event: Value| {
            CHANGING.iter().for_each(|key| {
                event.as_object_mut().unwrap().remove(*key);
            });
            event
        };
        self.events().into_iter().filter(is_measure).map(strip).collect()
    }

    /// Names of the checkpoints.
    pub(crate) fn checkpoints(&self) -> Vec<String> {
        names(&self.folder.join("checkpoints"))
    }

    /// The delta of the model that this job made.
    pub(crate) fn delta(&self, home: &Path) -> PathBuf {
        let id = self.folder.file_name().unwrap().to_string_lossy().into_owned();
        let models = home.join("models");
        let made_here = |model: &String| {
            let record = fs_err::read_to_string(models.join(model).join("model.json")).unwrap_or_default();
            serde_json::from_str::<Value>(&record).is_ok_and(|record| record["jobId"] == id.as_str())
        };
        let model = names(&models).into_iter().find(made_here).unwrap();
        models.join(model).join("delta.safetensors")
    }
}

/// An `outcrop train` that goes on while the test does.
pub(crate) struct Running {
    child: Child,
}

impl Running {
    pub(crate) fn of(child: Child) -> Self {
        Self { child }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits until `true`, or the process ended, or patience did.
    pub(crate) fn wait_until(&mut self, mut done: impl FnMut() -> bool) {
        let begin = Instant::now();
        while !done() && !self.ended() {
            assert!(begin.elapsed() < PATIENCE, "waited too long");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Sends a signal by its name (`INT`). The shell's own `kill` needs no crate.
    pub(crate) fn signal(&self, name: &str) {
        let status = std::process::Command::new("sh").arg("-c").arg(format!("kill -{name} {}", self.pid())).status();
        assert!(status.unwrap().success());
    }

    /// SIGKILL, and whether the process was still at work.
    pub(crate) fn kill(mut self) -> bool {
        let was_running = !self.ended();
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        was_running
    }

    /// Waits for the end: exit code, where no signal ended it.
    pub(crate) fn code(mut self) -> Option<i32> {
        self.wait_until(|| false);
        self.child.wait().unwrap().code()
    }

    /// Waits for the end: exit code and standard error.
    pub(crate) fn end(mut self) -> (Option<i32>, String) {
        // read while it runs: a full pipe would stop it
        let mut pipe = self.child.stderr.take().unwrap();
        let reader = std::thread::spawn(move || {
            let mut text = String::new();
            pipe.read_to_string(&mut text).unwrap();
            text
        });
        self.wait_until(|| false);
        (self.child.wait().unwrap().code(), reader.join().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether a command of `unshare` works here (new namespaces are often forbidden in containers).
pub(crate) fn can_unshare(arguments: &[&str]) -> bool {
    let status = std::process::Command::new("unshare").args(arguments).arg("true").stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}
