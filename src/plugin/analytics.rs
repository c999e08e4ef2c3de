//! The score as a datum of GstAnalytics, which needs GStreamer 1.24: elements that know nothing of this one can read and relate it.

use gstreamer as gst;
use gstreamer_analytics::{AnalyticsRelationMeta, AnalyticsRelationMetaClassificationExt};

/// The class of the datum; its level is the score over 100.
pub const CLASS: &str = "qmambaiqa";

/// Adds the score, 0 to 100, to what a buffer's relation meta says already, as a classification.
pub(super) fn attach(score: f64, buffer: &mut gst::BufferRef) -> Result<(), glib::BoolError> {
    let class = glib::Quark::from_str(CLASS);
    let level = (score / 100.0) as f32;
    // A detector before this element may have added one: relations hold within one meta alone.
    if let Some(mut meta) = buffer.meta_mut::<AnalyticsRelationMeta>() {
        return meta.add_one_cls_mtd(level, class).map(drop);
    }
    AnalyticsRelationMeta::add(buffer).add_one_cls_mtd(level, class).map(drop)
}
