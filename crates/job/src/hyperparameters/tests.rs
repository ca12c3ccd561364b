//! Tests of the table and of what is read through it.

use super::*;
use crate::CustomizationType::{ContinuedPreTraining, FineTuning};

fn map(pairs: &[(&str, &str)]) -> StringMap {
    pairs.iter().copied().collect()
}

fn errors(pairs: &[(&str, &str)]) -> Vec<String> {
    let errors = Hyperparameters::resolve(&map(pairs), FineTuning).expect_err("an error");
    errors.iter().map(ToString::to_string).collect()
}

/// Every key by name: values it takes, values it refuses (its ends and just beyond them), and its range in words.
const CASES: &[(&str, &[&str], &[&str], &str)] = &[
    ("epochCount", &["1", "10"], &["0", "11", "5.0", "-1", "+1", "1e1"], "whole numbers from 1 to 10"),
    ("batchSize", &["1", "64"], &["0", "65"], "whole numbers from 1 to 64"),
    (
        "learningRate",
        &["0", "0.0", "1", ".0001", "1e-5", "0.00001", "-0"],
        &["-1e-9", "1.0000001", "nan", "inf", "1e", "0,1"],
        "numbers from 0 to 1",
    ),
    ("learningRateWarmupSteps", &["0", "250"], &["-1", "251"], "whole numbers from 0 to 250"),
    (
        "schedule",
        &["linear", "constant", "cosine", "wsd"],
        &["Linear", "step"],
        "`linear`, `constant`, `cosine`, `wsd`",
    ),
    ("decayFraction", &["0.1", "1"], &["0", "-0.1", "1.1"], "numbers above 0 to 1"),
    (
        "trainable",
        &["head", "last:1", "last:30", "all"],
        &["lora", "Head", "last", "last:", "last:0", "last:-1", "last:+1", "last:01", "last:1.5"],
        "`head`, `last:N` (N blocks of the model, at least 1), `all`",
    ),
    ("maxSequenceLength", &["8", "131072"], &["7", "131073"], "whole numbers from 8 to 131072"),
    ("microBatchTokens", &["1", "18446744073709551615"], &["0", "18446744073709551616"], "whole numbers from 1"),
    ("maxSteps", &["1", "1000000"], &["0", "-1"], "whole numbers from 1"),
    ("seed", &["0", "18446744073709551615"], &["-1", "18446744073709551616"], "whole numbers from 0"),
    ("shuffle", &["true", "false"], &["True", "1", "yes"], "`true`, `false`"),
    ("optimizer", &["adamw", "adamw8bit", "sgd", "lion"], &["adam", "AdamW"], "`adamw`, `adamw8bit`, `sgd`, `lion`"),
    ("weightDecay", &["0", "1"], &["-0.1", "1.1"], "numbers from 0 to 1"),
    ("clipNorm", &["0", "1000000", "1e6"], &["-1", "1000001"], "numbers from 0 to 1000000"),
    ("zLossWeight", &["0", "1e-4", "1"], &["-1e-4", "1.1"], "numbers from 0 to 1"),
    ("adamBeta1", &["0", "0.9999999"], &["-0.1", "1"], "numbers from 0 below 1"),
    ("adamBeta2", &["0", "0.9999999"], &["-0.1", "1.0"], "numbers from 0 below 1"),
    ("adamEpsilon", &["1e-300", "1"], &["0", "-1e-8", "1.1"], "numbers above 0 to 1"),
    ("momentum", &["0", "0.9999999"], &["-0.1", "1"], "numbers from 0 below 1"),
    ("longRecords", &["error", "drop", "truncate"], &["split", "Error"], "`error`, `drop`, `truncate`"),
    ("allowEmptyCompletions", &["0", "99999"], &["-1", "all"], "whole numbers from 0"),
    ("checkpointSteps", &["1", "99999"], &["0", "none"], "whole numbers from 1"),
    ("keepCheckpoints", &["1", "100"], &["0", "101"], "whole numbers from 1 to 100"),
    ("evalPercentage", &["0", "20.0", "50"], &["-1", "50.1"], "numbers from 0 to 50"),
    ("earlyStoppingThreshold", &["0.01", "0", "0.1"], &["-0.001", "0.11"], "numbers from 0 to 0.1"),
    ("earlyStoppingPatience", &["1", "10"], &["0", "11", "1.5"], "whole numbers from 1 to 10"),
    (
        "evaluationData",
        &["a.jsonl", "s3://b/x,y z.txt", "none"],
        &["a,,b", ",a", "a,none"],
        "comma-separated `s3://` URIs or paths, or `none`",
    ),
    ("generalData", &["a", "a, b", "none"], &["a,", "none,none"], "comma-separated `s3://` URIs or paths, or `none`"),
    ("forgettingEvery", &["1", "99999"], &["0", "auto"], "whole numbers from 1"),
    ("forgettingPositions", &["0", "256"], &["-1", "257"], "whole numbers from 0 to 256"),
    ("maxForgetting", &["0.02", "100"], &["0", "-0.1", "101", "nan"], "numbers above 0 to 100"),
    ("sampleGenerations", &["0", "16"], &["-1", "17"], "whole numbers from 0 to 16"),
    (
        "gate",
        &["task>0", "task > 0, general>=-0.01", "none"],
        &["", "task", "task<0", "task>x", "task>0,none"],
        "comma-separated conditions such as `task>0,general>=-0.01`, or `none`",
    ),
    ("chatTemplate", &["a.jinja", "s3://bucket/a.jinja"], &["", " "], "an `s3://` URI or a path"),
    ("recompute", &["none", "block", "group", "auto"], &["full", "true"], "`none`, `block`, `group`, `auto`"),
    ("dtype", &["float32", "bfloat16"], &["float16", "bf16", "f32"], "`float32`, `bfloat16`"),
];

/// A request with one key, last, and with an optimizer and a schedule that read it.
fn with(name: &'static str, text: &'static str) -> StringMap {
    let optimizer = if name == "momentum" { "sgd" } else { "adamw" };
    let mut pairs = Vec::new();
    if name != "optimizer" {
        pairs.push(("optimizer", optimizer));
    }
    if name == "decayFraction" {
        pairs.push(("schedule", "wsd"));
    }
    pairs.push((name, text));
    map(&pairs)
}

#[test]
fn every_key_takes_its_range_and_nothing_beyond() {
    let covered: Vec<&str> = CASES.iter().map(|case| case.0).collect();
    let known: Vec<&str> = table().iter().map(|key| key.name).collect();
    assert_eq!(covered, known, "each key of the table has a case");
    for (name, good, bad, allowed) in CASES {
        for text in *good {
            let resolved = Hyperparameters::resolve(&with(name, text), FineTuning);
            assert!(resolved.is_ok(), "{name} {text}: {resolved:?}");
        }
        let takes_paths = name.ends_with("Data") || *name == "chatTemplate"; // which may hold a space
        for text in bad.iter().chain(&["", " ", "x y"]).filter(|text| !(takes_paths && **text == "x y")) {
            let expected = format!("hyperParameters.{name} is `{text}`, allowed are {allowed}");
            assert_eq!(errors(&[(name, text)]), [expected]);
        }
    }
}

#[test]
fn each_key_reaches_a_field_of_its_own() {
    // R34: setting a key to a value that isn't its default changes that key's effective value and no other's.
    // The optimizer also chooses which keys are read: `r34_keys_of_another_optimizer_are_errors`.
    for (name, good, _, _) in CASES.iter().filter(|case| case.0 != "optimizer") {
        let resolve = |text| Hyperparameters::resolve(&with(name, text), FineTuning).unwrap().effective();
        let request = with(name, "0");
        let others = request.iter().take(request.len() - 1).collect();
        let defaults = Hyperparameters::resolve(&others, FineTuning).unwrap().effective();
        let changed = good.iter().map(|text| resolve(text)).find(|effective| *effective != defaults);
        let changed = changed.unwrap_or_else(|| panic!("no value of {name} shows"));
        for key in table() {
            let same = changed.get(key.name) == defaults.get(key.name);
            assert_eq!(same, key.name != *name, "{} while {name} is set", key.name);
        }
    }
}

#[test]
fn every_key_has_a_name_a_line_and_a_default_in_its_range() {
    let mut names = std::collections::BTreeSet::new();
    for key in table() {
        assert!(names.insert(key.name), "{} is there twice", key.name);
        assert!(!key.doc.is_empty() && !key.doc.contains('\n') && !key.doc.ends_with('.'), "{}", key.name);
        assert!(!key.default.to_string().is_empty() && !key.range.to_string().is_empty());
        for customization_type in [FineTuning, ContinuedPreTraining] {
            for optimizer in [OptimizerKind::AdamW, OptimizerKind::Lion] {
                if let Some(text) = key.default.text(customization_type, optimizer) {
                    Hyperparameters::resolve(&with(key.name, text), customization_type).unwrap();
                }
            }
        }
    }
}

#[test]
fn the_defaults_are_titan_expresss_and_ours() {
    let tuning = Hyperparameters::resolve(&StringMap::new(), FineTuning).unwrap();
    assert_eq!(tuning, Hyperparameters::defaults(FineTuning));
    assert_eq!((tuning.epoch_count, tuning.batch_size, tuning.learning_rate_warmup_steps), (5, 1, 5));
    assert_eq!((tuning.learning_rate, tuning.weight_decay, tuning.clip_norm), (1e-5, 0.0, 1.0));
    assert_eq!((tuning.adam_beta1, tuning.adam_beta2, tuning.adam_epsilon), (0.9, 0.999, 1e-8));
    assert_eq!((tuning.optimizer, tuning.momentum, tuning.dtype), (OptimizerKind::AdamW, 0.9, Dtype::Float32));
    assert_eq!(
        (tuning.schedule, tuning.long_records, tuning.recompute),
        (Schedule::Linear, LongRecords::Error, Recompute::Auto)
    );
    assert_eq!((tuning.seed, tuning.shuffle, tuning.keep_checkpoints), (0, true, 2));
    assert_eq!((tuning.allow_empty_completions, tuning.eval_percentage), (0, 0.0));
    let unset = [tuning.max_sequence_length, tuning.micro_batch_tokens, tuning.max_steps, tuning.checkpoint_steps];
    assert_eq!(unset, [None; 4]);
    assert!(tuning.evaluation_data.is_empty());
    assert_eq!(
        tuning.general_data,
        ["s3://outcrop-examples/general/items.jsonl", "s3://outcrop-examples/general/prose.txt"]
    );
    assert_eq!(tuning.trainable, Trainable::Head);
    assert_eq!(Hyperparameters::defaults(ContinuedPreTraining).trainable, Trainable::All);
    let head = Hyperparameters::resolve(&map(&[("trainable", "head")]), ContinuedPreTraining).unwrap();
    assert_eq!(head.trainable, Trainable::Head);
}

#[test]
fn r34_keys_of_another_optimizer_are_errors() {
    assert_eq!(
        errors(&[("momentum", "0.9")]),
        ["hyperParameters.momentum has no effect with optimizer `adamw`, only with `sgd`; leave it out"]
    );
    assert_eq!(
        errors(&[("adamEpsilon", "1e-8"), ("optimizer", "lion"), ("momentum", "2")]),
        [
            "hyperParameters.adamEpsilon has no effect with optimizer `lion`, only with `adamw`, `adamw8bit`; leave it out",
            "hyperParameters.momentum is `2`, allowed are numbers from 0 below 1",
        ]
    );
    assert_eq!(errors(&[("adamBeta1", "0.5"), ("adamBeta2", "0.5"), ("optimizer", "sgd")]).len(), 2);
    let keys = |optimizer| {
        let resolved = Hyperparameters::resolve(&map(&[("optimizer", optimizer)]), FineTuning).unwrap();
        let effective = resolved.effective();
        ["adamBeta1", "adamBeta2", "adamEpsilon", "momentum"].map(|key| effective.get(key).map(str::to_string))
    };
    let some = |text: &str| Some(text.to_string());
    assert_eq!(keys("adamw"), [some("0.9"), some("0.999"), some("1e-8"), None]);
    assert_eq!(keys("adamw8bit"), keys("adamw"));
    assert_eq!(keys("lion"), [some("0.9"), some("0.99"), None, None], "the authors' decay");
    assert_eq!(keys("sgd"), [None, None, None, some("0.9")]);
}

#[test]
fn r34_a_key_of_another_schedule_is_an_error() {
    let expected = "hyperParameters.decayFraction has no effect with schedule `cosine`, only with `wsd`; leave it out";
    assert_eq!(errors(&[("decayFraction", "0.5"), ("schedule", "cosine")]), [expected]);
    let wsd = Hyperparameters::resolve(&map(&[("schedule", "wsd")]), FineTuning).unwrap();
    assert_eq!(wsd.effective().get("decayFraction"), Some("0.2"));
    assert_eq!(Hyperparameters::defaults(FineTuning).effective().get("decayFraction"), None);
}

#[test]
fn r33_unknown_keys_are_errors_with_the_nearest() {
    assert_eq!(
        errors(&[("epochs", "3"), ("learningRate", "2"), ("learning_rate", "1e-5"), ("warmup", "1")]),
        [
            "unknown hyperparameter `epochs`; the nearest known one is `epochCount`",
            "hyperParameters.learningRate is `2`, allowed are numbers from 0 to 1",
            "unknown hyperparameter `learning_rate`; the nearest known one is `learningRate`",
            "unknown hyperparameter `warmup`; the nearest known one is `learningRateWarmupSteps`",
        ]
    );
    assert_eq!(errors(&[("EpochCount", "3")]).len(), 1, "keys are case-sensitive");
}

#[test]
fn effective_values_resolve_to_the_same_bits() {
    for (name, good, _, _) in CASES {
        for text in *good {
            let first = Hyperparameters::resolve(&with(name, text), ContinuedPreTraining).unwrap();
            // With the other type, to show that every default that depends on it is written.
            assert_eq!(Hyperparameters::resolve(&first.effective(), FineTuning).unwrap(), first, "{name} {text}");
            let json = serde_json::to_string(&first).unwrap();
            assert_eq!(serde_json::from_str::<Hyperparameters>(&json).unwrap(), first, "{json}");
        }
    }
    let odd = Hyperparameters::resolve(&map(&[("learningRate", "0.12345678901234567")]), FineTuning).unwrap();
    let back = Hyperparameters::resolve(&odd.effective(), FineTuning).unwrap();
    assert_eq!(back.learning_rate.to_bits(), odd.learning_rate.to_bits());
}

#[test]
fn effective_texts_are_short_and_in_the_tables_order() {
    let effective = Hyperparameters::defaults(FineTuning).effective();
    let shown: Vec<(&str, &str)> = effective.iter().take(6).collect();
    assert_eq!(
        shown,
        [
            ("epochCount", "5"),
            ("batchSize", "1"),
            ("learningRate", "1e-5"),
            ("learningRateWarmupSteps", "5"),
            ("schedule", "linear"),
            ("trainable", "head"),
        ]
    );
    assert_eq!(effective.get("maxSequenceLength"), None);
    assert_eq!(effective.get("evaluationData"), Some("none"));
    assert_eq!(effective.get("clipNorm"), Some("1"));
}

#[test]
fn lists_are_split_and_trimmed() {
    let resolved =
        Hyperparameters::resolve(&map(&[("evaluationData", "a.jsonl, s3://b/x"), ("generalData", "none")]), FineTuning);
    let resolved = resolved.unwrap();
    assert_eq!(resolved.evaluation_data, ["a.jsonl", "s3://b/x"]);
    assert!(resolved.general_data.is_empty());
}

#[test]
fn a_saved_setting_out_of_range_is_refused() {
    let error = serde_json::from_str::<Hyperparameters>(r#"{"epochCount":"99","x":"1"}"#).unwrap_err().to_string();
    assert!(
        error.contains("hyperParameters.epochCount is `99`, allowed are whole numbers from 1 to 10; unknown"),
        "{error}"
    );
}
