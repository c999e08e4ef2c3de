//! Which frames are scored: one an interval, and none that is shown too late anyway.

use super::settings::Settings;
use super::times::Times;
use crate::random::Random;
use gstreamer as gst;

#[derive(Debug, Default)]
pub(super) struct Schedule {
    /// Running time before which no frame is scored, without the jitter.
    due: Option<gst::ClockTime>,
    /// How much later by jitter.
    jitter: gst::ClockTime,
    /// Running time up to which frames are late, as the last QoS event has it.
    earliest: Option<gst::ClockTime>,
    /// Time that frames take downstream, relative to the time that there is.
    proportion: f64,
}

/// What becomes of a frame.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Turn {
    /// It is not due.
    Pass,
    Score,
    /// It is due, but late by so many nanoseconds.
    Late {
        by: i64,
        proportion: f64,
    },
}

impl Schedule {
    /// Takes a QoS event into account: a frame of that running time came so much too late (or early, where negative).
    pub fn observe(&mut self, proportion: f64, late: i64, running_time: gst::ClockTime) {
        self.proportion = proportion;
        self.earliest = running_time.nseconds().checked_add_signed(late).map(gst::ClockTime::from_nseconds);
    }

    /// Forgets when a frame is due: a new segment's first frame is.
    pub fn restart(&mut self) {
        self.due = None;
    }

    /// Decides on the `frame`-th frame. A late one leaves its turn to the next.
    pub fn turn(&mut self, times: &Times, settings: &Settings, qos: bool, frame: u64) -> Turn {
        let now = (times.running_time != u64::MAX).then(|| gst::ClockTime::from_nseconds(times.running_time));
        let waits =
            settings.interval > 0 && now.zip(self.due).is_some_and(|(now, due)| now < due.saturating_add(self.jitter));
        if waits {
            return Turn::Pass;
        }
        if let Some((now, earliest)) = now.zip(self.earliest).filter(|(now, earliest)| qos && now <= earliest) {
            let by = i64::try_from(earliest.saturating_sub(now).nseconds()).unwrap_or(i64::MAX);
            return Turn::Late { by, proportion: self.proportion };
        }
        if let Some(now) = now.filter(|_| settings.interval > 0) {
            let step = gst::ClockTime::from_nseconds(settings.interval);
            // Due times stay on one raster, so that frames which come a little late do not add up to a slower rate.
            let on_raster = self.due.filter(|due| now < due.saturating_add(self.jitter).saturating_add(step));
            self.due = Some(on_raster.unwrap_or(now).saturating_add(step));
            let jitter = settings.jitter * Random::new(settings.seed, frame).uniform();
            self.jitter = gst::ClockTime::from_nseconds((jitter * settings.interval as f64) as u64);
        }
        Turn::Score
    }
}
