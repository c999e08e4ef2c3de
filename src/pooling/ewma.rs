//! The exponentially weighted moving average.

use std::time::Duration;

/// An average in which a score counts half as much for each half-life that has passed since, at whatever times scores come:
/// over a time `t` the average goes `1 - 2^(-t / half-life)` of the way to the new score.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ewma {
    average: Option<f64>,
    newest: Option<Duration>,
}

impl Ewma {
    /// Takes the score of the frame at `time`. Scores that are not finite, or whose time is unknown or not after the one
    /// before, leave the average as it is, but the first is it.
    pub fn push(&mut self, half_life: Duration, time: Option<Duration>, score: f64) {
        if !score.is_finite() {
            return;
        }
        let passed = time.zip(self.newest).map_or(Duration::ZERO, |(time, newest)| time.saturating_sub(newest));
        self.newest = time.or(self.newest);
        let average = *self.average.get_or_insert(score);
        if !passed.is_zero() {
            let way = 1.0 - (-passed.as_secs_f64() / half_life.as_secs_f64()).exp2();
            self.average = Some(average + way * (score - average));
        }
    }

    /// The average; none before the first score.
    pub fn average(&self) -> Option<f64> {
        self.average
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_half_the_way_in_a_half_life() {
        let mut ewma = Ewma::default();
        let mut push = |time: Option<u64>, score| {
            ewma.push(Duration::from_secs(2), time.map(Duration::from_secs), score);
            ewma.average()
        };
        assert_eq!(push(None, f64::NAN), None);
        assert_eq!(push(Some(10), 80.0), Some(80.0));
        assert_eq!(push(Some(12), 40.0), Some(60.0));
        // Two steps of half the time come to the same.
        let step = push(Some(13), 40.0).unwrap();
        assert!((step - (40.0 + 20.0 * 0.5f64.sqrt())).abs() < 1e-9);
        assert!((push(Some(14), 40.0).unwrap() - 50.0).abs() < 1e-9);
        // Unknown times, and a seek back, do not count; time goes on from there.
        assert!((push(None, 0.0).unwrap() - 50.0).abs() < 1e-9);
        assert!((push(Some(3), 0.0).unwrap() - 50.0).abs() < 1e-9);
        assert!((push(Some(5), 0.0).unwrap() - 25.0).abs() < 1e-9);
        let mut at_once = Ewma::default();
        for (time, score) in [(1, 10.0), (2, 90.0)] {
            at_once.push(Duration::ZERO, Some(Duration::from_secs(time)), score);
        }
        assert_eq!(at_once.average(), Some(90.0));
    }
}
