//! Black bars, found before anything is scored: all videos are looked at within the same place, from beginning to end.

use super::rendition::{Decoder, Scoring, Source, check_video};
use crate::common;
use crate::source::{self, Kind};
use crate::video;
use anyhow::{Context, Result};
use parking_lot::Mutex;
use qmambaiqa::crops::active;
use qmambaiqa::frame::{Frame, Region};
use std::fs::File;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

/// What has shown so far.
#[derive(Clone, Copy, Default)]
struct Shown {
    size: Option<(usize, usize)>,
    /// Sizes differ: there is no common place.
    differs: bool,
    picture: Option<Region>,
}

impl Shown {
    fn look(&mut self, frame: &Frame, region: Option<Region>) -> qmambaiqa::Result<()> {
        let size = (frame.width(), frame.height());
        self.differs |= self.size.replace(size).is_some_and(|before| before != size);
        let set = region.unwrap_or(Region::new(0, 0, size.0, size.1));
        if let Some(found) = active(&frame.region(set)?)? {
            let found = Region { x: set.x + found.x, y: set.y + found.y, ..found };
            self.picture = Some(self.picture.map_or(found, |picture| picture.hull(found)));
        }
        Ok(())
    }
}

/// The smallest region with all that shows anywhere in the scoring's own: what is black around it is so in every frame of every
/// video. None where all is black, and where sizes differ, which [`check`](super::check::check) complains of.
pub fn within(scoring: &Scoring, sources: &[Source]) -> Result<Option<Region>> {
    let region = scoring.area.region;
    let shown = Arc::new(Mutex::new(Shown::default()));
    let bar = common::bar(sources.len());
    bar.set_message("bars");
    for Source { name, path, .. } in sources {
        let mut y4m = |_, _, frame: &Frame| {
            shown.lock().look(frame, region)?;
            Ok(ControlFlow::Continue(()))
        };
        match (check_video(path)?, scoring.decoder) {
            (_, Decoder::Ffmpeg(ffmpeg)) => {
                ffmpeg.decode(path, scoring.scale, |stream| source::read_y4m(stream, Duration::ZERO, &mut y4m))
            }
            (Kind::Y4m, _) if scoring.scale.is_none() => {
                File::open(path).map_err(Into::into).and_then(|file| source::read_y4m(file, Duration::ZERO, &mut y4m))
            }
            _ => {
                let shown = shown.clone();
                video::look(path, scoring.scale, move |frame| shown.lock().look(frame, region))
            }
        }
        .with_context(|| name.clone())?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    let Shown { differs, picture, .. } = *shown.lock();
    Ok(picture.filter(|_| !differs))
}
