//! The mean of paired differences over time, and how far it can be trusted.

use qmambaiqa::random::Random;
use serde::Serialize;
use statrs::distribution::{ContinuousCDF, StudentsT};

/// Resamplings of the bootstrap.
const REPEATS: usize = 2000;
/// Neighbouring frames are alike; blocks must be longer than what they have in common, and many. Seconds.
const BLOCK: std::ops::RangeInclusive<f64> = 1.0..=4.0;
/// As many blocks as wanted, within [`BLOCK`].
const BLOCKS: f64 = 10.0;
/// Fewer blocks than this say nothing on how blocks vary.
pub const FEWEST_BLOCKS: f64 = 3.0;
/// Two-sided. Blocks know too little of slow changes, so that 95 % would be claimed and 92 % held (the tests count), and a run
/// may have many pairs.
const CONFIDENCE: f64 = 0.99;

/// Score difference that encodings of equal quality can have, in points on the 0-100 scale: half-width of a 99 % interval. The
/// bootstrap cannot see it, because an encoder affects all frames of a clip alike. Chosen on two clips and a pan over a photograph
/// that was used for no training: of 447 verdicts on pairs with a VMAF difference of 6 or more none is wrong; 2 points would be
/// enough for 1 % (docs/accuracy.md): `examples/verdicts.py CLIP... --margins 0,2,3,4,6`
const SYSTEMATIC: f64 = 4.0;

/// The mean of differences and its 99 % confidence interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Difference {
    pub mean: f64,
    /// Half-width of the interval around the mean: root sum of squares of [`statistical`](Self::statistical) and
    /// [`SYSTEMATIC`], which are independent. `None` if the pair is too short.
    pub confidence: Option<f64>,
    /// Half-width from the variation over time only.
    pub statistical: Option<f64>,
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

/// Judges `differences` (second less first) of frames `step` seconds apart.
pub fn difference(differences: &[f64], step: f64, seed: u64) -> Difference {
    let frames = differences.len();
    let mean = differences.iter().sum::<f64>() / frames as f64;
    let statistical = half_width(differences, step, seed);
    let confidence = statistical.map(|statistical| statistical.hypot(SYSTEMATIC));
    Difference { mean, confidence, statistical, frames, verdict: verdict(mean, confidence) }
}

fn verdict(mean: f64, confidence: Option<f64>) -> Verdict {
    match confidence {
        None => Verdict::TooShort,
        Some(confidence) if mean > confidence => Verdict::SecondBetter,
        Some(confidence) if mean < -confidence => Verdict::FirstBetter,
        Some(_) => Verdict::NoDifferenceShown,
    }
}

/// Returns the half-width of the 99 % confidence interval of the mean of a series, or `None` if it is too short.
///
/// A circular block bootstrap gives the standard error of the mean; Student's t with as many degrees of freedom as there are
/// blocks less one makes an interval of it, because a short clip has few of them.
fn half_width(differences: &[f64], step: f64, seed: u64) -> Option<f64> {
    let n = differences.len();
    let seconds = (n as f64 * step / BLOCKS).clamp(*BLOCK.start(), *BLOCK.end());
    // Where frames are far apart, the usual cube root.
    let block = ((seconds / step).ceil() as usize).max((n as f64).cbrt().ceil() as usize);
    let blocks = n as f64 / block as f64;
    if blocks < FEWEST_BLOCKS {
        return None;
    }
    // Infinite where there is no such distribution: claims nothing.
    let quantile =
        StudentsT::new(0.0, 1.0, blocks - 1.0).map_or(f64::INFINITY, |t| t.inverse_cdf(0.5 + CONFIDENCE / 2.0));
    Some(quantile * standard_error(differences, block, seed))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdict_requires_more_than_the_systematic_difference() {
        let same = difference(&[0.0; 100], STEP, 1);
        assert_eq!((same.mean, same.verdict), (0.0, Verdict::NoDifferenceShown));
        assert_eq!((same.confidence, same.statistical), (Some(SYSTEMATIC), Some(0.0)));
        for (difference_of_all, expected) in [
            (SYSTEMATIC + 0.1, Verdict::SecondBetter),
            (-SYSTEMATIC - 0.1, Verdict::FirstBetter),
            (SYSTEMATIC - 0.1, Verdict::NoDifferenceShown),
            (0.1 - SYSTEMATIC, Verdict::NoDifferenceShown),
        ] {
            assert_eq!(difference(&[difference_of_all; 100], STEP, 1).verdict, expected, "{difference_of_all}");
        }
        let short = difference(&[2.0 * SYSTEMATIC; 60], STEP, 1);
        assert_eq!((short.confidence, short.statistical, short.verdict), (None, None, Verdict::TooShort));
        assert_eq!(verdict(f64::NAN, Some(1.0)), Verdict::NoDifferenceShown);
        assert_eq!(verdict(1.0, Some(f64::INFINITY)), Verdict::NoDifferenceShown);
    }

    #[test]
    fn interval_combines_statistical_and_systematic_parts_for_real_scores() {
        let real = real();
        let differences: Vec<f64> = real.bad.iter().zip(&real.good).map(|(bad, good)| good - bad).collect();
        let found = difference(&differences, STEP, 0);
        let (all, statistical) = (found.confidence.unwrap(), found.statistical.unwrap());
        println!("{:.2} ± {all:.2}, of which {statistical:.2} statistical", found.mean);
        assert!((all * all - statistical * statistical - SYSTEMATIC * SYSTEMATIC).abs() < 1e-9 && statistical > 0.1);
        let moved = |to: f64| -> Vec<f64> { differences.iter().map(|d| d - found.mean + to).collect() };
        assert_eq!(difference(&moved(all + 0.1), STEP, 0).verdict, Verdict::SecondBetter);
        assert_eq!(difference(&moved(all - 0.1), STEP, 0).verdict, Verdict::NoDifferenceShown);
        assert_eq!(difference(&moved(-all - 0.1), STEP, 0).verdict, Verdict::FirstBetter);
    }

    /// Real scores of each frame: by random crops of many seeds, and of two encodings.
    struct Real {
        seeds: Vec<Vec<f64>>,
        good: Vec<f64>,
        bad: Vec<f64>,
    }

    /// 25 frames a second; the file says how they were made.
    fn real() -> Real {
        let text = include_str!("../../../../tests/fixtures/compare/scores.csv");
        let mut rows = csv::ReaderBuilder::new().comment(Some(b'#')).from_reader(text.as_bytes());
        let mut real = Real { seeds: Vec::new(), good: Vec::new(), bad: Vec::new() };
        for row in rows.records() {
            let mut row: Vec<f64> = row.unwrap().iter().map(|field| field.parse().unwrap()).collect();
            real.bad.push(row.pop().unwrap());
            real.good.push(row.pop().unwrap());
            real.seeds.push(row);
        }
        real
    }

    const STEP: f64 = 0.04;

    /// The verdict without the systematic part of the interval.
    fn statistical_verdict(differences: &[f64], seed: u64) -> Verdict {
        let found = difference(differences, STEP, seed);
        verdict(found.mean, found.statistical)
    }

    /// How many of 100 series get the verdict, by the statistical part only.
    fn count(expected: Verdict, series: impl Fn(&mut Random) -> Vec<f64>) -> usize {
        let of = |run| statistical_verdict(&series(&mut Random::new(11, run)), run);
        (0..100).filter(|&run| of(run) == expected).count()
    }

    /// A clip against itself: each frame with the crops of two seeds.
    #[test]
    fn identical_renditions_show_no_difference() {
        let real = real();
        let shifted = |random: &mut Random, by: f64| -> Vec<f64> {
            let two = |seeds: &Vec<f64>| {
                let first = random.below(seeds.len());
                let second = (first + 1 + random.below(seeds.len() - 1)) % seeds.len();
                seeds[second] - seeds[first] + by
            };
            real.seeds.iter().map(two).collect()
        };
        let same = count(Verdict::NoDifferenceShown, |random| shifted(random, 0.0));
        let found = count(Verdict::SecondBetter, |random| shifted(random, 2.0));
        println!("no difference shown in {same} of 100; 2 points better shown in {found} of 100");
        assert!(same >= 95 && found >= 95, "{same}, {found}");
    }

    /// The real difference of two encodings, which changes slowly, in blocks of half a second: with its mean it is found,
    /// without it is not.
    #[test]
    fn a_real_difference_is_found_and_its_changes_are_not_taken_for_one() {
        let real = real();
        let differences: Vec<f64> = real.good.iter().zip(&real.bad).map(|(good, bad)| good - bad).collect();
        assert_eq!(statistical_verdict(&differences, 0), Verdict::SecondBetter);
        let (n, block) = (differences.len(), 12);
        let mean = differences.iter().sum::<f64>() / n as f64;
        let resampled = |random: &mut Random, less: f64| -> Vec<f64> {
            let starts: Vec<usize> = (0..n.div_ceil(block)).map(|_| random.below(n)).collect();
            (0..n).map(|i| differences[(starts[i / block] + i % block) % n] - less).collect()
        };
        let same = count(Verdict::NoDifferenceShown, |random| resampled(random, mean));
        let found = count(Verdict::SecondBetter, |random| resampled(random, 0.0));
        println!("mean {mean:.2}: no difference shown without it in {same} of 100; shown with it in {found} of 100");
        assert!(same >= 95 && found >= 95, "{same}, {found}");
    }

    /// Neighbours far more alike than scores of frames are: a difference is claimed wrongly in less than one of twenty, where
    /// frames taken as independent would be found to differ every other time.
    #[test]
    fn few_differences_are_claimed_wrongly_where_neighbours_are_alike() {
        let (n, kept) = (500, 0.9f64);
        let same = count(Verdict::NoDifferenceShown, |random| {
            let mut value = random.normal();
            let next = |_| {
                value = kept * value + (1.0 - kept * kept).sqrt() * random.normal();
                value
            };
            (0..n).map(next).collect()
        });
        println!("no difference shown in {same} of 100");
        assert!((95..100).contains(&same), "{same}");
    }
}
