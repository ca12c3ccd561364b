//! R34: the settings that look at a run while it trains. A module of `options`, whose list has their tests.

use crate::common::{Bench, Run, records};
use serde_json::{Value, json};

/// A job on twelve records that overfits at once: its validation set has other completions. Nine epochs at most.
fn overfitting(bench: &Bench, settings: &[(&str, &str)]) -> Value {
    let other = |line: &str| line.replace(" is ", " was not ");
    bench.write("validation.jsonl", records(18).lines().skip(12).map(|line| other(line) + "\n").collect::<String>());
    let both = [("epochCount", "9"), ("learningRate", "0.05"), ("schedule", "constant")];
    let mut request = bench.request(&[&both, settings].concat());
    request["validationDataConfig"] = json!({"validators": [{"s3Uri": "validation.jsonl"}]});
    request
}

/// Step and loss of each validation after training began.
fn validations(run: &Run) -> Vec<(u64, f64)> {
    let event = |event: Value| (event["step"].as_u64().unwrap(), event["loss"].as_f64().unwrap());
    run.job().events_of("validation").into_iter().map(event).filter(|(step, _)| *step > 0).collect()
}

/// The step with the lowest loss.
fn lowest(validations: &[(u64, f64)]) -> u64 {
    validations.iter().min_by(|one, other| one.1.total_cmp(&other.1)).unwrap().0
}

/// The one event of a kind.
fn only(run: &Run, kind: &str) -> Value {
    let mut events = run.job().events_of(kind);
    assert_eq!(events.len(), 1, "{kind}: {events:?}");
    events.remove(0)
}

#[test]
pub(crate) fn r34_early_stopping_patience_is_how_many_validations_may_fail() {
    let bench = Bench::new();
    let whole = bench.run(&overfitting(&bench, &[])).expect_success();
    let losses = validations(&whole);
    let best = lowest(&losses);
    assert!(losses.len() == 9 && best < 15, "it overfits: {losses:?}");
    assert!(whole.job().events_of("kept").is_empty(), "without the setting the last step is the model");
    for (trainable, patience) in [("head", 1), ("head", 3), ("last:1", 1), ("all", 2)] {
        let settings = [("earlyStoppingPatience", &*patience.to_string()), ("trainable", trainable)];
        let run = bench.run(&overfitting(&bench, &settings)).expect_success();
        let losses = validations(&run);
        let (stopped, kept) = (only(&run, "stopped_early"), only(&run, "kept"));
        let best = lowest(&losses);
        let last = losses.last().unwrap().0;
        assert!(losses.len() < 9, "{trainable}: {losses:?}");
        assert_eq!((&stopped["step"], &stopped["cause"]), (&json!(last), &json!("early_stopping")));
        assert_eq!((&kept["kept_step"], &kept["last_step"]), (&json!(best), &json!(last)));
        assert_eq!(run.job().steps("step").len() as u64, last);
        // R19: the model is the best checkpoint, to the bit
        let bytes = |path| fs_err::read(path).unwrap();
        let checkpoint = run.job().folder.join(format!("checkpoints/step-{best:08}/weights.safetensors"));
        assert_eq!(bytes(run.delta()), bytes(checkpoint), "{trainable} {patience}");
        // its metrics are those of that step, and the files say so
        let model = model_of(&bench, &run);
        let at_best = losses.iter().find(|(step, _)| *step == best).unwrap().1;
        assert_eq!(model["metrics"]["validation"][0]["validationLoss"], at_best, "{model}");
        assert_eq!(model["metrics"]["trainingLoss"], run.job().steps("loss")[best as usize - 1]);
        let csv = format!("output/model-customization-job-{}/training_artifacts/model_selection.csv", run.id());
        let csv = fs_err::read_to_string(run.job().folder.join(csv)).unwrap();
        assert_eq!(
            csv,
            format!("kept_step_number,last_step_number,ended_by\n{},{},early_stopping\n", best - 1, last - 1)
        );
        for said in ["early stopping after step ", &format!("the model is that of step {best}, ")] {
            assert!(run.stderr().contains(said), "{}", run.stderr());
        }
        if patience == 3 {
            assert!(last > best + 6, "three epochs of three steps more: {losses:?}");
        }
    }
    let error = bench.refused(&bench.request(&[("earlyStoppingPatience", "1")]));
    assert!(
        error.starts_with("hyperParameters.earlyStoppingPatience watches the validation loss, but there are no"),
        "{error}"
    );
}

/// The record of the model that a run made.
fn model_of(bench: &Bench, run: &Run) -> Value {
    let file = run.delta().parent().unwrap().join("model.json");
    assert!(file.starts_with(bench.path("home")), "{}", file.display());
    serde_json::from_str(&fs_err::read_to_string(file).unwrap()).unwrap()
}

#[test]
pub(crate) fn r34_early_stopping_threshold_is_what_counts_as_better() {
    let bench = Bench::new();
    let run = |threshold: &str| {
        // a rate at which each epoch is a little better than the last
        let settings = [("earlyStoppingThreshold", threshold), ("learningRate", "0.0005")];
        bench.run(&overfitting(&bench, &settings)).expect_success()
    };
    let (patient, strict) = (run("0"), run("0.1"));
    let losses = validations(&patient);
    assert!(losses.len() == 9 && losses.windows(2).all(|pair| pair[1].1 < pair[0].1), "{losses:?}");
    assert!(patient.job().events_of("stopped_early").is_empty() && patient.job().events_of("kept").is_empty());
    let losses = validations(&strict);
    assert_eq!(losses.len(), 3, "the default patience of two: {losses:?}");
    assert!(only(&strict, "stopped_early")["message"].as_str().unwrap().contains("0.1 nats below"));
    assert!(strict.job().events_of("kept").is_empty(), "the last is the lowest: it is the model");
}

/// The general text that forgetting is watched on, in requests that have it.
const PROSE: (&str, &str) = ("generalData", "s3://outcrop-examples/general/prose.txt");

/// One number of every look.
fn looks(run: &Run, field: &str) -> Vec<f64> {
    run.job().events_of("monitor").iter().map(|event| event[field].as_f64().unwrap()).collect()
}

#[test]
pub(crate) fn r34_forgetting_every_is_the_distance_of_looks_and_changes_no_bit() {
    let bench = Bench::new();
    let mut bases = Vec::new();
    for trainable in ["head", "last:1", "all"] {
        let both = [PROSE, ("trainable", trainable), ("epochCount", "3")];
        let run = |settings: &[(&str, &str)]| bench.completed(&[&both, settings].concat());
        let positions = ("forgettingPositions", "100");
        let often = run(&[positions, ("forgettingEvery", "2")]);
        let seldom = run(&[positions, ("forgettingEvery", "100")]);
        assert_eq!(looks(&often, "step"), [0.0, 2.0, 3.0, 4.0, 6.0, 8.0, 9.0], "and at each epoch's end");
        assert_eq!(looks(&seldom, "step"), [0.0, 3.0, 6.0, 9.0]);
        let kl = looks(&often, "kl");
        assert_eq!(looks(&often, "nll")[0], looks(&often, "nll_base")[0], "before training it is the base");
        assert!(kl[0] == 0.0 && kl[1] > 1e-4 && kl[6] > kl[1], "{kl:?}");
        assert_eq!(kl[6], looks(&seldom, "kl")[3], "the same look");
        let chosen = run(&[]);
        let plan = &chosen.job().plan()["monitor"];
        assert_eq!(
            looks(&chosen, "positions"),
            vec![plan["positions"].as_f64().unwrap(); looks(&chosen, "step").len()]
        );
        assert_eq!(looks(&chosen, "step").len() as u64, plan["looks"].as_u64().unwrap(), "{plan}");
        assert!(chosen.stdout().contains("% of the steps' time"), "{}", chosen.stdout());
        assert!(often.stderr().contains("general text after step 9: NLL "), "{}", often.stderr());
        let without = run(&[("forgettingPositions", "0")]);
        for watched in [&often, &seldom, &chosen] {
            assert_eq!(watched.delta_hash(), without.delta_hash(), "{trainable}: watching changes nothing");
            assert_eq!(watched.job().steps("loss"), without.job().steps("loss"));
        }
        bases.push(looks(&often, "nll_base")[0]);
    }
    assert!(bases.iter().all(|base| *base == bases[0]), "one base, one sample, with features or without: {bases:?}");
}

#[test]
pub(crate) fn r34_forgetting_positions_is_the_size_of_a_look() {
    let bench = Bench::new();
    let run = |positions: &str| bench.completed(&[PROSE, ("forgettingPositions", positions)]);
    let (none, few, many) = (run("0"), run("16"), run("200"));
    assert!(looks(&none, "step").is_empty() && none.job().plan().get("monitor").is_none());
    assert!(none.stdout().contains("not watched during training: forgettingPositions is 0"), "{}", none.stdout());
    assert_eq!((looks(&few, "positions"), looks(&many, "positions")), (vec![16.0; 3], vec![200.0; 3]));
    assert_ne!(looks(&few, "nll_base"), looks(&many, "nll_base"));
    let other = bench.completed(&[PROSE, ("forgettingPositions", "200"), ("seed", "1")]);
    assert_ne!(looks(&other, "nll_base"), looks(&many, "nll_base"), "the seed draws them");
    let bytes = [&none, &many].map(|run| run.job().plan()["memory"]["monitorBytes"].as_u64().unwrap());
    assert_eq!(bytes, [0, 200 * 512 * 8], "the plan's memory counts them");
    let silent = bench.completed(&[("generalData", "none")]);
    assert!(looks(&silent, "step").is_empty());
    assert!(silent.stdout().contains("not watched during training: generalData has no running text"));
}

#[test]
pub(crate) fn r34_r32_r19_max_forgetting_ends_the_run_and_keeps_what_is_within_it() {
    let bench = Bench::new();
    for trainable in ["head", "last:1", "all"] {
        let both =
            [PROSE, ("trainable", trainable), ("learningRate", "0.02"), ("epochCount", "4"), ("forgettingEvery", "1")];
        let settings = |limit| [&both[..], &[("maxForgetting", limit)]].concat();
        let free = bench.completed(&settings("100"));
        assert!(free.job().events_of("stopped_early").is_empty() && free.job().events_of("kept").is_empty());
        let rises: Vec<f64> =
            looks(&free, "nll").iter().zip(looks(&free, "nll_base")).map(|(tuned, base)| tuned - base).collect();
        // a limit that the fifth look, or the first one after it that is higher, breaks
        let limit = rises[1..5].iter().copied().fold(1e-4, f64::max) + 1e-9;
        let breaks =
            (5..rises.len()).find(|&step| rises[step] > limit).unwrap_or_else(|| panic!("{trainable}: {rises:?}"));
        let run = bench.completed(&settings(&limit.to_string()));
        let (stopped, kept) = (only(&run, "stopped_early"), only(&run, "kept"));
        assert_eq!((&stopped["step"], &stopped["cause"]), (&json!(breaks), &json!("max_forgetting")));
        assert_eq!(run.job().steps("step").len(), breaks);
        assert_eq!(kept["kept_step"], breaks - 1, "the last within the limit");
        let name = format!("checkpoints/step-{:08}/weights.safetensors", breaks - 1);
        let bytes = |path| fs_err::read(path).unwrap();
        assert_eq!(bytes(run.delta()), bytes(run.job().folder.join(name)), "{trainable}");
        assert!(run.stderr().contains("nats per token, maxForgetting is "), "{}", run.stderr());
    }
    let mut request = bench.request(&[PROSE, ("maxForgetting", "1e-9"), ("trainable", "all"), ("learningRate", "0.1")]);
    let error = bench.run(&request).error();
    assert!(error.contains("no earlier look was within it; lower learningRate"), "{error}");
    request["hyperParameters"]["generalData"] = json!("none");
    let error = bench.refused(&request);
    assert!(
        error.contains("maxForgetting watches what is forgotten of general text, but generalData has no"),
        "{error}"
    );
}

#[test]
pub(crate) fn r34_r8_sample_generations_are_answered_each_epoch_and_change_no_bit() {
    let bench = Bench::new();
    for trainable in ["head", "all"] {
        // learns the twelve records by heart
        let both = [("trainable", trainable), ("epochCount", "10"), ("batchSize", "2"), ("learningRate", "0.02")];
        let run = |count: &str| bench.completed(&[&both[..], &[("sampleGenerations", count)]].concat());
        let (none, two, many) = (run("0"), run("2"), run("16"));
        assert!(none.job().events_of("samples").is_empty());
        for run in [&two, &many] {
            assert_eq!(run.delta_hash(), none.delta_hash(), "{trainable}: answering changes nothing");
            assert_eq!(run.job().steps("loss"), none.job().steps("loss"));
        }
        let events = two.job().events_of("samples");
        assert_eq!(
            events.iter().map(|event| event["step"].as_u64().unwrap()).collect::<Vec<_>>(),
            (1..=10).map(|e| 6 * e).collect::<Vec<_>>()
        );
        let prompts = |event: &Value| -> Vec<Value> {
            event["samples"].as_array().unwrap().iter().map(|sample| sample["prompt"].clone()).collect()
        };
        assert!(events.iter().all(|event| prompts(event) == prompts(&events[0])), "the same each epoch");
        assert_eq!(
            (prompts(&events[0]).len(), prompts(&many.job().events_of("samples")[0]).len()),
            (2, 12),
            "all there are"
        );
        let train = fs_err::read_to_string(bench.path("train.jsonl")).unwrap();
        let lines: Vec<Value> = train.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let last = many.job().events_of("samples").pop().unwrap();
        for sample in last["samples"].as_array().unwrap() {
            let of = lines.iter().find(|line| line["prompt"] == sample["prompt"]).unwrap_or_else(|| panic!("{sample}"));
            assert_eq!(sample["expected"].as_str().unwrap().trim(), of["completion"], "{sample}");
        }
        let rate = |event: &Value| event["stop_rate"].as_f64().unwrap();
        let stopped =
            |event: &Value| event["samples"].as_array().unwrap().iter().filter(|s| s["end"] == "stop").count();
        for event in many.job().events_of("samples") {
            assert_eq!(rate(&event), stopped(&event) as f64 / 12.0);
        }
        if trainable == "all" {
            let first = &many.job().events_of("samples")[0];
            assert!(
                rate(&last) > rate(first) && rate(&last) > 0.5,
                "it learns to stop: {} {}",
                rate(first),
                rate(&last)
            );
        }
        assert!(two.stderr().contains("sample answers after step 60: "), "{}", two.stderr());
        // of validation records where there are some
        let split = bench.completed(&[&both[..], &[("sampleGenerations", "16"), ("evalPercentage", "25")]].concat());
        assert_eq!(prompts(&split.job().events_of("samples")[0]).len(), 3);
    }
}
