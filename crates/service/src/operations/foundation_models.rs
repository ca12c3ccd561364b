//! ListFoundationModels and GetFoundationModel: Bedrock's ids with what stands in for them here. A client of Bedrock
//! shows only Bedrock's members, so the stand-in is said in the model's name; the rest of the sentence is in `outcrop`.

use std::path::Path;

use outcrop_job::aliases::{Aliases, EMBEDDED_ID, KNOWN, Resolved, known};
use outcrop_job::bases::ImportedBase;
use outcrop_job::request::CustomizationType;
use serde_json::{Value, json};

use crate::arn;
use crate::call::{Call, Reply};
use crate::validation::Problems;
use crate::{ApiError, AppState};

/// Bedrock's longest name in a listing.
const LONGEST_NAME: usize = 20;
const BOTH: &[CustomizationType] = &[CustomizationType::FineTuning, CustomizationType::ContinuedPreTraining];

/// The name of a base in listings of custom models: that of the files which were trained, and that they stood in for
/// another model where they did.
pub(crate) fn name(id: &str, path: &Path) -> String {
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    if known(id).is_some() { alias_name(&file) } else { file.into_owned() }
}

/// Every id: the embedded base's, the known ones, the imported bases', the user's own.
pub(crate) fn list(state: &AppState, call: &Call) -> Result<Reply, ApiError> {
    let mut problems = Problems::default();
    let enums: [(&str, &[&str]); 3] = [
        ("byCustomizationType", &["FINE_TUNING", "CONTINUED_PRE_TRAINING", "DISTILLATION"]),
        ("byOutputModality", &["TEXT", "IMAGE", "EMBEDDING"]),
        ("byInferenceType", &["ON_DEMAND", "PROVISIONED"]),
    ];
    for (name, words) in enums {
        if let Some(text) = call.query(name).filter(|text| !words.contains(text)) {
            problems.add(name, Some(text), format!("Member must satisfy enum value set: [{}]", words.join(", ")));
        }
    }
    problems.finish()?;
    let aliases = Aliases::read(state.home())?;
    let mut ids: Vec<String> = vec![EMBEDDED_ID.to_string()];
    ids.extend(KNOWN.iter().map(|model| model.id.to_string()));
    ids.extend(aliases.bases().iter().map(|base| base.id.clone()));
    ids.extend(aliases.iter().map(|(id, _)| id.to_string()));
    let mut seen = std::collections::BTreeSet::new();
    let found = ids.iter().filter_map(|id| aliases.resolve(id)).filter(|found| seen.insert(found.id.clone()));
    let models = found.map(|found| details(&aliases, &found, &call.caller.region)).filter(|model| {
        let has = |member: &str, query: &str| {
            let wanted = call.query(query);
            wanted.is_none_or(|wanted| model[member].as_array().is_some_and(|all| all.contains(&json!(wanted))))
        };
        call.query("byProvider").is_none_or(|provider| model["providerName"] == json!(provider))
            && has("customizationsSupported", "byCustomizationType")
            && has("outputModalities", "byOutputModality")
            && has("inferenceTypesSupported", "byInferenceType")
    });
    Ok(Reply::ok(json!({"modelSummaries": models.collect::<Vec<Value>>()})))
}

/// One model, by id or ARN.
pub(crate) fn get(state: &AppState, call: &Call) -> Result<Reply, ApiError> {
    let identifier = call.segments[1].as_str();
    let id = arn::foundation_id(identifier).unwrap_or(identifier);
    let aliases = Aliases::read(state.home())?;
    let Some(found) = aliases.resolve(id) else {
        return Err(ApiError::not_found(format!("Could not resolve the foundation model from '{identifier}'.")));
    };
    let mut model = details(&aliases, &found, &call.caller.region);
    if let Some(note) = aliases.note(id) {
        model["outcrop"]["note"] = json!(note);
    }
    Ok(Reply { header: Some(("x-outcrop-base", found.base)), ..Reply::ok(json!({"modelDetails": model})) })
}

fn details(aliases: &Aliases, found: &Resolved, region: &str) -> Value {
    let (known, imported) = (known(&found.id), aliases.bases().get(&found.base));
    let base = imported.map_or(found.base.as_str(), ImportedBase::name);
    let name = match (found.is_alias, imported) {
        (true, _) => alias_name(base),
        (false, Some(_)) => end_of(base, LONGEST_NAME),
        (false, None) => "Pebble".to_string(),
    };
    let provider = if found.id == EMBEDDED_ID { "Outcrop" } else { known.map_or("Local", |model| model.provider) };
    let customizations = known.map_or(BOTH, |model| model.customizations);
    json!({
        "modelArn": arn::foundation(region, &found.id),
        "modelId": found.id,
        "modelName": name,
        "providerName": provider,
        "inputModalities": ["TEXT"],
        "outputModalities": ["TEXT"],
        "responseStreamingSupported": true,
        "customizationsSupported": customizations.iter().map(|kind| kind.as_str()).collect::<Vec<_>>(),
        "inferenceTypesSupported": ["ON_DEMAND", "PROVISIONED"],
        "modelLifecycle": {"status": "ACTIVE"},
        "outcrop": {"base": found.base, "isAlias": found.is_alias, "hash": imported.map(|base| &base.hash)},
    })
}

/// `alias of pebble`; a long base keeps its end, which names it.
fn alias_name(base: &str) -> String {
    let last = base.trim_end_matches('/').rsplit('/').next().unwrap_or(base);
    format!("alias of {}", end_of(last, LONGEST_NAME - "alias of ".len()))
}

/// The last characters of a text, at most `room` of them.
fn end_of(text: &str, room: usize) -> String {
    text.chars().skip(text.chars().count().saturating_sub(room)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_fits_a_listing() {
        assert_eq!(alias_name("pebble"), "alias of pebble");
        for base in ["HuggingFaceTB/SmolLM2-135M", "/models/a very long name of a folder/"] {
            assert!(alias_name(base).chars().count() <= LONGEST_NAME, "{}", alias_name(base));
        }
    }
}
