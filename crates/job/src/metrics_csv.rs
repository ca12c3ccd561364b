//! Bedrock's metric files, made from a run's events: `step_wise_training_metrics.csv` and `validation_metrics.csv`.
//! Column names and order are Bedrock's; consumers index columns from the right, so there are no others.
//! Step numbers start at 0, and the base model's own score (step 0 of the events) is not in Bedrock's files.
//! Where the model is that of an earlier step, or the run ended early, `model_selection.csv` beside the first says so.

use std::fmt::Write;
use std::io;
use std::path::{Path, PathBuf};

use crate::atomic::write_atomic;
use crate::event::{Event, Record, Step, Validation};

/// Writes the metrics of the job `job_id` under `<output_dir>/model-customization-job-<job_id>/`, replacing older
/// files, and gives back their paths. Validation files are there only for sets that were scored. Set 0 is written to
/// both paths that consumers read, with and without a `validation/` folder; set n to `validation_n/`.
///
/// # Errors
/// The disk.
pub fn write_metrics(records: &[Record], output_dir: &Path, job_id: &str) -> io::Result<Vec<PathBuf>> {
    let root = output_dir.join(format!("model-customization-job-{job_id}"));
    let training = root.join("training_artifacts").join("step_wise_training_metrics.csv");
    let mut files = vec![(training, training_csv(records))];
    if let Some(text) = selection_csv(records) {
        files.push((root.join("training_artifacts").join("model_selection.csv"), text));
    }
    let validation = root.join("validation_artifacts").join("post_fine_tuning_validation");
    for set in sets(records) {
        let text = validation_csv(records, set);
        let folder = if set == 0 { "validation".to_string() } else { format!("validation_{set}") };
        files.push((validation.join(folder).join("validation_metrics.csv"), text.clone()));
        if set == 0 {
            files.push((validation.join("validation_metrics.csv"), text));
        }
    }
    let mut written = Vec::new();
    for (path, text) in files {
        if let Some(folder) = path.parent() {
            fs_err::create_dir_all(folder)?;
        }
        write_atomic(&path, text.as_bytes())?;
        written.push(path);
    }
    Ok(written)
}

/// Scores after training began; those of step 0 are the base model's.
fn validations(records: &[Record]) -> impl Iterator<Item = &Validation> {
    records.iter().filter_map(|record| match &record.event {
        Event::Validation(validation) if validation.step > 0 => Some(validation),
        _ => None,
    })
}

fn sets(records: &[Record]) -> Vec<u64> {
    let mut sets: Vec<u64> = validations(records).map(|validation| validation.set).collect();
    sets.sort_unstable();
    sets.dedup();
    sets
}

fn training_csv(records: &[Record]) -> String {
    let mut text = String::from("step_number,epoch_number,training_loss,perplexity\n");
    for record in records {
        if let Event::Step(Step { step, epoch, loss, .. }) = &record.event {
            row(&mut text, *step, *epoch, *loss, loss.exp());
        }
    }
    text
}

fn validation_csv(records: &[Record], set: u64) -> String {
    let mut text = String::from("step_number,epoch_number,validation_loss,perplexity\n");
    for validation in validations(records).filter(|validation| validation.set == set) {
        row(&mut text, validation.step, validation.epoch, validation.loss, validation.perplexity);
    }
    text
}

/// Which step became the model, the last step of the run, and what ended it; None where the model is that of the last
/// planned step.
fn selection_csv(records: &[Record]) -> Option<String> {
    let stopped = records.iter().find_map(|record| match &record.event {
        Event::StoppedEarly { step, cause, .. } => Some((*step, cause.as_str())),
        _ => None,
    });
    let kept = records.iter().find_map(|record| match &record.event {
        Event::Kept { kept_step, last_step, .. } => Some((*kept_step, *last_step)),
        _ => None,
    });
    let (kept, last) = kept.or(stopped.map(|(step, _)| (step, step)))?;
    let ended_by = stopped.map_or("last_step", |(_, cause)| cause);
    let (kept, last) = (kept.saturating_sub(1), last.saturating_sub(1));
    Some(format!("kept_step_number,last_step_number,ended_by\n{kept},{last},{ended_by}\n"))
}

/// Floats in their shortest exact form, as Python writes them: `2.5`, `1e-5`, `inf`, `NaN`.
fn row(text: &mut String, step: u64, epoch: u64, loss: f64, perplexity: f64) {
    let number = step.saturating_sub(1);
    // Writing to a string can't fail.
    let _ = writeln!(text, "{number},{epoch},{loss:?},{perplexity:?}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::tests::{step, validation};

    fn records(events: Vec<Event>) -> Vec<Record> {
        let time = crate::timestamp::now();
        events.into_iter().map(|event| Record { time, event }).collect()
    }

    #[test]
    fn the_files_are_bedrocks_byte_for_byte() {
        let folder = tempfile::tempdir().unwrap();
        let events = records(vec![
            validation(0, 0, 0, 3.0),
            step(1, 0, 2.5),
            step(2, 0, 0.0),
            validation(2, 0, 0, 0.5),
            validation(2, 0, 1, 1.0),
            Event::Warning { message: "not a row".into() },
            step(3, 1, 800.0),
            step(4, 1, f64::NAN),
            validation(4, 1, 0, 0.25),
            validation(4, 1, 1, 0.0),
        ]);
        let written = write_metrics(&events, folder.path(), "abcdefghijk1").unwrap();
        let root = folder.path().join("model-customization-job-abcdefghijk1");
        let validation = root.join("validation_artifacts/post_fine_tuning_validation");
        let training = root.join("training_artifacts/step_wise_training_metrics.csv");
        assert_eq!(
            written,
            [
                training.clone(),
                validation.join("validation/validation_metrics.csv"),
                validation.join("validation_metrics.csv"),
                validation.join("validation_1/validation_metrics.csv"),
            ]
        );
        assert_eq!(
            fs_err::read_to_string(training).unwrap(),
            format!(
                "step_number,epoch_number,training_loss,perplexity\n\
                 0,0,2.5,{}\n\
                 1,0,0.0,1.0\n\
                 2,1,800.0,inf\n\
                 3,1,NaN,NaN\n",
                // Platforms differ in the last digit.
                2.5f64.exp()
            )
        );
        let first = format!(
            "step_number,epoch_number,validation_loss,perplexity\n1,0,0.5,{}\n3,1,0.25,{}\n",
            0.5f64.exp(),
            0.25f64.exp()
        );
        assert_eq!(fs_err::read_to_string(&written[1]).unwrap(), first);
        assert_eq!(fs_err::read_to_string(&written[2]).unwrap(), first);
        assert_eq!(
            fs_err::read_to_string(&written[3]).unwrap(),
            format!("step_number,epoch_number,validation_loss,perplexity\n1,0,1.0,{}\n3,1,0.0,1.0\n", 1f64.exp())
        );
    }

    #[test]
    fn r19_an_early_end_and_the_step_that_was_kept_have_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("model-customization-job-abcdefghijk1/training_artifacts/model_selection.csv");
        let write = |events: Vec<Event>| {
            write_metrics(&records(events), folder.path(), "abcdefghijk1").unwrap();
            fs_err::read_to_string(&file).ok()
        };
        assert_eq!(write(vec![step(1, 0, 1.0)]), None);
        let cause = crate::event::StopCause::EarlyStopping;
        let stopped = || Event::StoppedEarly { step: 4, cause, message: "m".into() };
        let kept = || Event::Kept { kept_step: 2, last_step: 4, validation_loss: Some(0.5), message: "m".into() };
        let text = |row: &str| Some(format!("kept_step_number,last_step_number,ended_by\n{row}\n"));
        assert_eq!(write(vec![stopped()]), text("3,3,early_stopping"));
        assert_eq!(write(vec![stopped(), kept()]), text("1,3,early_stopping"));
        assert_eq!(write(vec![kept()]), text("1,3,last_step"));
    }

    #[test]
    fn without_validators_there_is_no_validation_file() {
        let folder = tempfile::tempdir().unwrap();
        let written = write_metrics(&records(vec![step(1, 0, 1.0)]), folder.path(), "abcdefghijk1").unwrap();
        assert_eq!(written.len(), 1);
        assert!(!folder.path().join("model-customization-job-abcdefghijk1/validation_artifacts").exists());
        // A second call replaces the files.
        write_metrics(&records(vec![]), folder.path(), "abcdefghijk1").unwrap();
        assert_eq!(fs_err::read_to_string(&written[0]).unwrap(), "step_number,epoch_number,training_loss,perplexity\n");
    }
}
