//! Programs of the [selective scan](mod@crate::ops::selective_scan) with state size 1.

use super::{LANES, Program, Type, WARPS, typed};
use crate::ops::selective_scan::Sizes;
use candle_core::{Result, bail};

/// Steps of a tile: `TILE` in `kernels/selective_scan.cuh`.
const TILE: usize = 8 * WARPS;
/// Blocks for each multiprocessor under which directions are scanned side by side.
const BUSY: usize = 2;

fn check(sizes: Sizes) -> Result<()> {
    if sizes.state != 1 {
        bail!("selective_scan: the GPU scans states of size 1, not {}; use the CPU", sizes.state);
    }
    Ok(())
}

/// Bytes of `ScanShared` in `kernels/selective_scan.cuh`.
fn shared(rank: usize) -> usize {
    4 * (rank * (LANES + 1) + TILE * (rank + 2) + 2 * WARPS * LANES + TILE)
}

/// Inputs `x`, `projections`, `parameters`, the orders `(K, length)`; result as
/// [`selective_scan`](crate::ops::selective_scan()). On a GPU of so many multiprocessors.
///
/// # Errors
/// Sizes that the kernel is not made for.
pub fn forward(sizes: Sizes, of: Type, length: usize, multiprocessors: usize) -> Result<Program> {
    check(sizes)?;
    let Sizes { batch, tokens, channels, directions, rank, merge, .. } = sizes;
    let (mut program, [x, projections, parameters, orders]) =
        Program::new("selective_scan", [Some(of), Some(of), Some(Type::F32), None]);
    let count = batch * tokens * channels;
    let y = program.result(of, if merge { count } else { directions * count });
    let chunks = channels.div_ceil(LANES);
    // Few blocks: directions side by side, summed afterwards.
    let apart = merge && chunks * batch < BUSY * multiprocessors;
    let (out, kernel) = match (apart, of) {
        (false, _) => (y, typed("selective_scan", of)),
        (true, Type::F32) => (program.room(of, directions * count), typed("selective_scan", of)),
        (true, _) => (program.room(Type::F32, directions * count), typed("selective_scan", of) + "_to_f32"),
    };
    let in_turn = merge && !apart;
    let grid = [chunks, batch, if in_turn { 1 } else { directions }];
    let mut arguments = vec![x.into(), projections.into(), parameters.into(), orders.into(), out.into()];
    for size in [tokens, channels, directions, rank, length, in_turn.into()] {
        arguments.push(program.int(size)?);
    }
    program.launch(kernel, grid, shared(rank), arguments)?;
    if apart {
        let grid = [tokens.div_ceil(WARPS), chunks, batch];
        let sizes = [program.int(tokens)?, program.int(channels)?, program.int(directions)?];
        let arguments = [out.into(), y.into()].into_iter().chain(sizes);
        program.launch(typed("merge_directions", of), grid, 0, arguments)?;
    }
    Ok(program)
}

/// Inputs as [`forward`] and the gradient of its result; results are the gradients of `x`, `projections` and `parameters`, all
/// `f32`.
///
/// # Errors
/// Sizes that the kernel is not made for.
pub fn backward(sizes: Sizes, length: usize) -> Result<Program> {
    check(sizes)?;
    let Sizes { batch, tokens, channels, directions, rank, merge, .. } = sizes;
    let (mut program, [x, projections, parameters, orders, grad]) = Program::new(
        "gradient of selective_scan",
        [Some(Type::F32), Some(Type::F32), Some(Type::F32), None, Some(Type::F32)],
    );
    let chunks = channels.div_ceil(LANES);
    let projected = batch * tokens * directions * sizes.projected();
    let packed = directions * sizes.parameters() * channels;
    let [gx, g_projections, g_parameters] =
        [batch * tokens * channels, projected, packed].map(|count| program.result(Type::F32, count));
    let states = program.room(Type::F32, batch * length.div_ceil(TILE) * channels);
    let partial_projections = program.room(Type::F32, chunks * projected);
    let partial_parameters = program.room(Type::F32, batch * packed);
    let mut arguments: Vec<_> =
        [x, projections, parameters, orders, grad, states, gx, partial_projections, partial_parameters]
            .map(Into::into)
            .into();
    for size in [tokens, channels, directions, rank, length, merge.into()] {
        arguments.push(program.int(size)?);
    }
    let room = 4 * (rank * LANES + TILE * (LANES + 1) + WARPS * LANES);
    program.launch("selective_scan_backward", [chunks, batch, 1], shared(rank) + room, arguments)?;
    program.sum_rows(partial_projections, g_projections, chunks, projected)?;
    program.sum_rows(partial_parameters, g_parameters, batch, packed)?;
    Ok(program)
}
