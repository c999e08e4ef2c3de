//! The selective scan for state size 1 on the CPU, vectorised over channels.
//!
//! One task owns [`WIDTH`] channels of one image in all directions: it scans them by every order into a dense `(L, WIDTH)` block
//! that stays in cache, and computes the step sizes as it goes, so that no `(L, K, D)` tensor is ever written.

use super::{Gradients, ScanOrders, Sizes};
use crate::ops::store;
use crate::simd::{
    LANES, dispatch, exp_negative, exp2_negative, exp2_negative_rough, sigmoid, softplus, softplus2, softplus2_rough,
    sum_lanes,
};
use rayon::prelude::*;
use std::f32::consts::{LN_2, LOG2_E};

/// Channels of one task: two vectors, so that what is done once a step is shared by more channels.
pub(crate) const WIDTH: usize = 2 * LANES;
/// Steps whose sizes and decays are computed before the state goes through them; the blocks of both fit the nearest cache.
const STEPS: usize = 16;
/// Steps whose sizes are computed together.
const TOGETHER: usize = 4;
/// Rows that one task copies where blocks are put together.
const ROWS: usize = 512;

type Block = [f32; WIDTH];

/// One direction's parameters for the channels of a task; those beyond the last channel are zero.
struct Direction {
    weight: Vec<Block>, // (R)
    bias: Block,
    a: Block,
    skip: Block,
}

/// The operands, and which part of them a task works on.
#[derive(Clone, Copy)]
struct Task<'a> {
    x: &'a [f32],
    projections: &'a [f32],
    parameters: &'a [f32],
    orders: &'a ScanOrders,
    sizes: Sizes,
    batch: usize,
    first_channel: usize,
}

impl Direction {
    /// The same with step sizes in units of ln 2: its exponentials and logarithms are then those of base two, which cost less.
    #[inline(always)]
    fn in_powers_of_two(mut self) -> Self {
        for row in self.weight.iter_mut().chain([&mut self.bias]) {
            row.iter_mut().for_each(|w| *w *= LOG2_E);
        }
        self
    }
}

impl<'a> Task<'a> {
    /// Every task, image by image.
    fn all(
        x: &'a [f32],
        projections: &'a [f32],
        parameters: &'a [f32],
        orders: &'a ScanOrders,
        sizes: Sizes,
    ) -> Vec<Self> {
        (0..sizes.batch)
            .flat_map(|batch| (0..sizes.channels).step_by(WIDTH).map(move |first| (batch, first)))
            .map(|(batch, first_channel)| Self { x, projections, parameters, orders, sizes, batch, first_channel })
            .collect()
    }

    fn width(&self) -> usize {
        WIDTH.min(self.sizes.channels - self.first_channel)
    }

    /// The task's columns of one row of a `(..., D)` tensor.
    #[inline(always)]
    fn block(&self, values: &[f32], row: usize) -> Block {
        let values = &values[row * self.sizes.channels + self.first_channel..][..self.width()];
        Block::try_from(values).unwrap_or_else(|_| {
            let mut block = [0f32; WIDTH];
            block[..values.len()].copy_from_slice(values);
            block
        })
    }

    /// The task's columns of `count` rows, from row `first`.
    #[inline(always)]
    fn columns(&self, values: &[f32], first: usize, count: usize) -> Vec<Block> {
        (first..first + count).map(|row| self.block(values, row)).collect()
    }

    #[inline(always)] // its exponentials want the vector instructions of the caller
    fn direction(&self, k: usize) -> Direction {
        let Sizes { rank, .. } = self.sizes;
        let rows = self.columns(self.parameters, k * self.sizes.parameters(), self.sizes.parameters());
        let (weight, bias, skip) = (rows[..rank].to_vec(), rows[rank], rows[rank + 2]);
        let a = rows[rank + 1].map(|log| -log.exp());
        Direction { weight, bias, a, skip }
    }

    /// `dt (R), B, C` of one token in one direction.
    #[inline(always)]
    fn projected(&self, token: usize, k: usize) -> &'a [f32] {
        let p = self.sizes.projected();
        &self.projections[((self.batch * self.sizes.tokens + token) * self.sizes.directions + k) * p..][..p]
    }

    /// `W dt + bias` of at most [`TOGETHER`] steps, so that a weight is read once for all of them.
    #[inline(always)]
    fn step_sizes(&self, entries: &[u32], k: usize, direction: &Direction, delta: &mut [Block]) {
        let rank = direction.weight.len();
        let padding = |entry: u32| entry == ScanOrders::PADDING;
        let dt = |i: usize| match entries.get(i) {
            Some(&entry) if !padding(entry) => &self.projected(entry as usize, k)[..rank],
            _ => &self.projected(0, k)[..rank], // not used
        };
        let dt: [&[f32]; TOGETHER] = std::array::from_fn(dt);
        // Each by its name: the compiler keeps the sums in registers, which it does not do with an array of them.
        let [dt0, dt1, dt2, dt3] = dt;
        let [mut s0, mut s1, mut s2, mut s3] = [direction.bias; TOGETHER];
        for ((((w, &dt0), &dt1), &dt2), &dt3) in direction.weight.iter().zip(dt0).zip(dt1).zip(dt2).zip(dt3) {
            for i in 0..WIDTH {
                s0[i] = dt0.mul_add(w[i], s0[i]);
                s1[i] = dt1.mul_add(w[i], s1[i]);
                s2[i] = dt2.mul_add(w[i], s2[i]);
                s3[i] = dt3.mul_add(w[i], s3[i]);
            }
        }
        let sums = [s0, s1, s2, s3];
        for ((delta, sum), &entry) in delta.iter_mut().zip(sums).zip(entries) {
            *delta = if padding(entry) { direction.bias } else { sum };
        }
    }

    /// Adds outputs to `out`, `(L, WIDTH)` merged or `(K, L, WIDTH)`; `ROUGH` with step sizes and decays to 3e-4 alone.
    #[inline(always)]
    fn forward<const ROUGH: bool>(&self, out: &mut [Block]) {
        let Sizes { tokens, directions, rank, merge, .. } = self.sizes;
        for k in 0..directions {
            let direction = self.direction(k).in_powers_of_two();
            let y = if merge { &mut out[..] } else { &mut out[k * tokens..][..tokens] };
            let mut h = [0f32; WIDTH];
            for entries in self.orders.tables()[k].chunks(STEPS) {
                // First what does not depend on the state, each in a pass of its own: so short, many steps are under way
                // at once in the processor, and none waits for the one before.
                let (mut delta, mut decay) = ([[0f32; WIDTH]; STEPS], [[0f32; WIDTH]; STEPS]);
                let (delta, decay) = (&mut delta[..entries.len()], &mut decay[..entries.len()]);
                for (delta, entries) in delta.chunks_mut(TOGETHER).zip(entries.chunks(TOGETHER)) {
                    self.step_sizes(entries, k, &direction, delta);
                }
                for dt in delta.as_flattened_mut() {
                    *dt = if ROUGH { softplus2_rough(*dt) } else { softplus2(*dt) };
                }
                for (decay, delta) in decay.iter_mut().zip(&*delta) {
                    for i in 0..WIDTH {
                        let exponent = delta[i] * direction.a[i];
                        decay[i] = if ROUGH { exp2_negative_rough(exponent) } else { exp2_negative(exponent) };
                    }
                }
                for ((delta, decay), &entry) in delta.iter().zip(&*decay).zip(entries) {
                    if entry == ScanOrders::PADDING {
                        h.iter_mut().zip(decay).for_each(|(h, decay)| *h *= decay);
                        continue;
                    }
                    let token = entry as usize;
                    let projected = self.projected(token, k);
                    let (b, c) = (projected[rank] * LN_2, projected[rank + 1]);
                    let (x, y) = (self.block(self.x, self.batch * tokens + token), &mut y[token]);
                    for i in 0..WIDTH {
                        h[i] = decay[i].mul_add(h[i], delta[i] * b * x[i]);
                        y[i] += c.mul_add(h[i], direction.skip[i] * x[i]);
                    }
                }
            }
        }
    }

    /// This task's part of the gradients, `grad` being that of the output.
    #[inline(always)]
    fn backward(&self, grad: &[f32]) -> PartialGradients {
        let Sizes { tokens, directions, rank, merge, .. } = self.sizes;
        let p = self.sizes.projected();
        let x = self.columns(self.x, self.batch * tokens, tokens);
        let mut gx = vec![[0f32; WIDTH]; tokens];
        let mut projections = vec![0f32; tokens * directions * p];
        let mut parameters = vec![[0f32; WIDTH]; directions * self.sizes.parameters()];
        let length = self.orders.tables()[0].len();
        let mut history = vec![History::default(); length];
        let mut g = if merge { self.columns(grad, self.batch * tokens, tokens) } else { Vec::new() };
        for (k, gw) in parameters.chunks_exact_mut(self.sizes.parameters()).enumerate() {
            let direction = self.direction(k);
            if !merge {
                g = self.columns(grad, (self.batch * directions + k) * tokens, tokens);
            }
            self.remember(k, &direction, &x, &mut history);
            let mut gh = [0f32; WIDTH];
            let (gw, rest) = gw.split_at_mut(rank);
            let [gbias, ga, gskip] = rest else { continue };
            for (t, &entry) in self.orders.tables()[k].iter().enumerate().rev() {
                let before = if t > 0 { history[t - 1].h } else { [0f32; WIDTH] };
                let step = &history[t];
                let padding = entry == ScanOrders::PADDING;
                let token = if padding { 0 } else { entry as usize };
                let projected = self.projected(token, k);
                let (b, c) = if padding { (0.0, 0.0) } else { (projected[rank], projected[rank + 1]) };
                let (x, gy, gx) = (&x[token], &g[token], &mut gx[token]);
                let (mut gdt, mut gb, mut gc) = ([0f32; WIDTH], [0f32; WIDTH], [0f32; WIDTH]);
                for i in 0..WIDTH {
                    let gh_here = c.mul_add(gy[i], gh[i]);
                    let kept = before[i] * step.decay[i];
                    let g_delta = gh_here * kept.mul_add(direction.a[i], b * x[i]);
                    gdt[i] = g_delta * step.slope[i];
                    ga[i] = (gh_here * kept).mul_add(step.delta[i], ga[i]);
                    gbias[i] += gdt[i];
                    let driven = gh_here * step.delta[i];
                    gb[i] = driven * x[i];
                    gc[i] = gy[i] * step.h[i];
                    gh[i] = gh_here * step.decay[i];
                    if !padding {
                        gx[i] += driven.mul_add(b, gy[i] * direction.skip[i]);
                        gskip[i] = gy[i].mul_add(x[i], gskip[i]);
                    }
                }
                if padding {
                    continue;
                }
                let gp = &mut projections[(token * directions + k) * p..][..p];
                for r in 0..rank {
                    let (gw, w) = (&mut gw[r], &direction.weight[r]);
                    let dt = projected[r];
                    let mut product = [0f32; WIDTH];
                    for i in 0..WIDTH {
                        gw[i] = gdt[i].mul_add(dt, gw[i]);
                        product[i] = gdt[i] * w[i];
                    }
                    gp[r] = sum_block(&product);
                }
                gp[rank] = sum_block(&gb);
                gp[rank + 1] = sum_block(&gc);
            }
            for i in 0..WIDTH {
                ga[i] *= direction.a[i]; // dA / dA_log = A
            }
        }
        PartialGradients { x: gx, projections, parameters }
    }

    /// Runs direction `k` forward, keeping what its gradient needs of every step.
    #[inline(always)]
    fn remember(&self, k: usize, direction: &Direction, x: &[Block], history: &mut [History]) {
        let rank = self.sizes.rank;
        let mut h = [0f32; WIDTH];
        for (&entry, step) in self.orders.tables()[k].iter().zip(history) {
            let padding = entry == ScanOrders::PADDING;
            let token = if padding { 0 } else { entry as usize };
            let projected = self.projected(token, k);
            let (dt, b) =
                if padding { (direction.bias, 0.0) } else { (step_size(projected, direction), projected[rank]) };
            let x = &x[token];
            for i in 0..WIDTH {
                let delta = softplus(dt[i]);
                let decay = exp_negative(delta * direction.a[i]);
                h[i] = decay.mul_add(h[i], delta * b * x[i]);
                step.delta[i] = delta;
                step.decay[i] = decay;
                step.slope[i] = sigmoid(dt[i]);
                step.h[i] = h[i];
            }
        }
    }
}

/// What the gradient needs of one step.
#[derive(Clone)]
struct History {
    delta: Block,
    decay: Block,
    /// d delta / d dt
    slope: Block,
    /// The state after the step.
    h: Block,
}

impl Default for History {
    fn default() -> Self {
        Self { delta: [0.0; WIDTH], decay: [0.0; WIDTH], slope: [0.0; WIDTH], h: [0.0; WIDTH] }
    }
}

struct PartialGradients {
    x: Vec<Block>,          // (L, WIDTH)
    projections: Vec<f32>,  // (L, K (R + 2)), summed over this task's channels only
    parameters: Vec<Block>, // (K, R + 3, WIDTH), of this image only
}

/// `W dt + bias` of one token.
#[inline(always)]
fn step_size(projected: &[f32], direction: &Direction) -> Block {
    let mut dt = direction.bias;
    for (w, &p) in direction.weight.iter().zip(projected) {
        for i in 0..WIDTH {
            dt[i] = p.mul_add(w[i], dt[i]);
        }
    }
    dt
}

#[inline(always)]
fn sum_block(block: &Block) -> f32 {
    sum_lanes(std::array::from_fn(|i| block[i] + block[i + LANES]))
}

/// Puts the tasks' blocks, `blocks[b][first channel / WIDTH]` of `(rows, WIDTH)` each, together as `(B, rows, D)`.
fn assemble(blocks: &[impl AsRef<[Block]> + Sync], rows: usize, sizes: Sizes) -> Vec<f32> {
    let per_image = sizes.channels.div_ceil(WIDTH);
    let mut out = vec![0f32; sizes.batch * rows * sizes.channels];
    out.par_chunks_mut(ROWS * sizes.channels).enumerate().for_each(|(chunk, out)| {
        for (i, out) in out.chunks_exact_mut(sizes.channels).enumerate() {
            let row = chunk * ROWS + i;
            for (block, out) in blocks[row / rows * per_image..].iter().zip(out.chunks_mut(WIDTH)) {
                store(&block.as_ref()[row % rows], out);
            }
        }
    });
    out
}

/// See [`reference::forward`](super::reference::forward).
pub(super) fn forward(
    x: &[f32],
    projections: &[f32],
    parameters: &[f32],
    orders: &ScanOrders,
    sizes: Sizes,
) -> Vec<f32> {
    let rows = sizes.tokens * if sizes.merge { 1 } else { sizes.directions };
    let values = forward_blocks::<false>(x, projections, parameters, orders, sizes);
    let blocks: Vec<&[Block]> = values.as_chunks::<WIDTH>().0.chunks_exact(rows).collect();
    assemble(&blocks, rows, sizes)
}

/// The same as each task makes it, `(B, D / WIDTH, rows, WIDTH)`; what is beyond the last channel is of no meaning.
/// See [`Task::forward`] for `ROUGH`.
pub(super) fn forward_blocks<const ROUGH: bool>(
    x: &[f32],
    projections: &[f32],
    parameters: &[f32],
    orders: &ScanOrders,
    sizes: Sizes,
) -> Vec<f32> {
    let rows = sizes.tokens * if sizes.merge { 1 } else { sizes.directions };
    let tasks = Task::all(x, projections, parameters, orders, sizes);
    let mut y = vec![0f32; tasks.len() * rows * WIDTH];
    tasks.par_iter().zip(y.par_chunks_mut(rows * WIDTH)).for_each(|(task, y)| {
        dispatch(
            #[inline(always)]
            || task.forward::<ROUGH>(y.as_chunks_mut::<WIDTH>().0),
        );
    });
    y
}

/// See [`reference::backward`](super::reference::backward).
pub(super) fn backward(
    x: &[f32],
    projections: &[f32],
    parameters: &[f32],
    grad: &[f32],
    orders: &ScanOrders,
    sizes: Sizes,
) -> Gradients {
    let tasks = Task::all(x, projections, parameters, orders, sizes);
    let partial: Vec<PartialGradients> = tasks
        .par_iter()
        .map(|task| {
            dispatch(
                #[inline(always)]
                || task.backward(grad),
            )
        })
        .collect();
    let blocks: Vec<&[Block]> = partial.iter().map(|p| &p.x[..]).collect();
    let mut sum = Gradients {
        x: assemble(&blocks, sizes.tokens, sizes),
        projections: vec![0f32; projections.len()],
        parameters: vec![0f32; parameters.len()],
    };
    let per_image = projections.len() / sizes.batch;
    for (task, part) in tasks.iter().zip(&partial) {
        let projections = &mut sum.projections[task.batch * per_image..][..per_image];
        projections.iter_mut().zip(&part.projections).for_each(|(sum, v)| *sum += v);
        for (row, block) in sum.parameters.chunks_exact_mut(sizes.channels).zip(&part.parameters) {
            row[task.first_channel..].iter_mut().zip(block).for_each(|(sum, v)| *sum += v);
        }
    }
    sum
}
