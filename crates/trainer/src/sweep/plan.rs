//! Which trials there are and which share their steps. With a schedule whose beginning doesn't depend on its length, a
//! run of fewer epochs is a prefix of a longer one, or branches off it where its decay begins.

use crate::{Result, Schedule, TrainError};
use outcrop_job::sweep::{RunPlan, SweepRequest};
use outcrop_job::{Hyperparameters, Request, StringMap, content_hash, request::Origin};

/// One combination of what varies.
#[derive(Debug, Clone)]
pub struct Trial {
    /// Its values of what varies.
    pub settings: StringMap,
    /// An ordinary job's request.
    pub request: Request,
    /// Its settings, resolved.
    pub hyperparameters: Hyperparameters,
}

/// Settings that watch a job while it trains.
const WATCHING: &[&str] =
    &["earlyStoppingThreshold", "earlyStoppingPatience", "forgettingEvery", "forgettingPositions", "maxForgetting"];

/// Every trial of a sweep, checked. Errors: all that is wrong, a line each.
pub fn resolve(sweep: &SweepRequest) -> std::result::Result<Vec<Trial>, Vec<String>> {
    let mut problems: Vec<String> = Vec::new();
    let mut add = |problem: String| {
        if !problems.contains(&problem) {
            problems.push(problem);
        }
    };
    if let Err(violations) = sweep.request.validate(Origin::File) {
        violations.iter().for_each(|violation| add(violation.to_string()));
    }
    // the test set is left out of the trials, so it is read here
    if let Err(errors) = Hyperparameters::resolve(&sweep.request.hyper_parameters, sweep.request.customization_type) {
        // a key may have no effect without the lists' values; those are seen below
        let mut evaluation = errors.iter().filter(|error| error.to_string().contains("evaluationData"));
        evaluation.by_ref().for_each(|error| add(error.to_string()));
    }
    for key in WATCHING {
        if sweep.request.hyper_parameters.iter().any(|(name, _)| name == *key)
            || sweep.varied.iter().any(|v| v.key == *key)
        {
            add(format!(
                "{key} has no effect in a sweep: its trials train to their ends and are compared there; leave it out"
            ));
        }
    }
    let mut trials = Vec::new();
    for settings in sweep.trials().unwrap_or_else(|problem| {
        add(problem);
        Vec::new()
    }) {
        let request = sweep.trial(&settings);
        match Hyperparameters::resolve(&request.hyper_parameters, request.customization_type) {
            Ok(hyperparameters) => trials.push(Trial { settings, request, hyperparameters }),
            Err(errors) => errors.iter().for_each(|error| add(error.to_string())),
        }
    }
    let varies = |key: &str| sweep.varied.iter().any(|varied| varied.key == key);
    let held_out = trials.first().is_some_and(|trial| trial.hyperparameters.eval_percentage > 0.0);
    let validators = !sweep.request.validators().is_empty();
    if !trials.is_empty() && !validators && !held_out {
        add("a sweep selects its winner on validation data; give validationDataConfig, or evalPercentage".into());
    }
    if trials.iter().any(|trial| trial.hyperparameters.gate.is_some()) {
        add("gate is a job's, and a sweep's winner is judged at the end of all; leave it out and hold the winner to it with `outcrop eval --gate`".into());
    }
    if varies("seed") && held_out && !validators {
        add("seed can't be a list with evalPercentage: each seed would hold out other records; give validationDataConfig".into());
    }
    if problems.is_empty() { Ok(trials) } else { Err(problems) }
}

/// Errors: a file of the test set is one that selection sees, word for word.
pub(crate) fn check_test_set(test: &[std::path::PathBuf], seen: &[outcrop_job::plan::DataSet]) -> Result<()> {
    for path in test.iter().filter(|path| path.is_file()) {
        let hash = content_hash::of_file(path)?;
        if let Some(set) = seen.iter().find(|set| set.files.iter().any(|file| file.hash == hash)) {
            return Err(TrainError::Plan(format!(
                "evaluationData `{}` is the same data as `{}`, which selection sees; give a test set of its own",
                path.display(),
                set.location
            )));
        }
    }
    Ok(())
}

/// Groups trials, whose optimizer steps are `steps`, into runs: the most steps that can be shared are.
pub(crate) fn runs(trials: &[Trial], steps: &[u64]) -> Vec<RunPlan> {
    let schedule = |index: usize| Schedule::new(&trials[index].hyperparameters, steps[index]);
    // everything but the number of epochs, and the length too where every step depends on it
    let key = |index: usize| {
        let settings = trials[index].hyperparameters.effective();
        let mut key: Vec<String> = settings
            .iter()
            .filter(|(name, _)| *name != "epochCount")
            .map(|(name, text)| format!("{name}={text}"))
            .collect();
        if schedule(index).shared_steps() == 0 {
            key.push(steps[index].to_string());
        }
        key
    };
    let mut groups: Vec<(Vec<String>, Vec<usize>)> = Vec::new();
    for index in 0..trials.len() {
        let key = key(index);
        match groups.iter_mut().find(|(known, _)| *known == key) {
            Some((_, members)) => members.push(index),
            None => groups.push((key, vec![index])),
        }
    }
    let run = |(_, mut members): (Vec<String>, Vec<usize>)| {
        members.sort_by_key(|&index| (steps[index], index));
        let fork = |&index: &usize| match schedule(index).shared_steps() {
            0 => steps[index], // those behind it have its length: they are the same run
            shared => shared,
        };
        let forks = members[..members.len() - 1].iter().map(fork).collect();
        RunPlan { trials: members.iter().map(|index| index + 1).collect(), forks }
    };
    groups.into_iter().map(run).collect()
}

/// Steps that a run really trains: each trial begins where the one before it hands on.
pub(crate) fn trained_steps(run: &RunPlan, steps: &[u64]) -> u64 {
    let begins = std::iter::once(&0).chain(&run.forks);
    run.trials.iter().zip(begins).map(|(trial, begin)| steps[trial - 1] - begin).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trials(hyper_parameters: &str) -> Vec<Trial> {
        let text = format!(
            r#"{{"customizationType": "FINE_TUNING", "baseModelIdentifier": "pebble",
                "trainingDataConfig": {{"s3Uri": "t.jsonl"}},
                "validationDataConfig": {{"validators": [{{"s3Uri": "v.jsonl"}}]}},
                "hyperParameters": {{{hyper_parameters}}}}}"#
        );
        resolve(&SweepRequest::from_json_file("sweep.json", &text).unwrap()).unwrap()
    }

    /// Runs of trials with ten steps an epoch.
    fn planned(hyper_parameters: &str) -> (Vec<RunPlan>, u64) {
        let trials = trials(hyper_parameters);
        let steps: Vec<u64> = trials.iter().map(|trial| trial.hyperparameters.epoch_count * 10).collect();
        let runs = runs(&trials, &steps);
        let trained = runs.iter().map(|run| trained_steps(run, &steps)).sum();
        (runs, trained)
    }

    fn run(trials: &[usize], forks: &[u64]) -> RunPlan {
        RunPlan { trials: trials.into(), forks: forks.into() }
    }

    const LISTS: &str = r#""learningRate": ["1e-4", "1e-3"], "epochCount": ["3", "1", "2"]"#;

    #[test]
    fn fewer_epochs_are_a_prefix_where_the_rate_is_constant() {
        let (runs, trained) = planned(&format!(r#"{LISTS}, "schedule": "constant""#));
        assert_eq!(runs, [run(&[2, 3, 1], &[10, 20]), run(&[5, 6, 4], &[10, 20])]);
        assert_eq!(trained, 2 * 30, "instead of 2 * 60");
    }

    #[test]
    fn a_decay_branches_off_the_constant_part() {
        let (runs, trained) = planned(&format!(r#"{LISTS}, "schedule": "wsd", "decayFraction": "0.2""#));
        assert_eq!(runs, [run(&[2, 3, 1], &[8, 16]), run(&[5, 6, 4], &[8, 16])]);
        assert_eq!(trained, 2 * (10 + (20 - 8) + (30 - 16)));
    }

    #[test]
    fn a_schedule_that_ends_at_the_end_shares_nothing() {
        for schedule in ["linear", "cosine"] {
            let (runs, trained) = planned(&format!(r#"{LISTS}, "schedule": "{schedule}""#));
            assert_eq!(runs.len(), 6);
            assert_eq!(trained, 120);
        }
        // of one length they are one run
        let all = trials(LISTS);
        assert_eq!(super::runs(&all, &[4; 6]), [run(&[1, 2, 3], &[4, 4]), run(&[4, 5, 6], &[4, 4])]);
    }

    #[test]
    fn what_is_missing_or_cannot_be_is_said() {
        let problems = |validation: &str, settings: &str| {
            let text = format!(
                r#"{{"customizationType": "FINE_TUNING", "baseModelIdentifier": "pebble",
                    "trainingDataConfig": {{"s3Uri": "t.jsonl"}}, {validation} "hyperParameters": {{{settings}}}}}"#
            );
            resolve(&SweepRequest::from_json_file("sweep.json", &text).unwrap()).unwrap_err().join("\n")
        };
        let rates = r#""learningRate": ["1e-4", "1e-3"]"#;
        assert!(problems("", rates).starts_with("a sweep selects its winner on validation data"));
        let seeds = r#""seed": ["1", "2"], "evalPercentage": "10""#;
        assert!(problems("", seeds).starts_with("seed can't be a list with evalPercentage"));
        let validation = r#""validationDataConfig": {"validators": [{"s3Uri": "v.jsonl"}]},"#;
        assert!(problems(validation, r#""seed": "1""#).starts_with("the sweep varies nothing"));
        for key in WATCHING {
            let found = problems(validation, &format!(r#"{rates}, "{key}": "1""#));
            assert!(found.contains(&format!("{key} has no effect in a sweep")), "{found}");
        }
        let found = problems(validation, r#""learningRate": ["0.5", "7"], "epochCount": ["1", "11"]"#);
        assert_eq!(
            found,
            "hyperParameters.epochCount is `11`, allowed are whole numbers from 1 to 10\n\
             hyperParameters.learningRate is `7`, allowed are numbers from 0 to 1"
        );
    }
}
