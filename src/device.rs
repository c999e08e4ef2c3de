//! Where a network runs.

use crate::ops::gpu;
use crate::{Error, Result};
use candle_core::{Device, DeviceLocation};
use std::time::Instant;

/// The device of a name: `cpu`, `cuda`, `cuda:N`, or `auto` for the first GPU where there is one that can be used.
///
/// A scorer records what is done on a GPU at times: a process that scores there does nothing else on that device meanwhile, but by
/// scorers and training.
///
/// # Errors
/// An unknown name, or a GPU that cannot be used.
pub fn open(name: &str) -> Result<Device> {
    let index = match name {
        "cpu" => return Ok(Device::Cpu),
        "auto" => return Ok(gpu::device(0).unwrap_or(Device::Cpu)),
        "cuda" => Some(0),
        _ => name.strip_prefix("cuda:").and_then(|index| index.parse::<u16>().ok()),
    };
    match index {
        Some(index) => gpu::device(index.into())
            .map_err(|why| Error::Input(format!("device `{name}`: {why}; use `cpu` or `auto`"))),
        None => Err(Error::Input(format!("unknown device `{name}`; known are auto, cpu, cuda, cuda:N"))),
    }
}

/// A device's name, as [`open`] takes it, and a GPU's own.
pub fn name(device: &Device) -> String {
    match device.location() {
        DeviceLocation::Cuda { gpu_id } => {
            format!("cuda:{gpu_id}, {}", gpu::name(device).unwrap_or_else(|| "unnamed".into()))
        }
        DeviceLocation::Cpu | DeviceLocation::Metal { .. } => "cpu".into(),
    }
}

/// Seconds that what `work` has a device do takes, by events of the GPU where it is one.
///
/// # Errors
/// As `work`, and what fails on the device.
pub fn seconds(device: &Device, work: impl FnOnce() -> candle_core::Result<()>) -> Result<f64> {
    match device {
        Device::Cuda(device) => Ok(gpu::seconds(device, work)?),
        Device::Cpu | Device::Metal(_) => {
            let begin = Instant::now();
            work()?;
            Ok(begin.elapsed().as_secs_f64())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert!(open("cpu").unwrap().is_cpu());
        assert!(open("auto").is_ok());
        // No machine has so many; whatever the reason, the name and the way out are said.
        let error = open("cuda:999").unwrap_err().to_string();
        assert!(error.contains("`cuda:999`") && error.contains("use `cpu`"), "{error}");
        for unknown in ["tpu", "cuda:", "cuda:x", "cuda0"] {
            assert!(open(unknown).unwrap_err().to_string().contains("known are"), "{unknown}");
        }
    }
}
