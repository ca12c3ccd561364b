//! The rotary embedding of a `config.json`: `rope_parameters` (transformers 5), or `rope_theta` and `rope_scaling`
//! (before). Source of the defaults: transformers' modeling_rope_utils.

use super::fields::{flag, number, numbers, only, optional, size, wrong};
use super::known;
use crate::rotary::{Rope, RopeScaling};
use crate::{ModelError, Result};
use serde_json::{Value, json};

/// What the fields leave open.
pub(super) struct Defaults {
    /// The base.
    pub(super) theta: f64,
    /// Share of a head's channels that turn, for families that read `partial_rotary_factor`; else all do.
    pub(super) partial: Option<f64>,
}

/// The rotary embedding. Errors: both forms at once, a type that isn't known, a field of it missing.
pub(super) fn rope(config: &Value, head_dim: usize, context: usize, defaults: &Defaults) -> Result<Rope> {
    let newer = config.get("rope_parameters").filter(|value| !value.is_null());
    let older = config.get("rope_scaling").filter(|value| !value.is_null());
    if newer.is_some() && older.is_some() {
        let message = "config.json: both `rope_parameters` and `rope_scaling` are there; keep the one that counts";
        return Err(ModelError::Unsupported(message.into()));
    }
    of(newer.or(older).unwrap_or(&json!({})), config, head_dim, context, defaults)
}

/// The rotary embedding of one object of parameters; what it lacks is in the config itself.
pub(super) fn of(
    parameters: &Value,
    config: &Value,
    head_dim: usize,
    context: usize,
    defaults: &Defaults,
) -> Result<Rope> {
    known::check_rope(parameters)?;
    let theta = number(parameters, "rope_theta", Some(number(config, "rope_theta", Some(defaults.theta))?))?;
    let dim = rotated(parameters, config, head_dim, defaults.partial)?;
    let scaling = scaling(parameters, config, dim, context)?;
    let rope = Rope { dim, theta, scaling };
    let usable = |length| rope.inverse_frequencies(length).iter().all(|f| f.is_finite() && *f > 0.0);
    if !(usable(1) && usable(context.saturating_mul(2)) && rope.attention_factor().is_finite()) {
        let message = "config.json: these rotary parameters give frequencies that are no positive numbers";
        return Err(ModelError::Unsupported(message.into()));
    }
    Ok(rope)
}

/// How many channels of a head turn.
fn rotated(parameters: &Value, config: &Value, head_dim: usize, partial: Option<f64>) -> Result<usize> {
    const FIELD: &str = "partial_rotary_factor";
    let Some(default) = partial else {
        only(parameters, FIELD, &json!(1.0))?;
        only(config, FIELD, &json!(1.0))?;
        return Ok(head_dim);
    };
    let share = number(parameters, FIELD, Some(number(config, FIELD, Some(default))?))?;
    let dim = (head_dim as f64 * share) as usize;
    if dim < 2 || dim > head_dim || !dim.is_multiple_of(2) {
        let message = format!("config.json: `{FIELD}` {share} turns {dim} of {head_dim} channels, which must be even");
        return Err(ModelError::Unsupported(message));
    }
    Ok(dim)
}

fn scaling(parameters: &Value, config: &Value, dim: usize, context: usize) -> Result<RopeScaling> {
    let kind = parameters.get("rope_type").or_else(|| parameters.get("type"));
    let kind = kind.map_or(Some("default"), Value::as_str);
    let kind = kind.ok_or_else(|| wrong("rope_type", parameters, "a name under `rope_type`"))?;
    let factor = || number(parameters, "factor", None);
    let original = || {
        let field = "original_max_position_embeddings";
        size(config, field, Some(size(parameters, field, Some(context))?))
    };
    Ok(match kind {
        "default" => RopeScaling::Default,
        "linear" => RopeScaling::Linear { factor: factor()? },
        "dynamic" if dim > 2 => RopeScaling::Dynamic { factor: factor()?, original: context },
        "yarn" => yarn(parameters, original()? as f64, context)?,
        // `su` is longrope's first name
        "longrope" | "su" => longrope(parameters, original()?, context, dim)?,
        "llama3" => RopeScaling::Llama3 {
            factor: factor()?,
            low_freq_factor: number(parameters, "low_freq_factor", None)?,
            high_freq_factor: number(parameters, "high_freq_factor", None)?,
            original_max_position_embeddings: original()? as f64,
        },
        other => {
            return Err(ModelError::Unsupported(format!(
                "config.json: rope type `{other}` is not supported with {dim} channels that turn; supported are \
                 `default`, `linear`, `dynamic`, `yarn`, `longrope`, `llama3`"
            )));
        }
    })
}

fn yarn(parameters: &Value, original: f64, context: usize) -> Result<RopeScaling> {
    let factor = number(parameters, "factor", Some(context as f64 / original))?;
    let scale = |mscale: f64| if factor <= 1.0 { 1.0 } else { 0.1 * mscale * factor.ln() + 1.0 };
    let given = |field| optional(parameters, field, None, number);
    let implied = match (given("mscale")?, given("mscale_all_dim")?) {
        (Some(mscale), Some(all)) => scale(mscale) / scale(all),
        _ => scale(1.0),
    };
    Ok(RopeScaling::Yarn {
        factor,
        original,
        beta_fast: number(parameters, "beta_fast", Some(32.0))?,
        beta_slow: number(parameters, "beta_slow", Some(1.0))?,
        truncate: flag(parameters, "truncate", true)?,
        attention_factor: number(parameters, "attention_factor", Some(implied))?,
    })
}

fn longrope(parameters: &Value, original: usize, context: usize, dim: usize) -> Result<RopeScaling> {
    let factor = number(parameters, "factor", Some(context as f64 / original as f64))?;
    let implied = if factor <= 1.0 { 1.0 } else { (1.0 + factor.ln() / (original as f64).ln()).sqrt() };
    Ok(RopeScaling::LongRope {
        short: numbers(parameters, "short_factor", dim / 2)?,
        long: numbers(parameters, "long_factor", dim / 2)?,
        original,
        attention_factor: number(parameters, "attention_factor", Some(implied))?,
    })
}
