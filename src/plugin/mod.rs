//! The GStreamer element `qmambaiqa`: scores the frames that pass and attaches the quality to them.
//!
//! - Every scored buffer carries a `GstCustomMeta` named [`META_NAME`]; [`FrameQuality::from_buffer`] reads it.
//! - Every scored frame posts an element message `qmambaiqa`, so do the end of a scene and of the stream, with statistics, and
//!   an alarm that begins or ends; [`Report`] reads all.
//! - A record of each scored frame may go to a [log](crate::log), and [metrics](crate::metrics) to a monitoring system.
//!
//! Pixels are never touched, unless the property `overlay` has the score drawn into them.

#[cfg(feature = "analytics")]
mod analytics;
mod batch;
mod computing;
mod convert;
mod imp;
mod job;
mod overlay;
mod properties;
mod quality;
mod regions;
mod report;
mod scene;
mod schedule;
mod scoring;
mod settings;
mod state;
mod stream;
mod timer;
mod times;
mod worker;

#[cfg(feature = "analytics")]
pub use analytics::CLASS;
pub use convert::frame;
pub use quality::{FrameQuality, META_NAME};
pub use report::{MESSAGE_NAME, Report};
pub use times::Times;

use glib::prelude::*;

/// Where a frame's crops are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[repr(i32)]
#[enum_type(name = "GstQMambaIqaSampling")]
pub enum Sampling {
    /// Evenly over the frame.
    #[default]
    #[enum_value(name = "Even cover of the frame", nick = "grid")]
    Grid = 0,
    /// At places that the seed and the frame's number give.
    #[enum_value(name = "Random places, repeatable by seed", nick = "random")]
    Random = 1,
    /// Around the centre.
    #[enum_value(name = "Around the centre", nick = "center")]
    Center = 2,
}

impl From<Sampling> for crate::crops::Sampling {
    fn from(sampling: Sampling) -> Self {
        match sampling {
            Sampling::Grid => Self::Grid,
            Sampling::Random => Self::Random,
            Sampling::Center => Self::Center,
        }
    }
}

/// What matrix products are computed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[repr(i32)]
#[enum_type(name = "GstQMambaIqaPrecision")]
pub enum Precision {
    /// 16-bit integers with a scale for each few values.
    #[default]
    #[enum_value(name = "16-bit integers", nick = "standard")]
    Standard = 0,
    /// 32-bit floats.
    #[enum_value(name = "32-bit floats, slower", nick = "exact")]
    Exact = 1,
    /// 8-bit integers with a scale for each few values.
    #[enum_value(name = "8-bit integers, faster", nick = "fast")]
    Fast = 2,
}

impl From<Precision> for crate::model::parameters::Precision {
    fn from(precision: Precision) -> Self {
        match precision {
            Precision::Standard => Self::Standard,
            Precision::Exact => Self::Exact,
            Precision::Fast => Self::Fast,
        }
    }
}

impl From<crate::model::parameters::Precision> for Precision {
    fn from(precision: crate::model::parameters::Precision) -> Self {
        match precision {
            crate::model::parameters::Precision::Standard => Self::Standard,
            crate::model::parameters::Precision::Exact => Self::Exact,
            crate::model::parameters::Precision::Fast => Self::Fast,
        }
    }
}

/// How the log is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[repr(i32)]
#[enum_type(name = "GstQMambaIqaLogFormat")]
pub enum LogFormat {
    /// As the file's ending says: `.csv`, `.jsonl`, or `.json` for VMAF's layout.
    #[default]
    #[enum_value(name = "By the file's ending", nick = "auto")]
    Auto = 0,
    /// A row for each frame.
    #[enum_value(name = "Comma-separated values", nick = "csv")]
    Csv = 1,
    /// An object a line for each frame.
    #[enum_value(name = "JSON lines", nick = "jsonl")]
    Jsonl = 2,
    /// One JSON object in the layout of libvmaf's logs.
    #[enum_value(name = "JSON in the layout of libvmaf's logs", nick = "vmaf")]
    Vmaf = 3,
}

impl LogFormat {
    /// The format of a file.
    fn of(self, path: &std::path::Path) -> crate::Result<crate::log::Format> {
        match self {
            Self::Auto => crate::log::Format::of(path),
            Self::Csv => Ok(crate::log::Format::Csv),
            Self::Jsonl => Ok(crate::log::Format::Jsonl),
            Self::Vmaf => Ok(crate::log::Format::Vmaf),
        }
    }
}

glib::wrapper! {
    /// The element.
    pub struct QMambaIqa(ObjectSubclass<imp::QMambaIqa>)
        @extends gstreamer_base::BaseTransform, gstreamer::Element, gstreamer::Object;
}

fn plugin_init(plugin: &gstreamer::Plugin) -> Result<(), glib::BoolError> {
    gstreamer::Element::register(Some(plugin), "qmambaiqa", gstreamer::Rank::NONE, QMambaIqa::static_type())
}

/// Makes the element known to this process, for programs that link the library instead of loading the plugin.
///
/// # Errors
/// GStreamer has not been initialised or refuses.
pub fn register() -> Result<(), glib::BoolError> {
    gstreamer::Element::register(None, "qmambaiqa", gstreamer::Rank::NONE, QMambaIqa::static_type())
}

gstreamer::plugin_define!(
    qmambaiqa,
    env!("CARGO_PKG_DESCRIPTION"),
    plugin_init,
    env!("CARGO_PKG_VERSION"),
    "MPL-2.0",
    env!("CARGO_PKG_NAME"),
    env!("CARGO_PKG_NAME"),
    "https://crates.io/crates/qmambaiqa"
);
