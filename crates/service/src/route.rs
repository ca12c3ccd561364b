//! From method and path to an operation. Paths are matched by their segments as they were sent; an ARN is one.

use crate::call::{Call, Reply};
use crate::operations::{create_evaluation, create_job, create_model, endpoints, evaluations};
use crate::operations::{foundation_models, jobs, models, tags};
use crate::{ApiError, AppState};

/// An operation.
pub(crate) type Handler = fn(&AppState, &Call) -> Result<Reply, ApiError>;

const DEPLOYMENTS: &str = "custom-model-deployments";

/// The operation of a call; none where Bedrock has none, or this service doesn't.
pub(crate) fn handler(call: &Call) -> Option<Handler> {
    let segments: Vec<&str> = call.segments.iter().map(String::as_str).collect();
    let found: Handler = match (call.method.as_str(), segments.as_slice()) {
        ("POST", ["model-customization-jobs"]) => create_job,
        ("GET", ["model-customization-jobs"]) => jobs::list,
        ("GET", ["model-customization-jobs", _]) => jobs::get,
        ("POST", ["model-customization-jobs", _, "stop"]) => jobs::stop,
        ("POST", ["custom-models", "create-custom-model"]) => create_model::create,
        ("GET", ["custom-models"]) => models::list,
        ("GET", ["custom-models", _]) => models::get,
        ("DELETE", ["custom-models", _]) => models::delete,
        ("GET", ["foundation-models"]) => foundation_models::list,
        ("GET", ["foundation-models", _]) => foundation_models::get,
        ("POST", ["evaluation-jobs"]) => create_evaluation,
        ("GET", ["evaluation-jobs"]) => evaluations::list,
        ("POST", ["evaluation-jobs", "batch-delete"]) => evaluations::delete,
        ("GET", ["evaluation-jobs", _]) => evaluations::get,
        ("POST", ["evaluation-job", _, "stop"]) => evaluations::stop,
        ("POST", ["tagResource"]) => tags::tag,
        ("POST", ["untagResource"]) => tags::untag,
        ("POST", ["listTagsForResource"]) => tags::list,
        ("POST", ["model-customization", DEPLOYMENTS]) => endpoints::create_deployment,
        ("GET", ["model-customization", DEPLOYMENTS]) => endpoints::list_deployments,
        ("GET", ["model-customization", DEPLOYMENTS, _]) => endpoints::get_deployment,
        ("PATCH", ["model-customization", DEPLOYMENTS, _]) => endpoints::update_deployment,
        ("DELETE", ["model-customization", DEPLOYMENTS, _]) => endpoints::delete_deployment,
        ("POST", ["provisioned-model-throughput"]) => endpoints::create_provisioned,
        ("GET", ["provisioned-model-throughputs"]) => endpoints::list_provisioned,
        ("GET", ["provisioned-model-throughput", _]) => endpoints::get_provisioned,
        ("PATCH", ["provisioned-model-throughput", _]) => endpoints::update_provisioned,
        ("DELETE", ["provisioned-model-throughput", _]) => endpoints::delete_provisioned,
        _ => return None,
    };
    Some(found)
}
