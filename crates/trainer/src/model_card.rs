//! The model card of an exported folder: `README.md` with Hugging Face's header, then the verdict, what the model is made of by name
//! and hash, its settings and its measures. Folders of the machine it was made on are left out: a card is made to be shared.

use outcrop_eval::Comparison;
use outcrop_eval::report::{escaped, markdown};
use outcrop_job::plan::{DataFile, DataSet};
use outcrop_job::{CustomizationType, ModelRecord, timestamp};
use outcrop_model::hub;
use serde::Deserialize;
use serde_json::Value;
use std::fmt::Write;
use std::path::Path;

/// What an exported folder holds.
pub struct Card<'a> {
    /// Its name.
    pub name: &'a str,
    /// The base: where it is and its hash.
    pub base: (&'a Path, &'a str),
    /// The custom model, where it isn't the base alone.
    pub model: Option<&'a ModelRecord>,
    /// The `report.json` of the model's job, where it is still there.
    pub report: Option<&'a Value>,
    /// How the weights are stored and what reading them back showed, in a sentence.
    pub storage: &'a str,
}

impl Card<'_> {
    /// The content of `README.md`. What can't be read of the report is left out.
    #[must_use]
    pub fn render(&self) -> String {
        let base = base_name(self.base.0);
        let Some(model) = self.model else {
            let mut out = header(&base, None);
            let _ =
                write!(out, "# {}\n\nThe untouched base {}. {}\n", escaped(self.name), escaped(&base), self.storage);
            let _ = write!(out, "\n## Lineage\n\n{TABLE}| base | {} | {} |\n", escaped(&base), code(self.base.1));
            return out;
        };
        let verdict = model.comparison.as_ref().and_then(|comparison| comparison["headline"].as_str());
        let mut out = header(&base, Some(model.customization_type));
        let _ = write!(out, "# {}\n\n", escaped(self.name));
        if let Some(gate) = &model.gate {
            let _ = write!(out, "**{}**\n\n", shared(gate));
        }
        let verdict = verdict.unwrap_or("not compared");
        let _ = write!(out, "Against its untouched base: {}\n\n", escaped(verdict));
        let kind = match model.customization_type {
            CustomizationType::FineTuning => "fine-tuned",
            CustomizationType::ContinuedPreTraining => "pre-trained further",
        };
        let (trained, version) = (&model.hyperparameters.trainable, &model.engine_version);
        let _ =
            writeln!(out, "{} {kind} (`trainable` {trained}) by Outcrop {version}. {}", escaped(&base), self.storage);
        self.lineage(&mut out, model, &base);
        let _ = write!(out, "\n## Settings\n\n| setting | value |\n| --- | --- |\n");
        for (key, value) in model.hyperparameters.effective().iter() {
            let _ = writeln!(out, "| {key} | {} |", shared(value));
        }
        losses(&mut out, model);
        // one with a measure that isn't finite is JSON's null, and no number again
        if let Some(comparison) = model.comparison.as_ref().and_then(|json| Comparison::deserialize(json).ok()) {
            let text = markdown(&comparison);
            out.push_str(text.split_once('\n').map_or("", |(_, tables)| tables)); // the headline stands above
        }
        self.warnings(&mut out);
        out
    }

    /// What the model is made of.
    fn lineage(&self, out: &mut String, model: &ModelRecord, base: &str) {
        let _ = write!(out, "\n## Lineage\n\n{TABLE}");
        let mut row = |what: &str, which: &str, hash: &str| {
            let _ = writeln!(out, "| {what} | {} | {} |", escaped(which), code(hash));
        };
        let asked = shared_name(&model.base.identifier);
        let named = if asked == base { String::new() } else { format!(", `{asked}` in the job's request") };
        row("base", &format!("{base}{named}"), &model.base.hash);
        let made = timestamp::to_text(model.created);
        row("model", &format!("{} ({}), {made}", model.name, model.id), &model.delta_hash);
        row("job", &format!("{} ({})", model.job_name, model.job_id), "");
        let validation = self.report.and_then(|report| report["plan"]["data"]["validation"].as_array());
        let validation = validation.into_iter().flatten().filter_map(|set| DataSet::deserialize(set).ok());
        let validation: Vec<DataFile> = validation.flat_map(|set| set.files).collect();
        let mut files = |what: &str, files: &[DataFile]| {
            for file in files {
                let name = file.path.file_name().unwrap_or_default().to_string_lossy();
                row(what, &format!("{name}, {} bytes", file.bytes), &file.hash);
            }
        };
        files("training data", &model.training_data);
        files("validation data", &validation);
        if model.chat_template.is_some() {
            row("chat template", "not the base's own: chat_template.jinja", "");
        }
    }

    /// What the run warned of: items of the evaluation that the training data hold too are among it.
    fn warnings(&self, out: &mut String) {
        let warnings = self.report.and_then(|report| report["warnings"].as_array());
        for (number, warning) in warnings.into_iter().flatten().filter_map(Value::as_str).enumerate() {
            let title = if number == 0 { "\n## Warnings\n\n" } else { "" };
            let _ = writeln!(out, "{title}- {}", shared(warning));
        }
    }
}

const TABLE: &str = "| what | which | BLAKE3 |\n| --- | --- | --- |\n";

/// Hugging Face's header. Texts are JSON's strings, which YAML reads.
fn header(base: &str, customization: Option<CustomizationType>) -> String {
    let base = Value::from(base);
    let (relation, tag) = match customization {
        None => ("", ""),
        Some(CustomizationType::FineTuning) => ("base_model_relation: finetune\n", "- fine-tuning\n"),
        Some(CustomizationType::ContinuedPreTraining) => {
            ("base_model_relation: finetune\n", "- continued-pre-training\n")
        }
    };
    format!(
        "---\nbase_model: {base}\n{relation}library_name: transformers\npipeline_tag: text-generation\ntags:\n- outcrop\n{tag}---\n\n"
    )
}

/// Losses of the run.
fn losses(out: &mut String, model: &ModelRecord) {
    let _ = write!(out, "\n## Losses\n\n| loss, nats per target | value |\n| --- | ---: |\n");
    let _ = writeln!(out, "| training, last step | {:.4} |", model.metrics.training_loss);
    for (number, validation) in model.metrics.validation.iter().enumerate() {
        let _ = writeln!(out, "| validation set {} | {:.4} |", number + 1, validation.validation_loss);
    }
}

/// The hub's name of a base that lies in its cache, else the last part of its path.
fn base_name(path: &Path) -> String {
    let last = || path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    hub::name_of(path).unwrap_or_else(last)
}

/// A location or id without the folders in front of it.
fn shared_name(text: &str) -> String {
    let path = Path::new(text);
    match path.file_name() {
        Some(name) if path.is_absolute() => name.to_string_lossy().into_owned(),
        _ => text.to_string(),
    }
}

/// A line as Markdown, paths without their folders.
fn shared(text: &str) -> String {
    let word = |word: &str| {
        let path = word.trim_matches(|letter: char| "`'\"(),;:".contains(letter));
        word.replacen(path, &shared_name(path), usize::from(!path.is_empty()))
    };
    escaped(&text.split(' ').map(word).collect::<Vec<_>>().join(" "))
}

fn code(hash: &str) -> String {
    if hash.is_empty() { String::new() } else { format!("`{hash}`") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_names_files_without_their_folders() {
        assert_eq!(shared("row 3 of `/home/me/train.jsonl`: long"), r"row 3 of \`train.jsonl\`: long");
        assert_eq!(shared("a / b, /x/y.txt."), "a / b, y.txt.");
        assert_eq!(shared("s3://bucket/key and 1/2"), "s3://bucket/key and 1/2");
        let cache = Path::new("/c/models--owner--some--name/snapshots/abc");
        assert_eq!(base_name(cache), "owner/some--name");
        assert_eq!(base_name(Path::new("/models/tiny.gguf")), "tiny.gguf");
    }

    #[test]
    fn the_header_is_yaml_whatever_the_base_is_called() {
        let text = header("a: \"b\"\n", Some(CustomizationType::ContinuedPreTraining));
        assert!(text.starts_with("---\nbase_model: \"a: \\\"b\\\"\\n\"\nbase_model_relation: finetune\n"), "{text}");
        assert!(text.ends_with("tags:\n- outcrop\n- continued-pre-training\n---\n\n"), "{text}");
    }

    #[test]
    fn the_card_of_a_base_says_that_it_is_untouched() {
        let card = Card {
            name: "copy",
            base: (Path::new("/m/tiny"), "ab"),
            model: None,
            report: None,
            storage: "In float32.",
        };
        let text = card.render();
        assert!(text.contains("# copy\n\nThe untouched base tiny. In float32.\n"), "{text}");
        assert!(text.contains("| base | tiny | `ab` |") && !text.contains("base_model_relation"), "{text}");
    }
}
