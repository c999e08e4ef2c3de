//! What `cuda.rs` has, for builds without feature `cuda`: there is no GPU.

use super::kernels::Program;
use super::selective_scan::ScanOrders;
use super::timing::Part;
use candle_core::{CudaDevice, CudaStorage, Device, Layout, Result, Tensor, bail};
use std::sync::Arc;

const REASON: &str = "this build has no CUDA";

pub(crate) fn device(_index: usize) -> std::result::Result<Device, String> {
    Err(REASON.into())
}

pub(crate) fn name(_device: &Device) -> Option<String> {
    None
}

pub(crate) fn multiprocessors(_storage: &CudaStorage) -> Result<usize> {
    bail!("{REASON}")
}

pub(crate) fn orders(_orders: &Arc<ScanOrders>, _device: &Device) -> Result<Tensor> {
    bail!("{REASON}")
}

pub(crate) fn timed<T>(_part: Part, _device: &Device, _work: impl FnOnce() -> Result<T>) -> Result<T> {
    bail!("{REASON}")
}

pub(crate) fn seconds(_device: &CudaDevice, _work: impl FnOnce() -> Result<()>) -> Result<f64> {
    bail!("{REASON}")
}

pub(crate) fn apply(_program: &Program, _operands: &[&Tensor]) -> Result<Vec<Tensor>> {
    bail!("{REASON}")
}

pub(crate) fn run(_program: &Program, _operands: &[(&CudaStorage, &Layout)]) -> Result<CudaStorage> {
    bail!("{REASON}")
}

/// Nothing to hold.
pub(crate) struct InUse;

pub(crate) fn in_use() -> InUse {
    InUse
}

pub(crate) fn is_in_use_here() -> bool {
    false
}

/// Nothing to wait for.
#[derive(Debug, Default)]
pub(crate) struct Leave(());

impl Leave {
    pub(crate) fn begin(&mut self) {}
}

pub(crate) fn to_cpu(_tensors: &[Tensor; 2]) -> Result<[Tensor; 2]> {
    bail!("{REASON}")
}

type Pass = Box<dyn Fn(&Tensor) -> Result<[Tensor; 2]> + Send>;

/// There are none.
#[derive(Debug)]
pub(crate) enum Graph {}

impl Graph {
    pub(crate) fn record(_device: &Device, _shape: &[usize], _pass: Pass) -> Result<Self> {
        bail!("{REASON}")
    }

    pub(crate) fn run(&self, _input: &Tensor) -> Result<[Tensor; 2]> {
        match *self {}
    }
}
