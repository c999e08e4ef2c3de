//! Crops of a frame straight from its planes.

use super::{Argument, LANES, Program, Type, WARPS, typed};
use crate::crops::CROP;
use crate::frame::Planes420;
use candle_core::Result;

/// Inputs: planes Y, U, V as bytes (for interleaved chroma the same one twice), positions `(N, 2)` `i32`, left and top in
/// the planes' coordinates, and [`Planes420::constants`] with the normalisation; result `(N, CROP, CROP, 3)`.
///
/// # Errors
/// A frame of over 2^31 bytes.
pub fn crops(of: Type, frame: &Planes420, count: usize) -> Result<Program> {
    let (mut program, inputs) = Program::new("crops", [None, None, None, None, Some(Type::F32)]);
    let batch = program.result(of, count * CROP * CROP * 3);
    let mut arguments: Vec<Argument> = inputs.map(Into::into).into();
    arguments.push(batch.into());
    let Planes420 { strides, chroma_step, chroma_offsets, bytes, shift, chroma_size, .. } = *frame;
    let layout = [strides[0], strides[1], chroma_step, chroma_offsets[0], chroma_offsets[1], bytes, shift];
    let siting = [chroma_size.0, chroma_size.1, frame.centred.into(), frame.interlaced.into()];
    for size in [CROP].into_iter().chain(layout).chain(siting) {
        arguments.push(program.int(size)?);
    }
    program.launch(typed("crops", of), [CROP.div_ceil(LANES), CROP.div_ceil(WARPS), count], 0, arguments)?;
    Ok(program)
}
