//! The console: what its pages say, that everything in them is escaped, who may see them, and what changes something.

use super::Bench;
use axum::body::Body;
use axum::http::{HeaderMap, Request};
use outcrop_job::{Event, EventLog, Home, JobStatus};
use outcrop_service::{AppState, Credentials, Settings, app};
use serde_json::json;
use tower::ServiceExt;

struct Page {
    status: u16,
    headers: HeaderMap,
    text: String,
}

impl Page {
    fn location(&self) -> &str {
        self.headers["location"].to_str().unwrap()
    }
}

async fn send(state: &AppState, method: &str, path: &str, headers: &[(&str, &str)], form: &str) -> Page {
    let request = Request::builder().method(method).uri(path).header("host", "127.0.0.1:8420");
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let response = app(state.clone()).oneshot(request.body(Body::from(form.to_string())).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    Page { status: parts.status.as_u16(), headers: parts.headers, text }
}

async fn get(bench: &Bench, path: &str) -> Page {
    send(&bench.state, "GET", path, &[], "").await
}

async fn post(bench: &Bench, path: &str, form: &str) -> Page {
    send(&bench.state, "POST", path, &[("origin", "http://127.0.0.1:8420")], form).await
}

/// A job's id, made through the API.
async fn job(bench: &Bench, name: &str) -> String {
    bench.create(&Bench::request(name)).await.rsplit('/').next().unwrap().to_string()
}

const NASTY: &str = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&";

#[tokio::test]
async fn pages_are_there_and_say_what_they_may_load() {
    let bench = Bench::new();
    let home = send(&bench.state, "GET", "/", &[("accept", "text/html,*/*")], "").await;
    assert_eq!((home.status, home.location()), (303, "/console"));
    for (path, heading) in [
        ("/console", "<h1>Jobs</h1>"),
        ("/console/", "<h1>Jobs</h1>"),
        ("/console/models", "<h1>Models</h1>"),
        ("/console/sweeps", "<h1>Sweeps</h1>"),
        ("/console/disk", "<h1>Disk</h1>"),
    ] {
        let page = get(&bench, path).await;
        assert_eq!(
            (page.status, &page.headers["content-type"]),
            (200, &"text/html; charset=utf-8".parse().unwrap()),
            "{path}"
        );
        assert!(page.text.contains(heading) && page.text.contains("aria-current=\"page\""), "{path}: {}", page.text);
        let policy = page.headers["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self';") && !policy.contains("unsafe"), "{policy}");
        assert_eq!(
            (&page.headers["x-content-type-options"], &page.headers["cache-control"]),
            (&"nosniff".parse().unwrap(), &"no-store".parse().unwrap())
        );
        assert!(
            !page.text.contains("<script>") && !page.text.contains("style=") && !page.text.contains("http://"),
            "{}",
            page.text
        );
    }
    let style = get(&bench, "/console/style.css").await;
    assert!(
        style.headers["content-type"] == "text/css; charset=utf-8" && style.text.contains("prefers-color-scheme: dark")
    );
    assert!(get(&bench, "/console/script.js").await.text.contains("EventSource"));
    let missing = get(&bench, "/console/nothing").await;
    assert!(missing.status == 404 && missing.text.contains("The console has no such page."), "{}", missing.text);
    assert_eq!(send(&bench.state, "PUT", "/console", &[], "").await.status, 405);
    // Programs that list buckets aren't sent to a page.
    assert_eq!(send(&bench.state, "GET", "/", &[("accept", "*/*")], "").await.status, 404);
}

#[tokio::test]
async fn a_bucket_may_be_called_console() {
    let bench = Bench::new();
    fs_err::create_dir_all(bench.home.s3_dir().join("console")).unwrap();
    fs_err::write(bench.home.s3_dir().join("console/jobs"), "mine").unwrap();
    let signed = "AWS4-HMAC-SHA256 Credential=x/20261122/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0";
    let object = send(&bench.state, "GET", "/console/jobs", &[("authorization", signed)], "").await;
    assert_eq!((object.status, object.text.as_str()), (200, "mine"));
    assert!(get(&bench, "/console/jobs").await.text.contains("<h1>Jobs</h1>"));
}

#[tokio::test]
async fn a_job_is_shown_stopped_and_escaped() {
    let bench = Bench::new();
    let id = job(&bench, "a-job").await;
    let page = get(&bench, "/console").await;
    assert!(page.text.contains(&format!("href=\"/console/jobs/{id}\">a-job</a>")), "{}", page.text);
    assert!(page.text.contains("waits for a slot") && page.text.contains("data-live=\""));
    let path = format!("/console/jobs/{id}");
    let page = get(&bench, &path).await;
    assert!(
        page.text.contains("<button id=\"stop\">Stop</button>") && page.text.contains("is an alias here"),
        "{}",
        page.text
    );
    assert!(
        page.text.contains("`pebble` on this machine"),
        "what stands in for Bedrock's model is said: {}",
        page.text
    );
    assert_eq!(page.text.matches("nothing to draw").count(), 2, "{}", page.text);
    let folder = bench.home.job(&id).unwrap();
    let mut log = EventLog::create(&folder.events_path()).unwrap();
    log.write(Event::Warning { message: NASTY.into() }).unwrap();
    let page = get(&bench, &path).await;
    assert!(page.text.contains("warning: &lt;script&gt;alert(1)"), "{}", page.text);
    assert!(!page.text.contains("<script>alert") && !page.text.contains("<img"), "{}", page.text);
    let stopped = post(&bench, &format!("{path}/stop"), "").await;
    assert_eq!((stopped.status, stopped.location()), (303, path.as_str()));
    let page = get(&bench, &path).await;
    assert!(
        page.text.contains(">stopped</span>") && !page.text.contains("id=\"stop\"") && !page.text.contains("data-live"),
        "{}",
        page.text
    );
    assert_eq!(folder.status().unwrap(), JobStatus::Stopped);
    let again = post(&bench, &format!("{path}/stop"), "").await;
    assert!(again.status == 400 && again.text.contains("can&#x27;t be stopped"), "{} {}", again.status, again.text);
    for path in [
        "/console/jobs/zzzzzzzzzzzz",
        "/console/jobs/..",
        "/console/jobs/%2e%2e%2f",
        "/console/jobs/zzzzzzzzzzzz/events",
    ] {
        assert_eq!(get(&bench, path).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn what_a_job_costs_follows_the_users_price() {
    let bench = Bench::new();
    let id = job(&bench, "a-job").await;
    let planned = r#"{"time":"2026-11-22T07:20:00.000Z","event":"planned","steps":10,"epochs":1,"records":5,"tokens":40,"target_tokens":20,"trainable_parameters":7,"device":"cpu","config_hash":"00"}"#;
    let failed = r#"{"time":"2026-11-22T08:20:00.000Z","event":"failed","message":"x"}"#;
    post(&bench, &format!("/console/jobs/{id}/stop"), "").await; // it is no longer looked upon as running
    fs_err::write(bench.home.job(&id).unwrap().events_path(), format!("{planned}\n{failed}\n")).unwrap();
    let page = get(&bench, &format!("/console/jobs/{id}")).await.text;
    assert!(page.contains("1 h 0 min") && page.contains("--price-per-hour"), "{page}");
    let settings = Settings { price_per_hour: Some("0.5 EUR".parse().unwrap()), ..Settings::default() };
    let priced = AppState::open(bench.home.clone(), settings).unwrap();
    let page = send(&priced, "GET", &format!("/console/jobs/{id}"), &[], "").await.text;
    assert!(page.contains("0.5000 EUR at 0.5 EUR an hour"), "{page}");
}

#[tokio::test]
async fn a_report_shows_itself_and_does_nothing() {
    let bench = Bench::new();
    let id = job(&bench, "a-job").await;
    let path = format!("/console/jobs/{id}/report");
    assert_eq!(get(&bench, &path).await.status, 404);
    let report = bench.home.job(&id).unwrap().report_dir();
    fs_err::create_dir_all(&report).unwrap();
    fs_err::write(report.join("report.html"), "<h1>better</h1>").unwrap();
    let page = get(&bench, &path).await;
    let policy = page.headers["content-security-policy"].to_str().unwrap();
    assert!(
        page.text == "<h1>better</h1>" && policy.contains("sandbox") && !policy.contains("allow-scripts"),
        "{policy}"
    );
    #[cfg(unix)]
    {
        let secret = tempfile::NamedTempFile::new().unwrap();
        fs_err::write(secret.path(), "secret").unwrap();
        fs_err::remove_file(report.join("report.html")).unwrap();
        std::os::unix::fs::symlink(secret.path(), report.join("report.html")).unwrap();
        let page = get(&bench, &path).await;
        assert!(page.status == 404 && !page.text.contains("secret"), "a link leads out of the home: {}", page.text);
    }
}

#[tokio::test]
async fn models_have_their_lineage_and_are_deleted() {
    let bench = Bench::new();
    assert!(get(&bench, "/console/models").await.text.contains("No custom model yet"));
    bench.model("abcdefghijk1", "a-model", "zzzzzzzzzzz1");
    fs_err::write(bench.home.models_dir().join("abcdefghijk1/delta.safetensors"), vec![0; 2_000_000]).unwrap();
    let page = get(&bench, "/console/models").await.text;
    for part in
        ["a-model", "2 MB", "pebble (00)", "FINE_TUNING", "Delete a-model", "outcrop.pebble-v1:0&#x2f;abcdefghijk1"]
    {
        assert!(page.contains(part), "{part}: {page}");
    }
    let body = json!({"modelDeploymentName": "a-deployment", "modelArn": "a-model"});
    bench.post("/model-customization/custom-model-deployments", &body).await;
    let page = get(&bench, "/console/models").await.text;
    assert!(page.contains("Used by a-deployment") && !page.contains("Delete a-model"), "{page}");
    let refused = post(&bench, "/console/models/abcdefghijk1/delete", "").await;
    assert!(refused.status == 400 && refused.text.contains("delete that first"), "{}", refused.text);
    bench.model("abcdefghijk2", "other", "zzzzzzzzzzz2");
    assert_eq!(post(&bench, "/console/models/abcdefghijk2/delete", "").await.location(), "/console/models");
    assert!(!bench.home.models_dir().join("abcdefghijk2").exists());
    assert!(bench.home.models_dir().join("abcdefghijk1").exists());
    assert_eq!(post(&bench, "/console/models/..%2Fjobs/delete", "").await.status, 404);
}

#[tokio::test]
async fn the_disk_is_freed_of_what_is_checked() {
    let bench = Bench::new();
    for name in ["cache/features/aa/0.safetensors", "cache/features/<b>/0.safetensors", "cache/shards/cc/x"] {
        let path = bench.home.root().join(name);
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::write(path, vec![0; 1_000_000]).unwrap();
    }
    let page = get(&bench, "/console/disk").await.text;
    assert!(page.contains("3 MB of it can go") && page.contains("cache&#x2f;features&#x2f;&lt;b&gt;"), "{page}");
    let page = post(&bench, "/console/disk/prune", "").await.text;
    assert!(page.contains("Nothing was chosen"), "{page}");
    let form = "path=cache%2Ffeatures%2Faa&path=..%2F..%2Fetc&path=s3%2Fbucket%2Ftrain.jsonl";
    let page = post(&bench, "/console/disk/prune", form).await.text;
    assert!(page.contains("1 removed, 1 MB free. 2 stayed"), "{page}");
    assert!(!bench.home.root().join("cache/features/aa").exists());
    assert!(
        bench.home.root().join("cache/shards/cc/x").exists() && bench.home.s3_dir().join("bucket/train.jsonl").exists()
    );
}

#[tokio::test]
async fn another_sites_page_sees_and_changes_nothing() {
    let bench = Bench::new();
    let id = job(&bench, "a-job").await;
    let stop = format!("/console/jobs/{id}/stop");
    for header in [
        ("origin", "http://evil.example"),
        ("origin", "null"),
        ("origin", "http://127.0.0.1:9"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
    ] {
        let page = send(&bench.state, "POST", &stop, &[header], "").await;
        assert_eq!(page.status, 403, "{header:?}");
    }
    assert_eq!(bench.get("/model-customization-jobs/a-job").await.body["status"], "InProgress");
    let request = Request::builder().uri("/console").header("host", "evil.example:8420").body(Body::empty()).unwrap();
    let page = app(bench.state.clone()).oneshot(request).await.unwrap();
    assert_eq!(page.status().as_u16(), 403, "a name that was bent to this machine");
    let page = get(&bench, "/console").await;
    assert!(!page.headers.contains_key("access-control-allow-origin"));
}

/// A service with a bearer token, or with access keys alone.
fn guarded(credentials: &str) -> (tempfile::TempDir, AppState) {
    let folder = tempfile::tempdir().unwrap();
    let file = tempfile::NamedTempFile::new().unwrap(); // which only its owner may read
    fs_err::write(file.path(), credentials).unwrap();
    let credentials = Some(Credentials::read(file.path()).unwrap());
    let home = Home::at(folder.path().join("home"));
    let state = AppState::open(home, Settings { credentials, ..Settings::default() }).unwrap();
    (folder, state)
}

#[tokio::test]
async fn with_credentials_only_who_signs_in_sees_anything() {
    let (_folder, state) = guarded("aws_bearer_token_bedrock = right-token\n");
    let own = ("origin", "http://127.0.0.1:8420");
    for path in ["/console", "/console/models", "/console/disk", "/console/sweeps", "/console/jobs/zzzzzzzzzzzz"] {
        let page = send(&state, "GET", path, &[], "").await;
        assert_eq!((page.status, page.location()), (303, "/console/sign-in"), "{path}");
    }
    for (method, path) in [("GET", "/console/events"), ("POST", "/console/disk/prune"), ("POST", "/console/sign-out")] {
        assert_eq!(send(&state, method, path, &[own], "").await.status, 403, "{path}");
    }
    let page = send(&state, "GET", "/console/sign-in", &[], "").await;
    assert!(page.text.contains("type=\"password\"") && !page.text.contains("<nav"), "{}", page.text);
    for wrong in ["token=wrong", "token=", "", "token=right-token2"] {
        let page = send(&state, "POST", "/console/sign-in", &[own], wrong).await;
        assert!(!page.headers.contains_key("set-cookie") && page.text.contains("not one of this service"), "{wrong}");
    }
    let foreign =
        send(&state, "POST", "/console/sign-in", &[("origin", "http://evil.example")], "token=right-token").await;
    assert_eq!((foreign.status, foreign.headers.get("set-cookie")), (403, None));
    let page = send(&state, "POST", "/console/sign-in", &[own], "token=right-token").await;
    assert_eq!((page.status, page.location()), (303, "/console"));
    let cookie = page.headers["set-cookie"].to_str().unwrap();
    assert!(
        cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict") && !cookie.contains("right-token"),
        "{cookie}"
    );
    let cookie = ("cookie", cookie.split(';').next().unwrap());
    let page = send(&state, "GET", "/console", &[cookie], "").await;
    assert!(page.status == 200 && page.text.contains("Sign out"), "{}", page.text);
    // The cookie opens the console alone, and changes nothing for another site.
    assert_eq!(send(&state, "GET", "/custom-models", &[cookie], "").await.status, 403);
    let foreign = [cookie, ("origin", "http://evil.example")];
    assert_eq!(send(&state, "POST", "/console/disk/prune", &foreign, "").await.status, 403);
    assert_eq!(send(&state, "POST", "/console/disk/prune", &[cookie, own], "").await.status, 200);
    let page = send(&state, "POST", "/console/sign-out", &[cookie, own], "").await;
    assert!(page.headers["set-cookie"].to_str().unwrap().contains("Max-Age=0"));
    let (_folder, restarted) = guarded("aws_bearer_token_bedrock = right-token\n");
    assert_eq!(send(&restarted, "GET", "/console", &[cookie], "").await.status, 303, "a restart signs everybody out");
}

#[tokio::test]
async fn access_keys_alone_open_no_console() {
    let (_folder, state) = guarded("aws_access_key_id = AKID\naws_secret_access_key = secret\n");
    let page = send(&state, "GET", "/console/sign-in", &[], "").await;
    assert!(page.text.contains("have no bearer token") && !page.text.contains("<input"), "{}", page.text);
    for form in ["token=", "token=secret", "token=AKID"] {
        let page = send(&state, "POST", "/console/sign-in", &[("origin", "http://127.0.0.1:8420")], form).await;
        assert!(!page.headers.contains_key("set-cookie"), "{form}");
    }
}

#[tokio::test]
async fn a_stream_sends_what_is_new_and_ends_with_its_job() {
    let bench = Bench::new();
    let id = job(&bench, "a-job").await;
    post(&bench, &format!("/console/jobs/{id}/stop"), "").await;
    let page = get(&bench, &format!("/console/jobs/{id}/events")).await;
    assert_eq!(page.headers["content-type"], "text/event-stream");
    let events: Vec<&str> = page.text.split("\n\n").filter(|event| !event.is_empty()).collect();
    assert!(events.len() == 2 && events[1].starts_with("event: over"), "{}", page.text);
    let parts: serde_json::Value = serde_json::from_str(events[0].strip_prefix("data: ").unwrap()).unwrap();
    for part in ["head", "facts", "loss", "rate", "plan", "log"] {
        assert!(parts[part].is_string(), "{part}: {parts}");
    }
    assert!(parts["head"].as_str().unwrap().contains("stopped"));
}
