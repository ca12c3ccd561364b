//! TensorBoard's messages and their frame, the TFRecord. Messages hold only the fields that are written; their numbers
//! are those of tensorflow's `event.proto`, `summary.proto` and `tensor.proto`.

use prost::Message;

/// `number` in TensorBoard's f32: not a number and infinities stay, a larger number becomes infinite.
pub(super) fn scalar(tag: &str, number: f64) -> Value {
    Value { tag: tag.into(), value: Some(Content::SimpleValue(number as f32)), metadata: None }
}

/// A text that TensorBoard renders as Markdown.
pub(super) fn text(tag: &str, markdown: &str) -> Value {
    let tensor = TensorProto {
        dtype: DT_STRING,
        tensor_shape: Some(TensorShape {}),
        string_val: vec![markdown.as_bytes().to_vec()],
    };
    let plugin_data = Some(PluginData { plugin_name: "text".into() });
    Value { tag: tag.into(), value: Some(Content::Tensor(tensor)), metadata: Some(SummaryMetadata { plugin_data }) }
}

/// Appends `message` as a TFRecord: length (u64), its masked CRC, the message, its masked CRC, all little-endian.
/// Source: tensorflow's `record_writer.h`.
pub(super) fn put_record(bytes: &mut Vec<u8>, message: &[u8]) {
    let length = (message.len() as u64).to_le_bytes();
    bytes.extend_from_slice(&length);
    bytes.extend_from_slice(&masked_crc32c(&length).to_le_bytes());
    bytes.extend_from_slice(message);
    bytes.extend_from_slice(&masked_crc32c(message).to_le_bytes());
}

/// CRC-32C, rotated and shifted so that the CRC of data that holds CRCs stays sound. Source: tensorflow's `crc32c.h`.
pub(super) fn masked_crc32c(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// `DataType.DT_STRING`.
const DT_STRING: i32 = 7;

#[derive(Clone, PartialEq, Message)]
pub(super) struct TensorBoardEvent {
    /// Seconds since 1970.
    #[prost(double, tag = "1")]
    pub(super) wall_time: f64,
    #[prost(int64, tag = "2")]
    pub(super) step: i64,
    #[prost(oneof = "What", tags = "3, 5")]
    pub(super) what: Option<What>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum What {
    #[prost(string, tag = "3")]
    FileVersion(String),
    #[prost(message, tag = "5")]
    Summary(Summary),
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Summary {
    #[prost(message, repeated, tag = "1")]
    pub(super) value: Vec<Value>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Value {
    #[prost(string, tag = "1")]
    pub(super) tag: String,
    #[prost(oneof = "Content", tags = "2, 8")]
    pub(super) value: Option<Content>,
    #[prost(message, optional, tag = "9")]
    pub(super) metadata: Option<SummaryMetadata>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum Content {
    #[prost(float, tag = "2")]
    SimpleValue(f32),
    #[prost(message, tag = "8")]
    Tensor(TensorProto),
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct SummaryMetadata {
    #[prost(message, optional, tag = "1")]
    pub(super) plugin_data: Option<PluginData>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct PluginData {
    #[prost(string, tag = "1")]
    pub(super) plugin_name: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct TensorProto {
    #[prost(int32, tag = "1")]
    pub(super) dtype: i32,
    #[prost(message, optional, tag = "2")]
    pub(super) tensor_shape: Option<TensorShape>,
    #[prost(bytes = "vec", repeated, tag = "8")]
    pub(super) string_val: Vec<Vec<u8>>,
}

/// Without dims: a scalar.
#[derive(Clone, PartialEq, Message)]
pub(super) struct TensorShape {}
