//! Reading safetensors: a single `model.safetensors`, or shards named by `model.safetensors.index.json`.
//! The mapping lives only while tensors are copied out of it, so that a base is in memory once.

use super::{finite, inside};
use crate::weights::{self, Weights};
use crate::{ModelError, Result};
use candle_core::{CpuStorage, DType, Device, Layout, Storage, Tensor};
use memmap2::Mmap;
use rayon::prelude::*;
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use serde_json::Value;
use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::io::{Read, Seek, SeekFrom};
use std::ops::Deref;
use std::path::{Path, PathBuf};

/// What names a folder's shards.
pub(crate) const INDEX: &str = "model.safetensors.index.json";

/// The weight files of a folder, sorted. Errors: neither a single file nor an index, a shard that's missing, one outside the folder.
pub(crate) fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let files = listed(folder)?;
    inside::check(folder, &files)?;
    Ok(files)
}

fn listed(folder: &Path) -> Result<Vec<PathBuf>> {
    let single = folder.join("model.safetensors");
    if single.is_file() {
        return Ok(vec![single]);
    }
    let index = folder.join(INDEX);
    if !index.is_file() {
        let bins = folder.join("pytorch_model.bin").is_file();
        let hint =
            if bins { "; pickle files (`pytorch_model.bin`) are not read, convert them to safetensors" } else { "" };
        return Err(ModelError::invalid(
            folder,
            format!("has neither `model.safetensors` nor `model.safetensors.index.json`{hint}"),
        ));
    }
    let json = inside::json(&index)?;
    let map = json.get("weight_map").and_then(Value::as_object);
    let map = map.ok_or_else(|| ModelError::invalid(&index, "has no `weight_map`"))?;
    let names = map.iter().map(|(tensor, shard)| {
        shard.as_str().ok_or_else(|| {
            ModelError::invalid(&index, format!("gives `{tensor}` the shard `{shard}`, expected a file name"))
        })
    });
    let names: BTreeSet<&str> = names.collect::<Result<_>>()?;
    let mut files = Vec::new();
    for name in names {
        let file = folder.join(name);
        if name.contains(['/', '\\']) || !file.is_file() {
            return Err(ModelError::invalid(&index, format!("names shard `{name}`, which is not in the folder")));
        }
        files.push(file);
    }
    Ok(files)
}

/// Reads all tensors of these files but old exports' buffers to `device`: as `dtype`, or in their own types, bytes too. Errors: a file
/// that isn't whole, a dtype that isn't a float, a tensor that two files have; as `dtype` also a value that is NaN or infinite.
pub(crate) fn read(files: &[PathBuf], dtype: impl Into<Option<DType>>, device: &Device) -> Result<Weights> {
    let dtype = dtype.into();
    let mut weights = Weights::default();
    for file in files {
        let map = map(file)?;
        let tensors = SafeTensors::deserialize(&map)
            .map_err(|e| ModelError::invalid(file, format!("is not a whole safetensors file: {e}")))?;
        // buffers may have any type, and masks of f16 are infinite
        let names: Vec<&str> = tensors.names().into_iter().filter(|name| !weights::is_buffer(name)).collect();
        let loaded: Vec<(String, Tensor)> = names
            .into_par_iter()
            .map(|name| {
                let view = tensors.tensor(name).map_err(|e| ModelError::invalid(file, e.to_string()))?;
                let is_exact_byte = dtype.is_none() && view.dtype() == safetensors::Dtype::U8;
                let source = if is_exact_byte { Some(DType::U8) } else { source_dtype(view.dtype()) };
                let source = source.ok_or_else(|| {
                    ModelError::invalid(file, format!("`{name}` has dtype {:?}, which is not supported", view.dtype()))
                })?;
                let tensor = copy(file, &map, &view, source)?;
                let tensor = tensor.to_dtype(dtype.unwrap_or(source))?;
                if dtype.is_some() {
                    finite::check(file, name, &tensor)?;
                }
                Ok((name.to_string(), tensor.to_device(device)?))
            })
            .collect::<Result<_>>()?;
        for (name, tensor) in loaded {
            if weights.get(&name).is_ok() {
                return Err(ModelError::invalid(file, format!("has `{name}`, which another shard has too")));
            }
            weights.insert(name, tensor);
        }
    }
    Ok(weights)
}

/// The tensor of a view into the mapping. f32, as which a base of that type stays, is read from the file: pages of the
/// mapping that were looked at would stand beside their copies until all of them are made, twice the base in memory.
fn copy(file: &Path, map: &Mmap, view: &TensorView, source: DType) -> Result<Tensor> {
    if source != DType::F32 || cfg!(target_endian = "big") {
        return Ok(Tensor::from_raw_buffer(view.data(), source, view.shape(), &Device::Cpu)?);
    }
    let offset = view.data().as_ptr() as usize - map.as_ptr() as usize;
    let mut values = vec![0f32; view.data().len() / size_of::<f32>()];
    let mut reader = fs_err::File::open(file)?;
    reader.seek(SeekFrom::Start(offset as u64))?;
    reader.read_exact(bytemuck::cast_slice_mut(&mut values))?;
    Ok(Tensor::from_vec(values, view.shape(), &Device::Cpu)?)
}

/// Names and shapes of the tensors in these files. Errors: a file that isn't whole, a tensor that two files have.
pub(crate) fn shapes(files: &[PathBuf]) -> Result<Vec<(String, Vec<usize>)>> {
    let mut shapes: Vec<(String, Vec<usize>)> = Vec::new();
    for file in files {
        let map = map(file)?;
        let (_, header) = SafeTensors::read_metadata(&map)
            .map_err(|e| ModelError::invalid(file, format!("is not a whole safetensors file: {e}")))?;
        for (name, info) in header.tensors() {
            if shapes.iter().any(|(other, _)| *other == name) {
                return Err(ModelError::invalid(file, format!("has `{name}`, which another shard has too")));
            }
            shapes.push((name, info.shape.clone()));
        }
    }
    Ok(shapes)
}

/// The metadata in a file's header.
pub(crate) fn metadata(path: &Path) -> Result<HashMap<String, String>> {
    let map = map(path)?;
    let (_, metadata) = SafeTensors::read_metadata(&map)
        .map_err(|e| ModelError::invalid(path, format!("is not a whole safetensors file: {e}")))?;
    Ok(metadata.metadata().clone().unwrap_or_default())
}

pub(super) fn source_dtype(dtype: safetensors::Dtype) -> Option<DType> {
    match dtype {
        safetensors::Dtype::F32 => Some(DType::F32),
        safetensors::Dtype::BF16 => Some(DType::BF16),
        safetensors::Dtype::F16 => Some(DType::F16),
        safetensors::Dtype::F64 => Some(DType::F64),
        _ => None,
    }
}

/// Maps a file for reading.
#[allow(unsafe_code)]
pub(super) fn map(path: &Path) -> Result<Mmap> {
    let file = fs_err::File::open(path)?;
    // SAFETY: the mapping is read-only, and its owner hands out copies alone. Files are written under a temporary name
    // and renamed when whole, never shortened; one that another process truncates would end this one with a fault,
    // which is no use of wrong memory.
    unsafe { Mmap::map(file.file()) }.map_err(|e| ModelError::invalid(path, format!("can't be mapped: {e}")))
}

/// A tensor as a file takes it: where it lies in memory as the file has it, its bytes without a copy. candle's own view
/// copies each tensor, twice the head's size more in a checkpoint's peak.
struct Held<'a, Guard> {
    tensor: &'a Tensor,
    storage: Guard,
    layout: &'a Layout,
}

/// Holds the tensor's storage for reading until it is dropped.
fn hold(tensor: &Tensor) -> Held<'_, impl Deref<Target = Storage>> {
    let (storage, layout) = tensor.storage_and_layout();
    Held { tensor, storage, layout }
}

impl<Guard: Deref<Target = Storage>> Held<'_, Guard> {
    /// None where values lie apart or on a device, or are of a type that is written seldom.
    fn bytes(&self) -> Option<&[u8]> {
        let (begin, end) = self.layout.contiguous_offsets()?;
        match &*self.storage {
            Storage::Cpu(CpuStorage::F32(values)) if cfg!(target_endian = "little") => {
                Some(bytemuck::cast_slice(&values[begin..end]))
            }
            Storage::Cpu(CpuStorage::U8(values)) => Some(&values[begin..end]),
            _ => None,
        }
    }
}

impl<Guard: Deref<Target = Storage>> safetensors::View for Held<'_, Guard> {
    fn dtype(&self) -> safetensors::Dtype {
        self.tensor.dtype().into()
    }

    fn shape(&self) -> &[usize] {
        self.tensor.dims()
    }

    fn data(&self) -> Cow<'_, [u8]> {
        match self.bytes() {
            Some(bytes) => Cow::Borrowed(bytes),
            None => Cow::Owned(safetensors::View::data(&self.tensor).into_owned()),
        }
    }

    fn data_len(&self) -> usize {
        safetensors::View::data_len(&self.tensor)
    }
}

/// Writes tensors: to a temporary file, synced, then renamed. Without metadata the file gets what Hugging Face's loaders
/// want. At most one entry: the header lists them in the order of a hash map, which would give equal tensors other bytes.
pub(crate) fn write(path: &Path, tensors: &[(String, Tensor)], metadata: Option<(&str, &str)>) -> Result<()> {
    let (key, value) = metadata.unwrap_or(("format", "pt"));
    let all = HashMap::from([(key.to_string(), value.to_string())]);
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    // an ordinary file, cut by the umask like any other, where temporary ones are private
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let temporary =
        builder.tempfile_in(folder).map_err(|e| ModelError::invalid(path, format!("can't be written: {e}")))?;
    let permissions = temporary.as_file().metadata()?.permissions();
    let temporary = temporary.into_temp_path();
    let data = tensors.iter().map(|(name, tensor)| (name.as_str(), hold(tensor)));
    safetensors::serialize_to_file(data, Some(all), &temporary)
        .map_err(|e| ModelError::invalid(path, format!("can't be written: {e}")))?;
    // safetensors puts a file of its own, and a private one, in the temporary's place: this is the one to sync
    fs_err::set_permissions(&temporary, permissions)?;
    fs_err::OpenOptions::new().write(true).open(&temporary)?.sync_all()?;
    temporary.persist(path).map_err(|e| ModelError::invalid(path, format!("can't be written: {}", e.error)))?;
    #[cfg(unix)]
    fs_err::File::open(folder)?.sync_all()?; // the rename itself
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again_however_it_lies_in_memory() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.safetensors");
        let whole = Tensor::arange(0f32, 24.0, &Device::Cpu).unwrap().reshape((4, 6)).unwrap();
        let tensors = [
            ("whole", whole.clone()),
            ("rows behind others", whole.narrow(0, 1, 2).unwrap()),
            ("columns", whole.narrow(1, 2, 3).unwrap()),
            ("transposed", whole.t().unwrap()),
            ("narrower", whole.to_dtype(DType::BF16).unwrap()),
            ("wider", whole.to_dtype(DType::F64).unwrap()),
            ("bytes", whole.to_dtype(DType::U8).unwrap().narrow(0, 2, 2).unwrap()),
            ("none", Tensor::zeros((0, 3), DType::F32, &Device::Cpu).unwrap()),
        ]
        .map(|(name, tensor)| (name.to_string(), tensor));
        write(&path, &tensors, None).unwrap();
        let read = read(&[path], None, &Device::Cpu).unwrap();
        let values = |tensor: &Tensor| tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1::<f64>();
        for (name, tensor) in &tensors {
            let found = read.get(name).unwrap();
            assert_eq!((found.dtype(), found.shape()), (tensor.dtype(), tensor.shape()), "{name}");
            assert_eq!(values(found).unwrap(), values(tensor).unwrap(), "{name}");
        }
        assert_eq!(read.iter().count(), tensors.len());
    }
}
