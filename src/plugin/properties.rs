//! The element's properties: one row each, which says how GObject sees it and where in the settings it lives.

use super::settings::Settings;
use crate::crops::{MAX_CROPS, MAX_DISPLAY_HEIGHT};
use glib::prelude::*;
use gstreamer as gst;
use gstreamer::prelude::*;
use std::sync::LazyLock;

/// Most frames in a batch.
const MAX_BATCH: u32 = 256;
/// Longest that a frame may be held: an hour.
const MAX_LATENCY: u64 = 3600 * gst::ClockTime::SECOND.nseconds();

/// A property that is set.
struct Property {
    spec: glib::ParamSpec,
    get: fn(&Settings) -> glib::Value,
    set: fn(&mut Settings, &glib::Value),
}

/// A row: the type of its specification, name, description, place in the settings, and what else the specification says.
macro_rules! property {
    (@row $builder:expr, $name:literal, $blurb:literal, $($field:ident).+, $set:expr, $($option:ident($($value:expr)?)),*) => {
        Property {
            spec: $builder.nick(nick($name).as_str()).blurb($blurb)$(.$option($($value)?))*.build(),
            get: |settings| settings.$($field).+.to_value(),
            set: $set,
        }
    };
    (text $name:literal, $blurb:literal, $($field:ident).+, $($rest:tt)*) => {
        property!(@row
            glib::ParamSpecString::builder($name).default_value(Some(Settings::default().$($field).+.as_str())),
            $name, $blurb, $($field).+,
            // Unset is the default.
            |settings, value| {
                let text = value.get::<Option<String>>().ok().flatten().filter(|text| !text.is_empty());
                settings.$($field).+ = text.unwrap_or_else(|| Settings::default().$($field).+);
            },
            $($rest)*)
    };
    (choice $name:literal, $blurb:literal, $($field:ident).+, $($rest:tt)*) => {
        property!(@row glib::ParamSpecEnum::builder_with_default($name, Settings::default().$($field).+),
            $name, $blurb, $($field).+, |settings, value| store(&mut settings.$($field).+, value), $($rest)*)
    };
    ($kind:ident $name:literal, $blurb:literal, $($field:ident).+, $($rest:tt)*) => {
        property!(@row glib::$kind::builder($name).default_value(Settings::default().$($field).+),
            $name, $blurb, $($field).+, |settings, value| store(&mut settings.$($field).+, value), $($rest)*)
    };
}

/// GObject has checked the type; a value that still does not fit changes nothing.
fn store<'a, T: glib::value::FromValue<'a>>(target: &mut T, value: &'a glib::Value) {
    if let Ok(value) = value.get() {
        *target = value;
    }
}

/// `low-threshold` as people read it.
fn nick(name: &str) -> String {
    let mut letters = name.replace('-', " ");
    if let Some(first) = letters.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    letters
}

#[rustfmt::skip] // a table
static TABLE: LazyLock<Vec<Property>> = LazyLock::new(|| vec![
    property!(text "model", "Name of an embedded model, or path of a weights file (safetensors or PyTorch)",
        options.model, mutable_ready()),
    property!(text "style-prompt", "Adapter to other content: none, compression, compression-pairs (to order encodings of one \
        content), generative, or path of an adapter file; acts from the next frame on", options.style_prompt, mutable_playing()),
    property!(ParamSpecBoolean "force-style-prompt",
        "Use a style prompt even where its file says that it belongs to other weights",
        options.force_style_prompt, mutable_playing()),
    property!(text "device", "Where to compute: auto, cpu, cuda or cuda:N", options.device, mutable_ready()),
    property!(ParamSpecUInt "threads", "Threads that score (0 = one for each core)",
        threads, maximum(1024), mutable_ready()),
    property!(choice "precision", "Arithmetic of matrix products", precision, mutable_ready()),
    property!(ParamSpecUInt "crops", "Crops of 224x224 pixels that are scored of each frame; more cover more and cost more",
        crops, minimum(1), maximum(MAX_CROPS as u32), controllable(), mutable_playing()),
    property!(choice "sampling", "Where a frame's crops are taken", sampling, mutable_playing()),
    property!(ParamSpecUInt64 "seed",
        "Seed of random sampling: with the frame's number it decides the places, so that a run repeats",
        seed, mutable_playing()),
    property!(text "scales", "Sizes of the picture that crops are taken of: `auto` (the picture and its halves, down to the size of a \
        crop), or a list of reductions such as 1,2,4 (1 = the picture's own size)", scales, mutable_playing()),
    property!(ParamSpecUInt "display-height", "Height in rows of the display that quality is judged on: pictures are scaled to it \
        before crops are taken (0 = the picture's own)", display_height, maximum(MAX_DISPLAY_HEIGHT as u32), mutable_playing()),
    property!(ParamSpecBoolean "square-pixels", "Scale pictures with a pixel aspect ratio other than 1:1 to square pixels before \
        crops are taken", square_pixels, mutable_playing()),
    property!(text "region", "Part of each frame that is looked at, as x,y,width,height in pixels (empty = all of it); one that is \
        smaller than a crop is scaled up, as frames are", region, mutable_playing()),
    property!(ParamSpecBoolean "roi-meta", "Take crops of the regions of interest that buffers carry \
        (GstVideoRegionOfInterestMeta), spread over them by area; frames without one pass without a score",
        roi_meta, mutable_playing()),
    property!(text "roi-type", "The type of regions of interest that count (empty = every type)", roi_type, mutable_playing()),
    property!(ParamSpecBoolean "skip-black-bars", "Leave black bars around the picture out: those that both sides have, and \
        that 25 scored frames in a row show; at once where a picture shows in them", skip_black_bars, mutable_playing()),
    property!(ParamSpecBoolean "overlay", "Draw the newest score, and where its crops were taken, into the pictures that pass \
        (pixels are changed only then)", overlay, mutable_playing()),
    property!(ParamSpecUInt64 "interval", "Running time between scored frames in nanoseconds (0 = every frame)",
        interval, mutable_playing()),
    property!(ParamSpecDouble "jitter", "Share of the interval by which a scored frame comes late, at random by the seed, \
        so that frames of one kind in a periodic group of pictures are not all that is seen",
        jitter, minimum(0.0), maximum(1.0), mutable_playing()),
    property!(ParamSpecBoolean "async", "Let frames pass at once and score beside the stream, always the newest frame; \
        buffers carry the last score, marked as held, with its age", asynchronous, mutable_ready()),
    property!(ParamSpecBoolean "hold", "Let frames between scored ones carry the last score, marked as held",
        hold, mutable_playing()),
    property!(ParamSpecUInt "batch", "Frames that are scored together in one batch, which a GPU is faster with: they are held until \
        there are so many to score, and four times as many at most, those between them included (1 = no frame is held; not with \
        async)",
        batch, minimum(1), maximum(MAX_BATCH), mutable_ready()),
    property!(ParamSpecUInt64 "max-latency", "How long a frame may be held for a batch, in nanoseconds; with batch over 1 this is \
        added to the pipeline's latency", max_latency, maximum(MAX_LATENCY), mutable_ready()),
    property!(ParamSpecDouble "low-threshold", "Scores below raise an alarm, a message of type `alarm` (0 = off)",
        low_threshold, minimum(0.0), maximum(100.0), mutable_playing()),
    property!(ParamSpecDouble "high-threshold",
        "Scores from here on end an alarm (where it is less than low-threshold, that)",
        high_threshold, minimum(0.0), maximum(100.0), mutable_playing()),
    property!(ParamSpecUInt64 "alarm-hold",
        "How long scores must be beyond a threshold before an alarm begins or ends, in nanoseconds",
        alarm_hold, mutable_playing()),
    property!(ParamSpecBoolean "alarm-error", "Stop with an error when an alarm begins", alarm_error, mutable_playing()),
    property!(ParamSpecBoolean "black-alarm", "Let a black picture raise an alarm, whatever its score",
        black_alarm, mutable_playing()),
    property!(ParamSpecBoolean "freeze-alarm", "Let a frozen picture raise an alarm, whatever its score",
        freeze_alarm, mutable_playing()),
    property!(ParamSpecUInt64 "freeze-time",
        "How long a picture must stand still to be frozen, in nanoseconds; alarm-hold comes on top",
        freeze_time, mutable_playing()),
    property!(ParamSpecBoolean "post-messages", "Post an element message for each scored frame, and with statistics at \
        the end of each scene and of the stream",
        post_messages, mutable_playing()),
    property!(ParamSpecBoolean "post-samples", "Put the scored frame into its message, as a GstSample: messages that nobody \
        takes then hold frames in memory",
        post_samples, mutable_playing()),
    property!(ParamSpecUInt64 "window", "How far the window's statistics reach back in nanoseconds",
        window, minimum(1), mutable_ready()),
    property!(ParamSpecUInt64 "half-life",
        "Time in which a score's weight in the moving average `ewma` halves, in nanoseconds",
        half_life, minimum(1), mutable_playing()),
    property!(text "log-location", "File that gets a record for each scored frame, in place of what it holds (empty = none)",
        log_location, mutable_ready()),
    property!(choice "log-format", "How the log is laid out", log_format, mutable_ready()),
    property!(text "metrics-address", "Where to serve metrics for Prometheus by HTTP: HOST:PORT, or a port for this machine \
        alone (empty = nowhere)", metrics_address, mutable_ready()),
    property!(text "stream-name", "Name of the stream in the log and the metrics (empty = the element's name)",
        stream_name, mutable_ready()),
]);

/// Every property. The settable ones come first, so that GObject's numbers from 1 on are their rows.
pub(super) fn specifications() -> Vec<glib::ParamSpec> {
    let last_score = glib::ParamSpecDouble::builder("last-score")
        .nick("Last score")
        .blurb("Score of the newest scored frame, 0 (worst) to 100 (best); -1 before the first")
        .minimum(-1.0)
        .maximum(100.0)
        .default_value(-1.0);
    let statistics = glib::ParamSpecBoxed::builder::<gst::Structure>("statistics").nick("Statistics").blurb(
        "seen, dropped and late frames; frames, mean, harmonic-mean, min, max and percentiles of the stream, of the window \
         in `window` and of the scene in `scene`; the moving average `ewma`",
    );
    let settable = TABLE.iter().map(|property| property.spec.clone());
    settable.chain([last_score.read_only().build(), statistics.read_only().build()]).collect()
}

fn row(id: usize) -> Option<&'static Property> {
    TABLE.get(id.checked_sub(1)?)
}

/// Sets the property that GObject gave this number.
pub(super) fn set(settings: &mut Settings, id: usize, value: &glib::Value) {
    if let Some(property) = row(id) {
        (property.set)(settings, value);
    }
}

/// The value of the property that GObject gave this number; none where it is not a setting.
pub(super) fn get(settings: &Settings, id: usize) -> Option<glib::Value> {
    row(id).map(|property| (property.get)(settings))
}
