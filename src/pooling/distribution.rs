//! The distribution of any number of scores, in bounded memory.

use super::Statistics;

/// Scores that are kept one by one: 18 minutes at 60 frames a second, half a MiB.
pub const EXACT_SCORES: usize = 1 << 16;

/// The histogram's bins: centred on 0, 0.01, ... 100.
const BINS: usize = 10_001;
const BINS_PER_UNIT: f64 = 100.0;

#[derive(Debug, Clone)]
pub(super) struct Distribution {
    count: u64,
    sum: f64,
    /// Of `1 / (max(score, 0) + 1)`.
    inverse_sum: f64,
    min: f64,
    max: f64,
    values: Values,
}

#[derive(Debug, Clone)]
enum Values {
    /// In ascending order.
    Exact(Vec<f64>),
    /// Scores in each of the [`BINS`].
    Histogram(Vec<u64>),
}

impl Default for Distribution {
    fn default() -> Self {
        let values = Values::Exact(Vec::new());
        Self { count: 0, sum: 0.0, inverse_sum: 0.0, min: f64::INFINITY, max: f64::NEG_INFINITY, values }
    }
}

fn bin(score: f64) -> usize {
    // Float to integer saturates; the scores beyond the ends are in the last bins.
    ((score * BINS_PER_UNIT).round() as usize).min(BINS - 1)
}

impl Distribution {
    /// `score` must be finite.
    pub fn add(&mut self, score: f64) {
        self.account(score);
        match &mut self.values {
            Values::Exact(sorted) if sorted.len() < EXACT_SCORES => {
                let at = sorted.partition_point(|&other| other <= score);
                sorted.insert(at, score);
            }
            Values::Exact(sorted) => {
                let mut bins = vec![0; BINS];
                for &score in sorted.iter().chain([&score]) {
                    bins[bin(score)] += 1;
                }
                self.values = Values::Histogram(bins);
            }
            Values::Histogram(bins) => bins[bin(score)] += 1,
        }
    }

    /// Adds all, which sorts once; only the first [`EXACT_SCORES`] may come this way.
    pub fn extend(&mut self, scores: impl Iterator<Item = f64>) {
        for score in scores {
            match &mut self.values {
                Values::Exact(sorted) if sorted.len() < EXACT_SCORES => {
                    sorted.push(score);
                    self.account(score);
                }
                _ => self.add(score),
            }
        }
        if let Values::Exact(sorted) = &mut self.values {
            sorted.sort_by(f64::total_cmp);
        }
    }

    fn account(&mut self, score: f64) {
        self.count += 1;
        self.sum += score;
        self.inverse_sum += 1.0 / (score.max(0.0) + 1.0);
        self.min = self.min.min(score);
        self.max = self.max.max(score);
    }

    pub fn statistics(&self) -> Option<Statistics> {
        if self.count == 0 {
            return None;
        }
        let count = self.count as f64;
        Some(Statistics {
            frames: self.count,
            mean: self.sum / count,
            harmonic_mean: count / self.inverse_sum - 1.0,
            min: self.min,
            max: self.max,
            p1: self.percentile(0.01),
            p5: self.percentile(0.05),
            p10: self.percentile(0.10),
            p50: self.percentile(0.50),
        })
    }

    /// The value below which a `part` of the scores lies.
    fn percentile(&self, part: f64) -> f64 {
        let position = part * (self.count - 1) as f64;
        let below = position.floor();
        let low = self.ranked(below as u64);
        let high = self.ranked((below as u64 + 1).min(self.count - 1));
        // Rounding must not carry a percentile past the next: they are in order.
        (low + (high - low) * (position - below)).clamp(low, high)
    }

    /// The score of that rank, from 0 for the least.
    fn ranked(&self, rank: u64) -> f64 {
        match &self.values {
            Values::Exact(sorted) => {
                usize::try_from(rank).ok().and_then(|r| sorted.get(r)).copied().unwrap_or(self.max)
            }
            Values::Histogram(bins) => {
                let mut before = 0;
                let found = bins.iter().position(|&count| {
                    before += count;
                    rank < before
                });
                let centre = found.map_or(self.max, |bin| bin as f64 / BINS_PER_UNIT);
                centre.clamp(self.min, self.max)
            }
        }
    }
}
