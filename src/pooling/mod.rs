//! Frame scores to statistics: of the whole stream, and of its last seconds.

mod alarm;
mod distribution;
mod ewma;
#[cfg(test)]
mod tests;

pub use alarm::{Alarm, Limits};
pub use distribution::EXACT_SCORES;
pub use ewma::Ewma;

use distribution::Distribution;
use std::collections::VecDeque;
use std::time::Duration;

/// What many frames' scores come to. Percentiles interpolate linearly between order statistics, as numpy's default does.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Statistics {
    /// Scores that were pooled.
    pub frames: u64,
    pub mean: f64,
    /// `1 / mean(1 / (score + 1)) - 1`, as VMAF has it; scores under 0 count as 0 here. It stresses bad frames.
    pub harmonic_mean: f64,
    pub min: f64,
    pub max: f64,
    pub p1: f64,
    pub p5: f64,
    pub p10: f64,
    pub p50: f64,
}

/// Pools the scores of a stream in bounded memory.
///
/// - Scores are expected within 0 to 100 and may lie somewhat outside. Those that are not finite are not counted.
/// - Statistics of the whole stream are exact up to [`EXACT_SCORES`] scores. From then on scores are kept as a histogram, and
///   percentiles are good to 0.005 within 0 to 100 (a percentile beyond is 0 or 100, or the least or largest score where
///   that is nearer); count, means and minimum stay exact.
/// - The window holds scores of times in `(newest - window, newest]`, at most the last [`EXACT_SCORES`] of them.
/// - A time before the one before (a seek, a new segment) starts the window anew; the whole stream goes on.
/// - A score without a time counts for the whole stream, and for the window as if it had the newest time; before any time is
///   known, not for the window.
#[derive(Debug, Clone)]
pub struct Pool {
    length: Option<Duration>,
    whole: Distribution,
    recent: VecDeque<(Duration, f64)>,
    newest: Option<Duration>,
}

impl Pool {
    /// An empty pool; `window` is how far back [`Pool::window`] looks. A window of zero is the newest score alone.
    pub fn new(window: Option<Duration>) -> Self {
        Self { length: window, whole: Distribution::default(), recent: VecDeque::new(), newest: None }
    }

    /// Adds the score of the frame at `time`. Gives false, and counts nothing, where the score is not finite.
    pub fn push(&mut self, time: Option<Duration>, score: f64) -> bool {
        if !score.is_finite() {
            return false;
        }
        self.whole.add(score);
        let (Some(length), Some(time)) = (self.length, time.or(self.newest)) else {
            return true;
        };
        if self.newest.is_some_and(|newest| time < newest) {
            self.recent.clear();
        }
        self.newest = Some(time);
        self.recent.push_back((time, score));
        let expired = |&(t, _): &(Duration, f64)| time.saturating_sub(t) >= length;
        while self.recent.len() > 1 && (self.recent.len() > EXACT_SCORES || self.recent.front().is_some_and(expired)) {
            self.recent.pop_front();
        }
        true
    }

    /// Forgets every score and time.
    pub fn reset(&mut self) {
        *self = Self::new(self.length);
    }

    /// Statistics of every score since the start or the last [`Pool::reset`]; `None` where there is none.
    pub fn stream(&self) -> Option<Statistics> {
        self.whole.statistics()
    }

    /// Statistics of the last scores; `None` where there is none, or no window.
    pub fn window(&self) -> Option<Statistics> {
        let mut window = Distribution::default();
        window.extend(self.recent.iter().map(|&(_, score)| score));
        window.statistics()
    }

    /// Mean of the window's scores alone, which costs less.
    pub fn window_mean(&self) -> Option<f64> {
        let sum = self.recent.iter().map(|&(_, score)| score).sum::<f64>();
        (!self.recent.is_empty()).then(|| sum / self.recent.len() as f64)
    }
}
