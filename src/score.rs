//! The quality of one frame, from what the network gives for its crops.

use crate::crops::Scales;
use serde::Serialize;

/// The quality of one frame.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Score {
    /// Mean over crops on the scale 0 (worst) to 100 (best). Where crops were taken at several sizes of the picture, by a
    /// network that knows of scales, each size counts by a weight that was learned.
    pub score: f64,
    /// Mean of the network's outputs, on the scale of its training's labels.
    pub raw: f64,
    /// Standard deviation of the crops' scores; 0 for one crop.
    pub deviation: f64,
    /// Half-width of the 95 % confidence interval of the mean over crops (Student's t); NaN for one crop, which shows no
    /// spread.
    pub confidence: f64,
    /// Crops that were scored.
    pub crops: usize,
    /// The reductions of the picture that they were taken of.
    pub scales: Scales,
}

impl Score {
    /// From the outputs of at least one crop, which count alike; `range` is that of the labels, worst and best.
    pub(crate) fn of(raws: &[f64], range: (f64, f64)) -> Self {
        let n = raws.len() as f64;
        let raw = raws.iter().sum::<f64>() / n;
        let squares = raws.iter().map(|r| (r - raw).powi(2)).sum::<f64>();
        Self::new(raw, squares / (n - 1.0), 1.0 / n.sqrt(), raws.len(), range)
    }

    /// As [`of`](Self::of), of crops that count by `weights`, whose sum is 1.
    pub(crate) fn weighted(raws: &[f64], weights: &[f64], range: (f64, f64), scales: Scales) -> Self {
        let raw = raws.iter().zip(weights).map(|(r, w)| w * r).sum::<f64>();
        // Of equal weights these are the sums of `of`: 1 - n / n^2 is (n - 1) / n.
        let squared = weights.iter().map(|w| w * w).sum::<f64>();
        let squares = raws.iter().zip(weights).map(|(r, w)| w * (r - raw).powi(2)).sum::<f64>();
        Self { scales, ..Self::new(raw, squares / (1.0 - squared), squared.sqrt(), raws.len(), range) }
    }

    /// `variance` is that of the crops' outputs, `error` the standard error of their mean in proportion to its root.
    fn new(raw: f64, variance: f64, error: f64, crops: usize, (low, high): (f64, f64)) -> Self {
        let score = (100.0 * (raw - low) / (high - low)).clamp(0.0, 100.0);
        let (mut deviation, mut confidence) = (0.0, f64::NAN);
        if crops > 1 {
            deviation = 100.0 * variance.sqrt() / (high - low).abs();
            confidence = student_t(crops - 1) * deviation * error;
        }
        Self { score, raw, deviation, confidence, crops, scales: Scales::NATIVE }
    }
}

/// The 0.975 quantile of Student's t distribution.
fn student_t(freedom: usize) -> f64 {
    const SMALL: [f64; 10] = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228];
    match freedom {
        0 => f64::NAN,
        1..=10 => SMALL[freedom - 1],
        // Cornish and Fisher's expansion around the normal quantile; within 0.001 from 11 on.
        _ => {
            let (z, n) = (1.959_964f64, freedom as f64);
            let (z3, z5, z7) = (z.powi(3), z.powi(5), z.powi(7));
            z + (z3 + z) / (4.0 * n)
                + (5.0 * z5 + 16.0 * z3 + 3.0 * z) / (96.0 * n * n)
                + (3.0 * z7 + 19.0 * z5 + 17.0 * z3 - 15.0 * z) / (384.0 * n.powi(3))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_weights_change_nothing() {
        for raws in [vec![0.5], vec![0.2, 0.8], vec![0.31, 0.62, 0.44, 0.57, 0.5]] {
            let n = raws.len();
            let plain = Score::of(&raws, (0.0, 1.0));
            let weighted = Score::weighted(&raws, &vec![1.0 / n as f64; n], (0.0, 1.0), Scales::NATIVE);
            let near = |a: f64, b: f64| (a - b).abs() < 1e-9 || a.is_nan() && b.is_nan();
            assert!(near(plain.score, weighted.score) && near(plain.deviation, weighted.deviation), "{weighted:?}");
            assert!(near(plain.confidence, weighted.confidence), "{plain:?} {weighted:?}");
        }
        // A crop that counts for nothing.
        let two = Score::weighted(&[0.2, 0.4, 9.0], &[0.5, 0.5, 0.0], (0.0, 1.0), Scales::NATIVE);
        let plain = Score::of(&[0.2, 0.4], (0.0, 1.0));
        assert!((two.score - plain.score).abs() < 1e-9 && (two.deviation - plain.deviation).abs() < 1e-9);
    }

    #[test]
    fn quantiles_are_those_of_the_tables() {
        for (freedom, expected) in [(1, 12.706), (10, 2.228), (11, 2.201), (20, 2.086), (63, 1.998)] {
            assert!((student_t(freedom) - expected).abs() < 1e-3, "{freedom}");
        }
    }
}
