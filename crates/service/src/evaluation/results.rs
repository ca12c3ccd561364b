//! What an evaluation found, in the output location: for each model and dataset a file with a line for each record, in
//! Bedrock's layout, and the model's report.

use std::path::Path;

use serde_json::{Value, json};

use super::{ACCURACY, Dataset, NLL, Work};
use crate::AppState;
use crate::store::Evaluation;

/// Writes the results of a job. Errors, in words for its failure: a metric that a dataset doesn't have, the disk.
pub(super) fn publish(state: &AppState, job: &Evaluation, folder: &Path) -> Result<(), String> {
    let locations = state.locations(&folder.join("objects"));
    let output = locations.output(&job.work.output);
    let output = output.map_err(|error| error.to_string())?;
    let target = output.join(&job.name).join(&job.id).join("models");
    let written = write(&job.work, &job.id, folder, &target);
    written.map_err(|problem| match problem {
        Problem::Metric(message) => message,
        Problem::Disk(error) => format!("the results can't be written: {error}"),
    })?;
    locations.publish(&job.work.output, &job.name).map_err(|error| error.to_string())
}

enum Problem {
    Metric(String),
    Disk(std::io::Error),
}

impl From<std::io::Error> for Problem {
    fn from(error: std::io::Error) -> Self {
        Self::Disk(error)
    }
}

fn write(work: &Work, id: &str, folder: &Path, target: &Path) -> Result<(), Problem> {
    let locations = work.locations();
    for (index, model) in work.models.iter().enumerate() {
        let reports = work.report(folder, index)?;
        let report = fs_err::read(reports.join("report.json"))?;
        let report: Value = serde_json::from_slice(&report).map_err(std::io::Error::from)?;
        let suites = report["suites"].as_array().map(Vec::as_slice).unwrap_or_default();
        let place = target.join(tag(index, &model.identifier));
        for dataset in &work.datasets {
            let suite = locations.iter().position(|location| *location == dataset.location);
            let suite = suite.and_then(|at| suites.get(at));
            let items = suite.and_then(|suite| suite["items"].as_array()).map(Vec::as_slice).unwrap_or_default();
            let lines: Vec<String> = items
                .iter()
                .map(|item| Ok(format!("{}\n", line(dataset, &model.identifier, item)?)))
                .collect::<Result<_, Problem>>()?;
            let file = place.join("taskTypes").join(&dataset.task).join("datasets").join(&dataset.name);
            fs_err::create_dir_all(&file)?;
            fs_err::write(file.join(format!("{id}_output.jsonl")), lines.concat())?;
        }
        fs_err::create_dir_all(place.join("report"))?;
        for name in ["report.json", "report.md", "report.html"] {
            fs_err::copy(reports.join(name), place.join("report").join(name))?;
        }
    }
    Ok(())
}

/// One record under one model.
fn line(dataset: &Dataset, model: &str, item: &Value) -> Result<Value, Problem> {
    let result = &item["tuned"]; // the model that is evaluated; `base` is what it is compared with
    let mut scores = Vec::new();
    for metric in &dataset.metrics {
        let score = match metric.as_str() {
            ACCURACY => result["right"].as_bool().map(|right| f64::from(u8::from(right))),
            _ => result["nll"].as_f64().zip(result["targets"].as_f64()).map(|(nll, targets)| nll / targets),
        };
        let score = score.ok_or_else(|| {
            Problem::Metric(format!(
                "dataset `{}` has no {metric}: nothing in it is right or wrong, since its responses aren't a small set of labels or choices; ask for {NLL}",
                dataset.name
            ))
        })?;
        let name = metric.split_once('.').map_or(metric.as_str(), |(_, name)| name);
        scores.push(json!({"metricName": name, "result": score}));
    }
    Ok(json!({
        "automatedEvaluationResult": {"scores": scores},
        "inputRecord": {"prompt": item["prompt"], "referenceResponse": item["expected"]},
        "modelResponses": [{"response": result["answer"], "modelIdentifier": model}],
    }))
}

/// A model's folder: its identifier's last part, with its place in the request where two end alike.
fn tag(index: usize, identifier: &str) -> String {
    let last = identifier.rsplit('/').next().unwrap_or(identifier);
    let plain = |letter: char| if letter.is_ascii_alphanumeric() || "-_.".contains(letter) { letter } else { '-' };
    format!("{}-{}", index + 1, last.chars().map(plain).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dataset(metrics: &[&str]) -> Dataset {
        let metrics = metrics.iter().map(ToString::to_string).collect();
        Dataset { name: "mine".into(), task: "Classification".into(), metrics, location: "s3://bucket/x".into() }
    }

    #[test]
    fn a_record_has_the_metrics_that_were_asked_for() {
        let tuned = json!({"nll": 3.0, "targets": 2, "answer": "yes", "right": true});
        let item = json!({"prompt": "p", "expected": "yes", "base": {"right": false}, "tuned": tuned});
        let Ok(line) = line(&dataset(&[ACCURACY, NLL]), "m", &item) else { panic!() };
        let scores =
            json!([{"metricName": "Accuracy", "result": 1.0}, {"metricName": "NegativeLogLikelihood", "result": 1.5}]);
        assert_eq!(line["automatedEvaluationResult"]["scores"], scores);
        assert_eq!(line["inputRecord"], json!({"prompt": "p", "referenceResponse": "yes"}));
        assert_eq!(line["modelResponses"], json!([{"response": "yes", "modelIdentifier": "m"}]));
    }

    #[test]
    fn a_metric_that_a_dataset_lacks_is_no_zero() {
        let item = json!({"prompt": "p", "expected": "long", "tuned": {"nll": 3.0, "targets": 2, "answer": null, "right": null}});
        let Err(Problem::Metric(message)) = line(&dataset(&[ACCURACY]), "m", &item) else { panic!() };
        assert!(message.starts_with("dataset `mine` has no Builtin.Accuracy"), "{message}");
        assert!(line(&dataset(&[NLL]), "m", &item).is_ok());
    }

    #[test]
    fn no_identifier_leads_out_of_the_results() {
        assert_eq!(tag(0, "arn:aws:bedrock:r:1:custom-model/a.b:0/abc"), "1-abc");
        assert_eq!(tag(1, "../.."), "2-..");
        assert_eq!(tag(0, "amazon.titan-text-express-v1:0:8k"), "1-amazon.titan-text-express-v1-0-8k");
    }
}
