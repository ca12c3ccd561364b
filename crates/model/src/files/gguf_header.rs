//! Reading a GGUF file's header: its metadata, and where each tensor lies. Every length, count, type and place that the file names is
//! held to the bytes that are there before anything is allocated for it, which candle's own reader does for a part of them.
//!
//! Source: llama.cpp's ggml/src/gguf.cpp. Left out: version 1, big-endian files and lists of lists, as there; the tensors' content.

use crate::{ModelError, Result};
use candle_core::quantized::GgmlDType;
use candle_core::quantized::gguf_file::{Content, DEFAULT_ALIGNMENT, TensorInfo, Value, VersionedMagic};
use std::collections::HashMap;
use std::io::{BufReader, Read};
use std::path::Path;

/// Most dimensions of a tensor, ggml's own bound.
const MOST_DIMENSIONS: u32 = 4;
/// Most values that all lists together may have. Each takes 32 bytes of memory, however few it has in the file; the largest
/// tokenizers have some millions.
const MOST_VALUES: u64 = 1 << 24;

/// Reads the header. Errors: not GGUF, cut off, something in it that can't be, by its name.
pub(super) fn read(path: &Path) -> Result<Content> {
    let file = fs_err::File::open(path)?;
    let length = file.metadata()?.len();
    let mut header = Header { reader: BufReader::new(file), remaining: length, values: MOST_VALUES };
    let content = header.content(length);
    content.map_err(|words| ModelError::invalid(path, format!("is not a readable GGUF file: {words}")))
}

struct Header<R> {
    reader: R,
    /// Bytes behind what is read.
    remaining: u64,
    /// Values that lists may still have.
    values: u64,
}

/// What is wrong, in words.
type Words<T> = std::result::Result<T, String>;

impl<R: Read> Header<R> {
    fn content(&mut self, length: u64) -> Words<Content> {
        if self.bytes::<4>("its first bytes")? != *b"GGUF" {
            return Err("it doesn't begin with `GGUF`".into());
        }
        let magic = match self.u32("its version")? {
            2 => VersionedMagic::GgufV2,
            3 => VersionedMagic::GgufV3,
            other => return Err(format!("its version is {other}, and 2 and 3 are read; convert the model anew")),
        };
        let (tensors, entries) = (self.u64("its number of tensors")?, self.u64("its number of metadata entries")?);
        let mut metadata = HashMap::new();
        for index in 0..entries {
            let key = self.text(&format!("the key of metadata entry {index} of {entries}"))?;
            let kind = self.u32(&key)?;
            let value = self.value(kind, &key)?;
            if metadata.insert(key.clone(), value).is_some() {
                return Err(format!("its metadata has `{key}` twice"));
            }
        }
        let alignment = alignment(&metadata)?;
        let mut tensor_infos = HashMap::new();
        for index in 0..tensors {
            let name = self.text(&format!("the name of tensor {index} of {tensors}"))?;
            if name.is_empty() {
                return Err(format!("tensor {index} of {tensors} has no name"));
            }
            let info = self.tensor(&name, length, alignment)?;
            if tensor_infos.insert(name.clone(), info).is_some() {
                return Err(format!("it has the tensor `{name}` twice"));
            }
        }
        let tensor_data_offset = (length - self.remaining).next_multiple_of(alignment);
        for (name, info) in &tensor_infos {
            let end = tensor_data_offset.checked_add(info.offset).and_then(|begin| begin.checked_add(size(info)));
            if end.is_none_or(|end| end > length) {
                return Err(format!(
                    "`{name}` lies at {} bytes of the tensors' part and has {}, beyond the file's {length} bytes; it is cut off or damaged",
                    info.offset,
                    size(info)
                ));
            }
        }
        Ok(Content { magic, metadata, tensor_infos, tensor_data_offset })
    }

    /// One value of this type.
    fn value(&mut self, kind: u32, key: &str) -> Words<Value> {
        Ok(match kind {
            0 => Value::U8(self.bytes::<1>(key)?[0]),
            1 => Value::I8(i8::from_le_bytes(self.bytes(key)?)),
            2 => Value::U16(u16::from_le_bytes(self.bytes(key)?)),
            3 => Value::I16(i16::from_le_bytes(self.bytes(key)?)),
            4 => Value::U32(self.u32(key)?),
            5 => Value::I32(i32::from_le_bytes(self.bytes(key)?)),
            6 => Value::F32(f32::from_le_bytes(self.bytes(key)?)),
            7 => match self.bytes::<1>(key)?[0] {
                flag @ 0..=1 => Value::Bool(flag == 1),
                other => return Err(format!("`{key}` is true or false, but has the byte {other}")),
            },
            8 => Value::String(self.text(key)?),
            9 => Value::Array(self.list(key)?),
            10 => Value::U64(self.u64(key)?),
            11 => Value::I64(i64::from_le_bytes(self.bytes(key)?)),
            12 => Value::F64(f64::from_le_bytes(self.bytes(key)?)),
            other => return Err(format!("`{key}` has the type {other}, which is not a type of metadata")),
        })
    }

    fn list(&mut self, key: &str) -> Words<Vec<Value>> {
        let kind = self.u32(key)?;
        if kind == 9 {
            return Err(format!("`{key}` is a list of lists, which is not read"));
        }
        let count = self.u64(key)?;
        let least = match kind {
            8 | 10..=12 => 8,
            4..=6 => 4,
            2..=3 => 2,
            _ => 1,
        };
        if count.checked_mul(least).is_none_or(|bytes| bytes > self.remaining) {
            return Err(format!("`{key}` has {count} values, more than the {} bytes behind it hold", self.remaining));
        }
        let Some(left) = self.values.checked_sub(count) else {
            return Err(format!("`{key}` has {count} values, and the lists of a file may have {MOST_VALUES} together"));
        };
        self.values = left;
        (0..count).map(|_| self.value(kind, key)).collect()
    }

    fn tensor(&mut self, name: &str, length: u64, alignment: u64) -> Words<TensorInfo> {
        let count = self.u32(name)?;
        if count > MOST_DIMENSIONS {
            return Err(format!("`{name}` has {count} dimensions, at most {MOST_DIMENSIONS} are possible"));
        }
        let mut shape = (0..count).map(|_| self.u64(name)).collect::<Words<Vec<u64>>>()?;
        shape.reverse();
        let kind = self.u32(name)?;
        let offset = self.u64(name)?;
        // no type has less than two bits per element
        let elements = shape.iter().try_fold(1u64, |product, dim| product.checked_mul(*dim));
        let Some(elements) = elements.filter(|elements| elements / 4 <= length) else {
            return Err(format!("`{name}` has shape {shape:?}, more than the file's {length} bytes hold"));
        };
        let dtype = dtype(kind).ok_or_else(|| {
            format!("`{name}` has the type {kind}, which is not read; convert the model to f32, f16, bf16, q8_0 or another K-quantization")
        })?;
        let block = dtype.block_size() as u64;
        if !elements.is_multiple_of(block) {
            return Err(format!("`{name}` has shape {shape:?}, which is no whole number of blocks of {block}"));
        }
        if !offset.is_multiple_of(alignment) {
            return Err(format!("`{name}` lies at {offset} bytes, which is no multiple of the alignment {alignment}"));
        }
        let shape = shape.into_iter().map(|dim| dim as usize).collect::<Vec<_>>().into();
        Ok(TensorInfo { ggml_dtype: dtype, shape, offset })
    }

    fn text(&mut self, what: &str) -> Words<String> {
        let length = self.u64(what)?;
        if length > self.remaining {
            return Err(format!("{what}: a text of {length} bytes, {} are there", self.remaining));
        }
        let mut bytes = vec![0; length as usize];
        self.fill(&mut bytes, what)?;
        // some writers end texts with a 0; bytes that are no UTF-8 are replaced, as candle does
        while bytes.last() == Some(&0) {
            bytes.pop();
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn u32(&mut self, what: &str) -> Words<u32> {
        Ok(u32::from_le_bytes(self.bytes(what)?))
    }

    fn u64(&mut self, what: &str) -> Words<u64> {
        Ok(u64::from_le_bytes(self.bytes(what)?))
    }

    fn bytes<const N: usize>(&mut self, what: &str) -> Words<[u8; N]> {
        let mut bytes = [0; N];
        self.fill(&mut bytes, what)?;
        Ok(bytes)
    }

    fn fill(&mut self, bytes: &mut [u8], what: &str) -> Words<()> {
        let Some(left) = self.remaining.checked_sub(bytes.len() as u64) else {
            return Err(format!("it ends within {what}; fetch or copy it again"));
        };
        self.reader.read_exact(bytes).map_err(|error| format!("{what}: {error}"))?;
        self.remaining = left;
        Ok(())
    }
}

/// What the tensors' places are multiples of.
fn alignment(metadata: &HashMap<String, Value>) -> Words<u64> {
    let alignment = match metadata.get("general.alignment") {
        None => DEFAULT_ALIGNMENT,
        Some(Value::U32(alignment)) => u64::from(*alignment),
        Some(_) => return Err("its `general.alignment` is not a number of 32 bits".into()),
    };
    match alignment.is_power_of_two() {
        true => Ok(alignment),
        false => Err(format!("its `general.alignment` is {alignment}, which is not a power of two")),
    }
}

/// Bytes of a tensor, whose elements were held to the file's length.
fn size(info: &TensorInfo) -> u64 {
    (info.shape.elem_count() / info.ggml_dtype.block_size()) as u64 * info.ggml_dtype.type_size() as u64
}

/// ggml's numbers of the types that candle reads.
fn dtype(kind: u32) -> Option<GgmlDType> {
    Some(match kind {
        0 => GgmlDType::F32,
        1 => GgmlDType::F16,
        2 => GgmlDType::Q4_0,
        3 => GgmlDType::Q4_1,
        6 => GgmlDType::Q5_0,
        7 => GgmlDType::Q5_1,
        8 => GgmlDType::Q8_0,
        10 => GgmlDType::Q2K,
        11 => GgmlDType::Q3K,
        12 => GgmlDType::Q4K,
        13 => GgmlDType::Q5K,
        14 => GgmlDType::Q6K,
        30 => GgmlDType::BF16,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Vec<u8> {
        [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
    }

    /// A key, its type and its value.
    fn entry(key: &str, kind: u32, value: &[u8]) -> Vec<u8> {
        [&text(key)[..], &kind.to_le_bytes(), value].concat()
    }

    fn list(key: &str, kind: u32, count: u64, values: &[u8]) -> Vec<u8> {
        entry(key, 9, &[&kind.to_le_bytes()[..], &count.to_le_bytes(), values].concat())
    }

    fn tensor(name: &str, shape: &[u64], kind: u32, offset: u64) -> Vec<u8> {
        let shape: Vec<u8> = shape.iter().flat_map(|dim| dim.to_le_bytes()).collect();
        let count = (shape.len() as u32 / 8).to_le_bytes();
        [&text(name)[..], &count, &shape, &kind.to_le_bytes(), &offset.to_le_bytes()].concat()
    }

    /// A file of version 3 with this metadata and these tensors, `data` bytes behind them.
    fn file(metadata: &[Vec<u8>], tensors: &[Vec<u8>], data: usize) -> Vec<u8> {
        let counts = [tensors.len() as u64, metadata.len() as u64].map(u64::to_le_bytes).concat();
        let mut file = [b"GGUF", &3u32.to_le_bytes()[..], &counts, &metadata.concat(), &tensors.concat()].concat();
        file.resize(file.len().next_multiple_of(32) + data, 0);
        file
    }

    fn parse(bytes: &[u8]) -> Result<Content> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.gguf");
        fs_err::write(&path, bytes).unwrap();
        read(&path)
    }

    fn refused(bytes: &[u8]) -> String {
        let message = parse(bytes).unwrap_err().to_string();
        message.split_once("a.gguf: is not a readable GGUF file: ").unwrap().1.to_string()
    }

    #[test]
    fn what_a_header_says_is_read() {
        let metadata = [
            entry("a", 0, &[7]),
            entry("b", 5, &(-3i32).to_le_bytes()),
            entry("c", 12, &2.5f64.to_le_bytes()),
            entry("d", 8, &text("words\0")),
            list("e", 8, 2, &[text("x"), text("y")].concat()),
            entry("general.alignment", 4, &64u32.to_le_bytes()),
        ];
        let mut bytes = file(&metadata, &[tensor("t", &[3, 2], 0, 64), tensor("u", &[], 1, 0)], 200);
        bytes[4..8].copy_from_slice(&2u32.to_le_bytes());
        let content = parse(&bytes).unwrap();
        assert!(matches!(content.metadata["a"], Value::U8(7)) && matches!(content.metadata["b"], Value::I32(-3)));
        assert_eq!(content.metadata["c"].to_f64().unwrap(), 2.5);
        assert_eq!(content.metadata["d"].to_string().unwrap(), "words");
        assert_eq!(content.metadata["e"].to_vec().unwrap()[1].to_string().unwrap(), "y");
        assert_eq!((content.tensor_infos["t"].shape.dims(), content.tensor_infos["t"].offset), (&[2usize, 3][..], 64));
        assert_eq!(content.tensor_data_offset % 64, 0);
    }

    #[test]
    fn every_length_and_count_is_held_to_the_bytes_that_are_there() {
        let long = u64::MAX.to_le_bytes();
        let mut counts = file(&[], &[], 0);
        counts[8..16].copy_from_slice(&long);
        for (bytes, expected) in [
            (counts, "tensor 0 of 18446744073709551615 has no name"),
            (
                file(&[[&long[..], b"key"].concat()], &[], 0),
                "the key of metadata entry 0 of 1: a text of 18446744073709551615 bytes, ",
            ),
            (file(&[entry("k", 8, &long)], &[], 0), "k: a text of 18446744073709551615 bytes, "),
            (file(&[list("k", 4, u64::MAX, &[])], &[], 0), "`k` has 18446744073709551615 values, more than the "),
            (file(&[list("k", 8, 1 << 40, &[])], &[], 0), "`k` has 1099511627776 values, more than the "),
            (
                file(&[list("k", 0, (1 << 24) + 1, &vec![0; (1 << 24) + 1])], &[], 0),
                "`k` has 16777217 values, and the lists of a file",
            ),
            (
                file(&[], &[tensor("t", &[1 << 32, 1 << 32], 0, 0)], 0),
                "`t` has shape [4294967296, 4294967296], more than the file's",
            ),
            (
                file(&[], &[tensor("t", &[8], 0, 0)], 31),
                "`t` lies at 0 bytes of the tensors' part and has 32, beyond the file's",
            ),
            (file(&[], &[tensor("t", &[8], 0, u64::MAX - 31)], 32), "`t` lies at 18446744073709551584 bytes"),
        ] {
            assert!(refused(&bytes).starts_with(expected), "{}", refused(&bytes));
        }
        // a tensor without elements has no bytes, whatever its other dimension
        assert!(parse(&file(&[], &[tensor("t", &[0, u64::MAX], 0, 0)], 0)).is_ok());
    }

    #[test]
    fn what_cannot_be_is_refused_by_its_name() {
        let version = |version: u32| {
            let mut bytes = file(&[], &[], 0);
            bytes[4..8].copy_from_slice(&version.to_le_bytes());
            bytes
        };
        let alignment = |value: u32| file(&[entry("general.alignment", 4, &value.to_le_bytes())], &[], 0);
        for (bytes, expected) in [
            (b"GGUX".to_vec(), "it doesn't begin with `GGUF`"),
            (version(1), "its version is 1, and 2 and 3 are read; convert the model anew"),
            (version(3 << 24), "its version is 50331648, and 2 and 3 are read; convert the model anew"),
            (file(&[entry("k", 7, &[2])], &[], 0), "`k` is true or false, but has the byte 2"),
            (file(&[entry("k", 13, &[2])], &[], 0), "`k` has the type 13, which is not a type of metadata"),
            (file(&[list("k", 9, 1, &[])], &[], 0), "`k` is a list of lists, which is not read"),
            (file(&[entry("k", 0, &[2]), entry("k", 0, &[3])], &[], 0), "its metadata has `k` twice"),
            (file(&[], &[tensor("t", &[], 0, 0), tensor("t", &[], 0, 32)], 64), "it has the tensor `t` twice"),
            (file(&[], &[tensor("t", &[1; 5], 0, 0)], 64), "`t` has 5 dimensions, at most 4 are possible"),
            (
                file(&[], &[tensor("t", &[8], 99, 0)], 64),
                "`t` has the type 99, which is not read; convert the model to f32, f16, bf16, q8_0 or another K-quantization",
            ),
            (file(&[], &[tensor("t", &[8], 8, 0)], 64), "`t` has shape [8], which is no whole number of blocks of 32"),
            (
                file(&[], &[tensor("t", &[8], 0, 4)], 64),
                "`t` lies at 4 bytes, which is no multiple of the alignment 32",
            ),
            (alignment(0), "its `general.alignment` is 0, which is not a power of two"),
            (alignment(24), "its `general.alignment` is 24, which is not a power of two"),
            (
                file(&[entry("general.alignment", 0, &[32])], &[], 0),
                "its `general.alignment` is not a number of 32 bits",
            ),
        ] {
            assert_eq!(refused(&bytes), expected);
        }
        let whole = file(&[entry("k", 8, &text("words"))], &[tensor("t", &[8], 0, 0)], 32);
        for length in 0..whole.len() {
            assert!(parse(&whole[..length]).is_err(), "{length} of {} bytes", whole.len());
        }
    }
}
