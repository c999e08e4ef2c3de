//! What the user sets.

use super::{LogFormat, Precision, Sampling};
use crate::Result;
use crate::crops::{CropPlan, Scales};
use crate::frame::Region;
use crate::scorer::Options;
use gstreamer as gst;

const DEFAULT_CROPS: u32 = 4;

/// The element's settings, each a property of that name.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub options: Options,
    /// In place of the options' own.
    pub threads: u32,
    pub precision: Precision,
    pub crops: u32,
    pub sampling: Sampling,
    pub seed: u64,
    /// Text of [`Scales`].
    pub scales: String,
    /// Rows that pictures are displayed at; 0 for their own.
    pub display_height: u32,
    pub square_pixels: bool,
    /// Text of a [`Region`]; empty: the whole frame.
    pub region: String,
    /// Whether the crops are taken of the regions of interest that a buffer names.
    pub roi_meta: bool,
    /// The kind of those that count; empty: all.
    pub roi_type: String,
    pub skip_black_bars: bool,
    pub overlay: bool,
    /// Nanoseconds of running time between scored frames.
    pub interval: u64,
    /// Share of the interval by which a scored frame may be late, at random.
    pub jitter: f64,
    pub hold: bool,
    /// Frames that are scored in one batch.
    pub batch: u32,
    /// Nanoseconds that a frame may be held for a batch.
    pub max_latency: u64,
    pub asynchronous: bool,
    pub low_threshold: f64,
    pub high_threshold: f64,
    /// Nanoseconds of running time.
    pub alarm_hold: u64,
    pub alarm_error: bool,
    pub black_alarm: bool,
    pub freeze_alarm: bool,
    /// Nanoseconds that a picture must stand still to be frozen.
    pub freeze_time: u64,
    pub post_messages: bool,
    pub post_samples: bool,
    /// Nanoseconds that the window's statistics reach back.
    pub window: u64,
    /// Nanoseconds in which a score's weight in the moving average halves.
    pub half_life: u64,
    /// Empty: none.
    pub log_location: String,
    pub log_format: LogFormat,
    /// Empty: none.
    pub metrics_address: String,
    /// Empty: the element's name.
    pub stream_name: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            options: Options::default(),
            threads: 0,
            precision: Precision::default(),
            crops: DEFAULT_CROPS,
            sampling: Sampling::default(),
            seed: 0,
            scales: Scales::default().to_string(),
            display_height: 0,
            square_pixels: true,
            region: String::new(),
            roi_meta: false,
            roi_type: String::new(),
            skip_black_bars: false,
            overlay: false,
            interval: 0,
            jitter: 0.0,
            hold: false,
            batch: 1,
            max_latency: 200 * gst::ClockTime::MSECOND.nseconds(),
            asynchronous: false,
            low_threshold: 0.0,
            high_threshold: 0.0,
            alarm_hold: gst::ClockTime::SECOND.nseconds(),
            alarm_error: false,
            black_alarm: false,
            freeze_alarm: false,
            freeze_time: 2 * gst::ClockTime::SECOND.nseconds(),
            post_messages: true,
            post_samples: false,
            window: 10 * gst::ClockTime::SECOND.nseconds(),
            half_life: 5 * gst::ClockTime::SECOND.nseconds(),
            log_location: String::new(),
            log_format: LogFormat::default(),
            metrics_address: String::new(),
            stream_name: String::new(),
        }
    }
}

impl Settings {
    /// How crops are taken.
    pub fn plan(&self) -> Result<CropPlan> {
        let plan = CropPlan::new(self.crops as usize, self.sampling.into(), self.seed)?;
        let plan = plan.with_scales(self.scales.parse()?).with_square_pixels(self.square_pixels);
        plan.with_display_height(self.display_height as usize)
    }

    /// The region that is set; none for the whole frame.
    pub fn region(&self) -> Result<Option<Region>> {
        if self.region.is_empty() { Ok(None) } else { self.region.parse().map(Some) }
    }
}
