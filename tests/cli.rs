//! The commands beside `train`: help, settings, models, jobs, tokenizer, generate.
#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod common;

use common::{Bench, command, error_of, files, names, refused, repository, stdout, tiny_config};
use predicates::prelude::*;
use predicates::str::{contains, diff, is_empty, starts_with};
use safetensors::SafeTensors;
use serde_json::{Value, json};

/// A bench with a custom model `tuned`, its head trained hard.
fn tuned() -> Bench {
    let bench = Bench::new();
    let mut request = bench.request(&[("learningRate", "0.1"), ("epochCount", "4")]);
    request["jobName"] = json!("first-job");
    request["customModelName"] = json!("tuned");
    bench.run(&request).expect_success();
    bench
}

#[test]
fn help_names_every_command_and_every_command_has_help() {
    let folder = tempfile::tempdir().unwrap();
    let mut all = command(folder.path()).arg("--help").assert().success().stderr(is_empty());
    for verb in ["train", "generate", "models", "jobs", "tokenizer", "doctor", "settings"] {
        all = all.stdout(contains(format!("\n  {verb} ")));
        command(folder.path()).args([verb, "--help"]).assert().success().stdout(contains("Usage: outcrop"));
    }
    for option in ["--set <KEY=VALUE>", "--device <DEVICE>", "--resume <ID>"] {
        command(folder.path()).args(["train", "--help"]).assert().success().stdout(contains(option));
    }
    let version = format!("outcrop {}\n", env!("CARGO_PKG_VERSION"));
    command(folder.path()).arg("--version").assert().success().stdout(diff(version));
    assert!(names(folder.path()).is_empty(), "help writes nothing");
}

#[test]
fn wrong_arguments_exit_with_2_and_say_what_would_be_right() {
    let bench = Bench::new();
    let wrong = |arguments: &[&str], message: &str| {
        bench.outcrop().args(arguments).assert().code(2).stderr(contains(message.to_string()));
    };
    wrong(&[], "Usage: outcrop");
    wrong(&["trian", "job.json"], "unrecognized subcommand 'trian'");
    wrong(&["trian", "job.json"], "'train'");
    wrong(&["train"], "<REQUEST>");
    wrong(&["train", "job.json", "--resume", "abcdefghijk1"], "cannot be used with");
    wrong(&["models", "export", "base", "out", "--dtype", "int8"], "[possible values: f32, bf16, f16, q8_0]");
    wrong(&["models", "export", "base"], "<OUT>");
    wrong(&["models", "export", "base", "out", "--out", "other"], "cannot be used with");
    let generate = |option: &str, value: &str, message: &str| {
        wrong(&["generate", "--model", "base", "--prompt", "the", option, value], message);
    };
    generate("--temperature", "11", "allowed are numbers from 0 to 10");
    generate("--temperature", "NaN", "allowed are numbers from 0 to 10");
    generate("--temperature", "warm", "a number from 0 to 10 is expected");
    generate("--top-p", "0", "allowed are numbers over 0, at most 1");
    generate("--max-tokens", "0", "0 is not in 1..");
}

#[test]
fn settings_lists_every_key_with_its_default() {
    let folder = tempfile::tempdir().unwrap();
    let output = command(folder.path()).arg("settings").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    for key in outcrop_job::hyperparameters::table() {
        let line = text.lines().find(|line| line.split_whitespace().next() == Some(key.name));
        let line = line.unwrap_or_else(|| panic!("`{}` is not listed in\n{text}", key.name));
        assert!(line.contains(&key.default.to_string()) && line.contains(key.doc), "{line}");
    }
}

#[test]
fn models_are_listed_shown_and_deleted() {
    let bench = tuned();
    assert!(stdout(&bench, &["models", "list"]).contains("tuned"));
    let shown: Value = serde_json::from_str(&stdout(&bench, &["models", "show", "tuned"])).unwrap();
    assert_eq!((&shown["name"], &shown["jobName"]), (&json!("tuned"), &json!("first-job")));
    assert_eq!(shown["base"]["identifier"], "base");
    let id = shown["id"].as_str().unwrap();
    assert_eq!(stdout(&bench, &["models", "show", id]), stdout(&bench, &["models", "show", "tuned"]));
    let message = refused(&bench, &["models", "show", "tunde"]);
    assert_eq!(message, "there is no custom model `tunde`; the nearest name is `tuned`");
    assert_eq!(stdout(&bench, &["models", "delete", "tuned"]), format!("deleted model `tuned` ({id})\n"));
    assert!(!bench.path("home/models").join(id).exists());
    assert_eq!(refused(&bench, &["models", "delete", "tuned"]), "there is no custom model `tuned`; there are none yet");
    assert_eq!(bench.jobs().len(), 1, "the job stays");
    assert!(bench.path("base/model.safetensors").is_file(), "the base stays");
}

#[test]
fn an_alias_stands_for_a_base_until_it_is_taken_away() {
    let bench = Bench::new();
    let id = "amazon.titan-text-express-v1";
    let base = bench.path("base").canonicalize().unwrap();
    let set = stdout(&bench, &["models", "alias", id, "base"]);
    assert!(set.starts_with(&format!("`{id}` stands for `")) && set.contains("/base"), "{set}");
    assert!(stdout(&bench, &["models", "alias"]).contains(id));
    let mut request = bench.request(&[("maxSteps", "1")]);
    request["baseModelIdentifier"] = json!(id);
    let run = bench.run(&request).expect_success();
    let path = run.job().plan()["base"]["path"].as_str().unwrap().to_string();
    assert_eq!(std::path::Path::new(&path).canonicalize().unwrap(), base);
    assert!(run.stderr().contains(&format!("warning: `{id}` is an alias here")), "{}", run.stderr());
    stdout(&bench, &["models", "alias", id, "--remove"]);
    assert!(!stdout(&bench, &["models", "alias"]).contains(id));
    assert_eq!(refused(&bench, &["models", "alias", id, "--remove"]), format!("`{id}` has no entry"));
    let message = refused(&bench, &["models", "alias", "My Model", "base"]);
    assert!(message.contains("it has the form `provider.model`"), "{message}");
    assert!(refused(&bench, &["models", "alias", id, "nowhere"]).contains("is not there"));
}

#[test]
fn a_taken_model_name_is_refused_before_training() {
    let bench = tuned();
    let mut request = bench.request(&[]);
    request["customModelName"] = json!("tuned");
    let message = bench.refused(&request);
    let hint = "choose another customModelName or delete that model";
    assert_eq!(message, format!("a custom model named `tuned` exists already; {hint}"));
}

#[cfg(unix)]
#[test]
fn a_name_taken_during_training_costs_nothing() {
    let bench = Bench::new();
    let mut request = bench.request(&[("batchSize", "1"), ("epochCount", "10"), ("checkpointSteps", "1")]);
    request["customModelName"] = json!("same");
    bench.write("slow.json", request.to_string());
    let mut slow = bench.start(&["slow.json"]);
    slow.wait_until(|| bench.jobs().first().is_some_and(|id| !bench.job(id).steps("step").is_empty()));
    slow.signal("STOP");
    let mut request = bench.request(&[]);
    request["customModelName"] = json!("same");
    bench.run(&request).expect_success();
    slow.signal("CONT");
    let (code, stderr) = slow.end();
    assert_eq!(code, Some(0), "{stderr}");
    assert!(
        stderr.contains("warning: another job made a model named `same` meanwhile; this one is `same-"),
        "{stderr}"
    );
    assert_eq!(names(&bench.path("home/models")).len(), 3, "two models and the lock");
}

#[test]
fn jobs_of_one_second_get_names_of_their_own() {
    let bench = Bench::new();
    // both may fall into one second or not; many in a row can't all miss it
    for _ in 0..6 {
        bench.completed(&[("maxSteps", "1")]);
    }
    assert_eq!(stdout(&bench, &["models", "list"]).lines().count(), 7, "a header and six models");
}

#[test]
fn jobs_are_listed_and_shown() {
    let bench = Bench::new();
    assert!(stdout(&bench, &["jobs", "list"]).contains("status"), "a table without rows");
    let run = bench.completed(&[]);
    let list = stdout(&bench, &["jobs", "list"]);
    let line = list.lines().find(|line| line.contains(run.id())).unwrap();
    assert!(line.contains("Completed") && line.contains("6/6 steps"), "{line}");
    let shown = stdout(&bench, &["jobs", "show", run.id()]);
    for part in ["Completed", "6/6 steps", "12 records", run.job().folder.to_str().unwrap()] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    let name = run.job().plan()["jobName"].as_str().unwrap().to_string();
    assert_eq!(stdout(&bench, &["jobs", "show", &name]), shown, "by its name too");
    for unknown in ["../models", "abcdefghijk1"] {
        let message = refused(&bench, &["jobs", "show", unknown]);
        assert_eq!(message, format!("there is no job `{unknown}`; `outcrop jobs list` names them"));
    }
    let logs = stdout(&bench, &["jobs", "logs", run.id()]);
    assert!(logs.lines().count() > 6 && logs.contains("step 6: loss ") && logs.contains("completed: "), "{logs}");
    let message = refused(&bench, &["jobs", "stop", run.id()]);
    assert_eq!(message, format!("job `{}` is Completed; there is nothing to stop", run.id()));
}

#[test]
fn init_is_seeded_and_refuses_what_does_not_fit() {
    let bench = Bench::new();
    let init = |folder: &str, seed: &str| {
        let mut arguments = vec!["models", "init", folder, "--config", "config.json"];
        arguments.extend(["--tokenizer", "tokenizer.json", "--seed", seed]);
        bench.outcrop().args(arguments).assert()
    };
    init("same", "0").success().stdout(diff("same\n"));
    init("other", "1").success();
    let weights = |folder: &str| common::hash(&bench.path(folder).join("model.safetensors"));
    assert_eq!(weights("base"), weights("same"));
    assert_ne!(weights("base"), weights("other"));
    init("same", "0").code(1).stderr(diff("error: same: exists already; choose another folder\n"));
    let mut config = tiny_config();
    config["vocab_size"] = json!(400);
    bench.write("config.json", config.to_string());
    let message = "has ids up to 511, but config.json's vocab_size is 400";
    init("small", "0").code(1).stderr(contains(message)); // R29
    config["vocab_size"] = json!("many");
    bench.write("config.json", config.to_string());
    init("small", "0").code(1).stderr(contains("`vocab_size` is `\"many\"`, expected a positive whole number"));
    bench.write("config.json", "{");
    init("small", "0").code(1).stderr(contains("config.json: EOF while parsing an object at line 1 column 1"));
    assert!(!bench.path("small").exists());
}

#[test]
fn tokenizer_train_refuses_what_it_cannot_do() {
    let bench = Bench::new();
    let train = |arguments: &[&str]| refused(&bench, &[&["tokenizer", "train"], arguments].concat());
    let message = train(&["train.jsonl", "--vocab-size", "257", "--output", "new.json"]);
    assert_eq!(message, "--vocab-size is 257, it must be over 257: 256 bytes and the end token");
    let message = train(&["train.jsonl", "--output", "tokenizer.json"]);
    assert_eq!(message, "`tokenizer.json` exists already; choose another file");
    assert!(train(&["none.txt", "--output", "new.json"]).contains("`none.txt`"));
    assert!(!bench.path("new.json").exists());
}

#[test]
fn import_offline_says_so_and_a_name_that_was_never_fetched_is_explained() {
    let bench = Bench::new();
    let import = |name: &str| bench.outcrop().env("HF_HUB_OFFLINE", "1").args(["models", "import", name]).assert();
    let message = "error: `owner/name` can't be fetched: HF_HUB_OFFLINE is 1\n";
    import("owner/name").code(1).stderr(diff(message));
    import("name").code(1).stderr(contains("the hub's names look like `owner/name`"));
    let mut request = bench.request(&[]);
    request["baseModelIdentifier"] = json!("owner/name");
    let message = bench.refused(&request); // R36: nothing is fetched by itself
    let hint = "`outcrop models import owner/name` fetches it";
    assert_eq!(message, format!("base `owner/name` is neither a path nor in the hub's cache; {hint}"));
}

#[test]
fn a_device_that_this_binary_lacks_says_how_to_get_it() {
    let bench = Bench::new();
    let message = refused(&bench, &["generate", "--model", "base", "--prompt", "the", "--device", "tpu"]);
    assert_eq!(message, "device `tpu` is unknown, use `cpu`, `cuda:0` or `metal`");
    if cfg!(feature = "cuda") {
        return;
    }
    let expected = "device `cuda:0`: this binary was built without CUDA, build it with `--features cuda`";
    let message = refused(&bench, &["generate", "--model", "base", "--prompt", "the", "--device", "cuda:0"]);
    assert_eq!(message, expected);
    bench.write("job.json", bench.request(&[]).to_string());
    let run = bench.train(&["job.json", "--device", "cuda:0"]);
    assert_eq!((run.error(), run.job), (expected.to_string(), None));
}

#[test]
fn generate_repeats_itself_where_it_should_and_only_there() {
    let bench = tuned();
    let generate = |model: &str, more: &[&str]| {
        let arguments = ["generate", "--model", model, "--prompt", "line 3: the river", "--max-tokens", "24"];
        stdout(&bench, &[&arguments, more].concat())
    };
    let greedy = generate("tuned", &[]);
    assert_eq!(generate("tuned", &[]), greedy);
    assert_eq!(generate("tuned", &["--seed", "7"]), greedy, "the likeliest token needs no seed");
    assert_ne!(generate("base", &[]), greedy, "training shows");
    let warm = |seed: &str| generate("base", &["--temperature", "1", "--seed", seed]);
    assert_eq!(warm("1"), warm("1"));
    assert_ne!(warm("1"), warm("2"));
    let nucleus = generate("base", &["--temperature", "1", "--seed", "1", "--top-p", "1e-9"]);
    assert_eq!(nucleus, generate("base", &[]), "a nucleus of one token is greedy");
}

#[test]
fn generate_says_what_is_wrong() {
    let bench = tuned();
    let generate = |model: &str, prompt: &str| refused(&bench, &["generate", "--model", model, "--prompt", prompt]);
    let message = generate("base", "");
    assert_eq!(message, "--prompt is empty and the tokenizer begins no text by itself; give a prompt");
    assert_eq!(generate("tunde", "the"), "there is no custom model `tunde`; the nearest name is `tuned`");
    let message = generate("base", &"river ".repeat(200));
    assert!(message.contains("128"), "{message}");
    // what a custom model stands on is checked when it is used
    let delta = files(&bench.path("home/models")).into_iter().find(|file| file.ends_with("delta.safetensors")).unwrap();
    let mut bytes = fs_err::read(&delta).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs_err::write(&delta, bytes).unwrap();
    assert_eq!(
        generate("tuned", "the"),
        format!("`{}` is damaged: its hash is not the one in model.json", delta.display())
    );
    bench.write("base/generation_config.json", "{}");
    assert!(generate("tuned", "the").ends_with("has changed since it was trained; put the former files back"));
    fs_err::remove_dir_all(bench.path("base")).unwrap();
    assert!(generate("tuned", "the").starts_with("the base of model `tuned`"));
}

#[test]
fn r28_a_trained_tied_head_is_exported_untied_and_the_embedding_stays() {
    let bench = tuned();
    let text = stdout(&bench, &["models", "export", "tuned", "exported"]);
    assert!(text.starts_with("exported\n") && text.contains("3 prompts"), "{text}");
    let config: Value =
        serde_json::from_str(&fs_err::read_to_string(bench.path("exported/config.json")).unwrap()).unwrap();
    assert_eq!(config["tie_word_embeddings"], json!(false));
    let base = fs_err::read(bench.path("base/model.safetensors")).unwrap();
    let exported = fs_err::read(bench.path("exported/model.safetensors")).unwrap();
    let (base, exported) = (SafeTensors::deserialize(&base).unwrap(), SafeTensors::deserialize(&exported).unwrap());
    assert!(base.tensor("lm_head.weight").is_err(), "the base is tied");
    for (name, tensor) in base.tensors() {
        assert_eq!(exported.tensor(&name).unwrap().data(), tensor.data(), "{name} is frozen");
    }
    let head = exported.tensor("lm_head.weight").unwrap();
    assert_ne!(head.data(), base.tensor("model.embed_tokens.weight").unwrap().data(), "the head has trained");
    // R29: the tokenizer goes along byte for byte
    assert_eq!(common::hash(&bench.path("exported/tokenizer.json")), common::hash(&bench.path("tokenizer.json")));
    // R31: the folder is the model
    let generate = |model| stdout(&bench, &["generate", "--model", model, "--prompt", "line 3: the river"]);
    assert_eq!(generate("exported"), generate("tuned"));
    assert_ne!(generate("exported"), generate("base"));
    let message = refused(&bench, &["models", "export", "tuned", "exported"]);
    assert_eq!(message, "exported: exists already; choose another folder");
}

#[test]
fn r30_an_export_in_16_bits_is_half_the_size_and_says_what_it_lost() {
    let bench = tuned();
    let text = stdout(&bench, &["models", "export", "tuned", "half", "--dtype", "bf16"]);
    assert!(text.contains("logits differ by at most"), "{text}");
    let bytes = fs_err::read(bench.path("half/model.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    assert!(tensors.tensors().iter().all(|(_, tensor)| tensor.dtype() == safetensors::Dtype::BF16));
    let config: Value = serde_json::from_str(&fs_err::read_to_string(bench.path("half/config.json")).unwrap()).unwrap();
    assert_eq!(config["dtype"], "bfloat16");
}

#[test]
fn r30_r34_an_export_as_gguf_is_the_model_and_smaller_in_fewer_bits() {
    let bench = Bench::new();
    let export = |arguments: &[&str]| stdout(&bench, &[&["models", "export", "pebble"], arguments].concat());
    let exact = export(&["--format", "gguf", "--out", "wide.gguf"]);
    assert!(
        exact.starts_with("wide.gguf\nread back and compared on 3 prompts: logits differ by at most 0.0e0\n"),
        "{exact}"
    );
    let rounded = export(&["narrow.gguf", "--format", "gguf", "--dtype", "q8_0"]);
    assert!(rounded.contains("% of the values are rounded to 8 bits"), "{rounded}");
    let size = |file| fs_err::metadata(bench.path(file)).unwrap().len();
    assert!(size("wide.gguf") > 3 * size("narrow.gguf"));
    let generate =
        |model| stdout(&bench, &["generate", "--model", model, "--prompt", "The weather", "--max-tokens", "20"]);
    assert_eq!(generate("wide.gguf"), generate("pebble"));
    let message = refused(&bench, &["models", "export", "pebble", "wide.gguf", "--format", "gguf"]);
    assert_eq!(message, "wide.gguf: exists already; choose another name");
    for arguments in [["other.gguf", "--format", "hf"], ["other", "--format", "gguf"]] {
        let message = refused(&bench, &[&["models", "export", "pebble"], &arguments[..]].concat());
        assert!(message.ends_with("a name that ends in `.gguf` and --format gguf belong together"), "{message}");
    }
    let message = refused(&bench, &["models", "export", "pebble", "folder", "--dtype", "q8_0"]);
    assert_eq!(message, "--dtype q8_0 is a type of GGUF files; add --format gguf");
}

#[test]
fn a_custom_model_is_no_base_and_the_message_says_how_it_becomes_one() {
    let bench = tuned();
    let mut request = bench.request(&[]);
    request["baseModelIdentifier"] = json!("tuned");
    let message = bench.refused(&request);
    assert!(
        message.starts_with("`tuned` is a custom model; export it (`outcrop models export tuned FOLDER`)"),
        "{message}"
    );
    request["baseModelIdentifier"] = json!("exported");
    stdout(&bench, &["models", "export", "tuned", "exported"]);
    bench.run(&request).expect_success();
}

#[test]
fn a_closed_pipe_is_no_error() {
    let bench = Bench::new();
    let script = format!("{} settings | true", common::BINARY);
    let mut shell = assert_cmd::Command::new("sh");
    shell.args(["-c", &script]).env("OUTCROP_HOME", bench.path("home"));
    shell.assert().success().stderr(is_empty());
}

#[test]
fn the_home_folder_is_checked() {
    let bench = Bench::new();
    let settings = || bench.outcrop().args(["models", "list"]).assert();
    settings().success();
    let mut empty = bench.outcrop();
    let message = "error: `OUTCROP_HOME` is empty; set it to a folder or unset it\n";
    empty.env("OUTCROP_HOME", "").args(["models", "list"]).assert().code(1).stderr(diff(message));
    // permission bits don't stop root, a file in the way stops everyone
    let mut file = bench.outcrop();
    let home = bench.path("train.jsonl").join("home");
    let file = file.env("OUTCROP_HOME", &home).args(["models", "list"]).assert().code(1);
    file.stderr(starts_with("error: ").and(contains(bench.path("train.jsonl").to_str().unwrap())));
    assert!(repository().join("datasets").is_dir());
}

#[test]
fn doctor_finds_every_op_right_on_the_cpu_and_says_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let output = command(folder.path()).args(["doctor", "--json"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(report["threads"].as_u64().unwrap() > 0 && !report["instructionSet"].as_str().unwrap().is_empty());
    let devices = report["devices"].as_array().unwrap();
    let device = |name: &str| devices.iter().find(|device| device["name"] == name).unwrap();
    for (name, feature) in [("cuda:0", "--features cuda"), ("metal", "--features metal")] {
        if device(name)["available"] == false && device(name)["problem"].as_str().unwrap().contains("built without") {
            assert!(device(name)["problem"].as_str().unwrap().contains(feature), "{}", device(name));
        }
    }
    let cpu = device("cpu");
    assert_eq!(cpu["available"], true);
    assert!(cpu["limits"][0]["copyBytesPerSecond"].as_f64().unwrap() > 1e8);
    assert!(cpu["limits"][0]["productFlopsPerSecond"].as_f64().unwrap() > 1e8);
    let ops = cpu["ops"].as_array().unwrap();
    let names: Vec<&str> = ops.iter().map(|op| op["op"].as_str().unwrap()).collect();
    for name in
        ["linear", "attention", "head_loss", "layer_norm", "rms_norm", "rope", "gated_mlp", "gelu", "adamw", "lion"]
    {
        assert!(names.contains(&name), "{names:?}");
    }
    for op in ops {
        assert_eq!(op["failures"], json!([]), "{op}");
        for (dtype, allowed) in report["tolerances"].as_object().unwrap() {
            let found = op["largestDifference"][dtype]["forward"].as_f64().unwrap();
            assert!(found <= allowed.as_f64().unwrap(), "{op}");
        }
        let timed = cpu["timings"].as_array().unwrap().iter().filter(|timing| timing["op"] == op["op"]);
        assert!(timed.inspect(|t| assert!(t["forward"]["seconds"].as_f64().unwrap() > 0.0, "{t}")).count() > 0, "{op}");
    }
    let linear = ops.iter().find(|op| op["op"] == "linear").unwrap();
    assert_eq!((&linear["forwardKernel"], &linear["backwardKernel"]), (&json!("fused"), &json!("fused")));
    assert!(common::names(folder.path()).is_empty(), "doctor writes nothing");
}

#[test]
fn doctor_shows_tables_of_80_columns_and_refuses_a_device_that_is_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let output = command(folder.path()).args(["doctor", "--device", "cpu"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    for part in ["GFLOP/s", "Largest difference from the reference", "head_loss", "fused", "Median milliseconds"] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
    for line in text.lines() {
        assert!(line.chars().count() <= 80, "{} columns: {line}", line.chars().count());
    }
    let refusal = command(folder.path()).args(["doctor", "--device", "tpu"]).output().unwrap();
    assert_eq!(refusal.status.code(), Some(1));
    let message = error_of(&String::from_utf8(refusal.stderr).unwrap());
    assert_eq!(message, "device `tpu` is unknown, use `cpu`, `cuda:0` or `metal`");
}
