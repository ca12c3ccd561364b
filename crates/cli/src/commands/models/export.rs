//! `outcrop models export`: a model as a Hugging Face folder with its card, or as a GGUF file.

use anyhow::Context;
use candle_core::{DType, Device};
use clap::{Args, ValueEnum};
use outcrop_data::encode_document;
use outcrop_job::Home;
use outcrop_job::describe::bytes;
use outcrop_model::export::gguf::GgufType;
use outcrop_model::export::{self, RoundTrip, Storage};
use outcrop_trainer::model_card::Card;
use serde_json::Value;
use std::path::{Path, PathBuf};

use super::super::{Loaded, load};

/// Arguments of `export`.
#[derive(Args)]
pub(super) struct Export {
    /// Custom model (name or id), imported base's id, base folder, GGUF file, or `pebble`
    model: String,
    /// The folder to make, or the `.gguf` file
    #[arg(required_unless_present = "to")]
    out: Option<PathBuf>,
    /// The same as an option
    #[arg(long = "out", id = "to", value_name = "OUT", conflicts_with = "out")]
    to: Option<PathBuf>,
    /// What to write
    #[arg(long, value_enum, default_value_t = Format::Hf)]
    format: Format,
    /// Type of the weights in the file; q8_0 in GGUF alone
    #[arg(long, value_enum, default_value_t = ExportType::F32)]
    dtype: ExportType,
    /// Most bytes of weights in one file of a folder, such as 5GB, 200MB or 1000000; more are written as shards [default: 5GB]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    max_shard_size: Option<u64>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// A folder as Hugging Face's libraries have it
    Hf,
    /// One file for llama.cpp
    Gguf,
}

#[derive(Clone, Copy, ValueEnum)]
enum ExportType {
    F32,
    Bf16,
    F16,
    #[value(name = "q8_0")]
    Q8_0,
}

impl ExportType {
    /// As safetensors hold it. Errors: a type that is GGUF's alone.
    fn plain(self) -> anyhow::Result<DType> {
        match self {
            Self::F32 => Ok(DType::F32),
            Self::Bf16 => Ok(DType::BF16),
            Self::F16 => Ok(DType::F16),
            Self::Q8_0 => anyhow::bail!("--dtype q8_0 is a type of GGUF files; add --format gguf"),
        }
    }

    fn gguf(self) -> GgufType {
        match self {
            Self::F32 => GgufType::F32,
            Self::Bf16 => GgufType::Bf16,
            Self::F16 => GgufType::F16,
            Self::Q8_0 => GgufType::Q8_0,
        }
    }

    fn bits(self) -> u32 {
        match self {
            Self::F32 => 32,
            Self::Q8_0 => 8,
            Self::Bf16 | Self::F16 => 16,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::Bf16 => "bfloat16",
            Self::F16 => "float16",
            Self::Q8_0 => "q8_0",
        }
    }
}

/// A size in Hugging Face's spelling: decimal units, or bytes without one.
fn size(text: &str) -> Result<u64, String> {
    let expected = || "a size over 0 is expected, such as 5GB, 200MB or 1000000".to_string();
    let upper = text.to_ascii_uppercase();
    let units = [("TB", 1_000_000_000_000), ("GB", 1_000_000_000), ("MB", 1_000_000), ("KB", 1_000), ("", 1)];
    let (number, unit) = units
        .into_iter()
        .find_map(|(name, unit)| Some((upper.strip_suffix(name)?.trim(), unit)))
        .ok_or_else(expected)?;
    let whole = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    whole.filter(|bytes| *bytes > 0).ok_or_else(expected)
}

/// Texts on which an export is compared with the model in memory.
const PROMPTS: [&str; 3] =
    ["The weather was cold, and", "Question: What do people use to cut bread?\nAnswer:", "1 2 3 4"];

impl Export {
    pub(super) fn run(self, home: &Home) -> anyhow::Result<()> {
        let out = self.out.or(self.to).context("name the folder or file to make")?;
        let is_gguf = out.extension().is_some_and(|extension| extension == "gguf");
        anyhow::ensure!(
            is_gguf == matches!(self.format, Format::Gguf),
            "`{}`: a name that ends in `.gguf` and --format gguf belong together",
            out.display()
        );
        anyhow::ensure!(
            !is_gguf || self.max_shard_size.is_none(),
            "--max-shard-size is for folders: a GGUF file is one file"
        );
        let plain = if is_gguf { None } else { Some(self.dtype.plain()?) };
        let loaded = load(&self.model, home, &Device::Cpu, None)?;
        let prompts: Vec<Vec<u32>> = PROMPTS
            .iter()
            .map(|text| Ok(encode_document(&loaded.tokenizer, text)?.tokens))
            .collect::<anyhow::Result<_>>()?;
        // the one it was trained with, which may not be the base's (R30)
        let template = loaded.tokenizer.chat_template().map(|template| template.source());
        let (lines, files) = match plain {
            None => {
                let (decoder, base) = (&loaded.decoder, &loaded.base);
                let result = export::gguf::write(decoder, base, &out, self.dtype.gguf(), template, &prompts)?;
                (compared(&result, self.dtype), 1)
            }
            Some(dtype) => {
                let max_shard_bytes = self.max_shard_size.unwrap_or(export::MAX_SHARD_BYTES);
                let storage = Storage { dtype, max_shard_bytes };
                let written = export::prepare(&loaded.decoder, &loaded.base, &out, storage, &prompts)?;
                if let Some(template) = template {
                    written.add("chat_template.jinja", template)?;
                }
                let (lines, files) = (compared(&written.round_trip, self.dtype), written.weight_files);
                let stored = format!("The weights are {}, {lines}.", self.dtype.name());
                written.add("README.md", &card(&loaded, home, &out, &stored)?)?;
                written.keep()?;
                (lines, files)
            }
        };
        let size = folder_bytes(&out)?;
        let shards = if files > 1 { format!("{files} weight files, ") } else { String::new() };
        crate::terminal::print(&format!("{}\n{lines}\n{shards}{} in all\n", out.display(), bytes(size)))
    }
}

/// What reading an export back showed.
fn compared(result: &RoundTrip, dtype: ExportType) -> String {
    let RoundTrip { largest_difference, prompts, same_choice, rounded } = result;
    let compared =
        format!("read back and compared on {prompts} prompts: logits differ by at most {largest_difference:.1e}");
    match *rounded > 0.0 {
        true => format!(
            "{compared}; {:.1} % of the values are rounded to {} bits, the likeliest next token is the same on {same_choice}",
            100.0 * rounded,
            dtype.bits(),
        ),
        false => compared,
    }
}

/// The model card.
fn card(loaded: &Loaded, home: &Home, out: &Path, storage: &str) -> anyhow::Result<String> {
    let record = loaded.record.as_ref();
    let hash = match record {
        Some(record) => record.base.hash.clone(), // checked when it was loaded
        None => loaded.base.hash()?,
    };
    let report = record.and_then(|record| home.job(&record.job_id).ok()).and_then(|job| {
        let text = fs_err::read(job.report_dir().join("report.json")).ok()?;
        serde_json::from_slice::<Value>(&text).ok()
    });
    let name = out.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let card = Card {
        name: record.map_or(&name, |record| &record.name),
        base: (loaded.base.path(), &hash),
        model: record,
        report: report.as_ref(),
        storage,
    };
    Ok(card.render())
}

/// Bytes of a file, or of the files in a folder.
fn folder_bytes(path: &Path) -> anyhow::Result<u64> {
    if path.is_file() {
        return Ok(fs_err::metadata(path)?.len());
    }
    let mut bytes = 0;
    for entry in fs_err::read_dir(path)? {
        bytes += entry?.metadata()?.len();
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_decimal_and_over_zero() {
        assert_eq!(size("5GB"), Ok(5_000_000_000));
        assert_eq!(size("200 mb"), Ok(200_000_000));
        assert_eq!(size("1000"), Ok(1_000));
        for wrong in ["", "0", "0GB", "GB", "1.5GB", "-1", "5GiB", "99999999999TB"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }
}
