//! The element's properties: what the user sets, and what can be read.

use super::{Precision, Sampling};
use crate::crops::MAX_CROPS;
use crate::scorer::Options;
use gstreamer as gst;
use gstreamer::prelude::*;

const DEFAULT_CROPS: u32 = 4;

/// What the user sets.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub options: Options,
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

/// Every property with its limits.
pub(super) fn properties() -> Vec<glib::ParamSpec> {
    let defaults = Settings::default();
    vec![
        glib::ParamSpecString::builder("model")
            .nick("Model")
            .blurb("Name of an embedded model, or path of a weights file (safetensors or PyTorch)")
            .default_value(Some(defaults.options.model.as_str()))
            .mutable_ready()
            .build(),
        glib::ParamSpecString::builder("style-prompt")
            .nick("Style prompt")
            .blurb(
                "Adapter to other content: none, compression, generative, or path of an adapter file; acts from the \
                 next frame on",
            )
            .default_value(Some(defaults.options.style_prompt.as_str()))
            .mutable_playing()
            .build(),
        glib::ParamSpecBoolean::builder("force-style-prompt")
            .nick("Force style prompt")
            .blurb("Use a style prompt even where its file says that it belongs to other weights")
            .default_value(defaults.options.force_style_prompt)
            .mutable_playing()
            .build(),
        glib::ParamSpecUInt::builder("crops")
            .nick("Crops")
            .blurb("Crops of 224x224 pixels that are scored of each frame; more cover more and cost more")
            .minimum(1)
            .maximum(MAX_CROPS as u32)
            .default_value(defaults.crops)
            .controllable()
            .mutable_playing()
            .build(),
        glib::ParamSpecEnum::builder_with_default("sampling", Sampling::default())
            .nick("Sampling")
            .blurb("Where a frame's crops are taken")
            .mutable_playing()
            .build(),
        glib::ParamSpecUInt64::builder("seed")
            .nick("Seed")
            .blurb("Seed of random sampling: with the frame's number it decides the places, so that a run repeats")
            .mutable_playing()
            .build(),
        glib::ParamSpecUInt64::builder("interval")
            .nick("Interval")
            .blurb("Running time between scored frames in nanoseconds (0 = every frame)")
            .mutable_playing()
            .build(),
        glib::ParamSpecDouble::builder("jitter")
            .nick("Jitter")
            .blurb(
                "Share of the interval by which a scored frame comes late, at random by the seed, so that frames of one \
                 kind in a periodic group of pictures are not all that is seen",
            )
            .minimum(0.0)
            .maximum(1.0)
            .default_value(defaults.jitter)
            .mutable_playing()
            .build(),
        glib::ParamSpecBoolean::builder("async")
            .nick("Asynchronous")
            .blurb(
                "Let frames pass at once and score beside the stream, always the newest frame; buffers carry the last \
                 score, marked as held, with its age",
            )
            .default_value(defaults.asynchronous)
            .mutable_ready()
            .build(),
        glib::ParamSpecDouble::builder("low-threshold")
            .nick("Low threshold")
            .blurb("Scores below raise an alarm, a message of type `alarm` (0 = off)")
            .minimum(0.0)
            .maximum(100.0)
            .default_value(defaults.low_threshold)
            .mutable_playing()
            .build(),
        glib::ParamSpecDouble::builder("high-threshold")
            .nick("High threshold")
            .blurb("Scores from here on end an alarm (where it is less than low-threshold, that)")
            .minimum(0.0)
            .maximum(100.0)
            .default_value(defaults.high_threshold)
            .mutable_playing()
            .build(),
        glib::ParamSpecUInt64::builder("alarm-hold")
            .nick("Alarm hold")
            .blurb("How long scores must be beyond a threshold before an alarm begins or ends, in nanoseconds")
            .default_value(defaults.alarm_hold)
            .mutable_playing()
            .build(),
        glib::ParamSpecBoolean::builder("alarm-error")
            .nick("Alarm error")
            .blurb("Stop with an error when an alarm begins")
            .default_value(defaults.alarm_error)
            .mutable_playing()
            .build(),
        glib::ParamSpecBoolean::builder("hold")
            .nick("Hold")
            .blurb("Let frames between scored ones carry the last score, marked as held")
            .mutable_playing()
            .build(),
        glib::ParamSpecString::builder("device")
            .nick("Device")
            .blurb("Where to compute: auto, cpu or cuda:N")
            .default_value(Some(defaults.options.device.as_str()))
            .mutable_ready()
            .build(),
        glib::ParamSpecEnum::builder_with_default("precision", Precision::default())
            .nick("Precision")
            .blurb("Arithmetic of matrix products")
            .mutable_ready()
            .build(),
        glib::ParamSpecUInt::builder("threads")
            .nick("Threads")
            .blurb("Threads that score (0 = one for each core)")
            .maximum(1024)
            .mutable_ready()
            .build(),
        glib::ParamSpecBoolean::builder("post-messages")
            .nick("Post messages")
            .blurb("Post an element message for each scored frame and one with the statistics at end of stream")
            .default_value(defaults.post_messages)
            .mutable_playing()
            .build(),
        glib::ParamSpecUInt64::builder("window")
            .nick("Window")
            .blurb("How far the window's statistics reach back in nanoseconds")
            .minimum(1)
            .default_value(defaults.window)
            .mutable_ready()
            .build(),
        glib::ParamSpecDouble::builder("last-score")
            .nick("Last score")
            .blurb("Score of the newest scored frame, 0 (worst) to 100 (best); -1 before the first")
            .minimum(-1.0)
            .maximum(100.0)
            .default_value(-1.0)
            .read_only()
            .build(),
        glib::ParamSpecBoxed::builder::<gst::Structure>("statistics")
            .nick("Statistics")
            .blurb("seen and dropped frames; frames, mean, harmonic-mean, min and percentiles of the stream, and of the window in `window`")
            .read_only()
            .build(),
    ]
}
