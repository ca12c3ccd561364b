//! `sweep.json`: a job request whose hyperparameters may be lists. A trial takes one value of each list.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::request::{List, Origin, Problem, RequestError, read_lists};
use crate::wording::{nearest, quote};
use crate::{Hyperparameters, Request, StringMap};

/// Hyperparameters that may be lists: those that shape the training and leave base, data and boundary as they are, so
/// that trials can share them.
pub const VARYING: [&str; 14] = [
    "learningRate",
    "epochCount",
    "batchSize",
    "seed",
    "learningRateWarmupSteps",
    "schedule",
    "decayFraction",
    "weightDecay",
    "clipNorm",
    "optimizer",
    "momentum",
    "adamBeta1",
    "adamBeta2",
    "adamEpsilon",
];

/// Most trials of one sweep: a list too many is noticed before a disk is full.
pub const MOST_TRIALS: usize = 1000;

/// A hyperparameter and the values that a sweep tries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Varied {
    /// Its name.
    pub key: String,
    /// As written.
    pub values: Vec<String>,
}

/// The request of a sweep.
#[derive(Debug, Clone, PartialEq)]
pub struct SweepRequest {
    /// The request of every trial, without what varies.
    pub request: Request,
    /// What varies, in the file's order; the last varies fastest.
    pub varied: Vec<Varied>,
}

impl SweepRequest {
    /// Reads a sweep's file; `file` is its name in messages.
    ///
    /// # Errors
    /// All problems of the file at once, each as `file:line:column: message`: those of a request, an empty list, a
    /// repeated value, a learning rate that isn't positive, a list where no list can be.
    pub fn from_json_file(file: &str, text: &str) -> Result<Self, RequestError> {
        let (request, lists) = read_lists(file, text, Origin::File, true)?;
        let mut problems = Vec::new();
        for List { key, values, line, column } in &lists {
            if let Some(message) = list_problem(key, values) {
                problems.push(Problem { file: file.to_string(), line: *line, column: *column, message });
            }
        }
        if !problems.is_empty() {
            return Err(RequestError { problems });
        }
        let varied = lists.into_iter().map(|list| Varied { key: list.key, values: list.values }).collect();
        Ok(Self { request, varied })
    }

    /// Applies one `key=value`. Commas make a list where the key may be one: `learningRate=1e-4,1e-3`.
    ///
    /// # Errors
    /// As for [`Request::set`]; a list that can't be.
    pub fn set(&mut self, pair: &str) -> Result<(), String> {
        let (key, value) = pair.split_once('=').map_or((pair, ""), |(key, value)| (key.trim(), value.trim()));
        let key = key.strip_prefix("hyperParameters.").unwrap_or(key);
        if !VARYING.contains(&key) {
            return self.request.set(pair).map_err(|error| error.to_string());
        }
        let values: Vec<String> = value.split(',').map(|value| value.trim().to_string()).collect();
        if let [_] = values.as_slice() {
            self.request.set(pair).map_err(|error| error.to_string())?;
            self.varied.retain(|varied| varied.key != key);
            return Ok(());
        }
        if let Some(message) = list_problem(key, &values) {
            return Err(message);
        }
        match self.varied.iter_mut().find(|varied| varied.key == key) {
            Some(varied) => varied.values = values,
            None => {
                self.varied.push(Varied { key: key.to_string(), values });
                let others = self.request.hyper_parameters.iter().filter(|(name, _)| *name != key);
                self.request.hyper_parameters = others.collect();
            }
        }
        Ok(())
    }

    /// The settings of each trial, by the keys that vary, in order.
    ///
    /// # Errors
    /// Nothing varies, or there are more than [`MOST_TRIALS`].
    pub fn trials(&self) -> Result<Vec<StringMap>, String> {
        let count = self.varied.iter().try_fold(1usize, |count, varied| count.checked_mul(varied.values.len()));
        match count {
            _ if self.varied.is_empty() => {
                return Err(
                    "the sweep varies nothing; give a list, such as \"learningRate\": [\"1e-4\", \"1e-3\"]".into()
                );
            }
            Some(count) if count <= MOST_TRIALS => {}
            _ => return Err(format!("the lists make more than {MOST_TRIALS} trials; shorten them")),
        }
        let mut trials = vec![StringMap::new()];
        for varied in &self.varied {
            let extended = trials.iter().flat_map(|trial| {
                varied.values.iter().map(|value| {
                    let mut trial = trial.clone();
                    trial.insert(varied.key.as_str(), value.as_str());
                    trial
                })
            });
            trials = extended.collect();
        }
        Ok(trials)
    }

    /// The request of one trial: an ordinary job's. `evaluationData` stays away, so that no trial is ever scored on the
    /// test set; the winner alone is, once it is chosen.
    pub fn trial(&self, settings: &StringMap) -> Request {
        let mut request = self.request.clone();
        for (key, value) in settings.iter() {
            request.hyper_parameters.insert(key, value);
        }
        let kept = request.hyper_parameters.iter().filter(|(key, _)| *key != "evaluationData");
        request.hyper_parameters = kept.collect();
        request.client_request_token = None;
        request
    }

    /// Locations of the test set, which only the winner is scored on; none where the request names none.
    pub fn evaluation_data(&self) -> Vec<String> {
        let only = |key: &str, value: &str| (key == "evaluationData").then(|| (key.to_string(), value.to_string()));
        let map: StringMap = self.request.hyper_parameters.iter().filter_map(|(key, value)| only(key, value)).collect();
        let settings = Hyperparameters::resolve(&map, self.request.customization_type);
        settings.map(|settings| settings.evaluation_data).unwrap_or_default()
    }

    /// The file's form again: the request with its lists.
    ///
    /// # Errors
    /// serde's own.
    pub fn to_json(&self) -> serde_json::Result<String> {
        let mut value = serde_json::to_value(&self.request)?;
        for varied in &self.varied {
            value["hyperParameters"][&varied.key] = Value::from(varied.values.clone());
        }
        serde_json::to_string_pretty(&value)
    }
}

/// What is wrong with a list, if anything.
fn list_problem(key: &str, values: &[String]) -> Option<String> {
    let known = crate::hyperparameters::table().iter().any(|row| row.name == key);
    if !known {
        let near = nearest(key, VARYING).unwrap_or_default();
        return Some(format!("unknown hyperparameter {}; the nearest known one is `{near}`", quote(key)));
    }
    if !VARYING.contains(&key) {
        let keys = VARYING.join(", ");
        return Some(format!(
            "hyperParameters.{key} can't be a list: trials share base, data and boundary; lists can be {keys}"
        ));
    }
    if values.is_empty() {
        return Some(format!("hyperParameters.{key} is an empty list; give it values or leave it out"));
    }
    // `1e-4` and `0.0001` are the same value
    let number = |value: &String| value.parse::<f64>().ok();
    let same = |one: &String, other: &String| one == other || number(one).is_some_and(|one| Some(one) == number(other));
    for (index, value) in values.iter().enumerate() {
        if let Some(first) = values[..index].iter().find(|first| same(first, value)) {
            let (first, value) = (quote(first), quote(value));
            return Some(format!("hyperParameters.{key} has a value twice, {first} and {value}; keep one"));
        }
        if key == "learningRate" && number(value).is_none_or(|rate| rate.is_nan() || rate <= 0.0) {
            return Some(format!(
                "hyperParameters.learningRate has {}; a sweep's learning rates are above 0",
                quote(value)
            ));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sweep(hyper_parameters: &str) -> Result<SweepRequest, RequestError> {
        let text = format!(
            r#"{{"customizationType": "FINE_TUNING", "baseModelIdentifier": "pebble",
                "trainingDataConfig": {{"s3Uri": "t.jsonl"}}, "hyperParameters": {{{hyper_parameters}}}}}"#
        );
        SweepRequest::from_json_file("sweep.json", &text)
    }

    fn refused(hyper_parameters: &str) -> String {
        sweep(hyper_parameters).unwrap_err().to_string()
    }

    #[test]
    fn trials_are_all_combinations_and_the_last_list_varies_fastest() {
        let sweep = sweep(r#""learningRate": ["1e-4", 1e-3], "batchSize": "8", "epochCount": [1, 2]"#).unwrap();
        let trials = sweep.trials().unwrap();
        let shown: Vec<String> = trials.iter().map(|trial| serde_json::to_string(trial).unwrap()).collect();
        assert_eq!(
            shown,
            [
                r#"{"learningRate":"1e-4","epochCount":"1"}"#,
                r#"{"learningRate":"1e-4","epochCount":"2"}"#,
                r#"{"learningRate":"1e-3","epochCount":"1"}"#,
                r#"{"learningRate":"1e-3","epochCount":"2"}"#,
            ]
        );
        let request = sweep.trial(&trials[2]);
        let settings = Hyperparameters::resolve(&request.hyper_parameters, request.customization_type).unwrap();
        assert_eq!((settings.learning_rate, settings.epoch_count, settings.batch_size), (1e-3, 1, 8));
    }

    #[test]
    fn the_file_comes_back() {
        let first = sweep(r#""learningRate": ["1e-4", "1e-3"], "evaluationData": "test.jsonl""#).unwrap();
        let again = SweepRequest::from_json_file("sweep.json", &first.to_json().unwrap()).unwrap();
        assert_eq!(again, first);
        assert_eq!(again.evaluation_data(), ["test.jsonl"]);
        let trial = again.trial(&again.trials().unwrap()[0]);
        assert_eq!(trial.hyper_parameters.get("evaluationData"), None, "no trial sees the test set");
    }

    #[test]
    fn a_list_that_cannot_be_is_refused_with_its_place() {
        assert_eq!(
            refused(r#""learningRate": ["1e-4", "0.0001"]"#),
            "sweep.json:2:97: hyperParameters.learningRate has a value twice, `1e-4` and `0.0001`; keep one"
        );
        for (list, part) in [
            (r#""learningRate": ["1e-4", "0"]"#, "has `0`; a sweep's learning rates are above 0"),
            (r#""learningRate": ["1e-4", "-1"]"#, "has `-1`; a sweep's learning rates are above 0"),
            (r#""learningRate": ["nan"]"#, "has `nan`; a sweep's learning rates are above 0"),
            (r#""epochCount": []"#, "is an empty list; give it values or leave it out"),
            (r#""optimizer": ["lion", "lion"]"#, "has a value twice, `lion` and `lion`"),
            (r#""maxSequenceLength": ["64", "128"]"#, "can't be a list: trials share base, data and boundary"),
            (
                r#""learningrate": ["1e-4"]"#,
                "unknown hyperparameter `learningrate`; the nearest known one is `learningRate`",
            ),
            (r#""batchSize": [["8"]]"#, "hyperParameters.batchSize[0] is an array; it must be a string"),
            (r#""seed": ["1"], "seed": "2""#, "`hyperParameters.seed` is given twice"),
        ] {
            let message = refused(list);
            assert!(message.contains(part) && message.starts_with("sweep.json:"), "{message}");
        }
        assert!(sweep(r#""seed": "1""#).unwrap().trials().unwrap_err().starts_with("the sweep varies nothing"));
        let list =
            |key: &str| format!("\"{key}\": [{}]", (1..=40).map(|n| n.to_string()).collect::<Vec<_>>().join(","));
        let many = sweep(&[list("seed"), list("batchSize")].join(",")).unwrap();
        assert_eq!(many.trials().unwrap_err(), "the lists make more than 1000 trials; shorten them");
        assert!(
            Request::from_json_file("job.json", r#"{"hyperParameters": {"seed": ["1"]}}"#).is_err(),
            "a job has none"
        );
    }

    #[test]
    fn set_makes_changes_and_ends_lists() {
        let mut sweep = sweep(r#""learningRate": ["1e-4", "1e-3"], "seed": "1""#).unwrap();
        sweep.set("seed=1, 2,3").unwrap();
        sweep.set("learningRate=1e-2").unwrap();
        sweep.set("maxSteps=4").unwrap();
        assert_eq!(sweep.varied, [Varied { key: "seed".into(), values: ["1", "2", "3"].map(String::from).into() }]);
        let request = sweep.trial(&sweep.trials().unwrap()[2]);
        let get = |key| request.hyper_parameters.get(key);
        assert_eq!([get("seed"), get("learningRate"), get("maxSteps")], [Some("3"), Some("1e-2"), Some("4")]);
        assert!(sweep.set("seed=1,1").unwrap_err().contains("twice"));
        assert!(sweep.set("maxSteps=4,5").is_ok(), "as in a job; the range is checked where all are");
        assert!(sweep.set("sead=4").unwrap_err().contains("`seed`"));
    }
}
