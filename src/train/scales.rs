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
    pub(super) fn new(source: &mut dyn Source, features: usize, share: Vec<f32>) -> Result<Self> {
        let knots = share.len();
        let weight = source.tensor(&format!("{NAME}weight"), &[knots, features], Init::Zeros)?;
        Ok(Self { weight, bias: source.tensor(&format!("{NAME}bias"), &[knots], Init::Zeros)?, share })
    }

    /// The same with other weights.
    pub(super) fn again(&self, source: &mut dyn Source) -> Result<Self> {
        Self::new(source, self.weight.dim(1)?, self.share.clone())
    }

    /// Coefficients of the knots for crops of these scales, `(crops, K)`.
    pub(super) fn knots(&self, scales: &[f64], device: &Device) -> Result<Tensor> {
        let knots = self.share.len();
        let flat: Vec<f32> = scales.iter().flat_map(|&scale| ScaleHead::coefficients(scale, knots)).collect();
        Tensor::from_vec(flat, (scales.len(), knots), device)
    }

    /// Outputs for features `(crops, 8 C)` of crops with these [`knots`](Self::knots), `(crops,)`.
    pub(super) fn outputs(&self, features: &Tensor, knots: &Tensor) -> Result<Tensor> {
        (ops::linear(features, &self.weight, Some(&self.bias))? * knots)?.sum(1)
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
