//! The winner: of the settings (seeds apart) with the lowest mean validation loss, the seed with the lowest.

use outcrop_eval::statistics::mean;
use outcrop_job::StringMap;
use outcrop_job::sweep::{SweepPlan, TrialResult};

/// Trials that differ in their seed alone.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// Their values of what varies, the seed left out.
    pub settings: StringMap,
    /// Their numbers.
    pub trials: Vec<usize>,
    /// Mean validation loss at the end; None where one has none.
    pub mean: Option<f64>,
    /// Standard deviation between seeds (n - 1); None below two seeds.
    pub deviation: Option<f64>,
}

/// What was chosen.
#[derive(Debug, Clone, PartialEq)]
pub struct Selection {
    /// The winner's number.
    pub winner: usize,
    /// Every group, in the trials' order.
    pub groups: Vec<Group>,
    /// Between-seed standard deviation over all groups (root of the mean variance); None without repeated seeds.
    pub seed_deviation: Option<f64>,
}

/// Chooses among the trials that came to their end. None where none did. Settings of which one seed diverged come after
/// those of which none did.
pub(crate) fn select(plan: &SweepPlan, results: &[TrialResult]) -> Option<Selection> {
    let loss = |number: usize| results.iter().find(|result| result.trial == number).and_then(TrialResult::final_loss);
    let groups = groups(plan, &loss);
    // a mean over all seeds first; else over those that came to their end
    let rank = |group: &&Group| {
        let ended: Vec<f64> = group.trials.iter().filter_map(|number| loss(*number)).collect();
        let value = if ended.is_empty() { f64::INFINITY } else { mean(&ended) };
        (group.mean.is_none(), value)
    };
    let best = groups.iter().filter(|group| rank(group).1.is_finite());
    let best = best.min_by(|one, other| {
        let (one, other) = (rank(one), rank(other));
        one.0.cmp(&other.0).then(one.1.total_cmp(&other.1))
    })?;
    let losses = best.trials.iter().filter_map(|&number| Some((number, loss(number)?)));
    let (winner, _) = losses.min_by(|one, other| one.1.total_cmp(&other.1))?;
    let variances: Vec<f64> = groups.iter().filter_map(|group| group.deviation).map(|sd| sd * sd).collect();
    let seed_deviation = (!variances.is_empty()).then(|| mean(&variances).sqrt());
    Some(Selection { winner, groups, seed_deviation })
}

fn groups(plan: &SweepPlan, loss: &dyn Fn(usize) -> Option<f64>) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for trial in &plan.trials {
        let settings: StringMap = trial.settings.iter().filter(|(key, _)| *key != "seed").collect();
        match groups.iter_mut().find(|group| group.settings == settings) {
            Some(group) => group.trials.push(trial.number),
            None => groups.push(Group { settings, trials: vec![trial.number], mean: None, deviation: None }),
        }
    }
    for group in &mut groups {
        let losses: Option<Vec<f64>> = group.trials.iter().map(|number| loss(*number)).collect();
        let Some(losses) = losses else { continue };
        let middle = mean(&losses);
        group.mean = Some(middle);
        if losses.len() > 1 {
            let squares: f64 = losses.iter().map(|loss| (loss - middle).powi(2)).sum();
            group.deviation = Some((squares / (losses.len() - 1) as f64).sqrt());
        }
    }
    groups
}
