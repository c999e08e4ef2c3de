//! AdamW, or Muon beside it, with the moving average of weights, where the network is; its whole state can be saved.

mod device;
mod host;
mod muon;

use super::settings::{Optimizer, Settings};
use crate::{Error, Result};
use candle_core::{Device, Tensor, Var};

const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;
const EPSILON: f64 = 1e-8;
/// Muon's momentum.
const MOMENTUM: f64 = 0.95;
/// Largest norm of all gradients together.
const CLIP: f64 = 1.0;

/// One variable.
#[derive(Debug)]
pub(super) struct Slot {
    pub name: String,
    pub variable: Var,
    /// Rows and columns where Muon moves it.
    matrix: Option<(usize, usize)>,
}

impl Slot {
    /// Norms, biases and the scan's own parameters are not pulled to zero.
    fn decays(&self) -> bool {
        self.variable.rank() >= 2 && self.name.ends_with("weight")
    }
}

/// What is kept of each variable, under its name in checkpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Value,
    First,
    Second,
    Average,
}

impl Part {
    pub(super) const ALL: [Self; 4] = [Self::Value, Self::First, Self::Second, Self::Average];

    pub(super) fn nick(self) -> &'static str {
        match self {
            Self::Value => "value",
            Self::First => "first",
            Self::Second => "second",
            Self::Average => "average",
        }
    }
}

/// The gradients of a step, one for each slot.
#[derive(Debug)]
pub(super) enum Gradients {
    /// Flat, summed over shards.
    Host(Vec<Vec<f32>>),
    /// Where the network is, in the variables' shapes.
    Device(Vec<Tensor>),
}

/// The numbers of one step.
#[derive(Debug, Clone, Copy)]
struct Step {
    /// From 1.
    t: i32,
    rate: f64,
    /// Factor of gradients.
    clip: f64,
    /// Factor of weights that decay.
    decay: f64,
    /// Part of the average that stays.
    keep: f64,
}

#[derive(Debug)]
enum Kept {
    Host(Vec<host::Kept>),
    Device(Vec<device::Group>),
}

#[derive(Debug)]
pub(super) struct State {
    pub slots: Vec<Slot>,
    /// Steps made.
    pub step: usize,
    weight_decay: f64,
    average: f64,
    kept: Kept,
}

impl State {
    /// The state at the start, on the variables' device.
    pub(super) fn new(variables: Vec<(String, Var)>, settings: &Settings) -> Result<Self> {
        let on_host = variables.first().is_none_or(|(_, variable)| variable.device().is_cpu());
        let (weight_decay, average) = (settings.weight_decay, settings.average);
        Ok(Self { weight_decay, average, ..Self::placed(variables, settings.optimizer, on_host)? })
    }

    /// In vectors, or in tensors beside the variables; without decay and average.
    fn placed(variables: Vec<(String, Var)>, optimizer: Optimizer, on_host: bool) -> Result<Self> {
        let slots = variables.into_iter().map(|(name, variable)| {
            let matrix = match optimizer {
                Optimizer::AdamW => None,
                Optimizer::Muon => muon::matrix(&name, variable.dims()),
            };
            Slot { name, variable, matrix }
        });
        let slots: Vec<Slot> = slots.collect();
        let kept = if on_host { Kept::Host(host::new(&slots)?) } else { Kept::Device(device::new(&slots)?) };
        Ok(Self { slots, step: 0, weight_decay: 0.0, average: 0.0, kept })
    }

    /// One step along `gradients`; on the CPU spread over the calling pool's threads.
    pub(super) fn step(&mut self, gradients: Gradients, rate: f64) -> Result<()> {
        let gradients = match (gradients, &self.kept) {
            (Gradients::Device(tensors), Kept::Device(groups)) => Gradients::Device(device::flat(groups, &tensors)?),
            (gradients, _) => gradients,
        };
        let squares = match &gradients {
            Gradients::Host(gradients) => gradients.iter().flatten().map(|&g| f64::from(g).powi(2)).sum(),
            Gradients::Device(flat) => device::squares(flat)?,
        };
        if !f64::is_finite(squares) {
            let step = self.step;
            return Err(Error::Input(format!(
                "after step {step} a gradient is not finite: a lower --learning-rate may help"
            )));
        }
        self.step += 1;
        let t = self.step as i32;
        let step = Step {
            t,
            rate,
            clip: (CLIP / squares.sqrt().max(1e-12)).min(1.0),
            decay: 1.0 - rate * self.weight_decay,
            // Early averages reach back less far, or the random start would weigh in for long.
            keep: self.average.min((1.0 + f64::from(t)) / (10.0 + f64::from(t))),
        };
        match (&mut self.kept, &gradients) {
            (Kept::Host(kept), Gradients::Host(gradients)) => host::step(&self.slots, kept, gradients, step),
            (Kept::Device(groups), Gradients::Device(flat)) => device::step(&self.slots, groups, flat, step)?,
            _ => return Err(Error::Input("gradients and the optimiser's state are on different devices".into())),
        }
        self.publish()
    }

    /// Puts the values into the variables that the network reads.
    fn publish(&self) -> Result<()> {
        for (i, slot) in self.slots.iter().enumerate() {
            slot.variable.set(&self.tensor(i, Part::Value)?)?;
        }
        Ok(())
    }

    /// A part of the `index`-th slot, in the variable's shape, where the state is.
    pub(super) fn tensor(&self, index: usize, part: Part) -> Result<Tensor> {
        let shape = self.slots[index].variable.dims();
        match &self.kept {
            Kept::Host(kept) => Ok(Tensor::from_slice(kept[index].part(part), shape, &Device::Cpu)?),
            Kept::Device(groups) => device::tensor(groups, index, shape, part),
        }
    }

    /// A part of the `index`-th slot, flat.
    pub(super) fn values(&self, index: usize, part: Part) -> Result<Vec<f32>> {
        match &self.kept {
            Kept::Host(kept) => Ok(kept[index].part(part).to_vec()),
            Kept::Device(_) => Ok(self.tensor(index, part)?.flatten_all()?.to_vec1()?),
        }
    }

    /// Sets everything to what [`values`](Self::values) has given after `step` steps: a flat vector for each slot, of each part.
    pub(super) fn restore(&mut self, parts: [Vec<Vec<f32>>; 4], step: usize) -> Result<()> {
        self.step = step;
        match &mut self.kept {
            Kept::Host(kept) => host::restore(kept, parts),
            Kept::Device(groups) => device::restore(groups, &parts)?,
        }
        self.publish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    /// The state in tensors makes the steps of the state in vectors, and either goes on from what the other has kept.
    #[test]
    fn tensors_make_the_steps_of_vectors() {
        let variables = || {
            let mut random = Random::new(5, 0);
            let shapes: [(&str, &[usize]); 6] = [
                ("mlp.fc1.weight", &[80, 40]), // with the next, more than a row of the squares' sum
                ("mlp.fc2.weight", &[40, 80]),
                ("op.x_proj_weight", &[4, 5, 80]),
                ("mlp.fc1.bias", &[80]),
                ("classifier.head.weight", &[1, 40]),
                ("op.Ds", &[80]),
            ];
            let variables = shapes.map(|(name, shape)| {
                let values = (0..shape.iter().product()).map(|_| random.normal() as f32).collect::<Vec<_>>();
                (name.to_owned(), Var::from_vec(values, shape, &Device::Cpu).unwrap())
            });
            Vec::from(variables)
        };
        let start = |optimizer, on_host| {
            let state = State::placed(variables(), optimizer, on_host).unwrap();
            State { weight_decay: 0.1, average: 0.9, ..state }
        };
        let all = |state: &State| {
            Part::ALL.map(|part| (0..state.slots.len()).map(|i| state.values(i, part).unwrap()).collect::<Vec<_>>())
        };
        let compare = |host: &State, device: &State, after: &str| {
            for (part, (a, b)) in Part::ALL.iter().zip(all(host).iter().zip(all(device))) {
                for (slot, (a, b)) in host.slots.iter().zip(a.iter().zip(b)) {
                    let size = a.iter().fold(1e-6f32, |m, v| m.max(v.abs()));
                    let apart = a.iter().zip(&b).fold(0f32, |m, (a, b)| m.max((a - b).abs())) / size;
                    assert!(apart < 2e-5, "{after}: {part:?} of {} differs by {apart}", slot.name);
                }
            }
        };
        for optimizer in [Optimizer::AdamW, Optimizer::Muon] {
            let (mut host, mut device) = (start(optimizer, true), start(optimizer, false));
            let mut random = Random::new(6, 0);
            for step in 0..4 {
                // Small gradients, and large ones, which are clipped.
                let size = [1e-3, 1.0][step % 2];
                let gradients = host.slots.iter().map(|slot| {
                    (0..slot.variable.elem_count()).map(|_| (random.normal() * size) as f32).collect::<Vec<_>>()
                });
                let gradients: Vec<Vec<f32>> = gradients.collect();
                let tensors = gradients
                    .iter()
                    .zip(&host.slots)
                    .map(|(values, slot)| Tensor::from_slice(values, slot.variable.shape(), &Device::Cpu).unwrap());
                device.step(Gradients::Device(tensors.collect()), 1e-2).unwrap();
                host.step(Gradients::Host(gradients), 1e-2).unwrap();
                compare(&host, &device, &format!("{optimizer:?}, step {step}"));
                for (i, slot) in device.slots.iter().enumerate() {
                    let read = slot.variable.as_tensor().flatten_all().unwrap().to_vec1::<f32>().unwrap();
                    assert_eq!(read, device.values(i, Part::Value).unwrap(), "the network's {}", slot.name);
                }
                if step == 1 {
                    let (from_host, from_device) = (all(&host), all(&device));
                    (host, device) = (start(optimizer, true), start(optimizer, false));
                    host.restore(from_device, 2).unwrap();
                    device.restore(from_host, 2).unwrap();
                    compare(&host, &device, "restored");
                }
            }
            let wrong = host.slots.iter().map(|slot| vec![f32::NAN; slot.variable.elem_count()]).collect();
            assert!(host.step(Gradients::Host(wrong), 1e-2).unwrap_err().to_string().contains("after step 4"));
            let wrong = device.slots.iter().map(|slot| (slot.variable.as_tensor() * f64::INFINITY).unwrap()).collect();
            assert!(device.step(Gradients::Device(wrong), 1e-2).unwrap_err().to_string().contains("after step 4"));
        }
    }
}
