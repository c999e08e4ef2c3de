//! A frame on its way: what is to be scored, and what was found.

use super::settings::Settings;
use super::times::Times;
use crate::frame::Region;
use crate::indicators::Luma;
use crate::scorer::{Score, Scorer};
use gstreamer_video as gst_video;
use std::time::Duration;

/// A frame to score.
pub(super) struct Job {
    pub scorer: Scorer,
    pub info: gst_video::VideoInfo,
    pub settings: Settings,
    pub frame: u64,
    pub times: Times,
    /// Regions of interest in the frame; empty where all of it is looked at.
    pub regions: Vec<Region>,
    /// [`Stream::generation`](super::stream::Stream::generation) when it came.
    pub generation: u64,
}

/// What was found in a frame.
pub(super) struct Scored {
    pub score: Score,
    /// What of the frame was scored.
    pub regions: Vec<Region>,
    /// Where the crops were, for an overlay.
    pub crops: Vec<Region>,
    pub luma: Luma,
    /// How long that took.
    pub took: Duration,
}
