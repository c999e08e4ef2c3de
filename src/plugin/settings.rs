//! What the user sets.

use super::Sampling;
use crate::scorer::Options;
use gstreamer as gst;

const DEFAULT_CROPS: u32 = 4;

/// The element's settings, each a property of that name.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub options: Options,
    /// In place of the options' own.
    pub threads: u32,
    pub crops: u32,
    pub sampling: Sampling,
    pub seed: u64,
    /// Nanoseconds of running time between scored frames.
    pub interval: u64,
    /// Share of the interval by which a scored frame may be late, at random.
    pub jitter: f64,
    pub hold: bool,
    pub asynchronous: bool,
    pub low_threshold: f64,
    pub high_threshold: f64,
    /// Nanoseconds of running time.
    pub alarm_hold: u64,
    pub alarm_error: bool,
    pub post_messages: bool,
    /// Nanoseconds that the window's statistics reach back.
    pub window: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            options: Options::default(),
            threads: 0,
            crops: DEFAULT_CROPS,
            sampling: Sampling::default(),
            seed: 0,
            interval: 0,
            jitter: 0.0,
            hold: false,
            asynchronous: false,
            low_threshold: 0.0,
            high_threshold: 0.0,
            alarm_hold: gst::ClockTime::SECOND.nseconds(),
            alarm_error: false,
            post_messages: true,
            window: 10 * gst::ClockTime::SECOND.nseconds(),
        }
    }
}
