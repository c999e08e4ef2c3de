//! What is kept of a stream's last minutes.

use image::RgbImage;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// Points of a curve.
const BINS: u64 = 150;

/// The shortest bin: five minutes in all.
const SHORTEST: Duration = Duration::from_secs(2);

/// So many pictures are kept in the window at the most, one for each part of it.
const PARTS: u32 = 10;

/// A picture of a scored frame, small.
#[derive(Clone)]
pub struct Still {
    pub picture: Arc<RgbImage>,
    pub score: f64,
    /// Counts the stream's scored frames.
    pub number: u64,
    /// In seconds since 1970.
    pub unix_time: f64,
    /// Since the monitor began.
    pub time: Duration,
}

/// Mean scores of short times, and the picture of the worst.
pub struct History {
    bin: Duration,
    /// Number, sum and count of those that have scores.
    bins: VecDeque<(u64, f64, u32)>,
    /// Each has a higher score than the one before.
    lows: VecDeque<Still>,
}

impl History {
    /// For scores so far apart.
    pub fn new(interval: Duration) -> Self {
        // Two scores to a bin, so that a curve has no holes.
        Self { bin: SHORTEST.max(interval.saturating_mul(2)), bins: VecDeque::new(), lows: VecDeque::new() }
    }

    pub fn window(&self) -> Duration {
        self.bin.saturating_mul(BINS as u32)
    }

    /// The number of a time's bin.
    fn number(&self, time: Duration) -> u64 {
        u64::try_from(time.as_nanos() / self.bin.as_nanos()).unwrap_or(u64::MAX)
    }

    pub fn push(&mut self, time: Duration, score: f64) {
        let number = self.number(time);
        match self.bins.back_mut() {
            Some((last, sum, count)) if *last == number => {
                *sum += score;
                *count += 1;
            }
            _ => self.bins.push_back((number, score, 1)),
        }
        while self.bins.front().is_some_and(|(first, ..)| first + BINS <= number) {
            self.bins.pop_front();
        }
    }

    /// Keeps a picture where it may be the worst of some window to come.
    pub fn keep(&mut self, still: &Still) {
        let (part, oldest) = (self.window() / PARTS, still.time.saturating_sub(self.window()));
        self.lows.retain(|low| low.time >= oldest && low.score < still.score);
        if self.lows.back().is_none_or(|low| still.time - low.time >= part) {
            self.lows.push_back(still.clone());
        }
    }

    /// The picture of the worst frame in the window before a time.
    pub fn worst(&self, now: Duration) -> Option<&Still> {
        self.lows.iter().find(|low| low.time >= now.saturating_sub(self.window()))
    }

    /// Mean scores up to a time, the oldest first; none where there was no score.
    pub fn curve(&self, now: Duration) -> Vec<Option<f64>> {
        let newest = self.number(now);
        let mut curve = vec![None; BINS as usize];
        for (number, sum, count) in &self.bins {
            let place = newest.checked_sub(*number).and_then(|age| BINS.checked_sub(age + 1));
            if let Some(place) = place.and_then(|place| curve.get_mut(place as usize)) {
                *place = Some((100.0 * sum / f64::from(*count)).round() / 100.0); // finer than anyone sees
            }
        }
        curve
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn still(time: u64, score: f64) -> Still {
        let picture = Arc::new(RgbImage::new(1, 1));
        Still { picture, score, number: time, unix_time: 0.0, time: Duration::from_secs(time) }
    }

    #[test]
    fn a_curve_has_means_and_gaps_and_forgets() {
        let at = Duration::from_secs;
        let mut history = History::new(Duration::ZERO);
        for (time, score) in [(0, 10.0), (1, 20.0), (2, 30.0), (6, 40.0)] {
            history.push(at(time), score);
        }
        let curve = history.curve(at(7));
        assert_eq!((curve.len(), &curve[145..]), (150, &[None, Some(15.0), Some(30.0), None, Some(40.0)][..]));
        history.push(at(303), 50.0); // the bins of 4 to 304 s
        let curve = history.curve(at(303));
        assert_eq!((curve[0], curve[1], curve[149]), (None, Some(40.0), Some(50.0)));
        assert_eq!(curve.iter().flatten().count(), 2);
        assert!(history.curve(at(10_000)).iter().all(Option::is_none));
    }

    #[test]
    fn rare_scores_leave_no_gaps() {
        let mut history = History::new(Duration::from_secs(7));
        (0..40).for_each(|i| history.push(Duration::from_secs(7 * i), 1.0));
        let curve = history.curve(Duration::from_secs(7 * 39));
        assert_eq!(curve.iter().rev().take_while(|value| value.is_some()).count(), 20);
    }

    #[test]
    fn the_worst_is_the_lowest_of_the_window_and_few_are_kept() {
        let mut history = History::new(Duration::ZERO);
        history.keep(&still(0, 5.0));
        // Rising scores are the case that keeps the most.
        for time in 1..=600 {
            history.keep(&still(time, 10.0 + time as f64 / 100.0));
            assert!(history.lows.len() <= 11, "{}", history.lows.len());
        }
        let worst = |history: &History, now| history.worst(Duration::from_secs(now)).map(|w| w.number);
        let oldest = worst(&history, 600).unwrap();
        assert!((300..330).contains(&oldest), "{oldest}");
        history.keep(&still(601, 6.0));
        assert_eq!((worst(&history, 601), worst(&history, 902)), (Some(601), None));
    }
}
