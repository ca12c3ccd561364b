//! `outcrop serve` as a process of a test: started on a port of its own, asked over plain HTTP, killed.

use super::{BINARY, Bench, PATIENCE, Running, records};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A running `outcrop serve` on a port of its own.
pub(crate) struct Service {
    pub(crate) process: Running,
    pub(crate) address: String,
}

impl Service {
    pub(crate) fn start(bench: &Bench, arguments: &[&str]) -> Self {
        let mut command = Command::new(BINARY);
        command.env("OUTCROP_HOME", bench.path("home")).env("HOME", bench.path("nobody"));
        command.env("HF_HOME", bench.path("hub")).env_remove("RUST_BACKTRACE").current_dir(bench.path(""));
        command.args(["serve", "--listen", "127.0.0.1:0"]).args(arguments);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        let mut first = String::new();
        lines.read_line(&mut first).unwrap();
        let address = first.split("http://").nth(1).and_then(|rest| rest.split(',').next());
        let address = address.unwrap_or_else(|| panic!("no address in {first:?}")).to_string();
        std::thread::spawn(move || lines.read_to_string(&mut String::new())); // a full pipe would stop it
        Self { process: Running::of(child), address }
    }

    /// Sends one request and leaves the answer to be read. Version 1.0 has no chunks.
    pub(crate) fn open(&self, method: &str, path: &str, body: Option<&Value>) -> TcpStream {
        let body = body.map(Value::to_string).unwrap_or_default();
        let mut stream = TcpStream::connect(&self.address).unwrap();
        write!(
            stream,
            "{method} {path} HTTP/1.0\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        )
        .unwrap();
        stream
    }

    /// Sends one request; gives status and body.
    pub(crate) fn send(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        let mut answer = String::new();
        self.open(method, path, body).read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, serde_json::from_str(body).unwrap())
    }

    pub(crate) fn get(&self, path: &str) -> Value {
        let (status, body) = self.send("GET", path, None);
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    /// Makes a job; gives its id.
    pub(crate) fn create(&self, request: &Value) -> String {
        let (status, body) = self.send("POST", "/model-customization-jobs", Some(request));
        assert_eq!(status, 201, "{body}");
        body["jobArn"].as_str().unwrap().rsplit('/').next().unwrap().to_string()
    }

    pub(crate) fn job(&self, name: &str) -> Value {
        self.get(&format!("/model-customization-jobs/{name}"))
    }

    pub(crate) fn stop(&self, name: &str) {
        let (status, body) = self.send("POST", &format!("/model-customization-jobs/{name}/stop"), None);
        assert_eq!((status, &body), (200, &json!({})));
    }

    /// Waits until a job's status is no longer one of those on the way; gives the job.
    pub(crate) fn ended(&self, name: &str) -> Value {
        wait(|| Some(self.job(name)).filter(|job| job["status"] != "InProgress" && job["status"] != "Stopping"))
    }

    pub(crate) fn kill(self) {
        assert!(self.process.kill(), "it was running");
    }
}

pub(crate) fn wait<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begin.elapsed() < PATIENCE, "waited too long");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A bench whose tiny base stands for Titan Express, with `train.jsonl` in a bucket, put there by hand.
pub(crate) fn bench() -> Bench {
    let bench = Bench::new();
    bench.outcrop().args(["models", "alias", "amazon.titan-text-express-v1", "base"]).assert().success();
    bench.write("home/s3/bucket/train.jsonl", records(12));
    bench.write("home/s3/bucket/long.jsonl", records(12).repeat(40));
    bench
}

/// Three epochs of twelve records.
pub(crate) fn request(name: &str) -> Value {
    json!({
        "jobName": name, "customModelName": format!("{name}-model"),
        "roleArn": "arn:aws:iam::123456789012:role/R", "baseModelIdentifier": "amazon.titan-text-express-v1",
        "trainingDataConfig": {"s3Uri": "s3://bucket/train.jsonl"},
        "validationDataConfig": {"validators": [{"s3Uri": "s3://bucket/train.jsonl"}]},
        "outputDataConfig": {"s3Uri": "s3://bucket/out/"},
        "hyperParameters": {"epochCount": "3", "batchSize": "4", "learningRate": "0.01", "generalData": "none"}
    })
}
