//! When quality is too low, and when it is good again.

use std::time::Duration;

/// Where an alarm begins and ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Scores below raise it; 0 or less: it is off.
    pub low: f64,
    /// Scores from here on end it; less than `low` is taken as `low`.
    pub high: f64,
    /// How long scores must stay there first.
    pub hold: Duration,
    /// Whether faults raise it, whatever the score.
    pub faults: bool,
}

/// An alarm with hysteresis: raised once scores have been under the low limit, or frames at fault, for a time; ended once
/// scores have been over the high one and frames without fault for as long. What lies between starts the time anew.
#[derive(Debug, Clone, Default)]
pub struct Alarm {
    raised: bool,
    /// Time of the first of the scores that would change it.
    since: Option<Duration>,
    /// Time of the score before.
    newest: Duration,
}

impl Alarm {
    /// Whether it is raised.
    pub fn is_raised(&self) -> bool {
        self.raised
    }

    /// Takes the score of the frame at `time` (the time of the score before, where unknown), and whether it is at fault. Gives
    /// whether the alarm is raised from now on, where that changes, and when the frames that did it began.
    pub fn update(
        &mut self,
        limits: Limits,
        time: Option<Duration>,
        score: f64,
        fault: bool,
    ) -> Option<(bool, Duration)> {
        let time = time.unwrap_or(self.newest);
        if time < self.newest {
            self.since = None; // a seek
        }
        self.newest = time;
        let (by_score, fault) = (limits.low > 0.0, fault && limits.faults);
        let off = !by_score && !limits.faults;
        let crosses = if self.raised {
            !fault && (!by_score || score >= limits.high.max(limits.low))
        } else {
            fault || by_score && score < limits.low
        };
        if !crosses {
            self.since = None;
            return None;
        }
        let since = *self.since.get_or_insert(time);
        if time - since < limits.hold && !off {
            return None;
        }
        self.since = None;
        self.raised = !self.raised;
        Some((self.raised, since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn changes(limits: Limits, scores: &[f64]) -> Vec<(usize, bool, u64)> {
        let mut alarm = Alarm::default();
        let changed = |(i, &score): (usize, &f64)| {
            let (raised, since) = alarm.update(limits, Some(Duration::from_secs(i as u64)), score, false)?;
            Some((i, raised, since.as_secs()))
        };
        scores.iter().enumerate().filter_map(changed).collect()
    }

    #[test]
    fn it_needs_time_to_be_raised_and_a_better_score_to_end() {
        let limits = Limits { low: 40.0, high: 60.0, hold: Duration::from_secs(2), faults: false };
        // A dip is too short; the second is long enough; 50 does not end it; 60 does, once it has lasted.
        let scores = [70.0, 30.0, 70.0, 30.0, 30.0, 39.9, 20.0, 50.0, 60.0, 50.0, 60.0, 61.0, 80.0, 30.0];
        assert_eq!(changes(limits, &scores), [(5, true, 3), (12, false, 10)]);
        let at_once = Limits { hold: Duration::ZERO, ..limits };
        assert_eq!(changes(at_once, &[40.0, 39.9, 59.9, 60.0]), [(1, true, 1), (3, false, 3)]);
        assert_eq!(changes(Limits { low: 0.0, ..at_once }, &[0.0, -1.0, 100.0]), []);
        assert_eq!(changes(Limits { high: 0.0, ..at_once }, &[39.0, 40.0]), [(0, true, 0), (1, false, 1)]);
    }

    #[test]
    fn turned_off_it_ends_and_a_seek_starts_its_time_anew() {
        let limits = Limits { low: 40.0, high: 40.0, hold: Duration::from_secs(2), faults: false };
        let mut alarm = Alarm::default();
        let second = |s| Some(Duration::from_secs(s));
        assert_eq!(alarm.update(limits, second(10), 1.0, false), None);
        assert_eq!(alarm.update(limits, second(3), 1.0, false), None);
        assert_eq!(alarm.update(limits, None, 1.0, false), None);
        assert_eq!(alarm.update(limits, second(5), 1.0, false), Some((true, Duration::from_secs(3))));
        assert!(alarm.is_raised());
        assert!(alarm.update(Limits { low: 0.0, ..limits }, second(6), 1.0, false).is_some_and(|(raised, _)| !raised));
    }

    #[test]
    fn faults_raise_it_where_they_shall() {
        let limits = Limits { low: 40.0, high: 60.0, hold: Duration::from_secs(1), faults: true };
        let changes = |limits, frames: &[(f64, bool)]| -> Vec<(usize, bool)> {
            let mut alarm = Alarm::default();
            let frames = frames.iter().enumerate();
            let changed = |(i, &(score, fault))| {
                alarm.update(limits, Some(Duration::from_secs(i as u64)), score, fault).map(|(raised, _)| (i, raised))
            };
            frames.filter_map(changed).collect()
        };
        let frames = [
            (90.0, true),
            (90.0, true),
            (90.0, false),
            (50.0, false),
            (90.0, false),
            (90.0, true),
            (90.0, false),
            (90.0, false),
        ];
        assert_eq!(changes(limits, &frames), [(1, true), (7, false)]);
        // Without a limit for scores the fault alone counts; without faults the score.
        assert_eq!(changes(Limits { low: 0.0, ..limits }, &frames), [(1, true), (3, false)]);
        assert_eq!(changes(Limits { faults: false, ..limits }, &frames), []);
        // A bad score goes on where a fault ends.
        assert_eq!(changes(limits, &[(90.0, true), (10.0, false), (10.0, false)]), [(1, true)]);
    }

    proptest! {
        /// Changes alternate, and each is by a score on its side.
        #[test]
        fn changes_alternate(scores in prop::collection::vec(0.0f64..100.0, 0..200), low in 1.0f64..99.0, gap in 0.0f64..20.0) {
            let limits = Limits { low, high: low + gap, hold: Duration::from_secs(1), faults: false };
            for (n, (i, raised, _)) in changes(limits, &scores).into_iter().enumerate() {
                prop_assert_eq!(raised, n % 2 == 0);
                let fits = if raised { scores[i] < low } else { scores[i] >= low + gap };
                prop_assert!(fits, "{raised} at {i}");
            }
        }
    }
}
