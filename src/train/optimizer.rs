//! AdamW over plain vectors, with the moving average of weights; its whole state can be saved.

use crate::Result;
use candle_core::{Device, Tensor, Var};

const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;
const EPSILON: f64 = 1e-8;
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
}

#[derive(Debug)]
pub(super) struct AdamW {
    pub slots: Vec<Slot>,
    /// Steps made.
    pub step: usize,
    weight_decay: f64,
    average: f64,
}

impl AdamW {
    pub(super) fn new(variables: Vec<(String, Var)>, weight_decay: f64, average: f64) -> Result<Self> {
        let slots = variables.into_iter().map(|(name, variable)| {
            let value = variable.as_tensor().flatten_all()?.to_vec1::<f32>()?;
            let zeros = vec![0f32; value.len()];
            Ok(Slot { name, variable, first: zeros.clone(), second: zeros, average: value.clone(), value })
        });
        Ok(Self { slots: slots.collect::<Result<_>>()?, step: 0, weight_decay, average })
    }

    /// One step along `gradients`, one for each slot.
    pub(super) fn step(&mut self, gradients: &[Vec<f32>], rate: f64) -> Result<()> {
        self.step += 1;
        let squares: f64 = gradients.iter().flatten().map(|&g| f64::from(g).powi(2)).sum();
        let clip = (CLIP / squares.sqrt().max(1e-12)).min(1.0) as f32;
        let t = self.step as i32;
        let (correct1, correct2) = (1.0 - BETA1.powi(t), 1.0 - BETA2.powi(t));
        // Early averages reach back less far, or the random start would weigh in for long.
        let keep = self.average.min((1.0 + f64::from(t)) / (10.0 + f64::from(t))) as f32;
        for (slot, gradient) in self.slots.iter_mut().zip(gradients) {
            // Norms, biases and the scan's own parameters are not pulled to zero.
            let decays = slot.variable.rank() >= 2 && slot.name.ends_with("weight");
            let decay = (1.0 - if decays { rate * self.weight_decay } else { 0.0 }) as f32;
            let Slot { value, first, second, average, .. } = slot;
            let state = value.iter_mut().zip(first).zip(second).zip(average).zip(gradient);
            for ((((value, m), v), average), g) in state {
                let g = g * clip;
                *m = BETA1 as f32 * *m + (1.0 - BETA1) as f32 * g;
                *v = BETA2 as f32 * *v + (1.0 - BETA2) as f32 * g * g;
                let update = (*m / correct1 as f32) / ((*v / correct2 as f32).sqrt() + EPSILON as f32);
                *value = *value * decay - rate as f32 * update;
                *average += (*value - *average) * (1.0 - keep);
            }
        }
        self.publish()
    }

    /// Puts the values into the variables that the network reads.
    pub(super) fn publish(&self) -> Result<()> {
        for slot in &self.slots {
            slot.variable.set(&Tensor::from_slice(&slot.value, slot.variable.shape(), &Device::Cpu)?)?;
        }
        Ok(())
    }
}
