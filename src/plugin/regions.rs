//! What of a frame is looked at: the region that is set, without black bars, and the regions of interest that buffers name.

use super::convert;
use super::imp::QMambaIqa;
use super::job::Job;
use super::settings::Settings;
use super::stream::Stream;
use crate::crops::{self, CROP, active};
use crate::frame::{Frame, Region};
use glib::subclass::prelude::*;
use gstreamer as gst;
use gstreamer_video as gst_video;

impl QMambaIqa {
    /// Refuses a region or scales that are none while the element runs: those of `before` stay. What is wrong before that, the
    /// start says.
    pub(super) fn check(&self, before: Settings) {
        let mut settings = self.settings.lock();
        let checked = settings.region().map(drop).and_then(|()| settings.plan().map(drop));
        if let Err(e) = checked
            && self.state.lock().is_some()
        {
            (settings.region, settings.scales) = (before.region, before.scales);
            drop(settings);
            gst::element_imp_warning!(self, gst::LibraryError::Settings, ("the setting stays as it was: {e}"));
        }
    }

    /// The part of a picture that is looked at.
    pub(super) fn area(&self, picture: &Frame, job: &Job) -> crate::Result<Region> {
        let whole = Region::new(0, 0, picture.width(), picture.height());
        let set = job.settings.region()?.unwrap_or(whole);
        let within = picture.region(set)?;
        if !job.settings.skip_black_bars {
            return Ok(set);
        }
        let found = active(&within)?;
        let mut state = self.state.lock();
        // A stream that is no more tells nothing of the next one.
        let stream = state.as_mut().map(|state| &mut state.stream).filter(|s| s.generation == job.generation);
        let active = stream.map_or(Region::new(0, 0, set.width, set.height), |stream| stream.bars.update(set, found));
        Ok(Region { x: set.x + active.x, y: set.y + active.y, ..active })
    }

    /// The regions of interest that a buffer names, as far as they lie in the region that is set; empty where all is of
    /// interest, none where nothing is, of which the first such frame warns.
    pub(super) fn regions(
        &self,
        buffer: &gst::BufferRef,
        info: &gst_video::VideoInfo,
        settings: &Settings,
        stream: &mut Stream,
    ) -> Option<Vec<Region>> {
        if !settings.roi_meta {
            return Some(Vec::new());
        }
        let shown = convert::shown(buffer, info);
        // What is not within the picture is refused where the frame is scored.
        let set = settings.region().ok().flatten().unwrap_or(Region::new(0, 0, shown.width, shown.height));
        let (mut regions, mut others) = (Vec::new(), Vec::new());
        for meta in buffer.iter_meta::<gst_video::VideoRegionOfInterestMeta>() {
            if !settings.roi_type.is_empty() && meta.roi_type() != settings.roi_type {
                others.push(meta.roi_type());
                continue;
            }
            let named = convert::region(meta.rect()).intersection(shown);
            let named = named.map(|r| Region { x: r.x - shown.x, y: r.y - shown.y, ..r });
            let Some(region) = named.and_then(|region| region.intersection(set)) else { continue };
            // A detector may give a sliver, which nothing can be scaled from.
            let [wide, high] =
                convert::pixel_aspect(info).map(|side| if settings.square_pixels { side as usize } else { 1 });
            let width = (region.width.saturating_mul(wide) / high).max(1);
            if crops::size_with_shorter_side(width, region.height, CROP).is_ok() {
                regions.push(region);
            }
        }
        if !regions.is_empty() {
            return Some(regions);
        }
        if !std::mem::replace(&mut stream.warned_region, true) {
            others.sort_unstable();
            others.dedup();
            let wanted = if settings.roi_type.is_empty() { "any type" } else { settings.roi_type.as_str() };
            let there = if others.is_empty() { String::new() } else { format!(", but of {}", others.join(", ")) };
            gst::element_imp_warning!(
                self,
                gst::StreamError::Failed,
                ("a frame has no region of interest of {wanted}{there}: such frames pass without a score (roi-meta)")
            );
        }
        None
    }
}
