//! The mean of paired differences over time, and how far it can be trusted.

use qmambaiqa::random::Random;
use serde::Serialize;

/// Resamplings of the bootstrap.
const REPEATS: usize = 2000;
/// Neighbouring frames are alike; blocks must be longer than what they have in common, and many. Seconds.
const BLOCK: std::ops::RangeInclusive<f64> = 1.0..=4.0;
/// As many blocks as wanted, within [`BLOCK`].
const BLOCKS: f64 = 10.0;
/// Fewer blocks than this say nothing on how blocks vary.
pub const FEWEST_BLOCKS: f64 = 3.0;
/// Two-sided 95 %, normal.
const Z: f64 = 1.959_963_984_540_054;

/// The mean of differences and its 95 % confidence interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Difference {
    pub mean: f64,
    /// Half-width of the interval around the mean; none where the pair is too short to say.
    pub confidence: Option<f64>,
    /// Frames that both have.
    pub frames: usize,
    pub verdict: Verdict,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    FirstBetter,
    SecondBetter,
    NoDifferenceShown,
    /// Less than three blocks of a second.
    TooShort,
}

/// `differences` (second less first) of frames `step` seconds apart.
///
/// A circular block bootstrap gives the standard error of the mean; Student's t with as many degrees of freedom as there are
/// blocks less one makes an interval of it, because a short clip has few of them.
pub fn difference(differences: &[f64], step: f64, seed: u64) -> Difference {
    let n = differences.len();
    let mean = differences.iter().sum::<f64>() / n as f64;
    let seconds = (n as f64 * step / BLOCKS).clamp(*BLOCK.start(), *BLOCK.end());
    // Where frames are far apart, the usual cube root.
    let block = ((seconds / step).ceil() as usize).max((n as f64).cbrt().ceil() as usize);
    let blocks = n as f64 / block as f64;
    if blocks < FEWEST_BLOCKS {
        return Difference { mean, confidence: None, frames: n, verdict: Verdict::TooShort };
    }
    let confidence = student(blocks - 1.0) * standard_error(differences, block, seed);
    let verdict = match mean {
        m if m.abs() <= confidence => Verdict::NoDifferenceShown,
        m if m > 0.0 => Verdict::SecondBetter,
        _ => Verdict::FirstBetter,
    };
    Difference { mean, confidence: Some(confidence), frames: n, verdict }
}

/// Standard deviation of the means of resamplings in blocks; the end goes on with the beginning, so that every frame is
/// drawn as often.
fn standard_error(values: &[f64], block: usize, seed: u64) -> f64 {
    let n = values.len();
    // Sums of the first values, twice around, give any block's sum.
    let sums: Vec<f64> = std::iter::once(0.0)
        .chain(values.iter().chain(values).scan(0.0, |sum, v| {
            *sum += v;
            Some(*sum)
        }))
        .collect();
    let mut random = Random::new(seed, 0);
    let draws = n / block;
    let means: Vec<f64> = (0..REPEATS)
        .map(|_| {
            let total: f64 = (0..draws).map(|_| random.below(n)).map(|at| sums[at + block] - sums[at]).sum();
            total / (draws * block) as f64
        })
        .collect();
    let mean = means.iter().sum::<f64>() / REPEATS as f64;
    let variance = means.iter().map(|m| (m - mean).powi(2)).sum::<f64>() / (REPEATS - 1) as f64;
    // Blocks vary around the mean of this very series, which takes one block's worth of variance away; the draws are whole
    // blocks, a little less or more than the series.
    (variance / (1.0 - block as f64 / n as f64) * (draws * block) as f64 / n as f64).sqrt()
}

/// The 97.5 % quantile of Student's t, by Cornish and Fisher's expansion: 1 % off at two degrees of freedom, less above.
fn student(freedom: f64) -> f64 {
    let (v, z) = (freedom, Z);
    let (z3, z5, z7) = (z.powi(3), z.powi(5), z.powi(7));
    z + (z3 + z) / (4.0 * v)
        + (5.0 * z5 + 16.0 * z3 + 3.0 * z) / (96.0 * v * v)
        + (3.0 * z7 + 19.0 * z5 + 17.0 * z3 - 15.0 * z) / (384.0 * v.powi(3))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tables of Student's t.
    #[test]
    fn quantiles_are_those_of_the_tables() {
        for (freedom, wanted, within) in [(2.0, 4.303, 0.15), (5.0, 2.571, 0.01), (10.0, 2.228, 0.001), (1e6, Z, 1e-5)]
        {
            assert!((student(freedom) - wanted).abs() < within, "{freedom}: {}", student(freedom));
        }
    }

    #[test]
    fn identical_ones_do_not_differ_and_constant_ones_do() {
        let same = difference(&[0.0; 100], 0.04, 1);
        assert_eq!((same.mean, same.verdict), (0.0, Verdict::NoDifferenceShown));
        assert_eq!(difference(&[2.0; 100], 0.04, 1).verdict, Verdict::SecondBetter);
        assert_eq!(difference(&[-2.0; 100], 0.04, 1).verdict, Verdict::FirstBetter);
        let short = difference(&[2.0; 60], 0.04, 1);
        assert_eq!((short.confidence, short.verdict), (None, Verdict::TooShort));
    }

    /// Series whose neighbours are alike, without a difference on the mean: found to differ about as often as 95 % says, where
    /// frames taken as independent would be found to differ every other time.
    #[test]
    fn a_difference_is_claimed_wrongly_in_about_one_of_twenty() {
        let (runs, n, kept) = (400, 500, 0.9f64);
        let wrong = (0..runs)
            .filter(|&run| {
                let mut random = Random::new(7, run);
                let mut value = random.normal();
                let series: Vec<f64> = (0..n)
                    .map(|_| {
                        value = kept * value + (1.0 - kept * kept).sqrt() * random.normal();
                        value
                    })
                    .collect();
                difference(&series, 0.04, run).verdict != Verdict::NoDifferenceShown
            })
            .count();
        let share = wrong as f64 / runs as f64;
        println!("claimed wrongly: {share}");
        assert!((0.02..=0.11).contains(&share), "{share}");
    }
}
