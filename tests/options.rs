//! R34: every hyperparameter does something, and what it does is what `outcrop settings` says. One test a key; the
//! list of them is compared with the table of settings, so that no key comes without a test.
#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod common;
mod options_of_optimizers;
mod options_while_training;

use common::{Bench, Run, command, records};
use safetensors::SafeTensors;
use serde_json::{Value, json};

/// Each key and its test.
const TESTED: &[(&str, fn())] = &[
    ("epochCount", r34_epoch_count_repeats_the_data),
    ("batchSize", r34_batch_size_is_records_a_step),
    ("learningRate", r34_learning_rate_is_the_rate_of_the_steps),
    ("learningRateWarmupSteps", r34_warm_up_rises_in_a_line),
    ("schedule", r34_schedule_shapes_the_rate),
    ("decayFraction", r34_decay_fraction_is_the_share_of_the_fall),
    ("trainable", r34_trainable_chooses_the_tensors),
    ("maxSequenceLength", r34_max_sequence_length_bounds_rows_and_records),
    ("microBatchTokens", r34_r1_micro_batch_tokens_cuts_the_step_and_leaves_its_loss),
    ("maxSteps", r34_max_steps_ends_within_an_epoch),
    ("seed", r34_seed_orders_the_records),
    ("shuffle", r34_shuffle_leaves_the_order_of_the_file),
    ("optimizer", options_of_optimizers::r34_optimizer_is_the_rule_of_the_updates),
    ("weightDecay", options_of_optimizers::r34_weight_decay_shrinks_the_weights),
    ("clipNorm", options_of_optimizers::r34_r37_clip_norm_scales_long_gradients),
    ("zLossWeight", options_of_optimizers::r34_z_loss_weight_keeps_logits_small_and_is_in_no_reported_loss),
    ("adamBeta1", options_of_optimizers::r34_adam_beta1_is_the_memory_of_the_gradient),
    ("adamBeta2", options_of_optimizers::r34_adam_beta2_is_the_memory_of_its_square),
    ("adamEpsilon", options_of_optimizers::r34_adam_epsilon_dampens_the_update),
    ("momentum", options_of_optimizers::r34_momentum_is_the_memory_of_sgd),
    ("longRecords", r34_r11_long_records_are_refused_dropped_or_cut),
    ("allowEmptyCompletions", r34_r7_empty_completions_are_allowed_by_number),
    ("checkpointSteps", r34_checkpoint_steps_is_their_distance),
    ("keepCheckpoints", r34_keep_checkpoints_is_how_many_stay),
    ("evalPercentage", r34_eval_percentage_holds_records_out),
    ("earlyStoppingThreshold", options_while_training::r34_early_stopping_threshold_is_what_counts_as_better),
    ("earlyStoppingPatience", options_while_training::r34_early_stopping_patience_is_how_many_validations_may_fail),
    ("evaluationData", r34_evaluation_data_is_what_the_task_is_measured_on),
    ("generalData", r34_general_data_is_what_forgetting_is_measured_on),
    ("forgettingEvery", options_while_training::r34_forgetting_every_is_the_distance_of_looks_and_changes_no_bit),
    ("forgettingPositions", options_while_training::r34_forgetting_positions_is_the_size_of_a_look),
    ("maxForgetting", options_while_training::r34_r32_r19_max_forgetting_ends_the_run_and_keeps_what_is_within_it),
    ("sampleGenerations", options_while_training::r34_r8_sample_generations_are_answered_each_epoch_and_change_no_bit),
    ("gate", r34_gate_marks_the_model_and_sets_the_exit_code),
    ("chatTemplate", r34_r30_chat_template_lays_conversations_out_in_training_and_generation),
    ("recompute", r34_recompute_saves_memory_and_changes_no_bit),
    ("dtype", r34_dtype_is_the_type_of_weights_and_not_of_masters),
];

#[test]
fn r34_every_setting_has_a_test() {
    let folder = tempfile::tempdir().unwrap();
    let output = command(folder.path()).arg("settings").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    // outside a terminal no cell wraps, so each line is a key
    let first = |line: &str| line.split_whitespace().next().unwrap_or_default().to_string();
    let listed: Vec<String> = text.lines().skip(1).map(first).filter(|key| !key.is_empty()).collect();
    let tested: Vec<&str> = TESTED.iter().map(|(key, _)| *key).collect();
    assert_eq!(listed, tested);
}

/// Two runs that differ in one setting, beside those of both.
fn pair(key: &str, values: [&str; 2], both: &[(&str, &str)]) -> (Bench, [Run; 2]) {
    let bench = Bench::new();
    let runs = values.map(|value| bench.completed(&[both, &[(key, value)]].concat()));
    (bench, runs)
}

fn of_both<T>(runs: &[Run; 2], value: impl Fn(&Run) -> T) -> [T; 2] {
    [value(&runs[0]), value(&runs[1])]
}

fn losses(run: &Run) -> Vec<f64> {
    run.job().steps("loss")
}

fn rates(run: &Run) -> Vec<f64> {
    run.job().steps("learning_rate")
}

/// All values of the delta, squared and added, tensor by tensor.
fn norms(run: &Run) -> Vec<(String, f64)> {
    let bytes = fs_err::read(run.delta()).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let square = |chunk: &[u8]| f64::from(f32::from_le_bytes(chunk.try_into().unwrap())).powi(2);
    let mut norms: Vec<(String, f64)> = tensors
        .tensors()
        .into_iter()
        .map(|(name, view)| (name, view.data().chunks_exact(4).map(square).sum::<f64>().sqrt()))
        .collect();
    norms.sort_by(|one, other| one.0.cmp(&other.0));
    norms
}

/// Continued pre-training on one text.
fn text_request(bench: &Bench, settings: &[(&str, &str)]) -> Value {
    bench.write("text.txt", "the river and the stone, the winter and the house\n".repeat(41));
    let mut request = bench.request(settings);
    request["customizationType"] = json!("CONTINUED_PRE_TRAINING");
    request["trainingDataConfig"]["s3Uri"] = json!("text.txt");
    request
}

#[test]
fn r34_epoch_count_repeats_the_data() {
    let (_bench, runs) = pair("epochCount", ["1", "3"], &[]);
    assert_eq!(of_both(&runs, |run| run.job().steps("epoch")), [vec![0.0; 3], [[0.0; 3], [1.0; 3], [2.0; 3]].concat()]);
    assert_eq!(of_both(&runs, |run| run.job().plan()["steps"]["total"].clone()), [json!(3), json!(9)]);
}

#[test]
fn r34_batch_size_is_records_a_step() {
    let (_bench, runs) = pair("batchSize", ["4", "5"], &[("epochCount", "1"), ("shuffle", "false")]);
    let [four, five] = of_both(&runs, |run| run.job().steps("target_tokens"));
    assert_eq!((four.len(), five.len()), (3, 3), "12 records; the short last step is its own (R4)");
    assert_eq!(four.iter().sum::<f64>(), five.iter().sum::<f64>());
    assert!(five[0] > four[0] && five[2] < four[2], "{four:?} {five:?}");
}

#[test]
fn r34_learning_rate_is_the_rate_of_the_steps() {
    let (_bench, runs) = pair("learningRate", ["0", "0.01"], &[("schedule", "constant"), ("shuffle", "false")]);
    assert_eq!(of_both(&runs, rates), [vec![0.0; 6], vec![0.01; 6]]);
    let [still, moved] = of_both(&runs, losses);
    assert_eq!(still[..3], still[3..], "a rate of zero changes nothing");
    assert_eq!(moved[0], still[0]);
    assert!(moved[3] < still[3] && moved[5] < still[5], "{moved:?}");
}

#[test]
fn r34_warm_up_rises_in_a_line() {
    let (_bench, runs) = pair("learningRateWarmupSteps", ["0", "4"], &[("schedule", "constant")]);
    let expected = [vec![0.01; 6], vec![0.0025, 0.005, 0.0075, 0.01, 0.01, 0.01]];
    assert_eq!(of_both(&runs, rates), expected);
}

#[test]
fn r34_decay_fraction_is_the_share_of_the_fall() {
    let both = [("schedule", "wsd"), ("learningRate", "1"), ("maxSteps", "4")];
    let (_bench, runs) = pair("decayFraction", ["0.5", "1"], &both);
    assert_eq!(of_both(&runs, rates), [vec![1.0, 1.0, 1.0, 0.5], vec![1.0, 0.75, 0.5, 0.25]]);
}

#[test]
fn r34_schedule_shapes_the_rate() {
    let bench = Bench::new();
    let rates = |name: &str| rates(&bench.completed(&[("schedule", name), ("learningRate", "1"), ("maxSteps", "4")]));
    let near = |rates: Vec<f64>, expected: [f64; 4]| {
        let close = rates.iter().zip(expected).all(|(rate, expected)| (rate - expected).abs() < 1e-12);
        assert!(close && rates.len() == 4, "{rates:?} {expected:?}");
    };
    near(rates("constant"), [1.0, 1.0, 1.0, 1.0]);
    near(rates("linear"), [1.0, 0.75, 0.5, 0.25]);
    let quarter = std::f64::consts::FRAC_1_SQRT_2 / 2.0;
    near(rates("cosine"), [1.0, 0.5 + quarter, 0.5, 0.5 - quarter]);
}

#[test]
fn r34_trainable_chooses_the_tensors() {
    let (bench, runs) = pair("trainable", ["head", "all"], &[]);
    let [head, all] = of_both(&runs, norms);
    assert_eq!(head.len(), 1);
    assert_eq!(head[0].0, "lm_head.weight");
    let base = fs_err::read(bench.path("base/model.safetensors")).unwrap();
    let mut names =
        SafeTensors::deserialize(&base).unwrap().names().into_iter().map(str::to_string).collect::<Vec<_>>();
    names.sort();
    assert_eq!(all.into_iter().map(|(name, _)| name).collect::<Vec<_>>(), names);
    assert_eq!(of_both(&runs, |run| run.job().plan()["trainable"]["kind"].clone()), [json!("head"), json!("all")]);
    let last = bench.completed(&[("trainable", "last:1"), ("learningRate", "0.001")]);
    let trained: Vec<String> = norms(&last).into_iter().map(|(name, _)| name).collect();
    assert_eq!(trained.len(), 11, "the nine of a block, norm and head: {trained:?}");
    let outside = |name: &&String| {
        !name.starts_with("model.layers.") && *name != "model.norm.weight" && *name != "lm_head.weight"
    };
    assert!(trained.iter().find(outside).is_none(), "{trained:?}");
    let refused = bench.refused(&bench.request(&[("trainable", "last:99")]));
    assert!(refused.contains("hyperParameters.trainable is `last:99`, but the base has "), "{refused}");
    // the default follows what the job is for
    let run = bench.run(&text_request(&bench, &[("epochCount", "1")])).expect_success();
    assert_eq!(run.job().plan()["trainable"]["kind"], "all");
}

#[test]
fn r34_max_sequence_length_bounds_rows_and_records() {
    let bench = Bench::new();
    let settings = |length| [("maxSequenceLength", length), ("batchSize", "1"), ("epochCount", "1")];
    let run = |length| bench.run(&text_request(&bench, &settings(length))).expect_success();
    let (short, long) = (run("16"), run("64"));
    let rows = |run: &Run| run.job().steps("tokens");
    let longest = |run: &Run| rows(run).into_iter().fold(0.0, f64::max);
    assert_eq!((longest(&short), longest(&long)), (16.0, 64.0));
    assert_eq!(rows(&short).iter().sum::<f64>(), rows(&long).iter().sum::<f64>(), "every token once");
    assert!(bench.refused(&bench.request(&[("maxSequenceLength", "16")])).contains("more than the maximum of 16"));
}

#[test]
fn r34_r1_micro_batch_tokens_cuts_the_step_and_leaves_its_loss() {
    let both = [("trainable", "all"), ("batchSize", "6"), ("learningRate", "0.001")];
    let (_bench, runs) = pair("microBatchTokens", ["4096", "40"], &both);
    let [whole, cut] = of_both(&runs, losses);
    assert_eq!(whole.len(), 4);
    for (whole, cut) in whole.iter().zip(&cut) {
        assert!((whole - cut).abs() < 1e-6 * whole, "{whole} {cut}");
    }
    let [whole, cut] = of_both(&runs, |run| run.job().plan()["memory"]["activationBytes"].as_u64().unwrap());
    assert!(cut < whole, "fewer tokens at once take less memory: {cut} {whole}");
}

#[test]
fn r34_max_steps_ends_within_an_epoch() {
    let (_bench, runs) = pair("maxSteps", ["4", "100"], &[]);
    assert_eq!(of_both(&runs, |run| run.job().steps("step").len()), [4, 6]);
    assert_eq!(runs[0].job().checkpoints().last().unwrap(), "step-00000004", "there is one at the end");
}

#[test]
fn r34_seed_orders_the_records() {
    let (bench, runs) = pair("seed", ["0", "1"], &[]);
    let [zero, one] = of_both(&runs, |run| run.job().steps("tokens"));
    assert_ne!(zero, one);
    assert_eq!(zero.iter().sum::<f64>(), one.iter().sum::<f64>());
    let again = bench.completed(&[("seed", "1")]);
    assert_eq!(again.delta_hash(), runs[1].delta_hash(), "the same seed is the same run");
    assert_ne!(runs[0].delta_hash(), runs[1].delta_hash());
}

#[test]
fn r34_shuffle_leaves_the_order_of_the_file() {
    let (_bench, runs) = pair("shuffle", ["false", "true"], &[]);
    let [file, shuffled] = of_both(&runs, |run| run.job().steps("tokens"));
    assert_eq!(file[..3], file[3..], "the same in each epoch");
    assert!(file[0] < file[1] && file[1] < file[2], "records of the file get longer: {file:?}");
    assert_ne!(shuffled[..3], shuffled[3..], "each epoch has an order of its own: {shuffled:?}");
    assert_ne!(shuffled, file);
}

#[test]
fn r34_dtype_is_the_type_of_weights_and_not_of_masters() {
    let (bench, runs) = pair("dtype", ["float32", "bfloat16"], &[("trainable", "all"), ("learningRate", "0.001")]);
    let [wide, narrow] = of_both(&runs, losses);
    for (wide, narrow) in wide.iter().zip(&narrow) {
        assert!(wide != narrow && (wide - narrow).abs() < 0.005 * wide, "{wide} {narrow}");
    }
    let parameters = runs[0].job().plan()["trainable"]["parameters"].as_u64().unwrap();
    let bytes = of_both(&runs, |run| run.job().plan()["memory"]["weightsBytes"].as_u64().unwrap());
    assert_eq!(bytes, [4 * parameters, (2 + 4) * parameters], "16 bits and their masters");
    let said = |run: &Run| (run.stdout() + &run.stderr()).contains("bfloat16 saves memory on the CPU, not time");
    assert_eq!(of_both(&runs, said), [false, true]);
    for run in &runs {
        let bytes = fs_err::read(run.delta()).unwrap();
        for (name, tensor) in SafeTensors::deserialize(&bytes).unwrap().tensors() {
            assert_eq!(tensor.dtype(), safetensors::Dtype::F32, "{name}");
            let lower = tensor.data().chunks_exact(4).filter(|bytes| bytes[0] != 0 || bytes[1] != 0).count();
            assert!(lower > 0, "{name} is the master, not its rounding");
        }
    }
    // R30: what an export in 16 bits loses of the masters is said; one in 32 bits loses nothing
    let model = names_of_models(&bench).pop().unwrap();
    let export = |folder: &str, dtype: &str| {
        let output = bench.outcrop().args(["models", "export", &model, folder, "--dtype", dtype]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let (exact, rounded) = (export("wide", "f32"), export("narrow", "bf16"));
    assert!(exact.contains("logits differ by at most 0.0e0") && !exact.contains("rounded"), "{exact}");
    assert!(rounded.contains("% of the values are rounded"), "{rounded}");
    assert_eq!(
        bench.refused(&bench.request(&[("dtype", "float16")])),
        "job.json: hyperParameters.dtype is `float16`, allowed are `float32`, `bfloat16`"
    );
}

/// Ids of the custom models.
fn names_of_models(bench: &Bench) -> Vec<String> {
    common::names(&bench.path("home/models")).into_iter().filter(|name| name != "lock").collect()
}

#[test]
fn r34_r11_long_records_are_refused_dropped_or_cut() {
    let bench = Bench::new();
    let settings = |policy| [("maxSequenceLength", "24"), ("longRecords", policy)];
    assert!(bench.refused(&bench.request(&settings("error"))).contains("are more than the maximum of 24"));
    let plan = |policy| bench.completed(&settings(policy)).job().plan()["data"]["training"].clone();
    let (dropped, cut) = (plan("drop"), plan("truncate"));
    assert!(dropped["droppedRecords"].as_u64().unwrap() > 0 && dropped["lostTargetTokens"].as_u64().unwrap() > 0);
    assert_eq!((&cut["droppedRecords"], &cut["lostTargetTokens"]), (&json!(0), &json!(0)));
    assert!(cut["targetTokens"].as_u64() > dropped["targetTokens"].as_u64());
}

#[test]
fn r34_r7_empty_completions_are_allowed_by_number() {
    let bench = Bench::new();
    bench.write("train.jsonl", records(4) + "{\"prompt\": \"the river\", \"completion\": \"\"}\n");
    assert!(bench.refused(&bench.request(&[])).contains("the completion is empty (allowed: 0)"));
    let run = bench.completed(&[("allowEmptyCompletions", "1")]);
    assert_eq!(run.job().plan()["data"]["training"]["records"], 5);
}

#[test]
fn r34_checkpoint_steps_is_their_distance() {
    let bench = Bench::new();
    let steps = |settings: &[(&str, &str)]| {
        let events = bench.completed(settings).job().events_of("checkpoint");
        events.iter().map(|event| event["step"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(steps(&[]), [6], "epochs of a moment share the one at the end");
    assert_eq!(steps(&[("checkpointSteps", "4")]), [4, 6], "and at the end");
    assert_eq!(steps(&[("checkpointSteps", "1")]), [1, 2, 3, 4, 5, 6]);
}

#[test]
fn r34_keep_checkpoints_is_how_many_stay() {
    let (_bench, runs) = pair("keepCheckpoints", ["1", "4"], &[("checkpointSteps", "1")]);
    let [one, four] = of_both(&runs, |run| run.job().checkpoints());
    assert_eq!(one, ["step-00000006"]);
    assert_eq!(four, ["step-00000003", "step-00000004", "step-00000005", "step-00000006"]);
    let [one, four] = of_both(&runs, |run| run.job().plan()["diskBytes"].as_u64().unwrap());
    assert!(one < four, "the plan's disk counts them (R18)");
}

#[test]
fn r34_eval_percentage_holds_records_out() {
    let (_bench, runs) = pair("evalPercentage", ["0", "25"], &[]);
    let [all, split] = of_both(&runs, |run| run.job().plan()["data"].clone());
    assert_eq!((&all["training"]["records"], all["validation"].as_array().unwrap().len()), (&json!(12), 0));
    assert_eq!((&split["training"]["records"], &split["validation"][0]["records"]), (&json!(9), &json!(3)));
    assert_eq!(of_both(&runs, |run| run.job().events_of("validation").len()), [0, 3], "before, and after each epoch");
    assert!(runs[0].stdout().contains("task: not measured, no held-out data"));
    assert!(runs[1].stdout().contains("held out by evalPercentage"), "{}", runs[1].stdout());
}

/// Names of the report's suites.
fn suites(run: &Run, kind: &str) -> Vec<String> {
    let text = fs_err::read_to_string(run.job().folder.join("report/report.json")).unwrap();
    let report: Value = serde_json::from_str(&text).unwrap();
    report[kind].as_array().unwrap().iter().map(|suite| suite["name"].as_str().unwrap().to_string()).collect()
}

#[test]
fn r34_evaluation_data_is_what_the_task_is_measured_on() {
    let bench = Bench::new();
    bench.write("data/held-out.jsonl", records(6));
    bench.write("data/prose.txt", "the river and the stone, the winter and the house\n".repeat(10));
    assert!(suites(&bench.completed(&[]), "task").is_empty());
    let run = bench.completed(&[("evaluationData", "data/held-out.jsonl, data/prose.txt")]);
    assert_eq!(suites(&run, "task"), ["data/held-out", "data/prose"]);
    assert!(run.stdout().contains("task measured on evaluationData"), "{}", run.stdout());
}

#[test]
fn r34_general_data_is_what_forgetting_is_measured_on() {
    let bench = Bench::new();
    let mut request = bench.request(&[]);
    request["hyperParameters"].as_object_mut().unwrap().remove("generalData");
    let run = bench.run(&request).expect_success();
    assert_eq!(suites(&run, "general"), ["general/items", "general/prose"], "by default");
    let run = bench.completed(&[("generalData", "none")]);
    assert!(suites(&run, "general").is_empty() && run.stdout().contains("general: not measured"), "{}", run.stdout());
    let run = bench.completed(&[("generalData", "s3://outcrop-examples/general/prose.txt")]);
    assert_eq!(suites(&run, "general"), ["general/prose"]);
}

#[test]
fn r34_gate_marks_the_model_and_sets_the_exit_code() {
    let bench = Bench::new();
    bench.write("prose.txt", "the river and the stone, the winter and the house\n".repeat(20));
    let request =
        |gate: &str| bench.request(&[("evaluationData", "train.jsonl"), ("generalData", "prose.txt"), ("gate", gate)]);
    let marked = |run: &Run| {
        let record = fs_err::read_to_string(run.delta().with_file_name("model.json")).unwrap();
        serde_json::from_str::<Value>(&record).unwrap()["gate"].clone()
    };
    let passed = bench.run(&request("task>-100,general>=-100")).expect_success();
    assert_eq!((marked(&passed), passed.stdout().contains("gate")), (Value::Null, false));
    let failed = bench.run(&request("task>100,general>=-100"));
    assert_eq!(failed.output.status.code(), Some(3), "{}", failed.stderr());
    let reason = marked(&failed);
    let reason = reason.as_str().unwrap();
    assert!(reason.starts_with("gate: failed: `task>100`: ") && !reason.contains("general"), "{reason}");
    assert!(failed.stdout().contains(reason), "{}", failed.stdout());
    let job = failed.job();
    assert_eq!(job.events_of("completed").len(), 1, "the job completes");
    assert!(job.events_of("warning").iter().any(|event| event["message"] == reason));
    let report = |name: &str| fs_err::read_to_string(job.folder.join("report").join(name)).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&report("report.json")).unwrap()["gate"], reason);
    assert!(report("report.md").lines().nth(2).unwrap().starts_with("gate: failed: "), "{}", report("report.md"));
    assert!(report("report.html").contains("<strong>gate: failed: "));
    // what it can't be held to is said before anything is trained
    let error = bench.refused(&request("task>0,nowhere>0"));
    assert!(error.starts_with("gate `nowhere>0`: no suite is named `nowhere`, only `"), "{error}");
    let error = bench.refused(&bench.request(&[("gate", "general>0")]));
    assert_eq!(error, "gate `general>0`: there is no general suite");
}

#[test]
fn r34_r30_chat_template_lays_conversations_out_in_training_and_generation() {
    let bench = Bench::new();
    let talk = |number: usize| {
        let turn = |role: &str, text: String| json!({"role": role, "content": text});
        let said = turn("assistant", format!("the river {number}"));
        format!("{}\n", json!({"messages": [turn("user", format!("line {number}")), said]}))
    };
    bench.write("train.jsonl", (0..8).map(talk).collect::<String>());
    let error = bench.refused(&bench.request(&[]));
    assert!(error.contains("8 of 8 records are conversations, but the base has no chat template"), "{error}");
    let template = |user: &str| {
        format!(
            "{{% for m in messages %}}{{{{ '{user}' if m.role == 'user' else '|' }}}}{{{{ m.content }}}}{{{{ eos_token }}}}{{% endfor %}}{{% if add_generation_prompt %}}|{{% endif %}}"
        )
    };
    bench.write("short.jinja", template("?"));
    bench.write("long.jinja", template("the user says: "));
    let runs = ["short.jinja", "long.jinja"].map(|file| bench.completed(&[("chatTemplate", file)]));
    let [short, long] = of_both(&runs, |run| run.job().plan()["data"]["training"].clone());
    assert!(short["tokens"].as_u64() < long["tokens"].as_u64());
    assert_eq!(short["targetTokens"], long["targetTokens"], "the assistant's turns alone count");
    assert_ne!(runs[0].delta_hash(), runs[1].delta_hash());
    // the model keeps its template though the file is gone
    fs_err::remove_file(bench.path("long.jinja")).unwrap();
    let model = runs[1].job().plan()["customModelName"].as_str().unwrap().to_string();
    let generate = |arguments: &[&str]| {
        bench.outcrop().args(["generate", "--model", &model, "--max-tokens", "4"]).args(arguments).output().unwrap()
    };
    let same = generate(&["--prompt", "the user says: line 3<|endoftext|>|"]);
    let chat = generate(&["--chat", "--prompt", "line 3"]);
    assert!(chat.status.success(), "{}", String::from_utf8_lossy(&chat.stderr));
    assert_eq!(chat.stdout, same.stdout);
    let other = generate(&["--chat", "--prompt", "line 3", "--chat-template", "short.jinja"]);
    assert_eq!(other.stdout, generate(&["--prompt", "?line 3<|endoftext|>|"]).stdout);
    let exported = bench.outcrop().args(["models", "export", &model, "folder"]).output().unwrap();
    assert!(exported.status.success(), "{}", String::from_utf8_lossy(&exported.stderr));
    let written = fs_err::read_to_string(bench.path("folder/chat_template.jinja")).unwrap();
    assert_eq!(written, template("the user says: "));
}

#[test]
fn r34_recompute_saves_memory_and_changes_no_bit() {
    let (_bench, runs) = pair("recompute", ["none", "block"], &[("trainable", "all")]);
    assert_eq!(of_both(&runs, |run| run.job().plan()["recompute"].clone()), [json!("none"), json!("block")]);
    let [none, block] = of_both(&runs, |run| run.job().plan()["memory"]["activationBytes"].as_u64().unwrap());
    assert!(block < none, "{block} {none}");
    let (_bench, grouped) = pair("recompute", ["block", "group"], &[("trainable", "all")]);
    assert_eq!(of_both(&grouped, |run| run.job().plan()["recompute"].clone()), [json!("block"), json!("group")]);
    assert_eq!(runs[0].delta_hash(), grouped[1].delta_hash());
    assert_eq!(runs[0].delta_hash(), runs[1].delta_hash());
}
