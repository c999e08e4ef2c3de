//! AdamW, or Muon beside it, over plain vectors, with the moving average of weights; its whole state can be saved.

use super::muon;
use super::settings::{Optimizer, Settings};
use crate::{Error, Result};
use candle_core::{Tensor, Var};
use rayon::prelude::*;

const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;
const EPSILON: f64 = 1e-8;
/// Muon's momentum.
const MOMENTUM: f32 = 0.95;
/// Largest norm of all gradients together.
const CLIP: f64 = 1.0;

/// One variable with its state.
#[derive(Debug)]
pub(super) struct Slot {
    pub name: String,
    pub variable: Var,
    pub value: Vec<f32>,
    pub first: Vec<f32>,
    pub second: Vec<f32>,
    pub average: Vec<f32>,
    /// Rows and columns where Muon moves it.
    matrix: Option<(usize, usize)>,
}

#[derive(Debug)]
pub(super) struct State {
    pub slots: Vec<Slot>,
    /// Steps made.
    pub step: usize,
    weight_decay: f64,
    average: f64,
}

impl State {
    pub(super) fn new(variables: Vec<(String, Var)>, settings: &Settings) -> Result<Self> {
        let slots = variables.into_iter().map(|(name, variable)| {
            let value = variable.as_tensor().flatten_all()?.to_vec1::<f32>()?;
            let zeros = vec![0f32; value.len()];
            let matrix = match settings.optimizer {
                Optimizer::AdamW => None,
                Optimizer::Muon => muon::matrix(&name, variable.dims()),
            };
            Ok(Slot { name, variable, first: zeros.clone(), second: zeros, average: value.clone(), value, matrix })
        });
        let slots = slots.collect::<Result<_>>()?;
        Ok(Self { slots, step: 0, weight_decay: settings.weight_decay, average: settings.average })
    }

    /// One step along `gradients`, one for each slot; spread over the calling pool's threads.
    pub(super) fn step(&mut self, gradients: &[Vec<f32>], rate: f64) -> Result<()> {
        let squares: f64 = gradients.iter().flatten().map(|&g| f64::from(g).powi(2)).sum();
        if !squares.is_finite() {
            let step = self.step;
            return Err(Error::Input(format!(
                "after step {step} a gradient is not finite: a lower --learning-rate may help"
            )));
        }
        self.step += 1;
        let clip = (CLIP / squares.sqrt().max(1e-12)).min(1.0) as f32;
        let t = self.step as i32;
        // Early averages reach back less far, or the random start would weigh in for long.
        let keep = self.average.min((1.0 + f64::from(t)) / (10.0 + f64::from(t))) as f32;
        let weight_decay = self.weight_decay;
        self.slots.par_iter_mut().zip(gradients).for_each(|(slot, gradient)| {
            // Norms, biases and the scan's own parameters are not pulled to zero.
            let decays = slot.variable.rank() >= 2 && slot.name.ends_with("weight");
            let decay = (1.0 - if decays { rate * weight_decay } else { 0.0 }) as f32;
            match slot.matrix {
                Some((rows, columns)) => slot.muon(gradient, rows, columns, rate as f32, decay),
                None => slot.adamw(gradient, clip, t, rate as f32, decay),
            }
            slot.average.iter_mut().zip(&slot.value).for_each(|(a, v)| *a += (v - *a) * (1.0 - keep));
        });
        self.publish()
    }

    /// Puts the values into the variables that the network reads.
    pub(super) fn publish(&self) -> Result<()> {
        for slot in &self.slots {
            slot.variable.set(&Tensor::from_slice(&slot.value, slot.variable.shape(), slot.variable.device())?)?;
        }
        Ok(())
    }
}

impl Slot {
    fn adamw(&mut self, gradient: &[f32], clip: f32, t: i32, rate: f32, decay: f32) {
        let (correct1, correct2) = ((1.0 - BETA1.powi(t)) as f32, (1.0 - BETA2.powi(t)) as f32);
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
        let ahead = self.first.iter_mut().zip(gradient).map(|(m, g)| {
            *m = MOMENTUM * *m + (1.0 - MOMENTUM) * g;
            MOMENTUM * *m + (1.0 - MOMENTUM) * g // Nesterov's look ahead
        });
        let update = muon::direction(&ahead.collect::<Vec<_>>(), rows, columns);
        self.value.iter_mut().zip(&update).for_each(|(value, u)| *value = *value * decay - rate * u);
    }
}
