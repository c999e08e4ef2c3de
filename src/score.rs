//! The quality of one frame, from what the network gives for its crops.

use serde::Serialize;

/// The quality of one frame.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Score {
    /// Mean over crops on the scale 0 (worst) to 100 (best).
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
}

impl Score {
    /// From the outputs of at least one crop; `range` is that of the labels, worst and best.
    pub(crate) fn of(raws: &[f64], (low, high): (f64, f64)) -> Self {
        let n = raws.len() as f64;
        let raw = raws.iter().sum::<f64>() / n;
        let score = (100.0 * (raw - low) / (high - low)).clamp(0.0, 100.0);
        let (mut deviation, mut confidence) = (0.0, f64::NAN);
        if raws.len() > 1 {
            let variance = raws.iter().map(|r| (r - raw).powi(2)).sum::<f64>() / (n - 1.0);
            deviation = 100.0 * variance.sqrt() / (high - low).abs();
            confidence = student_t(raws.len() - 1) * deviation / n.sqrt();
        }
        Self { score, raw, deviation, confidence, crops: raws.len() }
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
    fn quantiles_are_those_of_the_tables() {
        for (freedom, expected) in [(1, 12.706), (10, 2.228), (11, 2.201), (20, 2.086), (63, 1.998)] {
            assert!((student_t(freedom) - expected).abs() < 1e-3, "{freedom}");
        }
    }
}
