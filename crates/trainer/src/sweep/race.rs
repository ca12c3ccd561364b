//! Ending losers early: at an epoch's end a trial is compared, item by item, with the best of the trials before it at
//! the same step. One-sided Wilcoxon signed-rank test over the items of the set that selects; the level is divided by
//! the looks that the trial will have (Bonferroni). Runs go one after the other then, so that the outcome doesn't
//! depend on which was faster.

use super::plan::Trial;
use outcrop_eval::statistics::mean;
use outcrop_eval::wilcoxon::signed_rank_above;
use outcrop_job::hyperparameters::Schedule;
use outcrop_job::sweep::TrialResult;

/// The losses of earlier trials, to race against.
pub(crate) struct Race {
    /// Largest p value that ends a trial, over all its looks.
    pub(crate) level: f64,
    rivals: Vec<Rival>,
}

/// A trial at the ends of its epochs.
struct Rival {
    number: usize,
    class: Class,
    /// Steps, and the losses of the items then.
    looks: Vec<(u64, Vec<f64>)>,
}

/// Trials that can be compared at the same step: same data seen, and rates that are at the same place of their course.
#[derive(PartialEq)]
struct Class {
    batch_size: u64,
    schedule: Schedule,
    /// The length, where the rate depends on it.
    steps: Option<u64>,
}

impl Class {
    fn of(trial: &Trial, steps: u64) -> Self {
        let settings = &trial.hyperparameters;
        let steps = (settings.schedule != Schedule::Constant).then_some(steps);
        Self { batch_size: settings.batch_size, schedule: settings.schedule, steps }
    }
}

impl Race {
    pub(crate) fn new(level: f64) -> Self {
        Self { level, rivals: Vec::new() }
    }

    /// Enters a trial that ended, to be raced against.
    pub(crate) fn enter(&mut self, trial: &Trial, steps: u64, result: &TrialResult) {
        let looks = result.validation.iter().filter(|loss| loss.step > 0).map(|loss| loss.step);
        let looks: Vec<_> = looks.zip(result.items.iter().cloned()).collect();
        self.rivals.push(Rival { number: result.trial, class: Class::of(trial, steps), looks });
    }

    /// Why `trial`, whose items have these losses after `step`, ends here; None where it goes on. `looks` is how often
    /// it will be asked.
    pub(crate) fn judge(&self, trial: &Trial, steps: u64, step: u64, items: &[f64], looks: u64) -> Option<String> {
        let class = Class::of(trial, steps);
        let at =
            |rival: &Rival| rival.looks.iter().find(|(at, losses)| *at == step && losses.len() == items.len()).cloned();
        let rivals = self.rivals.iter().filter(|rival| rival.class == class);
        let losses = rivals.filter_map(|rival| Some((rival.number, at(rival)?.1)));
        let (number, best) = losses.min_by(|(_, one), (_, other)| mean(one).total_cmp(&mean(other)))?;
        let behind: Vec<f64> = items.iter().zip(&best).map(|(own, best)| own - best).collect();
        let (p_value, level) = (signed_rank_above(&behind), self.level / looks.max(1) as f64);
        (mean(&behind) > 0.0 && p_value <= level).then(|| {
            format!(
                "stopped early at step {step}: behind trial {number} by {:.4} nats an item over {} validation items \
                 (Wilcoxon signed-rank, one-sided p = {p_value:.2e}, level {level:.2e})",
                mean(&behind),
                items.len()
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sweep::resolve;
    use outcrop_job::sweep::{EpochLoss, SweepRequest, TrialStatus};

    fn trial() -> Trial {
        let text = r#"{"customizationType": "FINE_TUNING", "baseModelIdentifier": "pebble",
            "trainingDataConfig": {"s3Uri": "t.jsonl"},
            "validationDataConfig": {"validators": [{"s3Uri": "v.jsonl"}]},
            "hyperParameters": {"learningRate": ["1e-4"]}}"#;
        resolve(&SweepRequest::from_json_file("sweep.json", text).unwrap()).unwrap().remove(0)
    }

    fn race(items: Vec<f64>) -> Race {
        let mut race = Race::new(0.01);
        let validation = [0, 10].map(|step| EpochLoss { step, loss: 1.0 }).into();
        let result = TrialResult {
            trial: 3,
            status: TrialStatus::Completed,
            reason: None,
            steps: 20,
            job: None,
            model: None,
            delta_hash: None,
            training_loss: 1.0,
            validation,
            items: vec![items],
            task: Vec::new(),
            general: Vec::new(),
            headline: String::new(),
            seconds: 0.0,
        };
        race.enter(&trial(), 20, &result);
        race
    }

    #[test]
    fn only_a_trial_that_is_plainly_behind_ends() {
        let best: Vec<f64> = (0..20).map(f64::from).collect();
        let race = race(best.clone());
        let worse: Vec<f64> = best.iter().map(|loss| loss + 0.1 + loss / 1000.0).collect();
        let reason = race.judge(&trial(), 20, 10, &worse, 4).unwrap();
        assert!(
            reason.starts_with("stopped early at step 10: behind trial 3 by 0.1095 nats an item over 20"),
            "{reason}"
        );
        assert_eq!(race.judge(&trial(), 20, 10, &best, 4), None, "equal");
        let better: Vec<f64> = best.iter().map(|loss| loss - 0.1 - loss / 1000.0).collect();
        assert_eq!(race.judge(&trial(), 20, 10, &better, 4), None, "ahead");
        let noisy: Vec<f64> = best.iter().map(|loss| loss + 0.1 * (loss * 7.0).sin()).collect();
        assert_eq!(race.judge(&trial(), 20, 10, &noisy, 4), None, "no difference shown");
        assert_eq!(race.judge(&trial(), 20, 20, &worse, 4), None, "nobody was seen at that step");
        assert_eq!(race.judge(&trial(), 30, 10, &worse, 4), None, "another horizon");
        assert!(race.judge(&trial(), 20, 10, &worse, 1_000_000).is_none(), "the level is shared among the looks");
    }
}
