//! The state in vectors, for networks on the CPU.

use super::{BETA1, BETA2, EPSILON, MOMENTUM, Part, Slot, Step, muon};
use crate::Result;
use rayon::prelude::*;

/// One slot's parts.
#[derive(Debug)]
pub(super) struct Kept {
    value: Vec<f32>,
    first: Vec<f32>,
    second: Vec<f32>,
    average: Vec<f32>,
}

pub(super) fn new(slots: &[Slot]) -> Result<Vec<Kept>> {
    let kept = slots.iter().map(|slot| {
        let value = slot.variable.as_tensor().flatten_all()?.to_vec1::<f32>()?;
        let zeros = vec![0f32; value.len()];
        Ok(Kept { first: zeros.clone(), second: zeros, average: value.clone(), value })
    });
    kept.collect()
}

pub(super) fn step(slots: &[Slot], kept: &mut [Kept], gradients: &[Vec<f32>], step: Step) {
    let keep = step.keep as f32;
    kept.par_iter_mut().zip(slots).zip(gradients).for_each(|((kept, slot), gradient)| {
        let decay = if slot.decays() { step.decay as f32 } else { 1.0 };
        match slot.matrix {
            Some((rows, columns)) => kept.muon(gradient, rows, columns, step.rate as f32, decay),
            None => kept.adamw(gradient, step, decay),
        }
        kept.average.iter_mut().zip(&kept.value).for_each(|(a, v)| *a += (v - *a) * (1.0 - keep));
    });
}

pub(super) fn restore(kept: &mut [Kept], [value, first, second, average]: [Vec<Vec<f32>>; 4]) {
    for ((((kept, value), first), second), average) in kept.iter_mut().zip(value).zip(first).zip(second).zip(average) {
        *kept = Kept { value, first, second, average };
    }
}

impl Kept {
    pub(super) fn part(&self, part: Part) -> &[f32] {
        match part {
            Part::Value => &self.value,
            Part::First => &self.first,
            Part::Second => &self.second,
            Part::Average => &self.average,
        }
    }

    fn adamw(&mut self, gradient: &[f32], step: Step, decay: f32) {
        let (clip, rate) = (step.clip as f32, step.rate as f32);
        let (correct1, correct2) = ((1.0 - BETA1.powi(step.t)) as f32, (1.0 - BETA2.powi(step.t)) as f32);
        let state = self.value.iter_mut().zip(&mut self.first).zip(&mut self.second).zip(gradient);
        for (((value, m), v), g) in state {
            let g = g * clip;
            *m = BETA1 as f32 * *m + (1.0 - BETA1) as f32 * g;
            *v = BETA2 as f32 * *v + (1.0 - BETA2) as f32 * g * g;
            let update = (*m / correct1) / ((*v / correct2).sqrt() + EPSILON as f32);
            *value = *value * decay - rate * update;
        }
    }

    /// The size of the gradient does not matter here, so it is not clipped.
    fn muon(&mut self, gradient: &[f32], rows: usize, columns: usize, rate: f32, decay: f32) {
        const KEPT: f32 = MOMENTUM as f32;
        let ahead = self.first.iter_mut().zip(gradient).map(|(m, g)| {
            *m = KEPT * *m + (1.0 - KEPT) * g;
            KEPT * *m + (1.0 - KEPT) * g // Nesterov's look ahead
        });
        let update = muon::direction(&ahead.collect::<Vec<_>>(), rows, columns);
        self.value.iter_mut().zip(&update).for_each(|(value, u)| *value = *value * decay - rate * u);
    }
}
