//! What the element knows between start and stop.

use super::quality::FrameQuality;
use super::report::{Report, Times, write_statistics};
use super::schedule::Schedule;
use super::settings::Settings;
use super::worker::Worker;
use crate::pooling::{Alarm, Limits, Pool};
use crate::scorer::Scorer;
use gstreamer as gst;
use gstreamer_video as gst_video;
use std::sync::Arc;
use std::time::Duration;

/// What exists between start and stop.
pub(super) struct State {
    pub scorer: Scorer,
    pub info: Option<gst_video::VideoInfo>,
    pub stream: Stream,
    /// Where scoring is asynchronous.
    pub worker: Option<Arc<Worker<(Job, gst::Buffer)>>>,
}

/// A frame to score.
pub(super) struct Job {
    pub scorer: Scorer,
    pub info: gst_video::VideoInfo,
    pub settings: Settings,
    pub frame: u64,
    pub times: Times,
    /// [`Stream::generation`] when it came.
    pub generation: u64,
}

/// What a flush forgets.
pub(super) struct Stream {
    pub pool: Pool,
    alarm: Alarm,
    /// Frames seen, scored or not.
    pub frames: u64,
    /// Frames that were due and gave way to newer ones.
    pub dropped: u64,
    /// Frames that were due and too late to be scored.
    pub late: u64,
    /// Frames that were scored.
    pub scored: u64,
    pub schedule: Schedule,
    pub last: Option<(FrameQuality, Times)>,
    pub warned_interlaced: bool,
    /// Counts flushes: what was begun before one does not count after it.
    pub generation: u64,
}

impl Stream {
    pub fn new(window: u64, generation: u64) -> Self {
        Self {
            pool: Pool::new(Some(Duration::from_nanos(window))),
            alarm: Alarm::default(),
            frames: 0,
            dropped: 0,
            late: 0,
            scored: 0,
            schedule: Schedule::default(),
            last: None,
            warned_interlaced: false,
            generation,
        }
    }

    /// The last score, for a buffer that has none of its own.
    pub fn held(&self, times: &Times) -> Option<FrameQuality> {
        let (last, scored) = self.last.as_ref()?;
        let known = times.running_time != u64::MAX && scored.running_time != u64::MAX;
        let age = if known { times.running_time.saturating_sub(scored.running_time) } else { u64::MAX };
        Some(FrameQuality { held: true, age, ..last.clone() })
    }

    /// Takes a frame's score; gives the alarm that begins or ends by it.
    pub fn take(&mut self, quality: &FrameQuality, times: Times, settings: &Settings) -> Option<Report> {
        let time = (times.running_time != u64::MAX).then(|| Duration::from_nanos(times.running_time));
        self.scored += 1;
        self.pool.push(time, quality.score);
        self.last = Some((quality.clone(), times));
        let hold = Duration::from_nanos(settings.alarm_hold);
        let limits = Limits { low: settings.low_threshold, high: settings.high_threshold, hold };
        let (low, since) = self.alarm.update(limits, time, quality.score)?;
        let threshold = if low { limits.low } else { limits.high.max(limits.low) };
        let since = time.map_or(u64::MAX, |_| since.as_nanos() as u64);
        Some(Report::Alarm { times, low, score: quality.score, threshold, since })
    }

    /// The statistics of the stream, and of the window.
    pub fn statistics(&self) -> gst::Structure {
        let mut structure = gst::Structure::new_empty("qmambaiqa-statistics");
        structure.set("seen", self.frames);
        structure.set("dropped", self.dropped);
        structure.set("late", self.late);
        if let Some(stream) = self.pool.stream() {
            write_statistics(&stream, &mut structure);
        }
        if let Some(window) = self.pool.window() {
            let mut of_window = gst::Structure::new_empty("window");
            write_statistics(&window, &mut of_window);
            structure.set("window", of_window);
        }
        structure
    }
}
