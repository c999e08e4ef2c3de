//! Learning a head of scales: at which sizes of a picture crops are cut, and what the head says of them.

use crate::crops::Scales;
use crate::model::parameters::{Init, Source};
use crate::model::{CROP, ScaleHead};
use crate::ops;
use crate::random::Random;
use candle_core::{Device, Result, Tensor};
use image::RgbImage;
use std::collections::BTreeMap;

/// Knots of a head that starts from none: the scales of pictures of 224, 448, 896 and 1792 rows or more.
const KNOTS: usize = 4;
const NAME: &str = "classifier.scales.";

/// A tensor that training keeps as it is: name, shape and values.
pub(super) type Constant = (String, (Vec<usize>, Vec<f32>));

/// A size of a picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Size {
    /// Exponent of the reduction.
    pub level: u32,
    /// log2 of the shorter side over [`CROP`].
    pub scale: f64,
}

impl Size {
    /// The picture's own.
    pub(super) fn own(image: &RgbImage) -> Self {
        Self::at(image, 0)
    }

    fn at(image: &RgbImage, level: u32) -> Self {
        let shorter = image.width().min(image.height()) >> level;
        Self { level, scale: (f64::from(shorter) / CROP as f64).log2() }
    }

    /// Those that scoring takes crops of, the largest first.
    pub(super) fn all(image: &RgbImage) -> Vec<Self> {
        let levels = Scales::AUTO.of_picture(image.width().min(image.height()) as usize);
        levels.into_iter().map(|level| Self::at(image, level)).collect()
    }

    /// One of them at random.
    pub(super) fn random(image: &RgbImage, random: &mut Random) -> Self {
        let all = Self::all(image);
        all[random.below(all.len())]
    }
}

/// The head's variables: [`ScaleHead`] for whole batches, with gradients.
#[derive(Debug, Clone)]
pub(super) struct ScaleHeads {
    /// `(K, 8 C)`
    weight: Tensor,
    /// `(K,)`
    bias: Tensor,
    /// `(K,)`: not learned here.
    share: Vec<f32>,
    /// Outputs of the network that count as 0 and 1 in training.
    range: (f64, f64),
}

impl ScaleHeads {
    /// What a head starts as, from the tensors of the weights that a run starts from, which it is taken out of: the head of scales
    /// that they have, else copies of the ordinary head. Returns the shares too.
    pub(super) fn given(tensors: &mut BTreeMap<String, Tensor>) -> Result<(BTreeMap<String, Tensor>, Vec<f32>)> {
        let taken = ["weight", "bias", "share"].map(|part| tensors.remove(&format!("{NAME}{part}")));
        let head = ["weight", "bias"].map(|part| tensors.get(&format!("classifier.head.{part}")));
        let named = |weight, bias| BTreeMap::from([(format!("{NAME}weight"), weight), (format!("{NAME}bias"), bias)]);
        Ok(match (taken, head) {
            ([Some(weight), Some(bias), Some(share)], _) => (named(weight, bias), share.to_vec1()?),
            (_, [Some(weight), Some(bias)]) => {
                let weight = Tensor::cat(&[weight; KNOTS], 0)?;
                (named(weight, Tensor::cat(&[bias; KNOTS], 0)?), vec![0.0; KNOTS])
            }
            _ => (BTreeMap::new(), vec![0.0; KNOTS]),
        })
    }

    /// The head for so many features, as a source has it.
    pub(super) fn new(source: &mut dyn Source, features: usize, share: Vec<f32>, range: (f64, f64)) -> Result<Self> {
        let knots = share.len();
        let weight = source.tensor(&format!("{NAME}weight"), &[knots, features], Init::Zeros)?;
        Ok(Self { weight, bias: source.tensor(&format!("{NAME}bias"), &[knots], Init::Zeros)?, share, range })
    }

    /// The same with other weights.
    pub(super) fn again(&self, source: &mut dyn Source) -> Result<Self> {
        Self::new(source, self.weight.dim(1)?, self.share.clone(), self.range)
    }

    /// Coefficients of the knots for crops of these scales, `(crops, K)`.
    pub(super) fn knots(&self, scales: &[f64], device: &Device) -> Result<Tensor> {
        let knots = self.share.len();
        let flat: Vec<f32> = scales.iter().flat_map(|&scale| ScaleHead::coefficients(scale, knots)).collect();
        Tensor::from_vec(flat, (scales.len(), knots), device)
    }

    /// Scores, 0 to 1, of features `(crops, 8 C)` of crops with these [`knots`](Self::knots), `(crops,)`.
    pub(super) fn outputs(&self, features: &Tensor, knots: &Tensor) -> Result<Tensor> {
        let outputs = (ops::linear(features, &self.weight, Some(&self.bias))? * knots)?.sum(1)?;
        let (low, high) = self.range;
        if self.range == (0.0, 1.0) { Ok(outputs) } else { outputs.affine(1.0 / (high - low), -low / (high - low)) }
    }

    /// How much the crops of a size count beside those of others.
    pub(super) fn share(&self, scale: f64) -> f64 {
        let parts = ScaleHead::coefficients(scale, self.share.len());
        parts.iter().zip(&self.share).map(|(part, share)| f64::from(part * share)).sum::<f64>().exp()
    }

    /// The tensor that is not learned, with its name and shape.
    pub(super) fn constant(&self) -> Constant {
        (format!("{NAME}share"), (vec![self.share.len()], self.share.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::parameters::Trainable;

    /// Features of 1 give the weights between the knots, brought from the network's range to 0..1.
    #[test]
    fn outputs_are_interpolated_and_brought_to_the_range_of_scores() {
        let tensor = |values: &[f32], shape: &[usize]| Tensor::from_slice(values, shape, &Device::Cpu).unwrap();
        let given = [("weight", tensor(&[2.0, 3.0, 5.0], &[3, 1])), ("bias", tensor(&[0.0, 0.0, 0.0], &[3]))];
        let given = given.map(|(part, tensor)| (format!("{NAME}{part}"), tensor));
        let mut source = Trainable::new(1, BTreeMap::from(given), &Device::Cpu);
        let head = ScaleHeads::new(&mut source, 1, vec![0.0; 3], (1.0, 5.0)).unwrap();
        let knots = head.knots(&[0.0, 1.5, 9.0], &Device::Cpu).unwrap();
        let outputs = head.outputs(&tensor(&[1.0; 3], &[3, 1]), &knots).unwrap();
        assert_eq!(outputs.to_vec1::<f32>().unwrap(), [0.25, 0.75, 1.0]);
    }

    #[test]
    fn a_head_starts_with_all_knots_where_nothing_is_given() {
        let (tensors, share) = ScaleHeads::given(&mut BTreeMap::new()).unwrap();
        assert!(tensors.is_empty() && share.len() == KNOTS);
    }
}
