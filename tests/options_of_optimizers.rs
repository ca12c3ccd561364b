//! R34: the settings of optimizers and of the gradient they get. A module of `options`, whose list has their tests.

use crate::common::{Bench, Run};
use crate::{losses, norms, of_both, pair};

#[test]
pub(crate) fn r34_optimizer_is_the_rule_of_the_updates() {
    let bench = Bench::new();
    let run = |optimizer, rate| {
        let settings =
            [("optimizer", optimizer), ("learningRate", rate), ("schedule", "constant"), ("shuffle", "false")];
        let run = bench.completed(&settings);
        let again = bench.completed(&settings);
        assert_eq!(run.delta_hash(), again.delta_hash(), "{optimizer}: the same request is the same run");
        let losses = losses(&run);
        assert!((0..3).all(|step| losses[step + 3] < losses[step]), "{optimizer}: {losses:?}");
        assert!(run.stdout().contains(optimizer) || run.stderr().contains(optimizer), "the plan says it");
        run
    };
    let runs = [run("adamw", "0.01"), run("adamw8bit", "0.01"), run("sgd", "0.5"), run("lion", "0.003")];
    let mut hashes: Vec<String> = runs.iter().map(Run::delta_hash).collect();
    hashes.sort();
    hashes.dedup();
    assert_eq!(hashes.len(), 4);
    let values = 512 * 32; // the head's
    let bytes: Vec<u64> =
        runs.iter().map(|run| run.job().plan()["memory"]["optimizerBytes"].as_u64().unwrap()).collect();
    assert_eq!(bytes, [8 * values, 2 * (values + values / 256 * 4), 4 * values, 4 * values]);
    assert_eq!(runs[3].job().plan()["hyperparameters"]["adamBeta2"], "0.99", "Lion's own default");
    assert_eq!(
        bench.refused(&bench.request(&[("optimizer", "adam")])),
        "job.json: hyperParameters.optimizer is `adam`, allowed are `adamw`, `adamw8bit`, `sgd`, `lion`"
    );
}

#[test]
pub(crate) fn r34_momentum_is_the_memory_of_sgd() {
    let both = [("optimizer", "sgd"), ("schedule", "constant"), ("learningRate", "0.5")];
    let (bench, runs) = pair("momentum", ["0.9", "0"], &both);
    let [one, other] = of_both(&runs, losses);
    assert_eq!(one[..2], other[..2], "a first update has nothing to remember");
    assert!(one[5] < other[5], "{one:?} {other:?}");
    assert_eq!(
        bench.refused(&bench.request(&[("momentum", "0.9")])),
        "job.json: hyperParameters.momentum has no effect with optimizer `adamw`, only with `sgd`; leave it out"
    );
}

#[test]
pub(crate) fn r34_weight_decay_shrinks_the_weights() {
    let (_bench, runs) = pair("weightDecay", ["0", "1"], &[("trainable", "all"), ("learningRate", "0.01")]);
    let [plain, decayed] = of_both(&runs, norms);
    for ((name, plain), (_, decayed)) in plain.iter().zip(&decayed) {
        let is_norm = name.contains("norm");
        assert!(is_norm || decayed < plain, "{name}: {decayed} {plain}");
    }
    assert_eq!(losses(&runs[0])[0], losses(&runs[1])[0]);
}

#[test]
pub(crate) fn r34_r37_clip_norm_scales_long_gradients() {
    let bench = Bench::new();
    let run = |norm| bench.completed(&[("clipNorm", norm)]);
    let (off, tight) = (run("0"), run("0.001"));
    assert_eq!(off.job().steps("clip_factor"), [1.0; 6]);
    let (factors, lengths) = (tight.job().steps("clip_factor"), tight.job().steps("grad_norm"));
    for (factor, length) in factors.iter().zip(&lengths) {
        assert!(*factor < 1.0 && (factor * length - 0.001).abs() < 1e-6, "{factor} {length}");
    }
    assert_eq!(off.job().steps("grad_norm")[0], lengths[0], "the norm is the one before clipping");
    assert_ne!(off.delta_hash(), tight.delta_hash());
}

#[test]
pub(crate) fn r34_z_loss_weight_keeps_logits_small_and_is_in_no_reported_loss() {
    for trainable in ["head", "last:1", "all"] {
        let both = [("trainable", trainable), ("epochCount", "5"), ("clipNorm", "0"), ("evalPercentage", "25")];
        let (_bench, runs) = pair("zLossWeight", ["0", "0.5"], &both);
        let [plain, weighed] = of_both(&runs, losses);
        assert_eq!(plain[0], weighed[0], "{trainable}: the first loss is the base's NLL, without the term");
        let norm = of_both(&runs, |run| run.job().steps("grad_norm")[0]);
        assert!((norm[0] - norm[1]).abs() > 1e-3 * norm[0], "{trainable}: the term is in the gradient: {norm:?}");
        assert!(plain.last() < weighed.last(), "{trainable}: it costs NLL: {plain:?} {weighed:?}");
        let validation = of_both(&runs, |run| run.job().events_of("validation")[0]["loss"].clone());
        assert_eq!(validation[0], validation[1], "{trainable}");
        assert_ne!(runs[0].delta_hash(), runs[1].delta_hash());
    }
}

/// Two runs whose first update is the same and whose later ones are not.
fn assert_memory_of_adam(key: &str, values: [&str; 2]) {
    let (_bench, runs) = pair(key, values, &[("schedule", "constant")]);
    let [one, other] = of_both(&runs, losses);
    assert_eq!(one[0], other[0]);
    assert!((one[1] - other[1]).abs() < 1e-4, "a first update forgets nothing: {one:?} {other:?}");
    assert!((one[5] - other[5]).abs() > 1e-3, "{one:?} {other:?}");
    assert_ne!(runs[0].delta_hash(), runs[1].delta_hash());
}

#[test]
pub(crate) fn r34_adam_beta1_is_the_memory_of_the_gradient() {
    assert_memory_of_adam("adamBeta1", ["0.9", "0"]);
}

#[test]
pub(crate) fn r34_adam_beta2_is_the_memory_of_its_square() {
    assert_memory_of_adam("adamBeta2", ["0.999", "0.1"]);
}

#[test]
pub(crate) fn r34_adam_epsilon_dampens_the_update() {
    let (_bench, runs) = pair("adamEpsilon", ["1e-8", "1"], &[("schedule", "constant")]);
    let [small, large] = of_both(&runs, losses);
    assert_eq!(small[0], large[0]);
    assert!(large[5] > small[5] + 0.1, "{small:?} {large:?}");
}
