//! The messages on the bus. Field names and types are those of GStreamer's `vmaf` element where it has them.

use super::quality::FrameQuality;
use super::times::Times;
use crate::indicators::Reason;
use crate::pooling::Statistics;
use gstreamer as gst;

/// Name of the messages' structure.
pub const MESSAGE_NAME: &str = "qmambaiqa";

/// One message.
#[derive(Debug, Clone, PartialEq)]
pub enum Report {
    /// A frame was scored (`type` = `frame`; `index` is its number; with `post-samples`, `sample` is the frame).
    Frame {
        /// When.
        times: Times,
        /// Its quality.
        quality: FrameQuality,
    },
    /// Quality became too low, or good again (`type` = `alarm`, `state` = `low` or `normal`, `reason` = `black`,
    /// `freeze`, `blur` or `quality`).
    Alarm {
        /// Of the frame whose score decided it.
        times: Times,
        /// Whether quality is too low from now on.
        low: bool,
        /// Why it became so; at the end of an alarm, why that began.
        reason: Reason,
        /// That frame's score.
        score: f64,
        /// The limit that it is beyond; a frozen or black picture may be at fault whatever its score.
        threshold: f64,
        /// Running time in nanoseconds at which that began; `u64::MAX` where unknown.
        since: u64,
    },
    /// A scene ended (`type` = `scene`; `score` is the mean).
    Scene {
        /// When it began; `duration` is the scene's.
        times: Times,
        /// Its number, from 0.
        index: u64,
        /// Over its scored frames.
        statistics: Statistics,
    },
    /// The stream ended (`type` = `pooled`; `score` is the mean).
    Pooled {
        /// When the last frame was shown.
        times: Times,
        /// Over all scored frames.
        statistics: Statistics,
    },
}

impl Report {
    /// The message's structure.
    pub fn to_structure(&self) -> gst::Structure {
        let mut structure = gst::Structure::new_empty(MESSAGE_NAME);
        let (Self::Frame { times, .. }
        | Self::Alarm { times, .. }
        | Self::Scene { times, .. }
        | Self::Pooled { times, .. }) = self;
        structure.set("timestamp", times.timestamp);
        structure.set("stream-time", times.stream_time);
        structure.set("running-time", times.running_time);
        structure.set("duration", times.duration);
        match self {
            Self::Frame { quality, .. } => {
                quality.write(&mut structure);
                structure.set("type", "frame");
                structure.set("index", i32::try_from(quality.frame).unwrap_or(i32::MAX));
            }
            Self::Alarm { low, reason, score, threshold, since, .. } => {
                structure.set("score", *score);
                structure.set("type", "alarm");
                structure.set("state", if *low { "low" } else { "normal" });
                structure.set("reason", reason.name());
                structure.set("threshold", *threshold);
                structure.set("since", *since);
            }
            Self::Scene { index, statistics, .. } => {
                structure.set("score", statistics.mean);
                structure.set("type", "scene");
                structure.set("index", i32::try_from(*index).unwrap_or(i32::MAX));
                write_statistics(statistics, &mut structure);
            }
            Self::Pooled { statistics, .. } => {
                structure.set("score", statistics.mean);
                structure.set("type", "pooled");
                write_statistics(statistics, &mut structure);
            }
        }
        structure
    }

    /// Reads a message's structure; none where it is another's.
    pub fn from_structure(structure: &gst::StructureRef) -> Option<Self> {
        if structure.name() != MESSAGE_NAME {
            return None;
        }
        let time = |name| structure.get(name).ok();
        let times = Times {
            timestamp: time("timestamp")?,
            stream_time: time("stream-time")?,
            running_time: time("running-time")?,
            duration: time("duration")?,
        };
        match structure.get::<&str>("type").ok()? {
            "frame" => Some(Self::Frame { times, quality: FrameQuality::from_structure(structure)? }),
            "alarm" => Some(Self::Alarm {
                times,
                low: match structure.get::<&str>("state").ok()? {
                    "low" => true,
                    "normal" => false,
                    _ => return None,
                },
                reason: Reason::from_name(structure.get::<&str>("reason").ok()?)?,
                score: structure.get("score").ok()?,
                threshold: structure.get("threshold").ok()?,
                since: structure.get("since").ok()?,
            }),
            "scene" => Some(Self::Scene {
                times,
                index: u64::try_from(structure.get::<i32>("index").ok()?).ok()?,
                statistics: read_statistics(structure)?,
            }),
            "pooled" => Some(Self::Pooled { times, statistics: read_statistics(structure)? }),
            _ => None,
        }
    }

    /// Reads a bus message; none where it is another element's or of another kind.
    pub fn from_message(message: &gst::MessageRef) -> Option<Self> {
        match message.view() {
            gst::MessageView::Element(element) => Self::from_structure(element.structure()?),
            _ => None,
        }
    }

    /// The scored frame that a message holds; none without the property `post-samples`.
    pub fn sample(message: &gst::MessageRef) -> Option<gst::Sample> {
        match message.view() {
            gst::MessageView::Element(element) => element.structure()?.get("sample").ok(),
            _ => None,
        }
    }
}

/// Sets the statistics' fields.
pub(super) fn write_statistics(statistics: &Statistics, structure: &mut gst::StructureRef) {
    let Statistics { frames, mean, harmonic_mean, min, max, p1, p5, p10, p50 } = *statistics;
    structure.set("frames", frames);
    let values = [("mean", mean), ("harmonic-mean", harmonic_mean), ("min", min), ("max", max)];
    for (name, value) in values.into_iter().chain([("p1", p1), ("p5", p5), ("p10", p10), ("p50", p50)]) {
        structure.set(name, value);
    }
}

/// Reads what [`write_statistics`] sets.
fn read_statistics(structure: &gst::StructureRef) -> Option<Statistics> {
    let value = |name| structure.get::<f64>(name).ok();
    Some(Statistics {
        frames: structure.get("frames").ok()?,
        mean: value("mean")?,
        harmonic_mean: value("harmonic-mean")?,
        min: value("min")?,
        max: value("max")?,
        p1: value("p1")?,
        p5: value("p5")?,
        p10: value("p10")?,
        p50: value("p50")?,
    })
}
