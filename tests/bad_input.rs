//! What is wrong with a request, its data, its base or the machine is said in one line that names the place, before
//! anything trains, and nothing half-written stays.
#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod common;

use common::weights::{Tensors, break_token, change_weights};
use common::{Bench, Running, can_unshare, error_of, names, records, tiny_config};
use serde_json::{Value, json};

/// The error of training on these lines; `TRAIN` stands for their file.
fn refused_data(lines: impl AsRef<[u8]>, settings: &[(&str, &str)]) -> String {
    let bench = Bench::new();
    let path = bench.write("train.jsonl", lines);
    bench.refused(&bench.request(settings)).replace(path.to_str().unwrap(), "TRAIN")
}

#[test]
fn r20_malformed_rows_are_listed_with_their_places_the_first_twenty_at_once() {
    let good = r#"{"prompt": "a", "completion": "b"}"#;
    let bad = r#"{"prompt": "a" "completion": "b"}"#;
    let reason = "not a JSON record: expected `,` or `}`; each line must be one whole JSON object";
    let one = refused_data(format!("{good}\n{bad}\n"), &[]);
    assert_eq!(one, format!("TRAIN:2:16: {reason}"));
    let many = refused_data(format!("{good}\n{}", format!("{bad}\n").repeat(25)), &[]);
    let lines: Vec<&str> = many.lines().collect();
    assert_eq!(lines[0], "25 problems in the data, of which the first 20:");
    assert_eq!(lines.len(), 21);
    assert_eq!((lines[1], lines[20]), (&*format!("TRAIN:2:16: {reason}"), &*format!("TRAIN:21:16: {reason}")));
}

#[test]
fn r20_rows_of_every_kind_of_wrong_are_told_apart() {
    let message = |line: &str| refused_data(format!("{line}\n"), &[]);
    assert_eq!(
        message(r#"{"prompt": "a", "answer": "b"}"#),
        "TRAIN:1: found keys `prompt`, `answer`; a fine-tuning record needs `prompt` and `completion`"
    );
    assert!(message(r#"{"input": "a"}"#).contains("(`input` records are for CONTINUED_PRE_TRAINING)"));
    assert_eq!(
        message(r#"{"prompt": "a", "completion": 3}"#),
        "TRAIN:1: `completion` is a number; it must be a string"
    );
    assert_eq!(
        message(r#"{"prompt": "a", "prompt": "a", "completion": "b"}"#),
        "TRAIN:1: key `prompt` appears twice; keep one"
    );
    assert_eq!(message("  "), "TRAIN:1: the line is blank; remove it");
    let line = [br#"{"prompt": ""#.as_slice(), b"\xff", br#"", "completion": "b"}"#].concat();
    assert_eq!(refused_data(line, &[]), "TRAIN:1:13: byte 0xff is not UTF-8; save the file as UTF-8");
}

#[test]
fn extra_keys_are_named_and_counted_and_not_refused() {
    let bench = Bench::new();
    let line = |index: usize| json!({"id": index, "prompt": "the river", "completion": "winter"}).to_string() + "\n";
    bench.write("train.jsonl", (0..3).map(line).collect::<String>() + &records(4));
    let run = bench.completed(&[]);
    assert_eq!(run.job().plan()["data"]["training"]["extraKeys"], json!({"id": 3}));
    let said = run.stdout().lines().any(|line| line.contains("key `id`") && line.contains("3 records"));
    assert!(said, "{}", run.stdout());
}

#[test]
fn r7_an_empty_completion_is_refused() {
    let allow = "(allowed: 0); remove the record or allow more of them";
    let message = refused_data("{\"prompt\": \"a\", \"completion\": \"\"}\n", &[]);
    assert_eq!(message, format!("TRAIN:1: the completion is empty {allow}"));
    let message = refused_data("{\"prompt\": \"a\", \"completion\": \" \\n\"}\n", &[]);
    assert_eq!(message, format!("TRAIN:1: the completion is only white space {allow}"));
}

#[test]
fn r11_a_row_longer_than_the_context_is_refused_dropped_or_truncated_as_asked() {
    let long = json!({"prompt": "river ".repeat(200), "completion": "winter"}).to_string();
    let data = format!("{}{long}\n", records(4));
    let message = refused_data(&data, &[]);
    assert!(message.starts_with("TRAIN:5: ") && message.contains("are more than the maximum of 128"), "{message}");
    let bench = Bench::new();
    bench.write("train.jsonl", &data);
    let plan = |policy: &str| bench.completed(&[("longRecords", policy)]).job().plan()["data"]["training"].clone();
    let dropped = plan("drop");
    assert_eq!((&dropped["droppedRecords"], dropped["longest"].as_u64().unwrap() < 128), (&json!(1), true));
    assert!(dropped["lostTargetTokens"].as_u64().unwrap() >= 2, "{dropped}");
    let truncated = plan("truncate");
    assert_eq!((&truncated["droppedRecords"], &truncated["longest"]), (&json!(0), &json!(128)));
    let note = truncated["notes"][0].as_str().unwrap();
    assert!(note.starts_with("1 prompts cut, ") || note.starts_with("1 prompt cut, "), "{note}");
    let completion = json!({"prompt": "river", "completion": "river ".repeat(200)}).to_string();
    let message = refused_data(completion, &[("longRecords", "truncate")]);
    assert!(message.contains("leaves no room for a prompt in the maximum of 128"), "{message}");
}

#[test]
fn r6_a_boundary_inside_a_token_is_refused() {
    let message = refused_data("{\"prompt\": \"one\\n\", \"completion\": \"\\n\\ntwo\"}\n", &[]);
    let begin = "TRAIN:1: prompt and completion share a token: the prompt alone ends with `Ċ`, together they have `ĊĊ`";
    assert!(message.starts_with(begin), "{message}");
    assert!(message.ends_with("move the white space that ends the prompt to the start of the completion"), "{message}");
}

#[test]
fn empty_mixed_and_missing_data_are_refused() {
    let bench = Bench::new();
    let message = |data: &str| {
        let mut request = bench.request(&[]);
        request["trainingDataConfig"]["s3Uri"] = json!(data);
        bench.refused(&request).replace(bench.path("").to_str().unwrap(), "")
    };
    bench.write("empty.jsonl", "");
    assert_eq!(message("empty.jsonl"), "`empty.jsonl` is empty; fill it or take it out");
    bench.write("mixed/a.txt", "text");
    bench.write("mixed/b.jsonl", records(1));
    assert_eq!(
        message("mixed"),
        "the data mixes JSONL records (`mixed/b.jsonl`) and text (`mixed/a.txt`); give one kind"
    );
    assert!(message("mixed/a.txt").contains("is text, but FINE_TUNING needs a .jsonl file"));
    assert_eq!(message("none.jsonl"), "`none.jsonl` doesn't exist (looked for it at `none.jsonl`)");
    let home = message("s3://my-bucket/train.jsonl");
    let place = "looked for it at `home/s3/my-bucket/train.jsonl`";
    assert_eq!(home, format!("`s3://my-bucket/train.jsonl` doesn't exist ({place})"));
    let mut request = bench.request(&[]);
    request["validationDataConfig"] = json!({"validators": [{"s3Uri": "held-out.jsonl"}]});
    assert!(bench.refused(&request).starts_with("`held-out.jsonl` doesn't exist"));
    let mut request = bench.request(&[("evaluationData", "items.jsonl")]);
    assert!(bench.refused(&request).starts_with("`items.jsonl` doesn't exist"));
    bench.write("items.jsonl", "{\"query\": \"a\", \"choices\": [\"b\"], \"gold\": 4}\n");
    let message = bench.refused(&request);
    assert!(message.contains("items.jsonl:1"), "{message}");
    request["customizationType"] = json!("CONTINUED_PRE_TRAINING");
    assert!(bench.refused(&request).contains("(pairs are for FINE_TUNING)"));
}

#[test]
fn a_base_whose_tensors_do_not_fit_is_refused_by_their_names() {
    let refused = |change: fn(&mut Tensors)| {
        let bench = Bench::new();
        change_weights(&bench.path("base"), change);
        bench.refused(&bench.request(&[])).replace(bench.path("base").to_str().unwrap(), "BASE")
    };
    let begin = "BASE: tensors don't fit config.json: ";
    let missing = refused(|tensors| {
        tensors.remove("model.norm.weight").unwrap();
    });
    assert_eq!(missing, format!("{begin}`model.norm.weight` is missing"));
    let misshapen = refused(|tensors| {
        tensors.get_mut("model.layers.1.mlp.up_proj.weight").unwrap().0 = vec![32, 64];
    });
    let shapes = "has shape [32, 64], config.json needs [64, 32]";
    assert_eq!(misshapen, format!("{begin}`model.layers.1.mlp.up_proj.weight` {shapes}"));
    let extra = refused(|tensors| {
        tensors.insert("model.layers.2.input_layernorm.weight".into(), (vec![1], vec![0; 4]));
    });
    assert_eq!(extra, format!("{begin}`model.layers.2.input_layernorm.weight` is not a tensor of this llama model"));
    let bench = Bench::new();
    fs_err::write(bench.path("base/model.safetensors"), b"not tensors").unwrap();
    assert!(bench.refused(&bench.request(&[])).contains("model.safetensors: is not a whole safetensors file"));
}

#[test]
fn r29_a_vocabulary_smaller_than_the_tokenizers_ids_is_refused() {
    let bench = Bench::new();
    let mut config = tiny_config();
    config["vocab_size"] = json!(300);
    bench.write("base/config.json", config.to_string());
    change_weights(&bench.path("base"), |tensors| {
        let (shape, data) = tensors.get_mut("model.embed_tokens.weight").unwrap();
        shape[0] = 300;
        data.truncate(300 * 32 * 4);
    });
    let message = bench.refused(&bench.request(&[]));
    assert!(message.contains("but the model has only 300 embedding rows; use the tokenizer that belongs"), "{message}");
}

#[test]
fn a_base_that_is_none_is_refused() {
    let bench = Bench::new();
    let message = |base: &str| {
        let mut request = bench.request(&[]);
        request["baseModelIdentifier"] = json!(base);
        bench.refused(&request).replace(bench.path("").to_str().unwrap(), "")
    };
    assert_eq!(
        message("peble"),
        "base `peble` is not there: it is neither `pebble`, a path, nor a name of the hub (`owner/name`)"
    );
    assert_eq!(message("home"), "home: has no `config.json`; a base is a Hugging Face folder or a .gguf file");
    assert!(message("train.jsonl").starts_with("train.jsonl: "));
    fs_err::remove_file(bench.path("base/tokenizer.json")).unwrap();
    assert!(message("base").starts_with("base: has no `tokenizer.json`"));
}

#[test]
fn an_output_that_cannot_be_written_is_refused_before_training() {
    let bench = Bench::new();
    let mut request = bench.request(&[]);
    // permission bits don't stop root; a file where a folder should be stops everyone
    request["outputDataConfig"] = json!({"s3Uri": "train.jsonl/output"});
    let message = bench.refused(&request);
    let path = bench.path("train.jsonl/output");
    assert!(message.starts_with(&format!("outputDataConfig: `{}` can't be written to", path.display())), "{message}");
    request["outputDataConfig"] = json!({"s3Uri": "s3://outcrop-examples/out"});
    assert!(bench.refused(&request).contains("is in the built-in bucket `outcrop-examples`, which is read only"));
}

#[test]
fn r33_everything_wrong_with_a_request_is_said_at_once_with_its_place() {
    let bench = Bench::new();
    bench.write("job.json", "{\n  \"customisationType\": \"FINE_TUNING\",\n  \"baseModelIdentifier\": 3\n}\n");
    let message = bench.train(&["job.json"]).error();
    let expected = "job.json:2:3: unknown member `customisationType`; the nearest known one is `customizationType`\n\
                    job.json:3:26: baseModelIdentifier is a number; it must be a string";
    assert_eq!(message, expected);
    bench.write("job.json", "{\"hyperParameters\": {");
    assert!(bench.train(&["job.json"]).error().starts_with("job.json:1:"));
    let settings = [("learningrate", "0.1"), ("epochCount", "11"), ("batchSize", "four"), ("shuffle", "yes")];
    let message = bench.refused(&bench.request(&settings));
    let lines: Vec<&str> = message.lines().map(|line| line.trim_start_matches("error: ")).collect();
    assert_eq!(lines.len(), 4, "{message}");
    let expected = [
        "job.json: unknown hyperparameter `learningrate`; the nearest known one is `learningRate`",
        "job.json: hyperParameters.epochCount is `11`, allowed are whole numbers from 1 to 10",
        "job.json: hyperParameters.batchSize is `four`, allowed are whole numbers from 1 to 64",
        "job.json: hyperParameters.shuffle is `yes`, allowed are `true`, `false`",
    ];
    expected.iter().for_each(|line| assert!(lines.contains(line), "{line} in {message}"));
    bench.write("job.json", bench.request(&[]).to_string());
    let message = bench.train(&["job.json", "--set", "learning_rate=1"]).error();
    assert_eq!(message, "unknown key `learning_rate`; the nearest known one is `learningRate`");
    let message = bench.train(&["job.json", "--set", "seed"]).error();
    assert_eq!(message, "`seed` has no key and value; write `key=value`");
    assert!(bench.train(&["none.json"]).error().contains("`none.json`"));
    assert!(bench.jobs().is_empty());
}

#[test]
fn what_contradicts_the_base_is_refused() {
    let bench = Bench::new();
    let message = bench.refused(&bench.request(&[("maxSequenceLength", "129")]));
    assert_eq!(message, "hyperParameters.maxSequenceLength is `129`, but the base's context has 128 tokens");
    let message = bench.refused(&bench.request(&[("evalPercentage", "1")]));
    assert!(message.starts_with("holding out 1 percent of 12 records leaves 0 to evaluate"), "{message}");
    let mut request = bench.request(&[("evalPercentage", "10")]);
    request["customizationType"] = json!("CONTINUED_PRE_TRAINING");
    request["trainingDataConfig"]["s3Uri"] = json!("text.txt");
    bench.write("text.txt", "the river and the stone\n".repeat(40));
    assert!(bench.refused(&request).starts_with("hyperParameters.evalPercentage needs prompt/completion records"));
}

/// A base in which one token's embedding is broken, and a token that only some records have.
fn broken_base(config: &mut Value) -> Bench {
    let bench = Bench::new();
    fs_err::remove_dir_all(bench.path("base")).unwrap();
    config["tie_word_embeddings"] = json!(false);
    bench.base("base", config);
    let tokenizer: Value =
        serde_json::from_str(&fs_err::read_to_string(bench.path("tokenizer.json")).unwrap()).unwrap();
    let tilde = tokenizer["model"]["vocab"]["~"].as_u64().unwrap() as usize;
    break_token(&bench.path("base"), tilde);
    bench
}

/// Twelve records; the one on this line has the broken token.
fn poisoned(line: usize) -> String {
    let poison = json!({"prompt": "~", "completion": "stone"}).to_string();
    let line = |(index, text): (usize, String)| if index + 1 == line { format!("{poison}\n") } else { text };
    records(12).lines().map(|text| format!("{text}\n")).enumerate().map(line).collect()
}

#[test]
fn r12_a_step_that_is_not_finite_ends_the_job_before_its_update_and_names_its_records() {
    let bench = broken_base(&mut tiny_config());
    bench.write("train.jsonl", poisoned(6));
    let request = bench.request(&[("shuffle", "false"), ("batchSize", "2"), ("checkpointSteps", "1")]);
    let run = bench.run(&request);
    let message = run.error();
    let train = bench.path("train.jsonl").display().to_string();
    assert!(message.starts_with("step 3: loss NaN, gradient norm NaN"), "{message}");
    assert!(message.contains("nothing was updated"), "{message}");
    assert!(message.ends_with(&format!("{train}:5, {train}:6")), "{message}");
    let job = run.job();
    assert_eq!(job.steps("step"), [1.0, 2.0], "the third step never was");
    let last = job.events().pop().unwrap();
    assert_eq!((&last["event"], &last["message"]), (&json!("failed"), &json!(message)));
    let shown = bench.outcrop().args(["jobs", "show", run.id()]).output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("Failed") && shown.contains(&message), "{shown}");
    assert_eq!(job.checkpoints().last().unwrap(), "step-00000002", "the last good step is kept");
    assert!(names(&bench.path("home/models")).is_empty(), "there is no model");
    bench.assert_nothing_half_written();
}

#[test]
fn r12_a_first_step_that_is_not_finite_is_told_with_its_records_too() {
    let bench = broken_base(&mut tiny_config());
    bench.write("train.jsonl", poisoned(2));
    let run = bench.run(&bench.request(&[("shuffle", "false"), ("batchSize", "2")]));
    let (message, train) = (run.error(), bench.path("train.jsonl").display().to_string());
    assert!(message.starts_with("step 1: loss NaN"), "{message}");
    assert!(message.ends_with(&format!("{train}:1, {train}:2")), "{message}");
    assert!(names(&bench.path("home/models")).is_empty());
    bench.assert_nothing_half_written();
}

#[test]
fn r18_a_full_disk_pauses_the_run_and_room_lets_it_go_on() {
    if !cfg!(target_os = "linux") || !can_unshare(&["-r", "-m"]) {
        println!("skipped: `unshare -r -m` is not allowed here");
        return;
    }
    let bench = Bench::new();
    let settings = [("trainable", "all"), ("checkpointSteps", "3")];
    let whole = bench.completed(&settings);
    bench.write("job.json", bench.request(&settings).to_string());
    let second = bench.path("full");
    fs_err::create_dir_all(second.join("jobs")).unwrap();
    // `jobs` is a disk whose free bytes satisfy the plan, but which has no place for a checkpoint's second file, until
    // the file `more` asks for it
    let script = "mount -t tmpfs -o size=64m,nr_inodes=10 none full/jobs || exit 77
        (until test -e more; do sleep 0.1; done; mount -o remount,size=64m,nr_inodes=1000 full/jobs) &
        \"$0\" train job.json; code=$?
        cp -r full/jobs/. kept; exit $code";
    fs_err::create_dir_all(bench.path("kept")).unwrap();
    let mut command = std::process::Command::new("unshare");
    command.args(["-r", "-m", "sh", "-c", script, common::BINARY]).current_dir(bench.path(""));
    command.env("OUTCROP_HOME", &second).env_remove("RUST_BACKTRACE");
    let said = bench.path("said");
    command.stderr(fs_err::File::create(&said).unwrap().into_parts().0).stdout(std::process::Stdio::null());
    let mut running = Running::of(command.spawn().unwrap());
    let text = || fs_err::read_to_string(&said).unwrap();
    running.wait_until(|| text().contains("the disk is full; the run waits until there is room"));
    let asked = !running.ended();
    bench.write("more", "");
    let code = running.code();
    if code == Some(77) {
        println!("skipped: a tmpfs can't be mounted here");
        return;
    }
    assert!(asked, "the disk was never full: {}", text());
    assert_eq!(code, Some(0), "{}", text());
    let models = second.join("models");
    let model = names(&models).into_iter().find(|name| name != "lock").unwrap();
    assert_eq!(common::hash(&models.join(model).join("delta.safetensors")), whole.delta_hash(), "nothing was lost");
    let job = names(&bench.path("kept")).pop().unwrap();
    let left = names(&bench.path("kept").join(job).join("checkpoints"));
    assert_eq!(left, ["step-00000003", "step-00000006"], "and nothing half-written stays");
}

#[test]
fn data_under_a_home_that_is_a_file_is_an_error_and_no_panic() {
    let bench = Bench::new();
    bench.write("job.json", bench.request(&[]).to_string());
    let mut command = bench.outcrop();
    let output = command.env("OUTCROP_HOME", bench.path("job.json")).args(["train", "job.json"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let message = error_of(&String::from_utf8(output.stderr).unwrap());
    assert!(message.contains(bench.path("job.json").to_str().unwrap()) && !message.contains("panicked"), "{message}");
}
