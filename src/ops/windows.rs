//! Crops on a GPU, from their part of a frame's planes.

use super::gpu;
use super::kernels::Type;
use super::kernels::crops::{Inputs, crops};
use crate::crops::CROP;
use crate::frame::Window;
use candle_core::{Device, Error, Result, Tensor, bail};

/// Normalised crops `(N, CROP, CROP, 3)`, `f32` and bit-identical to the CPU's, from windows on frames of 4:2:0, each with the
/// exponent of its reduction: its side is `CROP << level`.
pub(crate) fn crops_of(windows: &[(&Window, u32)], device: &Device) -> Result<Tensor> {
    let mut inputs = Inputs::default();
    for &(window, level) in windows {
        let frame = window.frame().map_err(Error::wrap)?;
        match frame.planes420() {
            Some(planes) if frame.reduced_size(level) == (CROP, CROP) => inputs.push(&planes, level)?,
            _ => bail!("crops: no window of 4:2:0 and of a crop's size at level {level}, but {frame:?}"),
        }
    }
    let Inputs { bytes, places, constants } = inputs;
    let upload = [
        Tensor::from_slice(&bytes, bytes.len(), device)?,
        Tensor::from_slice(&places, places.len(), device)?,
        Tensor::from_slice(&constants, constants.len(), device)?,
    ];
    let program = crops(Type::F32, windows.len())?;
    gpu::apply(&program, &upload.each_ref())?[0].reshape((windows.len(), CROP, CROP, 3))
}
