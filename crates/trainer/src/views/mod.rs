//! Views of a run for people: TensorBoard's file and the loss curve. Both are made from `events.jsonl` alone, so either
//! can be deleted and made again. Bedrock's CSVs are in `outcrop_job::metrics_csv`, reports in `outcrop_eval`.

pub mod curve;
pub mod tensorboard;
