//! The GStreamer element `qmambaiqa`: scores the frames that pass and attaches the quality to them.
//!
//! - Every scored buffer carries a `GstCustomMeta` named [`META_NAME`]; [`FrameQuality::from_buffer`] reads it.
//! - Every scored frame posts an element message `qmambaiqa`, so do end of stream, with the statistics, and an alarm that
//!   begins or ends; [`Report`] reads all.
//!
//! Pixels are never touched.

mod convert;
mod imp;
mod properties;
mod quality;
mod report;
mod schedule;
mod scoring;
mod settings;
mod stream;
mod worker;

pub use quality::{FrameQuality, META_NAME};
pub use report::{MESSAGE_NAME, Report, Times};

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
