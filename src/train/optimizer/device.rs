//! The state in tensors beside the network: nothing of a step's size crosses the bus.
//!
//! Variables that are moved alike lie one after the other in flat tensors, so that a step is a few operations on long tensors
//! and not a few on each variable.

use super::{BETA1, BETA2, EPSILON, MOMENTUM, Part, Slot, Step, muon};
use crate::{Error, Result};
use candle_core::Tensor;

/// Variables that are moved alike.
#[derive(Debug)]
pub(super) struct Group {
    muon: bool,
    decays: bool,
    /// Slot and place in the flat tensors of each variable.
    members: Vec<Member>,
    /// By [`Part`], flat.
    parts: [Tensor; 4],
}

#[derive(Debug, Clone, Copy)]
struct Member {
    slot: usize,
    start: usize,
    count: usize,
}

impl Member {
    /// The member's own part of a flat tensor, in a shape.
    fn of(&self, flat: &Tensor, shape: &[usize]) -> candle_core::Result<Tensor> {
        flat.narrow(0, self.start, self.count)?.reshape(shape)
    }
}

pub(super) fn new(slots: &[Slot]) -> Result<Vec<Group>> {
    let mut groups = Vec::new();
    for (muon, decays) in [(false, false), (false, true), (true, false), (true, true)] {
        let (mut members, mut values, mut start) = (Vec::new(), Vec::new(), 0);
        let alike = |slot: &Slot| (slot.matrix.is_some(), slot.decays()) == (muon, decays);
        for (i, slot) in slots.iter().enumerate().filter(|(_, slot)| alike(slot)) {
            let count = slot.variable.elem_count();
            members.push(Member { slot: i, start, count });
            values.push(slot.variable.as_detached_tensor().flatten_all()?);
            start += count;
        }
        if !values.is_empty() {
            let value = Tensor::cat(&values, 0)?;
            let zeros = value.zeros_like()?;
            groups.push(Group { muon, decays, members, parts: [value.clone(), zeros.clone(), zeros, value] });
        }
    }
    Ok(groups)
}

/// The gradients of each group, flat, from those of each slot.
pub(super) fn flat(groups: &[Group], gradients: &[Tensor]) -> Result<Vec<Tensor>> {
    let all = groups.iter().map(|group| {
        let flat = group.members.iter().map(|member| gradients[member.slot].flatten_all());
        Ok(Tensor::cat(&flat.collect::<candle_core::Result<Vec<_>>>()?, 0)?)
    });
    all.collect()
}

/// The sum of all squares.
pub(super) fn squares(flat: &[Tensor]) -> Result<f64> {
    /// One block of a GPU sums one row.
    const ROW: usize = 4096;
    let mut sums = Vec::new();
    for tensor in flat {
        let whole = tensor.elem_count() / ROW * ROW;
        if whole > 0 {
            sums.push(tensor.narrow(0, 0, whole)?.reshape(((), ROW))?.sqr()?.sum(1)?.sum_all()?);
        }
        if whole < tensor.elem_count() {
            sums.push(tensor.narrow(0, whole, tensor.elem_count() - whole)?.sqr()?.sum_all()?);
        }
    }
    if sums.is_empty() {
        return Ok(0.0);
    }
    Ok(f64::from(Tensor::stack(&sums, 0)?.sum_all()?.to_scalar::<f32>()?))
}

pub(super) fn step(slots: &[Slot], groups: &mut [Group], flat: &[Tensor], step: Step) -> Result<()> {
    for (group, gradient) in groups.iter_mut().zip(flat) {
        let update = if group.muon { group.muon(slots, gradient)? } else { group.adamw(gradient, step)? };
        let [value, _, _, average] = &mut group.parts;
        *value = ((&*value * if group.decays { step.decay } else { 1.0 })? - (update * step.rate)?)?;
        *average = (&*average + ((&*value - &*average)? * (1.0 - step.keep))?)?;
    }
    Ok(())
}

pub(super) fn tensor(groups: &[Group], slot: usize, shape: &[usize], part: Part) -> Result<Tensor> {
    let members = groups.iter().flat_map(|group| group.members.iter().map(move |member| (group, member)));
    match members.into_iter().find(|(_, member)| member.slot == slot) {
        Some((group, member)) => Ok(member.of(&group.parts[part as usize], shape)?),
        None => Err(Error::Input(format!("the optimiser has no variable {slot}"))),
    }
}

pub(super) fn restore(groups: &mut [Group], parts: &[Vec<Vec<f32>>; 4]) -> Result<()> {
    for group in groups {
        for (own, vectors) in group.parts.iter_mut().zip(parts) {
            let flat = group.members.iter().flat_map(|member| &vectors[member.slot]).copied().collect::<Vec<_>>();
            *own = Tensor::from_vec(flat, own.shape(), own.device())?;
        }
    }
    Ok(())
}

/// `keep x + (1 - keep) y`
fn mix(keep: f64, x: &Tensor, y: &Tensor) -> candle_core::Result<Tensor> {
    (x * keep)? + (y * (1.0 - keep))?
}

impl Group {
    fn adamw(&mut self, gradient: &Tensor, step: Step) -> Result<Tensor> {
        let gradient = (gradient * step.clip)?;
        let [_, first, second, _] = &mut self.parts;
        *first = mix(BETA1, first, &gradient)?;
        *second = mix(BETA2, second, &gradient.sqr()?)?;
        let size = ((&*second / (1.0 - BETA2.powi(step.t)))?.sqrt()? + EPSILON)?;
        Ok(((&*first / (1.0 - BETA1.powi(step.t)))? / size)?)
    }

    /// The size of the gradient does not matter here, so it is not clipped.
    fn muon(&mut self, slots: &[Slot], gradient: &Tensor) -> Result<Tensor> {
        let first = &mut self.parts[Part::First as usize];
        *first = mix(MOMENTUM, first, gradient)?;
        let ahead = mix(MOMENTUM, first, gradient)?; // Nesterov's look ahead
        let matrices = self.members.iter().filter_map(|member| {
            let (rows, columns) = slots[member.slot].matrix?;
            Some(member.of(&ahead, &[rows, columns]))
        });
        let directions = muon::directions(&matrices.collect::<candle_core::Result<Vec<_>>>()?)?;
        let flat = directions.iter().map(Tensor::flatten_all).collect::<candle_core::Result<Vec<_>>>()?;
        Ok(Tensor::cat(&flat, 0)?)
    }
}
