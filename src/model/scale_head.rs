//! A head that knows at which size of a picture a crop was taken, and how much each size counts.
//!
//! The scale `s` of a crop is log2 of its picture's shorter side over [`CROP`](super::CROP), after the reduction by which it was
//! taken: see [`Place::scale`](crate::crops::Place::scale). Weights stand at the scales 0, 1, 2, ... and are interpolated linearly
//! between them; beyond the last they are the last one's. A crop's output is `w(s) f + b(s)` with its features `f`; a picture's
//! is the mean over its sizes, weighted by `exp(share(s))`, of the mean over each size's crops.

use candle_core::{Result, Tensor, bail};
use std::collections::BTreeMap;

/// What the names of its tensors begin with.
pub const PREFIX: &str = "classifier.scales.";

/// Heads at scales 0, 1, 2, ...
#[derive(Debug, Clone, PartialEq)]
pub struct ScaleHead {
    /// `(K, 8 C)`
    weight: Vec<Vec<f32>>,
    /// `(K,)`
    bias: Vec<f32>,
    /// `(K,)`, logarithms.
    share: Vec<f32>,
}

impl ScaleHead {
    /// Takes `classifier.scales.weight` `(K, 8 C)`, `.bias` `(K,)` and `.share` `(K,)` out of a file's tensors. Returns
    /// `None` if the file has no such tensor.
    ///
    /// # Errors
    /// One is missing, is mis-shaped, or has a value that is not finite.
    pub fn take(tensors: &mut BTreeMap<String, Tensor>, features: usize) -> Result<Option<Self>> {
        if !tensors.keys().any(|name| name.starts_with(PREFIX)) {
            return Ok(None);
        }
        let mut take = |name: &str| match tensors.remove(&format!("{PREFIX}{name}")) {
            Some(tensor) => Ok(tensor),
            None => bail!("tensor `{PREFIX}{name}` is missing"),
        };
        let (weight, bias, share) = (take("weight")?, take("bias")?, take("share")?);
        let &[knots, width] = weight.dims() else {
            bail!("tensor `{PREFIX}weight` has shape {:?}, expected two axes", weight.dims());
        };
        if knots == 0 || width != features || bias.dims() != [knots] || share.dims() != [knots] {
            bail!(
                "tensors `{PREFIX}weight`, `bias` and `share` have shapes {:?}, {:?} and {:?}, expected [K, {features}], [K] and [K]",
                weight.dims(),
                bias.dims(),
                share.dims()
            );
        }
        let head = Self { weight: weight.to_vec2()?, bias: bias.to_vec1()?, share: share.to_vec1()? };
        let finite = |values: &[f32]| values.iter().all(|value| value.is_finite());
        if !head.weight.iter().all(|row| finite(row)) || !finite(&head.bias) || !finite(&head.share) {
            bail!("tensors `{PREFIX}*` have values that are not finite");
        }
        Ok(Some(head))
    }

    /// A crop's output from its features, `8 C` values, on the scale of the training's labels.
    pub fn output(&self, features: &[f32], scale: f64) -> f64 {
        let at = |knot: usize| {
            let products = self.weight[knot].iter().zip(features).map(|(w, f)| f64::from(*w) * f64::from(*f));
            f64::from(self.bias[knot]) + products.sum::<f64>()
        };
        self.interpolated(scale, at)
    }

    /// What the knots count for at a scale: coefficients `(knots,)` that add up to 1.
    pub fn coefficients(scale: f64, knots: usize) -> Vec<f32> {
        let scale = scale.clamp(0.0, knots.saturating_sub(1) as f64);
        (0..knots).map(|knot| (1.0 - (scale - knot as f64).abs()).max(0.0) as f32).collect()
    }

    /// How much a picture's crops of this scale count together, in proportion to those of others.
    pub fn share(&self, scale: f64) -> f64 {
        self.interpolated(scale, |knot| f64::from(self.share[knot])).exp()
    }

    /// Between the two knots around a scale.
    fn interpolated(&self, scale: f64, at: impl Fn(usize) -> f64) -> f64 {
        let scale = scale.clamp(0.0, (self.bias.len() - 1) as f64);
        let (below, part) = (scale.floor() as usize, scale.fract());
        if part == 0.0 { at(below) } else { (1.0 - part) * at(below) + part * at(below + 1) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    fn tensors() -> BTreeMap<String, Tensor> {
        let tensor = |values: &[f32], shape: &[usize]| Tensor::from_slice(values, shape, &Device::Cpu).unwrap();
        BTreeMap::from([
            (format!("{PREFIX}weight"), tensor(&[1.0, 0.0, 0.0, 2.0, 4.0, 4.0], &[3, 2])),
            (format!("{PREFIX}bias"), tensor(&[0.0, 1.0, 2.0], &[3])),
            (format!("{PREFIX}share"), tensor(&[0.0, 1.0, -1.0], &[3])),
            ("other".to_owned(), tensor(&[1.0], &[1])),
        ])
    }

    #[test]
    fn weights_are_interpolated_between_scales() {
        let mut all = tensors();
        let head = ScaleHead::take(&mut all, 2).unwrap().unwrap();
        assert_eq!(all.len(), 1, "what is not its own stays");
        let output = |scale| head.output(&[10.0, 1.0], scale);
        assert_eq!((output(0.0), output(1.0), output(2.0)), (10.0, 3.0, 46.0));
        assert_eq!((output(0.25), output(5.0), output(-1.0)), (8.25, 46.0, 10.0));
        for scale in [-1.0, 0.0, 0.25, 1.0, 1.75, 2.0, 5.0] {
            let outputs = ScaleHead::coefficients(scale, 3).into_iter().zip([10.0, 3.0, 46.0]);
            let sum = outputs.map(|(part, output)| f64::from(part) * output).sum::<f64>();
            assert!((sum - output(scale)).abs() < 1e-5, "{sum} at {scale}");
        }
        assert!((head.share(0.5) - 0.5f64.exp()).abs() < 1e-12 && (head.share(9.0) - (-1f64).exp()).abs() < 1e-12);
    }

    #[test]
    fn wrong_tensors_are_named() {
        assert_eq!(ScaleHead::take(&mut BTreeMap::new(), 2).unwrap(), None);
        let error = |change: &dyn Fn(&mut BTreeMap<String, Tensor>), features| {
            let mut all = tensors();
            change(&mut all);
            ScaleHead::take(&mut all, features).unwrap_err().to_string()
        };
        assert!(error(&|all| drop(all.remove("classifier.scales.share")), 2).contains("`classifier.scales.share`"));
        assert!(error(&|_| (), 3).contains("expected [K, 3]"));
        let flat = Tensor::zeros(3, candle_core::DType::F32, &Device::Cpu).unwrap();
        assert!(error(&|all| drop(all.insert(format!("{PREFIX}weight"), flat.clone())), 2).contains("two axes"));
        assert!(error(&|all| drop(all.insert(format!("{PREFIX}bias"), flat.log().unwrap())), 2).contains("not finite"));
    }
}
