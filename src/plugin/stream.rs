//! What the element knows of a stream, from one flush to the next.

use super::job::{Job, Scored};
use super::quality::FrameQuality;
use super::report::{Report, write_statistics};
use super::scene::Scene;
use super::schedule::Schedule;
use super::settings::Settings;
use super::times::Times;
use crate::crops::Bars;
use crate::frame::Region;
use crate::indicators::{Reason, Watch};
use crate::pooling::{Alarm, Ewma, Limits, Pool};
use gstreamer as gst;
use std::time::Duration;

/// What a flush forgets.
pub(super) struct Stream {
    pub pool: Pool,
    pub ewma: Ewma,
    watch: Watch,
    pub bars: Bars,
    scene: Option<Scene>,
    alarm: Alarm,
    /// Why the alarm was raised.
    reason: Reason,
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
    /// Where the crops of the last score were, for an overlay.
    pub crops: Vec<Region>,
    pub warned_interlaced: bool,
    /// Whether a frame without a region of interest has been warned of.
    pub warned_region: bool,
    /// Counts flushes: what was begun before one does not count after it.
    pub generation: u64,
}

impl Stream {
    pub fn new(window: u64, generation: u64) -> Self {
        Self {
            pool: Pool::new(Some(Duration::from_nanos(window))),
            ewma: Ewma::default(),
            watch: Watch::default(),
            bars: Bars::default(),
            scene: None,
            alarm: Alarm::default(),
            reason: Reason::default(),
            frames: 0,
            dropped: 0,
            late: 0,
            scored: 0,
            schedule: Schedule::default(),
            last: None,
            crops: Vec::new(),
            warned_interlaced: false,
            warned_region: false,
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

    /// Takes what was found in a frame; gives its quality, and the scene and the alarm that end or begin by it.
    pub fn take(&mut self, scored: Scored, job: &Job) -> (FrameQuality, [Option<Report>; 2]) {
        let (times, settings) = (job.times, &job.settings);
        let time = times.running();
        let quality = FrameQuality::new(scored.score, scored.regions, self.watch.take(scored.luma, time), job);
        self.pool.push(time, quality.score);
        self.ewma.push(Duration::from_nanos(settings.half_life), time, quality.score);
        let index = quality.indicators.scene;
        let ended = self.scene.take_if(|scene| scene.index != index).and_then(|scene| scene.report(times.running_time));
        self.scene.get_or_insert_with(|| Scene::new(index, times)).push(time, quality.score);
        self.last = Some((quality.clone(), times));
        self.crops = scored.crops;
        let alarm = self.alarm(&quality, times, settings);
        (quality, [ended, alarm])
    }

    /// The alarm that begins or ends by a frame.
    fn alarm(&mut self, quality: &FrameQuality, times: Times, settings: &Settings) -> Option<Report> {
        let faults = settings.freeze_alarm || settings.black_alarm;
        let hold = Duration::from_nanos(settings.alarm_hold);
        let limits = Limits { low: settings.low_threshold, high: settings.high_threshold, hold, faults };
        let (indicators, freeze_time) = (&quality.indicators, Duration::from_nanos(settings.freeze_time));
        let fault =
            settings.freeze_alarm && indicators.is_frozen(freeze_time) || settings.black_alarm && indicators.is_black();
        let (low, since) = self.alarm.update(limits, times.running(), quality.score, fault)?;
        if low {
            self.reason = indicators.reason(freeze_time);
        }
        let threshold = if low { limits.low } else { limits.high.max(limits.low) };
        let since = times.running().map_or(u64::MAX, |_| since.as_nanos() as u64);
        Some(Report::Alarm { times, low, reason: self.reason, score: quality.score, threshold, since })
    }

    /// What there is to say at the end: of the last scene, and of the whole.
    pub fn end(&mut self) -> [Option<Report>; 2] {
        let Some((_, times)) = self.last.as_ref() else { return [None, None] };
        let end = times.running_time.saturating_add(if times.duration == u64::MAX { 0 } else { times.duration });
        let scene = self.scene.take().and_then(|scene| scene.report(end));
        [scene, self.pool.stream().map(|statistics| Report::Pooled { times: *times, statistics })]
    }

    /// Whether there is an alarm.
    pub fn is_alarmed(&self) -> bool {
        self.alarm.is_raised()
    }

    /// The statistics of the stream, of the window and of the scene.
    pub fn statistics(&self) -> gst::Structure {
        let mut structure = gst::Structure::new_empty("qmambaiqa-statistics");
        structure.set("seen", self.frames);
        structure.set("dropped", self.dropped);
        structure.set("late", self.late);
        if let Some(stream) = self.pool.stream() {
            write_statistics(&stream, &mut structure);
        }
        if let Some(average) = self.ewma.average() {
            structure.set("ewma", average);
        }
        if let Some(window) = self.pool.window() {
            let mut of_window = gst::Structure::new_empty("window");
            write_statistics(&window, &mut of_window);
            structure.set("window", of_window);
        }
        if let Some((scene, statistics)) = self.scene.as_ref().and_then(|scene| Some((scene, scene.pool.stream()?))) {
            let mut of_scene = gst::Structure::new_empty("scene");
            of_scene.set("index", scene.index);
            write_statistics(&statistics, &mut of_scene);
            structure.set("scene", of_scene);
        }
        structure
    }
}
