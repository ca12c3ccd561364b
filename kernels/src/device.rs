//! The one function that opens a device, and the one place besides the kernels where a feature matters.

use candle_core::{Device, Result, bail};

/// Opens `cpu`, `cuda:N` or `metal`.
/// Errors: an unknown name, a device this binary was built without, a device that isn't there.
pub fn open(name: &str) -> Result<Device> {
    match name.split_once(':').unwrap_or((name, "0")) {
        ("cpu", "0") => Ok(Device::Cpu),
        ("cuda", index) => match index.parse() {
            Ok(index) => open_cuda(index),
            Err(_) => bail!("device `{name}`: `{index}` is not a number, write `cuda:0`"),
        },
        ("metal", "0") => open_metal(),
        _ => bail!("device `{name}` is unknown, use `cpu`, `cuda:0` or `metal`"),
    }
}

#[cfg(feature = "cuda")]
fn open_cuda(index: usize) -> Result<Device> {
    Device::new_cuda(index)
}

#[cfg(not(feature = "cuda"))]
fn open_cuda(index: usize) -> Result<Device> {
    bail!("device `cuda:{index}`: this binary was built without CUDA, build it with `--features cuda`")
}

#[cfg(feature = "metal")]
fn open_metal() -> Result<Device> {
    Device::new_metal(0)
}

#[cfg(not(feature = "metal"))]
fn open_metal() -> Result<Device> {
    bail!("device `metal`: this binary was built without Metal, build it with `--features metal`")
}

#[cfg(test)]
mod tests {
    #[test]
    fn unknown_and_absent_devices_say_what_would_work() {
        let message = |name: &str| super::open(name).unwrap_err().to_string();
        assert!(message("tpu").contains("use `cpu`, `cuda:0` or `metal`"));
        assert!(message("cuda:x").contains("`x` is not a number"));
        #[cfg(not(feature = "cuda"))]
        assert!(message("cuda:0").contains("--features cuda"));
        #[cfg(not(feature = "metal"))]
        assert!(message("metal").contains("--features metal"));
    }
}
