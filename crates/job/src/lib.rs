//! What a customization job is on disk and on the wire: Bedrock's request, the hyperparameters, the plan, the events of
//! a run, the job's folder, and the record of the custom model it makes. Plain data and files: nothing here knows
//! tensors, devices or HTTP.

pub mod aliases;
pub mod artifacts;
pub mod atomic;
pub mod bases;
pub mod claim;
pub mod content_hash;
pub mod describe;
pub mod event;
pub mod event_log;
pub mod float;
pub mod folder;
pub mod gate;
pub mod home;
pub mod hyperparameters;
pub mod location;
pub mod metrics_csv;
pub mod model_record;
pub mod model_store;
pub mod names;
pub mod plan;
pub mod plan_error;
pub mod price;
pub mod prune;
pub mod request;
pub mod status;
pub mod string_map;
pub mod sweep;
pub mod timestamp;

mod json_tree;
mod wording;

pub use aliases::Aliases;
pub use event::{Event, Record};
pub use event_log::{EventLog, read_events};
pub use folder::JobFolder;
pub use home::Home;
pub use hyperparameters::Hyperparameters;
pub use location::Locations;
pub use model_record::ModelRecord;
pub use model_store::ModelStore;
pub use plan::Plan;
pub use plan_error::PlanError;
pub use request::{CustomizationType, Request};
pub use status::JobStatus;
pub use string_map::StringMap;
