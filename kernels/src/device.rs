//! The one function that opens a device, and the one place besides the kernels where a feature matters.

use candle_core::{Device, Result, bail};
use std::sync::{Mutex, PoisonError};

/// Devices opened so far. Two handles of one GPU would be two devices with a stream each: tensors of one can't meet
/// tensors of the other.
static OPENED: Mutex<Vec<(String, Device)>> = Mutex::new(Vec::new());

/// Opens `cpu`, `cuda:N` or `metal`; a name that was opened before gives the same device again.
/// Errors: an unknown name, a device this binary was built without, a device that isn't there.
pub fn open(name: &str) -> Result<Device> {
    let (kind, index) = name.split_once(':').unwrap_or((name, "0"));
    let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
    let known = format!("{kind}:{index}");
    if let Some((_, device)) = opened.iter().find(|(name, _)| *name == known) {
        return Ok(device.clone());
    }
    let device = match (kind, index) {
        ("cpu", "0") => return Ok(Device::Cpu),
        ("cuda", index) => match index.parse() {
            Ok(index) => open_cuda(index)?,
            Err(_) => bail!("device `{name}`: `{index}` is not a number, write `cuda:0`"),
        },
        ("metal", "0") => open_metal()?,
        _ => bail!("device `{name}` is unknown, use `cpu`, `cuda:0` or `metal`"),
    };
    opened.push((known, device.clone()));
    Ok(device)
}

/// Bytes of a GPU's memory that are free now. None for the CPU, whose memory is the machine's, and where the driver
/// doesn't say.
pub fn free_memory(device: &Device) -> Option<u64> {
    match device {
        Device::Cpu => None,
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => {
            let (free, _total) = device.cuda_stream().context().mem_get_info().ok()?;
            Some(free as u64)
        }
        #[cfg(feature = "metal")]
        Device::Metal(device) => {
            let device = device.metal_device();
            Some(device.recommended_max_working_set_size().saturating_sub(device.current_allocated_size()) as u64)
        }
        #[cfg(not(all(feature = "cuda", feature = "metal")))]
        _ => None,
    }
}

/// One stream for the whole process: candle's default is the calling thread's own, so that what rayon's threads upload
/// while weights load would not be ordered before the main thread's first use of it.
#[cfg(feature = "cuda")]
fn open_cuda(index: usize) -> Result<Device> {
    match Device::new_cuda_with_stream(index) {
        Ok(device) => Ok(device),
        Err(error) => bail!("device `cuda:{index}` can't be opened: {error}"),
    }
}

#[cfg(not(feature = "cuda"))]
fn open_cuda(index: usize) -> Result<Device> {
    bail!("device `cuda:{index}`: this binary was built without CUDA, build it with `--features cuda`")
}

#[cfg(feature = "metal")]
fn open_metal() -> Result<Device> {
    match Device::new_metal(0) {
        Ok(device) => Ok(device),
        Err(error) => bail!("device `metal` can't be opened: {error}"),
    }
}

#[cfg(not(feature = "metal"))]
fn open_metal() -> Result<Device> {
    bail!("device `metal`: this binary was built without Metal, build it with `--features metal`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_and_absent_devices_say_what_would_work() {
        let message = |name: &str| open(name).unwrap_err().to_string();
        assert!(message("tpu").contains("use `cpu`, `cuda:0` or `metal`"));
        assert!(message("cpu:1").contains("use `cpu`, `cuda:0` or `metal`"));
        assert!(message("cuda:x").contains("`x` is not a number"));
        #[cfg(not(feature = "cuda"))]
        assert!(message("cuda:0").contains("--features cuda"));
        #[cfg(not(feature = "metal"))]
        assert!(message("metal").contains("--features metal"));
    }

    #[test]
    fn a_device_opened_twice_is_the_same() {
        for name in ["cpu", "cuda", "cuda:0", "metal"] {
            if let (Ok(first), Ok(second)) = (open(name), open(name)) {
                assert!(first.same_device(&second), "{name}");
                assert_eq!(free_memory(&first).is_none(), first.is_cpu(), "{name}");
            } else {
                assert_ne!(name, "cpu");
            }
        }
    }
}
