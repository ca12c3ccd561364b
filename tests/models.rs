//! `outcrop models` beyond the store: bases imported under an id, wherever a base is named, and folders as `export` writes them.
#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod common;

use common::{Bench, hash, names, refused, stdout};
use serde_json::{Value, json};
use std::path::Path;

const ID: &str = "local.base-v1:0";
const SONNET: &str = "anthropic.claude-3-sonnet-20240229-v1:0";

fn json_of(path: &Path) -> Value {
    serde_json::from_str(&fs_err::read_to_string(path).unwrap()).unwrap()
}

/// A bench whose base is imported.
fn imported() -> Bench {
    let bench = Bench::new();
    let said = stdout(&bench, &["models", "import", "base"]);
    assert!(said.contains("not copied: keep them there") && said.contains(ID), "{said}");
    bench
}

/// A bench with a custom model `tuned` on the imported base.
fn tuned() -> Bench {
    let bench = imported();
    let mut request = bench.request(&[("maxSteps", "2"), ("evaluationData", "train.jsonl")]);
    request["baseModelIdentifier"] = json!(ID);
    request["customModelName"] = json!("tuned");
    let plan = bench.run(&request).expect_success().job().plan();
    assert_eq!(plan["base"]["identifier"], ID);
    bench
}

fn generate(bench: &Bench, model: &str) -> String {
    stdout(bench, &["generate", "--model", model, "--prompt", "line 3: the river", "--max-tokens", "12"])
}

#[test]
fn an_imported_base_is_used_wherever_a_base_is_named() {
    let bench = tuned();
    assert_eq!(generate(&bench, ID), generate(&bench, "base"));
    let arn = format!("arn:aws:bedrock:us-east-1::foundation-model/{ID}");
    assert_eq!(generate(&bench, &arn), generate(&bench, "base"));
    assert_eq!(names(&bench.path("home")).iter().filter(|name| name.starts_with("bases")).count(), 2, "table and lock");
    let mut request = bench.request(&[]);
    request["baseModelIdentifier"] = json!(arn);
    bench.write("plan.json", request.to_string());
    assert!(stdout(&bench, &["plan", "plan.json"]).contains("llama"));
    request["baseModelIdentifier"] = json!(ID);
    request["hyperParameters"]["maxSteps"] = json!("1");
    request["hyperParameters"]["learningRate"] = json!(["0.01", "0.02"]);
    request["validationDataConfig"] = json!({"validators": [{"s3Uri": "train.jsonl"}]});
    bench.write("sweep.json", request.to_string());
    assert!(stdout(&bench, &["sweep", "sweep.json"]).contains(ID));
    let suite = ["--suite", "train.jsonl", "--general", "none"];
    let eval = stdout(&bench, &[&["eval", "--base", ID, "--model", "tuned"], &suite[..]].concat());
    assert!(eval.contains("task: "), "{eval}");
    stdout(&bench, &["data", "prepare", "train.jsonl", "--base", ID]);
    let list = stdout(&bench, &["models", "list"]);
    assert!(list.contains("tuned") && list.contains("imported base") && list.contains(ID), "{list}");
    let shown: Value = serde_json::from_str(&stdout(&bench, &["models", "show", ID])).unwrap();
    assert_eq!((&shown["id"], &shown["source"], &shown["family"]), (&json!(ID), &json!("base"), &json!("llama")));
    let plan = bench.job(&bench.jobs()[0]).plan();
    assert_eq!(shown["hash"], plan["base"]["hash"], "one hash everywhere");
    let weights = shown["files"].as_array().unwrap().iter().find(|file| file["name"] == "model.safetensors").unwrap();
    assert_eq!(weights["hash"], hash(&bench.path("base/model.safetensors")));
}

#[test]
fn an_alias_may_stand_for_an_imported_base() {
    let bench = imported();
    let said = stdout(&bench, &["models", "alias", &format!("{SONNET}={ID}")]);
    assert_eq!(said, format!("`{SONNET}` stands for `{ID}`\n"));
    assert_eq!(generate(&bench, SONNET), generate(&bench, "base"));
    let shown: Value = serde_json::from_str(&stdout(&bench, &["models", "show", SONNET])).unwrap();
    assert_eq!((&shown["id"], &shown["aliases"]), (&json!(ID), &json!([SONNET])));
    let mut request = bench.request(&[("maxSteps", "1")]);
    request["baseModelIdentifier"] = json!(SONNET);
    let run = bench.run(&request).expect_success();
    let warning = format!("warning: `{SONNET}` is an alias here: the job trains `{ID}` on this machine");
    assert!(run.stderr().contains(&warning), "{}", run.stderr());
    // an alias of an alias is one of what that stands for
    let said = stdout(&bench, &["models", "alias", "amazon.titan-text-lite-v1", SONNET]);
    assert_eq!(said, format!("`amazon.titan-text-lite-v1` stands for `{ID}`\n"));
    assert_eq!(generate(&bench, "amazon.titan-text-lite-v1"), generate(&bench, "base"));
    let message = refused(&bench, &["models", "alias", "amazon.titan-text-express-v1=local.bsae-v1:0"]);
    assert_eq!(message, format!("there is no imported base `local.bsae-v1:0`; the nearest id is `{ID}`"));
    let message = refused(&bench, &["models", "alias", "amazon.titan-text-express-v1="]);
    assert_eq!(message, "name the base that `amazon.titan-text-express-v1` stands for, or --remove");
    let message = refused(&bench, &["models", "alias", ID, "base"]);
    assert!(message.starts_with(&format!("`{ID}` is an imported base and stands for itself")), "{message}");
}

#[test]
fn what_can_not_be_imported_says_why() {
    let bench = imported();
    let import = |arguments: &[&str]| refused(&bench, &[&["models", "import"], arguments].concat());
    for id in ["base", "Local.base", "local.Base-v1:0", "local.b", "anthropic.claude-v2", "local.a_b", "../x"] {
        let message = import(&["base", "--id", id]);
        assert!(message.starts_with(&format!("`{id}` can't be the id of an imported base")), "{message}");
    }
    let copy = |name: &str| {
        for file in names(&bench.path("base")) {
            bench.write(&format!("{name}/{file}"), fs_err::read(bench.path("base").join(file)).unwrap());
        }
    };
    copy("deep/base");
    let message = import(&["deep/base"]);
    assert!(message.starts_with(&format!("`{ID}` is imported already, from `")), "{message}");
    stdout(&bench, &["models", "import", "deep/base", "--id", "local.deep-v1:0"]);
    stdout(&bench, &["models", "alias", "local.small", "base"]);
    let message = import(&["base", "--id", "local.small"]);
    assert!(message.starts_with("`local.small` is an alias of `"), "{message}");
    // what is no base
    let message = import(&["nowhere"]);
    assert!(message.starts_with("`nowhere` is neither a folder nor a GGUF file that exists"), "{message}");
    fs_err::create_dir(bench.path("empty")).unwrap();
    assert!(import(&["empty"]).contains("has no `config.json`"));
    assert!(import(&["train.jsonl"]).contains("is not a readable GGUF file"));
    bench.write("bad/config.json", json!({"model_type": "unheard"}).to_string());
    assert!(import(&["bad"]).contains("unheard"));
    copy("cut");
    let bytes = fs_err::read(bench.path("cut/model.safetensors")).unwrap();
    fs_err::write(bench.path("cut/model.safetensors"), &bytes[..bytes.len() - 1]).unwrap();
    let message = import(&["cut"]);
    assert!(message.contains("cut/model.safetensors"), "{message}");
    copy("other");
    let mut config = common::tiny_config();
    config["num_hidden_layers"] = json!(3);
    bench.write("other/config.json", config.to_string());
    assert!(import(&["other"]).contains("tensors don't fit config.json"));
    copy("dumb");
    fs_err::remove_file(bench.path("dumb/tokenizer.json")).unwrap();
    assert!(import(&["dumb"]).contains("has no `tokenizer.json`"));
    let list = stdout(&bench, &["models", "list"]);
    assert_eq!(list.matches("local.").count(), 2, "{list}");
}

#[test]
fn a_base_that_changed_since_it_was_imported_names_the_file() {
    let bench = imported();
    let wrong = |file: &str, what: &str| {
        let path = if file.is_empty() { bench.path("base") } else { bench.path("base").join(file) };
        let expected = format!("base `{ID}`: `{}` {what} since it was imported; ", path.display());
        let message = refused(&bench, &["generate", "--model", ID, "--prompt", "the"]);
        assert!(message.starts_with(&expected), "{message}\n{expected}");
        let mut request = bench.request(&[]);
        request["baseModelIdentifier"] = json!(ID);
        assert!(bench.refused(&request).starts_with(&expected));
        let eval = ["eval", "--base", ID, "--model", ID, "--suite", "train.jsonl", "--general", "none"];
        assert!(refused(&bench, &eval).starts_with(&expected));
    };
    bench.write("base/generation_config.json", "{}");
    wrong("generation_config.json", "is new");
    fs_err::remove_file(bench.path("base/generation_config.json")).unwrap();
    generate(&bench, ID);
    let bytes = fs_err::read(bench.path("base/config.json")).unwrap();
    bench.write("base/config.json", [&bytes[..], b" "].concat());
    wrong("config.json", "has changed");
    bench.write("base/config.json", bytes); // the same content at another time
    generate(&bench, ID);
    fs_err::remove_file(bench.path("base/tokenizer.json")).unwrap();
    wrong("tokenizer.json", "is missing");
    fs_err::remove_dir_all(bench.path("base")).unwrap();
    wrong("", "isn't there any more, or can't be read,");
}

#[test]
fn a_gguf_file_is_imported_and_is_one_file() {
    let bench = Bench::new();
    stdout(&bench, &["models", "export", "pebble", "Pebble.Q8_0.gguf", "--format", "gguf", "--dtype", "q8_0"]);
    let said = stdout(&bench, &["models", "import", "Pebble.Q8_0.gguf"]);
    assert!(said.contains("in 1 file,") && said.contains("local.pebble-q8-0-v1:0"), "{said}");
    assert_eq!(generate(&bench, "local.pebble-q8-0-v1:0"), generate(&bench, "Pebble.Q8_0.gguf"));
    let mut bytes = fs_err::read(bench.path("Pebble.Q8_0.gguf")).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    bench.write("Pebble.Q8_0.gguf", bytes);
    let message = refused(&bench, &["generate", "--model", "local.pebble-q8-0-v1:0", "--prompt", "the"]);
    assert!(message.contains("Pebble.Q8_0.gguf` has changed since it was imported"), "{message}");
}

#[test]
fn an_id_goes_away_when_nothing_needs_it_and_its_files_stay() {
    let bench = tuned();
    stdout(&bench, &["models", "alias", SONNET, ID]);
    let message = refused(&bench, &["models", "delete", ID]);
    assert_eq!(
        message,
        format!("`{ID}` is what `{SONNET}` stands for; `outcrop models alias {SONNET} --remove` first")
    );
    stdout(&bench, &["models", "alias", SONNET, "--remove"]);
    let said = stdout(&bench, &["models", "delete", ID]);
    assert!(said.starts_with(&format!("took `{ID}` away; its files stay at `")), "{said}");
    assert!(said.ends_with("\n1 custom model of it still reads these files\n"), "{said}");
    assert!(bench.path("base/model.safetensors").is_file());
    generate(&bench, "tuned");
    let message = refused(&bench, &["generate", "--model", ID, "--prompt", "the"]);
    assert_eq!(message, format!("there is no imported base `{ID}`; there are none yet"));
    for verb in ["show", "delete"] {
        assert_eq!(refused(&bench, &["models", verb, ID]), message);
    }
    assert!(!stdout(&bench, &["models", "list"]).contains("imported base"));
    stdout(&bench, &["models", "import", "base"]);
    generate(&bench, ID);
}

#[cfg(unix)]
#[test]
fn the_service_knows_an_imported_base_and_a_running_job_keeps_it() {
    use common::service::{Service, request, wait};
    let bench = imported();
    bench.write("home/s3/bucket/train.jsonl", common::records(12));
    bench.write("home/s3/bucket/long.jsonl", common::records(12).repeat(40));
    stdout(&bench, &["models", "alias", SONNET, ID]);
    let service = Service::start(&bench, &[]);
    let details =
        |id: &str| service.get(&format!("/foundation-models/{}", id.replace(':', "%3A")))["modelDetails"].clone();
    let own = details(ID);
    assert_eq!(
        (&own["modelId"], &own["modelName"], &own["providerName"]),
        (&json!(ID), &json!("base"), &json!("Local"))
    );
    assert_eq!((&own["outcrop"]["isAlias"], &own["outcrop"]["note"]), (&json!(false), &Value::Null));
    let alias = details(SONNET);
    assert_eq!((&alias["modelName"], &alias["outcrop"]["base"]), (&json!("alias of base"), &json!(ID)));
    assert_eq!(alias["outcrop"]["hash"], own["outcrop"]["hash"]);
    let all = service.get("/foundation-models")["modelSummaries"].clone();
    assert_eq!(all.as_array().unwrap().iter().filter(|model| model["modelId"] == ID).count(), 1);
    // the runtime
    let body =
        json!({"inputText": "line 3: the river", "textGenerationConfig": {"temperature": 0, "maxTokenCount": 12}});
    let (status, answer) = service.send("POST", &format!("/model/{}/invoke", ID.replace(':', "%3A")), Some(&body));
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["results"][0]["outputText"].as_str().unwrap(), generate(&bench, ID).trim_end_matches('\n'));
    let body = json!({"messages": [{"role": "user", "content": [{"text": "line 3: the river"}]}],
        "inferenceConfig": {"temperature": 0, "maxTokens": 12}});
    let (status, said) = service.send("POST", &format!("/model/{}/converse", SONNET.replace(':', "%3A")), Some(&body));
    assert_eq!(status, 200, "{said}");
    assert_eq!(said["output"]["message"]["content"][0]["text"], answer["results"][0]["outputText"]);
    // a job on it
    let mut job = request("long");
    job["baseModelIdentifier"] = json!(ID);
    job["trainingDataConfig"]["s3Uri"] = json!("s3://bucket/long.jsonl");
    job["hyperParameters"]["epochCount"] = json!("10");
    let job = service.create(&job);
    stdout(&bench, &["models", "alias", SONNET, "--remove"]);
    let message = refused(&bench, &["models", "delete", ID]);
    assert!(message.starts_with(&format!("job {job} runs on `{ID}`; wait for it")), "{message}");
    wait(|| (!bench.job(&job).events_of("step").is_empty()).then_some(()));
    service.stop("long");
    assert_eq!(service.ended("long")["status"], "Stopped");
    let said = stdout(&bench, &["models", "delete", ID]);
    assert!(said.ends_with("\n1 unfinished job can be resumed only once it is imported again\n"), "{said}");
    let (status, _) = service.send("GET", &format!("/foundation-models/{}", ID.replace(':', "%3A")), None);
    assert_eq!(status, 404);
}

#[test]
fn r30_a_folder_is_sharded_over_a_size_and_is_the_same_model() {
    let bench = tuned();
    let whole = stdout(&bench, &["models", "export", "tuned", "whole"]);
    assert!(!whole.contains("weight files"), "{whole}");
    let said = stdout(&bench, &["models", "export", "tuned", "sharded", "--max-shard-size", "50KB"]);
    let shards: Vec<String> =
        names(&bench.path("sharded")).into_iter().filter(|name| name.ends_with(".safetensors")).collect();
    assert!(shards.len() > 2 && said.contains(&format!("{} weight files", shards.len())), "{shards:?} {said}");
    assert_eq!(shards[0], format!("model-00001-of-{:05}.safetensors", shards.len()));
    let index = json_of(&bench.path("sharded/model.safetensors.index.json"));
    let (mut bytes, mut parameters) = (0, 0);
    for shard in &shards {
        let content = fs_err::read(bench.path("sharded").join(shard)).unwrap();
        let tensors = safetensors::SafeTensors::deserialize(&content).unwrap();
        let of_shard: usize = tensors.tensors().iter().map(|(_, tensor)| tensor.data().len()).sum();
        assert!(of_shard <= 50_000 || tensors.len() == 1, "{shard} has {of_shard} bytes of {} tensors", tensors.len());
        (bytes, parameters) = (bytes + of_shard, parameters + of_shard / 4);
        assert!(tensors.names().iter().all(|name| index["weight_map"][*name] == shard.as_str()));
    }
    assert_eq!(index["metadata"], json!({"total_parameters": parameters, "total_size": bytes}));
    for model in ["whole", "sharded"] {
        assert_eq!(generate(&bench, model), generate(&bench, "tuned"), "{model}");
    }
    // the same again, and a missing shard is named
    stdout(&bench, &["models", "export", "sharded", "again", "--max-shard-size", "50KB"]);
    for shard in &shards {
        assert_eq!(hash(&bench.path("again").join(shard)), hash(&bench.path("sharded").join(shard)), "{shard}");
    }
    fs_err::remove_file(bench.path("sharded").join(&shards[1])).unwrap();
    let message = refused(&bench, &["generate", "--model", "sharded", "--prompt", "the"]);
    assert!(message.contains(&shards[1]), "{message}");
    let wrong = ["models", "export", "tuned", "x", "--max-shard-size", "0"];
    bench.outcrop().args(wrong).assert().code(2).stderr(predicates::str::contains("a size over 0 is expected"));
    let gguf = ["models", "export", "tuned", "x.gguf", "--format", "gguf", "--max-shard-size", "1GB"];
    assert_eq!(refused(&bench, &gguf), "--max-shard-size is for folders: a GGUF file is one file");
}

#[test]
fn r29_r30_an_export_has_the_bases_files_byte_for_byte_or_derives_what_it_lacks() {
    let bench = tuned();
    stdout(&bench, &["models", "export", "tuned", "derived"]);
    let generation = json_of(&bench.path("derived/generation_config.json"));
    assert_eq!(generation, json!({"_from_model_config": true, "eos_token_id": 0}));
    let own = "{\"eos_token_id\": [0, 7],\n \"temperature\": 0.5}";
    let companions = [
        ("generation_config.json", own),
        ("tokenizer_config.json", "{ \"eos_token\": \"<|endoftext|>\" }"),
        ("special_tokens_map.json", "{ }"),
        ("tokenizer.model", "not read here"),
        ("added_tokens.json", "{}  "),
        ("vocab.json", " {}"),
        ("merges.txt", "#version: 0.2\n"),
    ];
    for (name, text) in companions {
        bench.write(&format!("base/{name}"), text);
    }
    stdout(&bench, &["models", "export", "base", "copied"]);
    for (name, text) in companions {
        assert_eq!(fs_err::read_to_string(bench.path("copied").join(name)).unwrap(), text, "{name}");
    }
    assert_eq!(hash(&bench.path("copied/tokenizer.json")), hash(&bench.path("base/tokenizer.json")));
}

#[test]
fn r30_r32_a_model_card_tells_lineage_settings_and_the_verdict() {
    let bench = tuned();
    stdout(&bench, &["models", "export", "tuned", "exported"]);
    let card = fs_err::read_to_string(bench.path("exported/README.md")).unwrap();
    let record: Value = serde_json::from_str(&stdout(&bench, &["models", "show", "tuned"])).unwrap();
    let header = "---\nbase_model: \"base\"\nbase_model_relation: finetune\nlibrary_name: transformers\n\
                  pipeline_tag: text-generation\ntags:\n- outcrop\n- fine-tuning\n---\n\n# tuned\n";
    assert!(card.starts_with(header), "{card}");
    let plain = card.replace('\\', "");
    let text = |value: &Value| value.as_str().unwrap().to_string();
    for part in [
        format!("Against its untouched base: {}", text(&record["comparison"]["headline"])),
        format!("| base | base, `{ID}` in the job's request | `{}` |", text(&record["base"]["hash"])),
        format!("`{}`", text(&record["deltaHash"])),
        format!("{} bytes | `{}` |", record["trainingData"][0]["bytes"], text(&record["trainingData"][0]["hash"])),
        text(&record["jobId"]),
        "| learningRate | 0.01 |".into(),
        "| training, last step | ".into(),
        "## Task: ".into(),
        "The weights are float32, read back and compared on 3 prompts: logits differ by at most 0.0e0.".into(),
    ] {
        assert!(plain.contains(&part), "{part}\n{plain}");
    }
    assert!(!card.contains(bench.path("").to_str().unwrap()), "folders of this machine: {card}");
    // without its job the card has what the model's record has
    fs_err::remove_dir_all(bench.job(&bench.jobs()[0]).folder).unwrap();
    stdout(&bench, &["models", "export", "tuned", "later"]);
    let later = fs_err::read_to_string(bench.path("later/README.md")).unwrap();
    assert!(later.contains("## Lineage") && later.contains("## Task: "), "{later}");
    stdout(&bench, &["models", "export", "pebble", "pebble"]);
    let base = fs_err::read_to_string(bench.path("pebble/README.md")).unwrap();
    assert!(base.contains("# pebble\n\nThe untouched base pebble."), "{base}");
}

#[test]
fn r34_a_file_of_prompts_gives_each_the_text_it_has_alone() {
    let bench = Bench::new();
    let prompts =
        ["the", "line 3: the river stone bread winter", "a", "line 1: the river and the house of bread", "is 4"];
    bench.write("prompts.txt", prompts.join("\n\n"));
    let objects: String = prompts.iter().map(|prompt| format!("{}\n", json!({"prompt": prompt}))).collect();
    bench.write("prompts.jsonl", objects);
    let sampled = ["--max-tokens", "16", "--temperature", "1", "--seed", "4", "--stop", "th"];
    let alone = prompts.map(|prompt| {
        let arguments = [&["generate", "--model", "base", "--prompt", prompt], &sampled[..]].concat();
        stdout(&bench, &arguments).strip_suffix('\n').unwrap().to_string()
    });
    for (file, at_once) in [("prompts.txt", "1"), ("prompts.txt", "3"), ("prompts.jsonl", "8")] {
        let arguments = ["generate", "--model", "base", "--prompts", file, "--at-once", at_once];
        let said = stdout(&bench, &[&arguments, &sampled[..]].concat());
        let lines: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), prompts.len(), "{said}");
        for ((line, prompt), text) in lines.iter().zip(prompts).zip(&alone) {
            assert_eq!((&line["prompt"], &line["text"]), (&json!(prompt), &json!(text)), "{file}, {at_once} at once");
            let finish = line["finish"].as_str().unwrap();
            assert!(["stop", "length", "stop_text"].contains(&finish), "{line}");
            assert!(finish != "length" || line["tokens"] == 16, "{line}");
        }
    }
    bench.write("long.txt", format!("the\n{}", "river ".repeat(200)));
    let message = refused(&bench, &["generate", "--model", "base", "--prompts", "long.txt"]);
    assert!(message.starts_with("long.txt:2: generate: the prompt has "), "{message}");
    let wrong = |arguments: &[&str], message: &str| {
        let arguments = [&["generate", "--model", "base"], arguments].concat();
        bench.outcrop().args(arguments).assert().code(2).stderr(predicates::str::contains(message.to_string()));
    };
    wrong(&[], "--prompt <PROMPT>");
    wrong(&["--prompt", "a", "--prompts", "prompts.txt"], "cannot be used with");
    wrong(&["--prompts", "prompts.txt", "--at-once", "0"], "0 is not in 1..=1024");
    assert!(refused(&bench, &["generate", "--model", "base", "--prompts", "none.txt"]).contains("none.txt"));
}
