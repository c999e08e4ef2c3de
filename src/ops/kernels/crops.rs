//! Crops straight from the planes of frames.

use super::{LANES, Program, Type, WARPS, typed};
use crate::crops::{CROP, MEAN, STD};
#[cfg(doc)]
use crate::frame::MAX_LEVEL;
use crate::frame::Planes420;
use candle_core::{Result, bail};

/// What the kernel reads of several crops, each of which has planes of its own.
#[derive(Debug, Default)]
pub struct Inputs {
    /// The planes, one after the other.
    pub bytes: Vec<u8>,
    /// `(N, 16)`: `Place` in `kernels/crops.cu`.
    pub places: Vec<u32>,
    /// `(N, 17)`: [`Planes420::constants`] with the normalisation between them.
    pub constants: Vec<f32>,
}

impl Inputs {
    /// Adds the crop that lies at the corner of `planes`, after a reduction by `2^level`, which is [`MAX_LEVEL`] at most.
    ///
    /// # Errors
    /// Over 2^31 bytes in all.
    pub fn push(&mut self, planes: &Planes420, level: u32) -> Result<()> {
        let mut at = [0; 3];
        for (i, plane) in planes.planes.iter().enumerate() {
            // Interleaved chroma is one plane.
            let same = i == 2 && std::ptr::eq(*plane, planes.planes[1]);
            at[i] = if same { at[1] } else { self.bytes.len() };
            if !same {
                self.bytes.extend_from_slice(plane);
            }
        }
        let Planes420 { strides, chroma_step, chroma_offsets, bytes, shift, chroma_size, corner, .. } = *planes;
        let starts = [at[0], at[1] + chroma_offsets[0], at[2] + chroma_offsets[1], strides[0], strides[1], chroma_step];
        let samples = [bytes, shift, chroma_size.0, chroma_size.1, planes.centred.into(), planes.interlaced.into()];
        for number in starts.into_iter().chain(samples).chain([corner.0, corner.1, level as usize, 0]) {
            match i32::try_from(number) {
                Ok(number) => self.places.push(number as u32),
                Err(_) => bail!("crops: {number} bytes are over 2^31; give it a smaller batch"),
            }
        }
        let (colour, weights) = planes.constants;
        self.constants.extend([&colour[..], &MEAN, &STD, &weights].concat());
        Ok(())
    }
}

/// Inputs as [`Inputs`] has them, of `count` crops; result `(N, CROP, CROP, 3)`, normalised.
///
/// # Errors
/// More crops than a GPU takes at once.
pub fn crops(of: Type, count: usize) -> Result<Program> {
    let (mut program, [bytes, places, constants]) = Program::new("crops", [None, None, Some(Type::F32)]);
    let batch = program.result(of, count * CROP * CROP * 3);
    let arguments = [bytes.into(), places.into(), constants.into(), batch.into(), program.int(CROP)?];
    program.launch(typed("crops", of), [CROP.div_ceil(LANES), CROP.div_ceil(WARPS), count], 0, arguments)?;
    Ok(program)
}
