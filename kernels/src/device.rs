//! The one function that opens a device, and the one place besides the kernels where a feature matters.

use candle_core::{DType, Device, Result, Tensor, bail};
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

/// A device as [`list`] finds it.
#[derive(Clone, Debug)]
pub struct Listed {
    /// What [`open`] takes.
    pub name: String,
    /// The hardware's own name, where the driver tells it.
    pub hardware: Option<String>,
    /// The device, or why it can't be opened.
    pub device: std::result::Result<Device, String>,
}

/// Every device there is: the CPU, each CUDA GPU, Metal; one that this binary was built without is listed with that.
/// Opens them.
pub fn list() -> Vec<Listed> {
    let cuda = (0..cuda_devices().max(1)).map(|index| format!("cuda:{index}"));
    let names = std::iter::once("cpu".to_string()).chain(cuda).chain(["metal".to_string()]);
    names.map(listed).collect()
}

/// That device, opened if it can be.
pub fn listed(name: String) -> Listed {
    let device = open(&name).map_err(|error| error.to_string().lines().next().unwrap_or_default().to_string()); // no backtrace
    Listed { hardware: device.as_ref().ok().and_then(hardware), device, name }
}

/// What a user has to know of a device before a run on it; None where there is nothing.
pub fn notice(device: &Device) -> Option<String> {
    let name = match device {
        Device::Cpu => return None,
        Device::Cuda(_) => "CUDA",
        Device::Metal(_) => "Metal",
    };
    Some(format!("no op has a fused kernel for {name} yet: all run as plain tensor operations, right but slow"))
}

/// The instruction set that the CPU kernels run with, chosen when the process starts.
pub fn instruction_set() -> &'static str {
    crate::simd::instruction_set()
}

/// Threads of the pool that the CPU kernels run in.
pub fn threads() -> usize {
    rayon::current_num_threads()
}

/// A tensor without values: a view of one that has some, since CUDA refuses to reserve nothing.
pub(crate) fn empty(dims: &[usize], dtype: DType, device: &Device) -> Result<Tensor> {
    let some: Vec<usize> = dims.iter().map(|&dim| dim.max(1)).collect();
    let none = dims.iter().enumerate().filter(|(_, dim)| **dim == 0);
    none.into_iter().try_fold(Tensor::zeros(some, dtype, device)?, |tensor, (dim, _)| tensor.narrow(dim, 0, 0))
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

#[cfg(feature = "cuda")]
fn cuda_devices() -> usize {
    let count = candle_core::cuda_backend::cudarc::driver::CudaContext::device_count();
    count.map_or(0, |count| usize::try_from(count).unwrap_or(0))
}

#[cfg(not(feature = "cuda"))]
fn cuda_devices() -> usize {
    0
}

fn hardware(device: &Device) -> Option<String> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => device.cuda_stream().context().name().ok(),
        #[cfg(feature = "metal")]
        Device::Metal(device) => Some(device.metal_device().architecture_name()),
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
    fn the_cpu_is_listed_first_and_what_is_missing_says_why() {
        let all = list();
        assert_eq!(all[0].name, "cpu");
        assert!(all[0].device.as_ref().is_ok_and(Device::is_cpu));
        assert!(all.iter().any(|listed| listed.name == "cuda:0") && all.iter().any(|listed| listed.name == "metal"));
        for listed in &all[1..] {
            match &listed.device {
                Ok(device) => assert!(notice(device).is_some_and(|notice| notice.contains("plain tensor operations"))),
                Err(why) => assert!(why.contains(&format!("`{}`", listed.name)), "{why}"),
            }
        }
        assert_eq!(notice(&Device::Cpu), None);
        assert!(!instruction_set().is_empty());
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
